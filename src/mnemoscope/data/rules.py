"""Rules: what must hold of a table of clips, each rule one function that lists its breaches."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

import pandas as pd

from mnemoscope.core.types import SPLITS

Severity = Literal["error", "warning"]
REAL_SPLITS = tuple(s for s in SPLITS if s != "synthetic")


@dataclass(frozen=True, kw_only=True)
class Problem:
    """One thing that is wrong with a data set.

    Attributes:
        severity: "error" (a result would be wrong) or "warning" (look at it).
        kind: a short fixed name, such as "truncated".
        clip_id: the clip, or empty when it is about the set.
        file: the file, or empty.
        detail: what was expected and what was found.
        remedy: what to do.
    """

    severity: Severity
    kind: str
    clip_id: str = ""
    file: str = ""
    detail: str
    remedy: str

    def __str__(self) -> str:
        place = self.file or self.clip_id
        return f"{place + ': ' if place else ''}{self.detail}; {self.remedy}"


Rule = Callable[[pd.DataFrame], Iterator[Problem]]


def structure_problems(clips: pd.DataFrame) -> list[Problem]:
    """Breaches that make the table unusable: ids, paths and splits that are missing, unknown or doubled."""
    return [problem for rule in (_empty_cells, _doubled_ids, _unknown_splits) for problem in rule(clips)]


def content_problems(clips: pd.DataFrame) -> list[Problem]:
    """Breaches that make results wrong: patients on both sides, impossible volumes, rates or lengths."""
    rules: tuple[Rule, ...] = (_patients_in_two_splits, _impossible_ef, _swapped_volumes, _impossible_sizes)
    return [problem for rule in rules for problem in rule(clips)]


def _empty_cells(clips: pd.DataFrame) -> Iterator[Problem]:
    for column in ("clip_id", "path", "patient_id", "split"):
        empty = clips[column].isna() | (clips[column].astype(str).str.strip() == "")
        for _, row in clips[empty].iterrows():
            yield Problem(
                severity="error",
                kind="empty_cell",
                clip_id=_text(row["clip_id"]),
                file=_text(row["path"]),
                detail=f"expected a {column}, found none",
                remedy=f"fill in {column}",
            )


def _doubled_ids(clips: pd.DataFrame) -> Iterator[Problem]:
    doubled = clips[clips["clip_id"].duplicated(keep=False) & clips["clip_id"].notna()]
    for clip_id, rows in doubled.groupby("clip_id", sort=True):
        files = ", ".join(sorted(map(str, rows["path"])))
        yield Problem(
            severity="error",
            kind="duplicate_id",
            clip_id=str(clip_id),
            detail=f"expected clip_id {clip_id!r} once, found it {len(rows)} times: {files}",
            remedy="give each clip its own clip_id",
        )


def _unknown_splits(clips: pd.DataFrame) -> Iterator[Problem]:
    unknown = clips[clips["split"].notna() & ~clips["split"].isin(SPLITS)]
    for _, row in unknown.iterrows():
        yield Problem(
            severity="error",
            kind="unknown_split",
            clip_id=_text(row["clip_id"]),
            file=_text(row["path"]),
            detail=f"expected split to be one of {', '.join(SPLITS)}, found {row['split']!r}",
            remedy="correct the split, or give one for the whole folder (--split)",
        )


def _patients_in_two_splits(clips: pd.DataFrame) -> Iterator[Problem]:
    real = clips[clips["split"].isin(REAL_SPLITS)]
    n_splits = real.groupby("patient_id")["split"].nunique()
    for patient in sorted(n_splits[n_splits > 1].index):
        rows = real[real["patient_id"] == patient]
        places = "; ".join(f"{s}: {', '.join(sorted(g['clip_id']))}" for s, g in rows.groupby("split", sort=True))
        yield Problem(
            severity="error",
            kind="patient_in_two_splits",
            clip_id=sorted(rows["clip_id"])[0],
            detail=f"expected patient {patient} in one split, found clips in {places}",
            remedy="keep all clips of a patient in one split, or have the splits drawn by patient",
        )


def _impossible_ef(clips: pd.DataFrame) -> Iterator[Problem]:
    for _, row in clips[clips["ef"].notna() & ~clips["ef"].between(0, 100)].iterrows():
        yield _row_problem(
            row, kind="ef_out_of_range", detail=f"expected ef in 0-100 %, found {row['ef']:g}", remedy="correct the EF"
        )


def _swapped_volumes(clips: pd.DataFrame) -> Iterator[Problem]:
    for _, row in clips[clips["esv"] > clips["edv"]].iterrows():
        yield _row_problem(
            row,
            kind="esv_above_edv",
            detail=f"expected esv <= edv, found esv {row['esv']:g} and edv {row['edv']:g}",
            remedy="correct or swap the volumes",
        )


def _impossible_sizes(clips: pd.DataFrame) -> Iterator[Problem]:
    for column in ("fps", "n_frames", "height", "width"):
        for _, row in clips[(clips[column] <= 0).fillna(False)].iterrows():
            yield _row_problem(
                row,
                kind="impossible_value",
                detail=f"expected {column} above 0, found {row[column]:g}",
                remedy=f"correct {column}, or leave it empty to have it read from the file",
            )


def _row_problem(row: pd.Series, *, kind: str, detail: str, remedy: str) -> Problem:
    return Problem(severity="error", kind=kind, clip_id=row["clip_id"], file=row["path"], detail=detail, remedy=remedy)


def _text(cell: object) -> str:
    return cell if isinstance(cell, str) else ""
