"""Cards: the five figures of the first screen, each with its interval, what it means, and which direction is good."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from mnemoscope.audit.power import minimum_detectable_share
from mnemoscope.audit.verdict import Limits
from mnemoscope.core.types import AuditResult, Estimate, rungs
from mnemoscope.report.words import (
    NOT_AVAILABLE,
    NOT_MEASURED,
    RUNGS,
    count,
    decimal,
    interval,
    is_estimate,
    percent,
    plain,
    points,
    span,
    why,
)


@dataclass(frozen=True)
class Card:
    """One figure. ``good`` says which direction is good; an unmeasured one says why in ``meaning``."""

    title: str
    value: str
    of: str
    interval: str
    meaning: str
    good: str


def first_cards(result: AuditResult, clips: int, counted: Callable[[int | None], str] = count) -> list[Card]:
    """The five: leaks, hearing, learning, holding together, and the instrument.

    Args:
        result: the audit's numbers.
        clips: synthetic clips that were looked at.
        counted: says a count.
    """
    return [
        _leaks(result, clips, counted),
        _hearing(result),
        _learning(result, counted),
        _holding(result),
        _instrument(result),
    ]


def _missing(title: str, result: AuditResult, stage: str, without: str) -> Card:
    return Card(title, NOT_MEASURED, "", "", f"{why(result.absent, stage)}.", without)


def _leaks(result: AuditResult, clips: int, counted: Callable[[int | None], str]) -> Card:
    title, found = "Clips too close to a real patient", result.privacy
    if found is None:
        return _missing(title, result, "privacy", "Without it nothing is known about leaks.")
    return Card(
        title,
        counted(found.flagged),
        f"of {count(clips)}",
        f"{points(found.excess_rate.value)} over strangers, {interval(found.excess_rate, points)}"
        if is_estimate(found.excess_rate)
        else NOT_AVAILABLE,
        f"Closer than {found.percentile:g} % of strangers are. So many strangers would bring about "
        f"{counted(round(clips * (1 - found.percentile / 100)))}.",
        "Lower is better; far below 0 points, the clips only differ from real ones.",
    )


def _hearing(result: AuditResult) -> Card:
    title, found = "Smallest leak that would be noticed", rungs(result.power)
    if not found or result.power is None:
        return _missing(title, result, "power", "Without it, silence says little.")
    name, weakest = min(found.items(), key=lambda item: (item[1].tpr.low, item[0]))
    reached = sum(rung.tpr.low >= Limits().least_power for rung in found.values())
    share = result.power.get("minimum_detectable_share")
    value = "none" if not isinstance(share, float) else percent(share)
    return Card(
        title,
        value,
        "" if value == "none" else "of the set",
        (f"{interval(_detectable(result, share), percent)}; " if isinstance(share, float) else "")
        + f"copies noticed: at worst {percent(weakest.tpr.value)}, {span(weakest.tpr, percent)} ({plain(name)}); "
        f"{reached} of {len(RUNGS | found)} rungs reach the {100 * Limits().least_power:g} % asked for",
        "So many changed copies would show, four times in five; fewer may be there unseen."
        if value != "none"
        else "Not even a set of nothing but changed copies would be noticed.",
        "Lower is better: silence counts only from an audit that hears.",
    )


def _detectable(result: AuditResult, share: float) -> Estimate:
    """The smallest leak that is noticed, up to the whole set, at the ends of the rungs' intervals.

    One copied clip is in all rungs: the mean of their ends is used, which their being alike cannot make too narrow.
    """
    assert result.privacy is not None  # copies are noticed above its tau
    sizes = {f"n_{name}": result.sets[name].clips for name in ("synthetic", "holdout")}
    tpr = np.mean([(rung.tpr.high, rung.tpr.low) for rung in rungs(result.power).values()], axis=0)
    ends = (minimum_detectable_share(**sizes, percentile=result.privacy.percentile, tpr=float(rate)) for rate in tpr)
    return Estimate(share, *(1.0 if end is None else end for end in ends))


def _learning(result: AuditResult, counted: Callable[[int | None], str]) -> Card:
    title, found, train = "Training clips reached (“learned”)", result.recall, result.sets.get("train")
    if found is None or train is None:
        return _missing(title, result, "recall", "Nothing is known about whom the set leaves out.")
    matched = found.matched
    return Card(
        title,
        counted(found.learned),
        f"of {count(train.clips)}",
        f"{decimal(matched.ratio.value, 2)} times what strangers reach, {interval(matched.ratio, decimal)}"
        if matched
        else f"ratio to strangers {NOT_MEASURED}: {why(result.absent, 'recall.matched')}",
        f"The ratio compares equal numbers{_also(found.learned_share, 'of the training clips are a nearest one')}.",
        "A ratio of 1 is as broad as new real clips; lower leaves patients out.",
    )


def _holding(result: AuditResult) -> Card:
    title, found = "Videos that leap between frames", result.consistency
    if found is None:
        return _missing(title, result, "consistency", "Whether videos hold together is unknown.")
    return Card(
        title,
        percent(found.jumping.value),
        f"of {count(found.clips.get('synthetic'))}",
        interval(found.jumping, percent),
        f"They move further from frame to frame than 95 % of real ones{_also(found.frozen.value, 'hardly move')}.",
        "About 5 % or less is good: real videos leap that often.",
    )


def _instrument(result: AuditResult) -> Card:
    title, found = "Can the audit recognise a patient?", result.reid
    if found is None:
        return _missing(title, result, "reid", "Without it no other figure can be trusted.")
    return Card(
        title,
        decimal(found.auc.value),
        "AUC",
        interval(found.auc, decimal),
        "How often two clips of one patient score closer than clips of two. 0.5 is guessing, 1 is never wrong.",
        "Higher is better; all else rests on it.",
    )


def _also(share: float, told: str) -> str:
    """A share and what it is of; nothing where it is not said."""
    return "" if math.isnan(share) else f"; {percent(share)} {told}"
