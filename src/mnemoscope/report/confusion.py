"""Confusion: decisions of several models as one figure, of a size that a paper prints."""

from collections.abc import Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from mnemoscope.core.files import whole_file
from mnemoscope.report.figures import INK

Confusion = Sequence[Sequence[int]]

# The paper's column and text width in inches, and its size of letters in figures.
COLUMN_IN, TEXT_IN = 3.25, 6.875
PRINT_DPI = 300
PRINTED: dict[Any, Any] = {"font.size": 8.0, "axes.titlesize": 8.0, "axes.linewidth": 0.6, "lines.linewidth": 1.2}
_DARK_SHARE = 0.55


@rc_context(PRINTED)
def confusion_matrices(panels: Mapping[tuple[str, str], Confusion]) -> Figure:
    """One matrix for each (row title, column title): truth downwards, decision to the right, counts with row shares.

    Args:
        panels: ((true negatives, false positives), (false negatives, true positives)) by titles; rows and columns in
            the order of their first mention.
    """
    rows, columns = (list(dict.fromkeys(title[axis] for title in panels)) for axis in (0, 1))
    width = printed_width(len(columns))
    size = (width, (width - 0.5) / len(columns) * len(rows) + 0.5)
    figure = Figure(figsize=size, layout="constrained", facecolor="white")
    grid = figure.subplots(len(rows), len(columns), squeeze=False)
    for (i, row), (j, column) in product(enumerate(rows), enumerate(columns)):
        if (row, column) in panels:
            _panel(grid[i, j], np.asarray(panels[row, column]), title=f"{column}, {row}")
        else:
            grid[i, j].set_axis_off()
    figure.supxlabel("decision at logit 0", color=INK, fontsize=8)
    figure.supylabel("truth", color=INK, fontsize=8)
    return figure


def printed_width(columns: int) -> float:
    """Width in inches of a figure of so many panels beside each other: the paper's column or its whole text."""
    return COLUMN_IN if columns == 1 else TEXT_IN


def _panel(axes: Axes, counts: np.ndarray, *, title: str) -> None:
    share = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    axes.imshow(share, cmap="Blues", vmin=0.0, vmax=1.0)
    axes.set_title(title, loc="left", color=INK)
    axes.set_xticks([0, 1], ["different", "same"], color=INK)
    axes.set_yticks([0, 1], ["different", "same"], color=INK, rotation=90, va="center")
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    for (i, j), count in np.ndenumerate(counts):
        colour = "white" if share[i, j] > _DARK_SHARE else INK
        axes.text(j, i, f"{count:,}\n{share[i, j]:.1%}", ha="center", va="center", color=colour)


def save_figure(figure: Figure, path: Path) -> list[Path]:
    """Writes ``path`` with the suffixes .png (300 dpi) and .svg, the same bytes for the same figure."""
    written = [path.with_suffix(suffix) for suffix in (".png", ".svg")]
    with rc_context(PRINTED | {"svg.hashsalt": path.stem, "svg.fonttype": "none"}):
        for file in written:
            metadata = {"Date": None} if file.suffix == ".svg" else {"Software": None}
            with whole_file(file) as temporary:
                figure.savefig(temporary, format=file.suffix[1:], dpi=PRINT_DPI, metadata=metadata)
    return written
