"""Writing: frames to a video file."""

from fractions import Fraction
from pathlib import Path
from typing import Any, Literal

import av
import av.video.stream
import numpy as np
from av.codec.context import Flags

from mnemoscope.core.errors import InputError
from mnemoscope.core.files import whole_file

Codec = Literal["mjpeg", "ffv1", "h264"]

_CONTAINERS: dict[str, dict[str, str]] = {
    "mjpeg": {".avi": "avi", ".mov": "mov", ".mkv": "matroska"},
    "ffv1": {".mkv": "matroska", ".avi": "avi"},
    "h264": {".mp4": "mp4", ".mov": "mov", ".mkv": "matroska"},
}
_QUALITY_RANGE = {"mjpeg": (1, 31), "ffv1": (0, 51), "h264": (0, 51)}
_LAMBDA_PER_QUANTISER = 118  # libav's FF_QP2LAMBDA
_REPEATABLE = {"fflags": "+bitexact"}  # no random ids: the same frames give the same bytes


def write_video(path: Path, frames: np.ndarray, *, fps: float, codec: Codec = "mjpeg", quality: int = 3) -> None:
    """Write one clip; the file appears only when it is whole.

    Args:
        path: the file; its suffix names the container: .avi, .mov, .mkv for mjpeg, .mkv, .avi for ffv1,
            .mp4, .mov, .mkv for h264.
        frames: uint8, gray (T, H, W) or RGB (T, H, W, 3), T at least 1.
        fps: frames per second, above 0.
        codec: "mjpeg" (full-range 4:2:0, plays everywhere), "ffv1" (lossless) or "h264" (even sizes only).
        quality: quantiser, lower is better: 1-31 for mjpeg, the constant rate factor 0-51 for h264; ffv1 has none.

    Raises:
        InputError: when shape, dtype, rate, codec, suffix or quality do not fit.
    """
    path = Path(path)
    container_format = _container_format(path, codec)
    _check_frames(frames, path, codec)
    _check_numbers(path, codec, fps=fps, quality=quality)
    with (
        whole_file(path) as part,
        av.open(f"file:{part}", "w", format=container_format, options=_REPEATABLE) as container,
    ):
        stream = _add_stream(container, frames, codec, Fraction(fps).limit_denominator(60_000), quality)
        pixel_format = _pixel_format(codec, colour=frames.ndim == 4)
        for frame in frames:
            container.mux(stream.encode(_to_av_frame(frame, pixel_format)))
        container.mux(stream.encode(None))


def _container_format(path: Path, codec: str) -> str:
    if codec not in _CONTAINERS:
        raise InputError(f"expected codec to be one of {', '.join(_CONTAINERS)}, got {codec!r}")
    containers = _CONTAINERS[codec]
    if path.suffix.lower() not in containers:
        raise InputError(f"{codec} is written to {', '.join(containers)}, got {path}; change the suffix or codec")
    return containers[path.suffix.lower()]


def _check_frames(frames: np.ndarray, path: Path, codec: str) -> None:
    colour_ok = frames.ndim == 3 or (frames.ndim == 4 and frames.shape[3] == 3)
    if frames.dtype != np.uint8 or not colour_ok or frames.size == 0:
        raise InputError(
            f"expected uint8 frames (T, H, W) or (T, H, W, 3) with T >= 1 for {path}, "
            f"got {frames.dtype} {frames.shape}; convert them first"
        )
    if codec == "h264" and (frames.shape[1] % 2 or frames.shape[2] % 2):
        raise InputError(
            f"h264 needs even height and width, got {frames.shape[1]}x{frames.shape[2]} for {path}; "
            f"pad the frames or use codec='mjpeg' or 'ffv1'"
        )


def _check_numbers(path: Path, codec: str, *, fps: float, quality: int) -> None:
    if not 0 < fps < float("inf"):
        raise InputError(f"expected a frame rate above 0 for {path}, got fps={fps}; give fps in frames per second")
    low, high = _QUALITY_RANGE[codec]
    if not low <= quality <= high:
        raise InputError(f"expected quality {low}-{high} for {codec}, got {quality} for {path}; lower is better")


def _add_stream(
    container: Any, frames: np.ndarray, codec: str, rate: Fraction, quality: int
) -> av.video.stream.VideoStream:
    options = {"crf": str(quality)} if codec == "h264" else {}
    stream = container.add_stream("libx264" if codec == "h264" else codec, rate=rate, options=options)
    stream.height, stream.width = frames.shape[1:3]
    stream.pix_fmt = _pixel_format(codec, colour=frames.ndim == 4)
    context = stream.codec_context
    context.thread_count = 1
    if codec == "mjpeg":
        context.flags |= Flags.qscale
        context.global_quality = quality * _LAMBDA_PER_QUANTISER
        context.qmin = context.qmax = quality
    return stream


def _pixel_format(codec: str, *, colour: bool) -> str:
    if codec == "mjpeg":
        return "yuvj420p"
    if codec == "h264":
        return "yuv420p"
    return "bgr0" if colour else "gray"


def _to_av_frame(frame: np.ndarray, pixel_format: str) -> av.VideoFrame:
    if frame.ndim == 2 and pixel_format == "yuvj420p":
        return _luma_frame(frame)
    source_format = "gray" if frame.ndim == 2 else "rgb24"
    return av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format=source_format).reformat(
        format=pixel_format, threads=1
    )


def _luma_frame(frame: np.ndarray) -> av.VideoFrame:
    """The gray values as they are in the luma plane; swscale would be slower and refuses odd sizes."""
    height, width = frame.shape
    image = av.VideoFrame(width, height, "yuvj420p")
    luma, *chroma = image.planes
    _bytes_of(luma).reshape(-1, luma.line_size)[:height, :width] = frame
    for plane in chroma:
        _bytes_of(plane)[:] = 128
    return image


def _bytes_of(plane: Any) -> np.ndarray:
    return np.frombuffer(plane, np.uint8)
