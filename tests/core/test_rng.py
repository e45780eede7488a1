import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from mnemoscope.core.rng import derive_seed, generator

SEEDS = st.integers(-(2**70), 2**70)
KEYS = st.lists(st.text() | st.integers(), max_size=4)


@given(SEEDS, KEYS)
def test_the_same_name_gives_the_same_numbers(seed: int, key: list[str | int]) -> None:
    a, b = generator(seed, *key).integers(0, 2**63, 4), generator(seed, *key).integers(0, 2**63, 4)
    np.testing.assert_array_equal(a, b)


@given(SEEDS, SEEDS, KEYS, KEYS)
def test_different_names_give_different_seeds(a: int, b: int, key_a: list[str | int], key_b: list[str | int]) -> None:
    same = (a, key_a) == (b, key_b)
    assert (derive_seed(a, *key_a) == derive_seed(b, *key_b)) is same


def test_a_number_and_its_text_and_glued_keys_are_different() -> None:
    seeds = [derive_seed(0, 1), derive_seed(0, "1"), derive_seed(0, "a", "b"), derive_seed(0, "ab"), derive_seed(0)]
    assert len(set(seeds)) == len(seeds)


def test_a_numpy_integer_is_the_integer() -> None:
    assert derive_seed(np.int64(3), np.int32(4)) == derive_seed(3, 4)


def test_the_derivation_is_pinned_so_that_runs_of_last_year_still_repeat() -> None:
    assert derive_seed(0, "pairs", 1, 2) == 3805961358337072040
    assert generator(0, "pairs", 1, 2).integers(0, 1000, 4).tolist() == [3, 732, 877, 424]


def test_no_global_state_is_read_or_moved(monkeypatch: pytest.MonkeyPatch) -> None:
    def forbidden(*_: object) -> None:
        raise AssertionError("global random state was used")

    monkeypatch.setattr(np.random, "seed", forbidden)
    monkeypatch.setattr(np.random, "random", forbidden)
    assert generator(0, "a").random() != generator(0, "b").random()


def test_streams_of_neighbouring_indices_are_uniform_and_uncorrelated() -> None:
    draws = np.stack([generator(7, "clip", index).random(200) for index in range(100)])
    assert stats.kstest(draws.ravel(), "uniform").pvalue > 1e-3
    correlation = np.asarray(np.corrcoef(draws))[np.triu_indices(100, 1)]
    assert np.abs(correlation).max() < 6.0 / np.sqrt(200)


def test_seeds_do_not_collide_over_a_large_grid() -> None:
    seeds = {derive_seed(seed, "epoch", e, i) for seed, e, i in itertools.product(range(3), range(20), range(300))}
    assert len(seeds) == 3 * 20 * 300
