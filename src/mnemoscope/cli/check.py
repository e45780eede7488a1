"""``mnemoscope check``: every problem of a data set in one list."""

import sys
from pathlib import Path

import click
import pandas as pd
from pydantic import Field

from mnemoscope.cli.terminal import Asked, settings, show_json, show_plan
from mnemoscope.core.config import Config
from mnemoscope.core.files import whole_file
from mnemoscope.core.progress import Progress, unwatched
from mnemoscope.core.provenance import input_folder
from mnemoscope.data.checks import CheckReport, Expectation
from mnemoscope.data.checks import check as check_manifest
from mnemoscope.data.layouts import SplitShares, read_layout
from mnemoscope.data.listing import TableColumns


class CheckConfig(Config):
    """What is checked and what for.

    Attributes:
        layout: of the folder.
        table: the table beside the clips and the meaning of its columns.
        split: puts every clip into this split, such as synthetic.
        percentile: of the privacy threshold that holdout clips must suffice for; none asks for nothing.
        val_share: share of patients drawn for val where the data give no splits.
        holdout_share: share of patients drawn for holdout where the data give no splits.
        workers: threads that decode, 1 or 2.
        seed: of the splits.
    """

    layout: str = "auto"
    table: TableColumns = TableColumns()
    split: str | None = None
    percentile: float | None = Field(95.0, gt=0, lt=100)
    val_share: float = 0.15
    holdout_share: float = 0.2
    workers: int = 2
    seed: int = 0


def check(folder: Path | str, *, config: CheckConfig | None = None, progress: Progress = unwatched) -> CheckReport:
    """Decodes every clip of a folder once and lists all problems; a bad file never stops it."""
    config = config or CheckConfig()
    manifest = read_layout(
        input_folder(Path(folder), flag="DIR"),
        layout=config.layout,
        table=config.table,
        split=config.split,
        shares=SplitShares(val=config.val_share, holdout=config.holdout_share, seed=config.seed),
    )
    percentile = None if config.split == "synthetic" else config.percentile
    return check_manifest(
        manifest,
        expect=Expectation(percentile=percentile),
        workers=config.workers,
        progress=lambda done, total: progress("check", done, total, "clip"),
    )


@click.command()
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--csv", type=click.Path(path_type=Path), help="Also write the table of problems here.")
@settings(CheckConfig)
def command(folder: Path, csv: Path | None, asked: Asked[CheckConfig]) -> None:
    """List every problem of the clips in FOLDER. Exits with 1 if one of them is an error.

    \b
    Example: mnemoscope check CLIPS --csv problems.csv
    """
    with asked.answering() as (config, progress):
        if asked.dry_run:
            show_plan(config, {"folder": folder})
            return
        report = check(folder, config=config, progress=progress)
        table = report.to_table()
        if csv is not None:
            with whole_file(csv) as temporary:
                table.to_csv(temporary, index=False)
        show_json(table.to_dict(orient="records")) if asked.as_json else click.echo(_told(table, len(report.facts)))
    if report.errors:
        sys.exit(1)


def _told(table: pd.DataFrame, clips: int) -> str:
    errors = int((table["severity"] == "error").sum())
    lines = [
        f"{row['severity']:8}{row['kind']}: {row['file'] or row['clip_id'] or 'the set'}: {row['detail']} → "
        f"{row['remedy']}"
        for row in table.to_dict(orient="records")
    ]
    return "\n".join([*lines, f"{clips} clips, {errors} errors, {len(table) - errors} warnings"])
