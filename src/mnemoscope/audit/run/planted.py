"""Planted: train clips shown again through every rung of the ladder, as if a generator had copied them.

A copy is treated as any suspect is: as many frames at the same distance, the same size, encoder, network and gallery.
"""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np
import pandas as pd

import mnemoscope.audit.run.stages as stages
from mnemoscope.audit.run.settings import AuditConfig, frame_limit
from mnemoscope.core.errors import CorruptFile
from mnemoscope.core.files import whole_file
from mnemoscope.core.progress import Progress, unwatched
from mnemoscope.core.provenance import Run
from mnemoscope.core.rng import generator
from mnemoscope.core.types import ClipIndex, Flags, Scores
from mnemoscope.data.clips import LATENT_SUFFIXES
from mnemoscope.data.ladder import LADDER, RUNGS, Beside, Rung
from mnemoscope.data.video import read_clip
from mnemoscope.latents.encode import FrameEncoder
from mnemoscope.latents.features import FrameFeatures, strided_frames
from mnemoscope.latents.store import LatentStore
from mnemoscope.models.reid import ReidModel

COPIES = 100
_TABLE = "ladder.parquet"


@dataclass(frozen=True)
class Copies:
    """Copies under one change; arrays have shape (n,), clips are numbered as in the train table.

    Attributes:
        source: the copied clip.
        p_max: logit of the best frame pair over the whole gallery.
        nearest: the gallery's most similar clip.
        right_clip: whether that is the source.
        right_patient: whether it is of the source's patient.
    """

    source: ClipIndex
    p_max: Scores
    nearest: ClipIndex
    right_clip: Flags
    right_patient: Flags


@dataclass(frozen=True)
class Planted:
    """The copies under each rung that could be shown, in the ladder's order, and why the others could not."""

    rungs: dict[str, Copies]
    absent: dict[str, str]


@runtime_checkable
class _Decoder(Protocol):
    def decode(self, latents: np.ndarray) -> np.ndarray: ...


# Rung → number of the train clip → the frames of it that are shown.
_Shown = dict[str, dict[int, np.ndarray]]
_Latents = Callable[[Rung, int, np.ndarray], np.ndarray]


def planted_matches(
    run: Run,
    store: LatentStore,
    files: dict[str, Path] | None,
    model: ReidModel,
    model_key: str,
    gallery: FrameFeatures,
    *,
    encoder: FrameEncoder | None,
    config: AuditConfig,
    count: int = COPIES,
    progress: Progress = unwatched,
) -> Planted:
    """How similar copies of train clips are to the gallery, under each rung of the ladder.

    Rungs that leave the pixels as they are come from the store, all others from the files. A clip of which a rung
    that moves frames would show one of the gallery's takes no part in that rung.

    Args:
        run: keeps the result as the stage ``ladder``.
        store: the real clips.
        files: where they lie, by clip_id; None where only latents were given.
        model: the re-identification model.
        model_key: its fingerprint.
        gallery: features of the train clips, in the order of ``store.of_split("train")``.
        encoder: what encoded the store; None only where ``files`` is.
        config: settings.
        count: clips to copy, each of another patient; all patients if there are fewer.
        progress: told after each clip.

    Returns:
        p_max and nearest clip of each copy, by rung.

    Raises:
        Mismatch: if ``encoder`` or ``config.frames`` are not those of the store.
    """
    train = store.of_split("train")
    videos = videos_of(store, files, encoder, config)
    sources = one_clip_each(train, count=count, seed=config.seed)
    shown, absent = _plan(train, sources, videos, encoder, config)

    def make(folder: Path) -> None:
        latents = _latents(store, train, sources, videos, encoder, config)
        features = _features(shown, latents, model, progress)
        found = {name: stages.matches(rows, gallery, head, device=config.device) for name, rows in features.items()}
        parts = [
            pd.DataFrame({"rung": name, "source": list(shown[name]), "p_max": match.p_max, "nearest": match.nearest})
            for name, match in found.items()
        ]
        with whole_file(folder / _TABLE) as temporary:
            pd.concat(parts).to_parquet(temporary, index=False)

    head = model.network.search_head()
    inputs = {
        "model": model_key,
        "store": store.fingerprint,
        "frames": [config.train_frames, config.query_frames, asdict(config.frames)],
        "seed": config.seed,
        "shown": {name: [str(train["clip_id"].iloc[source]) for source in clips] for name, clips in shown.items()},
    }
    table = _read(run.stage("ladder", inputs, make) / _TABLE)
    return Planted({name: _copies(table, name, train) for name in shown}, absent)


def one_clip_each(clips: pd.DataFrame, *, count: int, seed: int) -> np.ndarray:
    """Row numbers of up to ``count`` clips, each of another patient, drawn whatever the order of the rows.

    Args:
        clips: with clip_id and patient_id.
        count: at least 1.
        seed: of the draw.
    """
    ordered = clips.reset_index(drop=True).sort_values("clip_id")
    patients = sorted(set(ordered["patient_id"]))
    chosen = generator(seed, "one clip each").permutation(len(patients))[:count]
    rows = {patient: np.array(part.index) for patient, part in ordered.groupby("patient_id")}
    of_chosen = [(patients[who], rows[patients[who]]) for who in chosen]
    return np.array([generator(seed, "one clip of", str(patient)).choice(own) for patient, own in of_chosen], dtype=int)


def videos_of(
    store: LatentStore, files: dict[str, Path] | None, encoder: FrameEncoder | None, config: AuditConfig
) -> dict[str, Path]:
    """The files of a store's clips that hold pixels; none where there is no encoder for them.

    Raises:
        Mismatch: if the store was not made by this encoder and of frames of this size and rate.
    """
    if files is None or encoder is None:
        return {}
    size = (config.frames.height, config.frames.width, config.frames.target_fps)
    stages.require_alike(store, encoder.fingerprint, size)
    return {clip_id: file for clip_id, file in files.items() if file.suffix.lower() not in LATENT_SUFFIXES}


def _plan(
    train: pd.DataFrame,
    sources: np.ndarray,
    videos: dict[str, Path],
    encoder: FrameEncoder | None,
    config: AuditConfig,
) -> tuple[_Shown, dict[str, str]]:
    """What each rung shows, and the reason for each that shows nothing."""
    shown: _Shown = {}
    absent: dict[str, str] = {}
    rows = [(int(number), train.iloc[number]) for number in sources]
    for rung in LADDER:
        clips = {number: (row, _frames(rung, row, config)) for number, row in rows}
        fit = {number: frames for number, (row, frames) in clips.items() if _fits(rung, frames, row, videos, config)}
        reason = _reason(rung, len(fit), encoder)
        if reason is None:
            shown[rung.name] = fit
        else:
            absent[rung.name] = reason
    return shown, absent


def _frames(rung: Rung, row: pd.Series, config: AuditConfig) -> np.ndarray:
    n_frames, train, query = int(row["n_frames"]), frame_limit(config.train_frames), frame_limit(config.query_frames)
    # The distance on the side that shows more frames: half of it leads past no other frame.
    stride_frames = max(1.0, n_frames / max(train or n_frames, query or n_frames))
    asked = strided_frames(n_frames, query)
    return rung.numbers(asked, n_frames=n_frames, stride_frames=stride_frames, rng=_rng(rung, row["clip_id"], config))


def _rng(rung: Rung, clip_id: str, config: AuditConfig) -> np.random.Generator:
    return generator(config.seed, "ladder", rung.name, clip_id)


def _fits(rung: Rung, frames: np.ndarray, row: pd.Series, videos: dict[str, Path], config: AuditConfig) -> bool:
    if rung.change is not None:
        return row["clip_id"] in videos
    gallery = strided_frames(int(row["n_frames"]), frame_limit(config.train_frames))
    return rung.move is None or not np.isin(frames, gallery).any()


def _reason(rung: Rung, n_clips: int, encoder: FrameEncoder | None) -> str | None:
    """Why a rung cannot be shown; None if it can."""
    if n_clips == 0 and rung.move is not None:
        return "every train clip would show a frame of the gallery; compare fewer (--train-frames, --query-frames)"
    if n_clips == 0:
        return "only latents of the train clips were given; give their videos (--real)"
    if rung.needs == "encoder" and not isinstance(encoder, _Decoder):
        return "pixels have no encoder to go through; compare latents (--space latent)"
    if rung.needs == "other" and n_clips < 2:
        return "there is no second train patient; add train clips (--real)"
    return None


def _latents(
    store: LatentStore,
    train: pd.DataFrame,
    sources: np.ndarray,
    videos: dict[str, Path],
    encoder: FrameEncoder | None,
    config: AuditConfig,
) -> _Latents:
    """What the frames of a train clip become under a rung."""
    clip_ids = train["clip_id"].tolist()
    filmed = [int(source) for source in sources if clip_ids[source] in videos]
    other = dict(zip(filmed, np.roll(filmed, 1).tolist(), strict=True))

    @lru_cache(maxsize=2)  # a clip, and the one before it, which is blended into it
    def pixels(source: int) -> np.ndarray:
        shown = strided_frames(int(train["n_frames"].iloc[source]), frame_limit(config.query_frames))
        return read_clip(videos[clip_ids[source]], config.frames, frames=shown.tolist())

    def latents(rung: Rung, source: int, frames: np.ndarray) -> np.ndarray:
        if rung.change is None:
            return store.frames(int(train["first_frame"].iloc[source]) + frames)
        assert encoder is not None
        beside = Beside(
            _round_trip(encoder, clip_ids[source]), pixels(other[source]) if rung.needs == "other" else None
        )
        changed = rung.changed(pixels(source), _rng(rung, clip_ids[source], config), beside)
        return encoder.encode(changed, clip_id=clip_ids[source])

    return latents


def _round_trip(encoder: FrameEncoder, clip_id: str) -> Callable[[np.ndarray], np.ndarray] | None:
    if not isinstance(encoder, _Decoder):
        return None
    return lambda frames: encoder.decode(encoder.encode(frames, clip_id=clip_id))


def _features(shown: _Shown, latents: _Latents, model: ReidModel, progress: Progress) -> dict[str, FrameFeatures]:
    """Features of what each rung shows, made clip by clip, so that memory does not grow with their number."""
    parts: dict[str, list[np.ndarray]] = {name: [] for name in shown}
    sources = list(dict.fromkeys(source for clips in shown.values() for source in clips))
    for done, source in enumerate(sources, start=1):
        names = [name for name, clips in shown.items() if source in clips]
        blocks = [latents(RUNGS[name], source, shown[name][source]) for name in names]
        ends = np.cumsum([len(block) for block in blocks])[:-1]
        for name, values in zip(names, np.split(model.embed(np.concatenate(blocks)), ends), strict=True):
            parts[name].append(values)
        progress("ladder", done, len(sources), "clip")
    return {name: _frame_features(values, list(shown[name].values())) for name, values in parts.items()}


def _frame_features(values: list[np.ndarray], frames: list[np.ndarray]) -> FrameFeatures:
    clip = np.repeat(np.arange(len(frames)), [len(numbers) for numbers in frames])
    return FrameFeatures(np.concatenate(values), clip, np.concatenate(frames))


def _read(path: Path) -> pd.DataFrame:
    try:
        return pd.read_parquet(path, columns=["rung", "source", "p_max", "nearest"])
    except (OSError, ValueError, KeyError) as error:
        raise CorruptFile(f"{path}: damaged ({error}); delete {path.parent} and run the same command again") from error


def _copies(table: pd.DataFrame, rung: str, train: pd.DataFrame) -> Copies:
    rows, patient = table[table["rung"] == rung], train["patient_id"].to_numpy()
    source, nearest = rows["source"].to_numpy(), rows["nearest"].to_numpy()
    return Copies(source, rows["p_max"].to_numpy(), nearest, source == nearest, patient[source] == patient[nearest])
