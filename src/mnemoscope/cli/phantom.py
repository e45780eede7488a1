"""``mnemoscope phantom``: a cohort, and if asked for a synthetic set with known truth."""

from dataclasses import asdict
from pathlib import Path
from typing import Literal

import click
from pydantic import Field

from mnemoscope.cli.terminal import Asked, settings, show_json, show_plan
from mnemoscope.core.config import Config
from mnemoscope.phantom.anatomy import EfSpread, View
from mnemoscope.phantom.cohort import CohortSpec, write_cohort
from mnemoscope.phantom.plants import PlantSpec, truth_path, write_plants


class PhantomConfig(Config):
    """A cohort, and what is planted beside it.

    Attributes:
        view: a4c, ped_a4c or psax.
        patients: number of patients.
        clips_per_patient: recordings of each patient.
        frames: frames of each clip.
        fps: frames per second.
        val_share: share of patients for val.
        holdout_share: share of patients for holdout.
        ef_spread: clinical (few hearts fail), or even over 9–91 %.
        layout: folder layout, dynamic or pediatric.
        copies: planted copies of train clips.
        fresh: planted clips of new patients.
        partial: planted clips of a sampler that knows only some train patients.
        known_share: share of train patients that the sampler knows.
        variation: how far the sampler moves from the patient it draws, 0 the same, 1 a stranger.
        workers: processes.
        seed: of cohort and plants.
    """

    view: View = "a4c"
    patients: int = 300
    clips_per_patient: int = 1
    frames: int = 64
    fps: float = 32.0
    val_share: float = 0.15
    holdout_share: float = 0.2
    ef_spread: EfSpread = "clinical"
    layout: Literal["dynamic", "pediatric"] = "dynamic"
    copies: int = Field(20, ge=0)
    fresh: int = Field(100, ge=0)
    partial: int = Field(0, ge=0)
    known_share: float = 0.5
    variation: float = 0.3
    workers: int = Field(2, ge=1)
    seed: int = 0

    def cohort(self) -> CohortSpec:
        """The cohort."""
        return CohortSpec(
            view=self.view,
            n_patients=self.patients,
            clips_per_patient=self.clips_per_patient,
            n_frames=self.frames,
            fps=self.fps,
            seed=self.seed,
            val_share=self.val_share,
            holdout_share=self.holdout_share,
            ef_spread=self.ef_spread,
        )

    def plants(self) -> PlantSpec:
        """The synthetic set."""
        return PlantSpec(
            n_copies=self.copies,
            n_fresh=self.fresh,
            n_partial=self.partial,
            known_share=self.known_share,
            variation=self.variation,
            n_frames=self.frames,
            seed=self.seed,
        )


def phantom(
    out: Path | str, *, config: PhantomConfig | None = None, synthetic: Path | str | None = None
) -> tuple[Path, Path | None]:
    """Writes a cohort to ``out`` and, where ``synthetic`` names a folder, a planted synthetic set with its truth.

    Returns:
        The folders written; the truth of the plants lies beside the second as ``<name>_truth.csv``.
    """
    config = config or PhantomConfig()
    cohort, plants = config.cohort(), config.plants()
    real = write_cohort(cohort, Path(out), workers=config.workers, layout=config.layout)
    if synthetic is None:
        return real, None
    return real, write_plants(cohort, plants, Path(synthetic), workers=config.workers)


@click.command()
@click.argument("out", type=click.Path(path_type=Path))
@click.option("--synthetic", type=click.Path(path_type=Path), help="Also write a planted synthetic set here.")
@settings(PhantomConfig)
def command(out: Path, synthetic: Path | None, asked: Asked[PhantomConfig]) -> None:
    """Write a beating-heart ultrasound cohort to OUT.

    \b
    Example: mnemoscope phantom cohort --patients 300 --synthetic planted --copies 20
    """
    with asked.answering() as (config, _):
        if asked.dry_run:
            show_plan(config, {"out": out, "synthetic": synthetic})
            return
        real, planted = phantom(out, config=config, synthetic=synthetic)
        truth = truth_path(planted) if planted else None
        if asked.as_json:
            show_json({"cohort": asdict(config.cohort()), "out": real, "synthetic": planted, "truth": truth})
            return
        click.echo("\n".join(str(path) for path in (real, planted, truth) if path))
