"""``mnemoscope report``: the page of a finished audit."""

from pathlib import Path
from typing import Any

import click
import pandas as pd

from mnemoscope.audit.run.results import AUDIT, HOLDOUT, PATIENTS, SAMPLES, Finished
from mnemoscope.audit.run.settings import AuditConfig
from mnemoscope.cli.terminal import answering
from mnemoscope.core.config import build
from mnemoscope.core.errors import InputError
from mnemoscope.core.files import read_json
from mnemoscope.core.provenance import RUN_FILE, Run
from mnemoscope.core.types import AuditResult
from mnemoscope.data.manifest import read_manifest
from mnemoscope.data.transform import FrameTransform
from mnemoscope.report.gather import MOST_PAIRS, gather
from mnemoscope.report.page import write_report
from mnemoscope.report.place import kept_map


def report(run: Path | str, *, downstream: Path | str | None = None) -> Path:
    """Writes ``report.html`` of a finished audit again, and returns its path.

    Args:
        run: folder of the audit.
        downstream: a ``downstream.json``, for the part on utility.

    Raises:
        InputError: if there is no finished audit in it.
    """
    folder = Path(run)
    record, finished, frames = read_finished(folder)
    return _write(folder, record, finished, frames, downstream=None if downstream is None else Path(downstream))


def read_finished(folder: Path) -> tuple[dict[str, Any], Finished, FrameTransform]:
    """The record of a finished audit, its numbers and tables, and how its clips were read.

    Raises:
        InputError: if there is no finished audit in the folder.
    """
    if not (folder / AUDIT).is_file():
        raise InputError(f"{folder}: expected a finished audit with {AUDIT}; run mnemoscope audit --out {folder}")
    record = read_json(folder / RUN_FILE)
    finished = Finished(
        result=AuditResult.from_json(read_json(folder / AUDIT)),
        samples=pd.read_parquet(folder / SAMPLES),
        holdout=pd.read_parquet(folder / HOLDOUT),
        patients=pd.read_parquet(folder / PATIENTS),
        real_files=_files(folder / "check-real" / "manifest.parquet"),
        synthetic_files=_files(folder / "check-synthetic" / "manifest.parquet"),
    )
    return record, finished, build(AuditConfig, record["config"]).frames


def report_files(run: Run, finished: Finished, frames: FrameTransform) -> Path:
    """The report of an audit that has just been computed."""
    return _write(run.out, run.record(), finished, frames)


def _write(
    folder: Path,
    record: dict[str, Any],
    finished: Finished,
    frames: FrameTransform,
    *,
    downstream: Path | None = None,
) -> Path:
    places = kept_map(folder, record, seed=record["seed"])
    material = gather(folder, finished, record, frames, most_pairs=MOST_PAIRS, places=places, downstream=downstream)
    return write_report(material, out=folder)


def _files(manifest: Path) -> dict[str, Path] | None:
    if not manifest.is_file():
        return None
    clips = read_manifest(manifest)
    return dict(zip(clips.clips["clip_id"], clips.files, strict=True))


@click.command()
@click.argument("run", type=click.Path(path_type=Path))
def command(run: Path) -> None:
    """Write the report of the finished audit in RUN again.

    \b
    Example: mnemoscope report runs/first
    """
    with answering():
        click.echo(report(run))
