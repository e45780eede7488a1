"""A cohort small enough to be audited in seconds: every patient is a texture that drifts, every clip is lossless."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from mnemoscope.audit.run import AuditConfig
from mnemoscope.core.config import build
from mnemoscope.data.writing import write_video

SPLITS = ["train"] * 10 + ["val"] * 3 + ["holdout"] * 6
N_FRAMES = 6
SIZE_PX = 32
# Copies of the train clips c00, c03 and c07 among clips of new patients.
COPIED = {"s0": 0, "s3": 3, "s5": 7}
N_SYNTHETIC = 8
SETTINGS: dict[str, Any] = {
    "space": "image",
    "percentile": 80.0,
    "train_frames": 2,
    "query_frames": 2,
    "altered_frames": 2,
    "frames": {"height": SIZE_PX, "width": SIZE_PX},
    "reid": {"least_pairs": 0, "loop": {"epochs": 2, "batch_size": 8}},
}


@contextmanager
def one_thread() -> Iterator[None]:
    """Frames are so small that a second thread costs more than it brings, much more where others compute too."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def drifting(patient: int) -> np.ndarray:
    """Frames (T, H, W) of a patient: blobs of their own, moving at a rate of their own."""
    rng = np.random.default_rng([17, patient])
    texture = np.kron(rng.integers(20, 236, (8, 8)), np.ones((4, 4))).astype(np.uint8)
    step = int(rng.integers(1, 4))
    return np.stack([np.roll(texture, i * step, axis=patient % 2) for i in range(N_FRAMES)])


def write_clip(file: Path, patient: int) -> None:
    """The patient's clip, without loss."""
    write_video(file, drifting(patient), fps=25.0, codec="ffv1")


def write_real(folder: Path, *, splits: list[str] | None = None) -> Path:
    """Clips c00, c01 … with a table of patients and splits."""
    splits = splits or SPLITS
    names = [f"c{number:02d}" for number in range(len(splits))]
    for number, name in enumerate(names):
        write_clip(folder / f"{name}.avi", number)
    table = {"file": [f"{n}.avi" for n in names], "patient": [f"p{n[1:]}" for n in names], "split": splits}
    pd.DataFrame(table).to_csv(folder / "clips.csv", index=False)
    return folder


def write_synthetic(folder: Path, *, only_copies: bool = False) -> Path:
    """Clips s0, s1 …: those of ``COPIED`` show a train patient, the others nobody; or copies alone."""
    for number in range(N_SYNTHETIC):
        fresh = number if only_copies else 1000 + number
        write_clip(folder / f"s{number}.avi", COPIED.get(f"s{number}", fresh))
    return folder


def settings(**changes: Any) -> AuditConfig:
    """The tiny audit's settings, with changes."""
    return build(AuditConfig, SETTINGS | changes)
