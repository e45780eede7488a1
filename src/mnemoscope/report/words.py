"""Words: numbers and verdicts for a reader without machine learning; absent is said, NaN is never shown."""

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup, escape

from mnemoscope.audit.verdict import not_tested
from mnemoscope.core.types import AuditResult, Estimate, Status

NOT_MEASURED = "not measured"
NO_REASON = "the audit gives no reason"
NOT_AVAILABLE = "not available"
NOT_RECORDED = "not recorded"
MINUS = "−"
FEWEST = 5
UNSAID = f"not said (under {FEWEST} clips)"
NBSP = "\u00a0"


@dataclass(frozen=True)
class Answer:
    """The verdict for a data steward: a sign, a word, and what it means for the set."""

    sign: str
    word: str
    headline: str
    meaning: str


ANSWERS: dict[Status, Answer] = {
    "pass": Answer(
        "✓",
        "Pass",
        "This synthetic set may leave, as far as it was tested.",
        "No test that was run found more traces of training patients than a set of strangers would show. "
        "What was not tested, listed below, stays open.",
    ),
    "fail": Answer(
        "✕",
        "Fail",
        "This synthetic set should not leave as it is.",
        "At least one test found more traces of training patients than chance explains. Make the set anew, or remove "
        "the clips concerned and audit what is left with a model trained anew (--seed 1): the model that chose what to "
        "remove would pass it. No decision on single clips lifts a fail: release export refuses the set.",
    ),
    "inconclusive": Answer(
        "?",
        "Inconclusive",
        "It cannot be said yet whether this synthetic set may leave.",
        "The audit found no reason for a clear yes or a clear no. Keep the set in the house until the reasons below "
        "are dealt with.",
    ),
}

CORE = {
    "reid": "whether the instrument recognises a patient at all",
    "privacy": "whether synthetic clips are too close to training clips",
    "recall": "which training clips the generator has learned",
}
RUNGS = {
    "exact": "copied as it is",
    "neighbouring_frame": "one frame beside those compared",
    "other_frame": "frames half-way between those compared",
    "vae_round_trip": "through the encoder and back",
    "time_shift": "frames a quarter of the way to the next compared",
    "gain": "20 % brighter or darker",
    "gamma": "other contrast curve",
    "speckle": "speckle noise of 20 %",
    "noise": "noise of 6 gray levels",
    "blur": "blurred by 1 pixel",
    "jpeg": "recompressed, JPEG quality 30",
    "rescale": "halved in size and back",
    "zoom": "5 % smaller",
    "shift": "moved by 4 pixels",
    "rotation": "turned by 10°",
    "flip": "mirrored",
    "blend": "30 % of another patient mixed in",
    "sector_mask": "another sector's outline",
    "border": "borders blacked out",
}
HEADS = {
    "pred": "trained head, used in this audit",
    "l1": "sum of differences (L1)",
    "l2": "Euclidean distance (L2)",
    "corr": "correlation",
    "cosine": "cosine",
}
PROBES = {
    "unchanged": "nothing changed, for comparison",
    "mask_hidden": "sector outline hidden in all clips",
    "borders_hidden": "borders hidden in all clips",
    "mask_swapped": "sector outline of another clip",
    "text_swapped": "text of another clip burned in",
    "borders_swapped": "borders of another clip",
}


def plain(name: str) -> str:
    """A name of ``audit.json`` as words: time_shift is time shift."""
    return name.replace("_", " ")


def count(value: int | None) -> str:
    """A whole number with thousands marked: 100,000."""
    return _said(value, lambda x: _signed(f"{x:,.0f}"))


def suppressed_count(value: int | None) -> str:
    """A whole number for a page that leaves the house: one to four are said to be under five, NaN is all but so few."""
    if value is not None and math.isnan(value):
        return f"all but under {FEWEST}"
    return f"under {FEWEST}" if value is not None and 0 < value < FEWEST else count(value)


def gives_away(count: float, of: float) -> bool:
    """Whether a count, or the rest of so many, is from one to four."""
    return any(0 < round(part) < FEWEST for part in (count, of - count))


def decimal(value: float | None, digits: int = 3) -> str:
    """A number with a fixed number of decimals: 0.998."""
    return _said(value, lambda x: _signed(f"{x:,.{digits}f}"))


def tenths(value: float | None) -> str:
    """A number with one decimal: an expected count."""
    return decimal(value, 1)


def percent(share: float | None) -> str:
    """A share (0–1) in percent; below one percent with two decimals, and never rounded to a false zero."""
    return _said(share, lambda x: f"{_percent_digits(x)}{NBSP}%")


def points(share: float | None) -> str:
    """A difference of shares in percentage points, with its sign."""
    return _said(share, lambda x: f"{'+' if x > 0 else ''}{_percent_digits(x)}{NBSP}points")


def p_value(value: float | None) -> str:
    """A p-value: three decimals, and "below 0.001" under that."""
    return _said(value, lambda x: "below 0.001" if x < 0.001 else f"{x:.3f}")


def seconds(value: float | None) -> str:
    """A duration in s, min or h."""
    return _said(value, _duration)


def span(estimate: Estimate | None, said: Callable[[float | None], str]) -> str:
    """The ends of an estimate's 95 % interval, said by ``said``; a unit that both have is given once."""
    if estimate is None:
        return NOT_MEASURED
    low, high = said(estimate.low), said(estimate.high)
    _, _, unit = high.rpartition(NBSP)
    return f"{low.removesuffix(f'{NBSP}{unit}')} to {high}"


def middle(found: Estimate | float | None, said: Callable[[float | None], str]) -> str:
    """An estimate's value, or a bare number, said by ``said``."""
    return said(found.value if isinstance(found, Estimate) else found)


def is_estimate(found: object) -> bool:
    """Whether a number has an interval."""
    return isinstance(found, Estimate) and not math.isnan(found.value)


def level(rate: str) -> str:
    """A false-positive rate of ``audit.json``, "0.001", in percent: 0.1 %."""
    return f"{100 * float(rate):g}{NBSP}%"


def megabytes(value: float | None) -> str:
    """An amount of memory in MB."""
    return _said(value, lambda x: f"{x:,.0f} MB")


def interval(estimate: Estimate | None, said: Callable[[float | None], str]) -> str:
    """The 95 % interval of an estimate, named as such."""
    if estimate is None or math.isnan(estimate.value):
        return middle(estimate, said)
    return f"95{NBSP}% interval {span(estimate, said)}"


def moment(text: str | None) -> str:
    """A time of the run record, to the minute: 2026-11-23 06:40 UTC."""
    return NOT_RECORDED if text is None else f"{text[:16].replace('T', ' ')} UTC"


def sentence(text: str) -> tuple[str, str]:
    """A reason as its plain sentence and the numbers behind it, which follow a semicolon or a last bracket."""
    plain_part, mark, numbers = text.partition("; ")
    if not mark and text.endswith(")") and " (" in text:
        plain_part, _, numbers = text[:-1].rpartition(" (")
    return _full(plain_part), _full(numbers)


def _full(text: str) -> str:
    """A text as a sentence; a symbol such as p keeps its case."""
    return (
        (text[:1].upper() if text[1:2].isalpha() else text[:1])
        + text[1:]
        + ("." if text and not text.endswith(".") else "")
    )


def printable(text: object) -> str:
    """Text in which every control, direction-changing or undecodable character is spelt out."""
    return "".join(c if c.isprintable() or c in ("\n", NBSP) else f"\\u{ord(c):04x}" for c in str(text))


def exact(text: str) -> Markup:
    """Text for an attribute that scripts read: escaped, but character by character the same once it is parsed."""
    return Markup(str(escape(text)).replace("\r", "&#13;"))  # a bare one would be read as a new line


def shown(value: Any) -> Any:
    """What a template prints for any value: the last net under NaN, None and hostile characters."""
    if isinstance(value, Markup):
        return value
    if value is None or (isinstance(value, float) and not math.isfinite(value)):
        return NOT_AVAILABLE
    return printable(value) if isinstance(value, str) else value


def shown_redacted(value: Any) -> Any:
    """The same for a page that leaves the house, where a number that is not available was taken out."""
    text = shown(value)
    return text.replace(NOT_AVAILABLE, UNSAID) if isinstance(text, str) and not isinstance(text, Markup) else text


def untested(result: AuditResult) -> list[str]:
    """What nobody looked at: each absent core test, the verdict's own list, and what follows from the result."""
    known = [*result.verdict.not_tested, *not_tested(result)]
    core = [f"{text} ({why(result.absent, stage)})" for stage, text in CORE.items() if getattr(result, stage) is None]
    return list(dict.fromkeys([*core, *known]))


def by_reason(untested: list[str]) -> list[str]:
    """What was not tested, all of one reason together, most of them first: copies changed by gain, blur: no videos."""
    together: dict[str, list[str]] = {}
    for item in untested:
        what, _, reason = item.partition(": ")
        together.setdefault(reason or item, []).append(what)
    ranked = sorted(together.items(), key=lambda group: -len(group[1]))
    return [
        ", ".join([what, *(other.removeprefix("copies changed by ") for other in others)])
        + ("" if reason == what else f": {reason}")
        for reason, (what, *others) in ranked
    ]


def why(absent: Mapping[str, str], key: str, otherwise: str = NO_REASON) -> str:
    """Why the number called ``key``, or all below it, is null; ``otherwise`` where the audit does not say."""
    below = dict.fromkeys(reason for name, reason in absent.items() if name.startswith(f"{key}."))
    return absent.get(key) or "; ".join(below) or otherwise


def flat(value: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Nested keys and values as dotted keys and leaves, in their own order."""
    for key, inner in value.items():
        if isinstance(inner, Mapping) and inner and set(inner) != {"value", "low", "high"}:
            yield from flat(inner, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", leaf(inner)


def leaf(value: Any) -> str:
    """One value of a record as text: floats short, lists joined, nothing said as such."""
    if isinstance(value, float):
        return _said(value, lambda x: _signed(f"{x:.6g}"))
    if isinstance(value, Mapping) and set(value) == {"value", "low", "high"}:
        return leaf(Estimate(**value))
    if isinstance(value, Estimate):
        return f"{leaf(value.value)} (95 % interval {leaf(value.low)} to {leaf(value.high)})"
    if isinstance(value, list | tuple):
        return ", ".join(leaf(item) for item in value) or "none"
    if isinstance(value, Mapping):
        return ", ".join(f"{key}: {leaf(item)}" for key, item in value.items()) or "none"
    return "none" if value is None else printable(value)


def _said(value: Any, say: Callable[[Any], str]) -> str:
    if value is None:
        return NOT_MEASURED
    if isinstance(value, float) and math.isnan(value):
        return NOT_AVAILABLE
    return say(value)


def _percent_digits(share: float) -> str:
    value = 100.0 * share
    digits = 1 if abs(value) >= 1.0 else 2
    if value != 0.0 and abs(value) < 0.005:
        return f"{'between −0.01 and 0' if value < 0 else 'under 0.01'}"
    return _signed(f"{value:.{digits}f}")


def _duration(value: float) -> str:
    if value < 60:
        return f"{value:.1f} s"
    if value < 3600:
        return f"{value / 60:.1f} min"
    return f"{value / 3600:.1f} h"


def _signed(text: str) -> str:
    bare = text.lstrip("-")
    nothing = not bare.strip("0.,")
    return bare if nothing or bare == text else MINUS + bare
