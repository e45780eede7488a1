"""Samplers: from noise to latents, one reverse step after the other. Any sampler runs with any model."""

import warnings
from collections.abc import Callable, Sequence
from typing import Any, Literal

import torch
from diffusers import DDPMScheduler, DPMSolverMultistepScheduler
from torch import Tensor

from mnemoscope.core.errors import ConfigError, DegenerateValues
from mnemoscope.core.rng import derive_seed
from mnemoscope.models.generator import noise_schedule

LATENT_LIMIT = 4.0
MOTION_LIMIT = 12.0
Sampler = Literal["ddpm", "ddim", "dpm++"]
Predict = Callable[[Tensor, Tensor, int], Tensor]
"""(x (B, …), steps of the schedule (B,), number of the reverse step from 0) → v (B, …)."""


def make_scheduler(sampler: Sampler, steps: int, *, limit: float = LATENT_LIMIT) -> Any:
    """A diffusers scheduler over ``steps`` of the 1000 steps of training.

    Args:
        sampler: ``ddpm`` (fresh noise in each step; Ho et al. 2020), ``ddim`` (none; Song et al. 2021) or ``dpm++``
            (second-order solver; Lu et al. 2022), which needs fewest steps.
        steps: 1–1000.
        limit: ddpm keeps its estimate of the clean sample within ± this.

    Raises:
        ConfigError: for another number of steps.
    """
    if not 1 <= steps <= 1000:
        raise ConfigError(f"expected 1 to 1000 steps, got {steps}; choose another number (--steps)")
    config = noise_schedule().config
    scheduler: Any
    if sampler == "ddpm":
        scheduler = DDPMScheduler.from_config(config, clip_sample_range=limit)
    else:
        # DDIM is the solver's first order. diffusers' DDIMScheduler takes steps of 1000 // steps, which do not end at 0
        # where steps is no divisor of 1000.
        order = 1 if sampler == "ddim" else 2
        scheduler = DPMSolverMultistepScheduler.from_config(config, solver_order=order, final_sigmas_type="zero")
    with warnings.catch_warnings():
        # diffusers' solver turns a tensor into an array in a way that NumPy 2 finds old.
        warnings.filterwarnings("ignore", message="__array__ implementation", category=DeprecationWarning)
        scheduler.set_timesteps(steps)
    return scheduler


def sample_generators(seed: int, ids: Sequence[str]) -> list[torch.Generator]:
    """One generator for each sample, named by (seed, id): what else is sampled beside it changes nothing."""
    return [torch.Generator().manual_seed(derive_seed(seed, "sample", name)) for name in ids]


@torch.inference_mode()
def denoise(
    predict: Predict,
    shape: tuple[int, ...],
    *,
    sampler: Sampler,
    steps: int,
    generators: Sequence[torch.Generator],
    limit: float = LATENT_LIMIT,
    device: str = "cpu",
) -> Tensor:
    """Samples of ``predict``'s distribution, standardised latents (B, *shape).

    Args:
        predict: the model.
        shape: of one sample.
        sampler: which one.
        steps: reverse steps.
        generators: one for each of the B samples; on the CPU, so that the device does not change a sample.
        limit: see :func:`make_scheduler`.
        device: where ``predict`` computes.

    Raises:
        DegenerateValues: if the model returns NaN or infinite values.
    """
    scheduler = make_scheduler(sampler, steps, limit=limit)
    x = torch.stack([torch.randn(shape, generator=g) for g in generators]).to(device) * scheduler.init_noise_sigma
    for number, t in enumerate(scheduler.timesteps):
        v = predict(x, torch.full((len(x),), int(t), device=device), number)
        if not torch.isfinite(v).all():  # ddpm would clip infinite values to ones that look like any other
            raise DegenerateValues(
                "the generator returned NaN or infinite latents; sample in float32, or train it again"
            )
        # The solver is deterministic, but diffusers looks for a generator in every scheduler alike.
        x = scheduler.step(v, t, x, generator=list(generators)).prev_sample
    return x
