"""Redact: the material of a page that may leave the house, made by leaving out whatever is of a real patient."""

import dataclasses
import re
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from mnemoscope.core.types import AuditResult, Estimate, Privacy, Recall, Subgroup
from mnemoscope.release.audited import names_in
from mnemoscope.report.material import Material
from mnemoscope.report.tables import PATIENT_COLUMNS, SAMPLE_COLUMNS
from mnemoscope.report.words import FEWEST

_UNSAID = Estimate(float("nan"), float("nan"), float("nan"))
_REMOVED = "[removed]"
_PLACE = re.compile(r"[^\s\"',]*[/\\][^\s\"',]*")
_FEW_CLIPS = re.compile(r"\b[1-4] (\w+ )?clips( \([^)]*%\))?")
_KEPT_OF_THE_RECORD = ("command", "seed", "git_commit", "started", "finished", "status", "config", "versions", "stages")


def redacted(material: Material) -> Material:
    """The same audit without a picture, an id, or anything of a single clip, real or synthetic.

    Synthetic clips go with the real ones, because a copy shows its patient. The page says of counts from one to four
    that they are under five (:func:`mnemoscope.report.words.suppressed_count`); shares that would give such a count
    away are not said. Ids and places of files are taken out of every text.
    """
    result = material.result
    few = dataclasses.replace(
        result,
        privacy=result.privacy and _privacy(result.privacy),
        recall=result.recall and _recall(result.recall, clips=result.sets["train"].clips),
        verdict=dataclasses.replace(
            result.verdict,
            reasons=[_FEW_CLIPS.sub("under 5 clips", text) for text in result.verdict.reasons],
            not_tested=[_FEW_CLIPS.sub("under 5 clips", text) for text in result.verdict.not_tested],
        ),
    )
    names = _names(material)
    cleaned = _cleaned(few, names)
    assert isinstance(cleaned, AuditResult)
    record = {key: material.record[key] for key in _KEPT_OF_THE_RECORD if key in material.record}
    return Material(
        result=cleaned,
        samples=_scores(material.samples),
        holdout=_scores(material.holdout),
        patients=_states(material.patients),
        record=_cleaned(record, names),
        ladder=material.ladder,
        downstream=_cleaned(material.downstream, names),
        hashes=material.hashes,
        redacted=True,
    )


def _names(material: Material) -> set[str]:
    """Every id of a clip or a patient that the material knows."""
    tables = (material.samples, material.holdout, material.patients, material.attributes)
    columns = ("clip_id", "patient_id", "nearest_clip_id", "nearest_patient_id")
    known = [table[name] for table in tables if table is not None for name in columns if name in table]
    return {str(name) for column in known for name in column.dropna()}


def _cleaned(value: Any, names: set[str]) -> Any:
    """A value of a result or a record, with ids and places of files taken out of its texts and keys."""
    if isinstance(value, str):
        for name in names_in(value, names):
            value = value.replace(name, _REMOVED)
        return _PLACE.sub(_REMOVED, value)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        parts = {field.name: _cleaned(getattr(value, field.name), names) for field in dataclasses.fields(value)}
        return dataclasses.replace(value, **parts)
    if isinstance(value, Mapping):
        return {_cleaned(key, names): _cleaned(inner, names) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(_cleaned(inner, names) for inner in value)
    return value


def _is_few(count: float) -> bool:
    return 0 < round(count) < FEWEST


def _privacy(found: Privacy) -> Privacy:
    changed: dict[str, Any] = {}
    if _is_few(found.flagged):
        changed = {"flag_rate": _UNSAID, "excess_rate": _UNSAID, "p_value": float("nan")}
    return dataclasses.replace(found, **changed)


def _recall(found: Recall, *, clips: int) -> Recall:
    few_learned = _is_few(found.learned) or _is_few(clips - found.learned)
    return dataclasses.replace(
        found,
        learned_share=float("nan") if few_learned else found.learned_share,
        top_hits=[],
        subgroups=[_subgroup(group) for group in found.subgroups],
    )


def _subgroup(group: Subgroup) -> Subgroup:
    """A group whose learned or leaked clips, or the others of it, are under five keeps that share for itself."""

    def said(share: Estimate) -> Estimate:
        count = share.value * group.clips
        return _UNSAID if _is_few(count) or _is_few(group.clips - count) else share

    return dataclasses.replace(group, learned=said(group.learned), leaked=said(group.leaked))


def _scores(table: pd.DataFrame) -> pd.DataFrame:
    """The scores, sorted so that no row is a clip any more; what the page needs beside them is empty."""
    p_max = np.sort(table["p_max"].to_numpy())
    empty = {name: pd.Series(pd.NA, index=range(len(p_max))) for name in SAMPLE_COLUMNS}
    return pd.DataFrame(empty | {"p_max": p_max, "gated": False, "flagged": False, "clip_id": "", "ssim": np.nan})


def _states(patients: pd.DataFrame) -> pd.DataFrame:
    """Who leaked, without who it is."""
    table = pd.DataFrame({name: pd.Series(0, index=range(len(patients))) for name in PATIENT_COLUMNS})
    return table.assign(patient_id="", leaked=np.sort(patients["leaked"].to_numpy(bool)))
