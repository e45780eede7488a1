"""Video: one door to every clip, whichever container or DICOM file it lies in."""

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path

import numpy as np

from mnemoscope.core.errors import InputError
from mnemoscope.data.clips import LATENT_SUFFIXES, TimedFrame, UnreadableClip, VideoInfo
from mnemoscope.data.containers import decode_container, probe_container
from mnemoscope.data.dicom import decode_dicom, is_dicom, probe_dicom
from mnemoscope.data.transform import Color, FrameTransform, fit_frame, resample
from mnemoscope.data.writing import write_video

__all__ = [
    "FrameTransform",
    "UnreadableClip",
    "VideoInfo",
    "content_fingerprint",
    "decode",
    "probe",
    "read_clip",
    "read_frames",
    "write_video",
]


def probe(path: Path) -> VideoInfo:
    """Size, rate, length and codec from the header, without decoding.

    Raises:
        InputError: when there is no such file, or it is a latent.
        UnreadableClip: when it cannot be opened as video or DICOM.
    """
    path = _video_file(path)
    return probe_dicom(path) if is_dicom(path) else probe_container(path)


def decode(path: Path, color: Color) -> Iterator[TimedFrame]:
    """Every frame of a clip in native size with its time; pixels are converted only when asked for.

    Raises:
        InputError: when there is no such file, or it is a latent.
        UnreadableClip: when it cannot be opened, or where decoding breaks off.
    """
    path = _video_file(path)
    return decode_dicom(path, color) if is_dicom(path) else decode_container(path, color)


def read_frames(path: Path, transform: FrameTransform, *, batch_frames: int = 64) -> Iterator[np.ndarray]:
    """The frames of a clip under the transform, in batches; never more than one batch is held.

    Args:
        path: video or DICOM file.
        transform: size, colour and rate of the result.
        batch_frames: frames per batch, at least 1; the last batch may be shorter.

    Yields:
        uint8, (b, height, width) for gray or (b, height, width, 3) for rgb.

    Raises:
        InputError: when there is no such file, its rate is unknown but needed, or the crop box does not fit.
        UnreadableClip: when it cannot be opened, or where decoding breaks off.
    """
    if batch_frames < 1:
        raise InputError(f"expected batch_frames of at least 1, got {batch_frames}")
    images = _fitted(_timed(path, transform), transform, path)
    while batch := list(islice(images, batch_frames)):
        yield np.stack(batch)


def read_clip(
    path: Path, transform: FrameTransform, *, frames: Sequence[int] | None = None, max_frames: int | None = None
) -> np.ndarray:
    """A whole clip, or chosen frames of it, under the transform.

    Args:
        path: video or DICOM file.
        transform: size, colour and rate of the result.
        frames: indices after resampling, in any order, repeats allowed; decoding stops at the last one.
        max_frames: take only the first so many of the clip; not together with ``frames``.

    Returns:
        uint8, (T, height, width) for gray or (T, height, width, 3) for rgb.

    Raises:
        InputError: when an index lies outside the clip, or both limits are given.
        UnreadableClip: when the clip cannot be opened, breaks off, or has no frames.
    """
    if frames is not None and max_frames is not None:
        raise InputError("give either frames or max_frames, not both")
    timed = _timed(path, transform)
    if frames is not None:
        return _chosen(timed, transform, path, frames)
    images = list(_fitted(islice(timed, max_frames), transform, path))
    if not images:
        raise UnreadableClip(f"{path}: expected at least one frame, decoded none; leave the file out")
    return np.stack(images)


def content_fingerprint(path: Path) -> str:
    """Hex digest (BLAKE2b, 128 bit) of a clip's decoded gray frames in native size.

    The same for two files with the same pixels, whatever their name, container or lossless codec.

    Raises:
        UnreadableClip: when the clip cannot be decoded to its end.
    """
    digest = hashlib.blake2b(digest_size=16)
    for frame in decode(path, "gray"):
        update_fingerprint(digest, frame.image())
    return digest.hexdigest()


def update_fingerprint(digest: hashlib.blake2b, image: np.ndarray) -> None:
    """Adds one array, with its shape, to a content fingerprint."""
    digest.update(repr(image.shape).encode())
    digest.update(image.tobytes())


def _video_file(path: Path) -> Path:
    path = Path(path)
    if not path.is_file():
        raise InputError(f"{path}: no such file; correct the path or the manifest's root")
    if path.suffix.lower() in LATENT_SUFFIXES:
        raise InputError(f"{path}: expected a video, found a ready latent; read it with data.tensors.read_latent")
    return path


def _timed(path: Path, transform: FrameTransform) -> Iterator[TimedFrame]:
    frames = decode(path, transform.color)
    if transform.target_fps is None:
        return frames
    if probe(path).fps is None:
        raise InputError(
            f"{path}: resampling to {transform.target_fps:g} fps needs the clip's own rate and its header has none; "
            f"leave target_fps out (--set frames.target_fps)"
        )
    return resample(frames, target_fps=transform.target_fps)


def _fitted(frames: Iterable[TimedFrame], transform: FrameTransform, path: Path) -> Iterator[np.ndarray]:
    for frame in frames:
        yield _fit(frame, transform, path)


def _fit(frame: TimedFrame, transform: FrameTransform, path: Path) -> np.ndarray:
    image = frame.image()
    try:
        return fit_frame(image, transform)
    except InputError as error:
        raise InputError(f"{path}: {error}") from error


def _chosen(timed: Iterator[TimedFrame], transform: FrameTransform, path: Path, wanted: Sequence[int]) -> np.ndarray:
    needed = set(wanted)
    last = max(needed, default=-1)
    found = {i: _fit(frame, transform, path) for i, frame in enumerate(islice(timed, last + 1)) if i in needed}
    outside = sorted(needed - found.keys())
    if outside or not needed:
        raise InputError(f"{path}: expected frame indices inside the clip, got {outside or 'none'}; correct frames")
    return np.stack([found[i] for i in wanted])
