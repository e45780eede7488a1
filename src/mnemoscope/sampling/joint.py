"""JVID: image and video model in one reverse process; in each step one of them predicts for the whole clip.

Source: Reynaud et al. 2024, "JVID: Joint Video-Image Diffusion for Visual-Quality and Temporal-Consistency".
"""

from typing import Literal

import numpy as np
from torch import Tensor

from mnemoscope.core.errors import ConfigError
from mnemoscope.core.rng import generator
from mnemoscope.models.generator import noise_schedule
from mnemoscope.sampling.samplers import Predict

Mixing = Literal["periodic", "bernoulli"]


def image_steps(steps: int, share: float, *, mixing: Mixing = "periodic", seed: int = 0) -> np.ndarray:
    """m(t): in which reverse steps the image model predicts, bool (steps,).

    Args:
        steps: reverse steps.
        share: of steps that the image model takes, 0–1.
        mixing: ``periodic`` spreads them evenly, the last step of each period; ``bernoulli`` draws each step.
        seed: of the drawing; the schedule is one for all clips, so that the batch changes nothing.

    Raises:
        ConfigError: for a share outside 0–1.
    """
    if not 0 <= share <= 1:
        raise ConfigError(f"expected a share of image steps from 0 to 1, got {share:g}; change it (--image-share)")
    if mixing == "bernoulli":
        return generator(seed, "image steps").random(steps) < share
    done = np.floor(np.arange(steps + 1) * share + 1e-9)
    return np.diff(done) > 0


def joint_predictor(image: Predict, video: Predict, chosen: np.ndarray) -> Predict:
    """v of whole clips (B, T, C, h, w) from ``image`` in the chosen steps, else from ``video``."""

    def predict(x: Tensor, t: Tensor, number: int) -> Tensor:
        return image(x, t, number) if chosen[number] else video(x, t, number)

    return predict


def frame_by_frame(image: Predict) -> Predict:
    """An image model as a model of clips (B, T, C, h, w): their frames are its batch."""

    def predict(x: Tensor, t: Tensor, number: int) -> Tensor:
        v = image(x.flatten(0, 1), t.repeat_interleave(x.shape[1]), number)
        return v.unflatten(0, (len(x), -1))

    return predict


def of_motion(image: Predict, shown: Tensor, motion_std: float) -> Predict:
    """A model of clips as a model of their motion around a shown frame, asked at the step of equal noise.

    With motion m = (x − f) / s, noisy motion a·m + σ·ε holds the clip x with noise of s·σ/a: the image model is asked
    where its own schedule has that ratio, and its clean clip is turned into v of the motion.

    Args:
        image: predicts v of clips (B, T, C, h, w).
        shown: the frames f, (B, C, h, w).
        motion_std: s.
    """
    alpha = noise_schedule().alphas_cumprod.to(shown.device)
    ratio = ((1 - alpha) / alpha).sqrt()  # rises with the step

    def predict(x: Tensor, t: Tensor, number: int) -> Tensor:
        a, sigma = (root[t].reshape(-1, 1, 1, 1, 1) for root in (alpha.sqrt(), (1 - alpha).sqrt()))
        nearest = (ratio[None] - motion_std * ratio[t][:, None]).abs().argmin(dim=1)
        own_a, own_sigma = (root[nearest].reshape(-1, 1, 1, 1, 1) for root in (alpha.sqrt(), (1 - alpha).sqrt()))
        noisy = own_a * (shown[:, None] + motion_std * x / a)
        clean = own_a * noisy - own_sigma * image(noisy, nearest, number)
        return (a * x - (clean - shown[:, None]) / motion_std) / sigma

    return predict
