"""Confusion: decisions of several models as one figure."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from mnemoscope.core.files import whole_file
from mnemoscope.report.figures import INK

Confusion = Sequence[Sequence[int]]

_PANEL_IN = 2.4
_DARK_SHARE = 0.55


def confusion_matrices(panels: Mapping[tuple[str, str], Confusion]) -> Figure:
    """One matrix for each (row title, column title): truth downwards, decision to the right, counts with row shares.

    Args:
        panels: ((true negatives, false positives), (false negatives, true positives)) by titles; rows and columns in
            the order of their first mention.
    """
    rows, columns = (list(dict.fromkeys(title[axis] for title in panels)) for axis in (0, 1))
    size = (_PANEL_IN * len(columns) + 0.6, _PANEL_IN * len(rows) + 0.4)
    figure = Figure(figsize=size, layout="constrained", facecolor="white")
    grid = figure.subplots(len(rows), len(columns), squeeze=False)
    for (row, column), counts in panels.items():
        _panel(grid[rows.index(row), columns.index(column)], np.asarray(counts), title=f"{column}, {row}")
    figure.supxlabel("decision at logit 0", color=INK, fontsize=10)
    figure.supylabel("truth", color=INK, fontsize=10)
    return figure


def _panel(axes: Axes, counts: np.ndarray, *, title: str) -> None:
    share = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    axes.imshow(share, cmap="Blues", vmin=0.0, vmax=1.0)
    axes.set_title(title, loc="left", color=INK, fontsize=10)
    axes.set_xticks([0, 1], ["different", "same"], color=INK, fontsize=9)
    axes.set_yticks([0, 1], ["different", "same"], color=INK, fontsize=9, rotation=90, va="center")
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    for (i, j), count in np.ndenumerate(counts):
        colour = "white" if share[i, j] > _DARK_SHARE else INK
        axes.text(j, i, f"{count:,}\n{share[i, j]:.1%}", ha="center", va="center", color=colour, fontsize=10)


def save_figure(figure: Figure, path: Path) -> list[Path]:
    """Writes ``path`` with the suffixes .png and .svg, the same bytes for the same figure."""
    written = [path.with_suffix(suffix) for suffix in (".png", ".svg")]
    with rc_context({"svg.hashsalt": path.stem, "svg.fonttype": "none"}):
        for file in written:
            metadata = {"Date": None} if file.suffix == ".svg" else {"Software": None}
            with whole_file(file) as temporary:
                figure.savefig(temporary, format=file.suffix[1:], dpi=150, metadata=metadata)
    return written
