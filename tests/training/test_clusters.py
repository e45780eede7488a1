from pathlib import Path

import numpy as np
import pytest

from mnemoscope.core.errors import Mismatch, TooFewSamples
from mnemoscope.latents.store import LatentStore
from mnemoscope.training.clusters import clip_clusters
from tests.sampling.tiny_models import SHAPE, tiny_reid
from tests.tiny_generators import write_cohort
from tests.toys import ToyClip, write_store

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


def test_a_patient_counts_once_however_often_it_was_recorded(tmp_path: Path) -> None:
    """One patient in forty clips of two looks, which lie further apart than two patients of one clip each."""
    rng = np.random.default_rng(1)
    often, once = rng.normal(size=(2, *SHAPE)) * 2
    look, other = rng.normal(size=(2, *SHAPE))
    shown = {f"often{i:02d}": often + (-1) ** i * look / 2 for i in range(40)} | {"once": once, "too": once + other / 2}
    clips = {
        name: ToyClip((picture + rng.normal(size=(2, *SHAPE)) / 50).astype(np.float16), name.rstrip("0123456789"))
        for name, picture in shown.items()
    }
    store = write_store(tmp_path / "store", clips)
    found = clip_clusters(store, tiny_reid(scaling=store.record.scaling, encoder=store.record.encoder), count=3, seed=0)
    assert set(found[:40]) == {found[0]}
    assert len(set(found)) == 3


def test_more_clusters_than_train_patients_are_refused(store: LatentStore) -> None:
    reid = tiny_reid(scaling=store.record.scaling, encoder=store.record.encoder)
    with pytest.raises(TooFewSamples, match=r"at least 7 train patients.*found 6.*lidm\.clusters"):
        clip_clusters(store, reid, count=7, seed=0)


def test_a_model_of_other_latents_is_refused(store: LatentStore) -> None:
    with pytest.raises(Mismatch, match="another"):
        clip_clusters(store, tiny_reid(scaling=store.record.scaling, encoder="another"), count=2, seed=0)
