import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from mnemoscope.audit.recall import Hits, count_hits, gated_queries, most_hit

# Gallery of six clips; tau 2, gate 0.
NEAREST = np.array([0, 0, 1, 2, 3, 3, 4])
P_MAX = np.array([1.0, 3.0, 2.5, 0.0, -0.5, -9.0, 2.0])


def hits(gate: float | None = 0.0, order: list[int] | None = None) -> Hits:
    chosen = np.arange(7) if order is None else np.array(order)
    return count_hits(NEAREST[chosen], P_MAX[chosen], n_gallery=6, tau=2.0, gate=gate)


def test_a_gallery_by_hand() -> None:
    found = hits()
    assert found.all.tolist() == [2, 1, 1, 0, 1, 0]
    assert found.unflagged.tolist() == [1, 0, 1, 0, 1, 0]
    assert found.flagged.tolist() == [1, 1, 0, 0, 0, 0]
    assert found.learned.tolist() == [True, True, True, False, True, False]
    assert found.learned_and_flagged.tolist() == [False, True, False, False, False, False]
    assert found.leaked.tolist() == [True, True, False, False, False, False]
    assert found.missed.tolist() == [False, False, False, True, False, True]


def test_the_paper_counts_every_query() -> None:
    found = hits(gate=None)
    assert found.all.tolist() == [2, 1, 1, 2, 1, 0]
    assert found.missed.tolist() == [False] * 5 + [True]


def test_tau_is_exceeded_and_the_gate_is_met() -> None:
    at_tau = count_hits(np.array([0]), np.array([2.0]), n_gallery=1, tau=2.0, gate=2.0)
    assert (at_tau.flagged[0], at_tau.all[0]) == (0, 1)
    assert gated_queries(np.array([2.0, 1.999]), 2.0).tolist() == [True, False]


def test_noise_below_the_gate_has_learned_nobody() -> None:
    rng = np.random.default_rng(0)
    noise, nearest = rng.normal(-50, 1, 1000), rng.integers(0, 30, 1000)
    assert count_hits(nearest, noise, n_gallery=30, tau=6.0, gate=4.0).learned.sum() == 0
    assert count_hits(nearest, noise, n_gallery=30, tau=6.0, gate=None).learned.sum() == 30


def test_a_query_unlike_any_real_clip_does_not_count_however_close() -> None:
    found = count_hits(
        np.array([0, 1]), np.array([1.0, 3.0]), n_gallery=2, tau=2.0, gate=0.0, like_real=np.array([True, False])
    )
    assert found.learned.tolist() == [True, False]
    assert found.leaked.tolist() == [False, True]


def test_a_flagged_query_below_the_gate_leaks_although_it_taught_nothing() -> None:
    found = count_hits(np.array([1]), np.array([3.0]), n_gallery=2, tau=2.0, gate=4.0)
    assert (found.learned[1], found.leaked[1], found.missed[1]) == (False, True, False)


def test_no_query_hits_nobody() -> None:
    found = count_hits(np.array([], dtype=int), np.array([]), n_gallery=3, tau=0.0, gate=None)
    assert found.missed.all()


@given(st.permutations(range(7)), st.sampled_from([None, 0.0, -1.0]))
def test_order_of_the_queries_changes_nothing(order: list[int], gate: float | None) -> None:
    for name in ("all", "unflagged", "flagged"):
        assert np.array_equal(getattr(hits(gate, order), name), getattr(hits(gate), name))


@given(st.lists(st.tuples(st.integers(0, 4), st.integers(-4, 4)), max_size=30), st.integers(-4, 4))
def test_counts_agree_with_a_loop(queries: list[tuple[int, int]], gate: int) -> None:
    nearest = np.array([clip for clip, _ in queries], dtype=int)
    p_max = np.array([float(score) for _, score in queries])
    found = count_hits(nearest, p_max, n_gallery=5, tau=1.0, gate=float(gate))
    for clip in range(5):
        scores = [score for at, score in queries if at == clip]
        assert found.all[clip] == sum(score >= gate for score in scores)
        assert found.unflagged[clip] == sum(gate <= score <= 1 for score in scores)
        assert found.flagged[clip] == sum(score > 1 for score in scores)


def test_the_most_hit_come_first_and_ties_by_number() -> None:
    assert most_hit(np.array([1, 3, 0, 3, 2]), count=10).tolist() == [1, 3, 4, 0]
    assert most_hit(np.array([1, 3, 0, 3, 2]), count=2).tolist() == [1, 3]
    assert most_hit(np.zeros(3, int), count=2).tolist() == []
