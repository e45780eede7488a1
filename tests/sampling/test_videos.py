from dataclasses import replace
from functools import cache
from typing import get_args

import numpy as np
import pytest
import torch
from torch import Tensor

from mnemoscope.core.errors import ConfigError
from mnemoscope.models.lidm import Lidm
from mnemoscope.models.lvdm import Condition, Lvdm
from mnemoscope.sampling.samplers import denoise, sample_generators
from mnemoscope.sampling.videos import VideoSampling, sample_clips
from mnemoscope.sampling.windows import Merge
from tests.sampling.tiny_models import SHAPE, named_noise, record_of
from tests.tiny_generators import tiny_lidm, tiny_lvdm

IDS = ["a", "b", "c"]
EF = {"a": 20.0, "b": 55.0, "c": 80.0, "x": 40.0}
RECORD = replace(record_of("lvdm"), motion_std=None)  # windows of 4 frames, latents as they are
HOW = VideoSampling(n_frames=7, steps=3)


@cache
def tiny() -> Lvdm:
    return tiny_lvdm(frame_shape=SHAPE, n_classes=2)


def sampled(
    ids: list[str] = IDS,
    *,
    how: VideoSampling = HOW,
    network: Lvdm | None = None,
    frames: np.ndarray | None = None,
    ef: np.ndarray | None = None,
    seed: int = 0,
    image_model: Lidm | None = None,
    image_class: int | None = None,
) -> np.ndarray:
    return sample_clips(
        network or tiny(),
        replace(RECORD, classes=("a4c", "psax")),
        ids,
        frames=named_noise(ids, SHAPE) if frames is None else frames,
        ef=np.array([EF[name] for name in ids]) if ef is None else ef,
        how=how,
        seed=seed,
        image_model=image_model,
        image_class=image_class,
    )


class Notes(Lvdm):
    """Keeps the conditions it is called with."""

    def __init__(self) -> None:
        torch.nn.Module.__init__(self)
        self.seen: list[Condition] = []

    def forward(self, x: Tensor, t: Tensor, condition: Condition) -> Tensor:
        self.seen.append(condition)
        return x


class NotesClasses(Lidm):
    def __init__(self) -> None:
        torch.nn.Module.__init__(self)
        self.seen: list[list[int] | None] = []

    def forward(self, x: Tensor, t: Tensor, classes: Tensor | None = None) -> Tensor:
        self.seen.append(None if classes is None else classes.tolist())
        return x


@torch.inference_mode()
def test_a_clip_of_one_window_is_what_the_network_makes_of_it() -> None:
    network = tiny()
    yes = torch.ones(3, dtype=torch.bool)
    condition = Condition(
        frame=torch.from_numpy(named_noise(IDS, SHAPE)),
        frame_given=yes,
        ef=torch.tensor([20.0, 55.0, 80.0]),
        ef_given=yes,
        classes=torch.tensor([1, 1, 1]),
    )
    expected = denoise(
        lambda x, t, _: network(x, t, condition),
        (4, *SHAPE),
        sampler="ddim",
        steps=3,
        generators=sample_generators(0, IDS),
    )
    how = VideoSampling(n_frames=4, sampler="ddim", steps=3, class_name="psax")
    found = sampled(how=how, network=network)
    assert (found.dtype, found.shape) == (np.float32, (3, 4, *SHAPE))
    np.testing.assert_allclose(found, expected.numpy(), atol=1e-5)


@pytest.mark.parametrize("n_frames", [1, 3])
def test_a_shorter_clip_is_the_beginning_of_two_joined_windows(n_frames: int) -> None:
    """The window is of 4 frames, so that two at half its distance make 6."""
    network, joined = tiny(), sampled(how=replace(HOW, n_frames=6), network=tiny())
    np.testing.assert_array_equal(sampled(how=replace(HOW, n_frames=n_frames), network=network), joined[:, :n_frames])


@pytest.mark.parametrize("share", [0.0, 0.5])
def test_a_clip_does_not_depend_on_its_batch(share: float) -> None:
    how, image = replace(HOW, image_share=share, steps=2), tiny_lidm(frame_shape=SHAPE)
    together = dict(zip(IDS, sampled(how=how, image_model=image), strict=True))
    for some in (["c"], ["x", "b", "a"]):
        for name, clip in zip(some, sampled(some, how=how, image_model=image), strict=True):
            if name in together:
                np.testing.assert_allclose(clip, together[name], atol=1e-4)


def test_seed_id_frame_and_ef_change_the_clip() -> None:
    how = replace(HOW, n_frames=3, steps=1)
    first = sampled(["a"], how=how)
    others = [
        sampled(["a"], how=how, seed=1),
        sampled(["b"], how=how, frames=named_noise(["a"], SHAPE), ef=np.array([20.0])),
        sampled(["a"], how=how, frames=named_noise(["b"], SHAPE)),
        sampled(["a"], how=how, ef=np.array([80.0])),
    ]
    assert [np.allclose(first, other, atol=1e-4) for other in others] == [False] * 4


def test_every_window_of_a_clip_is_told_its_frame_ef_and_class() -> None:
    network = Notes()
    sampled(how=VideoSampling(n_frames=8, steps=2, class_name="psax"), network=network)
    owner = [0, 0, 0, 1, 1, 1, 2, 2, 2]  # three windows of four frames each
    assert len(network.seen) == 2
    for c in network.seen:
        np.testing.assert_array_equal(c.frame.numpy(), named_noise(IDS, SHAPE)[owner])
        assert c.ef.tolist() == [EF[IDS[i]] for i in owner]
        assert c.classes.tolist() == [1] * 9
        assert bool(c.frame_given.all() and c.ef_given.all())


def test_guidance_asks_the_network_a_second_time_without_ef() -> None:
    network = Notes()
    sampled(how=replace(HOW, guidance=2.0), network=network)
    assert [bool(c.ef_given.any()) for c in network.seen] == [True, False] * 3


def test_merge_reaches_the_windows() -> None:
    blended, taken = (sampled(["a"], how=VideoSampling(n_frames=7, steps=1, merge=m)) for m in get_args(Merge))
    assert not np.allclose(blended, taken, atol=1e-4)


def test_a_class_the_model_does_not_know_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"--class-name a2c.*a4c, psax"):
        sampled(how=replace(HOW, class_name="a2c"))


def test_a_share_of_image_steps_needs_an_image_model() -> None:
    with pytest.raises(ConfigError, match="--lidm"):
        sampled(how=replace(HOW, image_share=0.1))


@torch.inference_mode()
def test_with_all_steps_the_image_model_s_it_alone_denoises_the_frames() -> None:
    image, network = tiny_lidm(frame_shape=SHAPE, n_classes=2), Notes()
    found = sampled(how=replace(HOW, image_share=1.0), network=network, image_model=image, image_class=1)
    expected = denoise(
        lambda x, t, _: image(x.flatten(0, 1), t.repeat_interleave(7), torch.ones(21, dtype=torch.int64)).unflatten(
            0, (3, 7)
        ),
        (7, *SHAPE),
        sampler="dpm++",
        steps=3,
        generators=sample_generators(0, IDS),
    )
    np.testing.assert_allclose(found, expected.numpy(), atol=1e-5)
    assert network.seen == []


@pytest.mark.parametrize(("number", "classes"), [(None, None), (2, [2] * 7)])
def test_each_model_takes_its_share_of_the_steps(number: int | None, classes: list[int] | None) -> None:
    network, image = Notes(), NotesClasses()
    how = replace(HOW, steps=9, image_share=1 / 3)
    sampled(["a"], how=how, network=network, image_model=image, image_class=number)
    assert (len(network.seen), image.seen) == (6, [classes] * 3)
