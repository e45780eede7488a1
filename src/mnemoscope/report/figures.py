"""Figures: arrays in, a matplotlib Figure out; colours differ in lightness and pattern, not by hue alone."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter
from numpy.typing import ArrayLike, NDArray

from mnemoscope.core.types import Consistency, Curve, Estimate, Labels, RarefactionCurve, RungPower, Verification

INK = "#1c2733"
QUIET = "#4d5b69"
LIVE_TAU = "live-tau"
FAINT = "#c9d1d9"
HOLDOUT = "#3b6ea5"
SYNTHETIC = "#b3470d"

_BINS = 48
_TAIL_BINS = 24
_SIZE_IN = (8.4, 3.3)
_ROW_IN = 0.36
_MARKS = "^sDv"
_SYNTHETIC_STYLE = (SYNTHETIC, "--", "////", "synthetic")


@dataclass(frozen=True)
class _Set:
    values: NDArray[np.float64]
    label: str
    colour: str
    hatch: str | None
    line: str


def similarity_histogram(
    p_max_holdout: ArrayLike, p_max_synthetic: ArrayLike, *, tau: float | None, fewest: int = 1
) -> Figure:
    """How similar each clip's nearest training clip is, for innocents and suspects, as shares of their set.

    Args:
        p_max_holdout: best logit of each holdout clip, shape (N,); values that are not finite are left out.
        p_max_synthetic: best logit of each synthetic clip, shape (N,); likewise.
        tau: threshold in logits, or None when there is none.
        fewest: neighbouring bars are joined until each has as many clips.
    """
    holdout, synthetic = _finite(p_max_holdout), _finite(p_max_synthetic)
    sets = (
        _Set(holdout, f"real, never trained on (holdout), n = {holdout.size:,}", HOLDOUT, None, "-"),
        _Set(synthetic, f"synthetic, n = {synthetic.size:,}", SYNTHETIC, "////", "--"),
    )
    edges = np.histogram_bin_edges(np.concatenate([holdout, synthetic]), bins=_BINS)
    beyond = tau is not None and edges[-1] > tau and (holdout.size or synthetic.size)
    figure = Figure(figsize=_SIZE_IN, layout="constrained", facecolor="none")
    panels = figure.subplots(1, 2, width_ratios=(2, 1)) if beyond else [figure.subplots()]
    _outlines(panels[0], sets, edges, title="all clips" if beyond else "", fewest=fewest)
    if tau is not None:
        _mark(panels[0], tau, f"tau = {tau:.3f}")
        # A second line, which the page moves when its reader tries another threshold.
        panels[0].axvline(tau, color=SYNTHETIC, linewidth=1.4, linestyle=(0, (1, 2)), gid=LIVE_TAU)
    if tau is not None and beyond:
        tail = np.linspace(tau, edges[-1], _TAIL_BINS + 1)
        _outlines(panels[1], sets, tail, title="above tau, enlarged (log scale)", fewest=fewest)
        shares = np.concatenate([shares_pct(part.values, tail, fewest=fewest) for part in sets if part.values.size])
        # One clip of a large set is a tiny share: the axis starts below it, so that no lone copy is hidden.
        if shares.any():
            _log_scale(panels[1], 0.5 * shares[shares > 0].min(), 2.0 * shares.max())
    figure.supxlabel("similarity to the nearest training clip (logit; right is closer)", color=INK, fontsize=10)
    figure.legend(
        *panels[0].get_legend_handles_labels(), frameon=False, labelcolor=INK, loc="outside upper left", ncols=2
    )
    return figure


def hits_curve(hits: ArrayLike, *, train_clips: int) -> Figure:
    """Training clips in order of how often they are somebody's nearest; those never hit were not learned.

    Args:
        hits: hits of each train clip that was hit at least once, shape (K,), K ≤ ``train_clips``.
        train_clips: clips in the gallery.
    """
    ranked = np.sort(np.asarray(hits, dtype=np.int64))[::-1]
    figure, axes = _single("training clips, most-hit first, % of all", "synthetic clips nearest to it")
    edges, heights = steps(ranked)
    x_pct = 100.0 * edges / train_clips
    learned_pct = 100.0 * ranked.size / train_clips
    if ranked.size:
        axes.stairs(heights, x_pct, baseline=0.5, fill=True, color=SYNTHETIC, alpha=0.35)
        axes.stairs(heights, x_pct, baseline=0.5, color=SYNTHETIC, linewidth=1.4)
        _log_scale(axes, 0.5, 2.0 * float(ranked[0]))
    else:
        axes.set_ylim(0.0, 1.0)
    axes.axvspan(learned_pct, 100.0, facecolor="none", edgecolor=FAINT, hatch="//", linewidth=0.0)
    axes.set_xlim(0.0, 100.0)
    axes.set_title(
        f"learned: {ranked.size:,} of {train_clips:,}   (hatched: never the nearest, {train_clips - ranked.size:,})",
        loc="left",
        color=INK,
        fontsize=10,
    )
    return figure


def ladder(power: Mapping[str, RungPower], *, asked: Collection[str], least: float) -> Figure:
    """Which share of planted copies is flagged, rung by rung: at tau with its interval, and at fixed false alarms.

    Args:
        power: rung → its power, top row first; at least one.
        asked: rungs of which the verdict asks for ``least``; they are marked with a star.
        least: that share, 0–1.
    """
    names = list(power)
    figure = Figure(figsize=(_SIZE_IN[0], 1.2 + _ROW_IN * len(names)), layout="constrained", facecolor="none")
    axes = figure.subplots()
    _plain(axes)
    axes.grid(axis="y", visible=False)
    axes.grid(axis="x", color=FAINT, linewidth=0.6)
    row = np.arange(len(names))
    value, low, high = _bounds([power[name].tpr for name in names])
    axes.hlines(row - 0.2, low, high, color=SYNTHETIC, linewidth=2.0)
    axes.plot(
        value, row - 0.2, "o", color=SYNTHETIC, markersize=6, label="above tau, with 95 % interval", clip_on=False
    )
    for place, level in enumerate(levels(power)):
        found = {i: power[name].tpr_at_fpr.get(level) for i, name in enumerate(names)}
        share = [(i, 100.0 * rate.value) for i, rate in found.items() if rate is not None]
        axes.plot(
            [x for _, x in share],
            [i + 0.02 + 0.14 * place for i, _ in share],
            linestyle="none",
            marker=_MARKS[place % len(_MARKS)],
            markersize=5,
            color=INK,
            markerfacecolor="none",
            label=f"at {100 * float(level):g} % false alarms",
            clip_on=False,
        )
    axes.axvline(100.0 * least, color=INK, linewidth=1.2, linestyle=(0, (4, 2)), zorder=1)
    labels = [f"{'* ' if name in asked else ''}{name.replace('_', ' ')}" for name in names]
    axes.set_yticks(row, labels, parse_math=False)
    axes.tick_params(axis="y", length=0)
    axes.set_ylim(len(names) - 0.4, -0.6)
    axes.set_xlim(0.0, 100.0)
    axes.set_xlabel(f"planted copies that are noticed, %   (dashed: {100 * least:g} %, asked of rungs with *)")
    figure.legend(frameon=False, labelcolor=INK, loc="outside upper left", ncols=2)
    return figure


def levels(power: Mapping[str, RungPower]) -> list[str]:
    """The false-positive rates of a ladder, as its rungs name them."""
    return list(dict.fromkeys(level for rung in power.values() for level in rung.tpr_at_fpr))


def reach_curves(curves: Mapping[str, RarefactionCurve], *, matched_n: int | None) -> Figure:
    """How many distinct training clips a number of clips reaches, synthetic beside holdout, with 95 % bands.

    Args:
        curves: ``holdout`` and ``synthetic``, or one of them.
        matched_n: number of clips at which the two are compared; None if they are not.
    """
    figure, axes = _single("clips looked at", "different training clips reached")
    styles = {"holdout": (HOLDOUT, "-", None, "real, never trained on (holdout)"), "synthetic": _SYNTHETIC_STYLE}
    for name in (name for name in styles if name in curves):
        curve = curves[name]
        _banded(axes, curve.n, Curve(curve.expected, curve.low, curve.high), *styles[name])
    most = [curve.n[-1] for curve in curves.values() if curve.n]
    if most and max(most) > 10 * min(most):
        # The shorter curve would be a speck in the corner.
        axes.set_xscale("log")
        axes.set_yscale("symlog", linthresh=1.0)
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(lambda value, _: f"{value:,.9g}")
    axes.set_ylim(bottom=0.0)
    if matched_n is not None:
        _mark(axes, matched_n, f"compared at n = {matched_n:,}")
    figure.legend(frameon=False, labelcolor=INK, loc="outside upper left", ncols=2)
    return figure


def lag_curves(found: Consistency) -> Figure:
    """How similar later frames are to a clip's first one: medians, with bands from the 5th to the 95th percentile."""
    figure, axes = _single("how far into the clip, %", "similarity to its first frame (logit)")
    lag_pct = [100.0 * share for share in found.lag_share]
    _banded(axes, lag_pct, found.different, QUIET, ":", "....", "real, frames of two patients")
    _banded(axes, lag_pct, found.real, HOLDOUT, "-", None, "real, frames of one clip")
    _banded(axes, lag_pct, found.synthetic, *_SYNTHETIC_STYLE[:3], "synthetic, frames of one clip")
    figure.legend(frameon=False, labelcolor=INK, loc="outside upper left", ncols=3)
    return figure


def verification_rates(found: Verification) -> Figure:
    """Which share of pairs of one patient is recognised at which rate of false alarms, and at logit 0."""
    figure, axes = _single("pairs of two patients taken for one, % (false alarms)", "pairs of one patient found, %")
    rates = {100.0 * float(rate): tpr for rate, tpr in found.tpr_at_fpr.items() if tpr is not None}
    if rates:
        value, low, high = _bounds(list(rates.values()))
        axes.vlines(list(rates), low, high, color=HOLDOUT, linewidth=2.0)
        axes.plot(list(rates), value, "o", color=HOLDOUT, label="at a set rate, with 95 % interval", clip_on=False)
    x, y = (100.0 * said_same / max(1, said_different + said_same) for said_different, said_same in found.confusion)
    axes.plot(x, y, "s", color=INK, markersize=8, markerfacecolor="none", label="at logit 0", clip_on=False)
    guess = np.geomspace(0.01, 100.0, 100)
    axes.plot(guess, guess, color=QUIET, linestyle=":", label="guessing")
    axes.set_xscale("symlog", linthresh=0.1)
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
    axes.set_xlim(0.0, 100.0)
    axes.set_ylim(0.0, 100.0)
    figure.legend(frameon=False, labelcolor=INK, loc="outside upper left", ncols=3)
    return figure


def label_points(found: Labels) -> Figure:
    """The EF read off each clip by the EF that it was made for."""
    figure, axes = _single("EF asked for, %", "EF measured, %")
    requested, measured = np.array(found.points).T
    axes.plot([0.0, 100.0], [0.0, 100.0], color=QUIET, linestyle=":", label="what was asked for")
    axes.plot(requested, measured, "o", color=SYNTHETIC, markersize=4, alpha=0.6, label="a synthetic clip")
    axes.set_xlim(0.0, 100.0)
    axes.set_ylim(0.0, 100.0)
    figure.legend(frameon=False, labelcolor=INK, loc="outside upper left", ncols=2)
    return figure


def shares_pct(values: NDArray[np.float64], edges: NDArray[np.float64], *, fewest: int = 1) -> NDArray[np.float64]:
    """Share of ``values`` in each bin, in percent of all of them.

    Bins share evenly with those to their right until they have ``fewest``, what is left at the end with those to its
    left; if all have fewer, none is shown.
    """
    counts, _ = np.histogram(values, bins=edges)
    shared, begin = counts.astype(np.float64), 0
    for end in range(1, len(counts) + 1):
        if 0 < counts[begin:end].sum() < fewest or 0 < counts[end:].sum() < fewest:
            continue
        shared[begin:end] = counts[begin:end].mean()
        begin = end
    return 100.0 * shared / values.size if counts.sum() >= fewest else np.zeros(len(counts))


def steps(ranked: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """A falling sequence as few steps: edges (S+1,) in ranks, and the height of each step (S,)."""
    changes = np.flatnonzero(np.diff(ranked)) + 1
    edges = np.concatenate([[0], changes, [ranked.size]]) if ranked.size else np.zeros(1, dtype=np.int64)
    return edges, ranked[edges[:-1]]


def _single(x: str, y: str) -> tuple[Figure, Axes]:
    figure = Figure(figsize=_SIZE_IN, layout="constrained", facecolor="none")
    axes = figure.subplots()
    _plain(axes)
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    return figure, axes


def _banded(
    axes: Axes, x: Collection[float], curve: Curve, colour: str, line: str, hatch: str | None, label: str
) -> None:
    at = np.asarray(x, dtype=np.float64)
    axes.fill_between(at, curve.low, curve.high, facecolor=colour, alpha=0.18, linewidth=0.0)
    if hatch:
        axes.fill_between(
            at, curve.low, curve.high, facecolor="none", edgecolor=colour, hatch=hatch, alpha=0.3, linewidth=0.0
        )
    axes.plot(at, curve.median, color=colour, linestyle=line, linewidth=1.8, label=label)


def _bounds(estimates: list[Estimate]) -> NDArray[np.float64]:
    """Values, lower and upper ends in percent, (3, N)."""
    return 100.0 * np.array([[found.value, found.low, found.high] for found in estimates], dtype=np.float64).T


def _finite(values: ArrayLike) -> NDArray[np.float64]:
    array = np.asarray(values, dtype=np.float64)
    return array[np.isfinite(array)]


def _plain(axes: Axes) -> None:
    axes.set_facecolor("none")
    for label in (axes.xaxis.label, axes.yaxis.label, axes.title):
        label.set_color(INK)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(INK)
    axes.tick_params(colors=INK, which="both")
    axes.grid(axis="y", color=FAINT, linewidth=0.6)
    axes.set_axisbelow(True)


def _outlines(axes: Axes, sets: tuple[_Set, ...], edges: NDArray[np.float64], *, title: str, fewest: int) -> None:
    _plain(axes)
    axes.set_ylabel("share of the set, %")
    axes.set_title(title, loc="left", color=INK, fontsize=10)
    for part in sets:
        if part.values.size:
            heights = shares_pct(part.values, edges, fewest=fewest)
            axes.stairs(heights, edges, fill=True, facecolor=part.colour, alpha=0.22, linewidth=0.0)
            axes.stairs(heights, edges, color=part.colour, linewidth=1.6, linestyle=part.line, label=part.label)
            if part.hatch:
                axes.stairs(
                    heights, edges, fill=True, facecolor="none", edgecolor=part.colour, hatch=part.hatch, alpha=0.25
                )


def _log_scale(axes: Axes, low: float, high: float) -> None:
    axes.set_yscale("log")
    axes.set_ylim(low, high)
    axes.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0) if high < 100.0 * low else (1.0,)))
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:,.9g}")
    axes.yaxis.set_minor_formatter(NullFormatter())


def _mark(axes: Axes, x: float, text: str) -> None:
    axes.axvline(x, color=INK, linewidth=1.4, linestyle=(0, (4, 2)))
    axes.annotate(
        text,
        (x, 1.02),
        xycoords=("data", "axes fraction"),
        ha="center",
        va="bottom",
        color=INK,
        fontsize=10,
    )
