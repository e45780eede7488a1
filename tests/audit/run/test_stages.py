from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mnemoscope.audit.run import stages
from mnemoscope.core.errors import ConfigError, InputError
from mnemoscope.core.files import read_json, write_json
from mnemoscope.latents.features import FrameFeatures, strided_frames
from mnemoscope.latents.store import LatentStore
from mnemoscope.search import WeightedL1
from tests.reference.tiny_audit import settings
from tests.toys import noise_clips, write_store


@given(st.integers(1, 40).flatmap(lambda count: st.tuples(st.integers(2 * count, 500), st.just(count))))
def test_frames_half_a_stride_further_are_not_in_the_gallery(sizes: tuple[int, int]) -> None:
    n_frames, count = sizes
    gallery, again = (strided_frames(n_frames, count, offset_share=share) for share in (0.0, 0.5))
    assert len(again) == count
    assert again.max() < n_frames
    assert not set(gallery) & set(again)


def test_in_a_shorter_clip_some_would_be() -> None:
    assert set(strided_frames(7, 4)) & set(strided_frames(7, 4, offset_share=0.5))


def test_settings_reach_the_recipe() -> None:
    recipe = stages.training_recipe(settings(reid={"loop": {"epochs": 7}, "objective": "pairs"}), channels=3)
    assert (recipe.loop.epochs, recipe.objective, recipe.architecture.channels) == (7, "pairs", 3)
    assert (recipe.architecture.space, recipe.architecture.head) == ("image", "monotone")
    untouched = stages.training_recipe(settings(reid={}), channels=3)
    assert recipe.loop.model_copy(update={"epochs": untouched.loop.epochs}) == untouched.loop
    paper = stages.training_recipe(settings(preset="paper", reid={}), channels=4)
    assert (paper.preset, paper.objective, paper.architecture.head) == ("paper", "pairs", "free")


def test_a_misspelt_recipe_names_the_nearest_key() -> None:
    with pytest.raises(
        ConfigError, match=r"reid\.loop\.learning_rat: unknown key; did you mean 'reid\.loop\.learning_rate'"
    ):
        stages.training_recipe(settings(reid={"loop": {"learning_rat": 1}}), channels=1)


def test_the_image_space_takes_gray_frames_alone() -> None:
    with pytest.raises(InputError, match=r"--set frames\.color=gray"):
        stages.make_encoder(settings(frames={"color": "rgb"}))
    assert stages.make_encoder(settings()).space == "image"


def test_matches_by_hand() -> None:
    """Two query clips of two frames against two gallery clips of two; logit 1 - |a - b|."""
    head = WeightedL1(weight=np.array([-1.0], np.float32), bias=1.0)

    def features(values: list[float]) -> FrameFeatures:
        return FrameFeatures(np.array(values, np.float32)[:, None], np.array([0, 0, 1, 1]), np.array([0, 3, 0, 3]))

    found = stages.matches(features([0.0, 4.0, 7.0, 20.0]), features([1.0, 10.0, 4.5, 30.0]), head, device="cpu")
    assert found.p_max.tolist() == [0.5, -1.5]
    assert found.nearest.tolist() == [1, 1]
    assert found.query_frame.tolist() == [3, 0]
    assert found.gallery_frame.tolist() == [0, 0]


@pytest.mark.parametrize(
    ("wanted", "brought_to", "rates", "frames", "expected"),
    [
        (32.0, None, [32.0, 32.0], [3, 2], 32.0),  # drawn at that rate, as videos of a generator are
        (32.0, None, [np.nan, np.nan], [1, 1], 32.0),  # single frames
        (32.0, None, [32.0, 25.0], [3, 2], None),
        (32.0, None, [32.0, np.nan], [3, 2], None),
        (32.0, 16.0, [32.0, 32.0], [3, 2], 16.0),
        (None, None, [32.0, 25.0], [3, 2], None),
    ],
)
def test_clips_made_at_the_rate_of_the_real_ones_need_not_be_brought_to_it(
    tmp_path: Path,
    wanted: float | None,
    brought_to: float | None,
    rates: list[float],
    frames: list[int],
    expected: float | None,
) -> None:
    def store(name: str, target_fps: float | None) -> LatentStore:
        made = write_store(tmp_path / name, noise_clips(frames), columns={"fps": rates})
        write_json(made.folder / "store.json", read_json(made.folder / "store.json") | {"target_fps": target_fps})
        return LatentStore(made.folder)

    assert stages.rate_beside(store("real", wanted), store("synthetic", brought_to)) == expected
