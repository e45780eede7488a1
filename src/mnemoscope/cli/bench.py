"""``mnemoscope bench``: every speed claim against its peer, and the studies that show whether the audit is right."""

import sys
from importlib import import_module
from pathlib import Path

import click

from mnemoscope.cli.terminal import answering
from mnemoscope.core.errors import InputError
from mnemoscope.core.files import write_text
from mnemoscope.core.provenance import environment

CHECKOUT = Path(__file__).resolve().parents[3]
PARTS = ("search", "decode", "pipeline", "phantom", "audit", "report", "release")
STUDIES = ("calibration",)  # these take tens of minutes and write pages of their own


def bench(parts: tuple[str, ...] = PARTS) -> str:
    """Runs the benchmarks of the source checkout and returns them as a Markdown page.

    Raises:
        InputError: where mnemoscope is installed without its sources.
    """
    _find_sources()
    rows = [row for part in parts for row in import_module(f"benchmarks.{part}").run()]
    return _page(import_module("benchmarks.rows").table(rows))


def study(name: str) -> None:
    """Runs one of ``STUDIES``, or goes on with it; it writes its page under ``docs/results``.

    Raises:
        InputError: where mnemoscope is installed without its sources.
    """
    _find_sources()
    import_module(f"benchmarks.{name}").run()


def _find_sources() -> None:
    if not (CHECKOUT / "benchmarks").is_dir():
        raise InputError("the benchmarks are part of the source checkout, not of the installed package; clone it")
    sys.path.insert(0, str(CHECKOUT))


def _page(table: str) -> str:
    here = environment()
    machine, versions = here["machine"], here["versions"]
    used = ", ".join(f"{name} {version}" for name, version in versions.items() if version)
    return (
        "# Benchmarks\n\n"
        "Written by `make bench` (`mnemoscope bench --write`): all rows of one run on one machine. A ratio says how "
        "many times faster\nthan the peer in the same run; targets are ratios, because machines differ.\n\n"
        f"{table}\n\n"
        f"Machine: {machine['processor']}, {machine['cores']} cores, {machine['system']}. {used}.\n"
    )


@click.command()
@click.argument("parts", nargs=-1, type=click.Choice((*PARTS, *STUDIES)))
@click.option("--write", is_flag=True, help="Also write benchmarks/results.md.")
def command(parts: tuple[str, ...], write: bool) -> None:
    """Measure speed against the peers, or run a study (calibration) that measures whether the audit is right.

    \b
    Example: mnemoscope bench search
             mnemoscope bench calibration
    """
    with answering():
        for name in STUDIES:
            if name in parts:
                study(name)
        timed = tuple(part for part in parts if part in PARTS) if parts else PARTS
        if not timed:
            return
        page = bench(timed)
        if write:
            write_text(CHECKOUT / "benchmarks" / "results.md", page)
        click.echo(page)
