"""Absent: a number that the data do not carry is null, and its reason stands beside it."""

from collections.abc import Callable
from typing import TypeVar

from mnemoscope.core.errors import DegenerateValues, TooFewSamples

T = TypeVar("T")
Absent = dict[str, str]  # dotted name of the number in audit.json → reason


def attempt(absent: Absent, name: str, compute: Callable[[], T]) -> T | None:
    """A number, or None and its reason in ``absent`` where there are too few samples or they carry nothing."""
    try:
        return compute()
    except (TooFewSamples, DegenerateValues) as error:
        absent[name] = str(error)
        return None
