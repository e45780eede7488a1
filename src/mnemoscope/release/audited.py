"""Audited: a finished audit as a release needs it, and whom it must not name."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from mnemoscope.audit.run.results import HOLDOUT, PATIENTS, SAMPLES, audit_name, read_audit_table, read_result
from mnemoscope.audit.run.withdraw import real_store
from mnemoscope.core.errors import CorruptFile, InputError
from mnemoscope.core.files import read_json
from mnemoscope.core.provenance import RUN_FILE
from mnemoscope.core.types import AuditResult, Privacy
from mnemoscope.latents.store import CLIPS, is_store
from mnemoscope.release.decisions import Decided

MOST_NAMED = 20
_WORD = re.compile(r"[^\W_]+")
# Shorter ids cannot be told from a word or a number of the text.
_SHORTEST_NAME, _SHORTEST_NUMBER = 4, 6


@dataclass(frozen=True)
class Audited:
    """A finished audit whose parts fit each other.

    Attributes:
        run: its folder.
        result: its numbers.
        privacy: those of the flags.
        samples: one row per synthetic clip, by clip_id.
        holdout: one row per holdout clip.
        record: of the run.
    """

    run: Path
    result: AuditResult
    privacy: Privacy
    samples: pd.DataFrame
    holdout: pd.DataFrame
    record: dict[str, Any]

    @property
    def real(self) -> pd.DataFrame:
        """The table of the real clips.

        Raises:
            CorruptFile: if their store is gone.
        """
        return read_audit_table(real_store(self.run, self.record) / CLIPS)

    @property
    def decided(self) -> Decided:
        """What decisions on its clips are about."""
        finished = datetime.fromisoformat(self.record["finished"])
        return Decided(self.samples.index, audit_name(self.samples.reset_index()), finished)

    @property
    def synthetic(self) -> pd.DataFrame:
        """The table of the synthetic clips as the audit saw them, by clip_id."""
        return read_audit_table(self.synthetic_store / CLIPS).set_index("clip_id")

    @property
    def synthetic_labels(self) -> pd.Series:
        """EF of the synthetic clips as the audit saw it, in percent by clip_id, NaN where there is none."""
        return self.synthetic["ef"]

    @property
    def synthetic_store(self) -> Path:
        """The folder of the store that was looked at."""
        given = Path(str(self.record["identity"].get("synthetic", "")))
        return given if is_store(given) else self.run / "latents-synthetic"


def read_audited(run: Path) -> Audited:
    """The finished audit in a folder.

    Raises:
        InputError: if there is none, or it was broken off.
        CorruptFile: if its parts do not fit each other.
    """
    result, record = read_result(run), read_json(run / RUN_FILE)
    if result.privacy is None:
        raise InputError(f"{run}: expected an audit with a threshold, found none; run the audit again")
    if record.get("status") != "done":
        raise InputError(f"{run}: expected a finished audit, found one that is {record.get('status')}; run it again")
    samples, holdout = read_audit_table(run / SAMPLES), read_audit_table(run / HOLDOUT)
    audited = Audited(run, result, result.privacy, samples.set_index("clip_id"), holdout, record)
    problems = _problems(audited)
    if problems:
        raise CorruptFile(f"{run}: the parts of the audit do not fit: {'; '.join(problems)}; run the same audit again")
    return audited


def _problems(audited: Audited) -> list[str]:
    samples, privacy, clips = audited.samples, audited.privacy, audited.result.sets["synthetic"].clips
    wrong = [
        (f"{SAMPLES} has two rows of one clip", not samples.index.is_unique),
        (f"{SAMPLES} has {len(samples)} clips, audit.json {clips}", len(samples) != clips),
        (
            f"{SAMPLES} has flags that do not follow from tau",
            not (samples.flagged == (samples.p_max > privacy.tau)).all(),
        ),
        (
            f"{SAMPLES} flags {samples.flagged.sum()}, audit.json {privacy.flagged}",
            samples.flagged.sum() != privacy.flagged,
        ),
    ]
    return [text for text, is_so in wrong if is_so]


def other_labels(given: pd.Series, audited: pd.Series) -> pd.Index:
    """The clips of both tables whose number is another now, or is gone, or was not there."""
    both = audited.index.intersection(given.index)
    now, was = (values.loc[both].to_numpy(np.float64, na_value=np.nan) for values in (given, audited))
    return both[~np.isclose(now, was, atol=0.01, equal_nan=True)]


def no_export(samples: pd.DataFrame) -> str | None:
    """Why no release can prove that these clips are the audited ones; None where it can, by their files' hashes."""
    if "sha256" not in samples:
        return "an older version audited it and kept no hashes of the files; run the same audit again"
    unknown = samples["clip_id"][samples["sha256"].isna()].tolist()
    if unknown:
        which = "its clips" if len(unknown) == len(samples) else listed(unknown)
        return f"only latents of {which} were audited; audit the clips themselves (mnemoscope audit --synthetic)"
    return None


def real_names(audited: Audited) -> set[str]:
    """Every id of a real clip or patient that the audit knows."""
    tables = [audited.real, audited.holdout, read_audit_table(audited.run / PATIENTS)]
    columns = [table[name] for table in tables for name in ("clip_id", "patient_id") if name in table.columns]
    return {str(name) for column in columns for name in column}


def names_in(text: str, names: Iterable[str]) -> list[str]:
    """The ids that stand in a text as words of their own; too short ones are not looked for."""
    words = set(_WORD.findall(text))  # of a long text and many ids only few need to be looked for
    there = [n for n in names if len(n) >= _shortest(n) and words.issuperset(_WORD.findall(n)) and n in text]
    return sorted(name for name in there if re.search(rf"(?<![^\W_]){re.escape(name)}(?![^\W_])", text))


def _shortest(name: str) -> int:
    return _SHORTEST_NUMBER if name.isdecimal() else _SHORTEST_NAME


def listed(names: Sequence[str]) -> str:
    """The first of many names, fit to be shown: hostile characters are escaped."""
    more = len(names) - MOST_NAMED
    return ", ".join(ascii(name) for name in names[:MOST_NAMED]) + (f" and {more} more" if more > 0 else "")
