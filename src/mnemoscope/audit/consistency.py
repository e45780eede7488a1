"""Consistency: whether the frames of a synthetic video show one patient, and move as those of a real video do."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Shaped

from mnemoscope.audit.intervals import BOOTSTRAP_ROUNDS, patient_bootstrap, wilson
from mnemoscope.audit.verification import PairScores, auc_by_patient
from mnemoscope.core.errors import DegenerateValues, Mismatch, TooFewSamples
from mnemoscope.core.types import ClipIndex, Consistency, Curve, Estimate, Features, Scores

Patients = Shaped[np.ndarray, " N"]
LagLogits = Float[np.ndarray, "N lags"]

CURVE_PERCENTILES = (5.0, 50.0, 95.0)
ODD_PERCENT = 5.0
LEAST_REAL_CLIPS = 20
_SAME = 1e-6


@dataclass(frozen=True)
class SetFrames:
    """Frames of one set.

    Attributes:
        logits: frame 0 of each clip against its frame at each lag above 0, NaN where the clip is too short, (N, lags).
        values: features of at least two frames of each clip in order of time, (R, D). Real and synthetic clips need
            the same number of frames at the same distance; only consecutive ones tell a clip out of order from a
            steady one.
        clip: clip number of each row of ``values``, non-decreasing, every number from 0 to N − 1 present, (R,).
    """

    logits: LagLogits
    values: Features
    clip: ClipIndex

    def __post_init__(self) -> None:
        if len(self.logits) != len(_first_rows(self.clip)):
            raise Mismatch(
                f"expected logits and features of the same clips, got logits of {len(self.logits)} and features of "
                f"{len(_first_rows(self.clip))}; take both from one table of clips"
            )


def consistency(
    *,
    real: SetFrames,
    synthetic: SetFrames,
    different_logits: LagLogits,
    partner: ClipIndex,
    real_patients: Patients,
    lag_share: list[float],
    rng: np.random.Generator,
    rounds: int = BOOTSTRAP_ROUNDS,
) -> Consistency:
    """Curves, correlations and movement of real and synthetic clips, beside frames of two real patients.

    Args:
        real: holdout clips, M of them.
        synthetic: synthetic clips.
        different_logits: frame 0 of each real clip against its partner's frame at each lag, (M, lags).
        partner: number of a real clip of another patient, see :func:`strangers`, (M,).
        real_patients: patient of each real clip, (M,).
        lag_share: lags as shares of the clip, in (0, 1].
        rng: draws the resamples; synthetic clips are resampled one by one.
        rounds: number of resamples.

    Raises:
        Mismatch: if lags, clips or patients do not go together.
        DegenerateValues: for NaN or infinite logits, or features without a difference.
        TooFewSamples: with clips of fewer than two frames, or fewer than LEAST_REAL_CLIPS real ones.
    """
    _require_lags(lag_share, real.logits, synthetic.logits, different_logits)
    _require_strangers(real.logits, different_logits, real_patients, partner)
    moves = {name: movement(part.values, part.clip) for name, part in (("real", real), ("synthetic", synthetic))}
    frozen, jumping = frozen_and_jumping(**moves)
    correlations = {
        "real": (clip_correlations(real.values, real.clip), real_patients),
        "synthetic": (clip_correlations(synthetic.values, synthetic.clip), np.arange(len(synthetic.logits))),
        "different": (cross_correlations(real.values, real.clip, partner), real_patients),
    }
    return Consistency(
        clips={name: len(values) for name, (values, _) in correlations.items()},
        lag_share=[float(share) for share in lag_share],
        real=lag_curve(real.logits),
        synthetic=lag_curve(synthetic.logits),
        different=lag_curve(different_logits),
        separation_auc=separation(real.logits, different_logits, real_patients, rng=rng, rounds=rounds),
        mcc={name: _mean(*rows, rng=rng, rounds=rounds) for name, rows in correlations.items()},
        frozen=frozen,
        jumping=jumping,
    )


def strangers(patients: Patients, *, rng: np.random.Generator) -> ClipIndex:
    """For each clip a clip of another patient, each of those equally likely.

    Args:
        patients: patient of each clip, (N,).
        rng: draws them.

    Raises:
        TooFewSamples: with clips of one patient only.
    """
    _, code, count = np.unique(patients, return_inverse=True, return_counts=True)
    if len(count) < 2:
        raise TooFewSamples(
            f"expected clips of at least two patients to compare different ones, got {len(patients)} clips of "
            f"{len(count)}; add holdout patients"
        )
    by_patient = np.argsort(code, kind="stable")
    first = np.cumsum(count) - count
    # Places in by_patient, the patient's own left out.
    place = rng.integers(len(patients) - count[code])
    return by_patient[place + np.where(place >= first[code], count[code], 0)]


def lag_curve(logits: LagLogits) -> Curve:
    """Quantiles (5, 50, 95 %) over clips of the logit at each lag.

    Args:
        logits: (N, lags); NaN from the lag on that a clip is too short for.

    Raises:
        DegenerateValues: for infinite logits, or NaN before a number.
        TooFewSamples: if no clip is long enough for a lag.

    Source: Dombrowski et al. 2024, section 4.3, which draws every clip of at least 80 frames.
    """
    present = _present(logits)
    if not present.any(axis=0).all():
        raise TooFewSamples(
            f"expected a clip for each of the {logits.shape[1]} lags, but none of {len(logits)} is long enough for lag "
            f"number {int(np.argmin(present.any(axis=0))) + 1}; add longer clips or take shorter lags (lag_share=)"
        )
    low, median, high = np.nanpercentile(logits.astype(np.float64), CURVE_PERCENTILES, axis=0)
    return Curve(median=median.tolist(), low=low.tolist(), high=high.tolist())


def separation(
    same: LagLogits,
    different: LagLogits,
    patients: Patients,
    *,
    rng: np.random.Generator,
    rounds: int = BOOTSTRAP_ROUNDS,
) -> Estimate:
    """How often two frames of one clip score above two of different patients, over all lags, resampling patients.

    Args:
        same: frame 0 against later frames of the same clip, (N, lags).
        different: frame 0 against frames of a clip of another patient, (N, lags).
        patients: patient of each clip's frame 0, (N,).
        rng: draws the resamples.
        rounds: number of resamples.
    """
    kept = [_present(logits) for logits in (same, different)]
    of_patient = np.broadcast_to(patients[:, None], same.shape)
    pairs = PairScores(same[kept[0]], of_patient[kept[0]], different[kept[1]], of_patient[kept[1]])
    return auc_by_patient(pairs, rng=rng, rounds=rounds)


def mean_correlation(values: Features) -> float:
    """Mean Pearson correlation over the pairs of different frames of one clip, features of shape (T, D).

    Source: Dombrowski et al. 2024, Eq. 3, which also counts each frame with itself; see :func:`clip_correlations`.
    """
    return float(clip_correlations(values, np.zeros(len(values), dtype=np.int64))[0])


def clip_correlations(values: Features, clip: ClipIndex) -> Scores:
    """:func:`mean_correlation` of each clip; their mean weighs each clip the same.

    With unit vectors z of T frames the sum over pairs of different frames is |Σ z|² − T.

    Args:
        values: features, (R, D).
        clip: see :class:`SetFrames`, (R,).

    Raises:
        DegenerateValues: if all frames of all clips have the same feature: a constant network would score 1. A frozen
            clip among others is a finding and has correlation 1.
        TooFewSamples: for a clip of one frame.
    """
    total, count = _sums(_unit_rows(values), clip)
    _require_pairs(count)
    return ((total**2).sum(axis=1) - count) / (count * (count - 1))


def cross_correlations(values: Features, clip: ClipIndex, partner: ClipIndex) -> Scores:
    """The same between each clip and another: mean Pearson correlation over all pairs of a frame of either.

    Args:
        values: features, (R, D).
        clip: see :class:`SetFrames`, (R,).
        partner: number of the other clip, see :func:`strangers`, (N,).
    """
    total, count = _sums(_unit_rows(values), clip)
    return (total * total[partner]).sum(axis=1) / (count * count[partner])


@dataclass(frozen=True)
class Movement:
    """How much each clip moves, (N,) each.

    Attributes:
        spread: root mean square distance of its frames from their mean; small if one frame is repeated, with or
            without new noise.
        largest_step: greatest distance of two successive frames; large at a cut and where frames are out of order.
    """

    spread: Scores
    largest_step: Scores


def movement(values: Features, clip: ClipIndex) -> Movement:
    """Movement of clips in feature space.

    Args:
        values: features, (R, D).
        clip: see :class:`SetFrames`, (R,).

    Raises:
        TooFewSamples: for a clip of one frame.
    """
    values = values.astype(np.float64)
    total, count = _sums(values, clip)
    _require_pairs(count)
    away = ((values - (total / count[:, None])[clip]) ** 2).sum(axis=1)
    step = np.linalg.norm(np.diff(values, axis=0), axis=1)
    step[np.diff(clip) > 0] = -np.inf
    first = _first_rows(clip)
    spread = np.sqrt(np.add.reduceat(away, first) / (count - 1))
    return Movement(spread, np.maximum.reduceat(np.append(step, -np.inf), first))


def frozen_and_jumping(*, real: Movement, synthetic: Movement) -> tuple[Estimate, Estimate]:
    """Shares of synthetic clips that move less, and that leap further, than all but a twentieth of the real ones.

    By definition one real clip in twenty does either. The largest step is taken as it is and not relative to the
    clip's median step: where frames are out of order, every step is large.

    Args:
        real: movement of real clips.
        synthetic: movement of synthetic clips.

    Returns:
        (frozen, jumping) with Wilson intervals; a clip exactly at the limit is neither.

    Raises:
        TooFewSamples: with fewer real clips than a twentieth of them needs.
    """
    if len(real.spread) < LEAST_REAL_CLIPS:
        raise TooFewSamples(
            f"what all but {ODD_PERCENT:g} % of real clips do needs at least {LEAST_REAL_CLIPS} of them, got "
            f"{len(real.spread)}; add holdout clips"
        )
    frozen = synthetic.spread < np.percentile(real.spread, ODD_PERCENT)
    jumping = synthetic.largest_step > np.percentile(real.largest_step, 100 - ODD_PERCENT)
    return wilson(int(frozen.sum()), len(frozen)), wilson(int(jumping.sum()), len(jumping))


def _mean(values: Scores, patients: Patients, *, rng: np.random.Generator, rounds: int) -> Estimate:
    return patient_bootstrap(lambda weight: float(np.average(values, weights=weight)), patients, rng=rng, rounds=rounds)


def _first_rows(clip: ClipIndex) -> ClipIndex:
    """Row at which each clip begins."""
    begins = np.diff(clip, prepend=-1)
    if not np.isin(begins, (0, 1)).all():
        raise AssertionError("clip numbers are non-decreasing and every number from 0 on is present")
    return np.flatnonzero(begins)


def _sums(rows: Features, clip: ClipIndex) -> tuple[Features, ClipIndex]:
    """Sum over the frames of each clip, (N, D), and their number, (N,)."""
    first = _first_rows(clip)
    if len(first) == 0:
        raise TooFewSamples("expected at least one clip with features, got none; add clips")
    return np.add.reduceat(rows, first, axis=0), np.diff(first, append=len(clip))


def _unit_rows(values: Features) -> Features:
    """Each row minus its mean at length 1, so that products of rows are Pearson correlations."""
    values = values.astype(np.float64)
    centred = values - values.mean(axis=1, keepdims=True)
    length = np.linalg.norm(centred, axis=1, keepdims=True)
    size = np.abs(values).max(initial=0.0)
    constant = int((~(length > _SAME * size)).sum())
    alike = len(values) > 1 and np.ptp(values, axis=0).max() <= _SAME * size
    if constant or alike:
        found = (
            "the same features for every frame"
            if alike
            else f"{constant} frames whose features are NaN or all one number"
        )
        raise DegenerateValues(
            f"correlation needs features that differ, found {found} among {len(values)}; "
            f"train the re-identification model longer (--set reid.loop.epochs=…) or check the clips"
        )
    return centred / length


def _require_pairs(count: ClipIndex) -> None:
    if count.min() < 2:
        raise TooFewSamples(
            f"expected at least two frames of each clip, got one of {int((count < 2).sum())} of {len(count)} clips; "
            f"leave out clips of one frame or take more frames of each"
        )


def _present(logits: LagLogits) -> np.ndarray:
    """Where a clip is long enough; NaN means too short only after a clip's last number."""
    present = ~np.isnan(logits)
    returns = int((present[:, 1:] & ~present[:, :-1]).any(axis=1).sum())
    if returns or np.isinf(logits).any():
        raise DegenerateValues(
            f"expected finite logits, NaN only at lags a clip is too short for; found {int(np.isinf(logits).sum())} "
            f"infinite ones and NaN before a number in {returns} of {len(logits)} clips; "
            f"train the re-identification model again"
        )
    return present


def _require_lags(lag_share: list[float], *logits: LagLogits) -> None:
    lags = [block.shape[1] for block in logits]
    if set(lags) != {len(lag_share)}:
        raise Mismatch(
            f"expected logits at the {len(lag_share)} lags of lag_share for real, synthetic and different frames, "
            f"got {lags}; compute all three at the same lags (lag_share=)"
        )
    if not all(0 < share <= 1 for share in lag_share):
        raise Mismatch(
            f"expected lags in (0, 1], got {lag_share}; leave out lag 0, a frame is like itself (lag_share=)"
        )


def _require_strangers(real: LagLogits, different: LagLogits, patients: Patients, partner: ClipIndex) -> None:
    counts = [len(part) for part in (real, different, patients, partner)]
    if len(set(counts)) > 1:
        raise Mismatch(
            f"expected logits, different logits, patient and partner of each real clip, got {counts} of them; "
            f"take all four from one table of clips"
        )
    own = int((patients == patients[partner]).sum())
    if own:
        raise Mismatch(
            f"expected partners of other patients, but {own} of {len(partner)} real clips have one of their own; "
            f"draw them with strangers(real_patients, rng=…) (partner=)"
        )
