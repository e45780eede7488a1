"""Clusters of clips that look alike to a re-identification model: classes of an image model that cover all patients.

A sampler that gives every cluster the same share needs no features of train clips while it samples, and cannot leave a
corner of the train set out.
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
    """The cluster of each clip of a store, (N,); k-means over the mean features of the train clips.

    Features weigh as much as the re-identification head gives them. Clips that are not of train join the nearest.

    Raises:
        TooFewSamples: with fewer train clips than clusters.
        Mismatch: if the model was trained on latents of another VAE or scaling.
    """
    reid.require_store(store)
    train = (store.clips["split"] == "train").to_numpy()
    if train.sum() < count:
        raise TooFewSamples(
            f"{store.folder}: expected at least {count} train clips for as many clusters, found {train.sum()}; "
            f"lower --set lidm.clusters"
        )
    found = extract_features(store, store.clips, reid.embed, frames_per_clip=FRAMES_PER_CLIP)
    sums = np.zeros((len(store.clips), found.values.shape[1]))
    np.add.at(sums, found.clip, found.values)
    points = sums / np.bincount(found.clip)[:, None] * np.abs(reid.network.search_head().weight)
    try:
        centres, _ = kmeans2(points[train], count, minit="++", rng=generator(seed, "clusters"), missing="raise")
    except ClusterError as error:
        raise TooFewSamples(f"{store.folder}: {error}; lower --set lidm.clusters") from error
    return np.asarray(vq(points, centres)[0], dtype=np.int64)
