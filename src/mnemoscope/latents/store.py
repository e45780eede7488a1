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
from mnemoscope.core.files import file_fingerprint, folder_fingerprint, read_json, value_fingerprint
from mnemoscope.latents.scaling import Scaling

Space = Literal["latent", "image"]
FORMAT = "mnemoscope.store/1"
FRAMES, CLIPS, RECORD, PROGRESS = "frames.zarr", "clips.parquet", "store.json", "progress.jsonl"
_POOL_LIMIT_BYTES = 4 << 30
_COLUMNS = ("clip_id", "patient_id", "split", "n_frames", "first_frame")
DAMAGED = (AttributeError, KeyError, OSError, RuntimeError, TypeError, ValueError)  # what readers raise on bad bytes


class FramePool(Protocol):
    """Stored frames by number: an array in memory, or on disk where memory would not hold it."""

    def __getitem__(self, numbers: np.ndarray) -> np.ndarray:
        """Frame numbers (n,) to frames (n, C, h, w)."""
        ...


@dataclass(frozen=True)
class _OnDisk:
    store: "LatentStore"

    def __getitem__(self, numbers: np.ndarray) -> np.ndarray:
        return self.store.frames(numbers)


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
        InputError: if the folder is no store.
        CorruptFile: if a part is missing, damaged, or does not fit the others.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        if not (is_store(folder) or (folder / FRAMES).exists()):
            raise InputError(
                f"{folder}: expected a latent store, found no {RECORD} in it; make one (mnemoscope encode DIR "
                f"--out STORE)"
            )
        values = read_json(folder / RECORD)
        if values.pop("format", None) != FORMAT:
            raise CorruptFile(f"{folder / RECORD}: expected format {FORMAT!r}; encode the set again")
        try:
            self.record = StoreRecord(**values | {"scaling": Scaling.from_json(values["scaling"])})
            self.clips = pd.read_parquet(folder / CLIPS)
            array = zarr.open_array(folder / FRAMES, mode="r")
        except (*DAMAGED, DegenerateValues) as error:
            raise CorruptFile(f"{folder}: not a whole latent store ({error}); encode the set again") from error
        self._array: Any = array
        problems = self._problems()
        if problems:
            raise CorruptFile(f"{folder}: not a whole latent store ({'; '.join(problems)}); encode the set again")

    def _problems(self) -> list[str]:
        missing = [column for column in _COLUMNS if column not in self.clips.columns]
        if missing:
            return [f"{CLIPS} lacks {', '.join(missing)}"]
        counts = self.clips["n_frames"].to_numpy()
        wrong = [
            (f"{CLIPS} lists no clips", len(counts) == 0),
            (f"{CLIPS}: first_frame does not follow from n_frames", not self._clips_end_to_end()),
            (
                f"{CLIPS} counts {counts.sum()} frames, {FRAMES} has shape {self._array.shape}",
                self._array.ndim != 4 or self._array.shape[0] != counts.sum(),
            ),
            (
                f"{FRAMES} has shape {self._array.shape}, {RECORD} scales {self.record.scaling.channels} channels",
                self._array.shape[1:2] != (self.record.scaling.channels,),
            ),
        ]
        absent = [f"{FRAMES}/{name} is missing or empty" for name in self._absent_shards()]
        return [text for text, is_so in wrong if is_so] + absent[:3]

    def _clips_end_to_end(self) -> bool:
        ends = np.cumsum(self.clips["n_frames"].to_numpy())
        return np.array_equal(self.clips["first_frame"].to_numpy(), np.concatenate([[0], ends[:-1]])[: len(ends)])

    def _absent_shards(self) -> Iterator[str]:
        """Shards without a file, which Zarr would read as zeros."""
        array = self._array
        for number in range(-(-array.shape[0] // (array.shards or array.chunks)[0])):
            name = array.metadata.encode_chunk_key((number, *(0,) * (array.ndim - 1)))
            file = self.folder / FRAMES / name
            if not (file.is_file() and file.stat().st_size):
                yield name

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
        """Digest of the store's three parts; what a run keeps beside them, such as seconds taken, does not count."""
        parts = [file_fingerprint(self.folder / name) for name in (CLIPS, RECORD)]
        return value_fingerprint([folder_fingerprint(self.folder / FRAMES), *parts])

    def of_split(self, split: str) -> pd.DataFrame:
        """The rows of ``clips`` in a split, sorted by clip_id, index 0…n−1."""
        return self.clips[self.clips["split"] == split].reset_index(drop=True)

    def read(self, first: int, count: int) -> np.ndarray:
        """Frames ``first … first+count`` in stored type, (count, C, h, w).

        Raises:
            CorruptFile: if the stored bytes are damaged.
            DegenerateValues: for NaN or infinite latents, naming the clip.
        """
        block = stored_frames(lambda: self._array[first : first + count], self.folder)
        self._require_finite(block, np.arange(first, first + len(block)))
        return block

    def frames(self, numbers: np.ndarray) -> np.ndarray:
        """Frames by number (n,), in any order, repeats allowed, (n, C, h, w); raises as :meth:`read` does."""
        block = stored_frames(lambda: self._array.oindex[numbers], self.folder)
        self._require_finite(block, numbers)
        return block

    def _require_finite(self, block: np.ndarray, numbers: np.ndarray) -> None:
        if block.dtype == np.uint8 or np.isfinite(block).all():
            return
        bad = int(numbers[~np.isfinite(block).all(axis=(1, 2, 3))][0])
        row = self.clips.iloc[int(np.searchsorted(self.clips["first_frame"], bad, side="right")) - 1]
        raise DegenerateValues(
            f"{self.folder}: NaN or infinite latents in frame {bad - row['first_frame']} of {row['clip_id']}; "
            f"encode the set again in float32 (--precision fp32)"
        )

    def frame_pool(self, *, limit_bytes: int = _POOL_LIMIT_BYTES) -> FramePool:
        """All frames for random access: in memory up to ``limit_bytes``, else read where they lie."""
        if self._array.nbytes > limit_bytes:
            return _OnDisk(self)
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
        if not scaling.agrees(self.record.scaling):
            raise Mismatch(
                f"{self.folder}: encoded with other scaling constants than {owner}.\n"
                f"  store: {json.dumps(self.record.scaling.to_json())}\n  {owner}: {json.dumps(scaling.to_json())}\n"
                f"encode this set with the train store's constants (mnemoscope encode --scaling-from STORE)"
            )


def stored_frames(select: Callable[[], Any], folder: Path) -> np.ndarray:
    """What ``select`` reads from the frames of the store ``folder``.

    Raises:
        CorruptFile: if the stored bytes are damaged.
    """
    try:
        return np.asarray(select())
    except (OSError, ValueError, RuntimeError) as error:
        raise CorruptFile(f"{folder / FRAMES}: damaged ({error}); delete {folder} and encode the set again") from error


def is_store(folder: Path) -> bool:
    """Whether a folder holds a finished latent store."""
    return (folder / RECORD).is_file()
