"""Headers: empty cells of a listing filled from the clips' own files."""

import logging
from pathlib import Path

import pandas as pd

from mnemoscope.core.errors import InputError
from mnemoscope.data.clips import LATENT_SUFFIXES
from mnemoscope.data.dicom import hash_patient_id, is_dicom, read_patient_id
from mnemoscope.data.listing import patients_from_names
from mnemoscope.data.tensors import read_latent
from mnemoscope.data.video import probe

_SIZES = ("fps", "n_frames", "height", "width")
_log = logging.getLogger(__name__)


def with_headers(clips: pd.DataFrame, *, root: Path) -> pd.DataFrame:
    """The listing with size, rate and (DICOM) patient from the files where it had none.

    A cell that a table gives is never replaced. What cannot be read stays empty: ``check`` decodes every clip and
    names it. ``patient_id`` is read from headers only when no table has that column.
    """
    wanted = [*_SIZES, *([] if "patient_id" in clips.columns else ["patient_id"])]
    gaps = clips.reindex(columns=wanted).isna().any(axis=1)
    headers = {i: _from_header(root / path) for i, path in clips.loc[gaps, "path"].items()}
    return clips.assign(**{column: _filled(clips, headers, column) for column in wanted})


def _filled(clips: pd.DataFrame, headers: dict, column: str) -> pd.Series:
    cells = clips[column] if column in clips.columns else [None] * len(clips)
    pairs = zip(clips.index, cells, strict=True)
    values = [headers.get(i, {}).get(column) if pd.isna(cell) else cell for i, cell in pairs]
    return pd.Series(values, index=clips.index, dtype=object)


def _from_header(path: Path) -> dict[str, object]:
    try:
        if path.suffix.lower() in LATENT_SUFFIXES:
            return {"n_frames": len(read_latent(path))}
        info = probe(path)
        patient = {"patient_id": read_patient_id(path)} if is_dicom(path) else {}
    except InputError:
        return {}
    return {"fps": info.fps, "n_frames": info.n_frames, "height": info.height, "width": info.width, **patient}


def with_patients(clips: pd.DataFrame, *, patients_listed: bool, pattern: str | None, salt: str | None) -> pd.DataFrame:
    """The listing with a patient for every clip.

    Args:
        clips: with clip_id, path and patient_id.
        patients_listed: whether a table gave the patients; its empty cells are then left for validation to refuse.
            Otherwise a clip without patient counts as a patient of its own.
        pattern: regular expression whose first group in the path is the patient, or None.
        salt: replaces ids by their keyed hash, or None.
    """
    patients = clips["patient_id"].astype(object)
    if pattern is not None:
        patients = pd.Series(patients_from_names(clips["path"], pattern), index=clips.index, dtype=object)
    elif not patients_listed:
        if patients.isna().any() and patients.notna().any():
            _log.warning(
                "%d of %d clips have no PatientID: each counts as a patient", patients.isna().sum(), len(clips)
            )
        patients = patients.fillna(clips["clip_id"])
    if salt is not None:
        patients = patients.map(lambda patient: hash_patient_id(str(patient), salt=salt), na_action="ignore")
    return clips.assign(patient_id=patients)
