"""Charts: the figures of the page, each with the same said in words."""

from collections.abc import Mapping
from dataclasses import dataclass

import pandas as pd
from markupsafe import Markup
from matplotlib.figure import Figure

from mnemoscope.audit.verdict import Limits
from mnemoscope.core.types import AuditResult, Consistency, Labels, Privacy, Recall, RungPower, Verification
from mnemoscope.report import figures, tables, words
from mnemoscope.report.pictures import svg


@dataclass(frozen=True)
class Chart:
    """A figure in the page, and the same said in words.

    ``axis`` maps values to the drawing: the value at the left and at the right end of the first panel, and where in the
    drawing these ends are; None where nothing in it moves.
    """

    image: Markup
    alt: str
    axis: tuple[float, float, float, float] | None = None


def histogram(
    samples: pd.DataFrame, holdout: pd.DataFrame, privacy: Privacy | None, *, fewest: int = 1
) -> Chart | None:
    """Similarity of the nearest training clip, synthetic beside holdout; None without clips.

    Bars of fewer than ``fewest`` clips are joined with their neighbours.
    """
    if samples.empty and holdout.empty:
        return None
    figure = figures.similarity_histogram(
        holdout["p_max"], samples["p_max"], tau=privacy.tau if privacy else None, fewest=fewest
    )
    alt = f"Two histograms. {_described(holdout, 'real holdout')} {_described(samples, 'synthetic')}"
    if privacy:
        alt += f" The threshold tau is {words.decimal(privacy.tau)}."
    image = svg(figure, name="histogram")
    return Chart(image, alt, _axis(figure))


def hits(samples: pd.DataFrame, result: AuditResult) -> Chart | None:
    """Training clips by the number of synthetic clips nearest to them; None without a recall test."""
    train = result.sets.get("train")
    if result.recall is None or train is None:
        return None
    found = tables.hits_per_clip(samples)
    most = words.count(int(found.iloc[0])) if len(found) else "0"
    alt = f"{words.count(len(found))} of {words.count(train.clips)} training clips are the nearest of a synthetic clip;"
    alt += f" the most-hit one {most} times."
    return Chart(svg(figures.hits_curve(found.to_numpy(), train_clips=train.clips), name="hits"), alt)


def ladder(power: Mapping[str, RungPower]) -> Chart | None:
    """What share of planted copies is noticed, by what was done to them; None without copies."""
    if not power:
        return None
    limits = Limits()
    figure = figures.ladder(
        {words.printable(name): rung for name, rung in power.items()},
        asked=limits.must_notice,
        least=limits.least_power,
    )
    found = (f"{words.plain(name)} {words.percent(rung.tpr.value)}" for name, rung in power.items())
    return Chart(svg(figure, name="ladder"), f"Share of planted copies above tau: {', '.join(found)}.")


def reach(recall: Recall | None) -> Chart | None:
    """How many training clips a number of clips reaches; None without curves."""
    if recall is None or not recall.curves:
        return None
    matched_n = recall.matched.n if recall.matched else None
    figure = figures.reach_curves(recall.curves, matched_n=matched_n)
    ends = (
        f"{words.count(curve.n[-1])} {name} clips reach {words.count(round(curve.expected[-1]))}"
        for name, curve in recall.curves.items()
        if curve.n
    )
    return Chart(svg(figure, name="reach"), f"Different training clips reached: {', '.join(ends)}.")


def lags(found: Consistency | None) -> Chart | None:
    """Similarity of later frames to the first; None if not measured."""
    if found is None:
        return None
    curves = {"real": found.real, "synthetic": found.synthetic, "of two patients": found.different}
    ends = (f"{name} {words.decimal(curve.median[-1])}" for name, curve in curves.items() if curve.median)
    alt = f"Median similarity of the last frame to the first: {', '.join(ends)}."
    return Chart(svg(figures.lag_curves(found), name="lags"), alt)


def rates(found: Verification | None) -> Chart | None:
    """What verification recognises at which rate of false alarms; None if not measured."""
    if found is None:
        return None
    told = (
        f"{words.percent(tpr.value)} at {words.level(rate)} false alarms"
        for rate, tpr in found.tpr_at_fpr.items()
        if tpr
    )
    alt = f"Pairs of one patient that are found: {', '.join(told) or words.NOT_MEASURED}."
    return Chart(svg(figures.verification_rates(found), name="rates"), alt)


def asked(found: Labels | None) -> Chart | None:
    """Measured against requested EF; None if there are no points."""
    if found is None or not found.points:
        return None
    agreed = found.requested_vs_measured
    error, r2 = words.decimal(agreed.mae.value), words.decimal(agreed.r2.value)
    alt = f"EF measured by EF asked for: mean error {error}, R² {r2}."
    return Chart(svg(figures.label_points(found), name="asked"), alt)


def _axis(figure: Figure) -> tuple[float, float, float, float]:
    """Ends of the first panel's axis, in its values and in points of the drawing (72 to the inch)."""
    axes = figure.axes[0]
    low, high = axes.get_xlim()
    left, right = (axes.transData.transform((value, 0.0))[0] * 72.0 / figure.dpi for value in (low, high))
    return float(low), float(high), float(left), float(right)


def _described(frame: pd.DataFrame, name: str) -> str:
    median = words.decimal(float(frame["p_max"].median()))
    return f"The median similarity of {words.count(len(frame))} {name} clips is {median}."
