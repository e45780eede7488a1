"""The patch-GAN of Eq. 1: a discriminator that learns to tell decoded frames from real ones, patch by patch.

Autoencoder and discriminator are trained by one optimiser and one backward pass: each term reaches the parameters of
its own side alone, and Adam treats every parameter by itself.
"""

from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float
from monai.networks.nets import PatchDiscriminator
from pydantic import Field
from torch import Tensor, nn
from torch.func import functional_call

from mnemoscope.core.config import Config
from mnemoscope.core.errors import InputError

_MOST_BALANCE = 1e4


class AdversarialConfig(Config):
    """The adversarial term.

    Attributes:
        weight: of the generator's term.
        start_step: the first step, counted from 0, that has the term; the discriminator rests until then.
        balance: ``adaptive`` makes the term pull at the decoder's last layer as strongly as the reconstruction does,
            before ``weight`` counts; ``fixed`` leaves it alone.
        channels: of the discriminator's first level; each level doubles them.
        layers: levels of the discriminator; each but the last halves the frame.
    """

    weight: float = Field(0.5, gt=0)
    start_step: int = Field(50_001, ge=0)
    balance: Literal["adaptive", "fixed"] = "adaptive"
    channels: int = Field(64, ge=1)
    layers: int = Field(3, ge=1)


def patch_discriminator(config: AdversarialConfig, *, image_channels: int, height: int, width: int) -> nn.Module:
    """A network that gives each patch of a frame (B, C, H, W) a logit of being real.

    Raises:
        InputError: if frames are too small for so many layers.

    Source: Isola et al. 2017, section 3.2.2.
    """
    if min(height, width) // 2**config.layers < 3:
        raise InputError(
            f"expected frames of at least {3 * 2**config.layers} pixels a side for a discriminator of {config.layers} "
            f"layers, got {height}×{width}; take fewer (--set vae.adversarial.layers=…) or larger frames"
        )
    # Any: MONAI is untyped.
    network: nn.Module = PatchDiscriminator(
        spatial_dims=2, channels=config.channels, in_channels=image_channels, num_layers_d=config.layers
    )
    return network


def hinge_loss(real: Float[Tensor, "..."], fake: Float[Tensor, "..."]) -> Tensor:
    """What the discriminator minimises: logits of real patches above 1, of decoded ones below −1.

    Source: Lim and Ye 2017. Plain, as in Esser et al. 2021; MONAI's loss of this name squashes the logits first.
    """
    return (F.relu(1 - real).mean() + F.relu(1 + fake).mean()) / 2


def adversarial_loss(
    discriminator: nn.Module,
    decoded: Float[Tensor, "B C H W"],
    frames: Float[Tensor, "B C H W"],
    *,
    reconstruction: Tensor,
    last_layer: nn.Parameter,
    config: AdversarialConfig,
    step: int,
) -> Tensor:
    """Generator's and discriminator's terms, whose gradients reach the autoencoder and the discriminator only.

    Args:
        discriminator: logits of patches, as the last of its outputs.
        decoded: what the autoencoder made of ``frames``.
        frames: real ones, in [−1, 1].
        reconstruction: the loss that ``adaptive`` balances the term with.
        last_layer: weight of the decoder's last layer.
        config: weight and start.
        step: number of the step, from 0.

    Source: Eq. 1 of the paper; the balance is lambda of Esser et al. 2021, equation 7.
    """
    if step < config.start_step:
        # Zero, but through every parameter: several processes wait for the gradient of each.
        return 0.0 * torch.stack([p.sum() for p in discriminator.parameters()]).sum()
    frozen = {name: p.detach() for name, p in discriminator.named_parameters()}
    generator_term = -functional_call(discriminator, frozen, (decoded,))[-1].float().mean()
    real, fake = discriminator(frames)[-1].float(), discriminator(decoded.detach())[-1].float()
    balance = _balance(reconstruction, generator_term, last_layer) if config.balance == "adaptive" else 1.0
    return config.weight * balance * generator_term + hinge_loss(real, fake)


def _balance(reconstruction: Tensor, generator_term: Tensor, last_layer: nn.Parameter) -> Tensor:
    pull, push = (
        torch.autograd.grad(term, last_layer, retain_graph=True)[0].norm() for term in (reconstruction, generator_term)
    )
    return (pull / (push + 1e-4)).clamp(max=_MOST_BALANCE).detach()
