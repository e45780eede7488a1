from collections.abc import Sequence
from typing import get_args

import pytest
import torch
from diffusers import DDIMScheduler
from torch import Tensor

from mnemoscope.core.errors import ConfigError, DegenerateValues
from mnemoscope.models.generator import noise_schedule
from mnemoscope.sampling.samplers import Predict, Sampler, denoise, make_scheduler, sample_generators

SAMPLERS: tuple[Sampler, ...] = get_args(Sampler)
KEPT = noise_schedule().alphas_cumprod  # share of the variance that is image, at each of the 1000 steps
MEAN, SPREAD = 1.5, 0.5
SHAPE = (2, 4, 4)


def exact_v(x: Tensor, t: Tensor, _: int) -> Tensor:
    """E[v | x] of data N(MEAN, SPREAD²), by Bayes' rule for normal distributions."""
    kept = KEPT[t].view(-1, *[1] * (x.ndim - 1))
    alpha, sigma = kept.sqrt(), (1 - kept).sqrt()
    gain = alpha * SPREAD**2 / (alpha**2 * SPREAD**2 + sigma**2)
    x0 = MEAN + gain * (x - alpha * MEAN)
    return alpha * (x - alpha * x0) / sigma - sigma * x0


def exact_solution(noise: Tensor) -> Tensor:
    """Where the deterministic reverse process ends: the same quantile of the data as of the noise."""
    alpha, variance = KEPT[-1].sqrt(), KEPT[-1] * SPREAD**2 + 1 - KEPT[-1]
    return MEAN + SPREAD * (noise - alpha * MEAN) / variance.sqrt()


def sampled(
    sampler: Sampler,
    steps: int,
    *,
    ids: Sequence[str] = ("a", "b"),
    seed: int = 0,
    shape: tuple[int, ...] = SHAPE,
    predict: Predict = exact_v,
) -> Tensor:
    return denoise(predict, shape, sampler=sampler, steps=steps, generators=sample_generators(seed, ids))


def first_noise(ids: Sequence[str], shape: tuple[int, ...]) -> Tensor:
    return torch.stack([torch.randn(shape, generator=g) for g in sample_generators(0, ids)])


# 300 and 400 do not divide the 1000 steps of training.
@pytest.mark.parametrize(("sampler", "steps"), [("ddpm", 400), ("ddim", 300), ("dpm++", 30), ("dpm++", 300)])
def test_samples_of_a_known_distribution_have_its_mean_and_spread(sampler: Sampler, steps: int) -> None:
    x = sampled(sampler, steps, shape=(80, 80))
    n = x.numel()
    bias = 0.012  # of finitely many steps
    assert abs(float(x.mean()) - MEAN) < 4 * SPREAD / n**0.5 + bias
    assert abs(float(x.std()) - SPREAD) < 4 * SPREAD / (2 * n) ** 0.5 + bias


@pytest.mark.parametrize(
    ("sampler", "steps", "error"), [("ddim", 300, 0.03), ("dpm++", 50, 0.005), ("dpm++", 300, 0.001)]
)
def test_the_deterministic_samplers_find_the_exact_solution(sampler: Sampler, steps: int, error: float) -> None:
    expected = exact_solution(first_noise("ab", SHAPE))
    torch.testing.assert_close(sampled(sampler, steps), expected, atol=error, rtol=0)


@pytest.mark.parametrize("steps", [10, 25, 50])
def test_the_solver_of_second_order_is_nearer_at_equal_steps(steps: int) -> None:
    expected = exact_solution(first_noise("ab", (40, 40)))
    solver, ddim = ((sampled(name, steps, shape=(40, 40)) - expected).abs().mean() for name in ("dpm++", "ddim"))
    assert solver < 0.8 * ddim


@pytest.mark.parametrize("steps", [1, 10, 25])
def test_ddim_is_that_of_diffusers_where_steps_divide_the_training_s(steps: int) -> None:
    scheduler = DDIMScheduler.from_config(noise_schedule().config)
    scheduler.set_timesteps(steps)
    x = first_noise("ab", SHAPE)
    for t in scheduler.timesteps:
        x = scheduler.step(exact_v(x, t.repeat(2), 0), t, x).prev_sample
    torch.testing.assert_close(sampled("ddim", steps), x, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_a_sample_does_not_depend_on_batch_order_or_neighbours(sampler: Sampler) -> None:
    ids = ["a", "b", "c", "d", "e"]
    together = dict(zip(ids, sampled(sampler, 7, ids=ids), strict=True))
    for some in (["c"], ["e", "a"], ["b", "zzz", "c"], ids[::-1]):
        for name, x in zip(some, sampled(sampler, 7, ids=some), strict=True):
            assert name not in together or torch.equal(x, together[name])


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_another_seed_or_id_gives_another_sample(sampler: Sampler) -> None:
    a, b = sampled(sampler, 5)
    assert not torch.isclose(a, b).any()
    other = sampled(sampler, 5, seed=1)
    assert not torch.isclose(torch.stack([a, b]), other).any()


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_the_global_generator_neither_matters_nor_moves(sampler: Sampler) -> None:
    with torch.random.fork_rng(devices=[]):
        before = torch.get_rng_state()
        x = sampled(sampler, 4)
        assert torch.equal(torch.get_rng_state(), before)
        torch.randn(3)
        assert torch.equal(sampled(sampler, 4), x)


@pytest.mark.parametrize("sampler", SAMPLERS)
@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf])
@pytest.mark.parametrize("when", [0, 3, 5])
def test_nan_and_infinite_values_are_refused(sampler: Sampler, value: float, when: int) -> None:
    def predict(x: Tensor, t: Tensor, number: int) -> Tensor:
        v = exact_v(x, t, number)
        if number == when:
            v[1, 0, 0, 0] = value
        return v

    with pytest.raises(DegenerateValues, match=r"NaN or infinite.*float32"):
        sampled(sampler, 6, predict=predict)


@pytest.mark.parametrize("sampler", SAMPLERS)
@pytest.mark.parametrize("steps", [-1, 0, 1001])
def test_other_numbers_of_steps_are_refused(sampler: Sampler, steps: int) -> None:
    with pytest.raises(ConfigError, match=rf"1 to 1000 steps, got {steps}.*--steps"):
        sampled(sampler, steps)


@pytest.mark.parametrize("sampler", SAMPLERS)
@pytest.mark.parametrize("steps", [1, 3, 150])
def test_a_model_is_asked_once_a_step_from_the_noisiest_down(sampler: Sampler, steps: int) -> None:
    asked: list[tuple[int, list[int]]] = []

    def predict(x: Tensor, t: Tensor, number: int) -> Tensor:
        asked.append((number, t.tolist()))
        return exact_v(x, t, number)

    sampled(sampler, steps, predict=predict)
    numbers, times = zip(*asked, strict=True)
    assert numbers == tuple(range(steps))
    assert all(a == b for a, b in times)
    first = [a for a, _ in times]
    assert first[0] == 999
    assert first == sorted(set(first), reverse=True)


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_all_steps_of_training_can_be_taken(sampler: Sampler) -> None:
    scheduler = make_scheduler(sampler, 1000)
    assert scheduler.timesteps.tolist() == list(range(999, -1, -1))
    assert float(scheduler.init_noise_sigma) == 1.0


def test_ddpm_keeps_its_estimates_within_the_limit() -> None:
    """Data of mean 1.5 under a limit of 1 end at it, for the last step adds no noise."""
    x = denoise(exact_v, SHAPE, sampler="ddpm", steps=50, generators=sample_generators(0, ["a"]), limit=1.0)
    assert float(x.max()) == pytest.approx(1.0)
