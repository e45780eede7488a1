"""Pictures: frames and figures as text that lives inside the page."""

import base64
import io
import re

import numpy as np
from jaxtyping import UInt8
from markupsafe import Markup
from matplotlib import rc_context
from matplotlib.figure import Figure
from PIL import Image

from mnemoscope.core.errors import DegenerateValues
from mnemoscope.report import figures

_LONGEST_SIDE_PX = 256
# Colours that follow the reader's theme: the style sheet gives each of these names a light and a dark value.
_THEME = {
    figures.INK: "var(--ink)",
    figures.QUIET: "var(--quiet)",
    figures.FAINT: "var(--line)",
    figures.HOLDOUT: "var(--holdout)",
    figures.SYNTHETIC: "var(--synthetic)",
}


def png_uri(frame: UInt8[np.ndarray, "H W *color"]) -> str:
    """A gray or RGB frame as a PNG data URI; larger ones are reduced to 256 px on the longer side.

    Args:
        frame: gray levels, shape (H, W), (H, W, 1) or (H, W, 3), uint8.

    Raises:
        DegenerateValues: for another type or shape.
    """
    channels = frame.shape[2] if frame.ndim == 3 else 1
    if frame.dtype != np.uint8 or frame.ndim not in (2, 3) or channels not in (1, 3) or 0 in frame.shape:
        raise DegenerateValues(
            f"picture: expected uint8 of shape (H, W), (H, W, 1) or (H, W, 3), found {frame.dtype} {frame.shape}; "
            f"convert the frame before it is put in a PairPicture"
        )
    image = Image.fromarray(frame[..., 0] if frame.ndim == 3 and channels == 1 else frame)
    image.thumbnail((_LONGEST_SIDE_PX, _LONGEST_SIDE_PX), Image.Resampling.BOX)
    buffer = io.BytesIO()
    image.save(buffer, format="PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")


def svg(figure: Figure, *, name: str) -> Markup:
    """A figure as inline SVG whose text is text and whose colours follow the page's theme.

    Args:
        figure: drawn with the colours of :mod:`mnemoscope.report.figures`.
        name: makes the ids inside unique in the page, and the same in every run.
    """
    buffer = io.StringIO()
    with rc_context({"svg.fonttype": "none", "svg.hashsalt": name}):
        figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    text = buffer.getvalue()
    text = re.sub(r"<metadata>.*?</metadata>", "", text[text.index("<svg") :], flags=re.DOTALL)
    # Ids that nothing points at would meet those of the next figure in the page.
    used = set(re.findall(r'(?:href="|url\()#([^")]*)', text))
    text = re.sub(r' id="([^"]*)"', lambda found: found[0] if found[1] in used else "", text)
    for colour, variable in _THEME.items():
        text = text.replace(colour, variable)
    # Only this library's own figures come here, and matplotlib escapes their text.
    return Markup(text)
