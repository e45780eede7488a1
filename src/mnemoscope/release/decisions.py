"""Decisions: what a person decided on single synthetic clips."""

import csv
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from mnemoscope.core.errors import InputError

COLUMNS = ("clip_id", "decision", "who", "when", "why")
AUDIT_COLUMN = "audit"
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


@dataclass(frozen=True)
class _Row:
    """A row, the number of its last line, and how many cells the header has."""

    line: int
    width: int
    cells: list[str]


@dataclass(frozen=True)
class Decided:
    """What decisions are about.

    Attributes:
        clips: ids of the synthetic clips that were audited.
        audit: the audit's own name, see :func:`~mnemoscope.audit.run.results.audit_name`; None takes any.
        finished: when it was.
    """

    clips: Collection[str]
    audit: str | None = None
    finished: datetime | None = None


def read_decisions(path: Path, about: Decided) -> dict[str, Decision]:
    """The last decision on each clip that a table names.

    Args:
        path: CSV with ``COLUMNS``, and ``AUDIT_COLUMN`` where the report wrote it.
        about: the audit; sets of other seeds have clips of the same names.

    Raises:
        InputError: with every problem of the table.
    """
    rows = list(_rows(path))
    problems = [f"line {row.line}: {problem}" for row in rows for problem in _problems(row, about)]
    if problems:
        more = len(problems) - _MOST_LISTED
        lines = [f"- {problem}" for problem in problems[:_MOST_LISTED]] + ([f"- and {more} more"] if more > 0 else [])
        raise InputError(
            f"{path}: {len(problems)} problems in the decisions; mend the lines, or export again (--decisions):\n"
            + "\n".join(lines)
        )
    return {
        clip_id: Decision(decision, who.strip(), when, why.strip())
        for clip_id, decision, who, when, why, *_audit in (row.cells for row in rows)
    }


def _rows(path: Path) -> Iterator[_Row]:
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            lines = csv.reader(file, strict=True)
            header = next(lines, [])
            if tuple(header) not in (COLUMNS, (*COLUMNS, AUDIT_COLUMN)):
                raise InputError(f"{path}: expected the header {','.join(COLUMNS)}, found {','.join(header)!r}")
            yield from (
                _Row(lines.line_num, len(header), [_unguarded(cell) for cell in cells]) for cells in lines if cells
            )
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(
            f"{path}: expected a readable CSV of decisions in UTF-8, got: {error} (--decisions)"
        ) from error


def _unguarded(cell: str) -> str:
    """A cell without the apostrophe that keeps spreadsheets from taking it for a formula."""
    return cell[1:] if cell[:1] == "'" and cell[1:2] and cell[1] in _FORMULA else cell


def _problems(row: _Row, about: Decided) -> Iterator[str]:
    if len(row.cells) != row.width:
        yield f"expected {row.width} cells, found {len(row.cells)}; quote a cell that holds a comma"
        return
    clip_id, decision, who, when, why, *audit = row.cells
    if clip_id not in about.clips:
        yield f"expected a clip of the audit, found {clip_id!a}"
    if decision not in (RELEASE, WITHHOLD):
        yield f"expected the decision {RELEASE} or {WITHHOLD}, found {decision!a}"
    if audit and about.audit and audit[0] != about.audit:
        yield "expected a decision on this audit, found one that the report of another audit wrote"
    made = _time(when)
    if made is None:
        yield f"expected a time such as 2026-03-01T14:30:00Z, found {when!a}"
    elif _day(made) > _day(datetime.now(UTC)) + 1:
        yield f"expected a time that has come, found {when!a}"
    elif not audit and about.finished and _day(made) < _day(about.finished):
        yield f"expected a decision made after the audit ({about.finished:%Y-%m-%d}), found one of {when!a}"
    if decision == RELEASE and not (who.strip() and why.strip()):
        yield "expected who released the clip, and why; found an empty cell"


def _time(text: str) -> datetime | None:
    try:
        return datetime.fromisoformat(text)
    except ValueError:
        return None


def _day(time: datetime) -> int:
    """A number; a time without zone counts as it stands."""
    return (time.astimezone(UTC) if time.tzinfo else time).toordinal()
