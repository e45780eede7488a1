"""What every benchmark reports, and how it is printed."""

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Row:
    """One measured figure.

    Args:
        name: what was measured.
        value: the figure.
        unit: of ``value``.
        peer: whom it is compared with; empty if with nobody.
        ratio: how many times better than the peer; None without one.
        target: least ratio, or greatest ``value`` where there is no ratio; None if nothing was promised.
        note: how it was measured, as far as the name does not say.
    """

    name: str
    value: float
    unit: str
    peer: str = ""
    ratio: float | None = None
    target: float | None = None
    note: str = ""

    @property
    def met(self) -> bool | None:
        """Whether the target was met; None if there is none."""
        if self.target is None:
            return None
        return self.value <= self.target if self.ratio is None else self.ratio >= self.target


def table(rows: Iterable[Row]) -> str:
    """The rows as a Markdown table."""
    head = ("what", "value", "against", "ratio", "target", "met", "note")
    lines = [head, ("---",) * len(head), *(_cells(row) for row in rows)]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def _cells(row: Row) -> tuple[str, ...]:
    ratio = "" if row.ratio is None else f"{row.ratio:.1f} ×"
    bound = "≤ {:g} " + row.unit if row.ratio is None else "≥ {:g} ×"
    target = "" if row.target is None else bound.format(row.target)
    met = {None: "", True: "yes", False: "NO"}[row.met]
    return (row.name, f"{row.value:.4g} {row.unit}", row.peer, ratio, target, met, row.note)
