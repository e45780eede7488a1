"""Withdraw: which synthetic clips must go when train patients take back their consent."""

import difflib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

import mnemoscope.audit.run.stages as stages
from mnemoscope.audit.run.results import AUDIT, PATIENTS, SAMPLES, read_audit_table, read_result
from mnemoscope.core.errors import CorruptFile, InputError, Mismatch
from mnemoscope.core.files import folder_fingerprint, read_json
from mnemoscope.core.provenance import RUN_FILE, STAGE_FILE
from mnemoscope.core.types import Flags
from mnemoscope.data.dicom import hash_patient_id
from mnemoscope.latents.features import FrameFeatures
from mnemoscope.latents.store import LatentStore, is_store
from mnemoscope.models.reid import ReidModel, load_reid

COLUMNS = ("clip_id", "nearest_clip_id", "nearest_patient_id", "similarity", "flagged", "reason")
NEAREST, ABOVE_TAU = "nearest", "above tau"
_MOST_NAMED = 3
_HASHED = "the ids of this run are keyed hashes: give the hash, or the id and the salt (--patient-salt)"


@dataclass(frozen=True)
class Withdrawal:
    """What follows from a withdrawal.

    Attributes:
        patients: who withdraws, as the run names them.
        train_clips: number of their clips.
        synthetic_clips: number of clips that were looked at.
        tau: threshold of the audit.
        clips: ``COLUMNS``, one row per synthetic clip that must go, most similar first.
    """

    patients: list[str]
    train_clips: int
    synthetic_clips: int
    tau: float
    clips: pd.DataFrame


def clips_to_withdraw(run: Path, patients: Sequence[str], *, patient_salt: str | None = None) -> Withdrawal:
    """Every synthetic clip that must go when train patients withdraw, by the features that the audit kept.

    A clip must go if one of their clips is its nearest train clip and it passes the audit's gate, or if any of their
    clips is more similar to it than tau, nearest or not.

    Args:
        run: folder of a finished audit.
        patients: who withdraws, at least one; as ``patients.parquet`` names them, or raw ids with ``patient_salt``.
        patient_salt: the salt that the audit hashed ids with.

    Raises:
        InputError: if there is no finished audit, or a patient is not one of its train patients.
        CorruptFile: if a part of the run is missing or damaged.
        Mismatch: if clips or model are no longer those of the kept features.
    """
    record, tau, samples = _finished(run)
    names = _named(run, patients, hashed=record["config"].get("patient_salt") is not None, salt=patient_salt)
    store, model = LatentStore(real_store(run, record)), _model(run, record)
    kept = _kept_features(run, store, model)
    train, head = store.of_split("train"), model[0].network.search_head()
    _require_rows(run, kept, n_train=len(train), n_synthetic=len(samples))
    theirs = train["patient_id"].isin(names).to_numpy()
    found = stages.matches(kept.synthetic, _rows_of(kept.train, theirs), head, device="cpu")
    # Another's clip that is exactly as similar does not make theirs any farther.
    is_nearest = samples["nearest_patient_id"].isin(names).to_numpy() | (found.p_max >= samples["p_max"].to_numpy())
    return Withdrawal(
        patients=names,
        train_clips=int(theirs.sum()),
        synthetic_clips=len(samples),
        tau=tau,
        clips=withdrawal_table(
            samples,
            train.iloc[found.nearest].reset_index(drop=True),
            found.p_max,
            nearest=is_nearest & samples["gated"].to_numpy(),
            above=found.p_max > tau,
        ),
    )


def withdrawal_table(
    samples: pd.DataFrame, closest: pd.DataFrame, similarity: np.ndarray, *, nearest: Flags, above: Flags
) -> pd.DataFrame:
    """The clips that must go, with their reasons.

    Args:
        samples: clip_id and flagged of all synthetic clips, (N,).
        closest: the most similar train clip of those who withdraw, of each, (N,).
        similarity: to it, (N,).
        nearest: whether it is the nearest of all train clips and the clip is gated, (N,).
        above: whether ``similarity`` is above tau, (N,).

    Returns:
        ``COLUMNS``, by falling similarity, ties by clip_id.
    """
    reason = np.where(nearest & above, f"{NEAREST}, {ABOVE_TAU}", np.where(nearest, NEAREST, ABOVE_TAU))
    table = pd.DataFrame(
        {
            "clip_id": samples["clip_id"].to_numpy(),
            "nearest_clip_id": closest["clip_id"].to_numpy(),
            "nearest_patient_id": closest["patient_id"].to_numpy(),
            "similarity": similarity,
            "flagged": samples["flagged"].to_numpy(),
            "reason": reason,
        }
    )
    return table[nearest | above].sort_values(["similarity", "clip_id"], ascending=[False, True], ignore_index=True)


def _finished(run: Path) -> tuple[dict, float, pd.DataFrame]:
    """The record, tau, and the table of synthetic clips."""
    result = read_result(run)
    if result.privacy is None:
        raise InputError(f"{run}: expected an audit with a threshold, found none in {AUDIT}; run the audit again")
    return read_json(run / RUN_FILE), result.privacy.tau, read_audit_table(run / SAMPLES)


def _named(run: Path, patients: Sequence[str], *, hashed: bool, salt: str | None) -> list[str]:
    """The patients as the run names them, each once, in the order given."""
    if not patients:
        raise InputError("expected at least one patient, got none; name who withdraws (--patient ID)")
    known = read_audit_table(run / PATIENTS)["patient_id"].astype(str).tolist()
    named = {given: given if salt is None else hash_patient_id(given, salt=salt) for given in patients}
    unknown = [given for given, name in named.items() if name not in set(known)]
    if unknown:
        raise InputError(f"{run}: " + "; ".join(_unknown(given, known, hashed, salt) for given in unknown))
    return list(dict.fromkeys(named.values()))


def _unknown(given: str, known: list[str], hashed: bool, salt: str | None) -> str:
    text = f"expected a patient of the {len(known)} train patients, found no {given!r}"
    if salt is not None:
        return f"{text} under this salt; give the audit's own salt, or the hashed id without one (--patient-salt)"
    near = difflib.get_close_matches(given, known, n=_MOST_NAMED, cutoff=0.0)
    closest = f"{text}; closest: {', '.join(near)} (--patient)"
    return f"{closest}; {_HASHED}" if hashed else closest


def real_store(run: Path, record: dict) -> Path:
    """The folder of the real clips' store, which the audit made or was given."""
    given = Path(str(record["identity"].get("real", "")))
    return given if is_store(given) else run / "latents-real"


def _model(run: Path, record: dict) -> tuple[ReidModel, str]:
    given = record["config"].get("reid_model")
    folder = Path(given) if given else run / "reid" / "model"
    return load_reid(folder), folder_fingerprint(folder)


def _kept_features(run: Path, store: LatentStore, model: tuple[ReidModel, str]) -> stages.SetFeatures:
    """The features, if they are of this store and this model."""
    folder = run / "features"
    missing = [name for name in ("train", "holdout", "synthetic", "verification") if not _has(folder, name)]
    if missing:
        raise CorruptFile(
            f"{folder}: expected the features that the audit kept, found none of {', '.join(missing)}; "
            f"run the same audit again, which makes what is missing"
        )
    inputs = read_json(folder / STAGE_FILE).get("inputs", {})
    changed = [
        name
        for name, now, then in (
            ("re-identification model", model[1], inputs.get("model")),
            ("latents of the real clips", store.fingerprint, (inputs.get("stores") or [None])[0]),
        )
        if now != then
    ]
    if changed:
        raise Mismatch(
            f"{folder}: expected features of the run's own clips and model, but since then the "
            f"{' and the '.join(changed)} changed; run the same audit again"
        )
    return stages.load_features(folder)


def _has(folder: Path, name: str) -> bool:
    return (folder / f"{name}.npz").is_file()


def _require_rows(run: Path, kept: stages.SetFeatures, *, n_train: int, n_synthetic: int) -> None:
    found = [int(part.clip.max(initial=-1)) + 1 for part in (kept.train, kept.synthetic)]
    if found != [n_train, n_synthetic]:
        raise CorruptFile(
            f"{run}: expected features of {n_train} train and {n_synthetic} synthetic clips, found {found[0]} and "
            f"{found[1]}; run the same audit again"
        )


def _rows_of(features: FrameFeatures, clips: Flags) -> FrameFeatures:
    """The rows of some clips, which keep their numbers."""
    rows = clips[features.clip]
    return FrameFeatures(features.values[rows], features.clip[rows], features.frame[rows])
