"""Checks: every problem of a data set in one list, each with its file and a remedy."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field, fields
from fractions import Fraction
from pathlib import Path

import pandas as pd

from mnemoscope.core.errors import ConfigError, InputError
from mnemoscope.core.types import SPLITS
from mnemoscope.data.examine import ClipFacts, examine
from mnemoscope.data.findings import clip_problems, duplicate_problems, mixture_problems
from mnemoscope.data.listing import scan
from mnemoscope.data.manifest import Manifest
from mnemoscope.data.rules import Problem, content_problems, structure_problems

Progress = Callable[[int, int], None]


@dataclass(frozen=True, kw_only=True)
class Expectation:
    """What the data set is wanted for.

    Attributes:
        percentile: of the privacy threshold, in percent, in (0, 100); holdout then needs enough clips for it.
        min_clips: clips wanted, by split.
        min_patients: patients wanted, by split.
    """

    percentile: float | None = None
    min_clips: Mapping[str, int] = field(default_factory=dict)
    min_patients: Mapping[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.percentile is not None and not 0 < self.percentile < 100:
            raise ConfigError(f"expected percentile (--percentile) in (0, 100), got {self.percentile:g}")
        unknown = sorted({*self.min_clips, *self.min_patients} - set(SPLITS))
        if unknown:
            raise ConfigError(f"expected splits of {', '.join(SPLITS)}, got {', '.join(unknown)}")


@dataclass(frozen=True)
class CheckReport:
    """What a check found.

    Attributes:
        problems: errors first, then by kind and clip.
        facts: what decoding showed, by clip_id; the fingerprints in it serve later stages.
    """

    problems: tuple[Problem, ...]
    facts: Mapping[str, ClipFacts]

    @property
    def errors(self) -> tuple[Problem, ...]:
        """The problems that would make a result wrong."""
        return tuple(problem for problem in self.problems if problem.severity == "error")

    def to_table(self) -> pd.DataFrame:
        """One row per problem: severity, kind, clip_id, file, detail, remedy."""
        columns = [f.name for f in fields(Problem)]
        return pd.DataFrame([asdict(problem) for problem in self.problems], columns=columns)


def check(
    manifest: Manifest,
    *,
    folders: Sequence[Path] | None = None,
    expect: Expectation | None = None,
    workers: int = 2,
    progress: Progress | None = None,
) -> CheckReport:
    """Decodes every clip once and lists all problems of files, table and set.

    Args:
        manifest: the clips; one joint manifest of all sets finds copies across them.
        folders: where to look for clips that the manifest does not list; by default the manifest's root.
        expect: what the set is wanted for.
        workers: threads that decode, 1 or 2.
        progress: called with (clips done, clips in all) after each clip.

    Returns:
        The problems and what decoding showed of each clip. A bad file is a problem in the list, never an exception.

    Raises:
        ConfigError: when workers is neither 1 nor 2.
    """
    if workers not in (1, 2):
        raise ConfigError(f"expected 1 or 2 workers (--workers), got {workers}")
    facts = _examined(manifest, workers, progress)
    problems = [
        *structure_problems(manifest.clips),
        *content_problems(manifest.clips),
        *clip_problems(manifest, facts),
        *_unlisted(manifest, [manifest.root] if folders is None else folders),
        *duplicate_problems(manifest, facts),
        *mixture_problems(manifest, facts),
        *_too_few(manifest, facts, expect or Expectation()),
    ]
    problems.sort(key=lambda p: (p.severity, p.kind, p.clip_id, p.file))
    return CheckReport(tuple(problems), facts)


def needed_for_percentile(percentile: float) -> int:
    """Holdout clips without which a percentile would be the largest value: ceil(100 / (100 - percentile))."""
    # As a decimal fraction: in floating point 99.9 would ask for 1001.
    return math.ceil(100 / (100 - Fraction(str(percentile))))


def _examined(manifest: Manifest, workers: int, progress: Progress | None) -> dict[str, ClipFacts]:
    facts: dict[str, ClipFacts] = {}
    pool = ThreadPoolExecutor(workers)
    try:
        found = pool.map(examine, manifest.files)
        for clip_id, fact in zip(manifest.clips["clip_id"], found, strict=True):
            facts[clip_id] = fact
            if progress is not None:
                progress(len(facts), len(manifest))
    finally:
        # Ctrl-C must not wait for the clips still in the queue.
        pool.shutdown(cancel_futures=True)
    return facts


def _unlisted(manifest: Manifest, folders: Sequence[Path]) -> Iterator[Problem]:
    listed = {file.resolve() for file in manifest.files}
    for folder in folders:
        for file in _media_below(folder):
            if file.resolve() not in listed:
                yield Problem(
                    severity="warning",
                    kind="unlisted",
                    file=str(file),
                    detail="lies in the folder, but no table lists it",
                    remedy="add a row or take the file out",
                )


def _media_below(folder: Path) -> list[Path]:
    try:
        found = scan(folder)
    except InputError:
        # No media at all: then every listed file is reported absent.
        return []
    return [found.root / name for name in found.files]


def _too_few(manifest: Manifest, facts: Mapping[str, ClipFacts], expect: Expectation) -> Iterator[Problem]:
    usable = manifest.clips[[facts[clip_id].fingerprint is not None for clip_id in manifest.clips["clip_id"]]]
    for split in SPLITS:
        rows = usable[usable["split"] == split]
        found = {"clips": len(rows), "patients": rows["patient_id"].nunique()}
        wanted = {"clips": expect.min_clips.get(split, 0), "patients": expect.min_patients.get(split, 0)}
        for what, least in wanted.items():
            if found[what] < least:
                yield _shortage(split, f"at least {least} {what}", found[what], f"add {what} or ask for fewer")
        if split == "holdout" and expect.percentile is not None:
            least = needed_for_percentile(expect.percentile)
            if found["clips"] < least:
                wish = f"at least {least} clips for a {expect.percentile:g}th percentile"
                yield _shortage(split, wish, found["clips"], "add holdout clips or lower percentile (--percentile)")


def _shortage(split: str, wish: str, found: int, remedy: str) -> Problem:
    detail = f"expected {wish} that decode in {split}, found {found}"
    return Problem(severity="error", kind="too_few", detail=detail, remedy=remedy)
