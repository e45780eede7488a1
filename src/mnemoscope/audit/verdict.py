"""The verdict: may the set leave, why, and what nobody looked at. Every limit says where it comes from."""

from dataclasses import dataclass

from mnemoscope.core.types import Estimate, Privacy, SetSize, Status, Verdict, Verification


@dataclass(frozen=True)
class Limits:
    """When the instrument speaks.

    Attributes:
        fail_p: more flags than innocents would bring with at most this chance is a leak.
        least_auc: below it the model cannot tell patients apart (the paper's models reach .991 and more).
        least_power: smallest share of re-shown train frames that must be flagged; the usual 80 % of study design.
        least_holdout: clips from which a rate of 5 % is known to about ±4 points.
        least_synthetic: clips below which a rate says little.
    """

    fail_p: float = 0.01
    least_auc: float = 0.95
    least_power: float = 0.8
    least_holdout: int = 100
    least_synthetic: int = 50


def decide(
    sets: dict[str, SetSize],
    verification: Verification,
    privacy: Privacy,
    other_frame_tpr: Estimate | None,
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
        other_frame_tpr: share of re-shown train clips that are flagged; None if it was not measured.
        exact_copies: synthetic clips whose decoded frames are those of a real clip.
        limits: when the instrument speaks.
        not_tested: what nobody looked at.
    """
    leaks = _copies(exact_copies) + _leaks(privacy, limits)
    doubts = _doubts(sets, verification, other_frame_tpr, limits)
    status: Status = "fail" if leaks else "inconclusive" if doubts else "pass"
    reasons = leaks + doubts or [_silence(privacy, limits)]
    return Verdict(status, reasons, not_tested)


def _copies(exact_copies: int) -> list[str]:
    if exact_copies == 0:
        return []
    return [f"{exact_copies} synthetic clips are real clips, frame by frame (their decoded frames are the same)"]


def _leaks(privacy: Privacy, limits: Limits) -> list[str]:
    if privacy.p_value > limits.fail_p or privacy.excess_rate.value <= 0:
        return []
    excess = privacy.excess_rate
    return [
        f"{privacy.flagged} synthetic clips ({privacy.flag_rate.value:.1%}) are more similar to a train clip than "
        f"{privacy.percentile:g} % of real clips of other patients are; {excess.value:+.1%} "
        f"[{excess.low:+.1%}, {excess.high:+.1%}] beyond what innocents show (p = {privacy.p_value:.2g}, "
        f"limit {limits.fail_p:g})"
    ]


def _silence(privacy: Privacy, limits: Limits) -> str:
    return (
        f"{privacy.flagged} synthetic clips ({privacy.flag_rate.value:.1%}) are flagged, no more than real clips of "
        f"other patients would be (p = {privacy.p_value:.2g}, limit {limits.fail_p:g})"
    )


def _doubts(
    sets: dict[str, SetSize], verification: Verification, other_frame_tpr: Estimate | None, limits: Limits
) -> list[str]:
    doubts = []
    if verification.auc.low < limits.least_auc:
        doubts.append(
            f"the re-identification model may not tell patients apart well enough: AUC {verification.auc.value:.3f} "
            f"[{verification.auc.low:.3f}, {verification.auc.high:.3f}], needed {limits.least_auc:g} at the lower end"
        )
    if other_frame_tpr is None:
        doubts.append("whether the audit would notice a copied clip could not be measured: all train frames are in use")
    elif other_frame_tpr.low < limits.least_power:
        doubts.append(
            f"the audit would miss many copies: of train clips shown again by other frames it flags "
            f"{other_frame_tpr.value:.1%} [{other_frame_tpr.low:.1%}, {other_frame_tpr.high:.1%}], "
            f"needed {limits.least_power:.0%} at the lower end"
        )
    for name, least in (("holdout", limits.least_holdout), ("synthetic", limits.least_synthetic)):
        if sets[name].clips < least:
            doubts.append(f"only {sets[name].clips} {name} clips; at least {least} are needed to say anything firm")
    return doubts
