"""``mnemoscope downstream``: what a synthetic set is worth to train on, and why."""

from pathlib import Path

import click

from mnemoscope.cli.terminal import Asked, settings, show_json, show_plan
from mnemoscope.core.progress import Progress, unwatched
from mnemoscope.core.provenance import Run, input_folder
from mnemoscope.downstream.results import DownstreamResult
from mnemoscope.downstream.run import RESULT, TABLE, DownstreamConfig, run_downstream
from mnemoscope.downstream.table import markdown
from mnemoscope.release.audited import read_audited
from mnemoscope.release.selection import read_selection


def downstream(
    *,
    real: Path | str,
    synthetic: Path | str,
    audit: Path | str,
    out: Path | str,
    config: DownstreamConfig | None = None,
    select: Path | str | None = None,
    progress: Progress = unwatched,
) -> DownstreamResult:
    """Trains an EF regressor on every arm of the paper's Table 5, tests it on real holdout, and says why they differ.

    Args:
        real: folder of the real clips with train and holdout patients, or an image-space store of them.
        synthetic: folder of the synthetic clips, or an image-space store of them.
        audit: run of the audit of these two sets.
        out: folder of the run; finished trainings in it are reused where what they depend on is unchanged.
        config: settings.
        select: CSV of the clips that are to be released (``release_select``); they become an arm.
        progress: told how far the stages are.

    Raises:
        MnemoscopeError: when the input does not allow all arms; the message says the remedy.

    Example:
        >>> result = mnemoscope.downstream(real="clips", synthetic="made", audit="run", out="w")  # doctest: +SKIP
        >>> result.arms[0].r2.value  # doctest: +SKIP
        0.87
    """
    config, places = config or DownstreamConfig(), {"real": Path(real), "synthetic": Path(synthetic)}
    for name, folder in places.items():
        input_folder(folder, flag=f"--{name}")
    audited = read_audited(Path(audit))
    chosen = read_selection(Path(select), audited) if select else None
    selection = {"select": str(select), "chosen_by": chosen.how} if chosen else {}
    identity = {name: str(folder.resolve()) for name, folder in (places | {"audit": Path(audit)}).items()}
    record = config.model_dump(mode="json") | selection
    run = Run(Path(out), command="downstream", identity=identity, config=record, seed=config.seed)
    with run.recording():
        return run_downstream(
            run,
            **places,
            audited=audited,
            config=config,
            selected=chosen.clips if chosen else None,
            progress=progress,
        )


_PATH = click.Path(path_type=Path)


@click.command()
@click.option("--real", required=True, type=_PATH, help="Real clips, or an image-space store of them.")
@click.option("--synthetic", required=True, type=_PATH, help="Synthetic clips, or an image-space store of them.")
@click.option("--audit", required=True, type=_PATH, help="Run of the audit of these two sets.")
@click.option("--out", required=True, type=_PATH, help="Folder of the run.")
@click.option("--select", type=_PATH, help="CSV of the clips to be released (mnemoscope release select).")
@settings(DownstreamConfig)
def command(
    real: Path, synthetic: Path, audit: Path, out: Path, select: Path | None, asked: Asked[DownstreamConfig]
) -> None:
    """Measure what a synthetic set is worth to train an EF regressor on.

    Trains the arms of the paper's Table 5 and those that split the gap to real clips into its parts; tests on the real
    holdout alone.

    \b
    Example: mnemoscope downstream --real CLIPS --synthetic GENERATED --audit runs/first --out runs/worth
    """
    with asked.answering() as (config, progress):
        if asked.dry_run:
            plan = config.model_copy(update={"ef": config.recipe().model_dump(mode="json")})
            show_plan(plan, {"real": real, "synthetic": synthetic, "audit": audit, "out": out})
            return
        result = downstream(
            real=real, synthetic=synthetic, audit=audit, out=out, config=config, select=select, progress=progress
        )
        if asked.as_json:
            show_json(result.to_json())
        else:
            click.echo(f"{markdown(result)}\n\n{out / TABLE}, {out / RESULT}")
