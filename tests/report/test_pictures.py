import base64
import io
import re
from xml.etree import ElementTree

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.figure import Figure
from PIL import Image

from mnemoscope.core.errors import DegenerateValues
from mnemoscope.report import figures
from mnemoscope.report.pictures import png_uri, svg


def decoded(uri: str) -> np.ndarray:
    head, _, body = uri.partition(",")
    assert head == "data:image/png;base64"
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(body))))


def example() -> Figure:
    return figures.similarity_histogram([4.0, 5.0, 6.0], [5.0, 9.0], tau=6.0)


@given(st.integers(1, 40), st.integers(1, 40), st.sampled_from([(), (1,), (3,)]), st.integers(0, 2**32 - 1))
def test_a_small_frame_survives_bit_by_bit(height: int, width: int, channels: tuple[int, ...], seed: int) -> None:
    frame = np.random.default_rng(seed).integers(0, 256, (height, width, *channels), dtype=np.uint8)
    expected = frame[..., 0] if channels == (1,) else frame
    np.testing.assert_array_equal(decoded(png_uri(frame)), expected)


def test_a_large_frame_is_reduced_with_its_shape_and_brightness_kept() -> None:
    frame = np.full((600, 1200, 3), 40, dtype=np.uint8)
    frame[:, 600:] = 200
    found = decoded(png_uri(frame))
    assert found.shape == (128, 256, 3)
    assert (found[:, :120] == 40).all()
    assert (found[:, 136:] == 200).all()


@pytest.mark.parametrize(
    "frame",
    [np.zeros((4, 4)), np.zeros((4, 4, 2), np.uint8), np.zeros(4, np.uint8), np.zeros((0, 4), np.uint8)],
)
def test_what_is_no_frame_is_refused_with_what_was_found(frame: np.ndarray) -> None:
    with pytest.raises(DegenerateValues, match=re.escape(f"found {frame.dtype} {frame.shape}")):
        png_uri(frame)


def test_a_figure_follows_the_theme_and_its_text_stays_text() -> None:
    text = svg(example(), name="a")
    for colour in (figures.INK, figures.HOLDOUT, figures.SYNTHETIC, figures.FAINT):
        assert colour not in text
    assert {"var(--ink)", "var(--line)", "var(--holdout)", "var(--synthetic)"} <= set(re.findall(r"var\(--\w+\)", text))
    root = ElementTree.fromstring(text)
    words = [node.text for node in root.iter("{http://www.w3.org/2000/svg}text")]
    assert "tau = 6.000" in words


def test_a_figure_is_the_same_in_every_run_and_asks_nothing_from_outside() -> None:
    first, second = svg(example(), name="a"), svg(example(), name="a")
    assert first == second
    links = re.findall(r'href="([^"]*)"|url\(([^)]*)\)', first)
    assert links
    assert all((a or b).startswith("#") for a, b in links)


def test_two_figures_in_one_page_share_no_id_and_every_reference_has_its_target() -> None:
    one, two = svg(example(), name="one"), svg(example(), name="two")
    ids = [re.findall(r' id="([^"]*)"', text) for text in (one, two)]
    assert len({*ids[0], *ids[1]}) == len(ids[0]) + len(ids[1])
    for text, known in zip((one, two), ids, strict=True):
        assert set(re.findall(r'(?:href="|url\()#([^")]*)', text)) <= set(known)
