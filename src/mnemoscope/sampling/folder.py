"""Samples on disk: each one's latents in a file as soon as they are made, then one store, then one video each."""

import logging
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
import pandas as pd

from mnemoscope.core.errors import CorruptFile, Mismatch
from mnemoscope.core.files import whole_file, write_text
from mnemoscope.core.progress import Progress
from mnemoscope.data.manifest import make_manifest
from mnemoscope.data.writing import Codec, write_video
from mnemoscope.latents.store import LatentStore, StoreRecord, is_store
from mnemoscope.latents.writer import StoreWriter
from mnemoscope.models.generator import GeneratorRecord
from mnemoscope.models.vae import Vae

log = logging.getLogger(__name__)

PARTS = "parts"
Block = Callable[[Sequence[str]], tuple[np.ndarray, pd.DataFrame]]
"""Names of samples → unscaled float16 latents (B, T, C, h, w) and their rows (clip_id and what is known of them)."""


def sample_names(count: int) -> list[str]:
    """The ids of a set, sorted."""
    return [f"SYN{number:06d}" for number in range(count)]


def sample_to_store(
    names: Sequence[str],
    block: Block,
    folder: Path,
    *,
    record: GeneratorRecord,
    source: str,
    batch_size: int,
    progress: Progress,
) -> LatentStore:
    """Samples what is not there yet, and joins all of it to a latent store in ``folder``.

    Args:
        names: ids, sorted.
        block: makes the samples of some names.
        folder: the store; a call that was broken off in it is continued.
        record: of the generator.
        source: fingerprint of generator and settings, kept in the store.
        batch_size: samples at once; changes nothing but speed and memory.
        progress: told after each batch.

    Raises:
        CorruptFile: if a sample that an earlier call left is damaged.
    """
    parts = folder / PARTS
    parts.mkdir(parents=True, exist_ok=True)
    if not is_store(folder):
        waiting = [name for name in names if not (parts / f"{name}.npz").is_file()]
        if len(waiting) < len(names):
            log.info("%d of %d samples were made before", len(names) - len(waiting), len(names))
        for first in range(0, len(waiting), batch_size):
            _keep(parts, waiting[first : first + batch_size], block)
            progress("sample", len(names) - len(waiting) + min(first + batch_size, len(waiting)), len(names), "clip")
        _join(names, parts, folder, record=record, source=source)
    shutil.rmtree(parts)  # with what a killed call left half-written
    return LatentStore(folder)


def _keep(parts: Path, names: Sequence[str], block: Block) -> None:
    latents, rows = block(names)
    for name, values, row in zip(names, latents, rows.to_dict(orient="records"), strict=True):
        texts = {key: np.asarray(value) for key, value in row.items()}
        with whole_file(parts / f"{name}.npz") as temporary, temporary.open("wb") as file:
            np.savez(file, latents=values, **texts)  # type: ignore[arg-type]


def _join(names: Sequence[str], parts: Path, folder: Path, *, record: GeneratorRecord, source: str) -> None:
    writer = StoreWriter(folder, frame_shape=record.frame_shape, dtype="float16")
    rows = []
    for name in names:
        latents, row = _part(parts / f"{name}.npz")
        rows.append(row | {"n_frames": len(latents)})
        if name not in writer.done:
            writer.append(name, latents)
    known = {
        "path": [f"Videos/{name}.avi" for name in names],
        "patient_id": list(names),
        "split": "synthetic",
        "fps": record.fps,
        "height": record.height,
        "width": record.width,
    }
    table = make_manifest(pd.DataFrame(rows).assign(**known), root=folder).clips
    store_record = StoreRecord(
        space="latent",
        encoder=record.encoder,
        source=source,
        height=record.height,
        width=record.width,
        target_fps=None,
        scaling=record.scaling,
    )
    writer.finish(table, lambda _: store_record, scaling=record.scaling)


def _part(path: Path) -> tuple[np.ndarray, dict[str, object]]:
    try:
        # Opened here, because NumPy leaves a file open that turns out to be damaged.
        with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            return arrays["latents"], {key: arrays[key].item() for key in arrays.files if key != "latents"}
    except (OSError, ValueError, KeyError, EOFError, BadZipFile) as error:
        raise CorruptFile(
            f"{path}: expected a finished sample, found: {error}; delete the file and sample on"
        ) from error


def require_vae(vae: Vae, record: GeneratorRecord) -> None:
    """Refuses to decode with another VAE than the generator's.

    Raises:
        Mismatch: naming both.
    """
    if vae.fingerprint != record.encoder:
        raise Mismatch(
            f"--vae: expected the VAE that the generator was trained with ({record.encoder}), found another "
            f"({vae.fingerprint}); give its folder"
        )


def write_clips(store: LatentStore, vae: Vae, folder: Path, *, codec: Codec, progress: Progress) -> None:
    """Decodes a store into ``folder`` as EchoNet-Dynamic would be: ``Videos/`` and ``FileList.csv``.

    Rates and frame counts in the list are those of the files; ESV and EDV of a synthetic clip are not known.

    Args:
        store: synthetic clips.
        vae: their VAE.
        folder: where to; clips that an earlier call wrote are kept.
        codec: ``mjpeg``, or ``ffv1``, which is lossless.
        progress: told after each clip.
    """
    (folder / "Videos").mkdir(parents=True, exist_ok=True)
    for number, (row, latents) in enumerate(store.clips_of(store.clips)):
        path = folder / "Videos" / f"{row['clip_id']}.avi"
        if not path.is_file():
            write_video(path, vae.decode(latents), fps=float(row["fps"]), codec=codec)
        progress("decode", number + 1, len(store.clips), "clip")
    write_text(folder / "FileList.csv", file_list(store).to_csv(index=False))


def file_list(store: LatentStore) -> pd.DataFrame:
    """EchoNet's list of a synthetic store, with a column View where a class was asked for."""
    clips = store.clips
    view = {"View": clips["view"]} if clips["view"].notna().any() else {}
    return pd.DataFrame(
        {
            "FileName": clips["clip_id"],
            "EF": clips["ef"],
            "ESV": None,
            "EDV": None,
            "FrameHeight": store.record.height,
            "FrameWidth": store.record.width,
            "FPS": clips["fps"],
            "NumberOfFrames": clips["n_frames"],
            "Split": "SYNTHETIC",
        }
        | view
    )
