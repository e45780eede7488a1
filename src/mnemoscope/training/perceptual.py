"""The perceptual term of Eq. 1: a distance of frames in the features of a network that is not trained."""

import importlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import torch
from jaxtyping import Float
from monai.networks.nets.resnet import ResNet
from pydantic import Field, model_validator
from torch import Tensor, nn

from mnemoscope.core.config import Config
from mnemoscope.core.errors import ConfigError, CorruptFile, InputError
from mnemoscope.models.initial import named_weights
from mnemoscope.models.plain import read_state

Distance = Callable[[Tensor, Tensor], Tensor]

_IMAGENET_MEAN = (0.485, 0.456, 0.406)
_IMAGENET_STD = (0.229, 0.224, 0.225)
_STAGES = ("layer1", "layer2", "layer3", "layer4")


class PerceptualConfig(Config):
    """The perceptual term.

    Attributes:
        kind: ``none``; ``lpips``, which needs its library and torchvision; or ``resnet50``, features of ``weights``.
        weight: of the term.
        weights: file with torchvision's ResNet-50 weights, by name, for ``resnet50``.
    """

    kind: Literal["none", "lpips", "resnet50"] = "none"
    weight: float = Field(1.0, gt=0)
    weights: Path | None = None

    @model_validator(mode="after")
    def _weights_belong_to_resnet50(self) -> "PerceptualConfig":
        if (self.kind == "resnet50") != (self.weights is not None):
            raise ValueError(
                "resnet50 and no other kind takes a file of weights; give kind=resnet50 and weights=FILE together "
                "(--set vae.perceptual.kind=resnet50 --set vae.perceptual.weights=FILE), or neither"
            )
        return self


def perceptual_distance(config: PerceptualConfig) -> Distance | None:
    """The distance of two batches of frames (B, 1 or 3, H, W) in [−1, 1], a scalar; None without the term.

    Raises:
        ConfigError: if LPIPS is asked for where its library, or torchvision, is absent.
        InputError: if LPIPS cannot get the weights of its network.
        CorruptFile: if the file of weights is damaged or of another network.
    """
    if config.kind == "lpips":
        return _Lpips(_lpips_network())
    if config.weights is not None:
        return _FeatureDistance(_resnet50(config.weights))
    return None


class _Lpips:
    def __init__(self, network: nn.Module) -> None:
        self._network = network.eval().requires_grad_(False)

    def __call__(self, decoded: Tensor, frames: Tensor) -> Tensor:
        network = self._network.to(frames.device)
        distance: Tensor = network(_colour(decoded), _colour(frames)).mean()
        return distance


class _FeatureDistance:
    def __init__(self, network: Any) -> None:
        self._network = network.eval().requires_grad_(False)

    def __call__(self, decoded: Tensor, frames: Tensor) -> Tensor:
        self._network.to(frames.device)
        with torch.no_grad():
            wanted = _stages(self._network, frames)
        return feature_distance(_stages(self._network, decoded), wanted)


def feature_distance(a: list[Float[Tensor, "B D h w"]], b: list[Float[Tensor, "B D h w"]]) -> Tensor:
    """Squared distance of the features' directions at each place, mean over places and frames, then over stages.

    Source: Zhang et al. 2018, equation 1, with every channel weighing the same.
    """
    per_stage = [(_direction(p) - _direction(q)).square().sum(dim=1).mean() for p, q in zip(a, b, strict=True)]
    return torch.stack(per_stage).mean()


def _direction(features: Float[Tensor, "B D h w"]) -> Float[Tensor, "B D h w"]:
    # The small number stands under the root: a place without any feature would have no gradient, but NaN.
    return features.float() * (features.float().square().sum(dim=1, keepdim=True) + 1e-10).rsqrt()


def _stages(network: Any, frames: Float[Tensor, "B C H W"]) -> list[Tensor]:
    mean, std = (torch.tensor(v, device=frames.device)[:, None, None] for v in (_IMAGENET_MEAN, _IMAGENET_STD))
    x = ((_colour(frames) + 1) / 2 - mean) / std
    x = network.maxpool(network.act(network.bn1(network.conv1(x))))
    found = []
    for stage in _STAGES:
        x = getattr(network, stage)(x)
        found.append(x)
    return found


def _colour(frames: Float[Tensor, "B C H W"]) -> Float[Tensor, "B 3 H W"]:
    return frames.expand(-1, 3, -1, -1)


def _lpips_network() -> nn.Module:
    try:
        lpips: Any = importlib.import_module("lpips")
    except (ImportError, RuntimeError) as error:  # RuntimeError: torchvision beside a torch it was not built for
        raise ConfigError(
            f"vae.perceptual.kind=lpips: expected the libraries lpips and torchvision, got: {error}; "
            f"pip install lpips torchvision, or choose features of a ResNet-50 "
            f"(--set vae.perceptual.kind=resnet50 --set vae.perceptual.weights=FILE) or none "
            f"(--set vae.perceptual.kind=none)"
        ) from error
    try:
        with named_weights(0, "lpips"):  # its layers are drawn before they are loaded
            network: nn.Module = lpips.LPIPS(net="vgg", verbose=False)
    except OSError as error:
        raise InputError(
            f"vae.perceptual.kind=lpips: expected torchvision's VGG-16 weights, got: {error}; connect once, so that "
            f"torchvision can download them, or put vgg16-397923af.pth into torch's folder hub/checkpoints"
        ) from error
    return network


def _resnet50(path: Path) -> nn.Module:
    with named_weights(0, "perceptual"):
        network: nn.Module = ResNet(
            "bottleneck",
            [3, 4, 6, 3],
            [64, 128, 256, 512],
            spatial_dims=2,
            n_input_channels=3,
            conv1_t_size=7,
            conv1_t_stride=2,
            bias_downsample=False,
            feed_forward=False,
        )
    state = {name: value for name, value in read_state(path).items() if not name.startswith("fc.")}
    try:
        network.load_state_dict(state)
    except RuntimeError as error:
        raise CorruptFile(
            f"{path}: expected torchvision's names and shapes of a ResNet-50 with three input channels, found others: "
            f"{error}; give its ImageNet weights (--set vae.perceptual.weights=FILE)"
        ) from error
    return network
