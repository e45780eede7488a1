"""Selection: from a finished audit to the list of clips to keep, and what that does to matched recall."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd
from pydantic import Field

from mnemoscope.audit.rarefaction import matched_recall
from mnemoscope.audit.run.absent import Absent, attempt
from mnemoscope.core.config import Config
from mnemoscope.core.errors import InputError, OutputConflict, TooFewSamples
from mnemoscope.core.files import whole_file
from mnemoscope.core.rng import generator
from mnemoscope.core.types import ClipIndex, Flags, MatchedRecall
from mnemoscope.release.audited import Audited, listed
from mnemoscope.release.decisions import AUDIT_COLUMN, RELEASE, WITHHOLD, Decision
from mnemoscope.release.select import EF_EDGES, LARGE, NOTHING, coverage_greedy, ef_bins, in_rounds, shared_out

_HOW = "chosen_by"
Rule = Literal["recall-small", "recall-large", "coverage"]


class SelectConfig(Config):
    """Selection of clips.

    Attributes:
        rule: recall-small (a clip of each train clip that is reached), recall-large (up to five) or coverage (greedy).
        count: how many; needed by coverage, else all that the rule gives.
        ef_prior: of coverage: train (as the train clips), uniform, or none.
        ef_weight: what a clip of a wanted ejection fraction is worth, beside 1 for a train clip newly reached and 1/2
            for one reached again; below 1/2 a new train clip always comes first.
        drop_leaked: also drop unflagged clips whose nearest train clip a flagged one points at.
        seed: of the order among equals.
    """

    rule: Rule = "coverage"
    count: int | None = Field(None, ge=1)
    ef_prior: Literal["train", "uniform", "none"] = "train"
    ef_weight: float = Field(0.4, ge=0)
    drop_leaked: bool = False
    seed: int = 0


@dataclass(frozen=True)
class Selection:
    """The clips to keep.

    Attributes:
        clips: ids, in the order of choice.
        rule: that chose them.
        how: all settings of the choice, in words.
        audit: name of the audit, see :func:`~mnemoscope.audit.run.results.audit_name`.
        dropped: flagged, withheld and (where asked for) leaked clips that could not be chosen.
        usable: clips that could be.
        learned: train clips reached by all clips (before), by those that could be chosen (usable), and after.
        matched: matched recall of the same three, at one number of queries; None where ``absent`` says why.
        absent: why a number is None.
    """

    clips: list[str]
    rule: Rule
    how: str
    audit: str
    dropped: dict[str, int]
    usable: int
    learned: dict[str, int]
    matched: dict[str, MatchedRecall | None]
    absent: Absent


def select_clips(audited: Audited, config: SelectConfig, decisions: Mapping[str, Decision]) -> Selection:
    """Chooses unflagged clips that raise coverage, by the audit's tables alone.

    Args:
        audited: the audit.
        config: rule and number.
        decisions: withheld clips are dropped, released ones may be chosen although flagged.

    Raises:
        TooFewSamples: if the rule gives fewer clips than asked for.
        InputError: if it needs a number or ejection fractions and has none.
    """
    samples = audited.samples
    words = pd.Series({clip_id: decision.decision for clip_id, decision in decisions.items()}, dtype=object)
    word = words.reindex(samples.index)
    kinds = {
        "withheld": (word == WITHHOLD).to_numpy(),
        "flagged": (samples["flagged"] & (word != RELEASE)).to_numpy(),
        "leaked": (
            samples["nearest_clip_id"].isin(samples.loc[samples["flagged"], "nearest_clip_id"]) & (word != RELEASE)
        ).to_numpy(),
    }
    if not config.drop_leaked:
        del kinds["leaked"]
    usable = ~np.logical_or.reduce(list(kinds.values()))
    nearest, _ = pd.factorize(samples["nearest_clip_id"])
    reached = np.where(samples["gated"], nearest, NOTHING)
    chosen = _chosen(audited, config, reached, usable)
    absent: Absent = {}
    sets = {"before": np.arange(len(samples)), "usable": np.flatnonzero(usable), "after": chosen}
    return Selection(
        clips=samples.index[chosen].tolist(),
        rule=config.rule,
        how=f"{_told(config)}, chosen={len(chosen)}",
        audit=audited.decided.audit or "",
        dropped={name: int(flags.sum()) for name, flags in kinds.items()},
        usable=int(usable.sum()),
        learned={name: _distinct(reached[rows]) for name, rows in sets.items()},
        matched=_recalls(audited, sets, absent),
        absent=absent,
    )


def _told(config: SelectConfig) -> str:
    """The settings that had a part in the choice."""
    without = set() if config.rule == "coverage" else {"ef_prior", "ef_weight"}
    without |= {"ef_weight"} if config.ef_prior == "none" else set()
    settings = config.model_dump(exclude=without, exclude_none=True)
    return ", ".join(f"{name}={value}" for name, value in settings.items())


def _chosen(audited: Audited, config: SelectConfig, reached: ClipIndex, usable: Flags) -> ClipIndex:
    order = generator(config.seed, "release", "select").permutation(len(reached))
    if config.rule == "coverage":
        if config.count is None:
            raise InputError("expected the number of clips that the rule coverage is to choose (--count)")
        bins = np.full(len(reached), NOTHING)
        targets, weight = np.array([config.count]), 0.0
        if config.ef_prior != "none":
            bins, targets = _ef(audited, config.ef_prior, usable, config.count)
            weight = config.ef_weight
        found = coverage_greedy(reached, bins, usable, order, targets=targets, ef_weight=weight)
    else:
        found = in_rounds(reached, usable, order, most=LARGE if config.rule == "recall-large" else 1)
    if config.count is not None and len(found) < config.count:
        leaked = ", or keep clips beside flagged ones (without --drop-leaked)" if config.drop_leaked else ""
        raise TooFewSamples(
            f"expected {config.count} clips (--count), found {len(found)} that {config.rule} can choose of "
            f"{int(usable.sum())} usable ones; ask for fewer, or for another rule (--rule){leaked}"
        )
    if not len(found):
        raise TooFewSamples(f"{audited.run}: every clip is flagged, withheld or reaches no train clip: none to choose")
    return found[: config.count]


def _ef(audited: Audited, prior: str, usable: Flags, count: int) -> tuple[ClipIndex, np.ndarray]:
    """The bin of each clip and the number of clips wanted in each bin."""
    bins = ef_bins(audited.synthetic_labels.reindex(audited.samples.index).to_numpy(dtype=np.float64, na_value=np.nan))
    n_bins = len(EF_EDGES) - 1
    if prior == "uniform":
        there = bins[usable & (bins != NOTHING)]
        weights = np.zeros(n_bins)
        weights[there.min(initial=n_bins) : there.max(initial=NOTHING) + 1] = 1
    else:
        real = audited.real
        train = ef_bins(real.loc[real["split"] == "train", "ef"].to_numpy(dtype=np.float64, na_value=np.nan))
        weights = np.bincount(train[train != NOTHING], minlength=n_bins).astype(float)
    return bins, shared_out(weights, count)


def _distinct(reached: ClipIndex) -> int:
    return len(set(reached[reached != NOTHING].tolist()))


def _recalls(audited: Audited, sets: Mapping[str, ClipIndex], absent: Absent) -> dict[str, MatchedRecall | None]:
    """Of each set, at the number of queries that all sets and the holdout patients have."""
    samples, holdout = audited.samples, audited.holdout
    ids = pd.concat([samples["nearest_clip_id"], holdout["nearest_clip_id"]])
    nearest = pd.factorize(ids)[0]
    of_synthetic, of_holdout = nearest[: len(samples)], nearest[len(samples) :]
    gated = samples["gated"].to_numpy()
    n = min(holdout["patient_id"].nunique(), *(len(rows) for rows in sets.values()))

    def recall(rows: ClipIndex) -> MatchedRecall:
        return matched_recall(
            nearest_synthetic=of_synthetic[rows],
            gated_synthetic=gated[rows],
            nearest_holdout=of_holdout,
            gated_holdout=holdout["gated"].to_numpy(),
            patient_holdout=holdout["patient_id"].to_numpy(),
            n_gallery=audited.result.sets["train"].clips,
            rng=generator(audited.record["seed"], "matched recall"),  # the audit's own choice of holdout clips
            n=n,
        )

    return {name: attempt(absent, name, partial(recall, rows)) for name, rows in sets.items()}


@dataclass(frozen=True)
class Chosen:
    """A selection as it was read: ids in the order of choice, and how they were chosen, where that is told."""

    clips: list[str]
    how: str | None = None


def write_selection(selection: Selection, path: Path) -> None:
    """Writes the clips in the order of choice, and how they were chosen; an earlier selection gives way.

    Raises:
        OutputConflict: if something else is there.
    """
    if path.exists() and not _is_selection(path):
        raise OutputConflict(
            f"{path}: expected nothing there or an earlier selection, found another file; choose another --out"
        )
    with whole_file(path) as temporary:
        columns = {"clip_id": selection.clips, _HOW: selection.how, AUDIT_COLUMN: selection.audit}
        pd.DataFrame(columns).to_csv(temporary, index=False)


def _is_selection(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            return file.readline().startswith(f"clip_id,{_HOW}".encode())
    except OSError:
        return False


def read_selection(path: Path, audited: Audited) -> Chosen:
    """A selection.

    Raises:
        InputError: if the table is not readable, was chosen by another audit, names a clip twice, or one that was not
            audited.
    """
    try:
        table = pd.read_csv(path, dtype=str, keep_default_na=False, encoding="utf-8-sig")
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: expected a readable CSV of clips, got: {error} (--select)") from error
    if "clip_id" not in table.columns:
        raise InputError(f"{path}: expected a column clip_id, found {', '.join(table.columns)} (--select)")
    if AUDIT_COLUMN in table.columns and set(table[AUDIT_COLUMN]) - {audited.decided.audit}:
        raise InputError(
            f"{path}: expected clips chosen by the audit in {audited.run}, found a choice by another audit; choose "
            f"again (mnemoscope release select)"
        )
    ids = table["clip_id"]
    problems = {"named twice": ids[ids.duplicated()], "not of this audit": ids[~ids.isin(audited.samples.index)]}
    found = [f"{what}: {listed(some.unique().tolist())}" for what, some in problems.items() if len(some)]
    if found or not len(ids):
        raise InputError(
            f"{path}: expected clips of the audit, each once; {'; '.join(found) or 'found none'} (--select)"
        )
    told = sorted(set(table[_HOW]) - {""}) if _HOW in table.columns else []
    if len(told) > 1:
        raise InputError(
            f"{path}: expected clips of one choice, found several in {_HOW}: {listed(told)}; choose them at once "
            f"(mnemoscope release select), or leave that column out (--select)"
        )
    return Chosen(ids.tolist(), told[0] if told else None)
