"""Containers: avi, mp4, mov, mpeg, gif, webm and mkv through PyAV (FFmpeg)."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.error import FFmpegError
from av.video.reformatter import VideoReformatter

from mnemoscope.data.clips import TimedFrame, UnreadableClip, VideoInfo
from mnemoscope.data.transform import Color

# A file may name other files or addresses (playlists); only plain containers from the disk are opened.
_OPEN_OPTIONS = {
    "protocol_whitelist": "file",
    "format_whitelist": "avi,gif,matroska,mov,mpeg,mpegts,mpegvideo",
}
_LUMA_IS_GRAY = frozenset({"gray", "yuvj420p", "yuvj422p", "yuvj440p", "yuvj444p"})
_GIF_TRAILER = b"\x3b"


def probe_container(path: Path) -> VideoInfo:
    """What the header says; frames are counted (not decoded) where it gives no number.

    Raises:
        UnreadableClip: when the file cannot be opened or holds no video.
    """
    with _opened(path) as (container, stream):
        n_frames = stream.frames or _count_packets(container, stream, path)
        rate = stream.average_rate or stream.guessed_rate
        info = VideoInfo(
            n_frames=n_frames,
            height=stream.codec_context.height,
            width=stream.codec_context.width,
            fps=float(rate) if rate else None,
            duration_s=_duration_s(container, stream),
            codec=stream.codec_context.name,
        )
    if min(info.n_frames, info.height, info.width) < 1:
        raise UnreadableClip(f"{path}: expected a video with at least one frame, found none; leave the file out")
    return info


def container_tags(path: Path) -> list[tuple[str, str]]:
    """What a file says of itself beside the pictures: (name, value) of each tag of the whole, its streams and chapters.

    Raises:
        UnreadableClip: when the file cannot be opened or holds no video.
    """
    with _opened(path) as (container, _):
        said = [("", container.metadata), *(("", stream.metadata) for stream in container.streams)]
        said += [("chapter ", chapter["metadata"]) for chapter in container.chapters()]
        return [(place + name, value) for place, some in said for name, value in some.items()]


def decode_container(path: Path, color: Color) -> Iterator[TimedFrame]:
    """Every frame in order of display, on one thread.

    Raises:
        UnreadableClip: when the file cannot be opened, or where decoding breaks off.
    """
    image_of = _converter(color, path)
    with _opened(path) as (container, stream):
        n_decoded, start_s = 0, Fraction(0)
        rate = stream.average_rate or stream.guessed_rate or Fraction(1)
        try:
            for frame in container.decode(stream):
                time_s = frame.pts * stream.time_base if frame.pts is not None else start_s + n_decoded / rate
                start_s = time_s if n_decoded == 0 else start_s
                n_decoded += 1
                yield TimedFrame(time_s - start_s, partial(image_of, frame), damaged=frame.is_corrupt)
        except (FFmpegError, ValueError) as error:
            raise UnreadableClip(
                f"{path}: decoding broke off after {n_decoded} frames ({_reason(error)}); "
                f"export the clip again or leave it out"
            ) from error


def lacks_end_mark(path: Path) -> bool:
    """Whether a GIF stops without its trailer byte: the only trace that cutting leaves in that format."""
    if path.suffix.lower() != ".gif":
        return False
    return not path.read_bytes().rstrip(b"\x00").endswith(_GIF_TRAILER)


@contextmanager
def _opened(path: Path) -> Iterator[tuple[Any, Any]]:
    try:
        # "file:" keeps a colon in the name from being read as a protocol.
        container = av.open(f"file:{path}", options=_OPEN_OPTIONS, metadata_errors="ignore")
    except (FFmpegError, ValueError) as error:
        raise UnreadableClip(
            f"{path}: expected a video that FFmpeg can open, got: {_reason(error)}; export it again or leave it out"
        ) from error
    with container:
        if not container.streams.video:
            raise UnreadableClip(f"{path}: expected a video stream, found none; leave the file out")
        stream = container.streams.video[0]
        if stream.codec_context is None:
            raise UnreadableClip(f"{path}: no decoder for its video stream; convert it, for example to MJPEG AVI")
        stream.thread_count = 1
        yield container, stream


def _reason(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error) or type(error).__name__


def _count_packets(container: Any, stream: Any, path: Path) -> int:
    try:
        return sum(1 for packet in container.demux(stream) if packet.size)
    except (FFmpegError, ValueError) as error:
        raise UnreadableClip(
            f"{path}: reading broke off ({_reason(error)}); export it again or leave it out"
        ) from error


def _duration_s(container: Any, stream: Any) -> float | None:
    if stream.duration:
        return float(stream.duration * stream.time_base)
    # A container's length is that of its longest stream: with sound it says nothing about the picture.
    if container.duration and len(container.streams) == 1:
        return float(container.duration / av.time_base)
    return None


def _converter(color: Color, path: Path) -> Callable[[av.VideoFrame], np.ndarray]:
    # One reformatter per clip: a new scaling context per frame costs more than decoding.
    reformatter = VideoReformatter()
    target = "gray" if color == "gray" else "rgb24"

    def convert(frame: av.VideoFrame) -> np.ndarray:
        if color == "gray" and frame.format.name in _LUMA_IS_GRAY:
            return _luma(frame)
        try:
            return reformatter.reformat(frame, format=target, threads=1).to_ndarray()
        except (FFmpegError, ValueError) as error:
            raise UnreadableClip(f"{path}: {frame.format.name} cannot become {target}: {_reason(error)}") from error

    return convert


def _luma(frame: av.VideoFrame) -> np.ndarray:
    plane: Any = frame.planes[0]
    return np.frombuffer(plane, np.uint8).reshape(-1, plane.line_size)[: frame.height, : frame.width]
