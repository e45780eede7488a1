"""The privacy filter between frame and video: frames that a finished audit would flag are drawn again."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from zipfile import BadZipFile

import numpy as np

from mnemoscope.core.errors import CorruptFile, InputError, Mismatch
from mnemoscope.core.files import file_fingerprint, folder_fingerprint, read_json, value_fingerprint
from mnemoscope.models.generator import GeneratorRecord
from mnemoscope.models.reid import ReidModel, load_reid
from mnemoscope.search import nearest

MAX_ATTEMPTS = 50
Draw = Callable[[Sequence[str]], np.ndarray]
"""Names of samples → standardised latents (B, C, h, w)."""


@dataclass(frozen=True)
class FrameFilter:
    """What a frame is compared with.

    Attributes:
        model: the re-identification model.
        gallery: features of train frames, (M, D).
        tau: logit above which a frame is refused.
        fingerprint: of all three; where it differs, other frames may be refused.
    """

    model: ReidModel
    gallery: np.ndarray
    tau: float
    fingerprint: str

    def passes(self, latents: np.ndarray) -> np.ndarray:
        """Whether each frame (B, C, h, w; unscaled latents) may be used, bool (B,): its best logit is at most tau."""
        head = self.model.network.search_head()
        best = nearest(self.model.embed(latents), self.gallery, head, k=1).similarity[:, 0]
        return np.asarray(best <= self.tau)


def load_filter(run: Path, record: GeneratorRecord, *, device: str = "cpu") -> FrameFilter:
    """The filter of a finished audit: its model, its gallery and its tau.

    Args:
        run: folder of the audit.
        record: of the image model whose frames are filtered.
        device: torch device.

    Raises:
        InputError: if the folder is no finished audit.
        Mismatch: if its model reads other latents than the generator makes.
    """
    features = run / "features" / "train.npz"
    try:
        tau = float(read_json(run / "audit.json")["privacy"]["tau"])
        # Opened here, because NumPy leaves a file open that turns out to be damaged.
        with features.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            gallery = arrays["values"]
        given = read_json(run / "run.json")["config"].get("reid_model")
    except (CorruptFile, KeyError, OSError, TypeError, ValueError, EOFError, BadZipFile) as error:
        raise InputError(
            f"--filter {run}: expected the folder of a finished audit, found: {error}; run one (mnemoscope audit)"
        ) from error
    folder = Path(given) if given else run / "reid" / "model"
    model = load_reid(folder, device=device)
    if (model.scaling, model.encoder) != (record.scaling, record.encoder):
        raise Mismatch(
            f"--filter {run}: expected an audit of latents of the generator's VAE and scaling, found another; audit "
            f"with the store that the generator was trained on (mnemoscope audit --real STORE)"
        )
    key = value_fingerprint([tau, file_fingerprint(features), folder_fingerprint(folder)])
    return FrameFilter(model, gallery, tau, key)


def passing_frames(
    draw: Draw, ids: Sequence[str], record: GeneratorRecord, judge: FrameFilter | None
) -> tuple[np.ndarray, np.ndarray]:
    """Frames that pass, one for each id, and how many were drawn for it.

    A frame's attempts are named by its id, so that what else is sampled changes nothing.

    Returns:
        standardised latents (B, C, h, w) and attempts (B,).

    Raises:
        InputError: if none of ``MAX_ATTEMPTS`` frames of a sample passes.
    """
    frames = np.empty((len(ids), *record.frame_shape), dtype=np.float32)
    attempts = np.zeros(len(ids), dtype=np.int64)
    waiting = np.arange(len(ids))
    while len(waiting):
        if attempts.max() == MAX_ATTEMPTS:
            raise InputError(
                f"{ids[waiting[0]]}: the filter refused {MAX_ATTEMPTS} frames in a row; the image model gives almost "
                f"nothing but what was flagged: audit it, or filter with a higher percentile"
            )
        frames[waiting] = draw([f"{ids[int(i)]}/frame/{attempts[i]}" for i in waiting])
        attempts[waiting] += 1
        if judge is None:
            break
        unscaled = record.scaling.invert(frames[waiting], "standard").astype(np.float16)
        waiting = waiting[~judge.passes(unscaled)]
    return frames, attempts
