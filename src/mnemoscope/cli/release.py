"""``mnemoscope release``: choose clips of an audited set, export them for strangers, and verify what was exported."""

import sys
from dataclasses import asdict
from pathlib import Path

import click

from mnemoscope.cli.terminal import Asked, answering, settings, show_json, show_plan
from mnemoscope.core.progress import Progress, unwatched
from mnemoscope.core.types import MatchedRecall
from mnemoscope.release.audited import read_audited
from mnemoscope.release.decisions import read_decisions
from mnemoscope.release.export import ExportConfig, Exported, export
from mnemoscope.release.selection import SelectConfig, Selection, read_selection, select_clips, write_selection
from mnemoscope.release.verify import PROVENANCE, Verified, verify


def release_select(
    run: Path | str,
    *,
    out: Path | str,
    config: SelectConfig | None = None,
    decisions: Path | str | None = None,
) -> Selection:
    """Chooses unflagged clips of a finished audit that raise coverage, and writes their ids.

    Args:
        run: folder of the audit.
        out: the CSV to write.
        config: rule and number.
        decisions: CSV of decisions; withheld clips are dropped, released ones may be chosen although flagged.

    Raises:
        InputError: if the audit, the decisions or the options do not allow a choice; the message says the remedy.
    """
    audited = read_audited(Path(run))
    words = read_decisions(Path(decisions), audited.decided) if decisions else {}
    selection = select_clips(audited, config or SelectConfig(), words)
    write_selection(selection, Path(out))
    return selection


def release_export(
    run: Path | str,
    *,
    synthetic: Path | str,
    out: Path | str,
    config: ExportConfig | None = None,
    select: Path | str | None = None,
    decisions: Path | str | None = None,
    progress: Progress = unwatched,
) -> Exported:
    """Writes an audited set as a folder that may leave the house.

    Args:
        run: folder of the audit.
        synthetic: folder of the clips that were audited.
        out: the release; there must be nothing yet.
        config: card and options.
        select: CSV with the clips to keep; by default all.
        decisions: CSV of decisions on single clips.
        progress: told how far copying is.

    Raises:
        Refused: if the audit does not allow a release.
        InputError: if a file or an option is wrong; the message says the remedy.
    """
    audited = read_audited(Path(run))
    return export(
        audited,
        Path(synthetic),
        Path(out),
        config or ExportConfig(),
        decisions=read_decisions(Path(decisions), audited.decided) if decisions else {},
        selected=read_selection(Path(select), audited) if select else None,
        progress=progress,
    )


def release_verify(folder: Path | str, *, seal: str | None = None, progress: Progress = unwatched) -> Verified:
    """Holds every file of a release against its provenance; ``problems`` lists all that is not as it was released.

    Args:
        folder: the release.
        seal: the SHA-256 that the export printed.
        progress: told how far hashing is.

    Raises:
        InputError: if the folder is no release.
    """
    return verify(Path(folder), seal=seal, progress=progress)


_PATH = click.Path(path_type=Path)
_DECISIONS = click.option("--decisions", type=_PATH, help="CSV: clip_id,decision,who,when,why (release or withhold).")


@click.group()
def command() -> None:
    """Choose, export and verify a synthetic set that may leave the house.

    \b
    Example: mnemoscope release verify release
    """


@command.command("select")
@click.argument("run", type=_PATH)
@click.option("--out", required=True, type=_PATH, help="CSV to write.")
@_DECISIONS
@settings(SelectConfig)
def select_command(run: Path, out: Path, decisions: Path | None, asked: Asked[SelectConfig]) -> None:
    """Choose clips of the audit in RUN that raise coverage.

    \b
    Example: mnemoscope release select runs/first --rule coverage --count 1000 --out chosen.csv
    """
    with asked.answering() as (config, _):
        if asked.dry_run:
            show_plan(config, {"run": run, "out": out})
            return
        found = release_select(run, out=out, config=config, decisions=decisions)
        if asked.as_json:
            show_json(asdict(found))
        else:
            click.echo(_chosen(found, out))


def _chosen(found: Selection, out: Path) -> str:
    dropped = ", ".join(f"{count} {name}" for name, count in found.dropped.items())
    lines = [
        f"{len(found.clips)} clips chosen by {found.rule} of {found.usable} usable ones (dropped: {dropped}): {out}",
        f"train clips reached: {found.learned['before']} by all clips, {found.learned['usable']} by the usable ones, "
        f"{found.learned['after']} by the chosen ones",
        *(
            f"matched recall, {_SETS[name]}: {_recall(recall, found.absent.get(name))}"
            for name, recall in found.matched.items()
        ),
    ]
    return "\n".join(lines)


_SETS = {"before": "all clips", "usable": "usable clips", "after": "chosen clips"}


def _recall(recall: MatchedRecall | None, reason: str | None) -> str:
    if recall is None:
        return f"not measured ({reason})"
    reached, ratio = recall.synthetic, recall.ratio
    return (
        f"{recall.n} clips reach {reached.value:.1f} [{reached.low:.1f}, {reached.high:.1f}] train clips, "
        f"{ratio.value:.2f} [{ratio.low:.2f}, {ratio.high:.2f}] times as many as holdout clips"
    )


@command.command("export")
@click.argument("run", type=_PATH)
@click.option("--synthetic", required=True, type=_PATH, help="The clips that were audited.")
@click.option("--out", required=True, type=_PATH, help="Folder of the release; must not exist.")
@click.option("--select", type=_PATH, help="CSV of the clips to keep (mnemoscope release select).")
@_DECISIONS
@settings(ExportConfig)
def export_command(
    run: Path, synthetic: Path, out: Path, select: Path | None, decisions: Path | None, asked: Asked[ExportConfig]
) -> None:
    """Write the set that the audit in RUN passed as a folder for strangers. Exit code 1: it may not leave.

    \b
    Example: mnemoscope release export runs/first --synthetic GENERATED --decisions decisions.csv --out release
    """
    with asked.answering() as (config, progress):
        if asked.dry_run:
            show_plan(config, {"run": run, "synthetic": synthetic, "out": out})
            return
        done = release_export(
            run, synthetic=synthetic, out=out, config=config, select=select, decisions=decisions, progress=progress
        )
        if asked.as_json:
            show_json(asdict(done))
        else:
            lines = [
                f"{done.clips} clips released ({done.withheld} withheld, {done.unaudited} not audited and left): "
                f"{done.out}",
                *([f"the release does not say {', '.join(done.not_stated)}"] if done.not_stated else []),
                f"seal, for whoever is to verify the release (--seal): {done.sha256}",
            ]
            click.echo("\n".join(lines))


@command.command("verify")
@click.argument("folder", type=_PATH)
@click.option("--seal", metavar="SHA256", help="The seal that the export printed.")
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
def verify_command(folder: Path, seal: str | None, as_json: bool) -> None:
    """Hold every file of the release in FOLDER against its provenance. Exit code 1: not as it was released.

    \b
    Example: mnemoscope release verify release
    """
    with answering() as progress:
        found = release_verify(folder, seal=seal, progress=progress)
        if as_json:
            show_json(asdict(found))
        else:
            whole = f"{found.clips} clips in {found.files} files, all as released; seal {found.sha256}"
            unsealed = "" if seal else f"\n{PROVENANCE} itself was not checked: ask the publisher for its seal (--seal)"
            click.echo("\n".join(found.problems) or whole + unsealed)
    if found.problems:
        sys.exit(1)
