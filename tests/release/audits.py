"""A finished audit made by hand, with real clips on disk: what a release stands on, without any training."""

import hashlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from mnemoscope.audit.run.results import AUDIT, HOLDOUT, PATIENTS, SAMPLES
from mnemoscope.audit.run.settings import AuditConfig, recorded
from mnemoscope.core.files import write_json
from mnemoscope.core.types import AuditResult, Estimate, Privacy, Recall, SetSize, Status, TopHit, Verdict
from mnemoscope.data.writing import write_video
from mnemoscope.latents.scaling import Scaling
from tests.toys import ToyClip, write_store

TAU = 2.0
N_TRAIN, N_HOLDOUT = 12, 8
PLAIN = ("s0", "s1", "s2", "s3", "s4", "s5")


def frames(number: int, *, colour: bool = False) -> np.ndarray:
    """uint8 (T, 8, 10), or with three channels."""
    rng = np.random.default_rng([5, number])
    return rng.integers(0, 255, (3, 8, 10, 3) if colour else (3, 8, 10)).astype(np.uint8)


@dataclass
class Made:
    """Where the parts lie."""

    run: Path
    clips: Path
    flagged: tuple[str, ...] = ()
    ids: tuple[str, ...] = field(default=PLAIN)

    @property
    def samples(self) -> pd.DataFrame:
        return pd.read_parquet(self.run / SAMPLES).set_index("clip_id")


def make(
    place: Path,
    *,
    ids: tuple[str, ...] = PLAIN,
    flagged: tuple[str, ...] = (),
    status: Status = "pass",
    **changes: Any,
) -> Made:
    """Clips in ``place / "clips"`` and their audit in ``place / "audit"``; ``changes`` replace columns of samples."""
    clips, run = place / "clips", place / "audit"
    for number, clip_id in enumerate(ids):
        write_video(clips / "Videos" / f"{clip_id}.avi", frames(number), fps=12.5, codec="ffv1")
    ef = np.linspace(20, 70, len(ids)).round(1)
    pd.DataFrame({"FileName": [f"{name}.avi" for name in ids], "EF": ef}).to_csv(clips / "FileList.csv", index=False)
    run.mkdir()
    drawn = {name: _clip(number, "synthetic") for number, name in enumerate(ids)}
    labels = dict(zip(ids, ef, strict=True))
    write_store(
        run / "latents-synthetic",
        drawn,
        scaling=Scaling((0.0,) * 2, (1.0,) * 2, (0.0,) * 2, (1.0,) * 2),
        columns={"ef": [labels[name] for name in sorted(ids)]},
    )
    train = {f"real{n:03d}": _clip(n, "train", f"patient{n:03d}") for n in range(N_TRAIN)}
    write_store(run / "latents-real", train | {"valid000": _clip(1, "val", "patient900")})
    _write_tables(run, clips, ids, flagged, changes)
    write_json(run / AUDIT, _result(len(ids), len(flagged), status).to_json())
    config = recorded(AuditConfig(seed=3))
    identity = {"real": str(place / "home" / "secret"), "synthetic": str(clips)}
    write_json(
        run / "run.json",
        {
            "command": "audit",
            "identity": identity,
            "config": config,
            "seed": 3,
            "status": "done",
            "finished": "2026-01-01T00:00:00+00:00",
            "versions": {"mnemoscope": "0.1.0"},
            "git_commit": None,
        },
    )
    return Made(run, clips, flagged, ids)


def _clip(number: int, split: str, patient: str | None = None) -> ToyClip:
    values = np.random.default_rng([9, number]).normal(size=(3, 2, 3, 3)).astype(np.float16)
    return ToyClip(values, patient or f"synthetic-{number}", split)


def _write_tables(
    run: Path, clips: Path, ids: tuple[str, ...], flagged: tuple[str, ...], changes: dict[str, Any]
) -> None:
    is_flagged = np.array([name in flagged for name in ids])
    nearest = np.arange(len(ids)) % N_TRAIN
    samples = {
        "clip_id": ids,
        "patient_id": ids,
        "p_max": np.where(is_flagged, TAU + 1, TAU - 1),
        "nearest_clip_id": [f"real{n:03d}" for n in nearest],
        "nearest_patient_id": [f"patient{n:03d}" for n in nearest],
        "flagged": is_flagged,
        "gated": True,
        "sha256": [hashlib.sha256((clips / "Videos" / f"{name}.avi").read_bytes()).hexdigest() for name in ids],
    }
    pd.DataFrame(samples | changes).to_parquet(run / SAMPLES, index=False)
    holdout = np.arange(N_HOLDOUT)
    pd.DataFrame(
        {
            "clip_id": [f"held{n:03d}" for n in holdout],
            "patient_id": [f"patient5{n:02d}" for n in holdout],
            "nearest_clip_id": [f"real{n:03d}" for n in holdout % 5],
            "gated": True,
        }
    ).to_parquet(run / HOLDOUT, index=False)
    pd.DataFrame({"patient_id": [f"patient{n:03d}" for n in range(N_TRAIN)]}).to_parquet(run / PATIENTS, index=False)


def _result(n: int, n_flagged: int, status: Status) -> AuditResult:
    some = Estimate(0.1, 0.0, 0.2)
    return AuditResult(
        sets={
            "train": SetSize(N_TRAIN, N_TRAIN),
            "holdout": SetSize(N_HOLDOUT, N_HOLDOUT),
            "synthetic": SetSize(n, n),
        },
        reid=None,
        privacy=Privacy(95.0, TAU, n_flagged, some, some, 0.5, 0.1, 0),
        recall=Recall(
            gate=None,
            learned=6,
            learned_share=0.5,
            learned_and_flagged=0,
            top_hits=[TopHit("real000", "patient000", 1)],
        ),
        verdict=Verdict(status, ["for this reason"], ["nobody looked at that"]),
        gallery={"train_frames": 4},
    )


def write_decisions(path: Path, *lines: str) -> Path:
    path.write_text("\n".join(["clip_id,decision,who,when,why", *lines]) + "\n", encoding="utf-8")
    return path
