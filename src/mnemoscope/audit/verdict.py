"""The verdict: may the set leave, why, and what nobody looked at. Every limit says where it comes from."""

import math
from dataclasses import dataclass

from mnemoscope.core.types import (
    AuditResult,
    Estimate,
    Power,
    Privacy,
    RungPower,
    SetSize,
    Status,
    Verdict,
    Verification,
    rungs,
)


@dataclass(frozen=True)
class Limits:
    """When the instrument speaks.

    Attributes:
        fail_p: more flags than innocents would bring with at most this chance is a leak.
        least_auc: below it the model cannot tell patients apart (the paper's models reach .991 and more).
        least_power: smallest share of planted copies that must be flagged; the usual 80 % of study design.
        must_notice: rungs of the ladder for which that is asked: what happens to a copy that a generator re-draws or
            somebody re-encodes. Copies that were turned, mirrored, masked or blended are reported, not asked for.
        least_holdout: clips from which a rate of 5 % is known to about ±4 points.
        least_synthetic: clips below which a rate says little.
    """

    fail_p: float = 0.01
    least_auc: float = 0.95
    least_power: float = 0.8
    must_notice: tuple[str, ...] = (
        "exact",
        "neighbouring_frame",
        "other_frame",
        "vae_round_trip",
        "time_shift",
        "gain",
        "gamma",
        "speckle",
        "blur",
        "jpeg",
        "zoom",
        "shift",
    )
    least_holdout: int = 100
    least_synthetic: int = 50


def decide(
    sets: dict[str, SetSize],
    verification: Verification,
    privacy: Privacy,
    power: Power | None,
    *,
    exact_copies: int = 0,
    limits: Limits = Limits(),
    not_tested: list[str],
) -> Verdict:
    """Pass, fail or inconclusive.

    A leak that is seen is a fail whatever the instrument's quality; silence counts only from an instrument that has
    been shown to hear.

    Args:
        sets: clips and patients of each set.
        verification: how well the model tells patients apart.
        privacy: flags and what innocents would bring.
        power: what of planted copies is flagged; None if it was not measured.
        exact_copies: synthetic clips whose frames (or latents) are those of a real clip.
        limits: when the instrument speaks.
        not_tested: what nobody looked at.
    """
    leaks = _copies(exact_copies) + _leaks(privacy, limits)
    doubts = _doubts(sets, verification, rungs(power), limits)
    status: Status = "fail" if leaks else "inconclusive" if doubts else "pass"
    reasons = leaks + doubts or [_silence(privacy, limits)]
    return Verdict(status, reasons, not_tested)


def _copies(exact_copies: int) -> list[str]:
    if exact_copies == 0:
        return []
    return [f"{exact_copies} synthetic clips are real clips, frame by frame (every frame is the same)"]


def _leaks(privacy: Privacy, limits: Limits) -> list[str]:
    if privacy.p_value > limits.fail_p or privacy.excess_rate.value <= 0:
        return []
    return [
        f"{privacy.flagged} synthetic clips ({privacy.flag_rate.value:.1%}) are more similar to a train clip than "
        f"{privacy.percentile:g} % of real clips of other patients are; {_beyond(privacy.excess_rate)} "
        f"(p = {privacy.p_value:.2g}, limit {limits.fail_p:g})"
    ]


def _silence(privacy: Privacy, limits: Limits) -> str:
    excess = privacy.excess_rate
    more = "not clearly more" if excess.value > 0 else "no more"
    hint = ", yet the interval of the excess lies above 0: look at them" if excess.low > 0 else ""
    return (
        f"{privacy.flagged} synthetic clips ({privacy.flag_rate.value:.1%}) are flagged, {more} than real clips of "
        f"other patients would be{hint} (p = {privacy.p_value:.2g}, limit {limits.fail_p:g}"
        f"{', ' + _beyond(excess) if hint else ''})"
    )


def _beyond(excess: Estimate) -> str:
    return f"{excess.value:+.1%} [{excess.low:+.1%}, {excess.high:+.1%}] beyond what innocents show"


def _doubts(
    sets: dict[str, SetSize], verification: Verification, power: dict[str, RungPower], limits: Limits
) -> list[str]:
    doubts = []
    if verification.auc.low < limits.least_auc:
        doubts.append(
            f"the re-identification model may not tell patients apart well enough: AUC {verification.auc.value:.3f} "
            f"[{verification.auc.low:.3f}, {verification.auc.high:.3f}], needed {limits.least_auc:g} at the lower end"
        )
    doubts += _deafness({name: rung for name, rung in power.items() if name in limits.must_notice}, limits)
    for name, least in (("holdout", limits.least_holdout), ("synthetic", limits.least_synthetic)):
        if sets[name].clips < least:
            doubts.append(f"only {sets[name].clips} {name} clips; at least {least} are needed to say anything firm")
    return doubts


def _deafness(asked: dict[str, RungPower], limits: Limits) -> list[str]:
    if not asked.keys() - {"exact"}:
        return ["whether the audit would notice a changed copy could not be measured: no rung of the ladder was run"]
    missed, unsure = _too_weak(asked, limits)
    said = []
    if missed:
        said.append(
            f"the audit would miss many copies; of planted ones it flags, by what was done to them: "
            f"{_rates(missed)}; needed {limits.least_power:.0%} at the lower end"
        )
    if unsure:
        said.append(
            f"too few copies were planted to say that {limits.least_power:.0%} are flagged: {_rates(unsure)}; plant "
            f"more (--ladder-copies), for which there must be as many train patients"
        )
    return said


def _too_weak(power: dict[str, RungPower], limits: Limits) -> tuple[dict[str, RungPower], dict[str, RungPower]]:
    """Rungs of which too few copies are flagged, and rungs of which too few were planted to say."""
    weak = {name: rung for name, rung in power.items() if rung.tpr.low < limits.least_power}
    missed = {name: rung for name, rung in weak.items() if rung.tpr.value < limits.least_power}
    return missed, {name: rung for name, rung in weak.items() if name not in missed}


def _rates(power: dict[str, RungPower]) -> str:
    """Names and rates; those of one rate together."""
    together: dict[str, list[str]] = {}
    for name, rung in power.items():
        rate = f"{rung.tpr.value:.1%} [{rung.tpr.low:.1%}, {rung.tpr.high:.1%}]"
        together.setdefault(rate, []).append(name.replace("_", " "))
    return ", ".join(f"{', '.join(names)} {rate}" for rate, names in together.items())


_UNLOOKED = {
    "power": "how a copy must be changed before the audit no longer notices it",
    "probes": "whether identity is carried by sector shape, borders or burned-in text rather than by anatomy",
    "consistency": "whether the videos hold together over time",
    "labels": "whether the videos show the ejection fraction that their label says",
    "recall.matched": "recall at equal numbers of synthetic and holdout clips",
    "privacy.evidence": "whether decoded frames confirm the flags",
}
_NEVER = [
    "attacks that know the generator itself or other pictures of a patient: only the clips were compared",
    "patients who appear in no train clip that was given",
]


def not_tested(result: AuditResult, *, limits: Limits = Limits()) -> list[str]:
    """What nobody looked at, and why; what the audit would miss; and what it never looks at."""
    unlooked = [
        f"{text}: {result.absent[name]}" if name in result.absent else text
        for name, text in _UNLOOKED.items()
        if name in result.absent or getattr(result, name, ...) is None
    ]
    frames = result.gallery.get("query_frames", "all")
    if frames != "all":
        unlooked.append(f"frames between the {frames} of each clip that were compared (--query-frames all takes every)")
    reported = {name: rung for name, rung in rungs(result.power).items() if name not in limits.must_notice}
    missed, unsure = _too_weak(reported, limits)
    deaf = [
        f"copies changed by {name.replace('_', ' ')}: only {rung.tpr.value:.0%} of planted ones are flagged"
        for name, rung in missed.items()
    ]
    if unsure:
        deaf.append(f"too few copies were planted to speak of changes by {_rates(unsure)} (--ladder-copies)")
    missing = [
        f"copies changed by {name.removeprefix('power.').replace('_', ' ')}: {reason}"
        for name, reason in result.absent.items()
        if name.startswith("power.") and "*" not in name  # rates that no rung can have are no rung's
    ]
    return unlooked + _unnameable(result) + deaf + missing + _NEVER


def _unnameable(result: AuditResult) -> list[str]:
    """A list of single clips stays empty where the holdout is too small for its smallest p-value, 1 / (holdout + 1)."""
    privacy, holdout = result.privacy, result.sets["holdout"].clips
    if privacy is None or privacy.fdr_flagged:
        return []
    least = math.ceil(result.sets["synthetic"].clips / ((holdout + 1) * privacy.fdr_rate))
    if least <= 1:
        return []
    return [
        f"single clips by name at a false-discovery rate of {privacy.fdr_rate:g}: with {holdout} holdout clips none "
        f"can be named unless {least} are more similar than every holdout clip; add holdout clips, or raise --fdr-rate"
    ]
