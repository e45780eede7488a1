from fractions import Fraction
from math import floor

import numpy as np
import pytest
import torch
from torch import Tensor

from mnemoscope.core.errors import ConfigError
from mnemoscope.sampling.joint import frame_by_frame, image_steps, joint_predictor
from tests.sampling.tiny_models import noise

SHARES = [Fraction(0), Fraction(1, 10), Fraction(1, 4), Fraction(1, 3), Fraction(1, 2), Fraction(2, 3), Fraction(1)]


@pytest.mark.parametrize("share", SHARES)
def test_a_share_of_any_number_of_steps_is_spread_evenly(share: Fraction) -> None:
    for steps in range(1, 121):
        found = image_steps(steps, float(share))
        assert (found.dtype, found.shape) == (bool, (steps,))
        np.testing.assert_array_equal(found.cumsum(), [floor(share * n) for n in range(1, steps + 1)])


def test_the_last_step_of_each_period_is_the_image_model_s() -> None:
    assert image_steps(8, 0.25).tolist() == [False, False, False, True] * 2


def test_drawn_steps_come_back_and_are_about_the_share() -> None:
    found = image_steps(1000, 0.3, mixing="bernoulli", seed=1)
    np.testing.assert_array_equal(found, image_steps(1000, 0.3, mixing="bernoulli", seed=1))
    assert (found != image_steps(1000, 0.3, mixing="bernoulli", seed=2)).any()
    assert abs(found.mean() - 0.3) < 4 * (0.3 * 0.7 / 1000) ** 0.5


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_none_or_all_are_drawn_at_the_ends(share: float) -> None:
    assert (image_steps(50, share, mixing="bernoulli") == bool(share)).all()


@pytest.mark.parametrize("share", [-0.1, 1.01, float("nan")])
def test_other_shares_are_refused(share: float) -> None:
    with pytest.raises(ConfigError, match=r"0 to 1, got .*--image-share"):
        image_steps(10, share)


def test_each_step_goes_to_its_model_with_whole_clips() -> None:
    x, t = noise(2, 5, 3, 4, 4), torch.tensor([7, 9])
    seen: list[tuple[str, int]] = []

    def image(frames: Tensor, times: Tensor, number: int) -> Tensor:
        seen.append(("image", number))
        assert torch.equal(frames, torch.cat([x[0], x[1]]))
        assert times.tolist() == [7] * 5 + [9] * 5
        return 2 * frames

    def video(clips: Tensor, times: Tensor, number: int) -> Tensor:
        seen.append(("video", number))
        assert clips is x
        assert times is t
        return -clips

    chosen = np.array([False, True, True, False])
    predict = joint_predictor(frame_by_frame(image), video, chosen)
    for number in range(4):
        assert torch.equal(predict(x, t, number), 2 * x if chosen[number] else -x)
    assert seen == [("video", 0), ("image", 1), ("image", 2), ("video", 3)]
