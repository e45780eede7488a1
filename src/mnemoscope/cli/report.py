"""``mnemoscope report``: the page of a finished audit."""

from pathlib import Path

import click
import numpy as np
import pandas as pd

from mnemoscope.audit.run.results import AUDIT, HOLDOUT, PATIENTS, SAMPLES, Finished
from mnemoscope.audit.run.settings import AuditConfig
from mnemoscope.cli.terminal import answering
from mnemoscope.core.config import build
from mnemoscope.core.errors import InputError
from mnemoscope.core.files import read_json
from mnemoscope.core.provenance import RUN_FILE, Run
from mnemoscope.core.types import AuditResult
from mnemoscope.data.clips import LATENT_SUFFIXES
from mnemoscope.data.manifest import read_manifest
from mnemoscope.data.transform import FrameTransform
from mnemoscope.data.video import read_clip
from mnemoscope.report.page import PairPicture, write_report

MOST_PAIRS = 10


def report(run: Path | str) -> Path:
    """Writes ``report.html`` of a finished audit again, and returns its path.

    Args:
        run: folder of the audit.

    Raises:
        InputError: if there is no finished audit in it.
    """
    folder = Path(run)
    if not (folder / AUDIT).is_file():
        raise InputError(f"{folder}: expected a finished audit with {AUDIT}; run mnemoscope audit --out {folder}")
    record = read_json(folder / RUN_FILE)
    config = build(AuditConfig, record["config"])
    finished = Finished(
        result=AuditResult.from_json(read_json(folder / AUDIT)),
        samples=pd.read_parquet(folder / SAMPLES),
        holdout=pd.read_parquet(folder / HOLDOUT),
        patients=pd.read_parquet(folder / PATIENTS),
        real_files=_files(folder / "check-real" / "manifest.parquet"),
        synthetic_files=_files(folder / "check-synthetic" / "manifest.parquet"),
    )
    return _write(folder, record, finished, config.frames)


def report_files(run: Run, finished: Finished, frames: FrameTransform) -> Path:
    """The report of an audit that has just been computed."""
    return _write(run.out, run.record(), finished, frames)


def _write(folder: Path, record: dict[str, object], finished: Finished, frames: FrameTransform) -> Path:
    return write_report(
        result=finished.result,
        samples=finished.samples,
        holdout=finished.holdout,
        patients=finished.patients,
        pairs=nearest_pairs(finished, frames),
        run_record=record,
        out=folder,
    )


def _files(manifest: Path) -> dict[str, Path] | None:
    if not manifest.is_file():
        return None
    clips = read_manifest(manifest)
    return dict(zip(clips.clips["clip_id"], clips.files, strict=True))


def nearest_pairs(finished: Finished, frames: FrameTransform) -> list[PairPicture]:
    """The most similar pairs as pictures; none where the audit was given latents without videos."""
    if finished.real_files is None or finished.synthetic_files is None:
        return []
    closest = finished.samples.sort_values(["p_max", "clip_id"], ascending=[False, True]).head(MOST_PAIRS)
    pairs = []
    for row in closest.to_dict(orient="records"):
        files = finished.synthetic_files[row["clip_id"]], finished.real_files[row["nearest_clip_id"]]
        if any(file.suffix in LATENT_SUFFIXES for file in files):
            continue
        pairs.append(
            PairPicture(
                synthetic=_frame(files[0], int(row["query_frame"]), frames),
                train=_frame(files[1], int(row["gallery_frame"]), frames),
                synthetic_clip_id=row["clip_id"],
                train_clip_id=row["nearest_clip_id"],
                train_patient_id=row["nearest_patient_id"],
                similarity=float(row["p_max"]),
                flagged=bool(row["flagged"]),
            )
        )
    return pairs


def _frame(file: Path, number: int, frames: FrameTransform) -> np.ndarray:
    return read_clip(file, frames, frames=[number])[0]


@click.command()
@click.argument("run", type=click.Path(path_type=Path))
def command(run: Path) -> None:
    """Write the report of the finished audit in RUN again.

    \b
    Example: mnemoscope report runs/first
    """
    with answering():
        click.echo(report(run))
