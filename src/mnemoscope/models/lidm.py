"""LIDM: the latent image diffusion model, a diffusers ``UNet2DModel`` over single frames."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch.nn.functional as F
from diffusers import UNet2DModel
from jaxtyping import Float, Int
from pydantic import Field, model_validator
from torch import Tensor, nn

from mnemoscope.core.config import Config
from mnemoscope.core.errors import CorruptFile
from mnemoscope.core.files import read_json
from mnemoscope.models.generator import (
    UNFIT,
    GeneratorRecord,
    generator_folder,
    load_weights,
    read_record,
    require_sizes,
    save_generator,
)

_NORM_GROUPS = 16


class LidmArchitecture(Config):
    """Sizes of the network; the defaults are the small preset's.

    Attributes:
        channels: of each level, from fine to coarse; multiples of 16.
        layers: residual blocks of a level.
        attention: whether each level attends.
        head_channels: channels of an attention head; the channels of levels that attend and of the last are multiples.
    """

    channels: tuple[int, ...] = (64, 128, 128)
    layers: int = Field(1, ge=1)
    attention: tuple[bool, ...] = (False, True, True)
    head_channels: int = Field(32, ge=1)

    @model_validator(mode="after")
    def _fits_together(self) -> "LidmArchitecture":
        require_levels(self.channels, multiple_of=_NORM_GROUPS, each={"attention": self.attention})
        for number, width in enumerate(self.channels):
            attends = self.attention[number] or number == len(self.channels) - 1  # the middle block always attends
            if attends and width % self.head_channels:
                raise ValueError(f"channels: expected multiples of head_channels={self.head_channels}, found {width}")
        return self


def require_levels(channels: tuple[int, ...], *, multiple_of: int, each: Mapping[str, tuple[Any, ...]]) -> None:
    """Refuses levels that make no network.

    Args:
        channels: of each level.
        multiple_of: groups of the normalisation.
        each: names and values of what is given once for each level.

    Raises:
        ValueError: naming the setting.
    """
    if not channels or any(width < 1 or width % multiple_of for width in channels):
        raise ValueError(f"channels: expected one or more multiples of {multiple_of}, found {channels}")
    for name, values in each.items():
        if len(values) != len(channels):
            raise ValueError(
                f"{name}: expected one for each of the {len(channels)} levels of channels={channels}, found {values}"
            )


def paper_architecture() -> LidmArchitecture:
    """About 73 M parameters.

    Source: Dombrowski et al. 2024, section 3.
    """
    return LidmArchitecture(
        channels=(128, 256, 256, 512), layers=2, attention=(True, True, True, False), head_channels=8
    )


class Lidm(nn.Module):
    """Predicts v of noisy standardised latents; sides are padded to what the levels need and cut again.

    Args:
        unet: the diffusers network.
    """

    def __init__(self, unet: Any) -> None:
        super().__init__()
        self.unet = unet
        self.multiple = 2 ** (len(unet.config["block_out_channels"]) - 1)
        classes = unet.config["num_class_embeds"]
        self.n_classes = int(classes) - 1 if classes else 0

    def forward(
        self, x: Float[Tensor, "B C h w"], t: Int[Tensor, " B"], classes: Int[Tensor, " B"] | None = None
    ) -> Float[Tensor, "B C h w"]:
        """v of ``x`` at steps ``t`` (0–999); ``classes`` are numbers, the one after the last meaning *any*."""
        if not self.n_classes:
            classes = None  # every clip is of one kind
        elif classes is None:
            classes = t.new_full((len(x),), self.n_classes)
        padded = pad_sides(x, self.multiple)
        return self.unet(padded, t, class_labels=classes).sample[..., : x.shape[-2], : x.shape[-1]]


def pad_sides(x: Tensor, multiple: int) -> Tensor:
    """Adds zeros below and to the right until both sides (…, h, w) are multiples."""
    return F.pad(x, (0, -x.shape[-1] % multiple, 0, -x.shape[-2] % multiple))


def build_lidm(architecture: LidmArchitecture, *, frame_shape: tuple[int, int, int], n_classes: int = 0) -> Lidm:
    """A fresh network for latents (C, h, w); with classes, one more stands for *any*."""
    channels, height, width = frame_shape
    multiple = 2 ** (len(architecture.channels) - 1)
    unet = UNet2DModel(
        sample_size=max(height + -height % multiple, width + -width % multiple),
        in_channels=channels,
        out_channels=channels,
        block_out_channels=architecture.channels,
        layers_per_block=architecture.layers,
        down_block_types=tuple("AttnDownBlock2D" if a else "DownBlock2D" for a in architecture.attention),
        up_block_types=tuple("AttnUpBlock2D" if a else "UpBlock2D" for a in reversed(architecture.attention)),
        attention_head_dim=architecture.head_channels,
        norm_num_groups=_NORM_GROUPS,
        num_class_embeds=n_classes + 1 if n_classes else None,
    )
    return Lidm(unet)


def save_lidm(folder: Path, network: Lidm, record: GeneratorRecord) -> None:
    """Writes a LIDM; :func:`load_lidm` reads it."""
    save_generator(folder, network.unet, record)


def load_lidm(name: str | Path, *, device: str = "cpu") -> tuple[Lidm, GeneratorRecord]:
    """A LIDM and its record: ``bundled`` or a folder.

    Raises:
        InputError: if there is none.
        CorruptFile: if it is damaged.
    """
    folder = generator_folder(name, "lidm")
    record = read_record(folder, "lidm")
    try:
        network = Lidm(UNet2DModel.from_config(read_json(folder / "unet" / "config.json")))
    except UNFIT as error:
        raise CorruptFile(
            f"{folder}/unet/config.json: expected a UNet2DModel, found: {error}; train it again"
        ) from error
    n_classes = len(record.classes) + 1 if record.classes else None
    require_sizes(folder, network.unet, {"in_channels": record.frame_shape[0], "num_class_embeds": n_classes})
    load_weights(network.unet, folder)
    return network.to(device).eval(), record
