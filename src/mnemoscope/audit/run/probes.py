"""Probes: is identity carried by the sector's shape, the borders or burned-in text rather than by anatomy?

Each probe hides such a thing in every clip, or dresses clips in that of somebody else. Frames of one patient then wear
different things and frames of two patients the same; a network that sees anatomy is not misled.
"""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image, ImageDraw
from scipy import ndimage
from scipy.spatial import ConvexHull

from mnemoscope.audit.intervals import patient_bootstrap
from mnemoscope.audit.run.planted import one_clip_each, videos_of
from mnemoscope.audit.run.settings import AuditConfig
from mnemoscope.audit.verification import PairScores, auc_by_patient
from mnemoscope.core.errors import TooFewSamples
from mnemoscope.core.files import read_json, write_json
from mnemoscope.core.provenance import Run
from mnemoscope.core.rng import generator
from mnemoscope.core.types import Estimate, Probe
from mnemoscope.data.alter import Frame, border
from mnemoscope.data.video import read_clip
from mnemoscope.latents.encode import FrameEncoder
from mnemoscope.latents.features import strided_frames
from mnemoscope.latents.store import LatentStore
from mnemoscope.models.reid import ReidModel
from mnemoscope.search import Head, pair_scores

MOST_CLIPS = 60
BORDER_SHARE = 0.12
_LEAST_CLIPS = 4
_GROUP = 8
_FRAMES_SEEN = 8
_DARK = 12
_FILE = "probes.json"


@dataclass(frozen=True)
class _Look:
    """What a clip shows.

    Attributes:
        pair: its first and its middle frame, (2, H, W) or (2, H, W, 3).
        sector: where it ever shows anything, (H, W).
        text: a line that could be burned in.
    """

    pair: np.ndarray
    sector: np.ndarray
    text: str


def inner_ellipse(height: int, width: int) -> np.ndarray:
    """The part of a picture that every sector shows: semi-axes of 0.33 of its height and 0.25 of its width."""
    y, x = np.ogrid[:height, :width]
    down, across = (y - (height - 1) / 2) / (0.33 * height), (x - (width - 1) / 2) / (0.25 * width)
    return down**2 + across**2 <= 1


def sector_mask(frames: np.ndarray) -> np.ndarray:
    """Where a clip ever shows anything: the convex hull of what is connected and brighter than nearly black.

    Parts of less than a tenth of the largest, such as text beside the sector, do not count; cavities and shadows inside
    it belong to it.

    Args:
        frames: uint8, (T, H, W) or (T, H, W, 3).

    Returns:
        bool, (H, W); true everywhere for a clip without a bright area, so that nothing is hidden.
    """
    bright = frames.max(axis=0) > _DARK
    parts, _ = ndimage.label(bright.any(axis=-1) if bright.ndim == 3 else bright)
    areas = np.bincount(parts.ravel())
    areas[0] = 0
    points = np.argwhere(np.isin(parts, np.flatnonzero((areas > 0) & (areas >= areas.max() / 10))))
    if len(points) == 0 or (np.ptp(points, axis=0) == 0).any():
        return np.ones(parts.shape, dtype=bool)
    return _hull(points, parts.shape)


def _hull(points: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    planes = ConvexHull(points).equations
    everywhere = np.moveaxis(np.indices(shape), 0, -1)
    return (everywhere @ planes[:, :2].T + planes[:, 2] <= 1e-9).all(axis=-1)


def with_text(frame: Frame, text: str) -> Frame:
    """White text on a black block in the upper left corner, in Pillow's own font."""
    image = Image.fromarray(frame)
    draw = ImageDraw.Draw(image)
    white, black = (255, 0) if frame.ndim == 2 else ((255,) * 3, (0,) * 3)
    draw.rectangle(draw.textbbox((1, 1), text), fill=black)
    draw.text((1, 1), text, fill=white)
    return np.asarray(image)


def with_border(frame: Frame, other: Frame) -> Frame:
    """The outer ``BORDER_SHARE`` of another picture around the middle of this one."""
    inside = border(np.ones(frame.shape[:2], np.uint8), BORDER_SHARE) > 0
    return np.where(inside if frame.ndim == 2 else inside[..., None], frame, other)


def _within(frame: Frame, mask: np.ndarray) -> Frame:
    return frame * (mask if frame.ndim == 2 else mask[..., None])


HIDE: dict[str, Callable[[Frame], Frame]] = {
    "unchanged": lambda frame: frame,
    "mask_hidden": lambda frame: _within(frame, inner_ellipse(*frame.shape[:2])),
    "borders_hidden": partial(border, share=BORDER_SHARE),
}
SWAP: dict[str, Callable[[Frame, _Look], Frame]] = {
    "mask_swapped": lambda frame, donor: _within(frame, donor.sector),
    "text_swapped": lambda frame, donor: with_text(frame, donor.text),
    "borders_swapped": lambda frame, donor: with_border(frame, donor.pair[0]),
}


def shortcut_probes(
    run: Run,
    store: LatentStore,
    files: dict[str, Path] | None,
    model: ReidModel,
    model_key: str,
    *,
    encoder: FrameEncoder | None,
    config: AuditConfig,
    most_clips: int = MOST_CLIPS,
) -> dict[str, Probe]:
    """Verification under each probe, on holdout clips, or on val clips where too few holdout patients have videos.

    Each clip is of another patient and gives its first and its middle frame. ``auc`` tells pairs of one clip, wearing
    different things, from pairs of two, wearing the same. ``shift`` is what sharing a thing adds to the logit of
    two patients: against the same pair wearing two things, or, where the thing is hidden in all, against the pair
    as it was. It should be near 0, and below 0.5 for the AUC the shared thing outweighs the patient.

    Args:
        run: keeps the result as the stage ``probes``.
        store: the real clips.
        files: where they lie, by clip_id; None where only latents were given.
        model: the re-identification model.
        model_key: its fingerprint.
        encoder: what encoded the store; None only where ``files`` is.
        config: settings.
        most_clips: clips used at most.

    Returns:
        the probes of ``HIDE`` and ``SWAP`` by name.

    Raises:
        Mismatch: if ``encoder`` or ``config.frames`` are not those of the store.
        TooFewSamples: without videos of four patients with two frames; the reason why there are no probes.
    """
    videos = videos_of(store, files, encoder, config)
    rows = _clips(store, videos, most_clips, config.seed)
    assert encoder is not None

    def make(folder: Path) -> None:
        looks = [_look(row, videos[row["clip_id"]], config) for _, row in rows.iterrows()]
        probes = _probes(looks, rows["patient_id"].to_numpy(), encoder, model, seed=config.seed)
        write_json(folder / _FILE, {name: asdict(probe) for name, probe in probes.items()})

    inputs = {
        "model": model_key,
        "store": store.fingerprint,
        "frames": asdict(config.frames),
        "seed": config.seed,
        "clips": rows["clip_id"].tolist(),
    }
    values = read_json(run.stage("probes", inputs, make) / _FILE)
    return {name: Probe(**{key: Estimate(**value) for key, value in probe.items()}) for name, probe in values.items()}


def _clips(store: LatentStore, videos: dict[str, Path], most: int, seed: int) -> pd.DataFrame:
    for split in ("holdout", "val"):
        clips = store.of_split(split)
        clips = clips[clips["clip_id"].isin(list(videos)) & (clips["n_frames"] >= 2)].reset_index(drop=True)
        if clips["patient_id"].nunique() >= _LEAST_CLIPS:
            return clips.iloc[one_clip_each(clips, count=most, seed=seed)]
    raise TooFewSamples(
        f"probes need videos of at least {_LEAST_CLIPS} holdout (or val) patients with two frames each, found videos "
        f"of {len(videos)} clips and no such patients; give videos in place of latents, or more holdout clips (--real)"
    )


def _look(row: pd.Series, file: Path, config: AuditConfig) -> _Look:
    numbers = strided_frames(int(row["n_frames"]), _FRAMES_SEEN)
    frames = read_clip(file, config.frames, frames=numbers.tolist())
    digits = generator(config.seed, "probe text", row["clip_id"]).integers(0, 10, 10)
    text = "".join(map(str, digits))
    return _Look(frames[[0, len(frames) // 2]], sector_mask(frames), f"ID {text[:5]}\n{text[5:7]}:{text[7:]}")


def _probes(
    looks: list[_Look], patient: np.ndarray, encoder: FrameEncoder, model: ReidModel, *, seed: int
) -> dict[str, Probe]:
    groups = np.array_split(np.arange(len(looks)), max(2, len(looks) // _GROUP))

    head = model.network.search_head()

    def features(dressed: list[np.ndarray]) -> np.ndarray:
        """Of the pair of each clip: (clips, 2, D)."""
        values = model.embed(encoder.encode(np.concatenate(dressed), clip_id="probe"))
        return values.reshape(len(looks), 2, -1)

    hidden = {
        name: features([np.stack([hide(frame) for frame in look.pair]) for look in looks])
        for name, hide in HIDE.items()
    }
    plain = hidden["unchanged"]
    probes = {
        name: _judged((values, values), [(plain, plain)], groups, patient, head, seed=seed, name=name)
        for name, values in hidden.items()
    }
    for name, swap in SWAP.items():
        one, two = (
            features([np.stack([swap(frame, looks[donor]) for frame in look.pair]) for look, donor in wearing])
            for wearing in (list(zip(looks, of, strict=True)) for of in _donors(groups).T)
        )
        probes[name] = _judged((one, two), [(one, two), (two, one)], groups, patient, head, seed=seed, name=name)
    return probes


def _donors(groups: list[np.ndarray]) -> np.ndarray:
    """Two clips of the next group for each clip, the same for a whole group: (clips, 2)."""
    return np.concatenate(
        [np.tile(groups[(i + 1) % len(groups)][:2], (len(group), 1)) for i, group in enumerate(groups)]
    )


def _judged(
    worn: tuple[np.ndarray, np.ndarray],
    apart: list[tuple[np.ndarray, np.ndarray]],
    groups: list[np.ndarray],
    patient: np.ndarray,
    head: Head,
    *,
    seed: int,
    name: str,
) -> Probe:
    """The probe's two numbers.

    Args:
        worn: features (clips, 2, D) with one thing worn, and with another.
        apart: what the first and what the second of two patients wear when they do not share.
        groups: numbers of clips that are compared with each other.
        patient: of each clip.
        head: of the model.
        seed: of the resampling.
        name: of the probe.
    """
    a, b = np.array([(i, j) for group in groups for i in group for j in group if i != j]).T

    def scores(first: np.ndarray, second: np.ndarray) -> np.ndarray:
        return pair_scores(first, second, head).astype(np.float64)

    one, two = worn
    same = np.concatenate([scores(one[:, 0], two[:, 1]), scores(two[:, 0], one[:, 1])])
    shared = np.concatenate([scores(thing[a, 0], thing[b, 1]) for thing in worn])
    unshared = np.concatenate([scores(first[a, 0], second[b, 1]) for first, second in apart * (2 // len(apart))])
    pairs = PairScores(same, np.tile(patient, 2), shared, np.tile(patient[a], 2))
    change = shared - unshared
    return Probe(
        auc=auc_by_patient(pairs, rng=generator(seed, "probe auc", name)),
        shift=patient_bootstrap(
            lambda weight: float(np.average(change, weights=weight)),
            pairs.different_patient,
            rng=generator(seed, "probe shift", name),
        ),
    )
