"""``mnemoscope demo``: the whole chain on a phantom cohort, and the truth beside the finding."""

from dataclasses import asdict, dataclass
from pathlib import Path

import click
import pandas as pd

from mnemoscope.audit.run import AuditConfig, Finished
from mnemoscope.cli.audit import audited, summary
from mnemoscope.cli.phantom import PhantomConfig
from mnemoscope.cli.terminal import Asked, settings, show_json, show_plan
from mnemoscope.core.config import Config
from mnemoscope.core.files import write_json
from mnemoscope.core.progress import Progress, unwatched
from mnemoscope.core.provenance import Run
from mnemoscope.phantom.cohort import write_cohort
from mnemoscope.phantom.plants import read_truth, truth_path, write_plants

DEFAULT_OUT = Path("runs/demo")


class DemoConfig(Config):
    """The demo: its cohort, its plants and its audit.

    Attributes:
        phantom: cohort and plants.
        audit: settings of the audit.
    """

    phantom: PhantomConfig = PhantomConfig(
        patients=340,
        clips_per_patient=2,
        frames=20,
        fps=16.0,
        holdout_share=0.3,
        copies=40,
        fresh=80,
        partial=80,
        known_share=0.3,
        variation=0.5,
    )
    audit: AuditConfig = AuditConfig(ef_reader="phantom")


@dataclass(frozen=True)
class TruthBesideFinding:
    """What was planted, and what the audit said of it."""

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
    """Writes a phantom cohort and a planted synthetic set, audits them, and holds the finding against the truth.

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

    def make_plants(folder: Path) -> None:
        write_plants(cohort, plants, folder / "clips", workers=config.phantom.workers)

    with run.recording():
        real = run.stage("real", {"cohort": asdict(cohort)}, make_cohort) / "clips"
        synthetic = run.stage("synthetic", {"cohort": asdict(cohort), "plants": asdict(plants)}, make_plants) / "clips"
        with run.measured("audit"):
            finished = audited(real, synthetic, out / "audit", config.audit, progress)
        truth = read_truth(truth_path(synthetic))
        compared = beside_truth(finished, truth)
        write_json(out / "truth.json", asdict(compared))
    return finished, compared


def beside_truth(finished: Finished, truth: pd.DataFrame) -> TruthBesideFinding:
    """Holds each synthetic clip's verdict against what it is."""
    rows = finished.samples.merge(truth, on="clip_id", validate="one_to_one")
    copies, fresh, partial = (rows[rows["kind"] == kind] for kind in ("copy", "fresh", "partial"))
    missed = copies[~copies["flagged"]]
    known = int(rows["source_patient_id"].replace("", None).nunique())
    recall = finished.result.recall
    measured = recall.known_share if recall else None
    return TruthBesideFinding(
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
@settings(DemoConfig)
def command(out: Path, asked: Asked[DemoConfig]) -> None:
    """Everything, on a phantom cohort with known truth: cohort, planted copies, audit, report.

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


def _told(truth: TruthBesideFinding) -> str:
    return "\n".join(
        [
            "truth beside the finding:",
            f"  planted copies found:          {truth.copies_flagged} of {truth.copies}"
            f" ({truth.copies_with_right_patient} by patient, {truth.copies_with_right_clip} by clip)",
            *(f"    missed: {name}" for name in truth.missed_copies),
            f"  false alarms, new patients:    {truth.fresh_flagged} of {truth.fresh}",
            f"  flagged by definition:         {truth.holdout_flagged} of {truth.holdout} holdout clips",
            f"  traced to the known patient:   {truth.partial_of_known_patient} of {truth.partial} varied clips"
            f" ({truth.partial_flagged} flagged as too close)",
            f"  patients learned:              {truth.patients_learned}, where copies and varied clips stem from"
            f" {truth.patients_known}",
            f"  share of patients drawn from:  {truth.patients_known_share:.2f},"
            f" measured {_interval(truth.known_share)}",
        ]
    )


def _interval(estimate: dict[str, float] | None) -> str:
    return "–" if estimate is None else "{value:.2f} [{low:.2f}, {high:.2f}]".format(**estimate)
