"""Decoding: frames per second of reading clips, against PyAV alone, on one thread."""

import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import av
import numpy as np

from benchmarks.rows import Row, table
from mnemoscope.data.video import FrameTransform, content_fingerprint, read_frames, write_video

_N_FRAMES = 600
_REPEATS = 5


def clip(height: int, width: int) -> np.ndarray:
    """A textured clip that drifts, with noise: as costly to code as ultrasound. uint8, (T, H, W)."""
    y, x = np.mgrid[:height, :width]
    tissue = 100 + 60 * np.sin(x / 9) + 40 * np.cos(y / 13)
    noise = np.random.default_rng(0).normal(0, 20, (_N_FRAMES, height, width))
    return np.clip(np.stack([np.roll(tissue, i, 1) for i in range(_N_FRAMES)]) + noise, 0, 255).astype(np.uint8)


def bare_pyav(path: Path, pixel_format: str) -> None:
    """What a reader without any care for speed does."""
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        stream.thread_count = 1
        for frame in container.decode(stream):
            frame.to_ndarray(format=pixel_format)


def rates(actions: dict[str, Callable[[], object]]) -> dict[str, float]:
    """Best frames per second of processor time of each action, measured in turns."""
    best = dict.fromkeys(actions, float("inf"))
    for _ in range(_REPEATS):
        for name, action in actions.items():
            start = time.process_time()
            action()
            best[name] = min(best[name], time.process_time() - start)
    return {name: _N_FRAMES / seconds for name, seconds in best.items()}


def run() -> list[Row]:
    """Decoding of a 112 x 112 MJPEG clip of 600 frames."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "clip.avi"
        write_video(path, clip(112, 112), fps=50)
        fps = rates(
            {
                "PyAV gray": lambda: bare_pyav(path, "gray"),
                "PyAV rgb": lambda: bare_pyav(path, "rgb24"),
                "gray": lambda: list(read_frames(path, FrameTransform(color="gray"))),
                "rgb": lambda: list(read_frames(path, FrameTransform(color="rgb"))),
                "gray at 32 fps": lambda: list(read_frames(path, FrameTransform(target_fps=32))),
                "gray, resized to 64 x 64": lambda: list(read_frames(path, FrameTransform(height=64, width=64))),
                "content fingerprint": lambda: content_fingerprint(path),
            }
        )
    return [_row(name, rate, fps) for name, rate in fps.items() if not name.startswith("PyAV")]


def _row(name: str, rate: float, fps: dict[str, float]) -> Row:
    peer = "PyAV rgb" if name == "rgb" else "PyAV gray"
    return Row(
        name=f"decode 112 x 112 MJPEG, {name}",
        value=rate,
        unit="frames/s",
        peer=f"{peer}, {fps[peer]:.0f} frames/s",
        ratio=rate / fps[peer],
        # Resizing is more than PyAV is asked for here; the others do the same work.
        target=None if "resized" in name else 1.0,
        note="source frames per second of processor time",
    )


def main() -> None:
    """Prints the figures as a Markdown table."""
    print(table(run()))


if __name__ == "__main__":
    main()
