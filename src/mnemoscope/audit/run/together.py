"""Together: do the frames of a synthetic video hold together, and do they show the ejection fraction of their label?"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from mnemoscope.audit.consistency import SetFrames, consistency, strangers
from mnemoscope.audit.labels import label_fidelity
from mnemoscope.audit.run.settings import AuditConfig
from mnemoscope.core.errors import InputError, TooFewSamples
from mnemoscope.core.rng import generator
from mnemoscope.core.types import Consistency, Labels
from mnemoscope.data.clips import LATENT_SUFFIXES
from mnemoscope.data.video import probe, read_clip
from mnemoscope.latents.features import FrameFeatures
from mnemoscope.latents.store import LatentStore
from mnemoscope.models.ef_readers import ef_reader
from mnemoscope.search import Head, pair_scores

MOST_CLIPS = 200
MOST_FRAMES = 64
LAGS = 32


@dataclass(frozen=True)
class Watched:
    """Which clips are watched over time: rows of the real and of the synthetic table, and frames of each."""

    real: pd.DataFrame
    synthetic: pd.DataFrame
    frames: int

    def clip_ids(self) -> list[list[str]]:
        """Of both sets, for the record."""
        return [clips["clip_id"].astype(str).tolist() for clips in (self.real, self.synthetic)]


def watched(real: pd.DataFrame, synthetic: pd.DataFrame, *, seed: int) -> Watched:
    """Up to ``MOST_CLIPS`` clips of either set, with as many successive frames as most clips of both have.

    Raises:
        TooFewSamples: if most clips of a set have one frame only.
    """
    frames = min(MOST_FRAMES, *(int(clips["n_frames"].median()) for clips in (real, synthetic)))
    if frames < 2:
        raise TooFewSamples("consistency needs clips of at least two frames; give videos, or more frames of each")

    def chosen(clips: pd.DataFrame, name: str) -> pd.DataFrame:
        long_enough = clips[clips["n_frames"] >= frames].sort_values("clip_id").reset_index(drop=True)
        order = generator(seed, "watched", name).permutation(len(long_enough))[:MOST_CLIPS]
        return long_enough.iloc[np.sort(order)].reset_index(drop=True)

    return Watched(chosen(real, "real"), chosen(synthetic, "synthetic"), frames)


def successive(
    store: LatentStore, rows: pd.DataFrame, frames: int, embed: Callable[[np.ndarray], np.ndarray]
) -> FrameFeatures:
    """Features of the first ``frames`` frames of each clip."""
    values = [embed(store.read(int(first), frames)) for first in rows["first_frame"]]
    clip = np.repeat(np.arange(len(rows)), frames)
    return FrameFeatures(np.concatenate(values), clip, np.tile(np.arange(frames), len(rows)))


def hold_together(
    real: FrameFeatures, synthetic: FrameFeatures, real_patients: np.ndarray, head: Head, *, seed: int
) -> Consistency:
    """Consistency over successive frames; see :func:`mnemoscope.audit.consistency.consistency`.

    Args:
        real: as many frames of each holdout clip, (clips · T, D).
        synthetic: the same of synthetic clips.
        real_patients: of each real clip.
        head: of the model.
        seed: of the pairing with strangers and of the resampling.

    Raises:
        TooFewSamples: with too few clips or patients.
        DegenerateValues: if the features are all the same.
    """
    frames = int((real.clip == 0).sum())
    lags = np.unique(np.linspace(1, frames - 1, LAGS).round().astype(int))
    partner = strangers(real_patients, rng=generator(seed, "partners"))

    def logits(part: FrameFeatures, of: np.ndarray) -> np.ndarray:
        values = part.values.reshape(-1, frames, part.values.shape[1])
        pairs = np.repeat(values[:, 0], len(lags), axis=0), values[of][:, lags].reshape(-1, values.shape[2])
        return pair_scores(*pairs, head).reshape(len(values), len(lags)).astype(np.float64)

    def of_set(part: FrameFeatures) -> SetFrames:
        return SetFrames(logits(part, np.arange(part.clip[-1] + 1)), part.values, part.clip)

    return consistency(
        real=of_set(real),
        synthetic=of_set(synthetic),
        different_logits=logits(real, partner),
        partner=partner,
        real_patients=real_patients,
        lag_share=(lags / (frames - 1)).tolist(),
        rng=generator(seed, "consistency"),
    )


def labelled(clips: pd.DataFrame, files: dict[str, Path] | None, config: AuditConfig) -> Labels:
    """Requested against measured ejection fraction, read from frames by ``config.ef_reader`` or from a table.

    Args:
        clips: the synthetic clips; ``ef`` is what was requested.
        files: where they lie.
        config: settings.

    Raises:
        TooFewSamples: without requested or measured values; the reason why there is no such test.
        InputError: if the table of measured values is not readable or lacks its columns.
    """
    asked = clips[clips["ef"].notna()]
    if config.ef_reader is None and config.measured_ef is None:
        raise TooFewSamples(
            "nothing measures the ejection fraction here; name a reader (--ef-reader) or give a table "
            "of measured values (--measured-ef)"
        )
    if len(asked) == 0:
        raise TooFewSamples("the synthetic clips have no requested ejection fraction; give it in their table (EF)")
    measured = _of_clips(asked, config.measured_ef) if config.measured_ef else _read(asked, files, config)
    reader = str(config.measured_ef.name) if config.measured_ef else str(config.ef_reader)
    kept = asked[asked["clip_id"].isin(measured.index)]
    requested = kept["ef"].to_numpy(np.float64)
    return label_fidelity(
        requested, measured.loc[kept["clip_id"]].to_numpy(), reader=reader, rng=generator(config.seed, "labels")
    )


def _read(clips: pd.DataFrame, files: dict[str, Path] | None, config: AuditConfig) -> "pd.Series[float]":
    videos = {k: v for k, v in (files or {}).items() if v.suffix.lower() not in LATENT_SUFFIXES}
    rows = clips[clips["clip_id"].isin(list(videos))].sort_values("clip_id")
    order = generator(config.seed, "labels", "clips").permutation(len(rows))[:MOST_CLIPS]
    chosen = rows["clip_id"].iloc[np.sort(order)].tolist()
    if not chosen:
        raise TooFewSamples("only latents of the synthetic clips were given; an EF reader needs their videos")
    reader = ef_reader(str(config.ef_reader))
    frames = config.frames

    def measure(clip_id: str) -> float:
        rate = frames.target_fps or probe(videos[clip_id]).fps
        return reader(read_clip(videos[clip_id], frames), float(rate or np.nan))

    return pd.Series({clip_id: measure(clip_id) for clip_id in chosen})


def _of_clips(clips: pd.DataFrame, table: Path) -> "pd.Series[float]":
    values = measured_table(table)
    kept = values[values.index.isin(clips["clip_id"])]
    if len(kept) == 0:
        raise TooFewSamples(
            f"{table.name} measures none of the {len(clips)} synthetic clips: its ids are like {values.index[0]}, "
            f"theirs like {clips['clip_id'].iloc[0]}; use the same ids"
        )
    return kept


def measured_table(table: Path) -> "pd.Series[float]":
    """The column ``ef`` of a CSV by its ``clip_id``.

    Raises:
        InputError: if it cannot be read, is empty, lacks a column, names a clip twice, or holds what is no percentage.
    """
    expected = f"{table}: expected a CSV with the columns clip_id and ef (--measured-ef)"
    try:
        values = pd.read_csv(table, dtype={"clip_id": str}).set_index("clip_id")["ef"].astype(float)
    except KeyError as error:
        raise InputError(f"{expected}, found none named {error}; name the columns so") from error
    except (OSError, ValueError) as error:
        raise InputError(f"{expected}, got: {error}; correct the path or the file") from error
    if len(values) == 0:
        raise InputError(f"{expected}, found no rows; give one for each clip that was measured")
    double = values.index[values.index.duplicated()]
    if len(double):
        raise InputError(f"{expected}, one row for each clip; found {double[0]} more than once; keep one of them")
    wrong = values[~values.between(0, 100)]
    if len(wrong):
        raise InputError(f"{expected}, ef from 0 to 100; found {wrong.iloc[0]:g} for {wrong.index[0]}; correct it")
    return values
