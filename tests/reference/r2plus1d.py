"""Oracle of names, shapes and values: torchvision's R(2+1)D-18, written out from its description, without modules."""

from collections.abc import Iterator, Mapping

import torch.nn.functional as F
from torch import Tensor

Shape = tuple[int, ...]
# Stage → (channels in, channels out, hidden channels of the first and of the second block), as published.
STAGES = ((64, 64, 144, 144), (64, 128, 230, 288), (128, 256, 460, 576), (256, 512, 921, 1152))
PARAMETERS = 31_505_325  # with 400 outputs


def r2plus1d_shapes(*, outputs: int = 400) -> dict[str, Shape]:
    """Parameters and buffers, in torchvision's order."""
    return dict(
        [
            ("stem.0.weight", (45, 3, 1, 7, 7)),
            *_norm("stem.1", 45),
            ("stem.3.weight", (64, 45, 3, 1, 1)),
            *_norm("stem.4", 64),
            *(entry for stage in range(4) for block in range(2) for entry in _block(stage, block)),
            ("fc.weight", (outputs, 512)),
            ("fc.bias", (outputs,)),
        ]
    )


def _block(stage: int, block: int) -> Iterator[tuple[str, Shape]]:
    entering, width, *hidden = STAGES[stage]
    for number in (1, 2):
        name = f"layer{stage + 1}.{block}.conv{number}"
        before, between = (entering if (block, number) == (0, 1) else width), hidden[block]
        yield f"{name}.0.0.weight", (between, before, 1, 3, 3)
        yield from _norm(f"{name}.0.1", between)
        yield f"{name}.0.3.weight", (width, between, 3, 1, 1)
        yield from _norm(f"{name}.1", width)
    if stage > 0 and block == 0:
        yield f"layer{stage + 1}.0.downsample.0.weight", (width, entering, 1, 1, 1)
        yield from _norm(f"layer{stage + 1}.0.downsample.1", width)


def _norm(name: str, width: int) -> Iterator[tuple[str, Shape]]:
    for part in ("weight", "bias", "running_mean", "running_var"):
        yield f"{name}.{part}", (width,)
    yield f"{name}.num_batches_tracked", ()


def r2plus1d_outputs(state: Mapping[str, Tensor], x: Tensor, *, blocks: int = 2, stem_stride: int = 2) -> Tensor:
    """Windows (B, C, T, H, W) to numbers, in the mode of use, for any number of stages."""

    def norm(name: str, x: Tensor) -> Tensor:
        return F.batch_norm(x, *(state[f"{name}.{p}"] for p in ("running_mean", "running_var", "weight", "bias")))

    def space(name: str, x: Tensor, stride: int) -> Tensor:
        weight = state[f"{name}.weight"]
        return F.conv3d(x, weight, stride=(1, stride, stride), padding=(0, weight.shape[3] // 2, weight.shape[4] // 2))

    def time(name: str, x: Tensor, stride: int) -> Tensor:
        return F.conv3d(x, state[f"{name}.weight"], stride=(stride, 1, 1), padding=(1, 0, 0))

    def both(name: str, x: Tensor, stride: int) -> Tensor:
        hidden = F.relu(norm(f"{name}.0.1", space(f"{name}.0.0", x, stride)))
        return norm(f"{name}.1", time(f"{name}.0.3", hidden, stride))

    x = F.relu(norm("stem.1", space("stem.0", x, stem_stride)))
    x = F.relu(norm("stem.4", time("stem.3", x, 1)))
    stages = sum(name.endswith(".0.conv1.0.0.weight") for name in state)
    for stage in range(1, stages + 1):
        for block in range(blocks):
            name, stride = f"layer{stage}.{block}", 2 if stage > 1 and block == 0 else 1
            skipped = x
            if f"{name}.downsample.0.weight" in state:
                skipped = F.conv3d(x, state[f"{name}.downsample.0.weight"], stride=stride)
                skipped = norm(f"{name}.downsample.1", skipped)
            x = F.relu(both(f"{name}.conv2", F.relu(both(f"{name}.conv1", x, stride)), 1) + skipped)
    return F.linear(x.flatten(2).mean(dim=2), state["fc.weight"], state["fc.bias"])
