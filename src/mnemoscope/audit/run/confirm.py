"""Confirm: a second look at the most similar pairs, by the structure of their decoded frames."""

from pathlib import Path

import numpy as np
import pandas as pd

from mnemoscope.audit.evidence import aligned_ssim, judge
from mnemoscope.audit.matching import Matches
from mnemoscope.core.errors import DegenerateValues, TooFewSamples
from mnemoscope.core.files import whole_file
from mnemoscope.core.provenance import Run
from mnemoscope.core.types import Evidence
from mnemoscope.data.clips import LATENT_SUFFIXES
from mnemoscope.data.transform import FrameTransform
from mnemoscope.data.video import read_clip

_TABLE = "evidence.parquet"
Files = dict[str, Path]


def most_similar(found: Matches, *, count: int) -> np.ndarray:
    """Numbers of the ``count`` queries with the highest p_max, ties by number."""
    return np.sort(np.argsort(-found.p_max, kind="stable")[:count])


def pair_similarity(
    run: Run,
    name: str,
    query_ids: np.ndarray,
    query_files: Files,
    found: Matches,
    train_ids: np.ndarray,
    train_files: Files,
    *,
    chosen: np.ndarray,
    frames: FrameTransform,
) -> np.ndarray:
    """Aligned SSIM of the best frame pair of each chosen query; NaN where a frame shows nothing to compare.

    Args:
        run: keeps the result as a stage.
        name: of the query set.
        query_ids: clip_id of each query.
        query_files: where they lie.
        found: their nearest train clips.
        train_ids: clip_id of each train clip.
        train_files: where they lie.
        chosen: numbers of queries, (n,).
        frames: how frames are brought to one size.

    Returns:
        (n,) float64.

    Raises:
        TooFewSamples: if only latents were given; the reason why there is no second look.
    """
    pairs = [
        (str(query_ids[i]), int(found.query_frame[i]), str(train_ids[found.nearest[i]]), int(found.gallery_frame[i]))
        for i in chosen
    ]
    used = [query_files.get(q) for q, *_ in pairs] + [train_files.get(t) for _, _, t, _ in pairs]
    if any(file is None or file.suffix.lower() in LATENT_SUFFIXES for file in used):
        raise TooFewSamples("a second look needs videos of both sets, only latents were given (--real, --synthetic)")

    def make(folder: Path) -> None:
        values = [
            _similarity(_gray(query_files[q], i, frames), _gray(train_files[t], j, frames)) for q, i, t, j in pairs
        ]
        with whole_file(folder / _TABLE) as temporary:
            pd.DataFrame({"ssim": values}).to_parquet(temporary, index=False)

    inputs = {"pairs": pairs, "frames": [frames.height, frames.width, frames.fit]}
    return pd.read_parquet(run.stage(f"evidence-{name}", inputs, make) / _TABLE)["ssim"].to_numpy(np.float64)


def _gray(file: Path, number: int, frames: FrameTransform) -> np.ndarray:
    frame = read_clip(file, frames, frames=[number])[0]
    return frame if frame.ndim == 2 else np.rint(frame.mean(axis=-1)).astype(np.uint8)


def _similarity(a: np.ndarray, b: np.ndarray) -> float:
    try:
        return aligned_ssim(a, b)
    except DegenerateValues:
        return float("nan")


def second_look(ssim_candidates: np.ndarray, ssim_innocents: np.ndarray, flagged: np.ndarray) -> Evidence:
    """Which flags the second look confirms, pairs without a picture left out."""
    seen = ~np.isnan(ssim_candidates)
    return judge(ssim_candidates[seen], ssim_innocents[~np.isnan(ssim_innocents)], flagged=flagged[seen])
