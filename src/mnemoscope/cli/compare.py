"""``mnemoscope compare``: audits side by side, what changed, and whether the intervals say so."""

from dataclasses import asdict
from pathlib import Path

import click

from mnemoscope.audit.run.results import read_result
from mnemoscope.cli.terminal import answering, show_json
from mnemoscope.core.errors import InputError
from mnemoscope.core.types import AuditResult
from mnemoscope.report.changes import UNCHANGED, Comparison, Figure, as_rows, compared, write_changes
from mnemoscope.report.differences import differences, facts


def compare(runs: list[Path | str], *, out: Path | str | None = None) -> Comparison:
    """Holds finished audits against the first of them.

    Args:
        runs: folders of audits, at least two.
        out: an ``.html`` file to write the comparison to.

    Returns:
        What differs between them, the five figures, and every number in the order of ``audit.json``.

    Raises:
        InputError: if there are fewer than two audits, or a folder holds none.
    """
    results = _read(runs)
    known = [facts(Path(run), result) for run, result in results.items()]
    found = compared(list(results.values()), differences(known))
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
            show_json(asdict(found))
            return
        for line in _lines(results, found):
            click.echo("\t".join(line))
        if out is not None:
            click.echo(out)


def _told(figure: Figure) -> list[str]:
    return [f"{says}: {by}" if by else says for says, by in zip(figure.says, figure.by, strict=True)]


def _lines(results: dict[str, AuditResult], found: Comparison) -> list[list[str]]:
    """What differs, the verdicts and the five figures, and each other number that changed."""
    head, verdicts, *rows = as_rows(results, found)
    changed = [row for row, change in zip(rows, found.changes, strict=True) if set(change.says) - UNCHANGED]
    return [
        ["what differs", *results, "forbids comparing"],
        *([part.name, *part.values, part.told] for part in found.differs),
        [],
        head,
        verdicts,
        *([f.title, *(f"{value}; {said}" for value, said in f.shown), *_told(f)] for f in found.figures),
        [],
        [f"{len(changed)} of {len(rows)} numbers changed beyond their intervals"],
        *changed,
    ]
