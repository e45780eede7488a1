"""Examine: decode one clip to its end and note what it holds. Bad files give facts, never exceptions."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mnemoscope.core.errors import InputError
from mnemoscope.data.clips import LATENT_SUFFIXES, TimedFrame, VideoInfo
from mnemoscope.data.containers import lacks_end_mark
from mnemoscope.data.tensors import read_latent
from mnemoscope.data.video import decode, probe, update_fingerprint

# Lossy codecs move a still picture by a level or two.
_STILL_LEVELS = 2


@dataclass(frozen=True, kw_only=True)
class ClipFacts:
    """What decoding a clip to its end showed.

    Attributes:
        present: whether the file exists.
        n_frames: frames that could be decoded.
        height: of the first frame, in pixels (latents: in latent cells); 0 without one.
        width: likewise.
        fps: from the header; None where it does not say.
        n_damaged: frames in which the decoder filled in what it could not read.
        frozen: all of several frames are the same.
        flat: one value fills every frame: black, white, or an empty latent.
        nan: a latent holds NaN or infinite values.
        fingerprint: content hash, see :func:`~mnemoscope.data.video.content_fingerprint`; None unless whole.
        cut_short: why the clip seems to go on where it ends, or empty.
        error: why it could not be decoded to its end, or empty.
    """

    present: bool = True
    n_frames: int = 0
    height: int = 0
    width: int = 0
    fps: float | None = None
    n_damaged: int = 0
    frozen: bool = False
    flat: bool = False
    nan: bool = False
    fingerprint: str | None = None
    cut_short: str = ""
    error: str = ""


def examine(path: Path) -> ClipFacts:
    """The facts of one clip: video, DICOM, or ready latent."""
    if not path.is_file():
        return ClipFacts(present=False)
    return _examine_latent(path) if path.suffix.lower() in LATENT_SUFFIXES else _examine_video(path)


class _Tally:
    """What has been seen of a clip so far; only the first frame is kept."""

    def __init__(self) -> None:
        self.n_frames = 0
        self.n_damaged = 0
        self.end_s = 0.0
        self.first = np.zeros((0, 0), np.uint8)
        self.moves = False
        self.low, self.high = 255, 0
        self.digest = hashlib.blake2b(digest_size=16)

    def add(self, frame: TimedFrame) -> None:
        image = frame.image()
        if self.n_frames == 0:
            self.first = image.copy()
        elif not self.moves:
            self.moves = _differs(image, self.first)
        if self.high - self.low <= _STILL_LEVELS:
            self.low, self.high = min(self.low, int(image.min())), max(self.high, int(image.max()))
        update_fingerprint(self.digest, image)
        self.n_frames += 1
        self.n_damaged += frame.damaged
        self.end_s = float(frame.time_s)


def _differs(image: np.ndarray, first: np.ndarray) -> bool:
    if image.shape != first.shape:
        return True
    return bool(np.abs(image.astype(np.int16) - first).max() > _STILL_LEVELS)


def _examine_video(path: Path) -> ClipFacts:
    tally, error, info = _Tally(), "", None
    try:
        info = probe(path)
        for frame in decode(path, "gray"):
            tally.add(frame)
    except (InputError, OSError) as problem:
        error = str(problem)
    return ClipFacts(
        n_frames=tally.n_frames,
        height=tally.first.shape[0],
        width=tally.first.shape[1],
        fps=info.fps if info else None,
        n_damaged=tally.n_damaged,
        frozen=tally.n_frames > 1 and not tally.moves,
        flat=tally.n_frames > 0 and tally.high - tally.low <= _STILL_LEVELS,
        fingerprint=None if error or not tally.n_frames else tally.digest.hexdigest(),
        cut_short=_cut_short(path, info, tally) if info and not error else "",
        error=error,
    )


def _cut_short(path: Path, info: VideoInfo, tally: _Tally) -> str:
    if tally.n_frames < info.n_frames:
        return f"the header announces {info.n_frames} frames, {tally.n_frames} could be decoded"
    if info.fps and info.duration_s and info.duration_s - tally.end_s > 2.5 / info.fps:
        return f"the header announces {info.duration_s:.2f} s, the last frame is at {tally.end_s:.2f} s"
    return "the file stops without its end mark" if lacks_end_mark(path) else ""


def _examine_latent(path: Path) -> ClipFacts:
    try:
        latent = read_latent(path)
    except (InputError, OSError) as problem:
        return ClipFacts(error=str(problem))
    digest = hashlib.blake2b(digest_size=16)
    update_fingerprint(digest, latent)
    return ClipFacts(
        n_frames=len(latent),
        height=latent.shape[2],
        width=latent.shape[3],
        frozen=len(latent) > 1 and bool((latent == latent[0]).all()),
        flat=bool(latent.min() == latent.max()),
        nan=not bool(np.isfinite(latent).all()),
        fingerprint=digest.hexdigest(),
    )
