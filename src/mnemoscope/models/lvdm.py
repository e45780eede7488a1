"""LVDM: the latent video diffusion model, conditioned on a frame, an ejection fraction and a class (the view)."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from diffusers import UNetSpatioTemporalConditionModel
from jaxtyping import Bool, Float, Int
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
from mnemoscope.models.lidm import pad_sides, require_levels

_ABSENT_EF = -100.0
_NORM_GROUPS = 32  # of UNetSpatioTemporalConditionModel, which lets nobody choose


class LvdmArchitecture(Config):
    """Sizes of the network; the defaults are the small preset's.

    Attributes:
        channels: of each level, from fine to coarse; multiples of 32.
        layers: residual blocks of a level.
        attention: whether each level attends to its frame, to the other frames and to the condition.
        heads: attention heads of each level; they divide the channels of levels that attend and of the last.
        time_channels: channels that each number given beside the step (EF, frames per second) is embedded in.
    """

    channels: tuple[int, ...] = (32, 64, 96)
    layers: int = Field(1, ge=1)
    attention: tuple[bool, ...] = (False, True, True)
    heads: tuple[int, ...] = (2, 2, 3)
    time_channels: int = Field(32, ge=2)

    @model_validator(mode="after")
    def _fits_together(self) -> "LvdmArchitecture":
        each = {"attention": self.attention, "heads": self.heads}
        require_levels(self.channels, multiple_of=_NORM_GROUPS, each=each)
        for number, (width, heads) in enumerate(zip(self.channels, self.heads, strict=True)):
            attends = self.attention[number] or number == len(self.channels) - 1  # the middle block always attends
            if attends and (heads < 1 or width % heads):
                raise ValueError(f"heads: expected a divisor of the level's {width} channels, found {heads}")
        return self


def paper_architecture() -> LvdmArchitecture:
    """The paper's sizes.

    Source: Dombrowski et al. 2024, section 3. The paper's condition is EF/100 alone, so that no EF and EF 0 are one and
    the same; ours says beside it whether EF and frame are given.
    """
    return LvdmArchitecture(
        channels=(128, 256, 256, 512),
        layers=2,
        attention=(True, True, True, False),
        heads=(8, 16, 16, 32),
        time_channels=256,
    )


@dataclass(frozen=True)
class Condition:
    """What B clips shall show; every field's first axis is the clip, so that labels cannot slip to other clips.

    Attributes:
        frame: standardised latents of a frame of the patient, (B, C, h, w).
        frame_given: whether the frame counts, (B,).
        ef: ejection fraction in percent, (B,).
        ef_given: whether EF counts, (B,).
        classes: class numbers, (B,); the one after the last means *any*.
    """

    frame: Float[Tensor, "B C h w"]
    frame_given: Bool[Tensor, " B"]
    ef: Float[Tensor, " B"]
    ef_given: Bool[Tensor, " B"]
    classes: Int[Tensor, " B"]

    def of(self, owner: Tensor) -> "Condition":
        """The conditions of the clips ``owner`` (n,), in that order; repeats allowed."""
        return Condition(*(getattr(self, name)[owner] for name in self.__dataclass_fields__))

    def without_ef(self) -> "Condition":
        """The same clips with any ejection fraction."""
        return replace(self, ef_given=torch.zeros_like(self.ef_given))

    def to(self, device: torch.device | str) -> "Condition":
        """The same on another device."""
        return Condition(*(getattr(self, name).to(device) for name in self.__dataclass_fields__))


class Lvdm(nn.Module):
    """Predicts v of noisy clips of standardised latents.

    Args:
        unet: the diffusers network.
        n_classes: number of classes; 0 for none.
        fps: frames per second of its clips.
    """

    def __init__(self, unet: Any, *, n_classes: int, fps: float) -> None:
        super().__init__()
        self.unet = unet
        self.multiple = 2 ** (len(unet.config["block_out_channels"]) - 1)
        self.n_classes, self.fps = n_classes, fps

    def forward(
        self, x: Float[Tensor, "B T C h w"], t: Int[Tensor, " B"], condition: Condition
    ) -> Float[Tensor, "B T C h w"]:
        """v of ``x`` at steps ``t`` (0–999)."""
        given = condition.frame_given[:, None, None, None]
        shown = torch.where(given, condition.frame, torch.zeros_like(condition.frame))
        both = torch.cat([x, shown[:, None].expand_as(x)], dim=2)  # (B, T, 2C, h, w)
        v = self.unet(pad_sides(both, self.multiple), t, self._context(condition), self._numbers(condition)).sample
        return v[..., : x.shape[-2], : x.shape[-1]]

    def _context(self, c: Condition) -> Float[Tensor, "B 1 D"]:
        """(EF/100, EF given, frame given, one of the classes), what every layer attends to."""
        ef = torch.where(c.ef_given, c.ef / 100, torch.zeros_like(c.ef))
        flags = torch.stack([ef, c.ef_given.float(), c.frame_given.float()], dim=1)
        return torch.cat([flags, nn.functional.one_hot(c.classes, self.n_classes + 1).float()], dim=1)[:, None]

    def _numbers(self, c: Condition) -> Float[Tensor, "B 2"]:
        """(EF, frames per second), which join the step."""
        ef = torch.where(c.ef_given, c.ef, torch.full_like(c.ef, _ABSENT_EF))
        return torch.stack([ef, torch.full_like(ef, self.fps)], dim=1)


def build_lvdm(
    architecture: LvdmArchitecture,
    *,
    frame_shape: tuple[int, int, int],
    window_frames: int,
    fps: float,
    n_classes: int = 0,
) -> Lvdm:
    """A fresh network for clips of latents (C, h, w)."""
    channels, height, width = frame_shape
    multiple = 2 ** (len(architecture.channels) - 1)
    down = {True: "CrossAttnDownBlockSpatioTemporal", False: "DownBlockSpatioTemporal"}
    up = {True: "CrossAttnUpBlockSpatioTemporal", False: "UpBlockSpatioTemporal"}
    unet = UNetSpatioTemporalConditionModel(
        sample_size=max(height + -height % multiple, width + -width % multiple),
        in_channels=2 * channels,
        out_channels=channels,
        block_out_channels=architecture.channels,
        layers_per_block=architecture.layers,
        down_block_types=tuple(down[a] for a in architecture.attention),
        up_block_types=tuple(up[a] for a in reversed(architecture.attention)),
        num_attention_heads=architecture.heads,
        cross_attention_dim=3 + n_classes + 1,
        addition_time_embed_dim=architecture.time_channels,
        projection_class_embeddings_input_dim=2 * architecture.time_channels,
        num_frames=window_frames,
    )
    return Lvdm(unet, n_classes=n_classes, fps=fps)


def save_lvdm(folder: Path, network: Lvdm, record: GeneratorRecord) -> None:
    """Writes an LVDM; :func:`load_lvdm` reads it."""
    save_generator(folder, network.unet, record)


def load_lvdm(name: str | Path, *, device: str = "cpu") -> tuple[Lvdm, GeneratorRecord]:
    """An LVDM and its record: ``bundled`` or a folder.

    Raises:
        InputError: if there is none.
        CorruptFile: if it is damaged.
    """
    folder = generator_folder(name, "lvdm")
    record = read_record(folder, "lvdm")
    try:
        unet = UNetSpatioTemporalConditionModel.from_config(read_json(folder / "unet" / "config.json"))
        network = Lvdm(unet, n_classes=len(record.classes), fps=float(record.fps or 0))
    except UNFIT as error:
        raise CorruptFile(
            f"{folder}/unet/config.json: expected an UNetSpatioTemporalConditionModel, found: {error}; train it again"
        ) from error
    context = 3 + len(record.classes) + 1
    require_sizes(folder, network.unet, {"out_channels": record.frame_shape[0], "cross_attention_dim": context})
    load_weights(network.unet, folder)
    return network.to(device).eval(), record
