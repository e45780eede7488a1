from dataclasses import replace
from functools import cache

import numpy as np
import pytest
import torch
from torch import Tensor

from mnemoscope.core.errors import ConfigError
from mnemoscope.models.lidm import Lidm
from mnemoscope.sampling.images import class_number, image_predictor, sample_frames
from mnemoscope.sampling.samplers import Sampler, denoise, sample_generators
from tests.sampling.tiny_models import SHAPE, noise, record_of
from tests.tiny_generators import tiny_lidm

CLASSES = ("a4c", "psax")
IDS = ["a", "b", "c", "d"]


@cache
def tiny(n_classes: int) -> Lidm:
    return tiny_lidm(frame_shape=SHAPE, n_classes=n_classes)


def sampled(*, ids: list[str], class_name: str | None = None, seed: int = 0, n_classes: int = 2) -> np.ndarray:
    record = record_of("lidm", classes=CLASSES[:n_classes])
    return sample_frames(tiny(n_classes), record, ids, seed=seed, steps=4, class_names=[class_name] * len(ids))


def test_classes_have_the_numbers_of_the_record() -> None:
    record = record_of("lidm", classes=CLASSES)
    assert [class_number(record, name) for name in ("a4c", "psax", None)] == [0, 1, 2]
    assert class_number(record_of("lidm"), None) == 0


def test_a_class_the_model_does_not_know_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"--class-name a2c.*\(a4c, psax\).*--set lvdm\.classes"):
        class_number(record_of("lvdm", classes=CLASSES), "a2c")
    with pytest.raises(ConfigError, match=r"--class-name a4c.*trained without classes.*--set lidm\.classes"):
        class_number(record_of("lidm"), "a4c")
    with pytest.raises(ConfigError, match=r"--class-name a4c"):
        sampled(ids=["a"], class_name="a4c", n_classes=0)


class NotesClasses(Lidm):
    def __init__(self) -> None:
        torch.nn.Module.__init__(self)
        self.seen: list[list[int] | None] = []

    def forward(self, x: Tensor, t: Tensor, classes: Tensor | None = None) -> Tensor:
        self.seen.append(None if classes is None else classes.tolist())
        return x


def test_all_of_a_batch_are_of_the_class() -> None:
    network, x, t = NotesClasses(), noise(3, *SHAPE), torch.tensor([9, 8, 7])
    assert torch.equal(image_predictor(network)(x, t, 0), x)
    image_predictor(network, 4)(x, t, 0)
    image_predictor(network, torch.tensor([2, 0, 1]))(x, t, 0)
    assert network.seen == [None, [4, 4, 4], [2, 0, 1]]


@pytest.mark.parametrize(("class_name", "number"), [("a4c", 0), ("psax", 1), (None, 2)])
@pytest.mark.parametrize(("sampler", "steps"), [("dpm++", 4), ("ddpm", 3)])
@torch.inference_mode()
def test_frames_are_what_the_network_denoises(
    class_name: str | None, number: int, sampler: Sampler, steps: int
) -> None:
    network, record = tiny(2), record_of("lidm", classes=CLASSES)
    found = sample_frames(network, record, IDS, seed=5, sampler=sampler, steps=steps, class_names=[class_name] * 4)
    assert (found.shape, found.dtype) == ((4, *SHAPE), np.float32)
    expected = denoise(
        lambda x, t, _: network(x, t, torch.full((4,), number)),
        SHAPE,
        sampler=sampler,
        steps=steps,
        generators=sample_generators(5, IDS),
    )
    np.testing.assert_array_equal(found, expected.numpy())


def test_the_class_changes_the_frame() -> None:
    first, second, either = (sampled(ids=["a"], class_name=name) for name in ("a4c", "psax", None))
    assert not np.allclose(first, second, atol=1e-4)
    assert not np.allclose(first, either, atol=1e-4)


def test_each_frame_is_of_its_own_class() -> None:
    record, names = record_of("lidm", classes=CLASSES), ["psax", None, "a4c"]
    together = sample_frames(tiny(2), record, ["a", "b", "c"], seed=0, steps=4, class_names=names)
    for name, class_name, frame in zip("abc", names, together, strict=True):
        np.testing.assert_allclose(frame, sampled(ids=[name], class_name=class_name)[0], atol=1e-5)


def test_a_frame_does_not_depend_on_its_batch() -> None:
    together = dict(zip(IDS, sampled(ids=IDS), strict=True))
    for some in (["c"], ["d", "a"], ["x", "b", "y"]):
        for name, frame in zip(some, sampled(ids=some), strict=True):
            if name in together:
                np.testing.assert_allclose(frame, together[name], atol=1e-4)
    assert not np.allclose(together["a"], together["b"], atol=0.1)
    assert not np.allclose(sampled(ids=["a"], seed=1), together["a"], atol=0.1)


def test_the_frame_has_the_record_s_shape() -> None:
    record = replace(record_of("lidm"), frame_shape=(4, 5, 7))
    assert sample_frames(tiny(0), record, ["a"], seed=0, steps=1).shape == (1, 4, 5, 7)
