"""JVID: image and video model in one reverse process; in each step one of them predicts for the whole clip.

Source: Reynaud et al. 2024, "JVID: Joint Video-Image Diffusion for Visual-Quality and Temporal-Consistency".
"""

from typing import Literal

import numpy as np

from mnemoscope.core.errors import ConfigError
from mnemoscope.core.rng import generator
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
    """v of whole clips (B, T, C, h, w) from ``image`` (frames as a batch) in the chosen steps, else from ``video``."""

    def predict(x, t, number):  # type: ignore[no-untyped-def]
        if not chosen[number]:
            return video(x, t, number)
        frames = image(x.flatten(0, 1), t.repeat_interleave(x.shape[1]), number)
        return frames.unflatten(0, (len(x), -1))

    return predict
