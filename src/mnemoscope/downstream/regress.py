"""Regress: one regressor trained and tested, and what its errors on the real holdout say."""

import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd

from mnemoscope.audit.intervals import BOOTSTRAP_ROUNDS, patient_bootstrap
from mnemoscope.audit.labels import Statistic, mae, r2
from mnemoscope.core.errors import Mismatch
from mnemoscope.core.files import whole_file
from mnemoscope.core.progress import Progress
from mnemoscope.core.rng import generator
from mnemoscope.core.types import Estimate, Scores
from mnemoscope.downstream.subsets import split_off
from mnemoscope.latents.store import LatentStore
from mnemoscope.models.ef import EfModel
from mnemoscope.training.ef import LEAST_CLIPS, EfTraining, train_ef
from mnemoscope.training.loop import LOG

PREDICTIONS = "predictions.parquet"


@dataclass(frozen=True)
class Material:
    """What one regressor is trained on and how.

    Attributes:
        store: of the pixels.
        clips: rows of its table with the ``ef`` to learn, and ``group``: patient, or train patient behind a synthetic
            clip.
        recipe: network and length.
        val_share: share of the groups that choose the network.
        seed: of weights, order, windows and split.
        device: torch device.
    """

    store: LatentStore
    clips: pd.DataFrame
    recipe: EfTraining
    val_share: float
    seed: int
    device: str = "cpu"

    @property
    def is_val(self) -> np.ndarray:
        """The clips that choose the network; nothing outside the arm does."""
        groups = self.clips["group"].to_numpy().astype(str)
        return split_off(groups, share=self.val_share, rng=generator(self.seed, "downstream", "val"))


def too_small(clips: pd.DataFrame, *, val_share: float) -> str | None:
    """Why no regressor can be trained on these clips, None where one can."""
    groups = clips["group"].nunique()
    # The largest groups may be drawn for val.
    most = clips["group"].value_counts().iloc[: max(1, round(val_share * groups))].sum()
    if groups < 2 or len(clips) - most < LEAST_CLIPS:
        return f"{len(clips)} clips of {groups} patients"
    return None


def train_and_test(
    material: Material, test: LatentStore, tested: pd.DataFrame, folder: Path, *, progress: Progress
) -> EfModel:
    """Trains, reads the test clips, and leaves ``model/``, ``log.csv`` and ``predictions.parquet``.

    Args:
        material: what to train on.
        test: store of the test clips.
        tested: their rows.
        folder: of the stage; an interrupted training in it is continued.
        progress: told after every step.
    """
    val = material.is_val
    model, _ = train_ef(
        material.store,
        material.recipe,
        folder,
        clips=material.clips[~val],
        val=material.clips[val],
        seed=material.seed,
        device=material.device,
        progress=progress,
    )
    predicted = read_clips(model, test, tested)
    table = tested[["clip_id", "patient_id", "ef"]].assign(predicted=predicted.to_numpy())
    with whole_file(folder / PREDICTIONS) as temporary:
        table.to_parquet(temporary, index=False)
    shutil.copy(folder / "training" / LOG, folder / LOG)
    shutil.rmtree(folder / "training")
    return model


def read_clips(model: EfModel, store: LatentStore, rows: pd.DataFrame) -> pd.Series:
    """EF that the model reads off clips, in percent, by clip_id in the order of the rows."""
    values = [model.read(frames[:, 0]) for _, frames in store.clips_of(rows)]
    return pd.Series(values, index=rows["clip_id"].tolist(), dtype=np.float64)


def rmse(true: Scores, predicted: Scores, weight: Scores) -> float:
    """Weighted root mean squared difference, in the unit of both."""
    return float(np.sqrt(np.average((true - predicted) ** 2, weights=weight)))


STATISTICS: dict[str, Statistic] = {"r2": r2, "mae": mae, "rmse": rmse}


def estimated(tables: Sequence[pd.DataFrame], statistic: Statistic, *, rng: np.random.Generator) -> Estimate:
    """A statistic of test predictions, the mean over trainings; its interval is from resampling patients and trainings.

    Args:
        tables: ``clip_id``, ``patient_id``, ``ef`` and ``predicted`` of the same test clips, one table a training.
        statistic: of true and predicted EF.
        rng: draws patients and trainings.
    """
    return _resampled(partial(_each, tables, statistic), tables[0]["patient_id"], rng)


def difference(
    first: Sequence[pd.DataFrame], second: Sequence[pd.DataFrame], statistic: Statistic, *, rng: np.random.Generator
) -> Estimate:
    """Statistic of the first trainings minus that of the second, of one seed each; see :func:`estimated`.

    Raises:
        Mismatch: if the two were tested on other clips.
    """
    if not first[0]["clip_id"].equals(second[0]["clip_id"]):
        raise Mismatch("expected predictions of the same test clips to compare; run both arms again")
    one, other = partial(_each, first, statistic), partial(_each, second, statistic)
    return _resampled(lambda weight: one(weight) - other(weight), first[0]["patient_id"], rng)


def _each(tables: Sequence[pd.DataFrame], statistic: Statistic, weight: Scores) -> Scores:
    """The statistic of each training."""
    pairs = [(table["ef"].to_numpy(np.float64), table["predicted"].to_numpy(np.float64)) for table in tables]
    return np.array([statistic(true, predicted, weight) for true, predicted in pairs])


def _resampled(each: Callable[[Scores], Scores], patients: pd.Series, rng: np.random.Generator) -> Estimate:
    """The mean over trainings, and its interval when both patients and trainings are drawn anew."""
    values = each(np.ones(len(patients)))
    trainings = iter(rng.integers(0, len(values), (BOOTSTRAP_ROUNDS + 1, len(values))))

    def replicate(weight: Scores) -> float:
        return float(each(weight)[next(trainings)].mean())

    found, value = patient_bootstrap(replicate, patients.to_numpy().astype(str), rng=rng), float(values.mean())
    return Estimate(value, min(found.low, value), max(found.high, value))
