"""The latent store: all frames of all clips end to end in one sharded Zarr array, a clip table, and a record.

``frames.zarr`` (frames × C × h × w; float16 latents, or uint8 pixels for the image space), ``clips.parquet`` (the
manifest plus ``first_frame``; ``n_frames`` counts stored frames) and ``store.json``. The record is written last: a
folder without it is an unfinished store.
"""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
import pandas as pd
import zarr

from mnemoscope.core.errors import CorruptFile, DegenerateValues, InputError, Mismatch
from mnemoscope.core.files import disk_errors, folder_fingerprint, read_json, whole_file, write_json
from mnemoscope.latents.scaling import Scaling, ScalingSums

Space = Literal["latent", "image"]
FORMAT = "mnemoscope.store/1"
FRAMES, CLIPS, RECORD, PROGRESS = "frames.zarr", "clips.parquet", "store.json", "progress.jsonl"
CHUNK_FRAMES = 64
SHARD_FRAMES = 1024
_POOL_LIMIT_BYTES = 4 << 30


class FramePool(Protocol):
    """Stored frames by number: an array in memory, or on disk where memory would not hold it."""

    def __getitem__(self, numbers: np.ndarray) -> np.ndarray:
        """Frame numbers (n,) to frames (n, C, h, w)."""
        ...


@dataclass(frozen=True)
class _OnDisk:
    array: Any

    def __getitem__(self, numbers: np.ndarray) -> np.ndarray:
        return np.asarray(self.array.oindex[numbers])


@dataclass(frozen=True)
class StoreRecord:
    """What a store holds and where it came from (``store.json``)."""

    space: Space
    encoder: str
    source: str
    height: int
    width: int
    target_fps: float | None
    scaling: Scaling

    def to_json(self) -> dict[str, Any]:
        """The content of ``store.json``."""
        return {"format": FORMAT} | {**self.__dict__, "scaling": self.scaling.to_json()}


class LatentStore:
    """A finished store, opened for reading.

    Args:
        folder: the store.

    Raises:
        CorruptFile: if a part is missing, damaged, or does not fit the others.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        values = read_json(folder / RECORD)
        if values.pop("format", None) != FORMAT:
            raise CorruptFile(f"{folder / RECORD}: expected format {FORMAT!r}; encode the set again")
        try:
            self.record = StoreRecord(**values | {"scaling": Scaling.from_json(values["scaling"])})
            self.clips = pd.read_parquet(folder / CLIPS)
            array = zarr.open_array(folder / FRAMES, mode="r")
        except (KeyError, TypeError, OSError, ValueError) as error:
            raise CorruptFile(f"{folder}: not a whole latent store ({error}); encode the set again") from error
        self._array: Any = array
        self._check()

    def _check(self) -> None:
        counted = int(self.clips["n_frames"].sum())
        if self._array.ndim != 4 or self._array.shape[0] != counted:
            raise CorruptFile(
                f"{self.folder}: {CLIPS} counts {counted} frames, {FRAMES} has shape {self._array.shape}; "
                f"encode the set again"
            )
        if self._array.shape[1] != self.record.scaling.channels:
            raise CorruptFile(
                f"{self.folder}: {self._array.shape[1]} channels stored, scaling has {self.record.scaling.channels}"
            )

    @property
    def frame_shape(self) -> tuple[int, int, int]:
        """(C, h, w)."""
        return tuple(self._array.shape[1:])

    @property
    def n_frames(self) -> int:
        """Number of stored frames of all clips."""
        return int(self._array.shape[0])

    @cached_property
    def fingerprint(self) -> str:
        """Digest of everything in the store."""
        return folder_fingerprint(self.folder)

    def of_split(self, split: str) -> pd.DataFrame:
        """The rows of ``clips`` in a split, sorted by clip_id, index 0…n−1."""
        return self.clips[self.clips["split"] == split].reset_index(drop=True)

    def read(self, first: int, count: int) -> np.ndarray:
        """Frames ``first … first+count`` in stored type, (count, C, h, w)."""
        try:
            block = np.asarray(self._array[first : first + count])
        except (OSError, ValueError, RuntimeError) as error:
            raise CorruptFile(f"{self.folder / FRAMES}: damaged ({error}); encode the set again") from error
        if block.dtype != np.uint8 and not np.isfinite(block).all():
            raise DegenerateValues(f"{self.folder}: NaN or infinite latents in frames {first}–{first + count}")
        return block

    def frame_pool(self, *, limit_bytes: int = _POOL_LIMIT_BYTES) -> FramePool:
        """All frames for random access: in memory up to ``limit_bytes``, else read where they lie."""
        if self._array.nbytes > limit_bytes:
            return _OnDisk(self._array)
        return self.read(0, self.n_frames)

    def clip(self, row: pd.Series) -> np.ndarray:
        """All frames of one clip (a row of ``clips``), (T, C, h, w)."""
        return self.read(int(row["first_frame"]), int(row["n_frames"]))

    def clips_of(self, rows: pd.DataFrame) -> Iterator[tuple[pd.Series, np.ndarray]]:
        """Each row with its frames, in the rows' order."""
        for _, row in rows.iterrows():
            yield row, self.clip(row)

    def require_scaling(self, scaling: Scaling, *, owner: str) -> None:
        """Refuses to be read with other constants than its own.

        Raises:
            Mismatch: naming both.
        """
        if scaling != self.record.scaling:
            raise Mismatch(
                f"{self.folder}: encoded with other scaling constants than {owner}.\n"
                f"  store: {json.dumps(self.record.scaling.to_json())}\n  {owner}: {json.dumps(scaling.to_json())}\n"
                f"encode this set with the train store's constants (mnemoscope encode --scaling-from STORE)"
            )


class StoreWriter:
    """Appends clips to a new store, or to one that was broken off: only whole shards are ever written.

    Args:
        folder: the store's folder, empty or holding an unfinished store of the same clips.
        frame_shape: (C, h, w).
        dtype: ``float16`` or ``uint8``.
    """

    def __init__(self, folder: Path, *, frame_shape: tuple[int, int, int], dtype: str) -> None:
        self.folder = folder
        self._dtype = np.dtype(dtype)
        self._pending: list[np.ndarray] = []
        self._unwritten: list[dict[str, int | str]] = []
        with disk_errors(folder):
            folder.mkdir(parents=True, exist_ok=True)
            self._array: Any = self._open(frame_shape)
            self.done = self._resume()

    def _open(self, frame_shape: tuple[int, int, int]) -> Any:
        path = self.folder / FRAMES
        if path.exists():
            array = zarr.open_array(path, mode="r+")
            if tuple(array.shape[1:]) != frame_shape or array.dtype != self._dtype:
                raise Mismatch(f"{path}: holds {array.shape[1:]} {array.dtype}, asked for {frame_shape} {self._dtype}")
            return array
        return zarr.create_array(
            path,
            shape=(0, *frame_shape),
            dtype=self._dtype,
            chunks=(CHUNK_FRAMES, *frame_shape),
            shards=(SHARD_FRAMES, *frame_shape),
        )

    def _resume(self) -> dict[str, int]:
        """Clips that are whole on disk, with their frame counts; what came after them is taken up again."""
        path = self.folder / PROGRESS
        text = path.read_text() if path.exists() else ""
        lines = [json.loads(line) for line in text.splitlines(keepends=True) if line.endswith("\n")]
        done = {str(line["clip_id"]): int(line["n_frames"]) for line in lines}
        self._frames = sum(done.values())
        if self._frames > self._array.shape[0]:
            raise CorruptFile(f"{self.folder}: {PROGRESS} lists more frames than {FRAMES} holds; delete the folder")
        self._written = self._frames // SHARD_FRAMES * SHARD_FRAMES
        tail = np.asarray(self._array[self._written : self._frames])
        self._pending = [tail] if len(tail) else []
        return done

    def append(self, clip_id: str, frames: np.ndarray) -> None:
        """Takes the frames (T, C, h, w) of one clip, T ≥ 1; clips come in the order of their ids.

        Raises:
            DegenerateValues: for NaN or infinite values, naming the clip.
        """
        if len(frames) == 0:
            raise InputError(f"{clip_id}: no frames to store")
        if self._dtype != np.uint8 and not np.isfinite(frames).all():
            raise DegenerateValues(
                f"{clip_id}: the encoder returned NaN or infinite latents; encode in float32 (--precision fp32) "
                f"or check the VAE"
            )
        self._pending.append(frames.astype(self._dtype))
        self._frames += len(frames)
        self._unwritten.append({"clip_id": clip_id, "n_frames": len(frames)})
        self.done[clip_id] = len(frames)
        if self._frames - self._written >= SHARD_FRAMES:
            self._write(self._frames // SHARD_FRAMES * SHARD_FRAMES)

    def _write(self, end: int) -> None:
        """Writes frames up to ``end``; a clip counts as done once all of its frames lie on disk."""
        block = np.concatenate(self._pending) if self._pending else np.empty((0, *self._array.shape[1:]), self._dtype)
        with disk_errors(self.folder):
            self._array.resize((end, *self._array.shape[1:]))
            self._array[self._written : end] = block[: end - self._written]
            self._note(end)
        self._pending = [block[end - self._written :]]
        self._written = end

    def _note(self, end: int) -> None:
        total = self._frames - sum(int(c["n_frames"]) for c in self._unwritten)
        ready = 0
        for clip in self._unwritten:
            total += int(clip["n_frames"])
            ready += total <= end
        with (self.folder / PROGRESS).open("a") as file:
            file.writelines(json.dumps(clip) + "\n" for clip in self._unwritten[:ready])
        self._unwritten = self._unwritten[ready:]

    def finish(
        self, manifest: pd.DataFrame, record: Callable[[Scaling], StoreRecord], *, scaling: Scaling | None
    ) -> LatentStore:
        """Writes the rest, the clip table and the record, and opens the store.

        Args:
            manifest: rows of exactly the stored clips, sorted by clip_id.
            record: makes the content of ``store.json`` from the scaling constants.
            scaling: constants of the train store; None takes them from this store's own train clips.
        """
        if list(manifest["clip_id"]) != list(self.done):
            raise AssertionError("clips must be appended in the manifest's order")
        if self._frames > self._written:
            self._write(self._frames)
        clips = manifest.assign(n_frames=list(self.done.values())).reset_index(drop=True)
        clips["first_frame"] = np.cumsum([0, *clips["n_frames"][:-1]])
        made = record(scaling or self._scaling(clips))
        with whole_file(self.folder / CLIPS) as temporary:
            clips.to_parquet(temporary, index=False)
        write_json(self.folder / RECORD, made.to_json())
        (self.folder / PROGRESS).unlink(missing_ok=True)
        return LatentStore(self.folder)

    def _scaling(self, clips: pd.DataFrame) -> Scaling:
        sums = ScalingSums()
        for _, row in clips[clips["split"] == "train"].iterrows():
            sums.add(np.asarray(self._array[row["first_frame"] : row["first_frame"] + row["n_frames"]]))
        return sums.scaling()


def is_store(folder: Path) -> bool:
    """Whether a folder holds a finished latent store."""
    return (folder / RECORD).is_file()
