import numpy as np
import pytest

from mnemoscope.core.errors import Mismatch, TooFewSamples
from mnemoscope.latents.store import LatentStore
from mnemoscope.training.clusters import clip_clusters
from tests.sampling.tiny_models import SHAPE, tiny_reid
from tests.tiny_generators import write_cohort

GROUPS = (0, 1, 2, 0, 1, 2, 0, 2)
SPLITS = ("train",) * 6 + ("holdout", "val")


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> LatentStore:
    """Three kinds of picture, each in clips of several lengths with a little noise."""
    rng = np.random.default_rng(0)
    kinds = rng.normal(size=(3, *SHAPE)) * 2
    frames = [
        (kinds[group] + rng.normal(size=(3 + number % 2, *SHAPE)) / 50).astype(np.float16)
        for number, group in enumerate(GROUPS)
    ]
    return write_cohort(tmp_path_factory.mktemp("clusters") / "store", frames, splits=SPLITS, columns={})


def test_clips_of_one_kind_share_a_cluster_whatever_their_split(store: LatentStore) -> None:
    reid = tiny_reid(scaling=store.record.scaling, encoder=store.record.encoder)
    found = clip_clusters(store, reid, count=3, seed=0)
    assert found.dtype == np.int64
    assert {(group, int(cluster)) for group, cluster in zip(GROUPS, found, strict=True)} == set(
        zip(range(3), [int(found[GROUPS.index(group)]) for group in range(3)], strict=True)
    )
    assert sorted(set(found)) == [0, 1, 2]
    np.testing.assert_array_equal(clip_clusters(store, reid, count=3, seed=0), found)


def test_more_clusters_than_train_clips_are_refused(store: LatentStore) -> None:
    reid = tiny_reid(scaling=store.record.scaling, encoder=store.record.encoder)
    with pytest.raises(TooFewSamples, match=r"at least 7 train clips.*found 6.*lidm\.clusters"):
        clip_clusters(store, reid, count=7, seed=0)


def test_a_model_of_other_latents_is_refused(store: LatentStore) -> None:
    with pytest.raises(Mismatch, match="another"):
        clip_clusters(store, tiny_reid(scaling=store.record.scaling, encoder="another"), count=2, seed=0)
