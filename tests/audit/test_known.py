import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from mnemoscope.audit.known import _log_uneven, _Mixture, chance_share, known_share
from mnemoscope.core.errors import DegenerateValues, Mismatch, TooFewSamples
from mnemoscope.core.types import Estimate

PATIENTS = 1000


def zipf() -> np.ndarray:
    weight = np.arange(1.0, PATIENTS + 1) ** -1.0
    return np.random.default_rng(3).permutation(weight / weight.sum())


def gaussian() -> np.ndarray:
    """How often each of the gallery's points is the nearest of a further point, 128 dimensions."""
    rng = np.random.default_rng(5)
    gallery, query = rng.normal(size=(PATIENTS, 128)), rng.normal(size=(20_000, 128))
    nearest = ((gallery**2).sum(axis=1) - 2 * query @ gallery.T).argmin(axis=1)
    return np.bincount(nearest, minlength=PATIENTS) / len(query)


HUBS = {"zipf": zipf(), "gaussian": gaussian()}


def estimate(
    hubs: np.ndarray, *, share: float, n_queries: int, right: float, rng: np.random.Generator, n_holdout: int = 300
) -> Estimate:
    """Of a generator that draws evenly from a share of the patients, of whom a share ``right`` is recognised."""
    null_hits = rng.multinomial(n_holdout, hubs)
    target = rng.choice(PATIENTS, n_queries, p=hubs)
    if share:
        known = rng.permutation(PATIENTS)[: round(share * PATIENTS)]
        recognised = rng.random(n_queries) < right
        target[recognised] = rng.choice(known, recognised.sum())
    hits = np.bincount(target, minlength=PATIENTS)
    return known_share(hits, null_hits=null_hits, misattributed_share=1 - right)


@pytest.mark.parametrize("hubs", HUBS)
@pytest.mark.parametrize("share", [0.1, 0.3, 0.6])
def test_a_planted_share_is_found(hubs: str, share: float) -> None:
    found = [
        estimate(HUBS[hubs], share=share, n_queries=2000, right=0.95, rng=np.random.default_rng(seed))
        for seed in range(3)
    ]
    assert np.mean([one.value for one in found]) == pytest.approx(share, rel=0.06)
    assert sum(one.low <= share <= one.high for one in found) >= 2
    assert max(one.high - one.low for one in found) < 0.1


@pytest.mark.parametrize("hubs", HUBS)
def test_a_stranger_to_everybody_knows_nobody_and_a_copier_of_everybody_knows_all(hubs: str) -> None:
    stranger = estimate(HUBS[hubs], share=0, n_queries=1000, right=0.95, rng=np.random.default_rng(1))
    copier = estimate(HUBS[hubs], share=1, n_queries=1000, right=0.95, rng=np.random.default_rng(1))
    assert (stranger.low, stranger.value < 0.1, stranger.high < 0.25) == (0, True, True)
    assert (copier.low > 0.8, copier.value > 0.93, copier.high) == (True, True, 1)


def test_few_queries_say_little() -> None:
    found = estimate(HUBS["gaussian"], share=0.6, n_queries=100, right=0.95, rng=np.random.default_rng(0))
    assert found.low < 0.6 < found.high
    assert found.high - found.low > 0.3


def test_without_hubs_a_copier_of_everybody_looks_like_a_stranger() -> None:
    even = np.full(PATIENTS, 1 / PATIENTS)
    found = estimate(even, share=0, n_queries=2000, right=0.95, rng=np.random.default_rng(0))
    assert found.low == 0
    assert found.high > 0.95


def test_a_generator_that_also_invents_patients_is_not_taken_to_know_them() -> None:
    """Two in three queries show nobody of the train set and hit as innocents do; the rest is of 100 patients."""
    rng, hubs = np.random.default_rng(6), HUBS["zipf"]
    hits = rng.multinomial(2000, hubs) + np.bincount(rng.choice(100, 1000), minlength=PATIENTS)
    found = known_share(hits, null_hits=rng.multinomial(500, hubs), misattributed_share=0.05)
    assert found.low <= 0.1 <= found.high
    assert found.value == pytest.approx(0.1, abs=0.03)


def test_densities_are_those_of_the_two_components() -> None:
    """Twelve patients; the chance of each (hits, null hits) at one rate, written out with SciPy's Poisson."""
    hits, null = np.array([3, 0, 1, 0, 0, 2, 9, 0, 0, 1, 1, 3]), np.array([1, 0, 0, 0, 2, 0, 4, 0, 0, 0, 1, 0])
    model, share, m = _Mixture.of(hits, null), 0.25, 0.4
    density, peak = model._densities(share, np.array([m]), 0.0)
    for pair, (h, v) in enumerate(zip(model.hits, model.null_hits, strict=True)):
        for place, rate in enumerate(model.rate):
            unknown, known = (stats.poisson.pmf(h, 20 * m * rate + extra) for extra in (0, 20 * (1 - m) / (share * 12)))
            expected = stats.poisson.pmf(v, 8 * rate) * ((1 - share) * unknown + share * known)
            assert density[0, pair, place] * np.exp(peak[0, pair]) == pytest.approx(expected, rel=1e-9, abs=1e-300)


def test_uneven_drawing_is_negative_binomial_and_even_drawing_its_limit() -> None:
    count, by_chance, by_knowing = np.arange(9.0), np.full(9, 0.5), np.full(9, 2.0)
    found = _log_uneven(count, by_chance, by_knowing, 0.5)
    shape = 2.5**2 / (0.5 * 2.0**2)
    np.testing.assert_allclose(found, stats.nbinom.logpmf(count, shape, shape / (shape + 2.5)), rtol=1e-12)
    even = _log_uneven(count, by_chance, by_knowing, 0.0)
    np.testing.assert_allclose(even, stats.poisson.logpmf(count, 2.5), rtol=1e-12)
    np.testing.assert_allclose(_log_uneven(count, by_chance, by_knowing, 1e-8), even, atol=1e-6)


@pytest.mark.parametrize("n_queries", [1000, 5000])
def test_patients_drawn_unevenly_are_counted(n_queries: int) -> None:
    """Rates of 300 known patients vary by gamma, coefficient of variation 0.5; taken for even they would seem 250."""
    rng, hubs = np.random.default_rng(2), HUBS["gaussian"]
    rate = rng.gamma(4, size=300)
    hits = np.bincount(rng.choice(300, n_queries, p=rate / rate.sum()), minlength=PATIENTS)
    hits += rng.multinomial(n_queries // 20, hubs)
    found = known_share(hits, null_hits=rng.multinomial(300, hubs), misattributed_share=0.05)
    assert found.low <= 0.3 <= found.high
    assert found.value == pytest.approx(0.3, abs=0.03)


def test_likelihood_rises_with_every_round() -> None:
    rng = np.random.default_rng(0)
    model = _Mixture.of(rng.multinomial(300, HUBS["zipf"]), rng.multinomial(300, HUBS["zipf"]))
    even = np.full((1, len(model.rate)), 1 / len(model.rate))
    values = [model._best(0.2, np.array([0.3]), 0.25, even, rounds)[0][0] for rounds in (0, 1, 2, 5, 20, 100)]
    assert (np.diff(values) > 0).all()
    assert model._best(0.2, np.array([0.3]), 0.25, even, 20)[1].sum() == pytest.approx(1)


@settings(deadline=None, max_examples=8)
@given(st.lists(st.tuples(st.integers(0, 6), st.integers(0, 3)), min_size=1, max_size=15), st.randoms())
def test_order_changes_nothing_and_bounds_enclose_the_value(counts: list[tuple[int, int]], random) -> None:
    (hits, null), (mixed_hits, mixed_null) = (np.array(c).T for c in (counts, random.sample(counts, len(counts))))
    if hits.sum() and null.sum():
        found = known_share(hits, null_hits=null, misattributed_share=0.1)
        assert found == known_share(mixed_hits, null_hits=mixed_null, misattributed_share=0.1)
        assert 0 <= found.low <= found.value <= found.high <= 1


def test_nothing_misattributed_is_possible() -> None:
    hits = np.repeat([5, 0], [300, 700])
    found = known_share(hits, null_hits=np.eye(1, 1000, dtype=int)[0] * 50, misattributed_share=0.0)
    assert found.value == pytest.approx(0.3, abs=0.01)


def test_what_cannot_be_judged_is_refused() -> None:
    some = np.array([1, 0, 2])
    with pytest.raises(TooFewSamples, match=r"found 0 synthetic and 3 holdout hits.*--gate-percentile"):
        known_share(np.zeros(3, int), null_hits=some, misattributed_share=0.1)
    with pytest.raises(TooFewSamples, match="found 3 synthetic and 0 holdout hits"):
        known_share(some, null_hits=np.zeros(3, int), misattributed_share=0.1)
    with pytest.raises(Mismatch, match="hits of the same patients"):
        known_share(some, null_hits=some[:2], misattributed_share=0.1)
    with pytest.raises(DegenerateValues, match="recognises nobody"):
        known_share(some, null_hits=some, misattributed_share=1.0)


@pytest.mark.slow
@pytest.mark.parametrize("hubs", HUBS)
@pytest.mark.parametrize("n_queries", [500, 2000])
@pytest.mark.parametrize(("share", "right"), [(0.0, 0.95), (0.1, 0.85), (0.3, 0.99), (0.6, 0.85), (0.6, 0.99)])
def test_the_interval_covers_a_planted_share(hubs: str, n_queries: int, share: float, right: float) -> None:
    """Fifty runs each; the limit lies two standard errors of such a count below nine in ten."""
    rng, covered = np.random.default_rng(11), 0
    for _ in range(50):
        found = estimate(HUBS[hubs], share=share, n_queries=n_queries, right=right, rng=rng)
        covered += found.low <= share <= found.high
    assert covered >= 45 - 2 * 50**0.5 * 0.3


def test_flags_by_chance_are_bounded_from_those_that_are_not_flagged() -> None:
    """Of 400 innocents 20 are flagged where 5 % are; the lower 2.5 % point of Poisson(20) is 12."""
    assert chance_share(flagged=20, n_synthetic=400, innocents_above=25, n_holdout=500) == pytest.approx(12 / 20)
    assert chance_share(flagged=0, n_synthetic=400, innocents_above=25, n_holdout=500) == 0
    assert chance_share(flagged=400, n_synthetic=400, innocents_above=25, n_holdout=500) == 0
    assert chance_share(flagged=1, n_synthetic=4000, innocents_above=25, n_holdout=500) < 1


def test_the_bound_on_chance_flags_holds_in_all_but_a_few_sets() -> None:
    """Sets of 300 innocents and 100 copies."""
    rng = np.random.default_rng(0)
    above = 0
    for _ in range(400):
        by_chance = int(rng.binomial(300, 0.05))
        flagged = by_chance + int(rng.binomial(100, 0.95))
        bound = chance_share(flagged=flagged, n_synthetic=400, innocents_above=50, n_holdout=1000)
        above += bound > by_chance / flagged
    assert above <= 20
