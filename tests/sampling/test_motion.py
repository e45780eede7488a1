"""Clips as motion around a shown frame: the image model is asked in its own terms, and latents come back."""

import numpy as np
import pytest
import torch
from torch import Tensor

from mnemoscope.core.rng import generator
from mnemoscope.latents.scaling import Scaling
from mnemoscope.models.generator import GeneratorRecord, noise_schedule
from mnemoscope.models.lvdm import Condition
from mnemoscope.sampling import videos
from mnemoscope.sampling.joint import frame_by_frame, of_motion
from mnemoscope.sampling.samplers import Predict
from mnemoscope.sampling.videos import VideoSampling, sample_clips

ALPHA = noise_schedule().alphas_cumprod
SHAPE = (4, 2, 3)
RECORD = GeneratorRecord(
    kind="lvdm",
    frame_shape=SHAPE,
    height=16,
    width=24,
    encoder="vae",
    scaling=Scaling((0,) * 4, (1,) * 4, (0,) * 4, (1,) * 4),
    fps=10.0,
    window_frames=6,
)


def exact(mean: Tensor, std: float) -> Predict:
    """v for data N(mean, std²): the clean value's posterior mean is mean + a·std²·(x − a·mean) / (a²·std² + σ²)."""

    def predict(x: Tensor, t: Tensor, _: int) -> Tensor:
        a, variance = (v[t].reshape(-1, *(1,) * (x.ndim - 1)) for v in (ALPHA.sqrt(), 1 - ALPHA))
        clean = mean + a * std**2 * (x - a * mean) / (a**2 * std**2 + variance)
        return (a * x - clean) / variance.sqrt()

    return predict


@pytest.mark.parametrize("step", [100, 300, 700, 950])
@pytest.mark.parametrize("true_std", [0.3, 0.1])
def test_an_image_model_of_motion_is_the_exact_model_of_motion(step: int, true_std: float) -> None:
    rng = generator(0, "motion", step)
    shown = torch.from_numpy(rng.standard_normal((2, *SHAPE), dtype=np.float32))
    x = torch.from_numpy(rng.standard_normal((2, 5, *SHAPE), dtype=np.float32))
    t = torch.full((2,), step)
    found = of_motion(exact(shown[:, None], true_std), shown, 0.3)(x, t, 0)
    expected = exact(torch.zeros(()), true_std / 0.3)(x, t, 0)
    # The image model's own steps are 1000 and do not meet the ratio exactly.
    torch.testing.assert_close(found, expected, atol=0.03, rtol=0.03)


def test_frames_are_the_batch_of_an_image_model() -> None:
    x = torch.arange(2 * 3 * 4 * 2 * 3, dtype=torch.float32).reshape(2, 3, *SHAPE)
    seen: list[tuple[int, ...]] = []

    def image(frames: Tensor, t: Tensor, number: int) -> Tensor:
        seen.append((*frames.shape, number))
        return frames * t[:, None, None, None]

    found = frame_by_frame(image)(x, torch.tensor([2, 3]), 7)
    assert seen == [(6, *SHAPE, 7)]
    torch.testing.assert_close(found, x * torch.tensor([2.0, 3.0])[:, None, None, None, None])


@pytest.mark.parametrize("motion_std", [None, 0.25])
def test_clips_come_back_as_latents(monkeypatch: pytest.MonkeyPatch, motion_std: float | None) -> None:
    """A network that knows the diffused variable to be 2 gives 2, or the shown frame plus twice the motion."""
    record = GeneratorRecord(**RECORD.__dict__ | {"motion_std": motion_std})
    frames = generator(1, "shown").standard_normal((3, *SHAPE)).astype(np.float32)

    def constant(_: object, condition: Condition, windows: object, *, guidance: float) -> Predict:
        assert (condition.frame.numpy() == frames).all()
        return exact(torch.tensor(2.0), 1e-3)

    monkeypatch.setattr(videos, "video_predictor", constant)
    clips = sample_clips(
        None,  # type: ignore[arg-type]
        record,
        ["a", "b", "c"],
        frames=frames,
        ef=np.full(3, 50.0),
        how=VideoSampling(n_frames=4, steps=10),
        seed=0,
    )
    expected = 2.0 if motion_std is None else frames[:, None] + 2 * motion_std
    np.testing.assert_allclose(clips, np.broadcast_to(expected, clips.shape), atol=0.02)
