"""Labels: whether synthetic videos show the ejection fraction that was asked of them."""

from collections.abc import Callable

import numpy as np

from mnemoscope.audit.intervals import BOOTSTRAP_ROUNDS, patient_bootstrap
from mnemoscope.core.errors import DegenerateValues, Mismatch, TooFewSamples
from mnemoscope.core.types import Agreement, Estimate, Labels, Scores

Statistic = Callable[[Scores, Scores, Scores], float]

LEAST_CLIPS = 10
MOST_POINTS = 1000
_TIE = 1e-12


def label_fidelity(
    requested: Scores, measured: Scores, *, reader: str, rng: np.random.Generator, rounds: int = BOOTSTRAP_ROUNDS
) -> Labels:
    """How well re-measured ejection fractions agree with those that the clips were made for.

    Args:
        requested: EF that each clip was generated for, in percent 0–100, NaN where unknown, (N,).
        measured: EF that the reader found in the clip, in percent 0–100, NaN where it found none, (N,).
        reader: name of what measured.
        rng: draws resamples and shuffles.
        rounds: number of each.

    Returns:
        R², mean absolute error in points, and p-value, of the ``n`` clips that have both numbers, and the numbers of
        at most MOST_POINTS of them.

    Raises:
        Mismatch: if the two are not one number per clip each.
        DegenerateValues: for values outside 0–100, or if every clip was asked for the same.
        TooFewSamples: with fewer than LEAST_CLIPS clips that have both.
    """
    requested, measured = _usable(requested, measured)
    drawn = slice(None, None, -(-len(requested) // MOST_POINTS))
    return Labels(
        reader=reader,
        requested_vs_measured=Agreement(
            n=len(requested),
            r2=_resampled(r2, requested, measured, rng=rng, rounds=rounds),
            mae=_resampled(mae, requested, measured, rng=rng, rounds=rounds),
        ),
        p_value=shuffle_p(requested, measured, rng=rng, rounds=rounds),
        points=np.stack([requested[drawn], measured[drawn]], axis=1).round(1).tolist(),
    )


def r2(requested: Scores, measured: Scores, weight: Scores) -> float:
    """1 − SS_res / SS_tot, SS_tot about the mean of the requested; NaN where those of weight are all the same."""
    mean = np.average(requested, weights=weight)
    total = float(weight @ (requested - mean) ** 2)
    spread = float(np.ptp(requested[weight > 0]))
    return 1.0 - float(weight @ (requested - measured) ** 2) / total if spread > 0 else float("nan")


def mae(requested: Scores, measured: Scores, weight: Scores) -> float:
    """Weighted mean absolute difference, in the unit of both."""
    return float(np.average(np.abs(requested - measured), weights=weight))


def shuffle_p(requested: Scores, measured: Scores, *, rng: np.random.Generator, rounds: int) -> float:
    """How often labels dealt out anew agree at least as well, one-sided: (1 + #) / (1 + rounds).

    Shuffling changes neither mean nor spread of either side, so R² grows with the sum of products alone; equal sums
    count as agreeing as well.
    """
    x, y = requested - requested.mean(), measured - measured.mean()
    reached = x @ y - _TIE * np.linalg.norm(x) * np.linalg.norm(y)
    as_well = sum(int(rng.permutation(x) @ y >= reached) for _ in range(rounds))
    return (1 + as_well) / (1 + rounds)


def _usable(requested: Scores, measured: Scores) -> tuple[Scores, Scores]:
    """The clips that have both numbers, float64."""
    _require_percent(requested, measured)
    both = ~(np.isnan(requested) | np.isnan(measured))
    requested, measured = requested[both].astype(np.float64), measured[both].astype(np.float64)
    if len(requested) < LEAST_CLIPS:
        raise TooFewSamples(
            f"label fidelity needs at least {LEAST_CLIPS} clips with a requested and a measured EF, got "
            f"{len(requested)} of {len(both)}; add clips with an ef column to the synthetic set (--synthetic)"
        )
    if np.ptp(requested) == 0:
        raise DegenerateValues(
            f"label fidelity needs clips that were asked for different EFs, but all {len(requested)} have "
            f"{requested[0]:g} %; generate over a range of EFs, or leave the ef column out"
        )
    return requested, measured


def _require_percent(requested: Scores, measured: Scores) -> None:
    if requested.ndim != 1 or requested.shape != measured.shape:
        raise Mismatch(
            f"expected one requested and one measured EF per clip, got shapes {requested.shape} and "
            f"{measured.shape}; pass both in the order of the clips (requested=, measured=)"
        )
    outside = [int(((values < 0) | (values > 100)).sum()) for values in (requested, measured)]
    if any(outside):
        raise DegenerateValues(
            f"expected EF in percent from 0 to 100, found {outside[0]} requested and {outside[1]} measured values "
            f"outside it, of {len(requested)} clips; correct the ef column, or choose another reader"
        )


def _resampled(
    statistic: Statistic, requested: Scores, measured: Scores, *, rng: np.random.Generator, rounds: int
) -> Estimate:
    """With its interval from resampling clips; each synthetic clip stands for itself."""
    clips = np.arange(len(requested))
    return patient_bootstrap(lambda weight: statistic(requested, measured, weight), clips, rng=rng, rounds=rounds)
