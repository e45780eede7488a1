"""Sources: from the two folders a person names to two checked manifests, or to two ready stores."""

import hashlib
import logging
from pathlib import Path

import numpy as np
import pandas as pd

from mnemoscope.audit.run.settings import AuditConfig
from mnemoscope.audit.threshold import require_innocents
from mnemoscope.core.errors import InputError
from mnemoscope.core.files import read_json, write_json
from mnemoscope.core.progress import Progress
from mnemoscope.core.provenance import Run, input_folder
from mnemoscope.data.checks import CheckReport, check
from mnemoscope.data.layouts import SplitShares, read_layout
from mnemoscope.data.manifest import Manifest, make_manifest, read_manifest, write_manifest
from mnemoscope.latents.store import LatentStore

log = logging.getLogger(__name__)

_MOST_LISTED = 20
FINGERPRINTS = "fingerprints.json"


def real_manifest(folder: Path, config: AuditConfig) -> Manifest:
    """The real clips with their splits.

    Raises:
        InputError: without train, val or enough holdout clips, with the remedy.
    """
    shares = SplitShares(val=config.val_share, holdout=config.holdout_share, seed=config.seed)
    manifest = read_layout(
        input_folder(folder, flag="--real"),
        layout=config.real_layout,
        table=config.table,
        shares=shares,
        patient_salt=config.patient_salt,
    )
    require_splits(manifest.clips, folder, percentile=config.percentile)
    return manifest


def require_splits(clips: pd.DataFrame, folder: Path, *, percentile: float) -> None:
    """Refuses real clips that lack a split, or have fewer holdout clips than the percentile needs.

    Raises:
        InputError: naming what was found.
    """
    counts = clips["split"].value_counts()
    missing = [split for split in ("train", "val", "holdout") if not counts.get(split, 0)]
    if missing:
        raise InputError(
            f"--real {folder}: expected train, val and holdout clips, found "
            f"{', '.join(f'{n} {split}' for split, n in counts.items()) or 'none'}; without holdout nobody knows how "
            f"similar strangers are, without val no model can be chosen. Give the splits in the table "
            f"(--set table.split=COLUMN), or take the split column out so that they are drawn by patient "
            f"(--val-share, --holdout-share)"
        )
    require_innocents(int(counts["holdout"]), percentile)


def require_synthetic(clips: pd.DataFrame, folder: Path) -> None:
    """Refuses a store of suspects without any.

    Raises:
        InputError: naming what was found.
    """
    if not (clips["split"] == "synthetic").any():
        raise InputError(
            f"--synthetic {folder}: expected a store of clips in the split synthetic, found "
            f"{', '.join(sorted(set(clips['split'])))}; encode them again (mnemoscope encode --split synthetic)"
        )


def synthetic_manifest(folder: Path, config: AuditConfig) -> Manifest:
    """The synthetic clips, whatever their table says of splits."""
    folder = input_folder(folder, flag="--synthetic")
    return read_layout(folder, layout=config.synthetic_layout, split="synthetic")


def checked(
    run: Run, name: str, manifest: Manifest, source: str, *, config: AuditConfig, progress: Progress
) -> Manifest:
    """The manifest after the check stage: refused if clips have errors, or without them where that was asked for.

    The table of problems stays in the run's folder either way.

    Raises:
        InputError: listing the errors.
    """

    def make(folder: Path) -> None:
        report = check(manifest, progress=lambda done, total: progress("check", done, total, "clip"))
        problems = report.to_table()
        problems.to_csv(run.out / f"problems-{name}.csv", index=False)
        problems.to_csv(folder / "problems.csv", index=False)
        prints = {clip_id: fact.fingerprint for clip_id, fact in report.facts.items() if not fact.flat}
        write_json(folder / FINGERPRINTS, {clip_id: value for clip_id, value in prints.items() if value})
        write_manifest(_usable(manifest, report, config, run.out / f"problems-{name}.csv"), folder / "manifest.parquet")

    inputs = {"source": source, "drop_bad_clips": config.drop_bad_clips}
    folder = run.stage(f"check-{name}", inputs, make)
    usable = read_manifest(folder / "manifest.parquet", root=manifest.root)
    if len(usable) < len(manifest):
        log.warning(
            "%s: %d of %d clips have errors and are left out; they are listed in %s",
            *(manifest.root, len(manifest) - len(usable), len(manifest), run.out / f"problems-{name}.csv"),
        )
    return usable


def exact_copies(run: Run) -> list[tuple[str, str]]:
    """(synthetic clip, real clip) pairs whose decoded frames are the same, where both sets were given as files."""
    real, synthetic = (run.out / f"check-{name}" / FINGERPRINTS for name in ("real", "synthetic"))
    if not (real.is_file() and synthetic.is_file()):
        return []
    of_real = {fingerprint: clip_id for clip_id, fingerprint in sorted(read_json(real).items(), reverse=True)}
    found = sorted(read_json(synthetic).items())
    return [(clip_id, of_real[fingerprint]) for clip_id, fingerprint in found if fingerprint in of_real]


def equal_latents(real: LatentStore, synthetic: LatentStore) -> list[tuple[str, str]]:
    """(synthetic clip, real clip) pairs whose stored frames are the same, all of them."""
    of_real = {_digest(latents): str(row["clip_id"]) for row, latents in real.clips_of(real.clips)}
    digests = ((str(row["clip_id"]), _digest(latents)) for row, latents in synthetic.clips_of(synthetic.clips))
    return [(clip_id, of_real[digest]) for clip_id, digest in digests if digest in of_real]


def _digest(latents: np.ndarray) -> bytes:
    return hashlib.blake2b(latents.tobytes(), digest_size=16).digest()


def _usable(manifest: Manifest, report: CheckReport, config: AuditConfig, table: Path) -> Manifest:
    if not report.errors:
        return manifest
    bad = {problem.clip_id for problem in report.errors}
    if config.drop_bad_clips and "" not in bad:
        kept = make_manifest(manifest.clips[~manifest.clips["clip_id"].isin(bad)], root=manifest.root)
        if len(kept) > 0:
            return kept
    lines = [f"- {problem}" for problem in report.errors[:_MOST_LISTED]]
    more = len(report.errors) - _MOST_LISTED
    lines += [f"- and {more} more"] if more > 0 else []
    raise InputError(
        f"{manifest.root}: {len(report.errors)} errors in the clips (all of them in {table}):\n"
        + "\n".join(lines)
        + "\nmend them, or leave the affected clips out (--drop-bad-clips)"
    )
