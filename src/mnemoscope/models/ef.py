"""EF regression: R(2+1)D, which reads the ejection fraction off windows of a clip.

Names and shapes of the weights are torchvision's, so that Kinetics weights of ``r2plus1d_18`` and the published
EchoNet-Dynamic checkpoints load by name.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from pydantic import Field
from safetensors.torch import save_file
from torch import Tensor, nn

from mnemoscope.core.config import Config, build
from mnemoscope.core.errors import ConfigError, CorruptFile, InputError
from mnemoscope.core.files import read_json, whole_folder, write_json
from mnemoscope.core.types import Frames
from mnemoscope.data.transform import FrameTransform, fit_frame
from mnemoscope.models.plain import read_state

CONFIG_FILE, WEIGHTS_FILE = "config.json", "model.safetensors"
_FORMAT = "mnemoscope.ef/1"
_PARALLEL = "module."  # what torch's DataParallel, which trained the published checkpoints, puts before every name
_BATCH_WINDOWS = 32


class EfArchitecture(Config):
    """Sizes of the network; the defaults are R(2+1)D-18.

    Attributes:
        channels: of a frame; a gray frame is repeated for each.
        stem: channels between the first convolution in space and the first in time.
        widths: channels of each stage, from fine to coarse; every stage but the first halves space and time.
        blocks: residual blocks of a stage.
        stem_stride: in space, of the first convolution.
    """

    channels: int = Field(3, ge=1)
    stem: int = Field(45, ge=1)
    widths: tuple[int, ...] = Field((64, 128, 256, 512), min_length=1)
    blocks: int = Field(2, ge=1)
    stem_stride: int = Field(2, ge=1)


class R2Plus1D(nn.Module):
    """Windows (B, C, T, H, W) to numbers (B, outputs).

    Source: Tran et al. 2018, as torchvision's ``r2plus1d_18`` (31,505,325 parameters with 400 outputs).
    """

    def __init__(self, architecture: EfArchitecture, *, outputs: int = 1) -> None:
        super().__init__()
        first, stride = architecture.widths[0], architecture.stem_stride
        self.stem = nn.Sequential(
            nn.Conv3d(architecture.channels, architecture.stem, (1, 7, 7), (1, stride, stride), (0, 3, 3), bias=False),
            nn.BatchNorm3d(architecture.stem),
            nn.ReLU(inplace=True),
            nn.Conv3d(architecture.stem, first, (3, 1, 1), 1, (1, 0, 0), bias=False),
            nn.BatchNorm3d(first),
            nn.ReLU(inplace=True),
        )
        before = (first, *architecture.widths)
        for number, width in enumerate(architecture.widths):
            self.add_module(
                f"layer{number + 1}",
                nn.Sequential(
                    _Block(before[number], width, stride=1 if number == 0 else 2),
                    *(_Block(width, width, stride=1) for _ in range(architecture.blocks - 1)),
                ),
            )
        self.fc = nn.Linear(architecture.widths[-1], outputs)
        self._stages, self._channels = len(architecture.widths), architecture.channels
        _initialise(self)

    def forward(self, windows: Float[Tensor, "B C T H W"]) -> Float[Tensor, "B outputs"]:
        """The numbers of each window; a gray one stands for all channels."""
        shown = windows.expand(-1, self._channels, -1, -1, -1)
        x = self.stem(shown.contiguous(memory_format=torch.channels_last_3d))  # 1.4 to 2 times as fast on a CPU
        for number in range(self._stages):
            x = self.get_submodule(f"layer{number + 1}")(x)
        return self.fc(x.mean(dim=(2, 3, 4)))


class _Block(nn.Module):
    def __init__(self, before: int, after: int, *, stride: int) -> None:
        super().__init__()
        # Both convolutions get the hidden channels that the first one needs for the weights of a full 3 × 3 × 3 one.
        hidden = before * after * 27 // (before * 9 + 3 * after)
        first = nn.Sequential(*_factored(before, hidden, after, stride))
        self.conv1 = nn.Sequential(first, nn.BatchNorm3d(after), nn.ReLU(inplace=True))
        self.conv2 = nn.Sequential(nn.Sequential(*_factored(after, hidden, after, 1)), nn.BatchNorm3d(after))
        self.relu = nn.ReLU(inplace=True)
        self.downsample = None
        if stride != 1 or before != after:
            self.downsample = nn.Sequential(nn.Conv3d(before, after, 1, stride, bias=False), nn.BatchNorm3d(after))

    def forward(self, x: Tensor) -> Tensor:
        skipped = x if self.downsample is None else self.downsample(x)
        return self.relu(self.conv2(self.conv1(x)) + skipped)


def _factored(before: int, hidden: int, after: int, stride: int) -> list[nn.Module]:
    """A convolution in space, then one in time."""
    return [
        nn.Conv3d(before, hidden, (1, 3, 3), (1, stride, stride), (0, 1, 1), bias=False),
        nn.BatchNorm3d(hidden),
        nn.ReLU(inplace=True),
        nn.Conv3d(hidden, after, (3, 1, 1), (stride, 1, 1), (1, 0, 0), bias=False),
    ]


def _initialise(network: nn.Module) -> None:
    for module in network.modules():
        if isinstance(module, nn.Conv3d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        elif isinstance(module, nn.Linear):
            nn.init.normal_(module.weight, 0, 0.01)
            nn.init.zeros_(module.bias)


class EfRecord(Config):
    """What a network reads: windows of frames of one size, at every ``period``-th frame, in units of the train clips.

    Attributes:
        architecture: the network.
        n_frames: of a window.
        period: frames of the clip for one of the window.
        windows: of a clip that a reading averages, at even distance; None takes all of them.
        height: of a frame, in pixels.
        width: of a frame, in pixels.
        mean: gray value of the train clips, 0–255.
        std: its standard deviation.
    """

    architecture: EfArchitecture
    n_frames: int = Field(32, ge=1)
    period: int = Field(2, ge=1)
    windows: int | None = Field(None, ge=1)
    height: int = Field(112, ge=1)
    width: int = Field(112, ge=1)
    mean: float
    std: float = Field(gt=0)

    def last_start(self, clip_frames: int) -> int:
        """The last frame that a window of a clip can start at; a clip that is too short is filled up to one window."""
        return max(clip_frames, self.n_frames * self.period) - (self.n_frames - 1) * self.period - 1

    def starts(self, clip_frames: int) -> np.ndarray:
        """First frames of the windows that a reading averages."""
        last = self.last_start(clip_frames)
        if self.windows is None or self.windows > last:
            return np.arange(last + 1)
        return np.rint(np.linspace(0, last, self.windows + 2)[1:-1]).astype(np.int64)

    def window(self, frames: np.ndarray, start: int) -> np.ndarray:
        """One window of a clip of uint8 (T, H, W), float32 (n_frames, H, W); beyond the end stands the mean gray."""
        seen = frames[start : start + self.n_frames * self.period : self.period][: self.n_frames]
        window = np.zeros((self.n_frames, *frames.shape[1:]), dtype=np.float32)
        window[: len(seen)] = (seen.astype(np.float32) - np.float32(self.mean)) / np.float32(self.std)
        return window


@dataclass(frozen=True)
class EfModel:
    """A network and what it reads; on the CPU unless moved."""

    network: R2Plus1D
    record: EfRecord

    @torch.inference_mode()
    def read(self, frames: np.ndarray) -> float:
        """EF in percent, the mean over the windows of a clip of uint8 frames (T, height, width).

        Raises:
            InputError: for frames of another size, or none.

        Source: test-time clips of EchoNet-Dynamic (Ouyang et al. 2020).
        """
        size = (self.record.height, self.record.width)
        if len(frames) == 0 or frames.shape[1:] != size:
            raise InputError(f"expected one gray frame or more of {size[0]}×{size[1]}, got shape {frames.shape}")
        device = next(self.network.parameters()).device
        windows = [self.record.window(frames, int(start)) for start in self.record.starts(len(frames))]
        blocks = torch.from_numpy(np.stack(windows))[:, None].split(_BATCH_WINDOWS)
        return float(torch.cat([self.network(block.to(device)) for block in blocks]).double().mean())

    def measure(self, frames: Frames, fps: float) -> float:
        """As :meth:`read`, of frames of any size, gray or colour; ``fps`` should be that of the train clips."""
        gray = frames if frames.ndim == 3 else np.rint(frames.mean(axis=-1)).astype(np.uint8)
        size = FrameTransform(height=self.record.height, width=self.record.width)
        return self.read(np.stack([fit_frame(frame, size) for frame in gray]))

    def save(self, folder: Path) -> None:
        """Writes ``config.json`` and ``model.safetensors``; the folder appears whole."""
        with whole_folder(folder) as temporary:
            state = {name: value.detach().cpu().contiguous() for name, value in self.network.state_dict().items()}
            save_file(state, temporary / WEIGHTS_FILE)
            write_json(temporary / CONFIG_FILE, {"model": _FORMAT} | self.record.model_dump(mode="json"))


def load_ef(folder: Path, *, device: str = "cpu") -> EfModel:
    """Reads a model folder.

    Raises:
        InputError: if there is none.
        CorruptFile: if it is not one of ours or its weights do not fit.
    """
    if not (folder / CONFIG_FILE).is_file():
        raise InputError(f"{folder}: expected the folder of an EF model, found no {CONFIG_FILE} (mnemoscope train ef)")
    values = read_json(folder / CONFIG_FILE)
    if values.pop("model", None) != _FORMAT:
        raise CorruptFile(f"{folder / CONFIG_FILE}: expected a model of format {_FORMAT!r}; train it again")
    try:
        record = build(EfRecord, values)
    except ConfigError as error:
        raise CorruptFile(f"{folder / CONFIG_FILE}: {error}; train it again (mnemoscope train ef)") from error
    network = R2Plus1D(record.architecture)
    load_weights(network, folder / WEIGHTS_FILE, new_head=False)
    return EfModel(network.to(device).eval(), record)


def load_weights(network: R2Plus1D, path: Path, *, new_head: bool) -> bool:
    """Loads weights (``.pt``, ``.pth``, ``.safetensors``) by name, all of them.

    Args:
        network: takes them.
        path: weights with torchvision's names, or with ``module.`` before each, alone or as ``state_dict``.
        new_head: a final layer of other outputs, such as the 400 of Kinetics, is left as it is in the network.

    Returns:
        Whether the final layer came with the weights.

    Raises:
        CorruptFile: if names or shapes are others.
    """
    state, own = read_state(path), network.state_dict()
    if all(name.startswith(_PARALLEL) for name in state):
        state = {name.removeprefix(_PARALLEL): value for name, value in state.items()}
    head = {name: own[name] for name in ("fc.weight", "fc.bias")}
    with_head = all(name in state and state[name].shape == value.shape for name, value in head.items())
    try:
        network.load_state_dict(state if with_head or not new_head else state | head)
    except RuntimeError as error:
        raise CorruptFile(
            f"{path}: expected the names and shapes of this architecture, found others: {error}; choose the fitting "
            f"one (--set ef.architecture.…)"
        ) from error
    return with_head
