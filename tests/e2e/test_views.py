"""One image and one video model over cohorts of three views, as the paper trains one for three data sets."""

from pathlib import Path

import numpy as np
import pytest

from mnemoscope.cli.encode import EncodeConfig, encode
from mnemoscope.cli.phantom import PhantomConfig, phantom
from mnemoscope.cli.sample import ImagesConfig, VideosConfig, sample_images, sample_videos
from mnemoscope.cli.train import LidmConfig, LvdmConfig, train_lidm_model, train_lvdm_model
from mnemoscope.latents.store import LatentStore
from mnemoscope.models.lvdm import load_lvdm
from mnemoscope.phantom.anatomy import VIEWS

pytestmark = pytest.mark.slow

LOOP = {"batch_size": 16, "learning_rate": 3e-3, "checkpoint_every_steps": 1000}
LIDM = {
    "architecture": {"channels": [32, 64], "attention": [False, True], "head_channels": 16},
    "classes": "view",
    "loop": LOOP | {"epochs": 8},
}
LVDM = {
    "architecture": {"channels": [32, 32], "attention": [False, True], "heads": [1, 2], "time_channels": 4},
    "classes": "view",
    "window_frames": 4,
    "loop": LOOP | {"epochs": 1},
}


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> LatentStore:
    place = tmp_path_factory.mktemp("views")
    for view in VIEWS:
        phantom(place / view, config=PhantomConfig(view=view, patients=12, frames=5, fps=12.0, seed=5))
    config = EncodeConfig(views={view: view for view in VIEWS})
    return encode(*(place / view for view in VIEWS), out=place / "latents", config=config)


@pytest.fixture(scope="module")
def lidm(store: LatentStore, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train_lidm_model(store=store.folder, out=tmp_path_factory.mktemp("lidm"), config=LidmConfig(lidm=LIDM))


def test_frames_of_a_view_look_like_that_view(store: LatentStore, lidm: Path, tmp_path: Path) -> None:
    """The mean frame of a class is nearest to the mean train frame of its own view."""
    train = store.of_split("train")
    means = [
        np.mean([latents.mean(axis=0) for _, latents in store.clips_of(train[train["view"] == view])], axis=0)
        for view in VIEWS
    ]
    for number, view in enumerate(VIEWS):
        config = ImagesConfig(lidm=str(lidm), class_name=view, count=24, steps=8, latents_only=True)
        made = sample_images(out=tmp_path / view, config=config).latents
        mean = made.frames(np.arange(24)).astype(np.float32).mean(axis=0)
        assert np.argmin([np.square(mean - real).mean() for real in means]) == number


def test_a_video_model_of_three_views_makes_videos_of_each(store: LatentStore, lidm: Path, tmp_path: Path) -> None:
    lvdm = train_lvdm_model(store=store.folder, out=tmp_path / "lvdm", config=LvdmConfig(lvdm=LVDM))
    assert load_lvdm(lvdm)[1].classes == tuple(sorted(VIEWS))
    found = []
    for view in (*VIEWS, None):
        config = VideosConfig(
            lidm=str(lidm), lvdm=str(lvdm), class_name=view, count=1, frames=4, steps=2, latents_only=True
        )
        made = sample_videos(out=tmp_path / str(view), config=config).latents
        assert made.clips["view"].dropna().tolist() == ([] if view is None else [view])
        found.append(made.frames(np.arange(4)))
    assert all(not np.array_equal(a, b) for i, a in enumerate(found) for b in found[:i])
