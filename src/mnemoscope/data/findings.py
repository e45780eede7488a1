"""Findings: what decoding the clips says against them, one by one and side by side."""

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from typing import NamedTuple

import pandas as pd

from mnemoscope.data.clips import LATENT_SUFFIXES
from mnemoscope.data.examine import ClipFacts
from mnemoscope.data.manifest import Manifest
from mnemoscope.data.rules import REAL_SPLITS, Problem, Severity

_MAX_NAMED = 10


class _Row(NamedTuple):
    clip_id: str
    path: str
    n_frames: int | None
    height: int | None
    width: int | None

    def problem(self, kind: str, detail: str, remedy: str, *, severity: Severity = "error") -> Problem:
        return Problem(severity=severity, kind=kind, clip_id=self.clip_id, file=self.path, detail=detail, remedy=remedy)


def clip_problems(manifest: Manifest, facts: Mapping[str, ClipFacts]) -> Iterator[Problem]:
    """Per clip: absent, unreadable, truncated, damaged, empty, constant, frozen, not finite, not as listed."""
    columns = manifest.clips[list(_Row._fields)].astype(object)
    for cells in columns.where(columns.notna(), None).itertuples(index=False):
        row = _Row(*cells)
        fact = facts[row.clip_id]
        yield from _damage(row, fact)
        if fact.fingerprint is not None and not fact.cut_short:
            yield from _disagreement(row, fact)


def _bare(error: str) -> str:
    """An error without the path and the remedy, which a problem says itself."""
    return error.partition(": ")[2].rpartition("; ")[0] or error


def _damage(row: _Row, fact: ClipFacts) -> Iterator[Problem]:
    if not fact.present:
        yield row.problem("absent", "listed, but there is no such file", "restore the file or drop its row")
    elif fact.error:
        kind = "truncated" if fact.n_frames else "unreadable"
        yield row.problem(kind, _bare(fact.error), "export the clip again or leave it out")
    elif not fact.n_frames:
        yield row.problem("empty", "expected at least one frame, decoded none", "leave the clip out")
    if fact.cut_short:
        yield row.problem("truncated", fact.cut_short, "copy or export the clip again")
    if fact.n_damaged:
        detail = f"{fact.n_damaged} of {fact.n_frames} frames could only be decoded in part"
        yield row.problem("damaged", detail, "look at the clip; copy or export it again", severity="warning")
    yield from _emptiness(row, fact)


def _emptiness(row: _Row, fact: ClipFacts) -> Iterator[Problem]:
    if fact.nan:
        yield row.problem("not_finite", "expected finite values, found NaN or infinity", "encode the clip again")
    if fact.flat:
        yield row.problem("constant", "one value fills every frame", "leave the clip out")
    elif fact.frozen:
        yield row.problem("frozen", f"all {fact.n_frames} frames are the same", "leave the clip out")


def _disagreement(row: _Row, fact: ClipFacts) -> Iterator[Problem]:
    if row.n_frames is not None and row.n_frames != fact.n_frames:
        detail = f"the table lists {row.n_frames} frames, the file holds {fact.n_frames}"
        yield row.problem("frame_count", detail, "correct the table, or leave the cell empty", severity="warning")
    # A latent's table gives the size of the video it was made from.
    if row.path.lower().endswith(LATENT_SUFFIXES) or row.height is None or row.width is None:
        return
    if (row.height, row.width) != (fact.height, fact.width):
        detail = f"the table lists {row.height}x{row.width}, the frames are {fact.height}x{fact.width}"
        yield row.problem("frame_size", detail, "correct the table, or leave the cells empty", severity="warning")


def duplicate_problems(manifest: Manifest, facts: Mapping[str, ClipFacts]) -> Iterator[Problem]:
    """Clips whose decoded frames are the same, within a split, across splits, and synthetic ones like real ones."""
    groups = defaultdict(list)
    for clip_id, fact in facts.items():
        if fact.fingerprint and not fact.flat:
            groups[fact.fingerprint].append(clip_id)
    rows = manifest.clips.set_index("clip_id")
    for group in groups.values():
        if len(group) > 1:
            yield _duplicate(rows.loc[group])


def _duplicate(rows: pd.DataFrame) -> Problem:
    splits = set(rows["split"])
    real = splits & set(REAL_SPLITS)
    names = ", ".join(f"{clip_id} ({split})" for clip_id, split in zip(rows.index, rows["split"], strict=True))
    kind, remedy = "duplicate", "keep one of them"
    if len(real) > 1:
        kind, remedy = "duplicate_across_splits", "keep it in one split"
    elif real and "synthetic" in splits:
        kind, remedy = "copy_of_real", "an audit will flag it; never release it"
    return Problem(
        severity="error" if len(real) > 1 else "warning",
        kind=kind,
        clip_id=str(rows.index[0]),
        file=str(rows["path"].iloc[0]),
        detail=f"expected different clips, found the same frames in {names}",
        remedy=remedy,
    )


def mixture_problems(manifest: Manifest, facts: Mapping[str, ClipFacts]) -> Iterator[Problem]:
    """Frame sizes or rates that differ between clips."""
    whole = {clip_id: fact for clip_id, fact in facts.items() if fact.fingerprint}
    sizes = {clip_id: f"{fact.height}x{fact.width}" for clip_id, fact in whole.items()}
    rates = dict(zip(manifest.clips["clip_id"], manifest.clips["fps"], strict=True))
    known = {clip_id: f"{rate:.3g} fps" for clip_id, rate in rates.items() if clip_id in whole and pd.notna(rate)}
    yield from _mixture(
        sizes, kind="mixed_sizes", remedy="they will be resized: choose how (--set frames.fit), or check the source"
    )
    yield from _mixture(
        known, kind="mixed_rates", remedy="resample to one rate (--set frames.target_fps) where time matters"
    )


def _mixture(values: Mapping[str, str], *, kind: str, remedy: str) -> Iterator[Problem]:
    counts = Counter(values.values())
    if len(counts) < 2:
        return
    common = counts.most_common()
    told = ", ".join(f"{value} ({n} clips)" for value, n in common[:_MAX_NAMED])
    more = f" and {len(common) - _MAX_NAMED} more" if len(common) > _MAX_NAMED else ""
    odd = sorted(clip_id for clip_id, value in values.items() if value != common[0][0])[:_MAX_NAMED]
    detail = f"expected one, found {len(common)}: {told}{more}; not {common[0][0]}: {', '.join(odd)}"
    yield Problem(severity="warning", kind=kind, detail=detail, remedy=remedy)
