import av
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mnemoscope.core.errors import InputError
from mnemoscope.data.writing import write_video


def decoded(path, pixel_format):
    with av.open(str(path)) as container:
        return np.stack([frame.to_ndarray(format=pixel_format) for frame in container.decode(video=0)])


def gradient_clip(n_frames, height, width):
    ramp = np.add.outer(np.arange(height), 2 * np.arange(width)) % 180 + 30
    return np.stack([np.roll(ramp, i, axis=0) for i in range(n_frames)]).astype(np.uint8)


@pytest.mark.parametrize("suffix", [".mkv", ".avi"])
@pytest.mark.parametrize("colour", [False, True])
def test_ffv1_gives_back_the_same_pixels(tmp_path, rng, suffix, colour):
    frames = rng.integers(0, 256, (4, 11, 13, 3) if colour else (4, 11, 13), dtype=np.uint8)
    write_video(tmp_path / f"clip{suffix}", frames, fps=30, codec="ffv1")
    assert np.array_equal(decoded(tmp_path / f"clip{suffix}", "rgb24" if colour else "gray"), frames)


@settings(max_examples=15, deadline=None)
@given(n_frames=st.integers(1, 4), height=st.integers(2, 35), width=st.integers(2, 35))
def test_mjpeg_keeps_gray_values_in_any_size(tmp_path_factory, n_frames, height, width):
    path = tmp_path_factory.mktemp("mjpeg") / "clip.avi"
    frames = gradient_clip(n_frames, height, width)
    write_video(path, frames, fps=50, quality=1)
    back = decoded(path, "gray")
    assert back.shape == frames.shape
    assert np.abs(back.astype(int) - frames).mean() < 3


def test_gray_stays_gray_when_read_as_colour(tmp_path):
    write_video(tmp_path / "clip.avi", gradient_clip(2, 16, 16), fps=25)
    colour = decoded(tmp_path / "clip.avi", "rgb24").astype(int)
    assert np.ptp(colour, axis=3).max() <= 1


def test_lower_quantiser_is_closer_and_larger(tmp_path, rng):
    frames = rng.integers(0, 256, (3, 32, 32), dtype=np.uint8)
    errors, sizes = [], []
    for quality in (1, 5, 20):
        path = tmp_path / f"q{quality}.avi"
        write_video(path, frames, fps=25, quality=quality)
        errors.append(np.abs(decoded(path, "gray").astype(int) - frames).mean())
        sizes.append(path.stat().st_size)
    assert errors == sorted(errors)
    assert sizes == sorted(sizes, reverse=True)


@pytest.mark.parametrize("fps", [25.0, 29.97, 50.26])
def test_rate_is_kept(tmp_path, fps):
    write_video(tmp_path / "clip.avi", gradient_clip(3, 16, 16), fps=fps)
    with av.open(str(tmp_path / "clip.avi")) as container:
        assert float(container.streams.video[0].average_rate) == pytest.approx(fps, rel=1e-4)


@pytest.mark.parametrize(("name", "codec"), [("a.avi", "mjpeg"), ("a.mkv", "ffv1"), ("a.mp4", "h264")])
def test_same_frames_give_the_same_bytes(tmp_path, name, codec):
    frames = gradient_clip(5, 16, 16)
    (tmp_path / "again").mkdir()
    for folder in (tmp_path, tmp_path / "again"):
        write_video(folder / name, frames, fps=25, codec=codec)
    assert (tmp_path / name).read_bytes() == (tmp_path / "again" / name).read_bytes()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"frames": np.zeros((2, 4, 4), np.float32)}, "uint8"),
        ({"frames": np.zeros((0, 4, 4), np.uint8)}, "T >= 1"),
        ({"frames": np.zeros((2, 4, 4, 4), np.uint8)}, "T, H, W, 3"),
        ({"fps": 0.0}, "above 0"),
        ({"fps": float("nan")}, "above 0"),
        ({"codec": "theora"}, "mjpeg"),
        ({"codec": "h264"}, "suffix"),
        ({"quality": 0}, "1-31"),
        ({"path": "odd.mp4", "codec": "h264", "frames": np.zeros((2, 5, 4), np.uint8)}, "even height"),
    ],
)
def test_refusals_say_what_fits_and_leave_nothing(tmp_path, change, message):
    call = {"path": "clip.avi", "frames": np.zeros((2, 4, 4), np.uint8), "fps": 25.0, "codec": "mjpeg", "quality": 3}
    call |= change
    path, frames = tmp_path / call.pop("path"), call.pop("frames")
    with pytest.raises(InputError, match=message):
        write_video(path, frames, **call)
    assert list(tmp_path.iterdir()) == []


def test_a_broken_off_write_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "clip.avi"
    write_video(path, gradient_clip(3, 16, 16), fps=25)
    before = path.read_bytes()
    monkeypatch.setattr("mnemoscope.data.writing._to_av_frame", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        write_video(path, gradient_clip(2, 16, 16), fps=25)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]
