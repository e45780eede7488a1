"""Methods: one ladder of planted copies, several ways to compare clips, on the same splits, clips and frames."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd

import mnemoscope.audit.run.stages as stages
from mnemoscope.audit.intervals import wilson
from mnemoscope.audit.power import true_positive_rates
from mnemoscope.audit.run.absent import attempt
from mnemoscope.audit.run.planted import planted_matches
from mnemoscope.audit.run.settings import AuditConfig, frame_limit
from mnemoscope.audit.run.verify import verification
from mnemoscope.audit.threshold import privacy_threshold
from mnemoscope.core.provenance import Run
from mnemoscope.core.types import Estimate, RungPower, Verification
from mnemoscope.data.manifest import read_manifest
from mnemoscope.latents.encode import FrameEncoder, PixelEncoder
from mnemoscope.latents.features import extract_features
from mnemoscope.latents.store import LatentStore
from mnemoscope.models.reid import ReidModel
from mnemoscope.models.vae import Vae
from mnemoscope.search import L2, Correlation, Head


@dataclass(frozen=True)
class Method:
    """A way to compare clips.

    Attributes:
        name: as in the table.
        store: frames of the real clips, in its space.
        encoder: what made them.
        model: has ``embed`` and ``network.search_head()`` as :class:`~mnemoscope.models.reid.ReidModel` has.
        key: fingerprint of the model.
    """

    name: str
    store: LatentStore
    encoder: FrameEncoder
    model: Any
    key: str


@dataclass(frozen=True)
class Scored:
    """What a method reaches; ``verified`` is None where the holdout does not allow it."""

    method: str
    verified: Verification | None
    rungs: dict[str, RungPower]


class Remembering:
    """An encoder that encodes the same frames once: several methods look at one ladder."""

    def __init__(self, vae: Vae) -> None:
        self._vae = vae
        self._known: dict[bytes, np.ndarray] = {}
        self.space, self.dtype, self.fingerprint = vae.space, vae.dtype, vae.fingerprint

    def frame_shape(self, height: int, width: int) -> tuple[int, int, int]:
        """As the VAE's."""
        return self._vae.frame_shape(height, width)

    def encode(self, frames: np.ndarray, *, clip_id: str) -> np.ndarray:
        """As the VAE's mean."""
        key = hashlib.blake2b(frames.tobytes(), digest_size=16).digest()
        if key not in self._known:
            self._known[key] = self._vae.encode(frames, clip_id=clip_id)
        return self._known[key]

    def decode(self, latents: np.ndarray) -> np.ndarray:
        """As the VAE's."""
        return self._vae.decode(latents)


def with_head(model: ReidModel, head: Head) -> Any:
    """The model's features under another head."""
    return SimpleNamespace(
        embed=model.embed, network=_network(model.network.architecture.space, head), preset=model.preset
    )


def pixels() -> Any:
    """Raw pixels under L2: what is compared where nobody trains anything."""

    def embed(frames: np.ndarray) -> np.ndarray:
        return frames.reshape(len(frames), -1).astype(np.float32) / 255.0

    return SimpleNamespace(embed=embed, network=_network("image", L2()), preset="none")


def correlated(method: Method, name: str) -> Method:
    """The same features compared by Pearson's correlation."""
    return replace(method, name=name, model=with_head(method.model, Correlation()), key=f"{method.key} correlation")


def pixel_method(store: LatentStore) -> Method:
    """Raw pixels of an image-space store."""
    return Method("raw pixels, L2", store, PixelEncoder(), pixels(), "pixels L2")


def _network(space: str, head: Head) -> Any:
    return SimpleNamespace(search_head=lambda: head, architecture=SimpleNamespace(space=space))


def files_of(run: Path) -> dict[str, Path]:
    """Where the real clips of an audit lie."""
    listed = read_manifest(run / "check-real" / "manifest.parquet")
    return dict(zip(listed.clips["clip_id"], listed.files, strict=True))


def score(run: Run, method: Method, files: dict[str, Path], config: AuditConfig, *, copies: int) -> Scored:
    """Verification and the ladder of one method; thresholds are those of its own holdout scores."""
    store, head = method.store, method.model.network.search_head()
    train, query = frame_limit(config.train_frames), frame_limit(config.query_frames)
    gallery = extract_features(store, store.of_split("train"), method.model.embed, frames_per_clip=train)
    holdout_clips = store.of_split("holdout")
    holdout = extract_features(store, holdout_clips, method.model.embed, frames_per_clip=query)
    innocent = stages.matches(holdout, gallery, head, device=config.device).p_max
    tau = privacy_threshold(innocent, percentile=config.percentile)
    planted = planted_matches(
        run, store, files, method.model, method.key, gallery, encoder=method.encoder, config=config, count=copies
    )
    rungs = {}
    for name, found in planted.rungs.items():
        rates = true_positive_rates(found.p_max, innocent, tau=tau)
        right = wilson(int(found.right_patient.sum()), len(found.p_max))
        rungs[name] = RungPower(len(found.p_max), rates["tpr"], rates["tpr_at_fpr"], right, None)
    verified = attempt({}, "", lambda: verification(holdout, holdout_clips, method.model, seed=config.seed, absent={}))
    return Scored(method.name, verified, rungs)


def told(estimate: Estimate | None, digits: int = 3) -> str:
    """A number with its interval."""
    if estimate is None:
        return "–"
    return f"{estimate.value:.{digits}f} [{estimate.low:.{digits}f}, {estimate.high:.{digits}f}]"


def ladder_table(scored: Sequence[Scored], *, level: str) -> str:
    """TPR of each rung (row) and method (column) at a false-positive rate, as Markdown."""
    names = list(dict.fromkeys(name for one in scored for name in one.rungs))
    rows = [["change", *(one.method for one in scored)]]
    for name in names:
        cells = [one.rungs[name].tpr_at_fpr[level] if name in one.rungs else None for one in scored]
        rows.append([name.replace("_", " "), *(told(cell, 2) for cell in cells)])
    return markdown(rows)


def verification_table(scored: Sequence[Scored]) -> str:
    """AUC and retrieval of each method, as Markdown."""
    rows = [["method", "AUC", "top-1, other frame", "top-5, other frame", "top-1, patient's other clip"]]
    for one in scored:
        v = one.verified
        cells = [v.auc, v.top1, v.top5, v.top1_other_clip] if v else [None] * 4
        rows.append([one.method, *(told(cell, 4) for cell in cells)])
    return markdown(rows)


def markdown(rows: Sequence[Sequence[str]]) -> str:
    """A table whose first row is its head."""
    lines = [rows[0], ["---"] * len(rows[0]), *rows[1:]]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def frame(scored: Sequence[Scored]) -> pd.DataFrame:
    """All true-positive rates, one row per method and rung."""
    return pd.DataFrame(
        [
            {"method": one.method, "rung": name, "copies": rung.copies, "right_patient": rung.right_patient.value}
            | {f"tpr_{level}": value.value if value else None for level, value in rung.tpr_at_fpr.items()}
            for one in scored
            for name, rung in one.rungs.items()
        ]
    )
