import io
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.figure import Figure
from matplotlib.patches import StepPatch

from mnemoscope.core.types import RarefactionCurve
from mnemoscope.report import figures
from tests.report import full


def texts(figure: Figure) -> list[str]:
    """Every visible text of a figure."""
    found = [text.get_text() for axes in figure.axes for text in (*axes.texts, axes.title, axes.xaxis.label)]
    found += [axes.get_title(loc="left") for axes in figure.axes]
    found += [text.get_text() for legend in figure.legends for text in legend.get_texts()]
    return [text for text in [*found, figure.get_supxlabel()] if text]


def stairs(figure: Figure) -> list[tuple[object, np.ndarray]]:
    """Label and heights of everything drawn as steps in the first panel."""
    found = (patch for patch in figure.axes[0].patches if isinstance(patch, StepPatch))
    return [(patch.get_label(), np.asarray(patch.get_data()[0])) for patch in found]


def drawn(figure: Figure) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="svg")
    return buffer.getvalue()


@given(st.lists(st.floats(-10, 10), min_size=1, max_size=60), st.integers(1, 12))
def test_shares_are_counted_by_hand_and_add_up(values: list[float], bins: int) -> None:
    edges = np.linspace(-10, 10, bins + 1)
    found = figures.shares_pct(np.array(values), edges)
    last = bins - 1
    for i in range(bins):
        inside = sum(edges[i] <= v < edges[i + 1] or (i == last and v == edges[bins]) for v in values)
        assert found[i] == pytest.approx(100 * inside / len(values))
    assert found.sum() == pytest.approx(100.0)


@given(st.lists(st.integers(1, 50), max_size=80))
def test_few_steps_draw_every_rank(hits: list[int]) -> None:
    ranked = np.sort(np.array(hits, dtype=np.int64))[::-1]
    edges, heights = figures.steps(ranked)
    np.testing.assert_array_equal(np.repeat(heights, np.diff(edges)), ranked)
    assert len(heights) == len(set(hits))
    assert len(edges) == len(heights) + 1


def test_the_histogram_shows_shares_so_that_set_size_does_not_matter() -> None:
    innocents = np.random.default_rng(0).normal(5, 1, 500)
    figure = figures.similarity_histogram(innocents, np.tile(innocents, 20), tau=None)
    lines = {str(label).split(",")[0]: heights for label, heights in stairs(figure)}
    holdout, synthetic = lines["real"], lines["synthetic"]
    np.testing.assert_allclose(holdout, synthetic)
    assert len(figure.axes) == 1
    assert not any("tau" in text for text in texts(figure))


def test_the_threshold_is_marked_and_a_lone_copy_beyond_it_is_visible() -> None:
    suspects = np.append(np.random.default_rng(0).normal(5, 0.3, 100_000), 12.0)
    figure = figures.similarity_histogram(np.linspace(4, 6, 100), suspects, tau=6.5)
    assert "tau = 6.500" in texts(figure)
    line = figure.axes[0].lines[0]
    np.testing.assert_array_equal(line.get_xdata(), [6.5, 6.5])
    lone = 100 / suspects.size
    low, high = figure.axes[1].get_ylim()
    assert low < lone < high
    assert {"synthetic, n = 100,001", "real, never trained on (holdout), n = 100"} <= set(texts(figure))


def test_without_clips_beyond_tau_there_is_nothing_to_enlarge() -> None:
    assert len(figures.similarity_histogram([1.0, 2.0], [1.5], tau=9.0).axes) == 1


@pytest.mark.parametrize(
    ("holdout", "synthetic", "tau"),
    [
        ([], [], None),
        ([], [], 1.0),
        ([], [3.0], 1.0),
        ([3.0], [], None),
        ([2.0], [2.0], 2.0),
        ([1, np.nan], [np.inf], 0.0),
    ],
)
def test_small_sets_are_drawn_without_a_warning(
    holdout: list[float], synthetic: list[float], tau: float | None
) -> None:
    assert b"nan" not in drawn(figures.similarity_histogram(holdout, synthetic, tau=tau)).lower()


def test_values_that_are_not_finite_are_not_counted() -> None:
    figure = figures.similarity_histogram([1.0, np.nan], [2.0, np.inf, 3.0], tau=None)
    assert {"synthetic, n = 2", "real, never trained on (holdout), n = 1"} <= set(texts(figure))


@pytest.mark.parametrize(("hits", "train"), [([], 10), ([1], 1), ([1], 10), ([5, 1, 1], 3), ([9, 2, 2, 1], 7465)])
def test_the_hits_curve_says_who_was_learned(hits: list[int], train: int) -> None:
    figure = figures.hits_curve(hits, train_clips=train)
    assert drawn(figure)
    title = figure.axes[0].get_title(loc="left")
    assert f"learned: {len(hits):,} of {train:,}" in title
    assert f"never the nearest, {train - len(hits):,}" in title


def test_the_order_of_hits_does_not_matter() -> None:
    hits = np.random.default_rng(1).integers(1, 30, 50)
    shuffled = np.random.default_rng(2).permutation(hits)
    a, b = (stairs(figures.hits_curve(h, train_clips=99))[0][1] for h in (hits, shuffled))
    np.testing.assert_array_equal(a, b)


def marks(figure: Figure, label: str) -> list[tuple[float, float]]:
    """The points drawn under a label of the legend."""
    (line,) = [line for line in figure.axes[0].lines if line.get_label() == label]
    return list(zip(np.asarray(line.get_xdata()).tolist(), np.asarray(line.get_ydata()).tolist(), strict=True))


def test_the_ladder_puts_each_share_in_the_row_of_its_change() -> None:
    power = {"gain": full.rung(0.9), "flip": full.rung(0.2)}
    figure = figures.ladder(power, asked={"gain"}, least=0.8)
    axes = figure.axes[0]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["* gain", "flip"]
    found = marks(figure, "above tau, with 95 % interval")
    assert [x for x, _ in found] == pytest.approx([90.0, 20.0])
    assert [round(y) for _, y in found] == [0, 1]
    for level, name in (("0.05", "5"), ("0.01", "1"), ("0.001", "0.1")):
        expected = [100 * rate.value for rung in power.values() if (rate := rung.tpr_at_fpr[level])]
        assert [x for x, _ in marks(figure, f"at {name} % false alarms")] == pytest.approx(expected)
    bars = axes.collections[0].get_segments()
    assert [bar[:, 0].tolist() for bar in bars] == [
        pytest.approx([100 * rung.tpr.low, 100 * rung.tpr.high]) for rung in power.values()
    ]
    assert axes.yaxis_inverted()


def test_a_rate_that_is_absent_has_no_mark() -> None:
    rung = full.rung(0.9)
    silent = replace(rung, tpr_at_fpr={**rung.tpr_at_fpr, "0.001": None})
    assert figures.levels({"a": rung, "b": silent}) == ["0.05", "0.01", "0.001"]
    found = marks(figures.ladder({"a": silent, "b": rung}, asked=(), least=0.8), "at 0.1 % false alarms")
    assert [round(y) for _, y in found] == [1]


@pytest.mark.parametrize("name", ["$x^", "<b>", "a" * 80])
def test_a_name_of_a_change_is_drawn_as_it_is(name: str) -> None:
    assert drawn(figures.ladder({name: full.rung(0.5)}, asked=(), least=0.8))


def test_the_curves_drawn_are_those_given_and_the_comparison_is_marked() -> None:
    curves = full.recall().curves
    figure = figures.reach_curves(curves, matched_n=1277)
    for name, label in (("holdout", "real, never trained on (holdout)"), ("synthetic", "synthetic")):
        assert marks(figure, label) == list(zip(curves[name].n, curves[name].expected, strict=True))
    assert "compared at n = 1,277" in texts(figure)
    assert not any("compared" in text for text in texts(figures.reach_curves(curves, matched_n=None)))


@pytest.mark.parametrize(("n", "scale"), [(1000, "linear"), (100_000, "log")])
def test_a_holdout_far_smaller_than_the_set_stays_visible(n: int, scale: str) -> None:
    curves = {"synthetic": full.reached(500, n), "holdout": full.reached(500, 200)}
    axes = figures.reach_curves(curves, matched_n=None).axes[0]
    assert axes.get_xscale() == scale


def test_curves_of_one_clip_or_without_a_hit_are_drawn() -> None:
    nobody = RarefactionCurve([1], [0.0], [0.0], [0.4])
    assert drawn(figures.reach_curves({"synthetic": nobody}, matched_n=1))
    assert drawn(figures.reach_curves({"synthetic": nobody, "holdout": full.reached(9, 40)}, matched_n=None))


def test_the_lag_curves_are_those_given() -> None:
    found = full.consistency()
    figure = figures.lag_curves(found)
    labels = ("real, frames of one clip", "synthetic, frames of one clip", "real, frames of two patients")
    for curve, label in zip((found.real, found.synthetic, found.different), labels, strict=True):
        assert marks(figure, label) == [
            (100.0 * share, value) for share, value in zip(found.lag_share, curve.median, strict=True)
        ]
    assert len({line.get_linestyle() for line in figure.axes[0].lines}) == 3


def test_verification_is_drawn_at_each_rate_with_its_interval_and_at_logit_0() -> None:
    found = replace(full.verification(), confusion=((1241, 36), (53, 1224)))
    axes = figures.verification_rates(found).axes[0]
    rates, at_zero, _ = axes.lines
    assert rates.get_xydata() == pytest.approx(np.array([[5.0, 97.2], [1.0, 84.7]]))
    assert at_zero.get_xydata() == pytest.approx(np.array([[100 * 36 / 1277, 100 * 1224 / 1277]]))
    bars = [segment[:, 1].tolist() for segment in axes.collections[0].get_segments()]
    assert bars == [pytest.approx([95.1, 98.3]), pytest.approx([82.6, 86.8])]


def test_verification_without_a_single_false_alarm_is_drawn_too() -> None:
    found = replace(full.verification(), tpr_at_fpr={"0.05": None}, confusion=((9, 0), (0, 9)))
    at_zero, _ = figures.verification_rates(found).axes[0].lines
    assert at_zero.get_xydata() == pytest.approx(np.array([[0.0, 100.0]]))


def test_each_clip_stands_at_the_ef_asked_for_and_measured() -> None:
    diagonal, clips = figures.label_points(full.labels()).axes[0].lines
    assert clips.get_xydata().tolist() == [[20.0, 24.5], [45.0, 41.2], [70.0, 66.3]]
    assert diagonal.get_xydata().tolist() == [[0.0, 0.0], [100.0, 100.0]]
