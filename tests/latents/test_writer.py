import errno
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st

from mnemoscope.core.errors import CorruptFile, DegenerateValues, InputError, Mismatch, OutOfSpace
from mnemoscope.latents import writer
from mnemoscope.latents.store import CLIPS, FRAMES, PROGRESS, RECORD, LatentStore, is_store
from mnemoscope.latents.writer import StoreWriter
from tests.toys import ToyClip, manifest, noise_clips, record_of, write_store

COUNTS = (3, 8, 1, 13, 5, 2, 9)
SHAPE = (2, 3, 3)


@pytest.fixture(autouse=True)
def small_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writer, "CHUNK_FRAMES", 4)
    monkeypatch.setattr(writer, "SHARD_FRAMES", 8)


@pytest.fixture
def clips() -> dict[str, ToyClip]:
    return noise_clips(COUNTS)


@pytest.fixture
def undisturbed(clips: dict[str, ToyClip], tmp_path: Path) -> dict[str, bytes]:
    return contents(write_store(tmp_path / "undisturbed", clips).folder)


def contents(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def open_writer(folder: Path) -> StoreWriter:
    return StoreWriter(folder, frame_shape=SHAPE, dtype="float16")


def append_first(folder: Path, clips: dict[str, ToyClip], count: int) -> StoreWriter:
    unfinished = open_writer(folder)
    for name in list(clips)[len(unfinished.done) : count]:
        unfinished.append(name, clips[name].frames)
    return unfinished


def test_finished_files_are_the_three_parts_and_nothing_else(undisturbed: dict[str, bytes]) -> None:
    parts = {name.split("/")[0] for name in undisturbed}
    assert parts == {FRAMES, CLIPS, RECORD}
    assert sum(name.startswith(f"{FRAMES}/c/") for name in undisturbed) == -(-sum(COUNTS) // 8)


@pytest.mark.parametrize("count", range(len(COUNTS) + 1))
def test_an_encode_that_stops_after_any_clip_goes_on_to_the_same_bytes(
    clips: dict[str, ToyClip], undisturbed: dict[str, bytes], tmp_path: Path, count: int
) -> None:
    folder = tmp_path / "store"
    append_first(folder, clips, count)
    assert not is_store(folder)
    write_store(folder, clips)
    assert contents(folder) == undisturbed


@settings(max_examples=8, deadline=None)
@given(
    counts=st.lists(st.integers(1, 20), min_size=1, max_size=8),
    stops=st.lists(st.integers(0, 8), max_size=3),
)
def test_frames_survive_any_number_of_interruptions(
    tmp_path_factory: pytest.TempPathFactory, counts: list[int], stops: list[int]
) -> None:
    folder, clips = tmp_path_factory.mktemp("stores") / "store", noise_clips(counts)
    for stop in stops:
        append_first(folder, clips, stop)
    store = write_store(folder, clips)
    expected = np.concatenate([clip.frames for clip in clips.values()])
    np.testing.assert_array_equal(store.read(0, store.n_frames), expected)


def test_finished_clips_are_not_asked_for_again(clips: dict[str, ToyClip], tmp_path: Path) -> None:
    append_first(tmp_path, clips, 5)
    # 30 frames fill three shards of 8, which hold the first three clips and 12 of the fourth's 13 frames.
    assert open_writer(tmp_path).done == {"clip000": 3, "clip001": 8, "clip002": 1}


@pytest.mark.parametrize("stop", ["resize", "write", "note", "table", "record"])
def test_a_stop_between_any_two_writes_goes_on_to_the_same_bytes(
    clips: dict[str, ToyClip],
    undisturbed: dict[str, bytes],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    stop: str,
) -> None:
    folder = tmp_path / "store"
    append_first(folder, clips, 3)
    with monkeypatch.context() as patch:
        patch.setattr(*place(stop), interrupted)
        with pytest.raises(KeyboardInterrupt):
            write_store(folder, clips)
    write_store(folder, clips)
    assert contents(folder) == undisturbed


def interrupted(*_: object, **__: object) -> None:
    raise KeyboardInterrupt


def place(stop: str) -> tuple[object, str]:
    array = type(zarr.create_array(store={}, shape=(1,), dtype="i1"))
    return {
        "resize": (array, "resize"),
        "write": (array, "__setitem__"),
        "note": (StoreWriter, "_note"),
        "table": (writer, "whole_file"),
        "record": (writer, "write_json"),
    }[stop]


KILLED = """
import os, signal, sys
from pathlib import Path
from mnemoscope.latents import writer
from tests.toys import noise_clips, write_store

writer.CHUNK_FRAMES, writer.SHARD_FRAMES = 4, 8
append, left = writer.StoreWriter.append, int(sys.argv[2])

def dying(self, clip_id, frames):
    global left
    if left == 0:
        os.kill(os.getpid(), signal.SIGKILL)
    left -= 1
    append(self, clip_id, frames)

writer.StoreWriter.append = dying
write_store(Path(sys.argv[1]), noise_clips({counts}))
"""


def test_a_killed_process_leaves_what_goes_on_to_the_same_bytes(
    clips: dict[str, ToyClip], undisturbed: dict[str, bytes], tmp_path: Path
) -> None:
    folder, clip = tmp_path / "store", int(np.random.default_rng().integers(1, len(COUNTS)))
    code = KILLED.replace("{counts}", repr(COUNTS))
    killed = subprocess.run([sys.executable, "-c", code, str(folder), str(clip)], cwd=Path(__file__).parents[2])
    assert killed.returncode == -signal.SIGKILL
    write_store(folder, clips)
    assert contents(folder) == undisturbed, f"killed before clip {clip}"


@pytest.mark.parametrize("cut", [1, 7, 20, 29])
def test_a_half_written_progress_line_is_forgotten_for_good(
    clips: dict[str, ToyClip], undisturbed: dict[str, bytes], tmp_path: Path, cut: int
) -> None:
    folder = tmp_path / "store"
    append_first(folder, clips, 4)
    progress = folder / PROGRESS
    progress.write_bytes(progress.read_bytes()[:-cut])
    append_first(folder, clips, 6)
    append_first(folder, clips, 7)
    write_store(folder, clips)
    assert contents(folder) == undisturbed


def test_rests_of_a_killed_write_are_swept_away(
    clips: dict[str, ToyClip], undisturbed: dict[str, bytes], tmp_path: Path
) -> None:
    folder = tmp_path / "store"
    append_first(folder, clips, 4)
    for rest in (f"{FRAMES}/c/0/0/0/0.1f.partial", f"{FRAMES}/zarr.2e.partial", ".clips.parquet.ab", ".store.json.cd"):
        (folder / rest).write_bytes(b"half")
    write_store(folder, clips)
    assert contents(folder) == undisturbed


def test_an_array_that_was_never_begun_is_made(
    clips: dict[str, ToyClip], undisturbed: dict[str, bytes], tmp_path: Path
) -> None:
    (tmp_path / "store" / FRAMES).mkdir(parents=True)
    assert contents(write_store(tmp_path / "store", clips).folder) == undisturbed


def test_the_order_of_the_listing_does_not_matter(
    clips: dict[str, ToyClip], undisturbed: dict[str, bytes], tmp_path: Path
) -> None:
    assert contents(write_store(tmp_path / "store", dict(reversed(clips.items()))).folder) == undisturbed


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_bad_latents_name_their_clip(clips: dict[str, ToyClip], tmp_path: Path, value: float) -> None:
    frames = clips["clip003"].frames.copy()
    frames[2, 0, 1, 1] = value
    unfinished = append_first(tmp_path, clips, 3)
    with pytest.raises(DegenerateValues, match=r"clip003.*--precision fp32"):
        unfinished.append("clip003", frames)


def test_a_clip_without_frames_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="clip007"):
        open_writer(tmp_path).append("clip007", np.empty((0, *SHAPE), np.float16))


@pytest.mark.parametrize(("shape", "dtype"), [((2, 3, 4), "float16"), ((4, 3, 3), "float16"), (SHAPE, "uint8")])
def test_an_unfinished_store_of_another_encoder_is_refused(
    clips: dict[str, ToyClip], tmp_path: Path, shape: tuple[int, int, int], dtype: str
) -> None:
    append_first(tmp_path, clips, 4)
    with pytest.raises(Mismatch, match=r"expected .* found \(2, 3, 3\) float16.*--out"):
        StoreWriter(tmp_path, frame_shape=shape, dtype=dtype)


def full_disk(*_: object, **__: object) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.mark.parametrize("full", ["shard", "progress"])
def test_a_full_disk_is_named_and_what_was_finished_stays(
    clips: dict[str, ToyClip],
    undisturbed: dict[str, bytes],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    full: str,
) -> None:
    folder = tmp_path / "store"
    unfinished = append_first(folder, clips, 3)
    before = open_writer(folder).done
    with monkeypatch.context() as patch:
        patch.setattr(*((Path, "replace") if full == "shard" else (StoreWriter, "_note")), full_disk)
        with pytest.raises(OutOfSpace, match=r"store: the disk is full; what was finished before stays.*--out"):
            unfinished.append("clip003", clips["clip003"].frames)
    assert open_writer(folder).done == before
    write_store(folder, clips)
    assert contents(folder) == undisturbed


def test_a_full_disk_at_the_end_leaves_no_finished_store(
    clips: dict[str, ToyClip], undisturbed: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "store"
    with monkeypatch.context() as patch:
        patch.setattr("mnemoscope.core.files.os.replace", full_disk)
        with pytest.raises(OutOfSpace):
            write_store(folder, clips)
    assert not is_store(folder)
    write_store(folder, clips)
    assert contents(folder) == undisturbed


@pytest.mark.parametrize("line", ["{}\n", "garbage\n", '{"clip_id": "clip009", "n_frames": 1000}\n', "[1]\n"])
def test_damaged_progress_is_refused(clips: dict[str, ToyClip], tmp_path: Path, line: str) -> None:
    append_first(tmp_path, clips, 4)
    (tmp_path / PROGRESS).write_text(line)
    with pytest.raises(CorruptFile, match=r"progress\.jsonl.*delete.*encode the set again"):
        open_writer(tmp_path)


def test_a_damaged_shard_is_refused_when_its_end_is_taken_up(clips: dict[str, ToyClip], tmp_path: Path) -> None:
    append_first(tmp_path, clips, 4)
    shard = tmp_path / FRAMES / "c" / "1" / "0" / "0" / "0"
    shard.write_bytes(shard.read_bytes()[:-5])
    with pytest.raises(CorruptFile, match="encode the set again"):
        open_writer(tmp_path)


def test_damaged_array_metadata_is_refused(clips: dict[str, ToyClip], tmp_path: Path) -> None:
    append_first(tmp_path, clips, 4)
    (tmp_path / FRAMES / "zarr.json").write_text("{")
    with pytest.raises(CorruptFile, match=r"frames\.zarr: damaged"):
        open_writer(tmp_path)


def test_clips_that_were_never_appended_cannot_be_listed(clips: dict[str, ToyClip], tmp_path: Path) -> None:
    unfinished = append_first(tmp_path, clips, 3)
    with pytest.raises(AssertionError, match="order"):
        unfinished.finish(manifest(clips, tmp_path).clips, record_of("latent", 3, 3), scaling=None)


def test_the_record_says_what_it_was_given(clips: dict[str, ToyClip], tmp_path: Path) -> None:
    store = write_store(tmp_path, clips)
    values = json.loads((tmp_path / RECORD).read_text())
    assert {key: values[key] for key in ("space", "encoder", "source", "height", "width", "target_fps")} == {
        "space": "latent",
        "encoder": "toy",
        "source": "toy",
        "height": 3,
        "width": 3,
        "target_fps": None,
    }
    assert LatentStore(tmp_path).record == store.record
