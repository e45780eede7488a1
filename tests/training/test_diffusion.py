from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mnemoscope.core.errors import CorruptFile, InputError, Mismatch, TooFewSamples
from mnemoscope.models.generator import noise_schedule
from mnemoscope.models.lidm import build_lidm, save_lidm
from mnemoscope.training.diffusion import (
    Draws,
    begin,
    class_numbers,
    drawn_noise,
    even_steps,
    mean_over,
    noisy,
    train_and_val,
)
from tests.tiny_generators import LIDM, coded_frames, tiny_lidm, tiny_record, write_cohort
from tests.toys import ToyClip, noise_clips, write_store

KEY = ("noise", 3, 7)


@pytest.mark.parametrize("shape", [(5, 2, 3, 3), (5, 4, 2, 3, 3)])
def test_noisy_latents_and_v_are_those_of_diffusers(shape: tuple[int, ...]) -> None:
    schedule, t = noise_schedule(), torch.tensor([0, 1, 500, 998, 999])
    x, noise = torch.randn(2, *shape, generator=torch.Generator().manual_seed(0))
    noised, v = noisy(schedule, x, noise, t)
    torch.testing.assert_close(noised, schedule.add_noise(x, noise, t))
    torch.testing.assert_close(v, schedule.get_velocity(x, noise, t))


@given(t=st.integers(0, 999), x=st.floats(-4, 4), noise=st.floats(-4, 4))
def test_clean_latents_and_noise_follow_from_noisy_ones_and_v(t: int, x: float, noise: float) -> None:
    schedule = noise_schedule()
    clean, drawn = (torch.tensor([[value]], dtype=torch.float64) for value in (x, noise))
    noised, v = noisy(schedule, clean, drawn, torch.tensor([t]))
    alpha = schedule.alphas_cumprod[t].double()
    a, b = alpha.sqrt(), (1 - alpha).sqrt()
    torch.testing.assert_close(a * noised - b * v, clean, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(b * noised + a * v, drawn, rtol=1e-5, atol=1e-5)


def test_noise_depends_on_seed_and_name_alone() -> None:
    first = drawn_noise(0, KEY, (2, 3, 3))
    np.random.default_rng(0).random()
    np.testing.assert_array_equal(drawn_noise(0, KEY, (2, 3, 3)), first)
    for other in (drawn_noise(1, KEY, (2, 3, 3)), drawn_noise(0, ("noise", 3, 8), (2, 3, 3))):
        assert (other != first).all()


def test_noise_is_standard_normal() -> None:
    """By the standard errors of mean and standard deviation, five of them."""
    noise = drawn_noise(0, KEY, (4, 50, 50)).astype(np.float64)
    assert noise.mean() == pytest.approx(0, abs=5 / noise.size**0.5)
    assert noise.std() == pytest.approx(1, abs=5 / (2 * noise.size) ** 0.5)
    assert abs(noise).max() > 3


@pytest.mark.parametrize("shape", [(3, 4, 4), (6, 3, 4, 4)])
@pytest.mark.parametrize("offset", [0.1, 2.0])
def test_offset_noise_adds_one_number_a_channel(shape: tuple[int, ...], offset: float) -> None:
    plain, moved = drawn_noise(0, KEY, shape), drawn_noise(0, KEY, shape, offset=offset)
    assert moved.dtype == plain.dtype == np.float32
    added = (moved - plain).reshape(-1, 3, 16)
    np.testing.assert_allclose(added, np.broadcast_to(added[:1, :, :1], added.shape), atol=1e-5)
    assert len(np.unique(added[0, :, 0].round(3))) == 3


def test_the_offset_has_the_weight_asked_for() -> None:
    added = np.array(
        [drawn_noise(0, (i,), (4, 1, 1), offset=0.5) - drawn_noise(0, (i,), (4, 1, 1)) for i in range(500)]
    )
    assert added.std() == pytest.approx(0.5, abs=0.5 * 5 / (2 * added.size) ** 0.5)


@given(count=st.integers(1, 1000))
def test_even_steps_are_the_middles_of_equal_parts(count: int) -> None:
    steps = even_steps(count)
    edges = np.arange(count + 1) * 1000 / count
    assert [int((a + b) / 2 + 1e-9) for a, b in pairwise(edges)] == steps.tolist()
    assert (steps[0], steps[-1]) == (int(500 / count + 1e-9), 999 - int((500 - 1e-9) / count))


@pytest.mark.parametrize(
    ("count", "total", "expected"), [(1, 1000, [500]), (2, 1000, [250, 750]), (3, 3, [0, 1, 2]), (0, 1000, [])]
)
def test_even_steps_of_small_cases(count: int, total: int, expected: list[int]) -> None:
    assert even_steps(count, total).tolist() == expected


def test_all_steps_are_seen_where_there_are_as_many() -> None:
    assert even_steps(1000).tolist() == list(range(1000))
    assert set(even_steps(3000).tolist()) == set(range(1000))


def clips(view: list[object]) -> pd.DataFrame:
    return pd.DataFrame({"clip_id": [f"c{i}" for i in range(len(view))], "view": view})


def test_classes_are_numbered_by_their_names_in_order() -> None:
    names, numbers = class_numbers(clips(["psax", "a4c", "plax", "a4c"]), "view")
    assert names == ("a4c", "plax", "psax")
    assert numbers.tolist() == [2, 0, 1, 0]
    assert [names[number] for number in numbers] == ["psax", "a4c", "plax", "a4c"]


def test_numbers_are_names_too() -> None:
    names, numbers = class_numbers(clips([10, 2, 10]), "view")
    assert (names, numbers.tolist()) == (("10", "2"), [0, 1, 0])


def test_without_a_column_there_are_no_classes() -> None:
    names, numbers = class_numbers(clips(["a", None, "b"]), None)
    assert (names, numbers.tolist(), numbers.dtype) == ((), [0, 0, 0], np.int64)


def test_an_absent_column_and_gaps_are_refused() -> None:
    with pytest.raises(InputError, match=r"--set classes=cluster: expected a column .* found clip_id, view"):
        class_numbers(clips(["a"]), "cluster")
    with pytest.raises(InputError, match=r"view: 2 clip\(s\) have no class, such as c1; fill the column"):
        class_numbers(clips(["a", None, float("nan")]), "view")


@given(st.lists(st.tuples(st.floats(-9, 9), st.integers(1, 9)), min_size=1, max_size=6))
def test_blocks_weigh_as_many_as_they_have(blocks: list[tuple[float, int]]) -> None:
    losses, sizes = [torch.tensor(loss) for loss, _ in blocks], [size for _, size in blocks]
    one_by_one = np.repeat([float(loss) for loss in losses], sizes)
    assert mean_over(losses, sizes) == pytest.approx(one_by_one.mean(), abs=1e-6)


def test_no_blocks_have_no_mean_and_sizes_must_match() -> None:
    assert np.isnan(mean_over([], []))
    with pytest.raises(ValueError, match="zip"):
        mean_over([torch.tensor(1.0)], [])


def test_train_and_val_clips_are_told_apart(tmp_path: Path) -> None:
    frames = [clip.frames for clip in noise_clips([2, 3, 2, 2]).values()]
    splits = ("val", "train", "holdout", "train")
    rows = {f"c{i}": ToyClip(f, f"p{i}", s) for i, (f, s) in enumerate(zip(frames, splits, strict=True))}
    train, val = train_and_val(write_store(tmp_path / "store", rows))
    assert (train["clip_id"].tolist(), val["clip_id"].tolist()) == (["c1", "c3"], ["c0"])


def test_pixels_and_missing_splits_are_refused(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (3, 1, 4, 4)).astype(np.uint8)
    image = write_store(tmp_path / "image", {"a": ToyClip(pixels, "p")}, space="image")
    with pytest.raises(InputError, match=r"image: holds pixels.*--space latent"):
        train_and_val(image)
    with pytest.raises(TooFewSamples, match=r"expected train and val clips, found 2 and 0; .*val_share"):
        train_and_val(write_store(tmp_path / "latents", noise_clips([2, 2])))


def test_a_training_starts_from_a_model_of_its_own_kind_only(tmp_path: Path) -> None:
    frames = [coded_frames(i, 4) for i in range(2)]
    store = write_cohort(tmp_path / "store", frames, splits=("train", "val"), columns={})
    fitting = replace(tiny_record("lidm"), encoder=store.record.encoder)  # its scaling constants are others
    foreign, named = replace(fitting, encoder="another"), replace(fitting, classes=("a",))
    for name, record in (("fit", fitting), ("foreign", foreign), ("named", named)):
        save_lidm(tmp_path / name, tiny_lidm(seed=5), record)
    fresh, untouched = tiny_lidm(), tiny_lidm().state_dict()
    begin(fresh.unet, None, "lidm", store, ())
    assert all(torch.equal(value, untouched[key]) for key, value in fresh.state_dict().items())
    begin(fresh.unet, str(tmp_path / "fit"), "lidm", store, ())
    expected = tiny_lidm(seed=5).state_dict()
    assert all(torch.equal(value, expected[key]) for key, value in fresh.state_dict().items())
    with pytest.raises(Mismatch, match="encode"):
        begin(fresh.unet, str(tmp_path / "foreign"), "lidm", store, ())
    with pytest.raises(Mismatch, match="classes"):
        begin(fresh.unet, str(tmp_path / "named"), "lidm", store, ())
    with pytest.raises(InputError, match="train one"):
        begin(fresh.unet, str(tmp_path / "nowhere"), "lidm", store, ())
    wider = build_lidm(LIDM.model_copy(update={"channels": (16, 48)}), frame_shape=(2, 4, 4), n_classes=0)
    with pytest.raises(CorruptFile, match="fit"):
        begin(wider.unet, str(tmp_path / "fit"), "lidm", store, ())


@given(groups=st.lists(st.integers(0, 20), min_size=1, max_size=30), evenness=st.floats(0, 1))
def test_a_group_weighs_its_count_to_the_power_of_one_minus_evenness(groups: list[int], evenness: float) -> None:
    chances = Draws(np.array(groups), evenness=evenness).chances
    assert chances.sum() == pytest.approx(1)
    weights = {group: groups.count(group) ** (1 - evenness) for group in set(groups)}
    for group, weight in weights.items():
        members = chances[np.array(groups) == group]
        assert members.sum() == pytest.approx(weight / sum(weights.values()))
        np.testing.assert_allclose(members, members[0])


@pytest.mark.parametrize(
    ("evenness", "expected"),
    [(0.0, [0.25] * 4), (1.0, [1 / 6, 1 / 6, 1 / 6, 1 / 2]), (0.5, [0.21132, 0.21132, 0.21132, 0.36603])],
)
def test_chances_of_a_small_case(evenness: float, expected: list[float]) -> None:
    """A group of three and one alone: at 0.5, √3 stands against 1."""
    np.testing.assert_allclose(Draws(np.array(["a", "a", "a", "b"]), evenness=evenness).chances, expected, atol=1e-5)


@given(groups=st.lists(st.integers(0, 3), min_size=1, max_size=9), evenness=st.floats(0, 1))
def test_shares_spread_over_all_draw_each_item_by_its_chance(groups: list[int], evenness: float) -> None:
    draws, n = Draws(np.array(groups), evenness=evenness), 3000
    items = [draws.at((k + 0.5) / n) for k in range(n)]
    np.testing.assert_allclose(np.bincount(items, minlength=len(groups)) / n, draws.chances, atol=1 / n)
    assert draws.at(np.nextafter(1.0, 0.0)) == len(groups) - 1
