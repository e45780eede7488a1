"""Changes: two or more audits side by side, and whether their intervals say that anything changed."""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from mnemoscope.audit.intervals import share_difference
from mnemoscope.core.files import write_text
from mnemoscope.core.types import AuditResult, Estimate
from mnemoscope.report import words
from mnemoscope.report.cards import first_cards
from mnemoscope.report.differences import Difference

Number = Estimate | float | None
_NOT_NUMBERS = (
    "reid.confusion",
    "recall.curves",
    "recall.top_hits",
    "recall.subgroups",
    "consistency.lag_share",
    "labels.points",
)
_NOT_CURVES = ("consistency.real", "consistency.synthetic", "consistency.different")
# Where each number is better: +1 higher, −1 lower; of all others no direction is good by itself.
BETTER = {
    "reid.auc": 1,
    "privacy.flagged": -1,
    "privacy.flag_rate": -1,
    "privacy.excess_rate": -1,
    "privacy.fdr_flagged": -1,
    "privacy.evidence.confirmed": -1,
    "recall.learned": 1,
    "recall.learned_share": 1,
    "recall.matched.ratio": 1,
    "recall.known_share": 1,
    "recall.manifold.coverage": 1,
    "recall.learned_and_flagged": -1,
    "power.minimum_detectable_share": -1,
    "power.tpr": 1,
    "consistency.frozen": -1,
    "consistency.jumping": -1,
    "labels.requested_vs_measured.r2": 1,
    "labels.requested_vs_measured.mae": -1,
}


NOT_COMPARABLE = "not comparable"
# What is said where no change is.
UNCHANGED = frozenset({"no change shown", "no interval", words.NOT_MEASURED, NOT_COMPARABLE})


# The number behind each figure of the first screen; "power.tpr" is that of the rung where fewest copies are noticed.
_FIVE: dict[str, Callable[[float | None], str]] = {
    "privacy.excess_rate": words.points,
    "power.tpr": words.points,
    "recall.matched.ratio": words.decimal,
    "consistency.jumping": words.points,
    "reid.auc": words.decimal,
}
# Of which part of a figure its change speaks.
_PARTS = {
    "privacy.excess_rate": "over strangers",
    "power.tpr": "copies noticed at worst",
    "recall.matched.ratio": "ratio",
}
# What the verdict rests on.
_OF_VERDICT = ("reid.", "privacy.", "power.")
_OF_RUNG = re.compile(r"power\.\w+\.tpr")


@dataclass(frozen=True)
class Figure:
    """One of the five figures in all audits.

    Attributes:
        title: in plain words.
        good: which direction is.
        shown: of each audit, its value and its interval in words.
        says: of each later audit, as in :class:`Change`.
        by: of each later audit, the difference and its interval in words; empty where there is none.
    """

    title: str
    good: str
    shown: list[tuple[str, str]]
    says: list[str]
    by: list[str]


@dataclass(frozen=True)
class Comparison:
    """Audits held against the first of them.

    Attributes:
        differs: what else is not the same, and which numbers that forbids comparing.
        figures: the five of the first screen.
        changes: every number.
    """

    differs: list[Difference]
    figures: list[Figure]
    changes: list["Change"]

    @property
    def forbidden(self) -> list[Difference]:
        """What forbids comparing."""
        return [part for part in self.differs if part.forbids]


@dataclass(frozen=True)
class Change:
    """One number in all audits.

    Attributes:
        name: its place in ``audit.json``.
        numbers: of each audit, in their order; None where it was not measured.
        differences: of each later audit to the first; None where one of the two has no interval.
        says: of each later audit: higher, lower, better, worse, "no change shown", "no interval", "not
            measured", or "not comparable".
    """

    name: str
    numbers: list[Number]
    differences: list[Estimate | None]
    says: list[str]


def compared(results: Sequence[AuditResult], differs: Sequence[Difference]) -> Comparison:
    """Every number of two or more audits, the first being what the others are held against.

    A difference has the interval of Newcombe's method 10, from the intervals of the two numbers as if they were
    independent. Audits that share their holdout are not, so that the interval is rather too wide than too narrow; a
    change is said only where it excludes zero.

    Args:
        results: at least two.
        differs: what else differs between them, in the same order.
    """
    tables = [dict(_numbers(asdict(result))) for result in results]
    names = list(dict.fromkeys(name for table in tables for name in table))
    found = [_change(name, [table.get(name) for table in tables], differs) for name in names]
    return Comparison(list(differs), _figures(results, tables, differs), found)


def _figures(
    results: Sequence[AuditResult], tables: Sequence[Mapping[str, Number]], differs: Sequence[Difference]
) -> list[Figure]:
    cards = [first_cards(result, result.sets["synthetic"].clips) for result in results]
    numbers = [{**table, "power.tpr": _weakest(table)} for table in tables]
    figures = []
    for (name, said), of_all in zip(_FIVE.items(), zip(*cards, strict=True), strict=True):
        change = _change(name, [table.get(name) for table in numbers], differs)
        of = f"{_PARTS[name]}: " if name in _PARTS else ""
        by = ["" if d is None else f"{of}{said(d.value)}, {words.interval(d, said)}" for d in change.differences]
        shown = [(f"{card.value} {card.of}".strip(), card.interval or card.meaning) for card in of_all]
        figures.append(Figure(of_all[0].title, of_all[0].good, shown, change.says, by))
    return figures


def _weakest(table: Mapping[str, Number]) -> Estimate | None:
    rungs = [found for name, found in table.items() if _OF_RUNG.fullmatch(name) and isinstance(found, Estimate)]
    return min(rungs, key=lambda tpr: tpr.low, default=None)


def _change(name: str, numbers: list[Number], differs: Sequence[Difference]) -> Change:
    first, *others = numbers
    found = [
        share_difference(other, first) if isinstance(first, Estimate) and isinstance(other, Estimate) else None
        for other in others
    ]
    says = [
        words.NOT_MEASURED if first is None or other is None else _said(name, difference)
        for other, difference in zip(others, found, strict=True)
    ]
    for place in range(len(others)):
        if any(part.forbidden(name, place + 1) for part in differs):
            found[place], says[place] = None, NOT_COMPARABLE
    return Change(name, numbers, found, says)


def _said(name: str, difference: Estimate | None) -> str:
    if difference is None:
        return "no interval"
    if difference.low <= 0.0 <= difference.high:
        return "no change shown"
    up = difference.value > 0
    good = BETTER.get(name)
    if good is None:
        return "higher" if up else "lower"
    return ("higher" if up else "lower") + (": better" if up == (good > 0) else ": worse")


def _numbers(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Number]]:
    for key, value in values.items():
        name = f"{prefix}{key}"
        if name in (*_NOT_NUMBERS, *_NOT_CURVES) or name in ("verdict", "absent", "gallery"):
            continue
        if isinstance(value, Mapping) and set(value) == {"value", "low", "high"}:
            yield name, Estimate(**value)
        elif isinstance(value, Mapping):
            yield from _numbers(value, f"{name}.")
        elif isinstance(value, int | float) and not isinstance(value, bool):
            yield name, float(value)


def as_rows(results: Mapping[str, AuditResult], found: Comparison) -> list[list[str]]:
    """A table of texts: a header, the verdicts, then one row per number."""
    titles = list(results)
    head = ["", *titles, *(f"{title} against {titles[0]}" for title in titles[1:])]
    verdicts = [result.verdict.status for result in results.values()]
    said = [
        NOT_COMPARABLE
        if any(part.forbidden(number, place) for part in found.differs for number in _OF_VERDICT)
        else "same"
        if verdict == verdicts[0]
        else "changed"
        for place, verdict in enumerate(verdicts[1:], 1)
    ]
    return [head, ["verdict", *verdicts, *said], *(_row(change) for change in found.changes)]


def _row(change: Change) -> list[str]:
    pairs = zip(change.differences, change.says, strict=True)
    compared = [says if found is None else f"{says}: {_signed(found)}" for found, says in pairs]
    return [change.name, *(words.NOT_MEASURED if n is None else _shown(n) for n in change.numbers), *compared]


def _shown(number: Estimate | float) -> str:
    if isinstance(number, Estimate):
        return f"{words.leaf(number.value)} [{words.leaf(number.low)}, {words.leaf(number.high)}]"
    return words.leaf(number)


def _signed(found: Estimate) -> str:
    return f"{found.value:+.4g} [{found.low:+.4g}, {found.high:+.4g}]".replace("-", words.MINUS)


def write_changes(results: Mapping[str, AuditResult], found: Comparison, path: Path) -> Path:
    """Writes the comparison as a page that asks no network and runs no script.

    Args:
        results: audits by title, the first being what the others are held against.
        found: they :func:`compared`.
        path: the ``.html`` file.
    """
    from mnemoscope.report.page import environment

    rows = as_rows(results, found)
    template = environment().get_template("compare.html.j2")
    page = template.render(head=rows[0], rows=rows[1:], results=results, found=found)
    write_text(path, page.encode("utf-8", "backslashreplace").decode("utf-8"))
    return path
