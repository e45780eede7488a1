"""Plants: a synthetic set of which we know who was copied, who is new, and whom the sampler knew."""

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd

from mnemoscope.core.errors import ConfigError, InputError, TooFewSamples
from mnemoscope.core.files import write_text
from mnemoscope.core.rng import generator
from mnemoscope.data.ladder import LADDER, RUNGS
from mnemoscope.phantom.acquisition import draw_acquisition
from mnemoscope.phantom.anatomy import draw_patient, vary_patient
from mnemoscope.phantom.cohort import (
    ClipSpec,
    CohortSpec,
    clips,
    list_row,
    new_folder,
    patient,
    render,
    spread,
    write_avi,
)
from mnemoscope.phantom.render import PhantomClip, render_clip

Kind = Literal["copy", "fresh", "partial"]
PERTURBATIONS = tuple(rung.name for rung in LADDER if rung.needs == "nothing")
TRUTH_COLUMNS = ("clip_id", "kind", "source_clip_id", "source_patient_id", "perturbation")

# Rungs that move frames take the distance between the gallery's frames; this is an audit's default number of them.
_GALLERY_FRAMES = 4


@dataclass(frozen=True, kw_only=True)
class PlantSpec:
    """What is planted.

    Attributes:
        n_copies: copies of train clips, each of another clip.
        n_fresh: clips of patients who are nobody in the cohort.
        n_partial: clips of a sampler that knows only some train patients.
        known_share: share of train patients that the sampler knows, in (0, 1].
        variation: how far the sampler moves from the patient it draws, 0 the same patient, 1 a stranger.
        n_frames: frames of each clip.
        seed: seed of the plants.
        copy_perturbations: what copies may undergo, names of ``PERTURBATIONS``; copies take them in turn.
    """

    n_copies: int = 20
    n_fresh: int = 100
    n_partial: int = 0
    known_share: float = 0.5
    variation: float = 0.3
    n_frames: int = 64
    seed: int = 0
    copy_perturbations: tuple[str, ...] = ("exact", "gain", "noise", "shift")

    def __post_init__(self) -> None:
        counts = {"n_copies": self.n_copies, "n_fresh": self.n_fresh, "n_partial": self.n_partial}
        if min(counts.values()) < 0 or sum(counts.values()) < 1 or self.n_frames < 1:
            raise ConfigError(
                f"counts of plants are not negative, at least one clip of at least one frame is planted, got {counts} "
                f"and n_frames={self.n_frames}; raise them (n_copies=, --copies; n_fresh=, --fresh)"
            )
        if not 0.0 < self.known_share <= 1.0:
            raise ConfigError(
                f"known_share lies in (0, 1], got {self.known_share:g}; set it (known_share=, --known-share)"
            )
        if not 0.0 <= self.variation <= 1.0:
            raise ConfigError(f"variation lies in [0, 1], got {self.variation:g}; set it (variation=, --variation)")
        unknown = set(self.copy_perturbations) - set(PERTURBATIONS)
        if unknown or not self.copy_perturbations:
            raise ConfigError(
                f"copy_perturbations are names of {', '.join(PERTURBATIONS)}, got {self.copy_perturbations}; "
                f"choose among them (copy_perturbations=)"
            )


@dataclass(frozen=True)
class Plant:
    """One planted clip and the truth about it; sources are empty where there is none."""

    clip_id: str
    kind: Kind
    index: int
    source: ClipSpec | None
    perturbation: str


def plan(cohort: CohortSpec, plants: PlantSpec) -> list[Plant]:
    """Every planted clip, sorted by an id that says nothing about its kind.

    Args:
        cohort: whose train patients are copied and known.
        plants: how many of what.

    Returns:
        the plants.

    Raises:
        TooFewSamples: if there are fewer train clips than copies, or none for the sampler to know.
    """
    train = [clip for clip in clips(cohort) if clip.split == "train"]
    if max(plants.n_copies, min(plants.n_partial, 1)) > len(train):
        raise TooFewSamples(
            f"{plants.n_copies} copies need as many train clips and a partial sampler needs one, the cohort has "
            f"{len(train)}; lower n_copies (--copies) or raise n_patients (--patients)"
        )
    unnamed = _copies(plants, train) + _fresh(plants) + _partial(plants, train)
    numbers = generator(plants.seed, "plants", "names").permutation(len(unnamed))
    named = [
        Plant(clip_id=f"SYN{number:06d}", kind=kind, index=index, source=source, perturbation=perturbation)
        for number, (kind, index, source, perturbation) in zip(numbers, unnamed, strict=True)
    ]
    return sorted(named, key=lambda plant: plant.clip_id)


_Unnamed = tuple[Kind, int, ClipSpec | None, str]


def _copies(plants: PlantSpec, train: list[ClipSpec]) -> list[_Unnamed]:
    chosen = generator(plants.seed, "plants", "copies").permutation(len(train))[: plants.n_copies]
    names = plants.copy_perturbations
    return [("copy", index, train[clip], names[index % len(names)]) for index, clip in enumerate(chosen)]


def _fresh(plants: PlantSpec) -> list[_Unnamed]:
    return [("fresh", index, None, "") for index in range(plants.n_fresh)]


def _partial(plants: PlantSpec, train: list[ClipSpec]) -> list[_Unnamed]:
    by_patient = {clip.patient_id: clip for clip in train}
    ids = sorted(by_patient)
    if plants.n_partial == 0:
        return []
    n_known = max(1, round(plants.known_share * len(ids)))
    known = generator(plants.seed, "plants", "known").permutation(len(ids))[:n_known]
    drawn = generator(plants.seed, "plants", "drawn").choice(known, size=plants.n_partial)
    return [("partial", index, by_patient[ids[who]], "") for index, who in enumerate(drawn)]


def render_plant(cohort: CohortSpec, plants: PlantSpec, plant: Plant) -> PhantomClip:
    """The frames of one planted clip; depends on nothing but its arguments.

    Args:
        cohort: the cohort planted from.
        plants: the planting.
        plant: one of ``plan(cohort, plants)``.

    Returns:
        the clip, ``plants.n_frames`` frames.
    """
    if plant.kind == "copy":
        return _render_copy(cohort, plants, plant)
    rng = generator(plants.seed, "plants", plant.kind, plant.index)
    stranger = draw_patient(cohort.view, rng, ef_spread=cohort.ef_spread)
    if plant.source is None:
        who = stranger
    else:
        who = vary_patient(patient(cohort, plant.source.patient_index), stranger, variation=plants.variation)
    return render_clip(who, draw_acquisition(rng), n_frames=plants.n_frames, fps=cohort.fps)


def _render_copy(cohort: CohortSpec, plants: PlantSpec, plant: Plant) -> PhantomClip:
    assert plant.source is not None
    source = render(dataclasses.replace(cohort, n_frames=plants.n_frames), plant.source)
    rung = RUNGS[plant.perturbation]
    rng = generator(plants.seed, "ladder", rung.name, plant.source.clip_id)
    n_frames = plants.n_frames
    shown = rung.numbers(np.arange(n_frames), n_frames=n_frames, stride_frames=n_frames / _GALLERY_FRAMES, rng=rng)
    return dataclasses.replace(source, frames=rung.changed(source.frames[shown], rng))


def write_plants(cohort: CohortSpec, plants: PlantSpec, out: Path, *, workers: int = 2) -> Path:
    """Write the planted set as a folder of videos with its list, and the truth beside the folder, not in it.

    Args:
        cohort: the cohort planted from.
        plants: how many of what.
        out: folder to make; must not exist or be empty. The truth goes to ``truth_path(out)``.
        workers: processes; the result does not depend on them.

    Returns:
        ``out``.

    Raises:
        TooFewSamples: if there are fewer train clips than copies, or none for the sampler to know.
        OutputConflict: if ``out`` already holds something.
    """
    planted = plan(cohort, plants)
    with new_folder(out) as folder:
        (folder / "Videos").mkdir()
        rows = spread(_write_plant, [(cohort, plants, plant, folder / "Videos") for plant in planted], workers=workers)
        pd.DataFrame(rows).to_csv(folder / "FileList.csv", index=False)
        truth = pd.DataFrame([_truth_row(plant) for plant in planted], columns=TRUTH_COLUMNS)
        write_text(truth_path(out), truth.to_csv(index=False))
    return out


def _write_plant(job: tuple[CohortSpec, PlantSpec, Plant, Path]) -> dict[str, object]:
    cohort, plants, plant, folder = job
    clip = render_plant(cohort, plants, plant)
    write_avi(folder / f"{plant.clip_id}.avi", clip.frames, fps=clip.fps)
    return list_row(plant.clip_id, clip, split="SYNTHETIC")


def _truth_row(plant: Plant) -> dict[str, str]:
    clip_id, patient_id = (plant.source.clip_id, plant.source.patient_id) if plant.source else ("", "")
    if plant.kind == "partial":
        clip_id = ""
    values = (plant.clip_id, plant.kind, clip_id, patient_id, plant.perturbation)
    return dict(zip(TRUTH_COLUMNS, values, strict=True))


def truth_path(out: Path) -> Path:
    """Where the truth about a planted folder lies: beside it, as ``<name>_truth.csv``."""
    return out.parent / f"{out.name}_truth.csv"


def read_truth(path: Path) -> pd.DataFrame:
    """The truth about a planted set.

    Args:
        path: the CSV that ``write_plants`` wrote.

    Returns:
        columns clip_id, kind, source_clip_id, source_patient_id, perturbation; empty text where there is no source (a
        partial sampler draws a patient, not a clip).

    Raises:
        InputError: if the file is absent or has other columns.
    """
    if not path.is_file():
        raise InputError(
            f"expected the truth of a planted set at {path}, found no file; write it first (mnemoscope phantom)"
        )
    table = pd.read_csv(path, dtype=str, keep_default_na=False)
    if tuple(table.columns) != TRUTH_COLUMNS:
        raise InputError(
            f"{path} should have the columns {', '.join(TRUTH_COLUMNS)}, found {', '.join(table.columns)}; "
            f"pass the file written beside the planted folder"
        )
    return table
