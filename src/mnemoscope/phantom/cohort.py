"""Cohort: many phantom patients with their clips, written as EchoNet-Dynamic or EchoNet-Pediatric would be."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Literal, TypeVar

import numpy as np
import pandas as pd

from mnemoscope.core.errors import ConfigError, OutputConflict
from mnemoscope.core.files import whole_folder
from mnemoscope.core.rng import generator
from mnemoscope.phantom.acquisition import SIZE_PX, Acquisition, draw_acquisition
from mnemoscope.phantom.anatomy import EfSpread, Patient, View, draw_patient, trait_spans
from mnemoscope.phantom.render import PhantomClip, render_clip

Split = Literal["train", "val", "holdout"]
Item = TypeVar("Item")
Result = TypeVar("Result")

_PREFIX = {"a4c": "A4C", "ped_a4c": "PED", "psax": "PSAX"}
_PEDIATRIC_FOLDER = {"ped_a4c": "A4C", "psax": "PSAX"}
_ECHONET_SPLIT = {"train": "TRAIN", "val": "VAL", "holdout": "TEST"}


@dataclass(frozen=True, kw_only=True)
class CohortSpec:
    """Which cohort; every frame of it is determined by these numbers.

    Attributes:
        view: one of ``anatomy.VIEWS``.
        n_patients: number of patients.
        clips_per_patient: recordings of each patient.
        n_frames: frames of each clip.
        fps: frames per second.
        seed: the cohort's seed.
        val_share: share of patients for model selection, in [0, 1).
        holdout_share: share of patients that no model sees, in [0, 1).
        ef_spread: ``clinical`` (few hearts fail), or ``even`` over 9–91 %.
    """

    view: View = "a4c"
    n_patients: int = 300
    clips_per_patient: int = 1
    n_frames: int = 64
    fps: float = 32.0
    seed: int = 0
    val_share: float = 0.15
    holdout_share: float = 0.2
    ef_spread: EfSpread = "clinical"

    def __post_init__(self) -> None:
        trait_spans(self.view)
        for name, value, flag in (
            ("n_patients", self.n_patients, "--patients"),
            ("clips_per_patient", self.clips_per_patient, "--clips-per-patient"),
            ("n_frames", self.n_frames, "--frames"),
        ):
            if value < 1:
                raise ConfigError(f"{name} is at least 1, got {value}; raise it ({name}=, {flag})")
        if not self.fps > 0.0:
            raise ConfigError(f"fps is positive, got {self.fps:g}; set it (fps=, --fps)")
        shares = (self.val_share, self.holdout_share)
        if not (min(shares) >= 0.0 and sum(shares) < 1.0):
            raise ConfigError(
                f"val_share and holdout_share are not negative and leave room for train, got {shares[0]:g} and "
                f"{shares[1]:g}; lower them (val_share=, --val-share; holdout_share=, --holdout-share)"
            )


@dataclass(frozen=True)
class ClipSpec:
    """One clip of a cohort: its names, its indices and its side of the split."""

    clip_id: str
    patient_id: str
    patient_index: int
    clip_index: int
    split: Split


def clips(spec: CohortSpec) -> list[ClipSpec]:
    """Every clip of a cohort, sorted by clip_id; all clips of a patient are on one side of the split.

    Args:
        spec: which cohort.

    Returns:
        n_patients times clips_per_patient clips.
    """
    splits = _patient_splits(spec)
    return [
        ClipSpec(
            clip_id=f"{_PREFIX[spec.view]}{patient:06d}_{clip}",
            patient_id=f"{_PREFIX[spec.view]}{patient:06d}",
            patient_index=patient,
            clip_index=clip,
            split=splits[patient],
        )
        for patient in range(spec.n_patients)
        for clip in range(spec.clips_per_patient)
    ]


def _patient_splits(spec: CohortSpec) -> list[Split]:
    order = generator(spec.seed, "phantom", spec.view, "split").permutation(spec.n_patients)
    n_holdout = round(spec.holdout_share * spec.n_patients)
    n_val = round(spec.val_share * spec.n_patients)
    splits: list[Split] = ["train"] * spec.n_patients
    for patient in order[:n_holdout]:
        splits[patient] = "holdout"
    for patient in order[n_holdout : n_holdout + n_val]:
        splits[patient] = "val"
    return splits


def patient(spec: CohortSpec, index: int) -> Patient:
    """The cohort's patient of that index; an index beyond the cohort is a fresh patient of the same population."""
    rng = generator(spec.seed, "phantom", spec.view, "patient", index)
    return draw_patient(spec.view, rng, ef_spread=spec.ef_spread)


def acquisition(spec: CohortSpec, clip: ClipSpec) -> Acquisition:
    """The recording that made a clip."""
    key = ("phantom", spec.view, "acquisition", clip.patient_index, clip.clip_index)
    return draw_acquisition(generator(spec.seed, *key))


def render(spec: CohortSpec, clip: ClipSpec) -> PhantomClip:
    """The frames and the truth of one clip; depends on nothing but its arguments.

    Args:
        spec: the cohort.
        clip: one of ``clips(spec)``.

    Returns:
        the clip, ``spec.n_frames`` frames.
    """
    who = patient(spec, clip.patient_index)
    return render_clip(who, acquisition(spec, clip), n_frames=spec.n_frames, fps=spec.fps)


def write_cohort(
    spec: CohortSpec, out: Path, *, workers: int = 2, layout: Literal["dynamic", "pediatric"] = "dynamic"
) -> Path:
    """Write a cohort as a folder of MJPEG videos with its list; the folder appears whole or not at all.

    Args:
        spec: which cohort.
        out: folder to make; must not exist or be empty.
        workers: processes; the result does not depend on them.
        layout: "dynamic" for ``Videos/`` and ``FileList.csv`` of EchoNet-Dynamic, "pediatric" for the view's folder
            (``A4C/`` or ``PSAX/``) of EchoNet-Pediatric with folds 0-9.

    Returns:
        ``out``.

    Raises:
        ConfigError: for an adult view in the pediatric layout, an unknown layout, or fewer than one worker.
        OutputConflict: if ``out`` already holds something.
    """
    if layout not in ("dynamic", "pediatric"):
        raise ConfigError(f"a phantom layout is dynamic or pediatric, got {layout!r}; choose one (layout=, --layout)")
    if layout == "pediatric" and spec.view not in _PEDIATRIC_FOLDER:
        raise ConfigError(
            f"the pediatric layout holds the views {', '.join(_PEDIATRIC_FOLDER)}, got {spec.view!r}; "
            f"choose one of them (view=, --view) or layout='dynamic' (--layout dynamic)"
        )
    with new_folder(out) as folder:
        inner = folder / _PEDIATRIC_FOLDER[spec.view] if layout == "pediatric" else folder
        (inner / "Videos").mkdir(parents=True)
        rows = spread(_write_clip, [(spec, clip, inner / "Videos") for clip in clips(spec)], workers=workers)
        table = pd.DataFrame(rows)
        table = _pediatric_list(spec, table) if layout == "pediatric" else table.drop(columns="patient_index")
        table.to_csv(inner / "FileList.csv", index=False)
    return out


def _write_clip(job: tuple[CohortSpec, ClipSpec, Path]) -> dict[str, object]:
    spec, clip, folder = job
    rendered = render(spec, clip)
    write_avi(folder / f"{clip.clip_id}.avi", rendered.frames, fps=spec.fps)
    row = list_row(clip.clip_id, rendered, split=_ECHONET_SPLIT[clip.split])
    return row | {"PatientID": clip.patient_id, "patient_index": clip.patient_index}


def write_avi(path: Path, frames: np.ndarray, *, fps: float) -> None:
    """Write frames (T, H, W), uint8, as EchoNet's MJPEG AVI."""
    from mnemoscope.data.video import write_video

    write_video(path, frames, fps=fps, codec="mjpeg", quality=3)


def list_row(clip_id: str, clip: PhantomClip, *, split: str) -> dict[str, object]:
    """A clip's row in EchoNet-Dynamic's FileList.csv."""
    return {
        "FileName": clip_id,
        "EF": round(clip.ef, 4),
        "ESV": round(clip.esv, 4),
        "EDV": round(clip.edv, 4),
        "FrameHeight": SIZE_PX,
        "FrameWidth": SIZE_PX,
        "FPS": clip.fps,
        "NumberOfFrames": len(clip.frames),
        "Split": split,
    }


def _pediatric_list(spec: CohortSpec, table: pd.DataFrame) -> pd.DataFrame:
    """EchoNet-Pediatric's columns; folds 0-7 are train, 8 val and 9 holdout."""
    scales = [patient(spec, index).traits.body_scale for index in table["patient_index"]]
    people = [_person(spec, index, scale) for index, scale in zip(table["patient_index"], scales, strict=True)]
    fold = {"VAL": 8, "TEST": 9}
    folds = [fold.get(split, index % 8) for split, index in zip(table["Split"], table["patient_index"], strict=True)]
    names = [f"{name}.avi" for name in table["FileName"]]
    listed = pd.DataFrame({"FileName": names, "EF": table["EF"]})
    return listed.join(pd.DataFrame(people)).assign(Split=folds, PatientID=table["PatientID"])


def _person(spec: CohortSpec, index: int, scale: float) -> dict[str, object]:
    """Age, weight and height that go with the size of the body."""
    rng = generator(spec.seed, "phantom", spec.view, "person", index)
    height_cm = 172.0 * scale * rng.uniform(0.95, 1.05)
    age_years = float(np.clip((height_cm - 55.0) / 6.4 * rng.uniform(0.9, 1.1), 0.0, 18.0))
    weight_kg = 21.5 * (height_cm / 100.0) ** 2 * rng.uniform(0.7, 1.15)
    return {
        "Sex": "FM"[int(rng.integers(2))],
        "Age": int(age_years),
        "Weight": round(float(weight_kg), 1),
        "Height": round(float(height_cm), 1),
    }


def spread(task: Callable[[Item], Result], items: Sequence[Item], *, workers: int) -> list[Result]:
    """Results of a task for each item, in the items' order, from several processes.

    Args:
        task: a function of a module, so that another process can name it.
        items: what to work on.
        workers: processes, at least 1; 1 works in this process.

    Returns:
        one result per item.

    Raises:
        ConfigError: for fewer than one worker.
    """
    if workers < 1:
        raise ConfigError(f"at least 1 worker is needed, got {workers}; raise it (workers=, --workers)")
    if workers == 1:
        return [task(item) for item in items]
    with ProcessPoolExecutor(max_workers=workers, mp_context=get_context("spawn")) as pool:
        return list(pool.map(task, items, chunksize=max(1, min(16, len(items) // (4 * workers)))))


@contextmanager
def new_folder(out: Path) -> Iterator[Path]:
    """A folder under construction beside ``out`` that becomes ``out`` when the block ends without an error.

    Raises:
        OutputConflict: if ``out`` already holds something.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise OutputConflict(f"{out} should be new or empty, but holds something; choose another folder (out=, --out)")
    with whole_folder(out) as building:
        yield building
