"""Place: where clips lie on a map, near each other if the re-identification model finds them alike (t-SNE)."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from jaxtyping import Float

from mnemoscope.audit.run.stages import load_features
from mnemoscope.core.errors import Mismatch, TooFewSamples
from mnemoscope.core.files import read_json, whole_file
from mnemoscope.core.provenance import STAGE_FILE
from mnemoscope.core.rng import generator
from mnemoscope.latents.features import FrameFeatures
from mnemoscope.models.reid import load_reid
from mnemoscope.report.gather import clip_table
from mnemoscope.report.material import SETS
from mnemoscope.search import L1, nearest

MAP_FILE = "map.parquet"
MOST_LANDMARKS = 5000
PERPLEXITY = 30.0
EARLY_ROUNDS, ROUNDS = 100, 300
_BETWEEN = 3
_METADATA_KEY = b"mnemoscope"


def embed_map(
    features: Float[np.ndarray, "N D"], *, seed: int = 0, most_landmarks: int = MOST_LANDMARKS
) -> Float[np.ndarray, "N 2"]:
    """t-SNE of clips by the sum of absolute differences; of many, landmarks are laid out and the rest put between.

    Args:
        features: one vector per clip, float32 (N, D), N at least 4; times the head's weights, their distance is that
            of the head.
        seed: of the choice of landmarks.
        most_landmarks: clips that are laid out. Each other clip comes to the mean of its three nearest landmarks,
            weighted by the inverse square of the distance: a copy of a landmark lies on it.

    Raises:
        TooFewSamples: with fewer than four clips.

    Source: van der Maaten and Hinton 2008; openTSNE (Poličar et al. 2024).
    """
    if len(features) < 4:
        raise TooFewSamples(f"a map needs at least 4 clips, found {len(features)}; add clips (--real, --synthetic)")
    chosen = np.sort(generator(seed, "landmarks").permutation(len(features))[:most_landmarks])
    places = np.empty((len(features), 2))
    places[chosen] = laid_out = _tsne(features[chosen])
    rest = np.setdiff1d(np.arange(len(features)), chosen)
    found = nearest(features[rest], features[chosen], L1(), k=min(_BETWEEN, len(chosen)))
    weight = 1.0 / np.maximum(-found.similarity.astype(np.float64), 1e-6) ** 2
    places[rest] = np.einsum("nk,nkd->nd", weight / weight.sum(axis=1, keepdims=True), laid_out[found.index])
    return places


def _tsne(features: np.ndarray) -> np.ndarray:
    from openTSNE import TSNEEmbedding, initialization  # heavy: only a map that is not kept needs it
    from openTSNE.affinity import PerplexityBasedNN
    from openTSNE.nearest_neighbors import PrecomputedNeighbors

    if not np.ptp(features, axis=0).any():
        return np.zeros((len(features), 2))  # copies of one clip lie where it lies
    perplexity = min(PERPLEXITY, (len(features) - 1) / 3)
    found = nearest(features, features, L1(), k=min(len(features), int(3 * perplexity) + 1))
    # A clip is its own nearest; of equal clips another may come first, so it is taken out by its number.
    others = found.index != np.arange(len(features))[:, None]
    others[others.all(axis=1), -1] = False
    shape = (len(features), found.index.shape[1] - 1)
    distance = -found.similarity.astype(np.float64)[others].reshape(shape)
    affinities = PerplexityBasedNN(
        knn_index=PrecomputedNeighbors(found.index[others].reshape(shape), distance), perplexity=perplexity
    )
    start = initialization.pca(features.astype(np.float64), random_state=0)
    embedding = TSNEEmbedding(start, affinities, negative_gradient_method="fft" if len(features) > 1000 else "bh")
    embedding.optimize(EARLY_ROUNDS, exaggeration=12, momentum=0.5, inplace=True)
    embedding.optimize(ROUNDS, momentum=0.8, inplace=True)
    return np.asarray(embedding)


def kept_map(folder: Path, record: dict[str, Any], *, seed: int) -> pd.DataFrame | None:
    """The map of a finished audit, ``map.parquet`` (clip_id, set, x, y); made if it is absent or of other features.

    Args:
        folder: of the audit.
        record: its ``run.json``.
        seed: of the choice of landmarks.

    Returns:
        None where the audit kept no features, or the map would be of too few clips.
    """
    stage = folder / "features" / STAGE_FILE
    if not stage.is_file():
        return None
    key = str(read_json(stage).get("key"))
    kept = folder / MAP_FILE
    if kept.is_file() and json.loads((pq.read_schema(kept).metadata or {}).get(_METADATA_KEY, b"{}")) == key:
        return pd.read_parquet(kept)
    clips = clip_table(folder, record)
    if clips is None or len(clips) < 4:
        return None
    table = _made(folder, record, clips, seed=seed)
    arrow = pa.Table.from_pandas(table, preserve_index=False)
    with whole_file(kept) as temporary:
        pq.write_table(
            arrow.replace_schema_metadata({**arrow.schema.metadata, _METADATA_KEY: json.dumps(key)}), temporary
        )
    return table


def _made(folder: Path, record: dict[str, Any], clips: pd.DataFrame, *, seed: int) -> pd.DataFrame:
    given = record["config"].get("reid_model")
    head = load_reid(Path(given) if given else folder / "reid" / "model").network.search_head()
    weight = np.abs(head.weight).astype(np.float32)
    kept = load_features(folder / "features")
    means, names = [], []
    for name in SETS:
        mean, of_set = _clip_means(getattr(kept, name)), clips[clips["set"] == name]
        if len(mean) != len(of_set):
            raise Mismatch(
                f"{folder}: expected features of {len(of_set)} {name} clips, found {len(mean)}; run the audit again"
            )
        means.append(mean)
        names.append(of_set[["clip_id", "set"]])
    table = pd.concat(names, ignore_index=True)
    x, y = embed_map(np.concatenate(means) * weight, seed=seed).astype(np.float32).T
    return table.assign(x=x, y=y)


def _clip_means(features: FrameFeatures) -> np.ndarray:
    """The mean over each clip's frames, so that the phase of the heart does not part clips of one patient."""
    starts = np.flatnonzero(np.diff(features.clip, prepend=-1))
    count = np.diff(np.append(starts, len(features.clip)))
    return (np.add.reduceat(features.values, starts, axis=0) / count[:, None]).astype(np.float32)
