"""Transform: from a file's frames to frames of one size, colour and rate."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from typing import ClassVar, Literal

import numpy as np
from PIL import Image

from mnemoscope.core.errors import ConfigError, InputError
from mnemoscope.data.clips import TimedFrame

Color = Literal["gray", "rgb"]
Fit = Literal["letterbox", "crop", "stretch"]
Box = tuple[float, float, float, float]


@dataclass(frozen=True, kw_only=True)
class FrameTransform:
    """Size, colour and rate that frames are brought to.

    Attributes:
        height: of the result, in pixels.
        width: of the result, in pixels.
        color: "gray" gives (H, W), "rgb" gives (H, W, 3).
        fit: "letterbox" keeps the whole frame and fills with black; "crop" cuts the centre to the result's
            shape; "stretch" changes the proportions.
        crop_box: (left, top, right, bottom) in source pixels, right and bottom excluded, cut before fitting.
        target_fps: rate of the result; each of its frames is the source frame nearest in time (the earlier one
            of two equally near). None keeps every frame.
    """

    # Read by the configuration: an unknown setting is refused.
    __pydantic_config__: ClassVar[dict[str, str]] = {"extra": "forbid"}

    height: int = 112
    width: int = 112
    color: Color = "gray"
    fit: Fit = "letterbox"
    crop_box: tuple[int, int, int, int] | None = None
    target_fps: float | None = None

    def __post_init__(self) -> None:
        left, top, right, bottom = self.crop_box or (0, 0, 1, 1)
        wishes = {
            "height": (self.height >= 1, "at least 1"),
            "width": (self.width >= 1, "at least 1"),
            "color": (self.color in ("gray", "rgb"), "gray or rgb"),
            "fit": (self.fit in ("letterbox", "crop", "stretch"), "letterbox, crop or stretch"),
            "crop_box": (0 <= left < right and 0 <= top < bottom, "[left, top, right, bottom], left<right, top<bottom"),
            "target_fps": (self.target_fps is None or self.target_fps > 0, "above 0"),
        }
        problems = [
            f"expected {field} {wish}, got {getattr(self, field)!r} (--set frames.{field}=…)"
            for field, (fulfilled, wish) in wishes.items()
            if not fulfilled
        ]
        if problems:
            raise ConfigError("frame transform: " + "; ".join(problems))


@dataclass(frozen=True)
class Placement:
    """Which part of the source goes where in the result."""

    source_box: Box
    top: int
    left: int
    height: int
    width: int
    filter: Image.Resampling


@lru_cache(maxsize=1024)
def place(source_height: int, source_width: int, transform: FrameTransform) -> Placement:
    """Where a frame of the given size lands under the transform.

    Raises:
        InputError: when the crop box does not lie inside the frame.
    """
    box = _cropped(source_height, source_width, transform)
    if transform.fit == "crop":
        box = _centre_of_shape(box, transform.height / transform.width)
    box_height, box_width = box[3] - box[1], box[2] - box[0]
    height, width = transform.height, transform.width
    if transform.fit == "letterbox":
        scale = min(height / box_height, width / box_width)
        height, width = max(1, round(box_height * scale)), max(1, round(box_width * scale))
    shrinks = height <= box_height and width <= box_width
    return Placement(
        source_box=box,
        top=(transform.height - height) // 2,
        left=(transform.width - width) // 2,
        height=height,
        width=width,
        filter=Image.Resampling.BOX if shrinks else Image.Resampling.BILINEAR,
    )


def _cropped(height: int, width: int, transform: FrameTransform) -> Box:
    if transform.crop_box is None:
        return (0.0, 0.0, float(width), float(height))
    left, top, right, bottom = transform.crop_box
    if right > width or bottom > height:
        raise InputError(
            f"crop_box {transform.crop_box} (left, top, right, bottom) does not lie inside a frame of "
            f"width {width} and height {height}; choose a smaller one (--set frames.crop_box=[LEFT,TOP,RIGHT,BOTTOM])"
        )
    return (float(left), float(top), float(right), float(bottom))


def _centre_of_shape(box: Box, height_per_width: float) -> Box:
    left, top, right, bottom = box
    width = min(right - left, (bottom - top) / height_per_width)
    height = min(bottom - top, (right - left) * height_per_width)
    centre_x, centre_y = (left + right) / 2, (top + bottom) / 2
    return (centre_x - width / 2, centre_y - height / 2, centre_x + width / 2, centre_y + height / 2)


def fit_frame(image: np.ndarray, transform: FrameTransform) -> np.ndarray:
    """One frame brought to the transform's size: area mean when shrinking, bilinear when enlarging.

    The area mean is Pillow's BOX: the mean of the source pixels whose centres fall into the result's pixel.

    Args:
        image: uint8, (h, w) or (h, w, 3).
        transform: only its size, fit and crop box are used here.

    Returns:
        uint8, (height, width) or (height, width, 3).

    Raises:
        InputError: when the crop box does not lie inside the frame.
    """
    spot = place(image.shape[0], image.shape[1], transform)
    if image.shape[:2] == (spot.height, spot.width) and transform.crop_box is None:
        resized = image
    else:
        size = (spot.width, spot.height)
        resized = np.asarray(Image.fromarray(image).resize(size, spot.filter, box=spot.source_box))
    if (spot.height, spot.width) == (transform.height, transform.width):
        return resized
    canvas = np.zeros((transform.height, transform.width, *image.shape[2:]), np.uint8)
    canvas[spot.top : spot.top + spot.height, spot.left : spot.left + spot.width] = resized
    return canvas


def resample(frames: Iterable[TimedFrame], *, target_fps: float) -> Iterator[TimedFrame]:
    """Frames at times k / target_fps, k = 0, 1, …, each the source frame nearest in time.

    Of two equally near the earlier one is taken. The last source frame counts until half a frame interval after it,
    so a clip at the target rate passes unchanged. Only two frames are held at a time.
    """
    step = 1 / Fraction(target_fps).limit_denominator(1_000_000)
    due, half_gap, previous = Fraction(0), Fraction(0), None
    for frame in frames:
        if previous is not None:
            half_gap = (frame.time_s - previous.time_s) / 2
            while due <= previous.time_s + half_gap:
                yield previous
                due += step
        previous = frame
    while previous is not None and due <= previous.time_s + half_gap:
        yield previous
        due += step
