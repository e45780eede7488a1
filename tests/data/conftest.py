from pathlib import Path

import av
import numpy as np
import pytest

from mnemoscope.data.writing import write_video


def moving_clip(n_frames: int = 8, height: int = 24, width: int = 32, *, seed: int = 0) -> np.ndarray:
    """A textured gray clip whose content is its seed and whose frames all differ."""
    texture = np.random.default_rng(seed).integers(40, 200, (height, width), dtype=np.uint8)
    return np.stack([np.roll(texture, i, axis=1) for i in range(n_frames)])


@pytest.fixture
def write_clip():
    """Writes a lossless clip of its own content: ``write_clip(path, seed=3)``."""

    def write(path: Path, *, seed: int = 0, n_frames: int = 8, fps: float = 25.0, size: tuple[int, int] = (24, 32)):
        path.parent.mkdir(parents=True, exist_ok=True)
        frames = moving_clip(n_frames, *size, seed=seed)
        write_video(path, frames, fps=fps, codec="h264" if path.suffix == ".mp4" else "ffv1")
        return frames

    return write


@pytest.fixture
def rng():
    return np.random.default_rng(7)


@pytest.fixture
def make_clip():
    return moving_clip


ENCODERS = {
    ".avi": ("mjpeg", "yuvj420p"),
    ".mp4": ("libx264", "yuv420p"),
    ".mov": ("mjpeg", "yuvj420p"),
    ".mpeg": ("mpeg2video", "yuv420p"),
    ".gif": ("gif", "gray"),
    ".webm": ("libvpx", "yuv420p"),
    ".mkv": ("ffv1", "gray"),
}


def write_container(path: Path, frames: np.ndarray) -> None:
    codec, pixel_format = ENCODERS[path.suffix]
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=25)
        stream.height, stream.width = frames.shape[1:]
        stream.pix_fmt = pixel_format
        for frame in frames:
            image = av.VideoFrame.from_ndarray(frame, format="gray").reformat(format=pixel_format)
            container.mux(stream.encode(image))
        container.mux(stream.encode(None))


@pytest.fixture(params=sorted(ENCODERS))
def any_container(request, tmp_path):
    """A clip of 40 frames at 25 fps, 48 x 64, in each container that is read."""
    path = tmp_path / f"clip{request.param}"
    ramp = np.add.outer(np.arange(48), np.arange(64)) * 2
    noise = np.random.default_rng(0).normal(0, 9, (40, 48, 64))
    frames = np.clip(np.stack([np.roll(ramp, i, axis=1) for i in range(40)]) + noise, 0, 255).astype(np.uint8)
    write_container(path, frames)
    return path
