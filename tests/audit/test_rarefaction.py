from math import comb

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mnemoscope.audit.intervals import wilson
from mnemoscope.audit.rarefaction import _Classes, curve_steps, matched_recall, one_per_patient, rarefy
from mnemoscope.core.errors import DegenerateValues, Mismatch, TooFewSamples
from mnemoscope.core.types import MatchedRecall
from tests.reference.recall_oracles import distinct_of_every_choice, variance_of_rarefied

counts = st.lists(st.integers(0, 3), min_size=1, max_size=5)


def zipf(n_gallery: int, exponent: float) -> np.ndarray:
    weight = np.arange(1.0, n_gallery + 1) ** -exponent
    return weight / weight.sum()


def log_normal(n_gallery: int) -> np.ndarray:
    weight = np.exp(np.random.default_rng(1).normal(0, 2, n_gallery))
    return weight / weight.sum()


def match(nearest_synthetic: np.ndarray, nearest_holdout: np.ndarray, n_gallery: int, **changed) -> MatchedRecall:
    given = {
        "gated_synthetic": np.ones(len(nearest_synthetic), bool),
        "gated_holdout": np.ones(len(nearest_holdout), bool),
        "patient_holdout": np.arange(len(nearest_holdout)),
        "rng": np.random.default_rng(0),
    }
    return matched_recall(
        nearest_synthetic=nearest_synthetic,
        nearest_holdout=nearest_holdout,
        n_gallery=n_gallery,
        **(given | changed),
    )


@given(counts, st.integers(0, 4))
def test_it_is_the_mean_over_every_choice_of_queries(hits: list[int], ungated: int) -> None:
    targets = [clip for clip, hit in enumerate(hits) for _ in range(hit)] + [None] * ungated
    steps = list(range(min(len(targets), 6) + 1))
    if targets:
        found = rarefy(np.array(hits), steps, n_queries=len(targets))
        assert found.expected == pytest.approx([distinct_of_every_choice(targets, n) for n in steps], abs=1e-9)


def test_large_counts_agree_with_whole_number_arithmetic() -> None:
    hits, n_queries = np.random.default_rng(0).negative_binomial(0.3, 0.01, 40), 2000
    for n in (1, 137, 999, 2000):
        exact = sum(1 - comb(n_queries - hit, n) / comb(n_queries, n) for hit in hits.tolist())
        assert rarefy(hits, [n], n_queries=n_queries).expected[0] == pytest.approx(exact, rel=1e-12)


@given(counts, st.permutations(range(5)), st.integers(0, 3))
def test_the_order_of_the_gallery_changes_nothing(hits: list[int], order: list[int], ungated: int) -> None:
    padded, n_queries = np.array(hits + [0] * (5 - len(hits))), sum(hits) + ungated
    if n_queries:
        steps = curve_steps(n_queries)
        assert rarefy(padded[order], steps, n_queries=n_queries) == rarefy(padded, steps, n_queries=n_queries)


@settings(deadline=None)
@given(st.lists(st.integers(0, 9), min_size=1, max_size=12), st.integers(0, 20))
def test_a_curve_rises_and_stays_within_its_band(hits: list[int], ungated: int) -> None:
    n_queries = sum(hits) + ungated
    if n_queries:
        curve = rarefy(np.array(hits), list(range(n_queries + 1)), n_queries=n_queries)
        assert np.diff(curve.expected).min(initial=0) >= -1e-9
        for n, expected, low, high in zip(curve.n, curve.expected, curve.low, curve.high, strict=True):
            assert 0 <= low <= expected <= high <= min(n, len(hits)) + 1e-9


def test_one_query_reaches_one_clip_and_all_queries_reach_all_hit() -> None:
    assert rarefy(np.array([4, 0, 1]), [0, 1, 5]).expected == pytest.approx([0, 1, 2])


def test_where_nothing_was_hit_the_band_says_what_was_not_seen() -> None:
    found = rarefy(np.zeros(50, int), [1, 100], n_queries=100)
    assert (found.expected, found.low) == ([0, 0], [0, 0])
    assert found.high == pytest.approx([wilson(0, 100).high, 100 * wilson(0, 100).high])


@pytest.mark.parametrize("n", [1, 2, 3, 4, 5])
def test_the_variance_is_that_over_all_outcomes(n: int) -> None:
    """Five queries over three clips of chance .3, .2 and .1; the formula drops terms of order 1/n alone."""
    classes = _Classes(np.array([0, 1, 2]), np.array([1, 1, 1]), np.array([0.1, 0.2, 0.3]), 5)
    assert classes._variance(n) == pytest.approx(variance_of_rarefied([0.1, 0.2, 0.3], 5, n), rel=0.08)


def test_colwells_variance_would_be_too_wide_where_ours_is_not() -> None:
    """300 queries, 1000 even clips: the distinct ones deviate by 5.3; from Colwell's formula one would think 13.8."""
    rng, distinct, ours = np.random.default_rng(0), [], []
    for _ in range(200):
        hits = np.bincount(rng.integers(0, 1000, 300), minlength=1000)
        classes = _Classes.of(hits, 300)
        distinct.append((hits > 0).sum())
        ours.append(np.sqrt(classes._variance(300)))
    assert np.std(distinct) == pytest.approx(5.3, rel=0.12)
    assert np.mean(ours) == pytest.approx(np.std(distinct), rel=0.3)
    colwell = np.sqrt(np.mean(distinct) * (1 - np.mean(distinct) / 1000))
    assert colwell > 2.4 * np.std(distinct)


@pytest.mark.parametrize(("n_queries", "n"), [(300, 300), (300, 60), (1300, 300)])
def test_the_band_covers_a_known_multinomial(n_queries: int, n: int) -> None:
    rng, p = np.random.default_rng(5), zipf(500, 0.8) * 0.9
    truth = float((1 - (1 - p) ** n).sum())
    covered = 0
    for _ in range(200):
        hits = rng.multinomial(n_queries, np.append(p, 0.1))[:-1]
        curve = rarefy(hits, [n], n_queries=n_queries)
        covered += curve.low[0] <= truth <= curve.high[0]
    assert 0.90 <= covered / 200 <= 0.99


@pytest.mark.slow
@pytest.mark.parametrize("n_gallery", [1000, 7465])
@pytest.mark.parametrize("hubs", [lambda m: zipf(m, 0.7), lambda m: zipf(m, 1.0), log_normal])
def test_the_ratio_of_a_perfect_sampler_covers_one(n_gallery: int, hubs) -> None:
    rng, p = np.random.default_rng(8), hubs(n_gallery)
    covered = 0
    for _ in range(400):
        synthetic, holdout = (rng.choice(n_gallery, size, p=p) for size in (1300, 300))
        gated = {"gated_synthetic": rng.random(1300) < 0.95, "gated_holdout": rng.random(300) < 0.95}
        ratio = match(synthetic, holdout, n_gallery, **gated).ratio
        covered += ratio.low <= 1 <= ratio.high
    assert 0.90 <= covered / 400 <= 0.99


def test_a_sampler_of_half_the_patients_is_seen_to_reach_less() -> None:
    rng = np.random.default_rng(0)
    found = match(rng.integers(0, 100, 1300), rng.integers(0, 200, 300), 200)
    expected = [100 * (1 - 0.99**300), 200 * (1 - 0.995**300)]
    assert found.n == 300
    assert [found.synthetic.value, found.holdout.value] == pytest.approx(expected, rel=0.05)
    assert found.ratio.value == pytest.approx(found.synthetic.value / found.holdout.value)
    assert found.ratio.high < 0.75


def test_noise_has_a_ratio_of_zero_with_an_upper_bound() -> None:
    found = match(np.zeros(50, int), np.arange(20), 30, gated_synthetic=np.zeros(50, bool))
    assert (found.ratio.value, found.ratio.low) == (0, 0)
    assert 0 < found.ratio.high < 0.15


def test_a_patients_second_clip_is_no_second_innocent() -> None:
    """Each holdout patient's two clips share their nearest; a perfect sampler's clips come one by one."""
    rng, p = np.random.default_rng(2), zipf(300, 0.5)
    ratios, careless = [], []
    for _ in range(30):
        holdout, synthetic = np.repeat(rng.choice(300, 150, p=p), 2), rng.choice(300, 1000, p=p)
        ratios.append(match(synthetic, holdout, 300, patient_holdout=np.repeat(np.arange(150), 2)))
        careless.append(match(synthetic, holdout, 300).ratio)
    assert {found.n for found in ratios} == {150}
    assert np.mean([found.ratio.low <= 1 <= found.ratio.high for found in ratios]) > 0.85
    assert np.mean([ratio.low <= 1 <= ratio.high for ratio in careless]) < 0.2


def test_the_curve_of_patients_does_not_know_how_often_each_was_filmed() -> None:
    rng = np.random.default_rng(0)
    nearest, gated = rng.integers(0, 90, 40), rng.random(40) < 0.8
    filmed = 1 + rng.integers(0, 3, 40)
    rows = rng.permutation(np.repeat(np.arange(40), filmed))
    found = one_per_patient(nearest[rows], gated[rows], patient=rows, n_gallery=90, rng=rng)
    known = rarefy(np.bincount(nearest[gated], minlength=90), curve_steps(40), n_queries=40)
    assert found.n == known.n
    for name in ("expected", "low", "high"):
        assert getattr(found, name) == pytest.approx(getattr(known, name))
    counted_twice = rarefy(np.bincount(nearest[rows][gated[rows]], minlength=90), [40], n_queries=len(rows))
    assert counted_twice.expected[0] < 0.95 * known.expected[-1]


def test_the_choice_among_a_patients_clips_is_averaged_out() -> None:
    """Patient 0 points at clip 0 or 1, patient 1 always at 0: one or two distinct clips, each as often."""
    found = match(np.arange(9), np.array([0, 1, 0]), 9, patient_holdout=np.array(["a", "a", "b"]))
    assert found.n == 2
    assert found.holdout.value == pytest.approx(1.5, abs=0.2)


def test_the_clips_order_changes_nothing() -> None:
    rng = np.random.default_rng(4)
    synthetic, holdout, order = rng.integers(0, 40, 60), rng.integers(0, 40, 25), rng.permutation(25)
    assert match(synthetic, holdout[order], 40) == match(synthetic[::-1], holdout, 40)


def test_n_is_of_the_caller_where_both_sets_have_it() -> None:
    found = match(np.arange(9), np.arange(5), 9, n=3)
    assert (found.n, found.synthetic.value, found.holdout.value) == (3, pytest.approx(3), pytest.approx(3))
    with pytest.raises(TooFewSamples, match="rarefaction to 6 needs as many queries, got 5"):
        match(np.arange(9), np.arange(5), 9, n=6)


def test_what_cannot_be_rarefied() -> None:
    with pytest.raises(TooFewSamples, match="at least one query, got 0"):
        rarefy(np.zeros(3, int), [1])
    with pytest.raises(Mismatch, match="at most one hit per query, found 4 of 3"):
        rarefy(np.array([4]), [1], n_queries=3)
    with pytest.raises(DegenerateValues, match="hits are counts, found -1"):
        rarefy(np.array([4, -1]), [1])
    with pytest.raises(TooFewSamples, match=r"two holdout clips that pass the gate, found 1.*--gate-percentile"):
        match(np.arange(3), np.arange(3), 3, gated_holdout=np.array([True, False, False]))


def test_steps_run_from_one_to_all() -> None:
    assert curve_steps(1) == [1]
    assert curve_steps(3) == [1, 2, 3]
    steps = curve_steps(100_000)
    assert (steps[0], steps[-1]) == (1, 100_000)
    assert len(steps) == len(set(steps)) <= 40
