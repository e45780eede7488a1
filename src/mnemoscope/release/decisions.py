"""Decisions: what a person decided on single synthetic clips."""

import csv
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from mnemoscope.core.errors import InputError

COLUMNS = ("clip_id", "decision", "who", "when", "why")
RELEASE, WITHHOLD = "release", "withhold"
_MOST_LISTED = 100
_FORMULA = "=+-@\t\r'"


@dataclass(frozen=True)
class Decision:
    """One person's word on one clip: ``release`` or ``withhold``, and who said so when and why."""

    decision: str
    who: str
    when: str
    why: str


def read_decisions(path: Path, *, clips: Collection[str]) -> dict[str, Decision]:
    """The last decision on each clip that a table names.

    Args:
        path: CSV with ``COLUMNS``.
        clips: ids of the synthetic clips that were audited.

    Raises:
        InputError: with every problem of the table.
    """
    rows = list(_rows(path))
    problems = [f"line {line}: {problem}" for line, cells in rows for problem in _problems(cells, clips)]
    if problems:
        more = len(problems) - _MOST_LISTED
        lines = [f"- {problem}" for problem in problems[:_MOST_LISTED]] + ([f"- and {more} more"] if more > 0 else [])
        raise InputError(
            f"{path}: {len(problems)} problems in the decisions; mend the lines, or export again (--decisions):\n"
            + "\n".join(lines)
        )
    return {
        clip_id: Decision(decision, who.strip(), when, why.strip()) for _, (clip_id, decision, who, when, why) in rows
    }


def _rows(path: Path) -> Iterator[tuple[int, list[str]]]:
    """Each row with the number of its last line."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            lines = csv.reader(file, strict=True)
            header = next(lines, [])
            if tuple(header) != COLUMNS:
                raise InputError(f"{path}: expected the header {','.join(COLUMNS)}, found {','.join(header)!r}")
            yield from ((lines.line_num, [_unguarded(cell) for cell in cells]) for cells in lines if cells)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(
            f"{path}: expected a readable CSV of decisions in UTF-8, got: {error} (--decisions)"
        ) from error


def _unguarded(cell: str) -> str:
    """A cell without the apostrophe that keeps spreadsheets from taking it for a formula."""
    return cell[1:] if cell[:1] == "'" and cell[1:2] and cell[1] in _FORMULA else cell


def _problems(cells: list[str], clips: Collection[str]) -> Iterator[str]:
    if len(cells) != len(COLUMNS):
        yield f"expected {len(COLUMNS)} cells, found {len(cells)}; quote a cell that holds a comma"
        return
    clip_id, decision, who, when, why = cells
    if clip_id not in clips:
        yield f"expected a clip of the audit, found {clip_id!a}"
    if decision not in (RELEASE, WITHHOLD):
        yield f"expected the decision {RELEASE} or {WITHHOLD}, found {decision!a}"
    if not _is_time(when):
        yield f"expected a time such as 2026-03-01T14:30:00Z, found {when!a}"
    if decision == RELEASE and not (who.strip() and why.strip()):
        yield "expected who released the clip, and why; found an empty cell"


def _is_time(text: str) -> bool:
    try:
        datetime.fromisoformat(text)
    except ValueError:
        return False
    return True
