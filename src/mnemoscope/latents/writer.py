"""Writing a latent store: clip after clip, only whole shards, taken up again where an earlier call was broken off."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import zarr
from zarr.codecs import ZstdCodec

from mnemoscope.core.errors import CorruptFile, DegenerateValues, InputError, Mismatch
from mnemoscope.core.files import disk_errors, whole_file, write_json, write_text
from mnemoscope.latents.scaling import Scaling, ScalingSums
from mnemoscope.latents.store import CLIPS, DAMAGED, FRAMES, PROGRESS, RECORD, LatentStore, StoreRecord, stored_frames

CHUNK_FRAMES = 64
SHARD_FRAMES = 1024
_EVERY_CHUNK: Any = {"write_empty_chunks": True}  # a shard of black frames is a file too: an absent one is damage


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
            self._sweep()
            self._array: Any = self._open(frame_shape)
            self._shard_frames = int(self._array.shards[0])
            self.done = self._resume()

    def _sweep(self) -> None:
        """Half-written temporary files of a killed call would stay for ever and change the store's fingerprint."""
        for pattern in (f"{FRAMES}/**/*.partial", *(f".{name}.*" for name in (CLIPS, RECORD, PROGRESS))):
            for rest in self.folder.glob(pattern):
                rest.unlink()

    def _open(self, frame_shape: tuple[int, int, int]) -> Any:
        path = self.folder / FRAMES
        if not (path / "zarr.json").exists():
            return self._create(path, frame_shape)
        try:
            array = zarr.open_array(path, mode="r+", config=_EVERY_CHUNK)
        except DAMAGED as error:
            raise CorruptFile(f"{path}: damaged ({error}); delete {self.folder} and encode the set again") from error
        if tuple(array.shape[1:]) != frame_shape or array.dtype != self._dtype:
            raise Mismatch(
                f"{path}: expected {frame_shape} {self._dtype}, found {tuple(array.shape[1:])} {array.dtype} of "
                f"another encoder or frame size; choose another --out"
            )
        return array

    def _create(self, path: Path, frame_shape: tuple[int, int, int]) -> Any:
        return zarr.create_array(
            path,
            shape=(0, *frame_shape),
            dtype=self._dtype,
            chunks=(CHUNK_FRAMES, *frame_shape),
            shards=(SHARD_FRAMES, *frame_shape),
            compressors=ZstdCodec(level=0, checksum=True),
            config=_EVERY_CHUNK,
        )

    def _resume(self) -> dict[str, int]:
        """Clips that are whole on disk, with their frame counts; what came after them is taken up again."""
        done = _finished_clips(self.folder / PROGRESS)
        self._frames = sum(done.values())
        if self._frames > self._array.shape[0]:
            raise CorruptFile(
                f"{self.folder}: {PROGRESS} lists {self._frames} frames, {FRAMES} holds {self._array.shape[0]}; "
                f"delete the folder and encode the set again"
            )
        self._written = self._frames // self._shard_frames * self._shard_frames
        tail = stored_frames(lambda: self._array[self._written : self._frames], self.folder)
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
        if self._frames - self._written >= self._shard_frames:
            self._write(self._frames // self._shard_frames * self._shard_frames)

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


def _finished_clips(path: Path) -> dict[str, int]:
    """Clips of the whole lines; a half-written last line is cut off, or the next one would be glued to it."""
    if not path.exists():
        return {}
    text = path.read_text()
    whole = text[: text.rfind("\n") + 1]
    if whole != text:
        write_text(path, whole)
    try:
        lines = [json.loads(line) for line in whole.splitlines()]
        return {str(line["clip_id"]): int(line["n_frames"]) for line in lines}
    except (KeyError, TypeError, ValueError) as error:
        raise CorruptFile(f"{path}: damaged ({error}); delete {path.parent} and encode the set again") from error
