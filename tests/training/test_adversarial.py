import math
from typing import Any

import pytest
import torch

from mnemoscope.core.config import build
from mnemoscope.core.errors import ConfigError, InputError
from mnemoscope.models.initial import named_weights
from mnemoscope.training.adversarial import AdversarialConfig, adversarial_loss, hinge_loss, patch_discriminator

TINY = AdversarialConfig(channels=4, layers=1, start_step=3)


class Decoder(torch.nn.Module):
    """A convolution, as the autoencoder's last layer."""

    def __init__(self) -> None:
        super().__init__()
        self.last = torch.nn.Conv2d(1, 1, 3, padding=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.last(x)


def discriminator(config: AdversarialConfig = TINY) -> torch.nn.Module:
    with named_weights(0, "discriminator"):
        return patch_discriminator(config, image_channels=1, height=16, width=16)


def decoder() -> Decoder:
    with named_weights(0, "decoder"):
        return Decoder()


def frames(seed: int = 0) -> torch.Tensor:
    return torch.rand((4, 1, 16, 16), generator=torch.Generator().manual_seed(seed)) * 2 - 1


def terms(network: torch.nn.Module, made: Decoder, *, step: int = 3, **changes: Any) -> torch.Tensor:
    config = build(AdversarialConfig, TINY.model_dump() | changes)
    x = frames()
    decoded = made(x)
    return adversarial_loss(
        network,
        decoded,
        x,
        reconstruction=(decoded - x).abs().mean(),
        last_layer=made.last.weight,
        config=config,
        step=step,
    )


def gradients(module: torch.nn.Module) -> torch.Tensor:
    return torch.cat(
        [torch.zeros_like(p).flatten() if p.grad is None else p.grad.flatten() for p in module.parameters()]
    )


def test_the_hinge_by_hand() -> None:
    """Real 2, 0.5, −1 miss the margin by 0, 0.5, 2; decoded −3, 0, 1 by 0, 1, 2."""
    real, fake = torch.tensor([2.0, 0.5, -1.0]), torch.tensor([-3.0, 0.0, 1.0])
    assert float(hinge_loss(real, fake)) == pytest.approx((2.5 / 3 + 3.0 / 3) / 2)
    assert float(hinge_loss(torch.tensor([1.0]), torch.tensor([-1.0]))) == 0.0


@pytest.mark.parametrize("step", [0, 2])
def test_before_its_start_there_is_neither_a_term_nor_a_gradient(step: int) -> None:
    network, made = discriminator(), decoder()
    loss = terms(network, made, step=step)
    assert float(loss.detach()) == 0.0
    loss.backward()
    assert made.last.weight.grad is None
    # Present, so that several processes do not wait for them; zero, so that nothing moves.
    assert all(p.grad is not None and not p.grad.any() for p in network.parameters())


@pytest.mark.parametrize("step", [3, 4, 100])
@pytest.mark.parametrize("weight", [0.5, 2.0])
def test_from_its_start_it_is_the_sum_of_both_terms(step: int, weight: float) -> None:
    found = terms(discriminator(), made := decoder(), step=step, weight=weight, balance="fixed")
    network, x = discriminator(), frames()
    with torch.no_grad():
        real, fake = network(x)[-1], network(made(x))[-1]
    expected = -weight * fake.mean() + (1 - real).clamp(min=0).mean() / 2 + (1 + fake).clamp(min=0).mean() / 2
    assert float(found.detach()) == pytest.approx(float(expected), rel=1e-5)


@pytest.mark.parametrize("balance", ["fixed", "adaptive"])
def test_each_term_reaches_the_parameters_of_its_own_side_alone(balance: str) -> None:
    network, made = discriminator(), decoder()
    terms(network, made, balance=balance).backward()

    alone = discriminator()
    with torch.no_grad():
        decoded = made(frames())
    hinge_loss(alone(frames())[-1], alone(decoded)[-1]).backward()
    torch.testing.assert_close(gradients(network), gradients(alone))

    generator_alone, judge = decoder(), discriminator()
    fake = -judge(generator_alone(frames()))[-1].mean()
    fake.backward()
    found, direction = gradients(made), gradients(generator_alone)
    assert float(torch.nn.functional.cosine_similarity(found, direction, dim=0)) == pytest.approx(1.0, abs=1e-5)
    if balance == "fixed":
        torch.testing.assert_close(found, 0.5 * direction)


@pytest.mark.parametrize("weight", [0.5, 1.0])
def test_the_adaptive_balance_pulls_at_the_last_layer_as_the_reconstruction_does(weight: float) -> None:
    network, made = discriminator(), decoder()
    terms(network, made, balance="adaptive", weight=weight).backward()
    pushed = made.last.weight.grad.norm()
    other = decoder()
    (other(frames()) - frames()).abs().mean().backward()
    pulled = other.last.weight.grad.norm()
    judge = decoder()
    (-discriminator()(judge(frames()))[-1].mean()).backward()
    raw = judge.last.weight.grad.norm()
    assert float(pushed) == pytest.approx(float(weight * pulled * raw / (raw + 1e-4)), rel=1e-3)


def test_a_discriminator_that_says_nothing_is_balanced_within_bounds() -> None:
    network, made = discriminator(), decoder()
    torch.nn.init.zeros_(network.final_conv.conv.weight)
    loss = terms(network, made)
    assert math.isfinite(float(loss.detach()))


@pytest.mark.parametrize(
    ("layers", "height", "width", "patches"), [(1, 16, 24, (6, 10)), (2, 16, 16, (2, 2)), (3, 112, 112, (12, 12))]
)
def test_a_discriminator_judges_patches(layers: int, height: int, width: int, patches: tuple[int, int]) -> None:
    config = AdversarialConfig(channels=8, layers=layers)
    network = patch_discriminator(config, image_channels=3, height=height, width=width)
    found = network(torch.zeros(2, 3, height, width))
    assert found[-1].shape == (2, 1, *patches)
    assert found[0].shape[1] == 8


def test_the_smallest_frame_has_one_patch_and_a_smaller_one_is_refused() -> None:
    config = AdversarialConfig(channels=4, layers=2)
    network = patch_discriminator(config, image_channels=1, height=12, width=12)
    assert network(torch.zeros(2, 1, 12, 12))[-1].shape == (2, 1, 1, 1)
    with pytest.raises(InputError, match=r"at least 12 pixels a side.*2 layers, got 11×16.*vae\.adversarial\.layers"):
        patch_discriminator(config, image_channels=1, height=11, width=16)


@pytest.mark.parametrize(
    ("name", "value"),
    [("weight", 0.0), ("start_step", -1), ("balance", "other"), ("channels", 0), ("layers", 0), ("wieght", 1.0)],
)
def test_choices_that_cannot_work_are_refused_by_name(name: str, value: object) -> None:
    with pytest.raises(ConfigError, match=name):
        build(AdversarialConfig, {name: value})
