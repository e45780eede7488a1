"""The re-identification network: a siamese ResNet, |f_a − f_b|, one linear layer; logit of "same patient".

Parameter names are those of the published checkpoints: torchvision's ResNet names under ``model.`` and ``fc_end``.
"""

from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from monai.networks.nets.resnet import ResNet
from pydantic import Field
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from mnemoscope.core.config import Config, build
from mnemoscope.core.errors import ConfigError, CorruptFile, DegenerateValues, Mismatch
from mnemoscope.core.files import read_json, whole_folder, write_json
from mnemoscope.latents.scaling import Scaling, ScalingMode
from mnemoscope.latents.store import LatentStore, Space
from mnemoscope.models.plain import read_state
from mnemoscope.search import WeightedL1

Backbone = Literal["resnet50", "small", "compact"]
Initial = Literal["random", "bundled"]

BUNDLED_FOLDER = Path(__file__).parent / "bundled" / "reid"
CONFIG_FILE, WEIGHTS_FILE = "config.json", "model.safetensors"
_BATCH_FRAMES = 256
_FIRST_COPY_LOGIT = 5.0  # before training strangers lie near −5, so that logit 0 parts the two from the start
_UNFIT = (ConfigError, DegenerateValues, KeyError, OSError, RuntimeError, SafetensorError, TypeError, ValueError)


class ReidArchitecture(Config):
    """What the network looks like and what it takes.

    Attributes:
        backbone: ``resnet50``; ``small``, a ResNet of one basic block a level; or ``compact``, three convolutions and
            two dense layers, which keep where in the sector something lies (pooling over all places does not).
        stem: ``imagenet`` (7×7 stride 2 and max-pooling, as published) or ``dense`` (3×3, stride 1, no pooling),
            which keeps the cells of a 14×14 latent.
        head: ``free`` (as published) or ``monotone``: weights ≤ 0, so that an exact copy has the highest logit.
        scaling: how latents or pixels are scaled before the network, by the train store's constants.
        channels: channels of the input, 4 for the latents, 1 for gray pixels.
        features: length D of the feature vector.
    """

    backbone: Backbone = "resnet50"
    stem: Literal["imagenet", "dense"] = "imagenet"
    head: Literal["free", "monotone"] = "free"
    scaling: ScalingMode = "minmax"
    space: Space = "latent"
    channels: int = Field(4, ge=1)
    features: int = Field(128, ge=1)


def paper_architecture(*, space: Space, channels: int) -> ReidArchitecture:
    """The network of the paper; scaling is fixed rather than per clip (SCIENCE: faults 5 and 8)."""
    return ReidArchitecture(space=space, channels=channels)


def default_architecture(*, space: Space, channels: int, backbone: Backbone = "compact") -> ReidArchitecture:
    """Monotone head, standardised input, and in latent space a stem that does not shrink 14×14."""
    stem: Literal["imagenet", "dense"] = "dense" if space == "latent" else "imagenet"
    return ReidArchitecture(
        backbone=backbone, stem=stem, head="monotone", scaling="standard", space=space, channels=channels
    )


class Reid(nn.Module):
    """Siamese re-identification network (Eq. 2 of the paper).

    Input is scaled latents or pixels (B, C, h, w); features are squashed by a sigmoid into (0, 1), as published.
    """

    def __init__(self, architecture: ReidArchitecture) -> None:
        super().__init__()
        self.architecture = architecture
        self.model = _backbone(architecture)
        self.fc_end = nn.Linear(architecture.features, 1)
        if architecture.head == "monotone":
            nn.init.constant_(self.fc_end.bias, _FIRST_COPY_LOGIT)

    def forward(self, x: Float[Tensor, "B C h w"]) -> Float[Tensor, "B D"]:
        """Features of each frame."""
        return torch.sigmoid(self.model(x))

    def head_weight(self) -> Float[Tensor, " D"]:
        """Weight of each feature difference; never positive if the head is monotone."""
        weight = self.fc_end.weight[0]
        return -F.softplus(weight) if self.architecture.head == "monotone" else weight

    def logits(self, a: Float[Tensor, "*n D"], b: Float[Tensor, "*n D"]) -> Float[Tensor, "*n"]:
        """Logit of "same patient" of feature pairs; shapes broadcast against each other."""
        return (a - b).abs() @ self.head_weight() + self.fc_end.bias[0]

    def logit_matrix(self, a: Float[Tensor, "N D"], b: Float[Tensor, "M D"]) -> Float[Tensor, "N M"]:
        """Logits of every row of ``a`` with every row of ``b``."""
        if self.architecture.head == "free":
            return self.logits(a[:, None], b[None])
        # Weights of one sign make it a distance, for which torch needs a tenth of the time and no (N, M, D) array.
        weight = -self.head_weight()
        return self.fc_end.bias[0] - torch.cdist(a * weight, b * weight, p=1)

    def search_head(self) -> WeightedL1:
        """The head as the search takes it."""
        weight = self.head_weight().detach().float().cpu().numpy()
        return WeightedL1(weight=weight, bias=float(self.fc_end.bias.detach()[0]))


def _backbone(a: ReidArchitecture) -> nn.Module:
    shared: dict[str, Any] = {
        "spatial_dims": 2,
        "n_input_channels": a.channels,
        "num_classes": a.features,
        "bias_downsample": False,
    }
    stem: dict[str, Any] = {"conv1_t_size": 7, "conv1_t_stride": 2}
    if a.stem == "dense":
        stem = {"conv1_t_size": 3, "conv1_t_stride": 1, "no_max_pool": True}
    if a.backbone == "compact":
        return _compact(a)
    if a.backbone == "small":
        return ResNet("basic", [1, 1, 1, 1], [32, 64, 128, 256], **shared, **stem)
    return ResNet("bottleneck", [3, 4, 6, 3], [64, 128, 256, 512], **shared, **stem)


def _compact(a: ReidArchitecture, *, width: int = 32, hidden: int = 512) -> nn.Module:
    """For 14×14 latents 14 → 7 → 4 cells; what is larger is averaged down to 4×4 before the dense layers."""
    size, stride = (3, 1) if a.stem == "dense" else (7, 2)
    return nn.Sequential(
        *_activated(nn.Conv2d(a.channels, width, size, stride, size // 2), nn.BatchNorm2d(width)),
        *([] if a.stem == "dense" else [nn.MaxPool2d(3, 2, 1)]),
        *_activated(nn.Conv2d(width, 2 * width, 3, 2, 1), nn.BatchNorm2d(2 * width)),
        *_activated(nn.Conv2d(2 * width, 4 * width, 3, 2, 1), nn.BatchNorm2d(4 * width)),
        nn.AdaptiveAvgPool2d(4),
        nn.Flatten(),
        *_activated(nn.Linear(4 * width * 16, hidden), nn.BatchNorm1d(hidden)),
        nn.Linear(hidden, a.features),
    )


def _activated(layer: nn.Module, norm: nn.Module) -> list[nn.Module]:
    return [layer, nn.GELU(), norm]


class ReidModel:
    """A trained network with the scaling constants of its train set, on a device: frames in, features out.

    Args:
        network: the network.
        scaling: the train store's constants.
        encoder: fingerprint of the VAE (or ``pixels``) that made the train store.
        preset: name of the training preset, for the record.
        initial: the weights that training began with, for the record.
        device: torch device.
    """

    def __init__(
        self,
        network: Reid,
        *,
        scaling: Scaling,
        encoder: str,
        preset: str,
        initial: Initial = "random",
        device: str = "cpu",
    ) -> None:
        if scaling.channels != network.architecture.channels:
            raise Mismatch(
                f"the re-identification model takes {network.architecture.channels} channels, "
                f"the latents have {scaling.channels}; train it on this store (mnemoscope train reid)"
            )
        self.network = network.to(device).eval()
        self.scaling = scaling
        self.encoder = encoder
        self.preset = preset
        self.initial: Initial = initial
        self.device = device

    @torch.inference_mode()
    def embed(self, frames: np.ndarray) -> np.ndarray:
        """Stored frames (B, C, h, w) to float32 features (B, D)."""
        blocks = []
        for first in range(0, len(frames), _BATCH_FRAMES):
            x = self.scaling.apply(frames[first : first + _BATCH_FRAMES], self.network.architecture.scaling)
            blocks.append(self.network(torch.from_numpy(x).to(self.device)).float().cpu().numpy())
        return np.concatenate(blocks)

    def require_store(self, store: LatentStore) -> None:
        """Refuses a store of another space, another encoder or other scaling constants.

        Raises:
            Mismatch: naming both.
        """
        mine = self.network.architecture.space
        if store.record.space != mine:
            raise Mismatch(
                f"{store.folder}: holds {store.record.space} frames, the re-identification model takes {mine}"
            )
        if store.record.encoder != self.encoder:
            raise Mismatch(
                f"{store.folder}: encoded by {store.record.encoder}, the re-identification model was trained on "
                f"latents of {self.encoder}; encode with that VAE (--vae), or train a model on this store"
            )
        store.require_scaling(self.scaling, owner="re-identification model")

    def save(self, folder: Path) -> None:
        """Writes ``config.json`` and ``model.safetensors``; the folder appears whole."""
        with whole_folder(folder) as temporary:
            save_file(_contiguous(self.network.state_dict()), temporary / WEIGHTS_FILE)
            write_json(
                temporary / CONFIG_FILE,
                {
                    "model": "mnemoscope.reid/1",
                    "preset": self.preset,
                    "initial": self.initial,
                    "encoder": self.encoder,
                    "architecture": self.network.architecture.model_dump(),
                    "scaling": self.scaling.to_json(),
                },
            )


def load_reid(folder: Path, *, device: str = "cpu") -> ReidModel:
    """Reads a model folder.

    Raises:
        CorruptFile: if it is not one of ours or its weights do not fit.
    """
    values = read_json(folder / CONFIG_FILE)
    if values.get("model") != "mnemoscope.reid/1":
        raise CorruptFile(f"{folder / CONFIG_FILE}: expected a re-identification model, found {values.get('model')!r}")
    try:
        network = Reid(build(ReidArchitecture, values["architecture"]))
        network.load_state_dict(load_file(folder / WEIGHTS_FILE))
        scaling = Scaling.from_json(values["scaling"])
        record = {name: str(values[name]) for name in ("encoder", "preset")}
        initial: Initial = "bundled" if values["initial"] == "bundled" else "random"
    except _UNFIT as error:
        raise CorruptFile(
            f"{folder}: expected weights and scaling that fit {CONFIG_FILE}, found: {error}; train the model again "
            f"(mnemoscope train reid)"
        ) from error
    return ReidModel(network, scaling=scaling, initial=initial, device=device, **record)


def bundled_weights_fit(architecture: ReidArchitecture, encoder: str) -> bool:
    """Whether the bundled weights, trained on the phantom, can begin a training of this network on such latents."""
    values = read_json(BUNDLED_FOLDER / CONFIG_FILE)
    return bool(values["encoder"] == encoder and build(ReidArchitecture, values["architecture"]) == architecture)


def load_bundled_weights(network: Reid, *, encoder: str) -> None:
    """Begins with the weights that were trained on phantom patients (`docs/results/audit.md`).

    Raises:
        Mismatch: if they are for another network, or for the latents of another VAE.
    """
    if not bundled_weights_fit(network.architecture, encoder):
        raise Mismatch(
            "the bundled re-identification weights fit the default network on latents of the bundled VAE alone; "
            "choose both, or begin with random weights (--set reid.initial=random)"
        )
    _load_strictly(network, {k: v.float() for k, v in load_file(BUNDLED_FOLDER / WEIGHTS_FILE).items()}, BUNDLED_FOLDER)


def load_published_checkpoint(network: Reid, path: Path) -> None:
    """Loads a published re-identification checkpoint (``.pt``/``.pth``/``.safetensors``) by name, all of it.

    Raises:
        CorruptFile: if the file is not a plain state dict of these names and shapes.
        Mismatch: if the network's head is monotone, which would read the published weights as others.
    """
    if network.architecture.head != "free":
        raise Mismatch(
            f"{path}: a published checkpoint needs a free head, the network has a monotone one; choose --preset paper "
            f"or --set reid.architecture.head=free"
        )
    _load_strictly(network, read_state(path), path)


def load_imagenet_weights(network: Reid, path: Path) -> None:
    """Loads torchvision's ImageNet ResNet-50 weights into the backbone, by name.

    The final layer is left as initialised, and so is the first convolution when the input has not three channels,
    as in the paper.

    Raises:
        CorruptFile: if names or shapes are not those of a ResNet-50.
    """
    state, own = read_state(path), network.model.state_dict()
    replaced = {"fc.weight", "fc.bias"}
    if "conv1.weight" in state and state["conv1.weight"].shape != own["conv1.weight"].shape:
        replaced.add("conv1.weight")
    _load_strictly(network.model, state | {name: own[name] for name in replaced}, path)


def _load_strictly(module: nn.Module, state: dict[str, Tensor], path: Path) -> None:
    try:
        module.load_state_dict(state)
    except RuntimeError as error:
        raise CorruptFile(
            f"{path}: expected the names and shapes of this architecture, found others: {error}; choose the fitting "
            f"backbone, stem, channels and features (--set reid.architecture.…)"
        ) from error


def _contiguous(state: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: value.detach().cpu().contiguous() for name, value in state.items()}
