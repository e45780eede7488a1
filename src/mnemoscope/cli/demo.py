"""``mnemoscope demo``: the whole chain on a phantom cohort, and the truth beside the finding."""

import shutil
import sys
import webbrowser
from dataclasses import asdict, dataclass
from pathlib import Path

import click
import pandas as pd

from mnemoscope.audit.run import AuditConfig, Finished
from mnemoscope.cli.audit import audited, summary
from mnemoscope.cli.phantom import PhantomConfig
from mnemoscope.cli.sample import VideosConfig, sample_videos
from mnemoscope.cli.terminal import Asked, settings, show_json, show_plan
from mnemoscope.core.config import Config
from mnemoscope.core.files import write_json, write_text
from mnemoscope.core.progress import Progress, unwatched
from mnemoscope.core.provenance import Run
from mnemoscope.phantom.cohort import write_cohort
from mnemoscope.phantom.plants import read_truth, truth_path, write_plants
from mnemoscope.report.page import REPORT_FILE

DEFAULT_OUT = Path("runs/demo")


class DemoConfig(Config):
    """The demo: its cohort, what is generated and planted, and its audit.

    Attributes:
        phantom: cohort and plants; by default the cohort that the bundled generator was trained on.
        generated: what the bundled generator makes.
        plants_only: leave the generator out.
        audit: settings of the audit.
    """

    phantom: PhantomConfig = PhantomConfig(
        patients=600,
        clips_per_patient=2,
        frames=20,
        fps=12.0,
        val_share=0.08,
        holdout_share=0.22,
        seed=40,
        ef_spread="even",
        copies=40,
        fresh=40,
    )
    generated: VideosConfig = VideosConfig(count=96, frames=24, steps=8, ef="prior", seed=40)
    plants_only: bool = False
    audit: AuditConfig = AuditConfig(ef_reader="phantom")


@dataclass(frozen=True)
class TruthBesideFinding:
    """What was generated and planted, and what the audit said of it."""

    generated: int
    generated_flagged: int
    copies: int
    copies_flagged: int
    copies_with_right_clip: int
    copies_with_right_patient: int
    fresh: int
    fresh_flagged: int
    holdout: int
    holdout_flagged: int
    partial: int
    partial_flagged: int
    patients_known: int
    patients_known_share: float
    known_share: dict[str, float] | None
    patients_learned: int
    partial_of_known_patient: int
    missed_copies: list[str]


def demo(
    *, out: Path | str = DEFAULT_OUT, config: DemoConfig | None = None, progress: Progress = unwatched
) -> tuple[Finished, TruthBesideFinding]:
    """Audits what the bundled generator makes of a phantom cohort, with copies planted among it, beside the truth.

    Args:
        out: folder; what an earlier call of the same demo finished in it is reused.
        config: sizes and settings.
        progress: told how far the stages are.
    """
    out, config = Path(out), config or DemoConfig()
    cohort, plants = config.phantom.cohort(), config.phantom.plants()
    run = Run(out, command="demo", identity={}, config=config.model_dump(mode="json"), seed=config.phantom.seed)

    def make_cohort(folder: Path) -> None:
        write_cohort(cohort, folder / "clips", workers=config.phantom.workers)

    with run.recording():
        real = run.stage("real", {"cohort": asdict(cohort)}, make_cohort) / "clips"
        made = (
            None
            if config.plants_only
            else sample_videos(out=out / "generated", config=config.generated, progress=progress)
        )

        def make_synthetic(folder: Path) -> None:
            write_plants(cohort, plants, folder / "clips", workers=config.phantom.workers)
            if made is not None and made.clips is not None:
                _add_generated(made.clips, folder / "clips")

        inputs = {"cohort": asdict(cohort), "plants": asdict(plants)}
        if made is not None:
            inputs["generated"] = {"store": made.latents.fingerprint}
        synthetic = run.stage("synthetic", inputs, make_synthetic) / "clips"
        with run.measured("audit"):
            finished = audited(real, synthetic, out / "audit", config.audit, progress)
        truth = read_truth(truth_path(synthetic))
        compared = beside_truth(finished, truth)
        write_json(out / "truth.json", asdict(compared))
    return finished, compared


def _add_generated(made: Path, folder: Path) -> None:
    """Puts generated videos among the planted ones, and into their list and truth."""
    table = pd.read_csv(made / "FileList.csv")
    for name in table["FileName"]:
        shutil.copyfile(made / "Videos" / f"{name}.avi", folder / "Videos" / f"GEN{name}.avi")
    table["FileName"] = "GEN" + table["FileName"]
    both = pd.concat([pd.read_csv(folder / "FileList.csv"), table], ignore_index=True)
    write_text(folder / "FileList.csv", both.to_csv(index=False))
    rows = pd.DataFrame({"clip_id": table["FileName"], "kind": "generated"})
    truth = pd.concat([pd.read_csv(truth_path(folder)), rows], ignore_index=True)
    write_text(truth_path(folder), truth.to_csv(index=False))


def beside_truth(finished: Finished, truth: pd.DataFrame) -> TruthBesideFinding:
    """Holds each synthetic clip's verdict against what it is."""
    rows = finished.samples.merge(truth, on="clip_id", validate="one_to_one")
    copies, fresh, partial, generated = (
        rows[rows["kind"] == kind] for kind in ("copy", "fresh", "partial", "generated")
    )
    missed = copies[~copies["flagged"]]
    known = int(rows["source_patient_id"].replace("", None).nunique())
    recall = finished.result.recall
    measured = recall.known_share if recall else None
    return TruthBesideFinding(
        generated=len(generated),
        generated_flagged=int(generated["flagged"].sum()),
        copies=len(copies),
        copies_flagged=int(copies["flagged"].sum()),
        copies_with_right_clip=int((copies["nearest_clip_id"] == copies["source_clip_id"]).sum()),
        copies_with_right_patient=int((copies["nearest_patient_id"] == copies["source_patient_id"]).sum()),
        fresh=len(fresh),
        fresh_flagged=int(fresh["flagged"].sum()),
        holdout=len(finished.holdout),
        holdout_flagged=int(finished.holdout["flagged"].sum()),
        partial=len(partial),
        partial_flagged=int(partial["flagged"].sum()),
        patients_known=known,
        patients_known_share=known / finished.result.sets["train"].patients,
        known_share=asdict(measured) if measured else None,
        patients_learned=int(finished.patients["learned"].sum()),
        partial_of_known_patient=int((partial["nearest_patient_id"] == partial["source_patient_id"]).sum()),
        missed_copies=[f"{row.clip_id} ({row.perturbation})" for row in missed.itertuples()],
    )


@click.command()
@click.option(
    "--out", default=DEFAULT_OUT, show_default=True, type=click.Path(path_type=Path), help="Folder to write to."
)
@click.option("--open/--no-open", "opened", default=None, help="Open the report; by default where a person watches.")
@settings(DemoConfig)
def command(out: Path, opened: bool | None, asked: Asked[DemoConfig]) -> None:
    """Everything, on a phantom cohort with known truth: cohort, generator, planted copies, audit, and the report.

    \b
    Example: mnemoscope demo --out runs/demo
    """
    with asked.answering() as (config, progress):
        if asked.dry_run:
            show_plan(config, {"out": out})
            return
        finished, truth = demo(out=out, config=config, progress=progress)
        if asked.as_json:
            show_json({"audit": finished.result.to_json(), "truth": asdict(truth)})
        else:
            click.echo(f"{summary(finished.result, out / 'audit')}\n\n{_told(truth)}")
        if opened or (opened is None and sys.stdout.isatty() and not asked.as_json):
            webbrowser.open((out / "audit" / REPORT_FILE).resolve().as_uri())


def _told(truth: TruthBesideFinding) -> str:
    lines = [
        f"planted copies found:          {truth.copies_flagged} of {truth.copies}"
        f" ({truth.copies_with_right_patient} by patient, {truth.copies_with_right_clip} by clip)",
        *(f"  missed: {name}" for name in truth.missed_copies),
        f"false alarms, new patients:    {truth.fresh_flagged} of {truth.fresh}",
        f"flagged by definition:         {truth.holdout_flagged} of {truth.holdout} holdout clips",
    ]
    if truth.generated:
        lines += [f"the generator's own videos:    {truth.generated_flagged} of {truth.generated} flagged as too close"]
    if truth.partial:
        lines += [
            f"traced to the known patient:   {truth.partial_of_known_patient} of {truth.partial} varied clips"
            f" ({truth.partial_flagged} flagged as too close)",
            f"patients learned:              {truth.patients_learned}, where copies and varied clips stem from"
            f" {truth.patients_known}",
            f"share of patients drawn from:  {truth.patients_known_share:.2f}, measured {_interval(truth.known_share)}",
        ]
    return "\n".join(["truth beside the finding:", *(f"  {line}" for line in lines)])


def _interval(estimate: dict[str, float] | None) -> str:
    return "–" if estimate is None else "{value:.2f} [{low:.2f}, {high:.2f}]".format(**estimate)
