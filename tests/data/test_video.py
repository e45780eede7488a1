import gc
import os
import time
from itertools import count
from pathlib import Path

import av
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mnemoscope.core.errors import InputError
from mnemoscope.data import video
from mnemoscope.data.video import (
    FrameTransform,
    UnreadableClip,
    content_fingerprint,
    probe,
    read_clip,
    read_frames,
    write_video,
)

NATIVE = FrameTransform(height=24, width=32)


def pyav_frames(path, pixel_format):
    with av.open(str(path)) as container:
        return np.stack([frame.to_ndarray(format=pixel_format) for frame in container.decode(video=0)])


def test_every_container_reads_as_pyav_does(any_container):
    gray, colour = pyav_frames(any_container, "gray"), pyav_frames(any_container, "rgb24")
    assert np.array_equal(read_clip(any_container, FrameTransform(height=48, width=64)), gray)
    assert np.array_equal(read_clip(any_container, FrameTransform(height=48, width=64, color="rgb")), colour)


def test_every_container_is_probed(any_container):
    info = probe(any_container)
    assert (info.n_frames, info.height, info.width) == (40, 48, 64)
    assert info.fps == pytest.approx(25, rel=1e-3)


def test_frames_are_counted_where_the_header_has_no_number(tmp_path, write_clip):
    write_clip(tmp_path / "clip.mkv", n_frames=11)
    with av.open(str(tmp_path / "clip.mkv")) as container:
        assert container.streams.video[0].frames == 0
    assert probe(tmp_path / "clip.mkv").n_frames == 11


@settings(max_examples=12, deadline=None)
@given(n_frames=st.integers(1, 9), batch_frames=st.integers(1, 10))
def test_batches_together_are_the_clip(tmp_path_factory, n_frames, batch_frames):
    path = tmp_path_factory.mktemp("batches") / "clip.mkv"
    frames = np.random.default_rng(n_frames).integers(0, 256, (n_frames, 24, 32), dtype=np.uint8)
    write_video(path, frames, fps=25, codec="ffv1")
    batches = list(read_frames(path, NATIVE, batch_frames=batch_frames))
    assert [len(b) for b in batches[:-1]] == [batch_frames] * (len(batches) - 1)
    assert np.array_equal(np.concatenate(batches), frames)


@pytest.mark.parametrize(
    ("read", "n_decoded"),
    [
        (lambda path: next(read_frames(path, NATIVE, batch_frames=5)), 5),
        (lambda path: read_clip(path, NATIVE, frames=[3, 1]), 4),
        (lambda path: read_clip(path, NATIVE, max_frames=6), 6),
    ],
)
def test_a_long_clip_is_not_decoded_beyond_what_is_asked(tmp_path, write_clip, monkeypatch, read, n_decoded):
    write_clip(tmp_path / "clip.mkv", n_frames=50)
    decoded, original = count(), video.decode

    def counted(path, color):
        for frame in original(path, color):
            next(decoded)
            yield frame

    monkeypatch.setattr(video, "decode", counted)
    read(tmp_path / "clip.mkv")
    assert next(decoded) == n_decoded


def test_chosen_frames_come_in_the_order_asked(tmp_path, write_clip):
    frames = write_clip(tmp_path / "clip.mkv", n_frames=9)
    assert np.array_equal(read_clip(tmp_path / "clip.mkv", NATIVE, frames=[7, 0, 0, 3]), frames[[7, 0, 0, 3]])


def test_first_frames_only(tmp_path, write_clip):
    frames = write_clip(tmp_path / "clip.mkv", n_frames=9)
    assert np.array_equal(read_clip(tmp_path / "clip.mkv", NATIVE, max_frames=4), frames[:4])
    assert np.array_equal(read_clip(tmp_path / "clip.mkv", NATIVE, max_frames=40), frames)


@pytest.mark.parametrize("wanted", [[8], [-1], []])
def test_frames_outside_the_clip_are_named(tmp_path, write_clip, wanted):
    write_clip(tmp_path / "clip.mkv", n_frames=8)
    with pytest.raises(InputError, match=str(wanted[0]) if wanted else "none"):
        read_clip(tmp_path / "clip.mkv", NATIVE, frames=wanted)


def test_both_limits_are_refused(tmp_path, write_clip):
    write_clip(tmp_path / "clip.mkv")
    with pytest.raises(InputError, match="not both"):
        read_clip(tmp_path / "clip.mkv", NATIVE, frames=[0], max_frames=1)


def test_size_and_rate_reach_the_frames(tmp_path, write_clip):
    write_clip(tmp_path / "clip.mkv", n_frames=20, fps=20)
    half_rate = FrameTransform(height=12, width=8, fit="stretch", color="rgb", target_fps=10)
    assert read_clip(tmp_path / "clip.mkv", half_rate).shape == (10, 12, 8, 3)


def test_times_start_with_the_first_frame(tmp_path):
    """MPEG starts its clock at half a second: resampling must not repeat the first frame for that long."""
    frames = np.stack([np.full((32, 32), 10 + 12 * i, np.uint8) for i in range(20)])
    with av.open(str(tmp_path / "clip.mpeg"), "w") as container:
        stream = container.add_stream("mpeg1video", rate=25)
        stream.height, stream.width, stream.pix_fmt = 32, 32, "yuv420p"
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="gray").reformat(format="yuv420p")))
        container.mux(stream.encode(None))
    whole = read_clip(tmp_path / "clip.mpeg", FrameTransform(height=32, width=32))
    own_rate = read_clip(tmp_path / "clip.mpeg", FrameTransform(height=32, width=32, target_fps=25))
    assert np.array_equal(own_rate, whole)


def test_crop_box_error_names_the_file(tmp_path, write_clip):
    write_clip(tmp_path / "clip.mkv")
    with pytest.raises(InputError, match=r"clip\.mkv.*--set frames.crop_box"):
        read_clip(tmp_path / "clip.mkv", FrameTransform(height=4, width=4, crop_box=(0, 0, 99, 9)))


def test_names_with_colons_and_percents_are_only_names(tmp_path, write_clip, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = Path("concat:a%03d|b.mkv")
    frames = write_clip(path)
    assert np.array_equal(read_clip(path, NATIVE), frames)


@pytest.mark.parametrize("text", ["ffconcat version 1.0\nfile clip.mkv\n", "#EXTM3U\n#EXTINF:1,\nclip.mkv\n"])
def test_playlists_are_not_followed(tmp_path, write_clip, text):
    write_clip(tmp_path / "clip.mkv")
    (tmp_path / "list.avi").write_text(text)
    with pytest.raises(UnreadableClip, match=r"list\.avi"):
        probe(tmp_path / "list.avi")


@pytest.mark.parametrize("action", [probe, lambda path: read_clip(path, NATIVE), content_fingerprint])
def test_missing_files_and_latents_are_refused(tmp_path, action):
    with pytest.raises(InputError, match="no such file"):
        action(tmp_path / "absent.avi")
    (tmp_path / "clip.pt").write_bytes(b"")
    with pytest.raises(InputError, match="latent"):
        action(tmp_path / "clip.pt")


def test_a_file_without_video_is_refused(tmp_path):
    with av.open(str(tmp_path / "sound.mkv"), "w") as container:
        stream = container.add_stream("pcm_s16le", rate=8000, layout="mono")
        sound = av.AudioFrame.from_ndarray(np.zeros((1, 800), np.int16), format="s16", layout="mono")
        sound.sample_rate = 8000
        container.mux(stream.encode(sound))
        container.mux(stream.encode(None))
    with pytest.raises(UnreadableClip, match=r"found none|no video"):
        probe(tmp_path / "sound.mkv")


def test_broken_decoding_says_how_far_it_came(tmp_path, make_clip):
    path = tmp_path / "clip.avi"
    write_video(path, make_clip(20, 32, 32), fps=25)
    data = bytearray(path.read_bytes())
    starts = [i for i in range(data.index(b"movi"), len(data)) if data[i : i + 4] == b"00dc"]
    data[starts[5] + 8 : starts[6]] = b"\x55" * (starts[6] - starts[5] - 8)
    path.write_bytes(data)
    with pytest.raises(UnreadableClip, match=r"clip\.avi: decoding broke off after 5 frames"):
        read_clip(path, FrameTransform(height=32, width=32))


def test_fingerprint_is_of_the_pixels(tmp_path, write_clip, make_clip):
    write_clip(tmp_path / "a.mkv", seed=1)
    write_clip(tmp_path / "b.avi", seed=1, fps=50)
    changed = make_clip(seed=1)
    changed[-1, -1, -1] += 1
    write_video(tmp_path / "c.mkv", changed, fps=25, codec="ffv1")
    same, also, other = (content_fingerprint(tmp_path / name) for name in ("a.mkv", "b.avi", "c.mkv"))
    assert same == also
    assert other != same


def test_fingerprint_depends_on_shape(tmp_path):
    line = np.arange(64, dtype=np.uint8)
    write_video(tmp_path / "a.mkv", line.reshape(1, 8, 8), fps=1, codec="ffv1")
    write_video(tmp_path / "b.mkv", line.reshape(1, 4, 16), fps=1, codec="ffv1")
    assert content_fingerprint(tmp_path / "a.mkv") != content_fingerprint(tmp_path / "b.mkv")


@pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="counts open files through /proc")
def test_files_are_closed_also_when_reading_stops_early(tmp_path, write_clip):
    write_clip(tmp_path / "clip.mkv", n_frames=30)
    gc.collect()
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(5):
        next(read_frames(tmp_path / "clip.mkv", NATIVE, batch_frames=2))
        read_clip(tmp_path / "clip.mkv", NATIVE, frames=[1])
        probe(tmp_path / "clip.mkv")
    gc.collect()
    assert len(os.listdir("/proc/self/fd")) <= before


def test_reading_is_no_slower_than_bare_pyav(tmp_path, make_clip):
    path = tmp_path / "clip.avi"
    write_video(path, make_clip(200, 112, 112), fps=50)
    transform = FrameTransform(height=112, width=112)

    def cpu_seconds(action):
        start = time.process_time()
        action()
        return time.process_time() - start

    bare = min(cpu_seconds(lambda: pyav_frames(path, "gray")) for _ in range(3))
    ours = min(cpu_seconds(lambda: list(read_frames(path, transform))) for _ in range(3))
    assert ours < bare
