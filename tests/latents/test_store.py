import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import zarr

from mnemoscope.core.errors import CorruptFile, DegenerateValues, Mismatch
from mnemoscope.latents import writer
from mnemoscope.latents.scaling import Scaling
from mnemoscope.latents.store import CLIPS, FRAMES, RECORD, LatentStore, is_store
from tests.toys import ToyClip, noise_clips, write_store

COUNTS = (3, 8, 1, 13, 5)


@pytest.fixture(autouse=True)
def small_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writer, "CHUNK_FRAMES", 4)
    monkeypatch.setattr(writer, "SHARD_FRAMES", 8)


@pytest.fixture
def clips() -> dict[str, ToyClip]:
    clips = noise_clips(COUNTS)
    splits = ("train", "val", "train", "holdout", "train")
    return {
        name: ToyClip(clip.frames, clip.patient, split)
        for (name, clip), split in zip(clips.items(), splits, strict=True)
    }


@pytest.fixture
def store(clips: dict[str, ToyClip], tmp_path: Path) -> LatentStore:
    return write_store(tmp_path / "store", clips)


def everything(clips: dict[str, ToyClip]) -> np.ndarray:
    return np.concatenate([clip.frames for clip in clips.values()])


def shard(store: LatentStore, number: int) -> Path:
    return store.folder / FRAMES / "c" / str(number) / "0" / "0" / "0"


def test_every_clip_comes_back_as_it_was_stored(store: LatentStore, clips: dict[str, ToyClip]) -> None:
    for row, frames in store.clips_of(store.clips):
        np.testing.assert_array_equal(frames, clips[row["clip_id"]].frames)
    assert (store.n_frames, store.frame_shape) == (sum(COUNTS), (2, 3, 3))
    assert store.clips["first_frame"].tolist() == [0, 3, 11, 12, 25]
    assert store.clips["n_frames"].tolist() == list(COUNTS)


def test_clips_of_a_split_are_its_rows_in_order(store: LatentStore) -> None:
    assert store.of_split("train")["clip_id"].tolist() == ["clip000", "clip002", "clip004"]
    assert store.of_split("train").index.tolist() == [0, 1, 2]
    assert len(store.of_split("synthetic")) == 0


def test_the_scaling_is_that_of_the_train_clips_alone(store: LatentStore, clips: dict[str, ToyClip]) -> None:
    train = everything({name: clip for name, clip in clips.items() if clip.split == "train"}).astype(np.float64)
    found = store.record.scaling
    assert found.low == tuple(train.min(axis=(0, 2, 3)))
    np.testing.assert_allclose(found.mean, train.mean(axis=(0, 2, 3)), atol=1e-12)


def test_a_given_scaling_is_kept_as_it_is(clips: dict[str, ToyClip], tmp_path: Path) -> None:
    given = Scaling(low=(-9.0, -8.0), high=(9.0, 8.0), mean=(0.5, 0.25), std=(2.0, 3.0))
    store = write_store(tmp_path / "other", clips, scaling=given)
    assert LatentStore(store.folder).record.scaling == given


@pytest.mark.parametrize("limit_bytes", [0, 1 << 30])
def test_the_frame_pool_gives_any_frames_in_any_order(
    store: LatentStore, clips: dict[str, ToyClip], limit_bytes: int
) -> None:
    pool = store.frame_pool(limit_bytes=limit_bytes)
    numbers = np.array([29, 0, 7, 8, 8, 3, 25, 29])
    np.testing.assert_array_equal(pool[numbers], everything(clips)[numbers])
    assert isinstance(pool, np.ndarray) is (limit_bytes > 0)


def test_black_frames_over_a_whole_shard_are_frames_like_others(tmp_path: Path) -> None:
    frames = np.zeros((30, 1, 4, 4), np.uint8)
    frames[0], frames[29] = 200, 7
    store = write_store(tmp_path / "store", {"a": ToyClip(frames, "p")}, space="image")
    np.testing.assert_array_equal(store.read(0, 30), frames)


@pytest.mark.parametrize("part", [RECORD, CLIPS, f"{FRAMES}/c/1/0/0/0"])
def test_the_fingerprint_sees_every_part_and_nothing_else(store: LatentStore, part: str) -> None:
    (store.folder / "stage.json").write_text('{"seconds": 1.5}')
    before = LatentStore(store.folder).fingerprint
    (store.folder / "stage.json").write_text('{"seconds": 2.5}')
    assert LatentStore(store.folder).fingerprint == before
    opened = LatentStore(store.folder)
    with (store.folder / part).open("ab") as file:
        file.write(b" ")
    assert opened.fingerprint != before


def test_the_same_clips_give_the_same_fingerprint(
    store: LatentStore, clips: dict[str, ToyClip], tmp_path: Path
) -> None:
    assert write_store(tmp_path / "again", clips).fingerprint == store.fingerprint


@pytest.mark.parametrize("part", [RECORD, CLIPS, f"{FRAMES}/zarr.json"])
@pytest.mark.parametrize("damage", ["missing", "empty", "half", "[]"])
def test_a_missing_or_truncated_part_is_refused(store: LatentStore, part: str, damage: str) -> None:
    file = store.folder / part
    content = file.read_bytes()
    file.unlink()
    if damage != "missing":
        file.write_bytes({"empty": b"", "half": content[: len(content) // 2], "[]": b"[]"}[damage])
    with pytest.raises(CorruptFile, match=r"store"):
        LatentStore(store.folder)


@pytest.mark.parametrize("number", [0, 2, 3])
@pytest.mark.parametrize("damage", ["missing", "empty"])
def test_an_absent_shard_is_not_read_as_zeros(store: LatentStore, number: int, damage: str) -> None:
    shard(store, number).unlink()
    if damage == "empty":
        shard(store, number).touch()
    with pytest.raises(CorruptFile, match=rf"c/{number}/0/0/0 is missing or empty.*encode the set again"):
        LatentStore(store.folder)


def test_a_truncated_shard_is_refused_wherever_it_ends(store: LatentStore) -> None:
    content = shard(store, 1).read_bytes()
    for length in range(1, len(content), 37):
        shard(store, 1).write_bytes(content[:length])
        opened = LatentStore(store.folder)
        with pytest.raises(CorruptFile, match=r"frames\.zarr: damaged.*encode the set again"):
            opened.read(8, 8)
        np.testing.assert_array_equal(opened.read(0, 8), store.read(0, 8))


@pytest.mark.parametrize("limit_bytes", [0, 1 << 30])
def test_a_flipped_bit_is_refused(store: LatentStore, limit_bytes: int) -> None:
    content = shard(store, 1).read_bytes()
    for place in range(0, len(content), 41):
        damaged = bytearray(content)
        damaged[place] ^= 1 << (place % 8)
        shard(store, 1).write_bytes(bytes(damaged))
        with pytest.raises(CorruptFile, match="damaged"):
            LatentStore(store.folder).frame_pool(limit_bytes=limit_bytes)[np.arange(8, 16)]


@pytest.mark.parametrize(
    ("column", "values", "message"),
    [
        ("n_frames", [3, 8, 1, 13, 6], "counts 31 frames"),
        ("n_frames", [8, 3, 1, 13, 5], "first_frame does not follow"),
        ("first_frame", [0, 3, 11, 12, 24], "first_frame does not follow"),
    ],
)
def test_counts_that_do_not_fit_the_frames_are_refused(
    store: LatentStore, column: str, values: list[int], message: str
) -> None:
    store.clips.assign(**{column: values}).to_parquet(store.folder / CLIPS)
    with pytest.raises(CorruptFile, match=message):
        LatentStore(store.folder)


@pytest.mark.parametrize("column", ["clip_id", "patient_id", "split", "n_frames", "first_frame"])
def test_a_missing_column_is_named(store: LatentStore, column: str) -> None:
    store.clips.drop(columns=column).to_parquet(store.folder / CLIPS)
    with pytest.raises(CorruptFile, match=f"lacks {column}"):
        LatentStore(store.folder)


def test_a_table_without_clips_is_refused(store: LatentStore) -> None:
    pd.DataFrame(store.clips[:0]).to_parquet(store.folder / CLIPS)
    with pytest.raises(CorruptFile, match="lists no clips"):
        LatentStore(store.folder)


@pytest.mark.parametrize(
    "change",
    [
        {"format": "mnemoscope.store/0"},
        {"scaling": None},
        {"scaling": {"low": [0.0]}},
        {"scaling": {"low": [0.0], "high": [0.0], "mean": [0.0], "std": [0.0]}},
        {"scaling": {"low": [0.0], "high": [1.0], "mean": [0.5], "std": [0.1]}},
        {"colour": "gray"},
    ],
)
def test_a_record_that_does_not_fit_is_refused(store: LatentStore, change: dict[str, object]) -> None:
    values = json.loads((store.folder / RECORD).read_text())
    (store.folder / RECORD).write_text(json.dumps(values | change))
    with pytest.raises(CorruptFile, match=r"store.*encode the set again"):
        LatentStore(store.folder)


@pytest.mark.parametrize("limit_bytes", [0, 1 << 30])
def test_nan_frames_name_the_clip(store: LatentStore, limit_bytes: int) -> None:
    array = zarr.open_array(store.folder / FRAMES, mode="r+")
    array[13, 1, 2, 2] = np.nan
    damaged = LatentStore(store.folder)
    with pytest.raises(DegenerateValues, match="frame 1 of clip003"):
        damaged.read(9, 10)
    with pytest.raises(DegenerateValues, match="frame 1 of clip003"):
        damaged.frame_pool(limit_bytes=limit_bytes)[np.array([20, 13])]
    assert np.isfinite(damaged.read(0, 13)).all()


def test_other_scaling_constants_are_refused_and_both_are_shown(store: LatentStore) -> None:
    own = store.record.scaling
    store.require_scaling(own, owner="model")
    other = Scaling(low=own.low, high=own.high, mean=own.mean, std=(own.std[0], own.std[1] * 1.011))
    with pytest.raises(Mismatch, match=r"(?s)store.*model.*--scaling-from") as caught:
        store.require_scaling(other, owner="model")
    assert json.dumps(own.to_json()) in str(caught.value)
    assert json.dumps(other.to_json()) in str(caught.value)


def test_a_folder_is_a_store_once_its_record_is_written(store: LatentStore, tmp_path: Path) -> None:
    assert is_store(store.folder)
    (store.folder / RECORD).unlink()
    assert not is_store(store.folder)
    assert not is_store(tmp_path / "nowhere")
