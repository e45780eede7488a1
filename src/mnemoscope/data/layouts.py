"""Layouts: from a folder as it is handed over to a manifest. A new layout is one function and one line."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from mnemoscope.core.errors import ConfigError, InputError
from mnemoscope.core.types import SPLITS
from mnemoscope.data.clips import DICOM_SUFFIXES, LATENT_SUFFIXES, VIDEO_SUFFIXES
from mnemoscope.data.headers import with_headers, with_patients
from mnemoscope.data.listing import (
    Folder,
    TableColumns,
    clip_ids,
    has_file_column,
    list_table,
    scan,
    snake_case,
    without_suffix,
)
from mnemoscope.data.manifest import Manifest, make_manifest, read_table, split_patients

SPLIT_NAMES = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "test": "holdout",
    "testing": "holdout",
    "holdout": "holdout",
    "synthetic": "synthetic",
}
_FOLDS = {str(fold): "train" for fold in range(8)} | {"8": "val", "9": "holdout"}
_FILE_LIST = "FileList.csv"
_FLAGS = "--layout; of an audit --real-layout, --synthetic-layout"


@dataclass(frozen=True, kw_only=True)
class SplitShares:
    """How patients are drawn where the data give no splits: shares of patients, and the seed."""

    val: float = 0.15
    holdout: float = 0.2
    seed: int = 0


def read_layout(
    root: Path,
    *,
    layout: str = "auto",
    table: TableColumns | None = None,
    split: str | None = None,
    shares: SplitShares | None = None,
    patient_salt: str | None = None,
) -> Manifest:
    """The manifest of a folder of clips.

    Args:
        root: the folder.
        layout: a name of ``LAYOUTS``, or "auto" to recognise it.
        table: the table beside the clips and what its columns mean; by default the usual headings are looked for.
        split: puts every clip into this split, whatever a table says.
        shares: how patients are drawn when neither a table nor folder names give splits.
        patient_salt: replaces every patient_id by a keyed hash, see :func:`~mnemoscope.data.dicom.hash_patient_id`.

    Raises:
        InputError: when the folder, its table or its splits cannot be understood; clips that are listed but
            absent or unreadable are kept, for :func:`mnemoscope.data.checks.check` to name.
    """
    folder = scan(root)
    name = recognise(folder) if layout == "auto" else layout
    if name not in LAYOUTS:
        raise ConfigError(f"expected the layout ({_FLAGS}) to be auto or one of {', '.join(LAYOUTS)}, got {layout!r}")
    columns = table or TableColumns()
    clips = LAYOUTS[name].read(folder, columns)
    if clips.empty:
        raise InputError(f"{root}: expected clips in layout {name}, found none; choose another ({_FLAGS})")
    clips = clips.assign(clip_id=clip_ids(clips["path"].tolist()))
    patients_listed = "patient_id" in clips.columns
    clips = with_headers(clips, root=folder.root)
    clips = with_patients(clips, patients_listed=patients_listed, pattern=columns.patient_pattern, salt=patient_salt)
    return _with_splits(clips, folder, split=split, shares=shares or SplitShares())


def recognise(folder: Folder) -> str:
    """The first layout that recognises the folder."""
    return next(name for name, layout in LAYOUTS.items() if layout.recognises(folder))


def _file_lists(folder: Folder) -> list[Path]:
    """``FileList.csv`` of the folder itself, or else of the folders directly below it."""
    own = folder.root / _FILE_LIST
    return [own] if own.is_file() else sorted(folder.root.glob(f"*/{_FILE_LIST}"))


def _tables(folder: Folder, columns: TableColumns) -> list[Path]:
    tables = [folder.root / columns.table] if columns.table else _file_lists(folder)
    if not tables:
        raise InputError(f"{folder.root}: expected {_FILE_LIST} there or one folder below, found none; name a table")
    return tables


def _echonet(folder: Folder, columns: TableColumns) -> pd.DataFrame:
    """EchoNet-Dynamic: ``FileList.csv`` beside ``Videos/``; without a patient column each file is a patient."""
    videos = folder.of_kind(VIDEO_SUFFIXES)
    clips = pd.concat([list_table(videos, table, columns) for table in _tables(folder, columns)], ignore_index=True)
    return _file_is_patient(clips)


def _echonet_pediatric(folder: Folder, columns: TableColumns) -> pd.DataFrame:
    """EchoNet-Pediatric: ``A4C/`` and ``PSAX/``, or one of them; folds 0-7 train, 8 val, 9 holdout."""
    videos = folder.of_kind(VIDEO_SUFFIXES)
    parts = []
    for table in _tables(folder, columns):
        part = list_table(videos, table, columns).rename(columns={"table_height": "body_height"})
        if "split" in part.columns:
            part["split"] = part["split"].map(lambda cell: _FOLDS.get(str(cell).strip(), cell), na_action="ignore")
        parts.append(part.assign(view=table.parent.name.upper()))
    return _file_is_patient(pd.concat(parts, ignore_index=True))


def _echonet_synthetic(folder: Folder, columns: TableColumns) -> pd.DataFrame:
    """EchoNet-Synthetic: as EchoNet-Dynamic, but every clip is synthetic, whatever its Split column says."""
    return _echonet(folder, columns).assign(split="synthetic")


def _video_folder(folder: Folder, columns: TableColumns) -> pd.DataFrame:
    """Hugging Face VideoFolder: ``metadata.csv`` with ``file_name``, at the top or one for each split's folder."""
    own = [folder.root / columns.table] if columns.table else sorted(folder.root.rglob("metadata.csv"))
    if not own:
        raise InputError(f"{folder.root}: expected metadata.csv with a column file_name, found none; name a table")
    videos = folder.of_kind(VIDEO_SUFFIXES)
    return _split_by_folder(pd.concat([list_table(videos, table, columns) for table in own], ignore_index=True))


def _latents(folder: Folder, columns: TableColumns) -> pd.DataFrame:
    """Ready latents: one ``.pt`` per clip, with or without ``FileList.csv``."""
    tensors = folder.of_kind(LATENT_SUFFIXES)
    tables = [folder.root / columns.table] if columns.table else _file_lists(folder)
    if not tables:
        return _all_files(tensors)
    return _file_is_patient(pd.concat([list_table(tensors, table, columns) for table in tables], ignore_index=True))


def _dicom(folder: Folder, columns: TableColumns) -> pd.DataFrame:
    """DICOM files at any depth; the patient is the header's PatientID unless a table says otherwise."""
    return _table_or_all(folder.of_kind((*DICOM_SUFFIXES, "")), columns)


def _any_folder(folder: Folder, columns: TableColumns) -> pd.DataFrame:
    """Videos and DICOM files at any depth, with a table where there is one."""
    return _table_or_all(folder.of_kind((*VIDEO_SUFFIXES, *DICOM_SUFFIXES, "")), columns)


def _table_or_all(folder: Folder, columns: TableColumns) -> pd.DataFrame:
    if columns.table:
        return _split_by_folder(list_table(folder, folder.root / columns.table, columns))
    beside = sorted(p for p in folder.root.iterdir() if p.suffix.lower() in (".csv", ".parquet"))
    tables = [path for path in beside if has_file_column(path)] if not columns.file else beside
    if len(tables) > 1:
        names = ", ".join(path.name for path in tables)
        raise InputError(
            f"{folder.root}: expected one table beside the clips, found {names}; choose one (--set table.table=FILE)"
        )
    return _split_by_folder(list_table(folder, tables[0], columns) if tables else _all_files(folder))


def _all_files(folder: Folder) -> pd.DataFrame:
    return pd.DataFrame({"path": list(folder.files)}, dtype="str")


def _file_is_patient(clips: pd.DataFrame) -> pd.DataFrame:
    if "patient_id" in clips.columns:
        return clips
    return clips.assign(patient_id=[without_suffix(path.split("/")[-1]) for path in clips["path"]])


def _split_by_folder(clips: pd.DataFrame) -> pd.DataFrame:
    """Folders called train, val, test … are the splits, when no column gives them and every clip lies in one."""
    tops = clips["path"].str.split("/").str[0].str.lower()
    if "split" in clips.columns or not tops.isin(SPLIT_NAMES).all():
        return clips
    return clips.assign(split=tops)


def _with_splits(clips: pd.DataFrame, folder: Folder, *, split: str | None, shares: SplitShares) -> Manifest:
    if split is not None:
        if split not in SPLITS:
            raise ConfigError(f"expected split (--split) to be one of {', '.join(SPLITS)}, got {split!r}")
        return make_manifest(clips.assign(split=split), root=folder.root)
    if "split" in clips.columns and clips["split"].notna().any():
        names = clips["split"].map(lambda cell: SPLIT_NAMES.get(str(cell).strip().lower(), cell), na_action="ignore")
        return make_manifest(clips.assign(split=names), root=folder.root)
    undivided = make_manifest(clips.assign(split="train"), root=folder.root)
    return split_patients(undivided, val_share=shares.val, holdout_share=shares.holdout, seed=shares.seed)


def _is_pediatric(folder: Folder) -> bool:
    return _only_videos(folder) and any(_has_folds(table) for table in _file_lists(folder))


def _has_folds(table: Path) -> bool:
    cells = read_table(table).rename(columns=snake_case)
    folds = set(cells["split"].dropna().str.strip()) if "split" in cells.columns else set()
    return bool(folds) and folds <= _FOLDS.keys()


def _has_file_list(folder: Folder) -> bool:
    return bool(_file_lists(folder))


def _only_videos(folder: Folder) -> bool:
    return len(folder.of_kind(VIDEO_SUFFIXES).files) == len(folder.files)


def _is_video_folder(folder: Folder) -> bool:
    tables = sorted(folder.root.rglob("metadata.csv"))
    return bool(tables) and all("file_name" in read_table(table).columns for table in tables)


def _only_latents(folder: Folder) -> bool:
    return len(folder.of_kind(LATENT_SUFFIXES).files) == len(folder.files)


def _only_dicom(folder: Folder) -> bool:
    return len(folder.of_kind((*DICOM_SUFFIXES, "")).files) == len(folder.files)


@dataclass(frozen=True)
class Layout:
    """How a folder is recognised and read."""

    recognises: Callable[[Folder], bool]
    read: Callable[[Folder, TableColumns], pd.DataFrame]


def _never(folder: Folder) -> bool:
    """A synthetic set looks like the real one it was made from: only the caller knows."""
    return False


def _always(folder: Folder) -> bool:
    return True


LAYOUTS = {
    "latents": Layout(_only_latents, _latents),
    "echonet-pediatric": Layout(_is_pediatric, _echonet_pediatric),
    "echonet-dynamic": Layout(_has_file_list, _echonet),
    "echonet-synthetic": Layout(_never, _echonet_synthetic),
    "videofolder": Layout(_is_video_folder, _video_folder),
    "dicom": Layout(_only_dicom, _dicom),
    "folder": Layout(_always, _any_folder),
}
