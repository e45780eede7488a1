"""Oracle of names and shapes: torchvision's ResNet-50, written out from its description, without torch modules."""

from collections.abc import Iterator

Shape = tuple[int, ...]
BLOCKS = (3, 4, 6, 3)
WIDTHS = (64, 128, 256, 512)
EXPANSION = 4


def resnet50_shapes(*, channels: int = 3, outputs: int = 1000) -> dict[str, Shape]:
    """Parameters and buffers, in torchvision's order."""
    return dict(
        [
            ("conv1.weight", (64, channels, 7, 7)),
            *_norm("bn1", 64),
            *(entry for level in range(4) for entry in _level(level)),
            ("fc.weight", (outputs, WIDTHS[-1] * EXPANSION)),
            ("fc.bias", (outputs,)),
        ]
    )


def published_reid_shapes() -> dict[str, Shape]:
    """The published re-identification checkpoints: the backbone under ``model.``, 4 channels in, 128 features out."""
    backbone = {f"model.{name}": shape for name, shape in resnet50_shapes(channels=4, outputs=128).items()}
    return backbone | {"fc_end.weight": (1, 128), "fc_end.bias": (1,)}


def is_parameter(name: str) -> bool:
    """Whether a name is learned rather than counted or averaged."""
    return name.rsplit(".", 1)[1] in ("weight", "bias")


def _level(level: int) -> Iterator[tuple[str, Shape]]:
    width = WIDTHS[level]
    for block in range(BLOCKS[level]):
        name = f"layer{level + 1}.{block}"
        entering = (64 if level == 0 else WIDTHS[level - 1] * EXPANSION) if block == 0 else width * EXPANSION
        yield from _convolution(f"{name}.conv1", f"{name}.bn1", (width, entering, 1, 1))
        yield from _convolution(f"{name}.conv2", f"{name}.bn2", (width, width, 3, 3))
        yield from _convolution(f"{name}.conv3", f"{name}.bn3", (width * EXPANSION, width, 1, 1))
        if block == 0:
            yield from _convolution(f"{name}.downsample.0", f"{name}.downsample.1", (width * EXPANSION, entering, 1, 1))


def _convolution(name: str, norm: str, shape: Shape) -> Iterator[tuple[str, Shape]]:
    yield f"{name}.weight", shape
    yield from _norm(norm, shape[0])


def _norm(name: str, width: int) -> Iterator[tuple[str, Shape]]:
    for part in ("weight", "bias", "running_mean", "running_var"):
        yield f"{name}.{part}", (width,)
    yield f"{name}.num_batches_tracked", ()
