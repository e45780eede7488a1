"""``mnemoscope reproduce``: the paper's results again, one sub-command per part."""

from pathlib import Path
from typing import Any

import click

from mnemoscope.audit.run.beside_paper import markdown, tables
from mnemoscope.audit.run.paper import TITLES
from mnemoscope.audit.run.reproduce import Measured, TablesConfig, expected_s, trained_and_tested
from mnemoscope.cli.terminal import Asked, settings, show_json, show_plan
from mnemoscope.core.files import write_json, write_text
from mnemoscope.core.progress import Progress, unwatched
from mnemoscope.core.provenance import Run

TABLES, PAGE, FIGURE = "tables.json", "tables.md", "confusion"


def reproduce_tables(
    *,
    out: Path | str,
    dynamic: Path | str | None = None,
    pediatric: Path | str | None = None,
    config: TablesConfig | None = None,
    progress: Progress = unwatched,
) -> dict[str, Any]:
    """The paper's Tables 1 to 3 and Fig. 3: ``tables.json``, ``tables.md``, ``confusion.png`` and ``.svg`` in ``out``.

    Args:
        out: folder of the run; what was finished there before is reused where its inputs are unchanged.
        dynamic: folder of EchoNet-Dynamic; without it a phantom cohort in its layout is drawn.
        pediatric: folder of EchoNet-Pediatric with ``A4C`` and ``PSAX``; likewise.
        config: settings.
        progress: told how far the stages are.

    Returns:
        The content of ``tables.json``.

    Raises:
        InputError: if a folder is not readable, or lacks a split.
    """
    config = config or TablesConfig()
    given = {"dynamic": _folder(dynamic), "pediatric": _folder(pediatric)}
    run = Run(
        Path(out),
        command="reproduce tables",
        identity={name: folder and str(folder) for name, folder in given.items()},
        config=config.model_dump(mode="json"),
        seed=config.seed,
    )
    with run.recording():
        found = trained_and_tested(run, **given, config=config, progress=progress)
        origin = [_origin(given, config), _sizes(found)]
        rows: dict[str, Any] = {"origin": origin, **tables(found)}
        write_json(run.out / TABLES, rows)
        write_text(run.out / PAGE, markdown(rows, origin=origin))
        _figure(found, run.out)
    return rows


def _folder(path: Path | str | None) -> Path | None:
    return None if path is None else Path(path).resolve()


def _origin(given: dict[str, Path | None], config: TablesConfig) -> str:
    phantoms = [name for name, folder in given.items() if folder is None]
    if not phantoms:
        return f"EchoNet-Dynamic and EchoNet-Pediatric, preset {config.preset}."
    return (
        f"Phantom cohorts of {config.patients} patients a view, {config.clips_per_patient} recordings each, stand in "
        f"for EchoNet ({', '.join(phantoms)}), preset {config.preset}: compare how spaces, sets and heads lie to each "
        f"other, not the levels. Pairs of one patient join frames of all recordings, in the paper of one video alone."
    )


def _sizes(found: list[Measured]) -> str:
    clips = {TITLES[tested.test]: tested.clips for tested in found}
    return f"Holdout clips: {', '.join(f'{name} {count}' for name, count in clips.items())}."


def _figure(found: list[Measured], out: Path) -> None:
    from mnemoscope.report.confusion import confusion_matrices, save_figure

    own = [tested for tested in found if tested.train == tested.test]
    panels = {(f"{tested.space} space", TITLES[tested.test]): tested.verification.confusion for tested in own}
    save_figure(confusion_matrices(panels), out / FIGURE)


@click.group()
def command() -> None:
    """Reproduce results of the paper, each number beside the printed one.

    \b
    Example: mnemoscope reproduce tables
    """


@command.command(name="tables")
@click.option("--out", required=True, type=click.Path(path_type=Path), help="Folder of the run.")
@click.option("--dynamic", type=click.Path(path_type=Path), help="EchoNet-Dynamic, in place of a phantom cohort.")
@click.option("--pediatric", type=click.Path(path_type=Path), help="EchoNet-Pediatric, in place of two.")
@settings(TablesConfig)
def tables_command(out: Path, dynamic: Path | None, pediatric: Path | None, asked: Asked[TablesConfig]) -> None:
    """The paper's Tables 1 to 3 and Fig. 3, on EchoNet or on phantom cohorts in its layouts.

    \b
    Example: mnemoscope reproduce tables --out runs/tables
             mnemoscope reproduce tables --dynamic EchoNet-Dynamic --pediatric pediatric_echo --out runs/echonet
    """
    with asked.answering() as (config, progress):
        if asked.dry_run:
            places = {"out": out, "dynamic": dynamic or "phantom", "pediatric": pediatric or "phantom"}
            show_plan(config, places | _cost(config, dynamic, pediatric))
            return
        rows = reproduce_tables(out=out, dynamic=dynamic, pediatric=pediatric, config=config, progress=progress)
        if asked.as_json:
            show_json(rows)
        else:
            click.echo(f"{markdown(rows, origin=rows['origin'])}\n{out / PAGE}")


def _cost(config: TablesConfig, dynamic: Path | None, pediatric: Path | None) -> dict[str, object]:
    parts = expected_s(config, dynamic=dynamic, pediatric=pediatric)
    minutes: dict[str, object] = {
        f"expected on two cores, {name}": f"{seconds / 60:.1f} minutes" for name, seconds in parts.items()
    }
    return minutes | {"expected on two cores, together": f"{sum(parts.values()) / 60:.0f} minutes"}
