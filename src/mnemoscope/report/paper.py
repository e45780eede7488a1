"""Paper: Figures 3 to 6 of the paper in its arrangement, a panel for each audited set, as files for papers."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from mnemoscope.core.types import Consistency, Curve
from mnemoscope.report import figures
from mnemoscope.report.confusion import confusion_matrices, save_figure
from mnemoscope.report.material import Material
from mnemoscope.report.tables import hits_per_clip

FOLDER = "figures"
_PANEL_IN = (3.4, 2.9)
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
        axes.axvline(tau, color="black", linewidth=1.4)
        axes.set_xlabel("$P_{max}$ (logit)")

    return _row(list(scores), draw, y="share of the set, %")


def map_panels(places: Mapping[str, Places]) -> Figure:
    """Fig. 5: the map of train and synthetic clips; learned train clips are dark.

    Args:
        places: by the set's title.
    """

    def draw(axes: Axes, title: str) -> None:
        found = places[title]
        size = 9.0 if len(found.synthetic) < 5000 else 1.5
        drawn = (
            (found.synthetic, ORANGE, "synthetic", size),
            (found.train[~found.learned], LIGHT, "train", 1.5 * size),
            (found.train[found.learned], DARK, "train, learned", 1.5 * size),
        )
        for points, colour, label, area in drawn:
            axes.scatter(points[:, 0], points[:, 1], s=area, c=colour, label=label, linewidths=0, rasterized=True)
        axes.set_xticks([])
        axes.set_yticks([])
        axes.grid(visible=False)

    return _row(list(places), draw, y="")


def consistency_panels(found: Mapping[str, Consistency]) -> Figure:
    """Fig. 6: the score of each later frame against the first, within a real and a synthetic clip and across clips.

    Args:
        found: by the set's title.
    """

    def draw(axes: Axes, title: str) -> None:
        of = found[title]
        lag = [100.0 * share for share in of.lag_share]
        curves: Sequence[tuple[Curve, str, str]] = (
            (of.real, DARK, "real"),
            (of.synthetic, ORANGE, "synthetic"),
            (of.different, figures.QUIET, "different video"),
        )
        for curve, colour, label in curves:
            axes.plot(lag, curve.median, color=colour, label=label)
            axes.fill_between(lag, curve.low, curve.high, color=colour, alpha=0.2, linewidth=0)
        axes.set_xlabel("frame, % of the clip")

    return _row(list(found), draw, y="score against frame 0 (logit)")


def _row(titles: list[str], draw: Callable[[Axes, str], None], *, y: str) -> Figure:
    width, height = _PANEL_IN
    figure = Figure(figsize=(width * len(titles), height), layout="constrained", facecolor="white")
    panels = figure.subplots(1, len(titles), squeeze=False)[0]
    for axes, title in zip(panels, titles, strict=True):
        axes.spines[["top", "right"]].set_visible(False)
        axes.set_title(title, parse_math=False)
        draw(axes, title)
    panels[0].set_ylabel(y)
    panels[0].legend(frameon=False, markerscale=2)
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
        drawn["fig3-confusion"] = confusion_matrices({(v.space, title): v.confusion for title, v in reid.items()})
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
