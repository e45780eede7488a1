"""Clusters of clips that look alike to a re-identification model: classes of an image model that cover all patients.

A sampler that gives every cluster the same share needs no features of train clips while it samples, and cannot leave a
corner of the train set out. Each patient counts once when the clusters are made, however often it was recorded: even
clusters of clips would be those of the patients who come often, whom a sampler draws too often already.
"""

import numpy as np
from scipy.cluster.vq import ClusterError, kmeans2, vq

from mnemoscope.core.errors import TooFewSamples
from mnemoscope.core.rng import generator
from mnemoscope.latents.features import extract_features
from mnemoscope.latents.store import LatentStore
from mnemoscope.models.reid import ReidModel

FRAMES_PER_CLIP = 8


def clip_clusters(store: LatentStore, reid: ReidModel, *, count: int, seed: int) -> np.ndarray:
    """The cluster of each clip of a store, (N,); k-means over the mean features of the train patients.

    Features weigh as much as the re-identification head gives them. Every clip joins the nearest cluster.

    Raises:
        TooFewSamples: with fewer train patients than clusters.
        Mismatch: if the model was trained on latents of another VAE or scaling.
    """
    reid.require_store(store)
    train = (store.clips["split"] == "train").to_numpy()
    patients, number = np.unique(store.clips.loc[train, "patient_id"].astype(str), return_inverse=True)
    if len(patients) < count:
        raise TooFewSamples(
            f"{store.folder}: expected at least {count} train patients for as many clusters, found {len(patients)}; "
            f"lower --set lidm.clusters"
        )
    found = extract_features(store, store.clips, reid.embed, frames_per_clip=FRAMES_PER_CLIP)
    points = _means(found.values, found.clip) * np.abs(reid.network.search_head().weight)
    try:
        centres, _ = kmeans2(
            _means(points[train], number), count, minit="++", rng=generator(seed, "clusters"), missing="raise"
        )
    except ClusterError as error:
        raise TooFewSamples(f"{store.folder}: {error}; lower --set lidm.clusters") from error
    return np.asarray(vq(points, centres)[0], dtype=np.int64)


def _means(values: np.ndarray, group: np.ndarray) -> np.ndarray:
    """Mean of the rows of each group, (G, D)."""
    sums = np.zeros((group.max() + 1, values.shape[1]))
    np.add.at(sums, group, values)
    return np.asarray(sums / np.bincount(group)[:, None])
