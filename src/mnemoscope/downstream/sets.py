"""Sets: the audited clips as pixels, and whether they are the audited ones at all."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from mnemoscope.audit.run.settings import AuditConfig
from mnemoscope.audit.run.sources import real_manifest, synthetic_manifest
from mnemoscope.core.config import build
from mnemoscope.core.errors import InputError, Mismatch
from mnemoscope.core.progress import Progress
from mnemoscope.core.provenance import Run
from mnemoscope.data.clips import LATENT_SUFFIXES
from mnemoscope.data.manifest import Manifest, make_manifest
from mnemoscope.data.transform import FrameTransform
from mnemoscope.data.video import probe, read_clip
from mnemoscope.latents.encode import PixelEncoder, encode_set, source_fingerprint
from mnemoscope.latents.scaling import Scaling
from mnemoscope.latents.store import LatentStore, is_store
from mnemoscope.models.ef_readers import ef_reader
from mnemoscope.release.audited import Audited, listed, other_labels

_RATES_ALIKE = 0.1


@dataclass(frozen=True)
class PixelSet:
    """The clips of one side as pixels, their files (None where a store was given), and how the audit decoded these."""

    store: LatentStore
    files: dict[str, Path] | None
    audited_frames: FrameTransform

    def rows(self, ids: list[str]) -> pd.DataFrame:
        """The rows of these clips in the store's table, in this order."""
        return self.store.clips.set_index("clip_id", drop=False).loc[ids].reset_index(drop=True)


def open_sets(
    run: Run, *, real: Path, synthetic: Path, audited: Audited, frames: FrameTransform, progress: Progress
) -> tuple[PixelSet, PixelSet]:
    """Both sides as image-space stores; folders are encoded into the run, once.

    Args:
        run: keeps the stores.
        real: folder of the real clips that were audited, or an image-space store of them.
        synthetic: likewise.
        audited: the audit of these two.
        frames: size and rate of the pixels, where folders are given.
        progress: told how far the encoding is.

    Raises:
        Mismatch: if the audit is of other clips, or the two sides have other sizes or rates.
        InputError: if folders, stores or their EF are not usable.
    """
    config = build(AuditConfig, audited.record["config"])
    table = audited.real
    expected = {
        "real": table.loc[table["split"].isin(["train", "holdout"])].set_index("clip_id")["ef"],
        "synthetic": audited.synthetic_labels,
    }
    # Both folders are listed before anything is decoded: a wrong name is told at once, not after hours.
    listings = {
        "real": None if is_store(real) else real_manifest(real, config),
        "synthetic": None if is_store(synthetic) else synthetic_manifest(synthetic, config),
    }
    folders = {"real": real, "synthetic": synthetic}
    for name, manifest in listings.items():
        clips = _pixels(folders[name]).clips if manifest is None else manifest.clips
        _require_audited(clips, expected[name], folders[name], name, audited, dropped=config.drop_bad_clips)
        if manifest is not None:
            _require_same_files(manifest, audited, name, salted=config.patient_salt is not None)
    opened: dict[str, PixelSet] = {}
    for name, manifest in listings.items():
        if manifest is None:
            opened[name] = PixelSet(_pixels(folders[name]), None, config.frames)
            continue
        scaling = opened["real"].store.record.scaling if name == "synthetic" else None
        store, files = _encoded(run, name, manifest, expected[name].index, scaling, frames, progress)
        opened[name] = PixelSet(store, files, config.frames)
    _require_alike(opened["real"].store, opened["synthetic"].store)
    return opened["real"], opened["synthetic"]


def _require_audited(
    clips: pd.DataFrame, expected: pd.Series, folder: Path, name: str, audited: Audited, *, dropped: bool
) -> None:
    """Refuses clips that are not those of the audit, by id and EF."""
    relevant = clips if name == "synthetic" else clips[clips["split"].isin(["train", "holdout"])]
    ef = relevant.set_index("clip_id")["ef"] if "ef" in relevant.columns else pd.Series(np.nan, relevant["clip_id"])
    absent = expected.index.difference(ef.index)
    more = pd.Index([]) if dropped else ef.index.difference(expected.index)
    found = {"absent": absent, "not audited": more, "of another EF or none": other_labels(ef, expected)}
    lines = [f"{len(ids)} {what} (such as {ids[0]!a})" for what, ids in found.items() if len(ids)]
    if lines:
        raise Mismatch(
            f"--{name} {folder}: expected the clips of the audit in {audited.run}, found {'; '.join(lines)}; give the "
            f"audit of this set (--audit), or the set that was audited"
        )


def _require_same_files(manifest: Manifest, audited: Audited, name: str, *, salted: bool) -> None:
    """Where the audit looked at files too, their content must be the same."""
    kept = audited.run / f"latents-{name}"
    if salted or not is_store(kept):
        return
    if LatentStore(kept).record.source != source_fingerprint(manifest):
        raise Mismatch(
            f"--{name} {manifest.root}: expected the files that the audit in {audited.run} looked at, found other "
            f"content under their names, or another table; run the audit again on this set"
        )


def _pixels(folder: Path) -> LatentStore:
    store = LatentStore(folder)
    if store.record.space != "image":
        raise InputError(
            f"{folder}: holds latents; an EF regressor reads pixels: give the folder of the clips, or a store of "
            f"their pixels (mnemoscope encode --space image)"
        )
    return store


def _encoded(
    run: Run,
    name: str,
    listed_clips: Manifest,
    ids: pd.Index,
    scaling: Scaling | None,
    frames: FrameTransform,
    progress: Progress,
) -> tuple[LatentStore, dict[str, Path]]:
    kept = listed_clips.clips[listed_clips.clips["clip_id"].isin(ids)]
    manifest = make_manifest(kept, root=listed_clips.root)
    source = source_fingerprint(manifest)

    def make(folder: Path) -> None:
        encode_set(
            manifest,
            folder,
            encoder=PixelEncoder(),
            transform=frames,
            source=source,
            scaling=scaling,
            progress=progress,
            stage=f"encode {name}",
        )

    inputs = {"source": source, "frames": frames.__dict__}
    store = LatentStore(run.stage(f"pixels-{name}", inputs, make))
    return store, dict(zip(manifest.clips["clip_id"], manifest.files, strict=True))


def _require_alike(real: LatentStore, synthetic: LatentStore) -> None:
    rates = [_rate(store) for store in (real, synthetic)]
    if real.frame_shape != synthetic.frame_shape:
        raise Mismatch(
            f"expected real and synthetic pixels of one size, found {real.frame_shape} and {synthetic.frame_shape}; "
            f"encode both alike (mnemoscope encode --set frames.height=… --set frames.width=…)"
        )
    if not np.isnan(rates).any() and abs(rates[0] - rates[1]) > _RATES_ALIKE * rates[0]:
        raise Mismatch(
            f"expected real and synthetic clips of one frame rate, found {rates[0]:g} and {rates[1]:g} frames a "
            f"second; bring both to one (--target-fps {rates[0]:g})"
        )


def _rate(store: LatentStore) -> float:
    return store.record.target_fps or float(store.clips["fps"].astype(float).median())


def require_ef(clips: pd.DataFrame, *, flag: str) -> None:
    """Refuses clips without ejection fraction.

    Raises:
        InputError: naming them.
    """
    without = clips.loc[clips["ef"].isna(), "clip_id"].tolist()
    if without:
        raise InputError(
            f"{flag}: expected the ejection fraction of every clip, found none for {len(without)} of {len(clips)}: "
            f"{listed(without)}; give it in their table (EF)"
        )


def measured_ef(run: Run, name: str, clips: PixelSet, ids: list[str], progress: Progress) -> pd.Series:
    """EF that a reader finds in clips, in percent by clip_id, NaN where it finds none; kept in the run.

    Args:
        run: keeps it.
        name: of the reader, or the folder of an EF model.
        clips: the set; a reader looks at files, as the audit decoded them, else at the stored pixels.
        ids: the clips to read.
        progress: told after every clip.
    """
    read = ef_reader(name)

    def make(folder: Path) -> None:
        values = []
        for number, (_, row) in enumerate(clips.rows(ids).iterrows()):
            values.append(read(*_frames(clips, row)))
            progress("measure EF", number + 1, len(ids), "clip")
        pd.DataFrame({"clip_id": ids, "ef": values}).to_parquet(folder / "ef.parquet", index=False)

    inputs = {"reader": name, "store": clips.store.fingerprint, "clips": ids}
    return pd.read_parquet(run.stage("measured", inputs, make) / "ef.parquet").set_index("clip_id")["ef"]


def _frames(clips: PixelSet, row: pd.Series) -> tuple[np.ndarray, float]:
    """Frames (T, H, W) and their rate."""
    file = (clips.files or {}).get(str(row["clip_id"]))
    if file is None or file.suffix.lower() in LATENT_SUFFIXES:
        return clips.store.clip(row)[:, 0], _rate(clips.store)
    frames = clips.audited_frames
    return read_clip(file, frames), float(frames.target_fps or probe(file).fps or np.nan)
