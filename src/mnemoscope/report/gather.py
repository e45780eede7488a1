"""Gather: from the folder of a finished audit to the material of its page."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields, replace
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from pydantic import TypeAdapter, ValidationError

from mnemoscope.audit.run.results import Finished
from mnemoscope.audit.run.sources import FINGERPRINTS
from mnemoscope.audit.subgroups import strata
from mnemoscope.core.errors import CorruptFile
from mnemoscope.core.files import read_json
from mnemoscope.core.rng import generator
from mnemoscope.data.clips import LATENT_SUFFIXES
from mnemoscope.data.transform import FrameTransform
from mnemoscope.data.video import read_clip
from mnemoscope.downstream.results import SCHEMA as WORTH_SCHEMA
from mnemoscope.downstream.results import DownstreamResult
from mnemoscope.latents.store import CLIPS, is_store
from mnemoscope.report.material import SETS, Material, Pair, Portrait
from mnemoscope.report.pictures import film_uri
from mnemoscope.report.provenance import hashes
from mnemoscope.report.tables import hits_per_clip

LADDER = "ladder/ladder.parquet"
MOST_PAIRS = 200
MOST_MISSED = 12
MOST_THUMBNAILS = 800
PICTURES_BYTES = 12_000_000
MOST_FRAMES = 24
SHOWN_FPS = 15.0
THUMBNAIL_PX, THUMBNAIL_FRAMES = 56, 8
NO_FEATURES = "the audit kept no features to lay out, or too few clips"
NO_VIDEOS = "the audit was given latents without videos"


def gather(
    folder: Path,
    finished: Finished,
    record: Mapping[str, Any],
    frames: FrameTransform,
    *,
    most_pairs: int = MOST_PAIRS,
    places: pd.DataFrame | None = None,
    downstream: Path | None = None,
) -> Material:
    """The material of a finished audit's page.

    Args:
        folder: of the audit.
        finished: its numbers and tables.
        record: its ``run.json``.
        frames: how its clips were read.
        most_pairs: pairs in the gallery; fewer if their pictures would make the page too large.
        places: the map; None if there is none.
        downstream: a ``downstream.json``; None if nobody trained on the set.
    """
    attributes = clip_table(folder, record)
    videos = _Videos(finished.real_files or {}, finished.synthetic_files or {}, attributes, frames)
    material = Material(
        result=finished.result,
        samples=finished.samples.assign(copy_of=finished.samples["clip_id"].map(_exact_copies(folder))),
        holdout=finished.holdout,
        patients=finished.patients,
        record=record,
        ladder=pd.read_parquet(folder / LADDER)[["rung", "p_max"]] if (folder / LADDER).is_file() else None,
        places=places,
        attributes=attributes,
        downstream=None if downstream is None else read_worth(downstream),
        hashes=hashes(folder),
        absent={} if places is not None else {"map": NO_FEATURES},
    )
    pairs = nearest_pairs(material, videos, ranks=range(most_pairs))
    if not videos.any:
        return replace(material, pairs=pairs, absent={**material.absent, "pictures": NO_VIDEOS})
    return replace(
        material, pairs=pairs, missed=_missed(material, videos), thumbnails=_thumbnails(material, pairs, videos)
    )


def read_worth(path: Path) -> DownstreamResult:
    """What a synthetic set was worth to train on.

    Raises:
        CorruptFile: if the file is missing or not of this schema.
    """
    values = read_json(path)
    if values.get("schema") != WORTH_SCHEMA:
        raise CorruptFile(f"{path}: expected schema {WORTH_SCHEMA}, found {values.get('schema')} (--downstream)")
    try:
        known = {field.name: values.get(field.name) for field in fields(DownstreamResult)}
        return TypeAdapter(DownstreamResult).validate_python(known)
    except ValidationError as error:
        raise CorruptFile(f"{path}: expected the content of {WORTH_SCHEMA}, found: {error} (--downstream)") from None


def more_pairs(material: Material, finished: Finished, frames: FrameTransform, *, ranks: range) -> list[Pair]:
    """The pairs of these ranks, from 0, as far as their pictures fit on one page."""
    videos = _Videos(finished.real_files or {}, finished.synthetic_files or {}, material.attributes, frames)
    return nearest_pairs(material, videos, ranks=ranks)


def clip_table(folder: Path, record: Mapping[str, Any]) -> pd.DataFrame | None:
    """The clips of the three sets with their attributes: columns clip_id, set, and what the manifests say of them."""
    parts = []
    for name in ("real", "synthetic"):
        given = Path(str(record.get("identity", {}).get(name, "")))
        place = (given if is_store(given) else folder / f"latents-{name}") / CLIPS
        if not place.is_file():
            return None
        table = pd.read_parquet(place)
        parts.append(table.assign(set=table["split"] if name == "real" else name))
    both = pd.concat(parts, ignore_index=True)
    return both[both["set"].isin(SETS)].reset_index(drop=True)


def _exact_copies(folder: Path) -> dict[str, str]:
    """The real clip of each synthetic one whose every frame is the same, where both sets were given as files."""
    files = [folder / f"check-{name}" / FINGERPRINTS for name in ("real", "synthetic")]
    if not all(file.is_file() for file in files):
        return {}
    real, synthetic = map(read_json, files)
    of_real = {fingerprint: clip_id for clip_id, fingerprint in real.items()}
    return {clip_id: of_real[fingerprint] for clip_id, fingerprint in synthetic.items() if fingerprint in of_real}


@dataclass(frozen=True)
class _Videos:
    """Clips by set and clip_id, read when they are needed."""

    real: Mapping[str, Path]
    synthetic: Mapping[str, Path]
    attributes: pd.DataFrame | None
    frames: FrameTransform

    @property
    def any(self) -> bool:
        """Whether both sides have videos."""
        return bool(self.real and self.synthetic)

    def has(self, part: str, clip_id: str) -> bool:
        """Whether there is a video, not only latents."""
        file = self._files(part).get(clip_id)
        return file is not None and file.suffix.lower() not in LATENT_SUFFIXES

    def clip(self, part: str, clip_id: str) -> np.ndarray:
        """All frames, (T, H, W) or (T, H, W, 3)."""
        return _read(self._files(part)[clip_id], self.frames)

    def fps(self, part: str, clip_id: str) -> float:
        """Frames per second, or what is shown per second where nobody knows."""
        known = self.frames.target_fps or self._rates.get((part, clip_id))
        return known if known is not None and np.isfinite(known) and known > 0 else SHOWN_FPS

    @cached_property
    def _rates(self) -> dict[tuple[str, str], float]:
        table = self.attributes
        if table is None or "fps" not in table:
            return {}
        keys = zip(table["set"].astype(str), table["clip_id"].astype(str), strict=True)
        return dict(zip(keys, table["fps"].astype(float), strict=True))

    def _files(self, part: str) -> Mapping[str, Path]:
        return self.synthetic if part == "synthetic" else self.real


@lru_cache(maxsize=64)  # neighbours in the gallery often share a train clip
def _read(file: Path, frames: FrameTransform) -> np.ndarray:
    return read_clip(file, frames)


def nearest_pairs(material: Material, videos: _Videos, *, ranks: range) -> list[Pair]:
    """Exact copies, then pairs by falling similarity, as far as their pictures fit; pictures where there are videos."""
    ranked = material.samples.assign(copied=material.samples["copy_of"].notna())
    closest = ranked.sort_values(["copied", "p_max", "clip_id"], ascending=[False, False, True])
    ef = _ejection(material.attributes)
    found: list[Pair] = []
    size = 0
    for row in closest.iloc[ranks.start : ranks.stop].to_dict("records"):
        pair = _pair(row, ef, videos)
        size += len(pair.picture)
        if size > PICTURES_BYTES and found:
            break
        found.append(pair)
    return found


def _pair(row: Mapping[Any, Any], ef: Mapping[str, tuple[float, str]], videos: _Videos) -> Pair:
    clip_id, train_id = str(row["clip_id"]), str(row["nearest_clip_id"])
    value, stratum = ef.get(clip_id, (None, ""))
    shown = videos.has("synthetic", clip_id) and videos.has("train", train_id)
    return Pair(
        clip_id=clip_id,
        train_clip_id=train_id,
        train_patient_id=str(row["nearest_patient_id"]),
        similarity=float(row["p_max"]),
        learned_for=bool(row["gated"]),
        ssim=None if pd.isna(row["ssim"]) else float(row["ssim"]),
        copy_of=str(row["copy_of"]) if row["copied"] else "",
        ef=value,
        stratum=stratum,
        picture=_side_by_side(row, clip_id, train_id, videos) if shown else "",
    )


def _side_by_side(row: Mapping[Any, Any], clip_id: str, train_id: str, videos: _Videos) -> str:
    clips = videos.clip("synthetic", clip_id), videos.clip("train", train_id)
    rates = videos.fps("synthetic", clip_id), videos.fps("train", train_id)
    *shown, frame_s = in_step(
        (len(clips[0]), len(clips[1])), rates, (int(row["query_frame"]), int(row["gallery_frame"]))
    )
    return film_uri(*(clip[part] for clip, part in zip(clips, shown, strict=True)), frame_s=frame_s)


def in_step(
    n_frames: tuple[int, int], fps: tuple[float, float], matched: tuple[int, int]
) -> tuple[np.ndarray, np.ndarray, float]:
    """Which frames of two clips stand side by side so that their most similar frames meet and time runs alike.

    Args:
        n_frames: of each clip.
        fps: of each clip.
        matched: the frame of each that is most like one of the other.

    Returns:
        Frame numbers of each, (T,), T at most ``MOST_FRAMES``, as long as both clips last; and seconds per frame.
    """
    step_s = 1.0 / min(*fps, SHOWN_FPS)
    # A last step that lies a hair beyond the clip, by rounding alone, is its last frame.
    before = min(int(m / r / step_s + 1e-6) for m, r in zip(matched, fps, strict=True))
    after = min(int((n - 1 - m) / r / step_s + 1e-6) for n, m, r in zip(n_frames, matched, fps, strict=True))
    first = -min(before, max(MOST_FRAMES // 2, MOST_FRAMES - 1 - after))
    ticks = np.arange(first, min(after, first + MOST_FRAMES - 1) + 1) * step_s
    one, two = (m + np.floor(ticks * r + 1e-6).astype(int) for m, r in zip(matched, fps, strict=True))
    return one, two, step_s


def _ejection(attributes: pd.DataFrame | None) -> dict[str, tuple[float, str]]:
    """EF and its stratum of each synthetic clip that has one."""
    if attributes is None or "ef" not in attributes:
        return {}
    clips = attributes[(attributes["set"] == "synthetic") & attributes["ef"].notna()]
    if clips.empty:
        return {}
    names, code = strata(clips["ef"].to_numpy(dtype=object), attribute="ef")
    return {str(c): (float(v), names[k]) for c, v, k in zip(clips["clip_id"], clips["ef"], code, strict=True)}


def _missed(material: Material, videos: _Videos) -> list[Portrait]:
    """Train clips that are nobody's nearest, evenly over the groups of ejection fraction."""
    if material.attributes is None:
        return []
    train = material.attributes[material.attributes["set"] == "train"]
    lost = train[~train["clip_id"].isin(hits_per_clip(material.samples).index)]
    if lost.empty:
        return []
    ef = (
        lost["ef"].astype(object).where(lost["ef"].notna(), None) if "ef" in lost else pd.Series(None, index=lost.index)
    )
    names, code = strata(ef.to_numpy(dtype=object), attribute="ef")
    share = max(1, MOST_MISSED // len(names))
    chosen = [row for group in range(len(names)) for row in _spread(np.flatnonzero(code == group), share)]
    return [
        Portrait(
            clip_id=str(row["clip_id"]),
            patient_id=str(row["patient_id"]),
            group=f"EF {names[code[number]]}" if len(names) > 1 else "",
            picture=_alone("train", str(row["clip_id"]), videos, side_px=112, most=MOST_FRAMES),
        )
        for number, row in ((n, lost.iloc[n]) for n in chosen[:MOST_MISSED])
        if videos.has("train", str(row["clip_id"]))
    ]


def _spread(rows: np.ndarray, count: int) -> np.ndarray:
    return rows[np.unique(np.linspace(0, len(rows) - 1, min(count, len(rows))).round().astype(int))]


def _alone(part: str, clip_id: str, videos: _Videos, *, side_px: int, most: int) -> str:
    clip, fps = videos.clip(part, clip_id), videos.fps(part, clip_id)
    step = max(1, -(-len(clip) // most) if most < MOST_FRAMES else round(fps / SHOWN_FPS))
    return film_uri(clip[::step][:most], side_px=side_px, frame_s=step / fps)


def _thumbnails(material: Material, pairs: list[Pair], videos: _Videos) -> dict[tuple[str, str], str]:
    """Small pictures for the map: of the pairs first, then of clips all over it, as many as the page has room for."""
    if material.places is None:
        return {}
    wanted = list(dict.fromkeys([*_of_pairs(pairs), *over_the_map(material.places)]))
    kept = [(part, clip_id) for part, clip_id in wanted if videos.has(part, clip_id)][:MOST_THUMBNAILS]
    return {key: _alone(*key, videos, side_px=THUMBNAIL_PX, most=THUMBNAIL_FRAMES) for key in kept}


def _of_pairs(pairs: list[Pair]) -> Iterator[tuple[str, str]]:
    for pair in pairs[: MOST_THUMBNAILS // 4]:
        yield "synthetic", pair.clip_id
        yield "train", pair.train_clip_id


def over_the_map(places: pd.DataFrame) -> Iterator[tuple[str, str]]:
    """All clips of the map as (set, clip_id), in an order of which any beginning lies all over it, in every set.

    Args:
        places: columns clip_id, set, x, y.
    """
    side = max(1, int(np.sqrt(MOST_THUMBNAILS / 2)))
    column, row = ((places[axis].rank(pct=True) * side).astype(int) for axis in ("x", "y"))
    turn = places.groupby([places["set"], column, row]).cumcount()
    order = np.lexsort((generator(0, "thumbnails").permutation(len(places)), turn))
    yield from zip(places["set"].astype(str).iloc[order], places["clip_id"].astype(str).iloc[order], strict=True)
