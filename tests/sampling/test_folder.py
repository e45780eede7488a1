import errno
import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from mnemoscope.core.errors import CorruptFile, Mismatch, OutOfSpace
from mnemoscope.core.progress import unwatched
from mnemoscope.data.transform import FrameTransform
from mnemoscope.data.video import probe, read_clip
from mnemoscope.latents.store import LatentStore
from mnemoscope.models.vae import Vae, load_vae
from mnemoscope.sampling import folder as room
from mnemoscope.sampling.folder import PARTS, Block, require_vae, sample_names, sample_to_store, write_clips
from tests.sampling.tiny_models import SHAPE, SIZE_PX, named_noise, record_of, write_vae

NAMES = sample_names(7)
RECORD = record_of("lvdm")
N_FRAMES = 3


def clip(name: str) -> np.ndarray:
    return named_noise([name], (N_FRAMES, *SHAPE))[0].astype(np.float16)


def ef(name: str) -> float:
    return 30.0 + int(name[3:]) / 8


def block(names: Sequence[str]) -> tuple[np.ndarray, pd.DataFrame]:
    rows = pd.DataFrame({"clip_id": names, "ef": [ef(n) for n in names], "frame_attempts": [len(n) for n in names]})
    return np.stack([clip(name) for name in names]), rows


class Noting:
    """A block that keeps what it was asked for and can be interrupted at a batch."""

    def __init__(self, *, stop_at: int | None = None) -> None:
        self.asked: list[list[str]] = []
        self.stop_at = stop_at

    def __call__(self, names: Sequence[str]) -> tuple[np.ndarray, pd.DataFrame]:
        if len(self.asked) == self.stop_at:
            raise KeyboardInterrupt
        self.asked.append(list(names))
        return block(names)


def made(folder: Path, block: Block = block, *, batch_size: int = 2, progress: Any = unwatched) -> LatentStore:
    return sample_to_store(
        NAMES, block, folder, record=RECORD, source="settings", batch_size=batch_size, progress=progress
    )


def interrupted(folder: Path, *, batches: int = 2) -> None:
    with pytest.raises(KeyboardInterrupt):
        made(folder, Noting(stop_at=batches))


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> LatentStore:
    return made(tmp_path_factory.mktemp("undisturbed"))


def test_names_are_sorted_and_the_first_do_not_depend_on_how_many() -> None:
    assert sample_names(3) == ["SYN000000", "SYN000001", "SYN000002"]
    assert sample_names(12) == sorted(sample_names(12))


def test_a_store_holds_the_samples_and_what_is_known_of_them(undisturbed: LatentStore) -> None:
    for (row, frames), name in zip(undisturbed.clips_of(undisturbed.clips), NAMES, strict=True):
        np.testing.assert_array_equal(frames, clip(name))
        known = {"clip_id": name, "patient_id": name, "split": "synthetic", "ef": ef(name), "fps": 32.0}
        sizes = {"n_frames": N_FRAMES, "height": SIZE_PX, "width": SIZE_PX, "frame_attempts": len(name)}
        assert {key: row[key] for key in known | sizes} == known | sizes
    record = undisturbed.record
    assert (record.encoder, record.source, record.scaling) == (RECORD.encoder, "settings", RECORD.scaling)
    assert not (undisturbed.folder / PARTS).exists()


@pytest.mark.parametrize("batch_size", [1, 3, 100])
def test_the_batch_size_changes_nothing(undisturbed: LatentStore, tmp_path: Path, batch_size: int) -> None:
    asked = Noting()
    assert made(tmp_path, asked, batch_size=batch_size).fingerprint == undisturbed.fingerprint
    assert [name for names in asked.asked for name in names] == NAMES
    assert max(map(len, asked.asked)) == min(batch_size, len(NAMES))


@pytest.mark.parametrize("batches", [0, 1, 3])
@pytest.mark.parametrize("batch_size", [2, 5])
def test_a_call_that_was_killed_is_continued(
    undisturbed: LatentStore, tmp_path: Path, batches: int, batch_size: int
) -> None:
    interrupted(tmp_path, batches=batches)
    rest = Noting()
    assert made(tmp_path, rest, batch_size=batch_size).fingerprint == undisturbed.fingerprint
    assert [name for names in rest.asked for name in names] == NAMES[2 * batches :]


def test_what_a_killed_call_left_half_written_goes(undisturbed: LatentStore, tmp_path: Path) -> None:
    interrupted(tmp_path)
    (tmp_path / PARTS / f".{NAMES[5]}.npz.0123abcd").write_bytes(b"PK")
    assert made(tmp_path).fingerprint == undisturbed.fingerprint
    assert not (tmp_path / PARTS).exists()


def test_a_store_that_is_whole_is_not_sampled_again(
    undisturbed: LatentStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(_: Path) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(room.shutil, "rmtree", stop)
        with pytest.raises(KeyboardInterrupt):
            made(tmp_path)
    asked = Noting()
    assert made(tmp_path, asked).fingerprint == undisturbed.fingerprint
    assert asked.asked == []
    assert not (tmp_path / PARTS).exists()


def test_progress_counts_what_was_made_before(tmp_path: Path) -> None:
    interrupted(tmp_path)
    seen: list[tuple[object, ...]] = []
    made(tmp_path, progress=lambda *words: seen.append(words))
    assert seen == [("sample", 6, 7, "clip"), ("sample", 7, 7, "clip")]


@pytest.mark.parametrize("keep", [0, 1, 0.3, 0.6, 0.99])
def test_a_truncated_sample_is_named_and_can_be_made_again(
    undisturbed: LatentStore, tmp_path: Path, keep: float
) -> None:
    interrupted(tmp_path)
    part = tmp_path / PARTS / f"{NAMES[1]}.npz"
    content = part.read_bytes()
    part.write_bytes(content[: int(keep * len(content)) if keep < 1 else int(keep)])
    with pytest.raises(CorruptFile, match=rf"{NAMES[1]}\.npz.*delete the file"):
        made(tmp_path)
    part.unlink()
    rest = Noting()
    assert made(tmp_path, rest).fingerprint == undisturbed.fingerprint
    assert rest.asked == [[NAMES[1]]]


def test_a_flipped_bit_is_refused_or_changes_nothing(undisturbed: LatentStore, tmp_path: Path) -> None:
    interrupted(tmp_path, batches=1)
    part = tmp_path / PARTS / f"{NAMES[1]}.npz"
    content, refused = part.read_bytes(), 0
    directory = content.index(b"PK\x01\x02")  # what follows only lists the members
    for place in range(0, directory, 11):
        damaged = bytearray(content)
        damaged[place] ^= 1 << (place % 8)
        part.write_bytes(bytes(damaged))
        try:
            latents, row = room._part(part)
        except CorruptFile:
            refused += 1
            continue
        np.testing.assert_array_equal(latents, clip(NAMES[1]))
        assert row == {"clip_id": NAMES[1], "ef": ef(NAMES[1]), "frame_attempts": len(NAMES[1])}
    assert refused > 0.8 * directory / 11


def full_after(count: int, savez: Callable[..., None]) -> Callable[..., None]:
    """``np.savez`` on a disk that is full after so many files."""
    written: list[None] = []

    def save(file: Any, **arrays: Any) -> None:
        if len(written) == count:
            file.write(b"PK")
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        written.append(None)
        savez(file, **arrays)

    return save


@pytest.mark.parametrize("count", [0, 3])
def test_a_full_disk_keeps_what_was_finished(
    undisturbed: LatentStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, count: int
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(np, "savez", full_after(count, np.savez))
        with pytest.raises(OutOfSpace, match=r"disk is full.*run the same command again"):
            made(tmp_path)
    assert sorted(file.name for file in (tmp_path / PARTS).iterdir()) == [f"{name}.npz" for name in NAMES[:count]]
    rest = Noting()
    assert made(tmp_path, rest).fingerprint == undisturbed.fingerprint
    assert [name for names in rest.asked for name in names] == NAMES[count:]


@pytest.fixture(scope="module")
def vae(tmp_path_factory: pytest.TempPathFactory) -> Vae:
    folder = tmp_path_factory.mktemp("vae")
    write_vae(folder)
    return load_vae(str(folder))


def test_another_vae_is_refused_and_both_are_named(vae: Vae) -> None:
    require_vae(vae, replace(RECORD, encoder=vae.fingerprint))
    with pytest.raises(Mismatch, match=rf"--vae.*\(toy\), found another \({vae.fingerprint}\); give its folder"):
        require_vae(vae, RECORD)


GRAY = FrameTransform(height=SIZE_PX, width=SIZE_PX)


@pytest.mark.parametrize("codec", ["ffv1", "mjpeg"])
@pytest.mark.parametrize("fps", [32.0, 50.0, 12.5, 30000 / 1001])
def test_the_list_says_what_the_files_are(tmp_path: Path, vae: Vae, fps: float, codec: Any) -> None:
    record = replace(RECORD, fps=fps)
    store = sample_to_store(
        NAMES[:2], block, tmp_path / "store", record=record, source="s", batch_size=2, progress=unwatched
    )
    write_clips(store, vae, tmp_path / "clips", codec=codec, progress=unwatched)
    listed = pd.read_csv(tmp_path / "clips" / "FileList.csv")
    assert listed["FileName"].tolist() == NAMES[:2]
    assert listed["EF"].tolist() == [ef(name) for name in NAMES[:2]]
    assert listed[["ESV", "EDV"]].isna().all(axis=None)
    assert set(listed["Split"]) == {"SYNTHETIC"}
    for row in listed.itertuples():
        info = probe(tmp_path / "clips" / "Videos" / f"{row.FileName}.avi")
        assert (info.n_frames, info.height, info.width) == (row.NumberOfFrames, row.FrameHeight, row.FrameWidth)
        assert info.fps == pytest.approx(row.FPS, rel=1e-6)
        assert (row.FPS, info.codec) == (pytest.approx(fps), codec)


def test_lossless_videos_are_what_the_vae_decodes(undisturbed: LatentStore, tmp_path: Path, vae: Vae) -> None:
    write_clips(undisturbed, vae, tmp_path, codec="ffv1", progress=unwatched)
    for row, latents in undisturbed.clips_of(undisturbed.clips):
        found = read_clip(tmp_path / "Videos" / f"{row['clip_id']}.avi", GRAY)
        np.testing.assert_array_equal(found, vae.decode(latents))


def test_videos_written_before_are_kept(undisturbed: LatentStore, tmp_path: Path, vae: Vae) -> None:
    def stop_at_3(stage: str, done: int, total: int, unit: str) -> None:
        if done == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_clips(undisturbed, vae, tmp_path, codec="ffv1", progress=stop_at_3)
    assert not (tmp_path / "FileList.csv").exists()
    videos = tmp_path / "Videos"
    before = {file.name: file.stat().st_mtime_ns for file in videos.iterdir()}
    assert sorted(before) == [f"{name}.avi" for name in NAMES[:3]]
    seen: list[int] = []
    write_clips(undisturbed, vae, tmp_path, codec="ffv1", progress=lambda _, done, total, unit: seen.append(done))
    assert {name: (videos / name).stat().st_mtime_ns for name in before} == before
    assert sorted(file.name for file in videos.iterdir()) == [f"{name}.avi" for name in NAMES]
    assert seen == [1, 2, 3, 4, 5, 6, 7]
    assert len(pd.read_csv(tmp_path / "FileList.csv")) == 7
