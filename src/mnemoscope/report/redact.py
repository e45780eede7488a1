"""Redact: the material of a page that may leave the house, made by leaving out whatever is of a real patient."""

import dataclasses
import re
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from mnemoscope.core.types import AuditResult, Consistency, Estimate, NearerToTrain, Privacy, Recall, Subgroup
from mnemoscope.release.audited import names_in
from mnemoscope.report.material import Material
from mnemoscope.report.tables import PATIENT_COLUMNS, SAMPLE_COLUMNS
from mnemoscope.report.words import FEWEST, gives_away, sentence

_UNSAID = Estimate(float("nan"), float("nan"), float("nan"))
_REMOVED = "[removed]"
_PLACE = re.compile(r"[^\s\"',]*[/\\][^\s\"',]*")
_CLIPS = re.compile(r"\b(\d+) (\w+ )?clips( \([^)]*%\))?")
_KEPT_OF_THE_RECORD = ("command", "seed", "git_commit", "started", "finished", "status", "config", "versions", "stages")


def redacted(material: Material) -> Material:
    """The same audit without a picture, an id, or anything of a single clip, real or synthetic.

    Synthetic clips go with the real ones, because a copy shows its patient. The page says of counts from one to four
    that they are under five (:func:`mnemoscope.report.words.suppressed_count`); what would give away such a count, or
    that so few are left over, is not said. Ids and places of files are taken out of every text.
    """
    result, clips = material.result, {name: size.clips for name, size in material.result.sets.items()}
    few = dataclasses.replace(
        result,
        privacy=result.privacy and _privacy(result.privacy, clips=clips["synthetic"]),
        recall=result.recall and _recall(result.recall, clips),
        consistency=result.consistency and _consistency(result.consistency),
        labels=result.labels and dataclasses.replace(result.labels, points=[]),
        verdict=dataclasses.replace(
            result.verdict,
            reasons=[_reason(text, clips=clips["synthetic"]) for text in result.verdict.reasons],
            not_tested=[_few_unsaid(text, clips=clips["synthetic"]) for text in result.verdict.not_tested],
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


def _few_unsaid(text: str, *, clips: int) -> str:
    """A text of an audit of so many synthetic clips, without counts of few, and of all but few synthetic ones."""

    def said(found: re.Match[str]) -> str:
        number, kind = int(found[1]), found[2] or ""
        if 0 < number < FEWEST:
            return f"under {FEWEST} clips"
        return f"all but under {FEWEST} clips" if kind == "synthetic " and _is_few(clips - number) else found[0]

    return _CLIPS.sub(said, text)


def _reason(text: str, *, clips: int) -> str:
    """The same; the numbers behind a reason would give the few away."""
    said = _few_unsaid(text, clips=clips)
    return said if said == text else sentence(said)[0]


def _is_few(count: int) -> bool:
    return 0 < count < FEWEST


def kept_count(count: int, *, of: int) -> Any:
    """A count of so many, or NaN where few are left over."""
    return float("nan") if _is_few(of - count) else count


def _share(found: Estimate, *, of: int) -> Estimate:
    return _UNSAID if gives_away(found.value * of, of) else found


def _privacy(found: Privacy, *, clips: int) -> Privacy:
    near, evidence, unsaid = found.nearer_to_train, found.evidence, gives_away(found.flagged, clips)
    rates = {"flag_rate": _UNSAID, "excess_rate": _UNSAID, "p_value": float("nan")} if unsaid else {}
    return dataclasses.replace(
        found,
        **rates,  # type: ignore[arg-type]
        flagged=kept_count(found.flagged, of=clips),
        fdr_flagged=kept_count(found.fdr_flagged, of=found.flagged),
        authentic_share=found.authentic_share and _share(found.authentic_share, of=clips),
        nearer_to_train=near and _nearer(near, clips=clips),
        evidence=evidence
        and dataclasses.replace(
            evidence,
            # The two add up to a number that is said.
            confirmed=kept_count(evidence.confirmed, of=evidence.confirmed + evidence.doubted),
            doubted=kept_count(evidence.doubted, of=evidence.confirmed + evidence.doubted),
        ),
    )


def _nearer(found: NearerToTrain, *, clips: int) -> NearerToTrain:
    share = _share(found.share, of=clips)
    return dataclasses.replace(found, share=share, p_value=float("nan") if share is _UNSAID else found.p_value)


def _recall(found: Recall, clips: Mapping[str, int]) -> Recall:
    train, synthetic, hub = clips["train"], clips["synthetic"], found.hubness
    unsaid = gives_away(found.learned, train)
    return dataclasses.replace(
        found,
        learned=kept_count(found.learned, of=train),
        learned_share=float("nan") if unsaid else found.learned_share,
        learned_and_flagged=kept_count(found.learned_and_flagged, of=found.learned),
        gated=kept_count(found.gated, of=synthetic),
        unlike_real=kept_count(found.unlike_real, of=synthetic),
        coverage_goodturing=found.coverage_goodturing and _share(found.coverage_goodturing, of=found.gated),
        # The curve ends at the number of clips learned.
        curves={name: curve for name, curve in found.curves.items() if not (unsaid and name == "synthetic")},
        hubness=hub
        and dataclasses.replace(
            hub,
            learned_corrected=kept_count(hub.learned_corrected, of=train),
            learned_share_corrected=float("nan")
            if gives_away(hub.learned_corrected, train)
            else hub.learned_share_corrected,
        ),
        top_hits=[],
        subgroups=_subgroups(found.subgroups),
    )


def _subgroups(groups: list[Subgroup]) -> list[Subgroup]:
    """An attribute has a column for all of its groups or for none: a share left out would follow from the others."""
    few = {
        (group.attribute, name)
        for group in groups
        for name, share in (("learned", group.learned), ("leaked", group.leaked))
        if _share(share, of=group.clips) is _UNSAID
    }
    return [
        dataclasses.replace(
            group,
            learned=_UNSAID if (group.attribute, "learned") in few else group.learned,
            leaked=_UNSAID if (group.attribute, "leaked") in few else group.leaked,
        )
        for group in groups
    ]


def _consistency(found: Consistency) -> Consistency:
    of = found.clips["synthetic"]
    return dataclasses.replace(found, frozen=_share(found.frozen, of=of), jumping=_share(found.jumping, of=of))


def _scores(table: pd.DataFrame) -> pd.DataFrame:
    """The scores, sorted so that no row is a clip any more; what the page needs beside them is empty."""
    p_max = np.sort(table["p_max"].to_numpy())
    empty = {name: pd.Series(pd.NA, index=range(len(p_max))) for name in SAMPLE_COLUMNS}
    return pd.DataFrame(empty | {"p_max": p_max, "gated": False, "flagged": False, "clip_id": "", "ssim": np.nan})


def _states(patients: pd.DataFrame) -> pd.DataFrame:
    """Who leaked, without who it is."""
    table = pd.DataFrame({name: pd.Series(0, index=range(len(patients))) for name in PATIENT_COLUMNS})
    return table.assign(patient_id="", leaked=np.sort(patients["leaked"].to_numpy(bool)))
