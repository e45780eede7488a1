"""Known share: from which part of the train patients a generator draws, wrongly attributed clips taken out."""

from dataclasses import dataclass

import numpy as np
from scipy import special, stats

from mnemoscope.core.errors import DegenerateValues, Mismatch, TooFewSamples
from mnemoscope.core.types import Estimate

ZOOMS = 3
STEPS = 12
RATES = 30
SHARES_OF_CHANCE = 16
ROUNDS = 20
# Squared coefficients of variation of the rate at which known patients are drawn.
MOST_CHANCE = 0.99
UNEVEN = (0.0, 0.125, 0.25, 0.5)


def known_share(hits_by_patient: np.ndarray, *, null_hits: np.ndarray, misattributed_share: float) -> Estimate:
    """Share of train patients that a generator knows, in the sense that it draws clips of them.

    Hits come from two sources. A share 1 − m of the queries shows known patients and points at them; a share m points
    wherever innocents point, at hubs above all, because the query was taken for somebody else or shows nobody of the
    train set. Hits and null hits of a patient are Poisson with means N m r and N₀ r, where the rates r have any
    distribution over patients; a known patient's hits gain N (1 − m) / (share · P), drawn with a coefficient of
    variation up to 0.7. The interval is of profile likelihood over m, that unevenness and that distribution.

    Where innocents spread evenly over the patients, a copier of everybody and a stranger to everybody give the same
    hits; the interval then says so. Patients drawn still more unevenly count for fewer than they are.

    Args:
        hits_by_patient: hits of each train patient, (P,).
        null_hits: the same of holdout queries, (P,).
        misattributed_share: share of queries that the identification takes for somebody else, measured on real
            clips; m is at least this, and more if the generator invents patients. In [0, 1).

    Returns:
        The share, in [0, 1]. A patient counts as known if drawn at least as often as the mean patient is hit through
        m; without such a limit everybody could be known, at a rate of nothing.

    Raises:
        TooFewSamples: without hits on either side.
        Mismatch: if both are not of the same patients.
        DegenerateValues: if ``misattributed_share`` is out of range.

    Source: ours; the rates as in Laird 1978 (mixing distribution by expectation–maximisation), the interval from
    Wilks 1938.
    """
    _check(hits_by_patient, null_hits, misattributed_share)
    model = _Mixture.of(hits_by_patient, null_hits)
    found = Estimate(0.5, 0.0, 1.0)
    step = 0.0
    for _ in range(ZOOMS):
        shares = np.linspace(max(0.0, found.low - step), min(1.0, found.high + step), STEPS + 1)
        found, step = _supported(shares, model.profile(shares, misattributed_share)), shares[1] - shares[0]
    return found


def chance_share(*, flagged: int, n_synthetic: int, innocents_above: int, n_holdout: int) -> float:
    """Share of the flagged clips that chance alone has brought at the least.

    Clips that are not flagged behave as innocents do; were a share q of innocents flagged, these unflagged ones
    stand for q / (1 − q) times as many flagged by chance. The bound is the lower 2.5 % point of a Poisson number of
    that mean.

    Args:
        flagged: synthetic clips above tau, F.
        n_synthetic: synthetic clips N.
        innocents_above: holdout clips above tau.
        n_holdout: holdout clips.

    Returns:
        In [0, 1): of N innocents all flags are by chance, of copies alone none.
    """
    if flagged == 0:
        return 0.0
    expected = (n_synthetic - flagged) * innocents_above / (n_holdout - innocents_above)
    return float(min(stats.poisson.ppf(0.025, expected) / flagged, MOST_CHANCE))


@dataclass(frozen=True)
class _Mixture:
    """Patients by (hits, null hits), and a grid of rates at which chance may hit them.

    Attributes:
        hits: of each distinct pair, (U,).
        null_hits: of each distinct pair, (U,).
        patients: with each pair, (U,).
        rate: chance that an innocent query hits one given patient, 0 among them, (K,).
    """

    hits: np.ndarray
    null_hits: np.ndarray
    patients: np.ndarray
    rate: np.ndarray

    @classmethod
    def of(cls, hits: np.ndarray, null_hits: np.ndarray) -> "_Mixture":
        (hit, null), patients = np.unique(np.stack([hits, null_hits]), axis=1, return_counts=True)
        n, n_null = hits.sum(), null_hits.sum()
        highest = max(hits.max() / n, null_hits.max() / n_null)
        even = np.geomspace(min(0.02 / len(hits), highest / 2), highest, RATES)
        # Large counts tell rates apart by the square root: a step there of one is two of its deviations.
        roots = np.arange(1, np.sqrt(highest * max(n, n_null))) ** 2 / max(n, n_null)
        return cls(hit, null, patients, np.unique(np.concatenate([[0.0], even, roots])))

    def profile(self, shares: np.ndarray, least: float) -> np.ndarray:
        """Log-likelihood of each known share at its best m ≥ ``least``, unevenness and distribution of rates, (S,)."""
        return np.max([self._profile(shares, least, uneven) for uneven in UNEVEN], axis=0)

    def _profile(self, shares: np.ndarray, least: float, uneven: float) -> np.ndarray:
        # Fine near the least m, where the likelihood bends most.
        m = least + (1 - least) * np.linspace(0, 1, SHARES_OF_CHANCE + 1)[:-1] ** 2
        even = np.full(len(self.rate), 1 / len(self.rate))
        nobody = self._best(0.0, np.ones(1), 0.0, even[None], 10 * ROUNDS)
        weight, result = np.repeat(nobody[1], len(m), axis=0), []
        for share in shares:
            possible = share * m <= 1 - m
            # A rate whose weight has died out comes back.
            start = 0.99 * weight[possible] + 0.01 * even
            value, weight[possible] = nobody if share == 0 else self._best(share, m[possible], uneven, start, ROUNDS)
            result.append(value.max(initial=-np.inf))
        return np.array(result)

    def _best(
        self, share: float, m: np.ndarray, uneven: float, weight: np.ndarray, rounds: int
    ) -> tuple[np.ndarray, np.ndarray]:
        """Log-likelihood (m,) and the weight of each rate (m, K), by expectation–maximisation."""
        density, peak = self._densities(share, m, uneven)
        part = self.patients / self.patients.sum()
        for _ in range(rounds):
            mixed = np.matmul(density, weight[:, :, None])[:, :, 0]
            weight = weight * np.matmul((part / mixed)[:, None], density)[:, 0]
        mixed = np.matmul(density, weight[:, :, None])[:, :, 0]
        return (np.log(mixed) + peak) @ self.patients, weight

    def _densities(self, share: float, m: np.ndarray, uneven: float) -> tuple[np.ndarray, np.ndarray]:
        """Chance of each pair at each rate over its peak (m, U, K), and the peak's logarithm (m, U)."""
        n, n_null = self.patients @ self.hits, self.patients @ self.null_hits
        number, place = np.unique(self.hits, return_inverse=True)
        hits, by_chance = number[:, None], n * m[:, None, None] * self.rate
        log_density = special.xlog1py(1, -share) + _log_poisson(hits, by_chance)
        if share:
            by_knowing = n * (1 - m[:, None, None]) / (share * self.patients.sum())
            log_density = np.logaddexp(log_density, np.log(share) + _log_uneven(hits, by_chance, by_knowing, uneven))
        log_density = log_density[:, place] + _log_poisson(self.null_hits[:, None], n_null * self.rate)
        peak = log_density.max(axis=2)
        return np.exp(log_density - peak[:, :, None]), peak


def _log_uneven(count: np.ndarray, by_chance: np.ndarray, by_knowing: np.ndarray, uneven: float) -> np.ndarray:
    """Negative binomial of the mean and variance of the two sources together; Poisson where drawing is even."""
    mean = by_chance + by_knowing
    if uneven == 0:
        return _log_poisson(count, mean)
    shape = mean**2 / (uneven * by_knowing**2)
    ways = special.gammaln(count + shape) - special.gammaln(shape) - special.gammaln(count + 1)
    return ways - shape * np.log1p(mean / shape) + special.xlogy(count, mean / (shape + mean))


def _log_poisson(count: np.ndarray, mean: np.ndarray) -> np.ndarray:
    return special.xlogy(count, mean) - mean - special.gammaln(count + 1)


def _supported(share: np.ndarray, log_likelihood: np.ndarray) -> Estimate:
    """The most likely share and the range of those within 1.92 of its log-likelihood, between grid points linearly."""
    best = int(np.argmax(log_likelihood))
    # Where nobody is known, m has no meaning either: two parameters are given up, not one.
    margin = log_likelihood - log_likelihood[best] + stats.chi2.ppf(0.95, np.where(share == 0, 2, 1)) / 2
    inside = np.flatnonzero(margin >= 0)

    def crossing(last: int, beyond: int) -> float:
        if not 0 <= beyond < len(share):
            return float(share[last])
        part = margin[last] / (margin[last] - margin[beyond])
        return float(share[last] + part * (share[beyond] - share[last]))

    return Estimate(float(share[best]), crossing(inside[0], inside[0] - 1), crossing(inside[-1], inside[-1] + 1))


def _check(hits: np.ndarray, null_hits: np.ndarray, misattributed_share: float) -> None:
    if hits.shape != null_hits.shape:
        raise Mismatch(f"expected hits of the same patients, found {hits.shape} and {null_hits.shape} (null_hits=)")
    if hits.sum() == 0 or null_hits.sum() == 0:
        raise TooFewSamples(
            f"the known share needs gated queries of both sets, found {hits.sum()} synthetic and {null_hits.sum()} "
            f"holdout hits; add clips or lower the gate (--gate-percentile)"
        )
    if not 0 <= misattributed_share < 1:
        raise DegenerateValues(
            f"expected a misattributed share in [0, 1), found {misattributed_share:g}; with 1 the identification "
            f"recognises nobody and cannot be used (misattributed_share=)"
        )
