"""``mnemoscope report``: the page of a finished audit, for the house or for outside it, and its figures."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from mnemoscope.audit.run.results import HOLDOUT, PATIENTS, SAMPLES, Finished, read_audit_table, read_result
from mnemoscope.audit.run.settings import AuditConfig
from mnemoscope.cli.terminal import answering
from mnemoscope.core.config import build
from mnemoscope.core.errors import InputError
from mnemoscope.core.files import read_json, whole_folder
from mnemoscope.core.provenance import RUN_FILE, Run
from mnemoscope.data.manifest import read_manifest
from mnemoscope.data.transform import FrameTransform
from mnemoscope.report.gather import MOST_PAIRS, gather, more_pairs
from mnemoscope.report.material import Material
from mnemoscope.report.page import REPORT_FILE, write_report
from mnemoscope.report.place import kept_map

REDACTED_FILE = "report-redacted.html"
MORE_PAIRS = "report-pairs"


def report(
    run: Path | str, *, redacted: bool = False, pairs: int = MOST_PAIRS, downstream: Path | str | None = None
) -> Path:
    """Writes the page of a finished audit again.

    Args:
        run: folder of the audit.
        redacted: writes ``report-redacted.html``, which shows nothing of a real patient and may go with the set.
        pairs: nearest pairs to show; those that would make the page too large stand on pages in ``report-pairs``.
        downstream: a ``downstream.json``, for the part on what the set is worth.

    Returns:
        The page's path.

    Raises:
        InputError: if there is no finished audit in the folder, or the options do not fit.
    """
    folder = Path(run)
    if pairs < 1:
        raise InputError(f"expected at least one pair to show, got {pairs} (--pairs)")
    record, finished, frames = read_finished(folder)
    material = _gathered(folder, record, finished, frames, pairs=pairs, downstream=downstream)
    if redacted:
        from mnemoscope.report.redact import redacted as without_patients

        return write_report(without_patients(material), out=folder / REDACTED_FILE)
    path = write_report(material, out=folder)
    if pairs > len(material.pairs) and len(material.samples) > len(material.pairs):
        _write_more(material, folder, finished, frames, pairs=pairs)
    return path


def report_figures(runs: list[Path | str], *, out: Path | str) -> list[Path]:
    """Writes Figures 3 to 6 of the paper for finished audits, a panel each, as PNG and SVG.

    Args:
        runs: folders of audits, at least one; their names are the panels' titles.
        out: folder of the files.

    Returns:
        The files.

    Raises:
        InputError: if a folder holds no finished audit, or two have one name.
    """
    from mnemoscope.report.paper import write_figures

    folders = [Path(run) for run in runs]
    titles = [folder.resolve().name for folder in folders]
    if not folders or len(set(titles)) < len(titles):
        raise InputError(f"expected folders of different names, which title the panels, found {', '.join(titles)}")
    materials = {}
    for title, folder in zip(titles, folders, strict=True):
        record, finished, _ = read_finished(folder)
        materials[title] = Material(
            result=finished.result,
            samples=finished.samples,
            holdout=finished.holdout,
            patients=finished.patients,
            record=record,
            places=kept_map(folder, record, seed=record["seed"]),
        )
    return write_figures(materials, Path(out))


def read_finished(folder: Path) -> tuple[dict[str, Any], Finished, FrameTransform]:
    """The record of a finished audit, its numbers and tables, and how its clips were read.

    Raises:
        InputError: if there is no finished audit in the folder.
        CorruptFile: if a part of it is damaged.
    """
    result = read_result(folder)
    record = read_json(folder / RUN_FILE)
    finished = Finished(
        result=result,
        samples=read_audit_table(folder / SAMPLES),
        holdout=read_audit_table(folder / HOLDOUT),
        patients=read_audit_table(folder / PATIENTS),
        real_files=_files(folder / "check-real" / "manifest.parquet"),
        synthetic_files=_files(folder / "check-synthetic" / "manifest.parquet"),
    )
    return record, finished, build(AuditConfig, record["config"]).frames


def report_files(run: Run, finished: Finished, frames: FrameTransform) -> Path:
    """The report of an audit that has just been computed."""
    return write_report(_gathered(run.out, run.record(), finished, frames), out=run.out / REPORT_FILE)


def _gathered(
    folder: Path,
    record: dict[str, Any],
    finished: Finished,
    frames: FrameTransform,
    *,
    pairs: int = MOST_PAIRS,
    downstream: Path | str | None = None,
) -> Material:
    return gather(
        folder,
        finished,
        record,
        frames,
        most_pairs=min(pairs, MOST_PAIRS),
        places=kept_map(folder, record, seed=record["seed"]),
        downstream=None if downstream is None else Path(downstream),
    )


def _write_more(material: Material, folder: Path, finished: Finished, frames: FrameTransform, *, pairs: int) -> None:
    """Pages of pairs beside the report, numbered by their first pair."""
    with whole_folder(folder / MORE_PAIRS) as place:
        first = len(material.pairs)
        while first < min(pairs, len(material.samples)):
            ranks = range(first, min(pairs, first + MOST_PAIRS))
            some = more_pairs(material, finished, frames, ranks=ranks)
            write_report(replace(material, pairs=some, first=first, places=None), out=place / f"{first + 1:06d}.html")
            first += len(some)


def _files(manifest: Path) -> dict[str, Path] | None:
    if not manifest.is_file():
        return None
    clips = read_manifest(manifest)
    return dict(zip(clips.clips["clip_id"], clips.files, strict=True))


_PATH = click.Path(path_type=Path)


@click.command()
@click.argument("runs", nargs=-1, required=True, type=_PATH, metavar="RUN...")
@click.option("--redacted", is_flag=True, help="Write the form that may leave the house: no real picture, no id.")
@click.option(
    "--pairs",
    default=MOST_PAIRS,
    show_default=True,
    type=int,
    help="Nearest pairs to show; those that the page has no room for go to pages beside it.",
)
@click.option("--downstream", type=_PATH, help="A downstream.json, to show what the set is worth.")
@click.option(
    "--figures", type=_PATH, help="Write Figures 3-6 of the paper here, a panel for each RUN, instead of a page."
)
def command(runs: tuple[Path, ...], redacted: bool, pairs: int, downstream: Path | None, figures: Path | None) -> None:
    """Write the report of the finished audit in RUN again.

    \b
    Example: mnemoscope report runs/first
             mnemoscope report runs/first --redacted
             mnemoscope report runs/dynamic runs/a4c runs/psax --figures figures
    """
    with answering():
        if figures is not None:
            for path in report_figures(list(runs), out=figures):
                click.echo(path)
            return
        if len(runs) > 1:
            raise InputError(
                f"expected one audit for a page, got {len(runs)}; call mnemoscope compare to see several side by side"
            )
        click.echo(report(runs[0], redacted=redacted, pairs=pairs, downstream=downstream))
