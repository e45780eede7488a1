"""Alter: what may happen to a clip between two files, so that a network learns to see through it.

Each alteration takes and gives uint8 frames (T, H, W) or (T, H, W, 3) and is a pure function of frames and numbers.
"""

import io
from collections.abc import Callable

import numpy as np
from PIL import Image, ImageFilter

from mnemoscope.core.rng import generator

Frame = np.ndarray


def gain(frame: Frame, factor: float) -> Frame:
    """Brightness times ``factor``; what exceeds white is white."""
    return _pixels(frame * np.float32(factor))


def gamma(frame: Frame, exponent: float) -> Frame:
    """(v / 255)^exponent · 255."""
    return _pixels(255 * (frame.astype(np.float32) / 255) ** np.float32(exponent))


def noise(frame: Frame, std: float, rng: np.random.Generator) -> Frame:
    """Normal noise of ``std`` gray levels added to every pixel, the same in all colours."""
    return _pixels(frame + _over_colours(rng.normal(0, std, frame.shape[:2]), frame))


def speckle(frame: Frame, std: float, rng: np.random.Generator) -> Frame:
    """Every pixel times 1 + normal noise of ``std``."""
    return _pixels(frame * (1 + _over_colours(rng.normal(0, std, frame.shape[:2]), frame)))


def blur(frame: Frame, sigma_px: float) -> Frame:
    """Gaussian blur."""
    return np.asarray(Image.fromarray(frame).filter(ImageFilter.GaussianBlur(sigma_px)))


def jpeg(frame: Frame, quality: int) -> Frame:
    """Through a JPEG file of ``quality`` 1–95."""
    file = io.BytesIO()
    Image.fromarray(frame).save(file, "JPEG", quality=quality)
    return np.asarray(Image.open(file))


def flip(frame: Frame) -> Frame:
    """Left and right exchanged."""
    return np.ascontiguousarray(frame[:, ::-1])


def move(
    frame: Frame, *, right_px: float = 0.0, down_px: float = 0.0, zoom: float = 1.0, rotation_deg: float = 0.0
) -> Frame:
    """Rotated counter-clockwise and enlarged about the centre, then shifted; bilinear, black where nothing was."""
    height, width = frame.shape[:2]
    angle = np.deg2rad(rotation_deg)
    cosine, sine = np.cos(angle) / zoom, np.sin(angle) / zoom
    x, y = (width - 1) / 2, (height - 1) / 2
    # PIL asks where each pixel of the result comes from, at pixel centres half a pixel inwards.
    to_x, to_y = x + right_px + 0.5, y + down_px + 0.5
    inverse = (
        cosine,
        -sine,
        x + 0.5 - cosine * to_x + sine * to_y,
        sine,
        cosine,
        y + 0.5 - sine * to_x - cosine * to_y,
    )
    return np.asarray(
        Image.fromarray(frame).transform((width, height), Image.Transform.AFFINE, inverse, Image.Resampling.BILINEAR)
    )


def rescale(frame: Frame, share: float) -> Frame:
    """Reduced to ``share`` of its sides and enlarged again, both bilinear; what fine detail there was is gone."""
    height, width = frame.shape[:2]
    small = (max(1, round(width * share)), max(1, round(height * share)))
    image = Image.fromarray(frame).resize(small, Image.Resampling.BILINEAR)
    return np.asarray(image.resize((width, height), Image.Resampling.BILINEAR))


def fan(frame: Frame, *, top_share: float, half_angle_deg: float, depth_share: float) -> Frame:
    """Another sector mask: black outside a fan that opens downwards from a point on the middle column.

    Args:
        frame: the picture.
        top_share: row of the point, as a share of the height; negative lies above the picture.
        half_angle_deg: half the opening.
        depth_share: radius, as a share of the height.
    """
    height, width = frame.shape[:2]
    down = np.arange(height)[:, None] - top_share * height
    across = np.arange(width)[None] - (width - 1) / 2
    inside = np.abs(across) <= down * np.tan(np.deg2rad(half_angle_deg))
    inside &= np.hypot(down, across) <= depth_share * height
    return frame * _over_colours(inside, frame)


def border(frame: Frame, share: float) -> Frame:
    """Black along each edge, as wide as ``share`` of the side."""
    height, width = frame.shape[:2]
    down, across = round(height * share), round(width * share)
    inside = np.zeros((height, width), dtype=bool)
    inside[down : height - down, across : width - across] = True
    return frame * _over_colours(inside, frame)


def blend(frame: Frame, other: Frame, share: float) -> Frame:
    """``share`` of another picture of the same size laid over this one."""
    return _pixels((1 - share) * frame.astype(np.float32) + share * other.astype(np.float32))


def altered(frame: Frame, rng: np.random.Generator) -> Frame:
    """A random but mild chain: perhaps moved, flipped, brighter or darker, masked, coarser."""
    if rng.random() < 0.65:
        frame = move(
            frame,
            right_px=rng.uniform(-8, 8),
            down_px=rng.uniform(-8, 8),
            zoom=rng.uniform(0.8, 1.25),
            rotation_deg=rng.uniform(-14, 14),
        )
    if rng.random() < 0.35:
        frame = flip(frame)
    if rng.random() < 0.6:
        frame = gamma(gain(frame, rng.uniform(0.7, 1.35)), rng.uniform(0.7, 1.4))
    frame = _MASKED[rng.integers(len(_MASKED))](frame, rng)
    return _COARSER[rng.integers(len(_COARSER))](frame, rng)


_Change = Callable[[Frame, np.random.Generator], Frame]


def _as_it_is(frame: Frame, rng: np.random.Generator) -> Frame:
    del rng
    return frame


_MASKED: tuple[_Change, ...] = (
    *(_as_it_is,) * 4,
    lambda frame, rng: border(frame, rng.uniform(0.02, 0.12)),
    lambda frame, rng: fan(
        frame,
        top_share=rng.uniform(-0.1, 0.05),
        half_angle_deg=rng.uniform(28, 42),
        depth_share=rng.uniform(0.8, 1.1),
    ),
)
_COARSER: tuple[_Change, ...] = (
    *(_as_it_is,) * 2,
    lambda frame, rng: blur(frame, rng.uniform(0.5, 1.8)),
    lambda frame, rng: noise(frame, rng.uniform(2, 12), rng),
    lambda frame, rng: speckle(frame, rng.uniform(0.1, 0.35), rng),
    lambda frame, rng: jpeg(frame, int(rng.integers(12, 60))),
    lambda frame, rng: rescale(frame, rng.uniform(0.35, 0.8)),
)


def altered_clip(frames: np.ndarray, *, count: int, seed: int, clip_id: str) -> np.ndarray:
    """``count`` evenly spaced frames of a clip, each altered on its own; depends on (seed, clip_id, frame) only."""
    numbers = np.unique(np.linspace(0, len(frames) - 1, count).round().astype(int))
    return np.stack([altered(frames[n], generator(seed, "altered", clip_id, int(n))) for n in numbers])


def alteration(count: int, *, seed: int) -> Callable[[Frame, str], Frame]:
    """:func:`altered_clip` as a function of frames and clip_id."""
    return lambda frames, clip_id: altered_clip(frames, count=count, seed=seed, clip_id=clip_id)


def _over_colours(plane: np.ndarray, frame: Frame) -> np.ndarray:
    return plane if frame.ndim == 2 else plane[..., None]


def _pixels(values: np.ndarray) -> Frame:
    return np.clip(np.rint(values), 0, 255).astype(np.uint8)
