"""Manifest: the table of clips, one row each, that every later stage reads.

``path`` is relative to the manifest's root where the file lies below it, absolute otherwise, always with ``/``.
The root itself is kept in the Parquet file's metadata; for a CSV it is the folder the CSV lies in.
"""

import json
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from mnemoscope.core.errors import ConfigError, InputError, TooFewSamples
from mnemoscope.core.files import whole_file
from mnemoscope.core.rng import generator
from mnemoscope.core.types import SPLITS
from mnemoscope.data.rules import Problem, content_problems, structure_problems

TEXT_COLUMNS = ("clip_id", "path", "patient_id", "split", "view")
WHOLE_COLUMNS = ("n_frames", "height", "width")
COLUMNS = (
    "clip_id",
    "path",
    "patient_id",
    "split",
    "fps",
    "n_frames",
    "height",
    "width",
    "ef",
    "esv",
    "edv",
    "view",
)
_REQUIRED = ("clip_id", "path", "patient_id", "split")
_METADATA_KEY = b"mnemoscope.manifest"
_MAX_LISTED = 100


@dataclass(frozen=True)
class Manifest:
    """The clips of a data set.

    Attributes:
        clips: one row per clip, sorted by clip_id: the columns of ``COLUMNS``, then attributes.
        root: the folder that relative paths start from.
    """

    clips: pd.DataFrame
    root: Path

    def __len__(self) -> int:
        return len(self.clips)

    @property
    def files(self) -> list[Path]:
        """The file of each clip, in row order."""
        return [self.root / path for path in self.clips["path"]]

    @property
    def attributes(self) -> list[str]:
        """The columns beyond the fixed ones."""
        return [column for column in self.clips.columns if column not in COLUMNS]


def make_manifest(clips: pd.DataFrame, *, root: Path) -> Manifest:
    """A manifest from a table: columns completed and typed, rows sorted by clip_id.

    Args:
        clips: at least clip_id, path, patient_id and split; what else is in ``COLUMNS`` is empty when absent.
        root: the folder that relative paths start from.

    Raises:
        InputError: with every breach of structure: missing columns, empty or doubled ids, unknown splits.
    """
    missing = [column for column in _REQUIRED if column not in clips.columns]
    if missing:
        raise InputError(f"expected a manifest with columns {', '.join(_REQUIRED)}; {', '.join(missing)} missing")
    clips = _typed(clips)
    _raise_all(structure_problems(clips), what=f"manifest of {root}")
    clips = clips.sort_values("clip_id", kind="stable", ignore_index=True)
    return Manifest(clips=clips, root=Path(root).absolute())


def _typed(clips: pd.DataFrame) -> pd.DataFrame:
    typed = {column: _typed_column(clips, column) for column in COLUMNS}
    extra = {str(column): typed_attribute(clips[column]) for column in clips.columns if column not in COLUMNS}
    return pd.DataFrame(typed | extra, index=clips.index)


def _typed_column(clips: pd.DataFrame, column: str) -> pd.Series:
    values = clips[column] if column in clips.columns else pd.Series(None, index=clips.index, dtype=object)
    if column in TEXT_COLUMNS:
        return values.map(str, na_action="ignore").astype("str")
    try:
        numbers = pd.to_numeric(values, errors="raise").astype("float64")
        return numbers.astype("Int64") if column in WHOLE_COLUMNS else numbers
    except (ValueError, TypeError) as error:
        kind = "whole numbers" if column in WHOLE_COLUMNS else "numbers"
        raise InputError(f"expected {kind} in column {column}: {error}; correct the table") from error


def validate(manifest: Manifest) -> None:
    """Refuses a manifest that would give wrong results.

    Raises:
        InputError: naming all problems at once: structure, patients in two splits, impossible EF or volumes.
    """
    problems = structure_problems(manifest.clips) + content_problems(manifest.clips)
    _raise_all(problems, what=f"manifest of {manifest.root}")


def _raise_all(problems: Sequence[Problem], *, what: str) -> None:
    if problems:
        lines = [f"- {problem}" for problem in problems[:_MAX_LISTED]]
        rest = [f"- and {len(problems) - _MAX_LISTED} more"] if len(problems) > _MAX_LISTED else []
        raise InputError("\n".join([f"{what} has {len(problems)} problems:", *lines, *rest]))


def read_manifest(path: Path, *, root: Path | None = None) -> Manifest:
    """A manifest from Parquet or CSV.

    Args:
        path: a ``.parquet`` or ``.csv`` file.
        root: where relative paths start; by default the root the Parquet file remembers, for CSV its own folder.

    Raises:
        InputError: when the file is missing, unreadable, or breaks the structure.
    """
    path = Path(path)
    if path.suffix.lower() == ".parquet":
        clips, remembered = _read_parquet(path)
    else:
        clips, remembered = read_table(path), path.absolute().parent
    return make_manifest(clips, root=root or remembered)


def _read_parquet(path: Path) -> tuple[pd.DataFrame, Path]:
    try:
        table = pq.read_table(path)
    except (OSError, pa.ArrowException) as error:
        raise InputError(f"{path}: expected a readable Parquet manifest, got: {error}") from error
    known = json.loads((table.schema.metadata or {}).get(_METADATA_KEY, b"{}"))
    return table.to_pandas(), Path(known.get("root", path.absolute().parent))


def read_table(path: Path) -> pd.DataFrame:
    """A CSV table with every cell as text ("007" stays "007"), or a Parquet table as it is.

    Raises:
        InputError: when the file is missing or unreadable.
    """
    if path.suffix.lower() == ".parquet":
        return _read_parquet(path)[0]
    try:
        return pd.read_csv(path, dtype=str, encoding="utf-8-sig", skipinitialspace=True)
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: expected a readable CSV table, got: {error}") from error


def typed_attribute(column: pd.Series) -> pd.Series:
    """Numbers where every cell is plainly one; "007" stays text."""
    if not pd.api.types.is_string_dtype(column):
        return column
    filled = column.dropna()
    plain = filled.str.fullmatch(r"-?(0|[1-9]\d*)(\.\d+)?([eE][-+]?\d+)?")
    return pd.to_numeric(column) if len(filled) and bool(plain.all()) else column


def write_manifest(manifest: Manifest, path: Path) -> None:
    """Writes Parquet, whole or not at all.

    Raises:
        InputError: when the suffix is not ``.parquet``.
    """
    path = Path(path)
    if path.suffix.lower() != ".parquet":
        raise InputError(f"a manifest is written as .parquet, got {path}; change the suffix")
    table = pa.Table.from_pandas(manifest.clips, preserve_index=False)
    remembered = {_METADATA_KEY: json.dumps({"version": 1, "root": str(manifest.root)}).encode()}
    with whole_file(path) as temporary:
        pq.write_table(table.replace_schema_metadata((table.schema.metadata or {}) | remembered), temporary)


def of_split(manifest: Manifest, split: str) -> Manifest:
    """The clips of one split.

    Raises:
        InputError: when there is no split of that name.
    """
    if split not in SPLITS:
        raise InputError(f"expected a split of {', '.join(SPLITS)}, got {split!r}")
    return replace(manifest, clips=manifest.clips[manifest.clips["split"] == split].reset_index(drop=True))


def with_prefix(manifest: Manifest, prefix: str) -> Manifest:
    """The same clips with ``prefix`` before every clip_id, so that two folders with like names can be joined."""
    return make_manifest(manifest.clips.assign(clip_id=prefix + manifest.clips["clip_id"]), root=manifest.root)


def concat_manifests(manifests: Iterable[Manifest]) -> Manifest:
    """All clips of several manifests in one; its root is their common folder.

    Raises:
        InputError: when two clips share a clip_id (see :func:`with_prefix`), or nothing was given.
    """
    parts = list(manifests)
    if not parts:
        raise InputError("expected at least one manifest, got none")
    root = Path(os.path.commonpath([part.root for part in parts]))
    tables = [part.clips.assign(path=[relative_path(file, root=root) for file in part.files]) for part in parts]
    return make_manifest(pd.concat(tables, ignore_index=True), root=root)


def relative_path(file: Path, *, root: Path) -> str:
    """The file's place below the root, or its absolute path when it lies elsewhere."""
    return (file.relative_to(root) if file.is_relative_to(root) else file).as_posix()


def split_patients(manifest: Manifest, *, val_share: float, holdout_share: float, seed: int) -> Manifest:
    """Draws train, val and holdout by patient; synthetic clips stay what they are.

    The shares are of patients, rounded; a share above 0 gets at least one. The draw depends on the seed and on
    the set of patients only, never on the order of rows.

    Args:
        manifest: clips with patient_id.
        val_share: share of patients for val, in [0, 1).
        holdout_share: share of patients for holdout, in [0, 1); both together below 1.
        seed: the run's seed.

    Raises:
        ConfigError: when the shares do not leave any patient for train.
        TooFewSamples: when there are fewer patients than splits to fill.
    """
    if min(val_share, holdout_share) < 0 or val_share + holdout_share >= 1:
        raise ConfigError(
            f"expected val_share and holdout_share of at least 0 and together below 1, got {val_share:g} and "
            f"{holdout_share:g} (--val-share, --holdout-share)"
        )
    clips = manifest.clips
    real = clips["split"] != "synthetic"
    split_of = _drawn(sorted(set(clips.loc[real, "patient_id"])), val_share, holdout_share, seed)
    splits = clips["split"].mask(real, clips["patient_id"].map(split_of))
    return replace(manifest, clips=clips.assign(split=splits))


def _drawn(patients: Sequence[str], val_share: float, holdout_share: float, seed: int) -> dict[str, str]:
    n_val, n_holdout = (_count(share, len(patients)) for share in (val_share, holdout_share))
    if patients and n_val + n_holdout >= len(patients):
        raise TooFewSamples(
            f"drawing splits by patient needs more than {n_val + n_holdout} patients, found {len(patients)}; "
            f"add patients, or give the splits in a table (--set table.table=FILE)"
        )
    order = generator(seed, "split_patients").permutation(len(patients))
    names = np.repeat(["holdout", "val", "train"], [n_holdout, n_val, len(patients) - n_val - n_holdout])
    return {patients[i]: str(name) for i, name in zip(order, names, strict=True)}


def _count(share: float, n_patients: int) -> int:
    return max(1, round(share * n_patients)) if share > 0 else 0
