from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image

from mnemoscope.report.figures import shares_pct
from mnemoscope.report.material import Material
from mnemoscope.report.paper import DARK, Places, consistency_panels, map_panels, score_panels, write_figures
from tests.report import full
from tests.report.browser.pages import material

NAMES = ("fig3-confusion", "fig4-p-max", "fig5-map", "fig6-consistency")


@pytest.fixture(scope="module")
def made() -> Material:
    return material()


def test_figures_3_to_6_are_written_as_png_and_svg_with_a_panel_for_each_set(made: Material, tmp_path: Path) -> None:
    paths = write_figures({"dynamic": made, "a4c": made}, tmp_path)
    assert [path.name for path in paths] == [f"{name}{suffix}" for name in NAMES for suffix in (".png", ".svg")]
    for path in paths:
        if path.suffix == ".png":
            with Image.open(path) as image:
                # The paper's text width at 300 dots an inch.
                assert image.size[0] == pytest.approx(6.875 * 300, abs=1)
                assert image.info["dpi"] == pytest.approx((300, 300), abs=0.1)
        else:
            texts = [node.text for node in ElementTree.parse(path).iter("{http://www.w3.org/2000/svg}text")]
            assert [text for text in texts if text and "dynamic" in text]
            assert [text for text in texts if text and "a4c" in text]


def test_a_figure_that_nobody_measured_is_left_out(made: Material, tmp_path: Path) -> None:
    from dataclasses import replace

    bare = replace(made, places=None, result=replace(made.result, consistency=None))
    assert {path.stem for path in write_figures({"one": bare}, tmp_path)} == {"fig3-confusion", "fig4-p-max"}


def test_one_audit_fills_a_column_and_many_audits_have_rows() -> None:
    found = full.consistency()
    one, five = (consistency_panels({str(i): found for i in range(n)}) for n in (1, 5))
    assert (one.get_figwidth(), five.get_figwidth()) == (3.25, 6.875)
    assert [axes.axison for axes in five.axes] == [True] * 5 + [False]


@pytest.mark.parametrize("count", [1, 3])
def test_the_legend_covers_no_panel(count: int) -> None:
    rng = np.random.default_rng(0)
    places = Places(rng.normal(size=(50, 2)), rng.random(50) < 0.5, rng.normal(size=(80, 2)))
    figure = map_panels({str(number): places for number in range(count)})
    figure.draw_without_rendering()
    legend = figure.legends[0].get_window_extent()
    assert not any(legend.overlaps(axes.get_tightbbox()) for axes in figure.axes)
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["synthetic", "train", "train, learned"]
    assert not any(axes.get_legend() for axes in figure.axes)


def test_scores_are_drawn_as_shares_with_tau_as_a_black_line() -> None:
    holdout, synthetic = np.array([1.0, 2.0, 2.0, 4.0]), np.array([3.0, 5.0])
    axes = score_panels({"a": (holdout, synthetic, 2.5)}).axes[0]
    lines = [line for line in axes.lines if line.get_color() == "black"]
    assert [list(line.get_xdata()) for line in lines] == [[2.5, 2.5]]
    steps = axes.patches[0].get_data()
    np.testing.assert_allclose(steps.values, shares_pct(holdout, steps.edges))
    assert steps.values.sum() == pytest.approx(100.0)


def test_learned_train_clips_are_dark_in_the_map() -> None:
    train, synthetic = np.array([[0.0, 0.0], [1.0, 1.0], [2.0, 2.0]]), np.array([[5.0, 5.0]])
    axes = map_panels({"a": Places(train, np.array([False, True, False]), synthetic)}).axes[0]
    by_label = {drawn.get_label(): drawn for drawn in axes.collections}
    np.testing.assert_array_equal(by_label["train, learned"].get_offsets(), [[1.0, 1.0]])
    np.testing.assert_array_equal(by_label["train"].get_offsets(), train[[0, 2]])
    np.testing.assert_array_equal(by_label["synthetic"].get_offsets(), synthetic)
    from matplotlib.colors import to_rgba

    assert tuple(by_label["train, learned"].get_facecolor()[0]) == to_rgba(DARK)


def test_consistency_has_a_curve_for_each_kind_of_pair() -> None:
    found = full.consistency()
    axes = consistency_panels({"a": found}).axes[0]
    curves = {line.get_label(): list(line.get_ydata()) for line in axes.lines}
    assert curves == {
        "real": found.real.median,
        "synthetic": found.synthetic.median,
        "different video": found.different.median,
    }
