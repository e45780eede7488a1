from pathlib import Path

import pytest
from PIL import Image

from mnemoscope.report.confusion import confusion_matrices, save_figure

PANELS = {
    ("image", "A"): ((9, 1), (2, 8)),
    ("image", "B"): ((1000, 0), (0, 1000)),
    ("latent", "A"): ((0, 0), (3, 1)),
}


def test_each_panel_shows_its_counts_and_shares_where_truth_and_decision_meet() -> None:
    figure = confusion_matrices(PANELS)
    titled = {axes.get_title(loc="left"): axes for axes in figure.axes if axes.get_title(loc="left")}
    assert set(titled) == {"A, image", "B, image", "A, latent"}
    shown = {text.get_position(): text.get_text() for text in titled["A, image"].texts}
    assert shown == {(0, 0): "9\n90.0%", (1, 0): "1\n10.0%", (0, 1): "2\n20.0%", (1, 1): "8\n80.0%"}
    assert [label.get_text() for label in titled["A, image"].get_xticklabels()] == ["different", "same"]
    assert next(text.get_text() for text in titled["B, image"].texts) == "1,000\n100.0%"
    assert [text.get_text() for text in titled["A, latent"].texts][:2] == ["0\n0.0%", "0\n0.0%"]


def test_a_matrix_that_nobody_has_leaves_its_place_empty() -> None:
    assert [axes.axison for axes in confusion_matrices(PANELS).axes] == [True, True, True, False]


def test_numbers_can_be_read_on_light_and_dark() -> None:
    light, dark = (
        next(text.get_color() for text in axes.texts if text.get_text() == wanted)
        for axes, wanted in zip(confusion_matrices(PANELS).axes[:2], ("1\n10.0%", "1,000\n100.0%"), strict=True)
    )
    assert light != "white"
    assert dark == "white"


def test_both_files_are_written_the_same_every_time(tmp_path: Path) -> None:
    written = [save_figure(confusion_matrices(PANELS), tmp_path / name / "confusion") for name in ("a", "b")]
    assert [file.name for file in written[0]] == ["confusion.png", "confusion.svg"]
    for one, other in zip(*written, strict=True):
        assert one.read_bytes() == other.read_bytes()
    with Image.open(written[0][0]) as picture:
        assert picture.format == "PNG"
        assert picture.size[0] == pytest.approx(6.875 * 300, abs=1)
    assert "1,000" in written[0][1].read_text()
