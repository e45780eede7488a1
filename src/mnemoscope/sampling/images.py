"""Images: frames from a latent image diffusion model."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from mnemoscope.core.errors import ConfigError
from mnemoscope.models.generator import GeneratorRecord
from mnemoscope.models.lidm import Lidm
from mnemoscope.sampling.samplers import Predict, Sampler, denoise, sample_generators


def class_number(record: GeneratorRecord, name: str | None) -> int:
    """The number of a class; None means *any*.

    Raises:
        ConfigError: for a class the model was not trained on.
    """
    if name is None:
        return len(record.classes)
    if name not in record.classes:
        known = ", ".join(record.classes) or "none: it was trained without classes"
        raise ConfigError(
            f"--class-name {name}: expected a class of the model ({known}); choose one of them, or train with "
            f"--set {record.kind}.classes=…"
        )
    return record.classes.index(name)


def image_predictor(network: Lidm, number: int | Tensor | None = None) -> Predict:
    """The LIDM as a sampler sees it; ``number`` is the class of all samples, or of each (B,); None means *any*."""
    if isinstance(number, Tensor):
        return lambda x, t, _: network(x, t, number)
    return lambda x, t, _: network(x, t, None if number is None else torch.full_like(t, number))


def sample_frames(
    network: Lidm,
    record: GeneratorRecord,
    ids: Sequence[str],
    *,
    seed: int,
    sampler: Sampler = "dpm++",
    steps: int = 25,
    class_names: Sequence[str | None] | None = None,
    device: str = "cpu",
) -> np.ndarray:
    """Standardised latents of new frames, (B, C, h, w) float32; each depends on (seed, its id) alone.

    Args:
        network: the LIDM.
        record: its record.
        ids: names of the B samples.
        seed: of the set.
        sampler: see :func:`~mnemoscope.sampling.samplers.make_scheduler`.
        steps: reverse steps.
        class_names: a class of the model for each sample; None means *any*.
        device: torch device.

    Raises:
        ConfigError: for a class the model was not trained on.
    """
    numbers = torch.tensor([class_number(record, name) for name in class_names or [None] * len(ids)], device=device)
    x = denoise(
        image_predictor(network, numbers),
        record.frame_shape,
        sampler=sampler,
        steps=steps,
        generators=sample_generators(seed, ids),
        device=device,
    )
    return np.asarray(x.cpu().numpy())
