"""Listing: which clips lie in a folder, and what a table beside them says of each."""

import os
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import ClassVar

import pandas as pd

from mnemoscope.core.errors import ConfigError, InputError
from mnemoscope.data.clips import DICOM_SUFFIXES, LATENT_SUFFIXES, VIDEO_SUFFIXES
from mnemoscope.data.dicom import is_dicom
from mnemoscope.data.manifest import COLUMNS, read_table

# Column of the manifest: usual headings for it, in snake case.
USUAL_HEADINGS = {
    "path": ("file_name", "filename", "file", "path", "video", "clip"),
    "patient_id": ("patient_id", "patient", "patientid", "subject_id", "subject"),
    "split": ("split",),
    "fps": ("fps", "frame_rate"),
    "n_frames": ("number_of_frames", "n_frames"),
    "height": ("frame_height",),
    "width": ("frame_width",),
    "ef": ("ef", "ejection_fraction"),
    "esv": ("esv",),
    "edv": ("edv",),
    "view": ("view",),
}
_MAX_NAMED = 20


@dataclass(frozen=True, kw_only=True)
class TableColumns:
    """Which table lies beside the clips and what its columns mean; None looks for the usual headings.

    Attributes:
        table: CSV or Parquet file, absolute or relative to the folder; None takes the layout's own.
        file: column with the file's name or path.
        patient: column with the patient.
        split: column with the split.
        fps: column with frames per second.
        ef: column with the ejection fraction in percent.
        esv: column with the end-systolic volume.
        edv: column with the end-diastolic volume.
        view: column with the view.
        attributes: further columns to keep; None keeps all.
        patient_pattern: a regular expression searched in the file's path; its first group is the patient.
    """

    # Read by the configuration: an unknown setting is refused.
    __pydantic_config__: ClassVar[dict[str, str]] = {"extra": "forbid"}

    table: Path | None = None
    file: str | None = None
    patient: str | None = None
    split: str | None = None
    fps: str | None = None
    ef: str | None = None
    esv: str | None = None
    edv: str | None = None
    view: str | None = None
    attributes: tuple[str, ...] | None = None
    patient_pattern: str | None = None

    @property
    def chosen(self) -> dict[str, str]:
        """Manifest column → heading, for those that were given."""
        named = {
            "path": self.file,
            "patient_id": self.patient,
            "split": self.split,
            "fps": self.fps,
            "ef": self.ef,
            "esv": self.esv,
            "edv": self.edv,
            "view": self.view,
        }
        return {column: heading for column, heading in named.items() if heading is not None}


@dataclass(frozen=True)
class Folder:
    """A folder and the media files below it: relative, with ``/``, sorted; hidden ones left out."""

    root: Path
    files: tuple[str, ...]

    def of_kind(self, suffixes: Iterable[str]) -> "Folder":
        """The same folder with only the files of these suffixes; "" stands for DICOM files without one."""
        wanted = set(suffixes)
        return Folder(self.root, tuple(name for name in self.files if _media_suffix(name) in wanted))

    @cached_property
    def by_name(self) -> dict[str, list[str]]:
        """Files by name, and by name without suffix."""
        found = defaultdict(list)
        for file in self.files:
            name = PurePosixPath(file).name
            for key in {name, without_suffix(name)}:
                found[key].append(file)
        return dict(found)


def scan(root: Path) -> Folder:
    """Looks for videos, DICOM files and latents below a folder.

    Raises:
        InputError: when it is no folder, or holds none.
    """
    root = Path(root)
    if not root.is_dir():
        raise InputError(f"{root}: expected a folder of clips, found {'a file' if root.exists() else 'nothing'}")
    found = []
    for place, folders, names in os.walk(root):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        files = [Path(place) / name for name in names if not name.startswith(".")]
        found += [file.relative_to(root).as_posix() for file in files if _is_media(file)]
    if not found:
        suffixes = ", ".join((*VIDEO_SUFFIXES, *DICOM_SUFFIXES, *LATENT_SUFFIXES))
        raise InputError(f"{root}: expected clips ({suffixes}), found none; point to the folder that holds them")
    return Folder(root.absolute(), tuple(sorted(found)))


def _is_media(file: Path) -> bool:
    return _media_suffix(file.name) != "" or (_could_be_bare_dicom(file.name) and file.is_file() and is_dicom(file))


def _could_be_bare_dicom(name: str) -> bool:
    suffix = PurePosixPath(name).suffix
    return suffix == "" or suffix[1:].isdigit()


def _media_suffix(name: str) -> str:
    suffix = PurePosixPath(name).suffix.lower()
    return suffix if suffix in (*VIDEO_SUFFIXES, *DICOM_SUFFIXES, *LATENT_SUFFIXES) else ""


def without_suffix(name: str) -> str:
    """The name without a media suffix; other dots belong to the name."""
    return name[: len(name) - len(_media_suffix(name))]


def clip_ids(paths: Sequence[str]) -> list[str]:
    """A clip's id: its path without suffix and without a folder called ``Videos``.

    Where two files would share an id (they differ only by suffix, or by ``Videos``) they keep more of their path.
    """
    full = [str(path) for path in paths]
    named = [_without_videos(path) for path in full]
    ids = [without_suffix(name) for name in named]
    for longer in (named, full):
        count = Counter(ids)
        ids = [long if count[short] > 1 else short for short, long in zip(ids, longer, strict=True)]
    return ids


def _without_videos(path: str) -> str:
    *folders, name = path.split("/")
    return "/".join([*(folder for folder in folders if folder.lower() != "videos"), name])


def snake_case(heading: str) -> str:
    """ "PatientAge (years)" → "patient_age_years"."""
    spaced = re.sub(r"([a-z0-9])([A-Z])|([A-Z]+)([A-Z][a-z])", r"\1\3_\2\4", heading.strip())
    return re.sub(r"[^0-9a-z]+", "_", spaced.lower()).strip("_")


def list_table(folder: Folder, table: Path, columns: TableColumns) -> pd.DataFrame:
    """One row per line of a table: manifest columns it has, then its other columns as attributes.

    Raises:
        InputError: when the table is unreadable, lacks a column, or names a file that lies in several places.
    """
    cells = read_table(table)
    headings = _headings(cells, columns, table)
    listed = pd.DataFrame({column: cells[heading] for column, heading in headings.items()}, index=cells.index)
    listed = listed.dropna(subset=["path"]).astype({"path": "str"})
    listed["path"] = _resolved(listed["path"], folder, table)
    extra = _attributes(cells.drop(columns=list(headings.values())), columns, table)
    return listed.join(extra).reset_index(drop=True)


def _headings(cells: pd.DataFrame, columns: TableColumns, table: Path) -> dict[str, str]:
    missing = sorted(set(columns.chosen.values()) - set(cells.columns))
    if missing:
        raise InputError(f"{table}: expected columns {', '.join(missing)}, found {', '.join(cells.columns)}")
    snake = {snake_case(heading): heading for heading in reversed(list(cells.columns))}
    found = {
        column: next((snake[name] for name in usual if name in snake), None) for column, usual in USUAL_HEADINGS.items()
    } | columns.chosen
    if found["path"] is None:
        raise InputError(
            f"{table}: expected a column with file names ({', '.join(USUAL_HEADINGS['path'])}), "
            f"found {', '.join(cells.columns)}; name it (--set table.file=COLUMN)"
        )
    return {column: heading for column, heading in found.items() if heading is not None}


def has_file_column(table: Path) -> bool:
    """Whether a table has a column with file names under a usual heading."""
    headings = {snake_case(str(heading)) for heading in read_table(table).columns}
    return any(name in headings for name in USUAL_HEADINGS["path"])


def _attributes(cells: pd.DataFrame, columns: TableColumns, table: Path) -> pd.DataFrame:
    kept = list(cells.columns) if columns.attributes is None else list(columns.attributes)
    missing = [heading for heading in kept if heading not in cells.columns]
    if missing:
        raise InputError(f"{table}: expected attributes {', '.join(missing)}, found {', '.join(cells.columns)}")
    names: dict[str, str] = {}
    for heading in kept:
        names[heading] = _free_name(snake_case(str(heading)) or "column", taken={*COLUMNS, *names.values()})
    return cells[kept].rename(columns=names)


def _free_name(name: str, *, taken: set[str]) -> str:
    while name in taken:
        name = f"table_{name}"
    return name


def _resolved(names: pd.Series, folder: Folder, table: Path) -> list[str]:
    place = table.parent.relative_to(folder.root).as_posix() if table.parent.is_relative_to(folder.root) else "."
    known = set(folder.files)
    candidates = [_candidates(name, place, folder, known) for name in names]
    doubtful = [f"{name} ({', '.join(c)})" for name, c in zip(names, candidates, strict=True) if len(c) > 1]
    if doubtful:
        raise InputError(
            f"{table}: expected each name to fit one file, found several for {'; '.join(doubtful[:_MAX_NAMED])}; "
            f"write the path from the table's folder"
        )
    return [candidate[0] for candidate in candidates]


def _candidates(name: str, place: str, folder: Folder, known: set[str]) -> list[str]:
    """The files a cell may mean; what is nowhere stays where the table says, so that ``check`` can name it."""
    written = os.path.normpath(f"{place}/{name}".replace("\\", "/"))
    if written in known:
        return [written]
    base = PurePosixPath(name.replace("\\", "/")).name
    found = folder.by_name.get(base) or folder.by_name.get(without_suffix(base)) or []
    below = [file for file in found if place == "." or file.startswith(f"{place}/")]
    return below or [written]


def patients_from_names(paths: Iterable[str], pattern: str) -> list[str]:
    """The patient of each path: the first group of the pattern.

    Raises:
        ConfigError: when the pattern is no regular expression with a group.
        InputError: when it does not occur in some path.
    """
    try:
        expression = re.compile(pattern)
    except re.error as error:
        raise ConfigError(
            f"expected a regular expression, got {pattern!r}: {error} (--set table.patient_pattern=REGEX)"
        ) from error
    if expression.groups < 1:
        raise ConfigError(f"expected a pattern with a (group), got {pattern!r} (--set table.patient_pattern=REGEX)")
    matches = {path: expression.search(path) for path in paths}
    missed = [path for path, match in matches.items() if match is None]
    if missed:
        raise InputError(
            f"{pattern!r} does not occur in {', '.join(missed[:_MAX_NAMED])} (--set table.patient_pattern=REGEX)"
        )
    return [match.group(1) for match in matches.values() if match is not None]
