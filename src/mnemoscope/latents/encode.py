"""Encode: from the clips of a manifest to a latent store, resumable, one clip after the other in the order of ids."""

import json
import logging
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

from mnemoscope.core.errors import InputError, Mismatch, OutputConflict, TooFewSamples
from mnemoscope.core.files import file_fingerprint, value_fingerprint
from mnemoscope.core.progress import Progress, unwatched
from mnemoscope.data.clips import LATENT_SUFFIXES
from mnemoscope.data.manifest import Manifest
from mnemoscope.data.tensors import read_latent
from mnemoscope.data.transform import FrameTransform
from mnemoscope.data.video import read_clip
from mnemoscope.latents.scaling import Scaling
from mnemoscope.latents.store import LatentStore, Space, StoreRecord, is_store
from mnemoscope.latents.writer import StoreWriter

log = logging.getLogger(__name__)

Alteration = Callable[[np.ndarray, str], np.ndarray]


class FrameEncoder(Protocol):
    """Anything that turns frames into what a store holds; a VAE, or the pixels themselves."""

    @property
    def space(self) -> Space:
        """``latent`` or ``image``."""
        ...

    @property
    def fingerprint(self) -> str:
        """Digest of configuration and weights."""
        ...

    @property
    def dtype(self) -> str:
        """``float16`` or ``uint8``."""
        ...

    def frame_shape(self, height: int, width: int) -> tuple[int, int, int]:
        """(C, h, w) that a frame of this size becomes."""
        ...

    def encode(self, frames: np.ndarray, *, clip_id: str) -> np.ndarray:
        """uint8 frames (T, H, W) or (T, H, W, 3) to (T, C, h, w)."""
        ...


@dataclass(frozen=True)
class PixelEncoder:
    """The image space: gray pixels as they are, one channel, uint8."""

    space: Space = "image"
    fingerprint: str = "pixels"
    dtype: str = "uint8"

    def frame_shape(self, height: int, width: int) -> tuple[int, int, int]:
        """(1, H, W)."""
        return (1, height, width)

    def encode(self, frames: np.ndarray, *, clip_id: str) -> np.ndarray:
        """(T, H, W) to (T, 1, H, W)."""
        return frames[:, None]


def source_fingerprint(manifest: Manifest) -> str:
    """Digest of the clip table and of every file's content; absent files count as absent."""
    files = {
        clip_id: file_fingerprint(file) if file.is_file() else "absent"
        for clip_id, file in zip(manifest.clips["clip_id"], manifest.files, strict=True)
    }
    return value_fingerprint([files, json.loads(manifest.clips.to_json(orient="records"))])


def encode_set(
    manifest: Manifest,
    out: Path,
    *,
    encoder: FrameEncoder,
    transform: FrameTransform,
    source: str,
    scaling: Scaling | None = None,
    max_frames: int | None = None,
    alter: Alteration | None = None,
    progress: Progress = unwatched,
    stage: str = "encode",
) -> LatentStore:
    """Encodes every clip of a manifest into the store ``out``; what a broken-off call for the same clips and settings

    finished is kept.

    Args:
        manifest: the clips.
        out: the store's folder.
        encoder: VAE or pixels.
        transform: size, colour and rate of the decoded frames.
        source: fingerprint of the source files, kept in the record.
        scaling: the train store's constants; None takes them from this manifest's train clips.
        max_frames: frames kept of each clip, from its beginning; None keeps all.
        alter: changes the decoded frames (T, H, W) of a clip, given by its id, before they are encoded.
        progress: told after each clip how many frames are encoded.
        stage: the name that ``progress`` is given.

    Raises:
        InputError: for an unreadable clip, or a ready latent that is to be altered, naming it.
        Mismatch: if ready latents do not have the encoder's shape.
        TooFewSamples: if the scaling is to come from train clips and there are none.
        OutputConflict: if ``out`` is a finished store of other clips or settings.
    """
    shape = encoder.frame_shape(transform.height, transform.width)
    if scaling is None and "train" not in set(manifest.clips["split"]):
        raise TooFewSamples(
            f"{manifest.root}: expected train clips to take the scaling constants from, found none; "
            f"give the train store's constants (mnemoscope encode --scaling-from STORE) or a split (--split train)"
        )

    def record(constants: Scaling) -> StoreRecord:
        return StoreRecord(
            space=encoder.space,
            encoder=encoder.fingerprint,
            source=source,
            height=transform.height,
            width=transform.width,
            target_fps=transform.target_fps,
            scaling=constants,
        )

    if is_store(out):
        return _finished(out, manifest, record, scaling)
    writer = StoreWriter(out, frame_shape=shape, dtype=encoder.dtype)
    pairs = list(zip(manifest.clips["clip_id"], manifest.files, strict=True))
    waiting = [(clip_id, file) for clip_id, file in pairs if clip_id not in writer.done]
    if len(waiting) < len(pairs):
        log.info("%d of %d clips were encoded before", len(pairs) - len(waiting), len(pairs))
    done, total = sum(writer.done.values()), _expected_frames(manifest, max_frames)
    for clip_id, frames in _decoded_ahead(waiting, transform, max_frames, alter):
        latents = frames if frames.dtype == np.float16 else encoder.encode(frames, clip_id=clip_id)
        if latents.shape[1:] != shape:
            raise Mismatch(
                f"{clip_id}: expected latents of shape {shape} from this encoder and frame size, found "
                f"{latents.shape[1:]}; choose the VAE that made them (--vae) or their size (--set frames.height=…)"
            )
        writer.append(clip_id, latents)
        done += len(latents)
        progress(stage, done, max(done, total), "frame")
    return writer.finish(manifest.clips, record, scaling=scaling)


def _expected_frames(manifest: Manifest, max_frames: int | None) -> int:
    """As far as headers tell; resampling may make it more or fewer."""
    counts = manifest.clips["n_frames"].fillna(0)
    return int(counts.clip(upper=max_frames).sum())


def _finished(
    out: Path, manifest: Manifest, record: Callable[[Scaling], StoreRecord], scaling: Scaling | None
) -> LatentStore:
    """The store that an earlier call finished just before it was stopped."""
    store = LatentStore(out)
    same_clips = list(store.clips["clip_id"]) == list(manifest.clips["clip_id"])
    if not same_clips or store.record != record(scaling or store.record.scaling):
        raise OutputConflict(f"{out}: a finished store of other clips or settings; choose another --out")
    return store


def _decoded_ahead(
    clips: Sequence[tuple[str, Path]], transform: FrameTransform, max_frames: int | None, alter: Alteration | None
) -> Iterator[tuple[str, np.ndarray]]:
    """Clips in order, the next one being decoded while the caller works on the present one."""

    def load(clip_id: str, file: Path) -> np.ndarray:
        if file.suffix.lower() in LATENT_SUFFIXES:
            if alter is not None:
                raise InputError(
                    f"{file}: a ready latent has no pixels to alter; train without altered frames "
                    f"(--set altered_frames=0)"
                )
            with np.errstate(over="ignore"):  # the writer refuses infinite latents, naming the clip
                return read_latent(file)[:max_frames].astype(np.float16)
        frames = read_clip(file, transform, max_frames=max_frames)
        return frames if alter is None else alter(frames, clip_id)

    with ThreadPoolExecutor(max_workers=1) as pool:
        ahead = [pool.submit(load, *clip) for clip in clips[:1]]
        for number, (clip_id, file) in enumerate(clips):
            frames = ahead.pop().result()
            if number + 1 < len(clips):
                ahead.append(pool.submit(load, *clips[number + 1]))
            if len(frames) == 0:
                raise InputError(f"{file}: no frame could be decoded; `mnemoscope check` lists every bad file")
            yield clip_id, frames
