"""Clips: what a video file is to the rest of the package, whichever container it came in."""

from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from mnemoscope.core.errors import InputError

VIDEO_SUFFIXES = (".avi", ".gif", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".webm")
DICOM_SUFFIXES = (".dcm", ".dicom")
LATENT_SUFFIXES = (".pt",)


class UnreadableClip(InputError):
    """A clip's file cannot be opened, or decoding broke off."""


@dataclass(frozen=True, kw_only=True)
class VideoInfo:
    """What a file's header says of its clip.

    Attributes:
        n_frames: frames announced by the header, or counted where the container announces none.
        height: of a frame, in pixels.
        width: of a frame, in pixels.
        fps: mean frames per second; None where the file does not say.
        duration_s: announced length; None where the file does not say.
        codec: the codec's or transfer syntax's name.
    """

    n_frames: int
    height: int
    width: int
    fps: float | None
    duration_s: float | None
    codec: str


@dataclass(frozen=True, slots=True)
class TimedFrame:
    """One decoded frame: its time after the first one, and the pixels, converted only when asked for.

    ``damaged`` is the decoder's own word that it filled in what it could not read.
    """

    time_s: Fraction
    image: Callable[[], np.ndarray]
    damaged: bool = False
