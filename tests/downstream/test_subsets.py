import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mnemoscope.core.rng import generator
from mnemoscope.downstream.subsets import (
    QUANTILES,
    at_random,
    decomposing_arms,
    matched_prior,
    paper_arms,
    relabelled,
    split_off,
    with_errors,
)

REAL = pd.DataFrame({"clip_id": [f"r{i:02d}" for i in range(12)], "ef": np.linspace(30, 70, 12)})
# Of 20 clips one is not gated; train clip r00 is reached 8 times, r01 4, r02 2, r03 once, and r04 by the rest.
NEAREST = ["r00"] * 8 + ["r01"] * 4 + ["r02"] * 2 + ["r03"] + ["r04"] * 4 + ["r09"]
SYNTHETIC = pd.DataFrame(
    {"clip_id": [f"s{i:02d}" for i in range(20)], "nearest_clip_id": NEAREST, "gated": [True] * 19 + [False]}
)
LEARNED = ("r00", "r01", "r02", "r03", "r04")


def test_the_papers_arms_are_the_clips_of_their_definitions() -> None:
    arms = paper_arms(REAL, SYNTHETIC, seed=0)
    assert arms["real_full"].clips == tuple(REAL["clip_id"])
    assert arms["synthetic_full"].clips == tuple(SYNTHETIC["clip_id"])
    assert arms["real_learned"].clips == LEARNED
    reached = dict(zip(SYNTHETIC["clip_id"], NEAREST, strict=True))
    small, large = ([reached[clip] for clip in arms[name].clips] for name in ("recall_small", "recall_large"))
    assert sorted(small) == list(LEARNED)
    counts = pd.Series(large).value_counts().to_dict()
    assert counts == {"r00": 5, "r01": 4, "r02": 2, "r03": 1, "r04": 4}
    assert "s19" not in arms["recall_large"].clips
    assert len(arms["synthetic_random"].clips) == len(REAL)


def test_each_cut_has_a_control_of_its_size_and_source() -> None:
    arms = paper_arms(REAL, SYNTHETIC, seed=0)
    cut = {name: arm for name, arm in arms.items() if arm.control}
    assert set(cut) == {"real_learned", "recall_small", "recall_large"}
    for arm in cut.values():
        control = arms[str(arm.control)]
        assert (control.source, len(control.clips)) == (arm.source, len(arm.clips))
        assert len(set(control.clips)) == len(control.clips)


def test_draws_depend_on_the_seed_and_on_the_set_of_clips_alone() -> None:
    assert paper_arms(REAL, SYNTHETIC, seed=3) == paper_arms(REAL.copy(), SYNTHETIC.copy(), seed=3)
    first, other = (paper_arms(REAL, SYNTHETIC, seed=seed) for seed in (3, 4))
    for name in ("synthetic_random", "real_learned_control", "recall_small"):
        assert first[name] != other[name]
    for name in ("real_full", "real_learned", "synthetic_full"):
        assert first[name] == other[name]


def test_there_is_no_cut_to_the_size_of_the_real_set_where_there_are_fewer() -> None:
    assert "synthetic_random" not in paper_arms(REAL, SYNTHETIC.iloc[:12], seed=0)
    assert "synthetic_random" in paper_arms(REAL, SYNTHETIC.iloc[:13], seed=0)


def test_relabelled_arms_are_the_synthetic_ones_with_controls_of_their_kind() -> None:
    arms = paper_arms(REAL, SYNTHETIC, seed=0)
    again = relabelled(arms)
    assert set(again) == {f"{name}_relabelled" for name, arm in arms.items() if arm.source == "synthetic"}
    assert {arm.labels for arm in again.values()} == {"relabelled"}
    for name, arm in again.items():
        assert arm.clips == arms[name.removesuffix("_relabelled")].clips
        assert arm.control is None or arm.control in again


def test_a_random_draw_is_without_replacement_in_the_order_of_ids() -> None:
    ids = np.array([f"c{i:02d}" for i in range(30)])
    drawn = at_random("real", ids, 11, 0, "x").clips
    assert sorted(set(drawn)) == list(drawn)
    assert len(drawn) == 11
    assert drawn != at_random("real", ids, 11, 0, "y").clips
    assert at_random("real", ids, 30, 0, "x").clips == tuple(ids)


@given(
    ef=st.lists(st.floats(0, 100), min_size=1, max_size=80),
    reference=st.lists(st.floats(0, 100), min_size=5, max_size=40),
)
def test_a_matched_prior_has_equal_numbers_between_the_quantiles(ef: list[float], reference: list[float]) -> None:
    values, edges = np.array(ef), np.quantile(reference, np.linspace(0, 1, QUANTILES + 1))
    chosen = matched_prior(values, np.array(reference), rng=generator(0, "t"))
    assert len(set(chosen.tolist())) == len(chosen) <= len(reference)
    assert np.all((values[chosen] >= edges[0]) & (values[chosen] <= edges[-1]))
    counts = [0] * QUANTILES
    for value in values[chosen]:
        counts[max(part for part in range(QUANTILES) if part == 0 or edges[part] <= value)] += 1
    assert len(set(counts)) == 1


def test_a_matched_prior_is_as_large_as_it_can_be() -> None:
    reference = np.arange(100.0)
    ef = np.repeat([5.0, 25.0, 45.0, 65.0, 85.0], [9, 4, 7, 30, 6])
    chosen = matched_prior(ef, reference, rng=generator(0, "t"))
    assert np.unique(ef[chosen], return_counts=True)[1].tolist() == [4] * 5
    assert set(matched_prior(ef, reference, rng=generator(1, "t"))) != set(chosen)
    assert len(matched_prior(np.repeat(np.linspace(0, 99, 50), 100), np.arange(50.0), rng=generator(0, "t"))) <= 50


def test_errors_are_those_of_labels_of_about_that_ef() -> None:
    measured = np.concatenate([np.linspace(20, 30, 40), np.linspace(60, 70, 40)])
    error = np.concatenate([np.full(40, 7.0), np.full(40, -4.0)])
    order = np.random.default_rng(0).permutation(80)
    ef = np.array([22.0, 65.0, 0.0, 100.0])
    noisy = with_errors(ef, requested=(measured + error)[order], measured=measured[order], rng=generator(0, "t"))
    np.testing.assert_allclose(noisy - ef, [7, -4, 7, -4])


def test_errors_keep_their_spread_and_few_labels_lend_theirs_too() -> None:
    rng = np.random.default_rng(1)
    measured, error = rng.uniform(0, 100, 4000), rng.normal(0, 6, 4000)
    ef = rng.uniform(10, 90, 4000)
    noise = with_errors(ef, requested=measured + error, measured=measured, rng=generator(0, "t")) - ef
    assert noise.std() == pytest.approx(6, rel=0.05)
    assert abs(np.corrcoef(noise, ef)[0, 1]) < 0.05
    one = with_errors(ef, requested=np.array([53.0]), measured=np.array([50.0]), rng=generator(0, "t"))
    np.testing.assert_allclose(one - ef, 3.0)


def test_the_parts_of_the_gap_are_compared_at_one_size() -> None:
    synthetic = pd.DataFrame({"clip_id": [f"s{i:03d}" for i in range(60)]})
    measured = pd.Series(np.linspace(20, 80, 60), index=synthetic["clip_id"])
    measured.iloc[[4, 30]] = np.nan
    arms = decomposing_arms(REAL, synthetic, measured, seed=0)
    readable = set(measured.dropna().index)
    assert set(arms["synthetic_measured"].clips) == readable
    assert len({len(arms[name].clips) for name in ("prior", "prior_control", "prior_real")}) == 1
    assert len(arms["prior"].clips) == 10
    assert set(arms["prior"].clips) <= readable
    assert arms["real_noisy"].clips == tuple(REAL["clip_id"])
    labels = {name: arm.labels for name, arm in arms.items()}
    assert labels == {
        "synthetic_measured": "measured",
        "prior": "measured",
        "prior_control": "measured",
        "prior_real": "given",
        "real_noisy": "noisy",
    }


@given(sizes=st.lists(st.integers(1, 4), min_size=2, max_size=20), share=st.floats(0.01, 0.99))
def test_whole_groups_choose_the_network(sizes: list[int], share: float) -> None:
    groups = np.repeat([f"p{i}" for i in range(len(sizes))], sizes)
    val = split_off(groups, share=share, rng=generator(0, "t"))
    inside, outside = set(groups[val]), set(groups[~val])
    assert inside
    assert outside
    assert not inside & outside
    assert len(inside) == min(max(1, round(share * len(sizes))), len(sizes) - 1)
