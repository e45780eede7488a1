"""Differences: in what audits differ beside the sets that they judge, and which numbers that forbids comparing."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mnemoscope.audit.run.withdraw import real_store
from mnemoscope.core.files import read_json, value_fingerprint
from mnemoscope.core.provenance import RUN_FILE
from mnemoscope.core.types import AuditResult, rungs
from mnemoscope.latents.store import is_store
from mnemoscope.report.gather import clip_table
from mnemoscope.report.provenance import made_from
from mnemoscope.report.words import NOT_RECORDED

_SHORT = 8
# Parts of ``audit.json`` in plain words.
PARTS = {
    "privacy": "closeness to patients",
    "recall": "who was learned",
    "power": "what would be noticed",
    "reid": "recognition of patients",
    "probes": "shortcuts",
    "consistency": "holding together",
    "labels": "labels",
    "recall.matched": "recall at equal numbers",
    "recall.coverage_goodturing": "coverage (Good–Turing)",
}
_SIMILARITY = ("privacy", "recall", "power")
# What audits may differ in → the numbers that cannot be compared then, and why; of all others nothing is forbidden.
ASPECTS: dict[str, tuple[tuple[str, ...], str]] = {
    "training clips": (_SIMILARITY, "the synthetic clips were compared with other patients"),
    "holdout clips": (
        (*_SIMILARITY, "reid", "probes", "consistency"),
        "strangers set the scale, and they are others",
    ),
    "re-identification model": (
        (*_SIMILARITY, "probes", "consistency"),
        "each model has a scale of its own; audit both sets with one (--reid-model)",
    ),
    "frames compared": (_SIMILARITY, "more frames find more; compare as many (--train-frames, --query-frames)"),
    "percentile": (("privacy", "power"), "it decides how many strangers are flagged (--percentile)"),
    "tau": (("privacy", "power"), "clips are flagged above it"),
    "gate percentile": (("recall",), "it decides which clips count as having learned somebody (--gate-percentile)"),
    "copies planted": (("power",), "of fewer copies less is known (--ladder-copies)"),
    "probe clips": (("probes",), "other clips were probed (--probe-clips)"),
    "clips compared at": (("recall.matched",), "more clips reach more; compare sets of one size"),
    "number of synthetic clips": (("recall.coverage_goodturing",), "it grows with the number of clips"),
    "EF reader": (("labels",), "another reader errs otherwise (--ef-reader)"),
    "synthetic clips": ((), "they are what is compared; counts grow with their number, rates and ratios do not"),
    "preset": ((), ""),
    "seed": ((), ""),
    "version of mnemoscope": ((), ""),
}


@dataclass(frozen=True)
class Difference:
    """One thing that is not the same in all audits.

    Attributes:
        name: of ``ASPECTS``.
        values: of each audit, in their order.
        forbids: the parts of ``audit.json`` that cannot be compared.
        why: a reason, or a remedy.
    """

    name: str
    values: list[str]
    forbids: tuple[str, ...]
    why: str

    @property
    def told(self) -> str:
        """What it forbids, in words."""
        return ", ".join(PARTS[part] for part in self.forbids) or "nothing"

    def forbidden(self, number: str, which: int) -> bool:
        """Whether a number of the audit of this place cannot be held against that of the first."""
        parts = tuple(f"{part}." for part in self.forbids)
        return self.values[which] != self.values[0] and f"{number}.".startswith(parts)


def facts(folder: Path, result: AuditResult) -> dict[str, str]:
    """What decided a finished audit, by the names of ``ASPECTS``; what its folder does not say is not recorded.

    Args:
        folder: of the audit.
        result: its numbers.
    """
    record = read_json(folder / RUN_FILE) if (folder / RUN_FILE).is_file() else {}
    config: Mapping[str, Any] = record.get("config") or {}
    found = made_from(folder)
    sets = _sets(folder, record, found.get("synthetic latents")) if record.get("identity") else {}
    gallery = [result.gallery.get(name) for name in ("train_frames", "query_frames")]
    space = result.reid.space if result.reid else None
    known = {
        **{f"{word} clips": _named(result, name, sets.get(name)) for name, word in _WORDS.items()},
        "re-identification model": _joined(space and f"{space} space", found.get("re-identification model")),
        "frames compared": None if None in gallery else f"{gallery[0]} of a training clip, {gallery[1]} of others",
        "percentile": result.privacy and f"{result.privacy.percentile:g}",
        "tau": result.privacy and f"{result.privacy.tau:.4g}",
        "gate percentile": config and str(config.get("gate_percentile")),
        "copies planted": _range([rung.copies for rung in rungs(result.power).values()]),
        "probe clips": config.get("probe_clips") if result.probes else "none",
        "clips compared at": result.recall.matched.n if result.recall and result.recall.matched else "none",
        "number of synthetic clips": f"{result.sets['synthetic'].clips:,}",
        "EF reader": result.labels.reader if result.labels else "none",
        "preset": config.get("preset"),
        "seed": str(record["seed"]) if "seed" in record else None,
        "version of mnemoscope": (record.get("versions") or {}).get("mnemoscope"),
    }
    return {name: str(known[name] or NOT_RECORDED) for name in ASPECTS}


def _range(counts: list[int]) -> str:
    return "–".join(str(count) for count in sorted({min(counts), max(counts)})) if counts else "none"


_WORDS = {"train": "training", "holdout": "holdout", "synthetic": "synthetic"}


def _sets(folder: Path, record: dict[str, Any], synthetic: str | None) -> dict[str, str]:
    """A fingerprint of each set: of the files it came from, and which of them it has."""
    clips, store = clip_table(folder, record), real_store(folder, record)
    if clips is None or not is_store(store):
        return {}
    source = read_json(store / "store.json")["source"]
    ids = {name: sorted(part["clip_id"].astype(str)) for name, part in clips.groupby("set")}
    real = {name: value_fingerprint([source, ids[name]]) for name in ("train", "holdout") if name in ids}
    return real | ({"synthetic": synthetic} if synthetic else {})


def _named(result: AuditResult, name: str, fingerprint: str | None) -> str | None:
    size = result.sets.get(name)
    return _joined(None if size is None else f"{size.clips:,} clips", fingerprint)


def _joined(words: str | None, fingerprint: str | None) -> str:
    """Words, and the beginning of a fingerprint, which is what tells two of them apart."""
    return f"{words or ''} ({fingerprint[:_SHORT] if fingerprint else NOT_RECORDED})".strip()


def differences(known: Sequence[Mapping[str, str]]) -> list[Difference]:
    """What is not the same in all audits, or of which one does not say it.

    Args:
        known: :func:`facts` of each audit, the first being what the others are held against.
    """
    found = []
    for name, (forbids, why) in ASPECTS.items():
        values = [part[name] for part in known]
        if len(set(values)) > 1:
            found.append(Difference(name, values, forbids, why))
        elif forbids and NOT_RECORDED in values[0]:
            found.append(Difference(name, values, (), "whether it is the same is not recorded"))
    return found
