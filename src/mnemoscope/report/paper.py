"""Paper: Figures 3 to 6 of the paper in its arrangement, a panel for each audited set, as files for papers."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from mnemoscope.core.types import Consistency, Curve
from mnemoscope.report import figures
from mnemoscope.report.confusion import PRINTED, confusion_matrices, printed_width, save_figure
from mnemoscope.report.material import Material
from mnemoscope.report.tables import hits_per_clip

CONFUSION = "fig3-confusion"
_MOST_COLUMNS = 3
_MANY_POINTS = 5000
_BINS = 60
# The paper's colours: synthetic orange, train light blue, learned dark blue.
ORANGE, LIGHT, DARK = "#f28e2b", "#9ecae1", "#08519c"


@dataclass(frozen=True)
class Places:
    """A map's points: (N, 2) of the train clips, which of them are learned (N,), and (M, 2) of the synthetic ones."""

    train: np.ndarray
    learned: np.ndarray
    synthetic: np.ndarray


def score_panels(scores: Mapping[str, tuple[np.ndarray, np.ndarray, float]]) -> Figure:
    """Fig. 4: p_max of holdout and of synthetic clips, with tau as a black line.

    Args:
        scores: by the set's title, p_max of the holdout (N,), of the synthetic clips (M,), and tau.
    """

    def draw(axes: Axes, title: str) -> None:
        holdout, synthetic, tau = scores[title]
        edges = np.histogram_bin_edges(np.concatenate([holdout, synthetic]), bins=_BINS)
        for values, colour, label in ((holdout, DARK, "real test"), (synthetic, ORANGE, "synthetic")):
            share = figures.shares_pct(values, edges)
            axes.stairs(share, edges, fill=True, color=colour, alpha=0.55, label=label)
        axes.axvline(tau, color="black", linewidth=1.2)
        axes.set_xlabel("$P_{max}$ (logit)")

    return _grid(list(scores), draw, y="share of the set, %")


def map_panels(places: Mapping[str, Places]) -> Figure:
    """Fig. 5: the map of train and synthetic clips; learned train clips are dark.

    Args:
        places: by the set's title.
    """

    def draw(axes: Axes, title: str) -> None:
        found = places[title]
        many = len(found.synthetic) + len(found.train) > _MANY_POINTS
        size = 0.5 if many else 3.0
        drawn = (
            (found.synthetic, ORANGE, "synthetic", size),
            (found.train[~found.learned], LIGHT, "train", 1.5 * size),
            (found.train[found.learned], DARK, "train, learned", 1.5 * size),
        )
        for points, colour, label, area in drawn:
            axes.scatter(points[:, 0], points[:, 1], s=area, c=colour, label=label, linewidths=0, rasterized=many)
        axes.set_xticks([])
        axes.set_yticks([])
        axes.spines[:].set_visible(True)

    return _grid(list(places), draw, y="")


def consistency_panels(found: Mapping[str, Consistency]) -> Figure:
    """Fig. 6: the score of each later frame against the first, within a real and a synthetic clip and across clips.

    Args:
        found: by the set's title.
    """

    def draw(axes: Axes, title: str) -> None:
        of = found[title]
        lag = [100.0 * share for share in of.lag_share]
        curves: Sequence[tuple[Curve, str, str, str]] = (
            (of.real, DARK, "-", "real"),
            (of.synthetic, ORANGE, "--", "synthetic"),
            (of.different, figures.QUIET, ":", "different video"),
        )
        for curve, colour, line, label in curves:
            axes.plot(lag, curve.median, color=colour, linestyle=line, label=label)
            axes.fill_between(lag, curve.low, curve.high, color=colour, alpha=0.2, linewidth=0)
        axes.set_xlabel("frame, % of the clip")

    return _grid(list(found), draw, y="score against frame 0 (logit)")


@rc_context(PRINTED)
def _grid(titles: list[str], draw: Callable[[Axes, str], None], *, y: str) -> Figure:
    """A panel for each title, and below them one legend."""
    columns = min(len(titles), _MOST_COLUMNS)
    rows = -(-len(titles) // columns)
    width = printed_width(columns)
    height = rows * 0.85 * width / max(columns, 1.3) + 0.3
    figure = Figure(figsize=(width, height), layout="constrained", facecolor="white")
    panels = figure.subplots(rows, columns, squeeze=False)
    for axes in panels.flat[len(titles) :]:
        axes.set_axis_off()
    for axes, title in zip(panels.flat, titles, strict=False):
        axes.spines[["top", "right"]].set_visible(False)
        axes.set_title(title, parse_math=False)
        draw(axes, title)
    for axes in panels[:, 0]:
        axes.set_ylabel(y)
    named = panels[0, 0].get_legend_handles_labels()
    figure.legend(*named, loc="outside lower center", ncols=3, frameon=False, markerscale=2)
    return figure


def write_figures(materials: Mapping[str, Material], folder: Path) -> list[Path]:
    """Writes Figures 3 to 6 of one or several audits as PNG and SVG; a figure that no audit has is left out.

    Args:
        materials: by the set's title.
        folder: where the files go.
    """
    reid = {title: part.result.reid for title, part in materials.items() if part.result.reid}
    held = {title: part.result.consistency for title, part in materials.items() if part.result.consistency}
    scores = {title: _scores(part) for title, part in materials.items() if part.result.privacy}
    places = {title: _places(part, part.places) for title, part in materials.items() if part.places is not None}
    drawn: dict[str, Figure] = {}
    if reid:
        drawn[CONFUSION] = confusion_matrices({(v.space, title): v.confusion for title, v in reid.items()})
    if scores:
        drawn["fig4-p-max"] = score_panels(scores)
    if places:
        drawn["fig5-map"] = map_panels(places)
    if held:
        drawn["fig6-consistency"] = consistency_panels(held)
    return [path for name, figure in drawn.items() for path in save_figure(figure, folder / name)]


def _scores(material: Material) -> tuple[np.ndarray, np.ndarray, float]:
    assert material.result.privacy is not None
    holdout, synthetic = (part["p_max"].to_numpy(np.float64) for part in (material.holdout, material.samples))
    return holdout, synthetic, material.result.privacy.tau


def _places(material: Material, places: pd.DataFrame) -> Places:
    points = {name: part for name, part in places.groupby("set")}
    train, synthetic = points["train"], points["synthetic"]
    learned = train["clip_id"].isin(hits_per_clip(material.samples).index).to_numpy()
    return Places(train[["x", "y"]].to_numpy(), learned, synthetic[["x", "y"]].to_numpy())
