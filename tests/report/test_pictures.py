import base64
import io
import re
from xml.etree import ElementTree

import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from mnemoscope.core.errors import DegenerateValues
from mnemoscope.report import figures
from mnemoscope.report.pictures import film_uri, svg


def films(uri: str) -> tuple[np.ndarray, list[int]]:
    """The frames of an animated picture, (T, H, W), as gray levels, and how long each stands, in ms."""
    head, _, body = uri.partition(",")
    assert head == "data:image/webp;base64"
    image = Image.open(io.BytesIO(base64.b64decode(body)))
    frames, durations = [], []
    for number in range(getattr(image, "n_frames", 1)):
        image.seek(number)
        frames.append(np.asarray(image.convert("L"), dtype=int))
        durations.append(image.info["duration"])
    return np.stack(frames), durations


def example() -> Figure:
    return figures.similarity_histogram([4.0, 5.0, 6.0], [5.0, 9.0], tau=6.0)


def levels(*values: int, shape: tuple[int, ...] = (40, 40)) -> np.ndarray:
    """A clip whose frames are of one gray level each."""
    return np.stack([np.full(shape, value, dtype=np.uint8) for value in values])


@pytest.mark.parametrize("shape", [(40, 40), (40, 40, 3)])
def test_two_clips_side_by_side_are_one_film_in_step(shape: tuple[int, ...]) -> None:
    frames, durations = films(
        film_uri(levels(0, 90, 200, shape=shape), levels(250, 160, 30, shape=shape), frame_s=0.08)
    )
    assert frames.shape == (3, 40, 84)
    assert durations == [80, 80, 80]
    for frame, left, right in zip(frames, (0, 90, 200), (250, 160, 30), strict=True):
        assert abs(frame[4:-4, 4:36] - left).max() <= 6
        assert abs(frame[4:-4, 48:80] - right).max() <= 6


def test_large_frames_are_reduced_with_their_shape_and_a_single_one_is_a_picture_too() -> None:
    frames, _ = films(film_uri(levels(10, 200, shape=(600, 1200)), side_px=128))
    assert frames.shape == (2, 64, 128)
    still = film_uri(levels(120))
    assert Image.open(io.BytesIO(base64.b64decode(still.partition(",")[2]))).size == (40, 40)


def test_clips_of_two_lengths_are_refused() -> None:
    with pytest.raises(ValueError, match="shorter"):
        film_uri(levels(0, 1), levels(0))


@pytest.mark.parametrize(
    "clip",
    [np.zeros((2, 4, 4)), np.zeros((2, 4, 4, 2), np.uint8), np.zeros((4, 4), np.uint8), np.zeros((0, 4, 4), np.uint8)],
)
def test_what_is_no_clip_is_refused_with_what_was_found(clip: np.ndarray) -> None:
    with pytest.raises(DegenerateValues, match=re.escape(f"found {clip.dtype} {clip.shape}")):
        film_uri(clip)


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
    two = two.replace(f' id="{figures.LIVE_TAU}"', "")  # the page has one histogram
    ids = [re.findall(r' id="([^"]*)"', text) for text in (one, two)]
    assert len({*ids[0], *ids[1]}) == len(ids[0]) + len(ids[1])
    for text, known in zip((one, two), ids, strict=True):
        assert set(re.findall(r'(?:href="|url\()#([^")]*)', text)) <= set(known)
