"""Generators of a few thousand weights, and cohorts with EF, frame rate and view for them to learn."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from mnemoscope.data.manifest import make_manifest
from mnemoscope.latents.scaling import Scaling
from mnemoscope.latents.store import LatentStore
from mnemoscope.latents.writer import StoreWriter
from mnemoscope.models.generator import GeneratorRecord, Kind
from mnemoscope.models.initial import named_weights
from mnemoscope.models.lidm import Lidm, LidmArchitecture, build_lidm
from mnemoscope.models.lvdm import Lvdm, LvdmArchitecture, build_lvdm
from tests.toys import ToyClip, record_of, table

Shape = tuple[int, int, int]
SHAPE = (2, 4, 4)
LIDM = LidmArchitecture(channels=(16, 32), attention=(False, True), head_channels=8)
LVDM = LvdmArchitecture(channels=(32, 32), attention=(False, True), heads=(1, 2), time_channels=4)


def tiny_lidm(*, seed: int = 0, frame_shape: Shape = SHAPE, n_classes: int = 0) -> Lidm:
    with named_weights(seed, "tiny"):
        return build_lidm(LIDM, frame_shape=frame_shape, n_classes=n_classes).eval()


def tiny_lvdm(*, seed: int = 0, frame_shape: Shape = SHAPE, n_classes: int = 0) -> Lvdm:
    with named_weights(seed, "tiny"):
        return build_lvdm(LVDM, frame_shape=frame_shape, window_frames=4, fps=32.0, n_classes=n_classes).eval()


def tiny_record(kind: Kind, *, frame_shape: Shape = SHAPE, classes: tuple[str, ...] = ()) -> GeneratorRecord:
    channels = frame_shape[0]
    return GeneratorRecord(
        kind=kind,
        frame_shape=frame_shape,
        height=32,
        width=48,
        encoder="toy",
        scaling=Scaling((-3.0,) * channels, (3.5,) * channels, (0.25,) * channels, (0.1,) * channels),
        classes=classes,
        fps=32.0 if kind == "lvdm" else None,
        window_frames=4 if kind == "lvdm" else None,
        motion_std=0.5 if kind == "lvdm" else None,
        ef_quantiles=(40.0, 55.5, 70.0) if kind == "lvdm" else (),
    )


def coded_frames(clip: int, count: int, shape: Shape = SHAPE) -> np.ndarray:
    """Frames that say which they are: frame k of clip i is 64·i + k everywhere, the channels apart by 0.25."""
    values = (64 * clip + np.arange(count, dtype=np.float16))[:, None, None, None]
    return np.broadcast_to(values + np.arange(shape[0])[None, :, None, None] / 4, (count, *shape)).astype(np.float16)


def write_cohort(
    folder: Path,
    frames: Sequence[np.ndarray],
    *,
    splits: Sequence[str],
    columns: Mapping[str, Sequence[object]],
    target_fps: float | None = None,
) -> LatentStore:
    """A store of clips c0, c1, … (at most ten), one patient each, with further columns of the clip table."""
    writer = StoreWriter(folder, frame_shape=frames[0].shape[1:], dtype="float16")
    clips = {f"c{i}": ToyClip(clip, f"p{i}", split) for i, (clip, split) in enumerate(zip(frames, splits, strict=True))}
    for name, clip in clips.items():
        writer.append(name, clip.frames)
    rows = make_manifest(table(clips).assign(**columns), root=folder).clips
    record = record_of("latent", 32, 48)
    return writer.finish(rows, lambda scaling: replace(record(scaling), target_fps=target_fps), scaling=None)
