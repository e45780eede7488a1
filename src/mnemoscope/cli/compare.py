"""``mnemoscope compare``: audits side by side, what changed, and whether the intervals say so."""

from dataclasses import asdict
from pathlib import Path

import click

from mnemoscope.audit.run.results import read_result
from mnemoscope.cli.terminal import answering, show_json
from mnemoscope.core.errors import InputError
from mnemoscope.core.types import AuditResult
from mnemoscope.report.changes import Change, as_rows, changes, write_changes


def compare(runs: list[Path | str], *, out: Path | str | None = None) -> list[Change]:
    """Holds finished audits against the first of them.

    Args:
        runs: folders of audits, at least two.
        out: an ``.html`` file to write the comparison to.

    Returns:
        Every number, in the order of ``audit.json``.

    Raises:
        InputError: if there are fewer than two audits, or a folder holds none.
    """
    results = _read(runs)
    found = changes(list(results.values()))
    if out is not None:
        write_changes(results, found, Path(out))
    return found


def _read(runs: list[Path | str]) -> dict[str, AuditResult]:
    if len(set(map(str, runs))) < max(2, len(runs)):
        raise InputError(f"expected two or more different audits to compare, got {', '.join(map(str, runs)) or 'none'}")
    return {str(run): read_result(Path(run)) for run in runs}


@click.command()
@click.argument("runs", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="RUN RUN...")
@click.option("--out", type=click.Path(path_type=Path), help="Also write the comparison as an HTML page.")
@click.option("--json", "as_json", is_flag=True, help="Print it for machines.")
def command(runs: tuple[Path, ...], out: Path | None, as_json: bool) -> None:
    """Show finished audits side by side: filters, generators or releases.

    \b
    Example: mnemoscope compare runs/unfiltered runs/filtered --out compare.html
    """
    with answering():
        results = _read(list(runs))
        found = compare(list(runs), out=out)
        if as_json:
            show_json([asdict(change) for change in found])
            return
        rows = as_rows(results, found)
        changed = [row for row, change in zip(rows[2:], found, strict=True) if _says_something(change)]
        for row in (*rows[:2], *changed):
            click.echo("\t".join(row))
        click.echo(
            f"{len(changed)} of {len(found)} numbers changed beyond their intervals"
            + ("" if out is None else f": {out}")
        )


def _says_something(change: Change) -> bool:
    return any(said not in ("no change shown", "no interval") for said in change.says)
