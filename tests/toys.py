"""Small stores made from arrays, for the rooms that read them."""

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from mnemoscope.data.manifest import Manifest, make_manifest
from mnemoscope.latents.scaling import Scaling
from mnemoscope.latents.store import LatentStore, Space, StoreRecord
from mnemoscope.latents.writer import StoreWriter


@dataclass(frozen=True)
class ToyClip:
    frames: np.ndarray
    patient: str
    split: str = "train"


def table(clips: Mapping[str, ToyClip]) -> pd.DataFrame:
    rows = [
        {"clip_id": name, "path": f"{name}.avi", "patient_id": clip.patient, "split": clip.split}
        for name, clip in clips.items()
    ]
    return pd.DataFrame(rows)


def manifest(clips: Mapping[str, ToyClip], root: Path) -> Manifest:
    return make_manifest(table(clips), root=root)


def record_of(space: Space, height: int, width: int):
    def record(scaling: Scaling) -> StoreRecord:
        return StoreRecord(
            space=space,
            encoder="toy",
            source="toy",
            height=height,
            width=width,
            target_fps=None,
            scaling=scaling,
        )

    return record


def write_store(
    folder: Path,
    clips: Mapping[str, ToyClip],
    *,
    space: Space = "latent",
    scaling: Scaling | None = None,
    columns: Mapping[str, Sequence[object] | np.ndarray] | None = None,
) -> LatentStore:
    ordered = {name: clips[name] for name in sorted(clips)}
    shape = next(iter(ordered.values())).frames.shape[1:]
    writer = StoreWriter(folder, frame_shape=shape, dtype="uint8" if space == "image" else "float16")
    for name, clip in ordered.items():
        if name not in writer.done:
            writer.append(name, clip.frames)
    rows = make_manifest(table(ordered).assign(**(columns or {})), root=folder).clips
    return writer.finish(rows, record_of(space, *shape[1:]), scaling=scaling)


def noise_clips(counts: Sequence[int], *, shape: tuple[int, int, int] = (2, 3, 3), seed: int = 0) -> dict[str, ToyClip]:
    """Clips of float16 noise with these numbers of frames, one patient each."""
    rng = np.random.default_rng(seed)
    return {
        f"clip{i:03d}": ToyClip(rng.normal(size=(count, *shape)).astype(np.float16), f"patient{i:03d}")
        for i, count in enumerate(counts)
    }


class Attack:
    """Makes a folder when it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Callable[..., object], tuple[str, ...]]:
        return os.mkdir, (str(self.mark),)
