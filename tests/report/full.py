"""A full audit: every number there, no two alike, so that the page can be asked for each."""

from dataclasses import replace

import numpy as np
import pandas as pd

from mnemoscope.audit.verdict import not_tested
from mnemoscope.core.types import (
    Agreement,
    AuditResult,
    Consistency,
    CopyingTest,
    Curve,
    Estimate,
    Evidence,
    Hubness,
    Labels,
    Manifold,
    MatchedRecall,
    NearerToTrain,
    Privacy,
    Probe,
    RarefactionCurve,
    Recall,
    RungPower,
    SetSize,
    Subgroup,
    TopHit,
    Verdict,
    Verification,
)
from mnemoscope.downstream.decompose import Part
from mnemoscope.downstream.results import ArmResult, DownstreamResult

TRAIN, HOLDOUT, SYNTHETIC = 7465, 1277, 10_000
TAU = 6.0042
RUNG_TPR = {
    "exact": 1.0,
    "neighbouring_frame": 0.985,
    "other_frame": 0.943,
    "time_shift": 0.917,
    "gain": 0.896,
    "gamma": 0.884,
    "speckle": 0.851,
    "noise": 0.842,
    "blur": 0.823,
    "jpeg": 0.874,
    "rescale": 0.861,
    "zoom": 0.715,
    "shift": 0.636,
    "rotation": 0.324,
    "flip": 0.045,
    "blend": 0.534,
    "sector_mask": 0.783,
    "border": 0.922,
}
ABSENT = {
    "power.vae_round_trip": "pixels have no encoder to go through; compare latents (--space latent)",
    "reid.top1_other_clip": "every holdout patient has one clip",
    "reid.heads.cosine": "all features are alike",
}


def around(value: float, half: float, *, least: float = -np.inf, most: float = np.inf) -> Estimate:
    return Estimate(value, max(least, value - half), min(most, value + half))


def share(value: float, half: float = 0.021) -> Estimate:
    return around(value, half, least=0.0, most=1.0)


def rung(tpr: float) -> RungPower:
    return RungPower(
        copies=200,
        tpr=share(tpr, 0.045),
        tpr_at_fpr={"0.05": share(tpr, 0.044), "0.01": share(tpr * 0.88, 0.05), "0.001": share(tpr * 0.61, 0.06)},
        right_patient=share(0.9 * tpr + 0.07, 0.04),
        minimum_detectable_share=None if tpr < 0.05 else 0.0171 / tpr,
    )


def reached(known: int, n: int) -> RarefactionCurve:
    steps = sorted({round(step) for step in np.geomspace(1, n, 40)})
    expected = [known * -float(np.expm1(-step / known)) for step in steps]
    return RarefactionCurve(steps, expected, [0.94 * x for x in expected], [1.06 * x for x in expected])


def curve(start: float, end: float, half: float, wave: float) -> Curve:
    at = np.linspace(0, 1, 32)
    median = start + (end - start) * at**0.5 + wave * np.cos(8 * np.pi * at)
    return Curve(median.tolist(), (median - half).tolist(), (median + 0.8 * half).tolist())


def verification() -> Verification:
    return Verification(
        space="latent",
        preset="default",
        auc=Estimate(0.9912, 0.9823, 0.9978),
        top1=Estimate(0.831, 0.802, 0.857),
        top5=Estimate(0.927, 0.904, 0.946),
        tpr_at_fpr={"0.05": Estimate(0.972, 0.951, 0.983), "0.01": share(0.847), "0.001": None},
        heads={name: around(0.9881 - 0.0101 * i, 0.0052) for i, name in enumerate(("pred", "l1", "l2", "corr"))}
        | {"cosine": None},
        accuracy=0.9703,
        f1=0.9692,
        precision=0.9811,
        recall=0.9584,
        confusion=((1241, 36), (53, 1224)),
    )


def privacy() -> Privacy:
    return Privacy(
        percentile=95.0,
        tau=TAU,
        tau_interval=Estimate(TAU, 5.9414, 6.0873),
        flagged=732,
        flag_rate=Estimate(0.0732, 0.0683, 0.0785),
        excess_rate=Estimate(0.0231, 0.0112, 0.0343),
        p_value=0.0043,
        fdr_rate=0.07,
        fdr_flagged=19,
        nearer_to_train=NearerToTrain(share(0.876, 0.007), 0.8539, 0.0317),
        copying=CopyingTest(-1.283, 0.0224, 17),
        authentic_share=share(0.5648, 0.0098),
        evidence=Evidence(candidates=200, threshold=0.5374, confirmed=23, doubted=174),
    )


def recall() -> Recall:
    strata = {"ef": ["< 30", "30–40", "40–50", "50–60", "≥ 60"], "Sex": ["F", "M", "not given"]}
    return Recall(
        gate=4.1234,
        novelty_limit=0.3141,
        unlike_real=29,
        learned=2411,
        learned_share=0.3231,
        learned_and_flagged=47,
        top_hits=[TopHit("clip-a", "patient-a", 879), TopHit("clip-b", "patient-b", 323)],
        gated=9472,
        matched=MatchedRecall(HOLDOUT, around(771.3, 31.2), around(944.6, 28.4), around(0.8166, 0.041)),
        curves={"synthetic": reached(2450, SYNTHETIC), "holdout": reached(4400, HOLDOUT)},
        chao1=Estimate(2876, 2791, 2977),
        coverage_goodturing=share(0.9431, 0.0052),
        irs=share(0.3288, 0.0081),
        irs_adjusted=around(0.5587, 0.033),
        known_share=share(0.4219, 0.036),
        manifold=Manifold(5, TRAIN, SYNTHETIC, 0.8127, 0.6354, 0.9416, 0.7269),
        hubness=Hubness(8.414, 3.227, 2963, 0.3969),
        subgroups=[
            Subgroup(attribute, stratum, 311 + 97 * i, share(0.412 - 0.067 * i), share(0.0137 + 0.0022 * i, 0.009))
            for attribute, names in strata.items()
            for i, stratum in enumerate(names)
        ],
    )


def consistency() -> Consistency:
    return Consistency(
        clips={"real": 198, "synthetic": 200, "different": 197},
        lag_share=np.linspace(1 / 32, 1, 32).tolist(),
        real=curve(8.2, 7.7, 0.9, 0.25),
        synthetic=curve(8.1, 6.9, 1.2, 0.15),
        different=curve(2.1, 2.0, 1.6, 0.0),
        separation_auc=Estimate(0.9876, 0.9791, 0.9934),
        mcc={"real": around(0.8917, 0.012), "synthetic": around(0.8543, 0.017), "different": around(0.1216, 0.023)},
        frozen=share(0.0352, 0.025),
        jumping=share(0.1153, 0.041),
    )


def labels() -> Labels:
    points = [(20.0, 24.5), (45.0, 41.2), (70.0, 66.3)]
    return Labels("phantom", Agreement(193, around(0.6432, 0.061), around(5.274, 0.41)), 0.0019, points)


def probes() -> dict[str, Probe]:
    names = ("unchanged", "mask_hidden", "borders_hidden", "mask_swapped", "text_swapped", "borders_swapped")
    return {name: Probe(share(0.9894 - 0.0413 * i, 0.013), around(0.2218 * i, 0.19)) for i, name in enumerate(names)}


def result() -> AuditResult:
    found = AuditResult(
        sets={"train": SetSize(TRAIN, 7123), "holdout": SetSize(HOLDOUT, 1201), "synthetic": SetSize(SYNTHETIC, 0)},
        reid=verification(),
        privacy=privacy(),
        recall=recall(),
        power={name: rung(tpr) for name, tpr in RUNG_TPR.items()} | {"minimum_detectable_share": 0.0305},
        probes=probes(),
        consistency=consistency(),
        labels=labels(),
        verdict=Verdict(
            "fail", ["732 synthetic clips (7.3%) are more similar to a train clip than strangers are."], []
        ),
        gallery={"train_frames": 4, "query_frames": 4, "altered_frames": 8},
        absent=ABSENT,
    )
    return replace(found, verdict=replace(found.verdict, not_tested=not_tested(found)))


def worth(name: str = "synthetic_full") -> DownstreamResult:
    """One arm and one part of the gap."""
    arm = ArmResult(
        name, "synthetic", "given", 7465, around(0.2914, 0.031), around(9.004, 0.2), around(10.321, 0.3), [0.29]
    )
    part = Part(name, around(0.5317, 0.044), "real_full", name, name, adds_up=True)
    return DownstreamResult({"clips": HOLDOUT}, [arm], [part])


def samples(seed: int = 0) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    p_max = np.append(rng.normal(5.15, 0.55, SYNTHETIC - 3), [9.31, 9.02, 8.77])
    nearest = (2450 * rng.random(SYNTHETIC) ** 2).astype(int)
    ssim = np.full(SYNTHETIC, np.nan)
    ssim[np.argsort(-p_max)[:8]] = [0.9517, 0.9134, 0.8826, 0.4135, 0.3817, 0.4419, 0.3541, 0.4012]
    return queries(p_max, nearest, ssim, "s")


def holdout(seed: int = 1) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    return queries(rng.normal(5.0, 0.6, HOLDOUT), rng.integers(0, TRAIN, HOLDOUT), np.full(HOLDOUT, np.nan), "h")


def queries(p_max: np.ndarray, nearest: np.ndarray, ssim: np.ndarray, letter: str) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "clip_id": [f"{letter}{i:05d}" for i in range(len(p_max))],
            "p_max": p_max,
            "nearest_clip_id": [f"t{i:04d}" for i in nearest],
            "flagged": p_max > TAU,
            "gated": p_max >= 4.1234,
            "ssim": ssim,
        }
    )


def patients() -> pd.DataFrame:
    number = np.arange(40)
    flagged = np.maximum(31 - 2 * number, 0)
    return pd.DataFrame(
        {
            "patient_id": [f"patient-{i:02d}" for i in number],
            "clips": 1 + number % 3,
            "hits": flagged + 40 - number,
            "best_similarity": 9.3 - 0.1 * number,
            "flagged_hits": flagged,
            "learned": True,
            "leaked": flagged > 0,
            "missed": False,
            "exposure_p": np.minimum(1.0, 0.00043 * 1.9**number),
        }
    )
