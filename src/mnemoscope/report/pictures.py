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

_GAP_PX = 4
_QUALITY = 45
# Colours that follow the reader's theme: the style sheet gives each of these names a light and a dark value.
_THEME = {
    figures.INK: "var(--ink)",
    figures.QUIET: "var(--quiet)",
    figures.FAINT: "var(--line)",
    figures.HOLDOUT: "var(--holdout)",
    figures.SYNTHETIC: "var(--synthetic)",
}


def film_uri(*clips: UInt8[np.ndarray, "T H W *color"], side_px: int = 112, frame_s: float = 0.08) -> str:
    """Clips side by side as one animated WebP in a data URI: one file, so they play in step.

    Args:
        clips: uint8, gray (T, H, W) or RGB (T, H, W, 3), all of one length and size.
        side_px: the longer side of each; larger frames are reduced.
        frame_s: how long each frame stands.

    Raises:
        DegenerateValues: for other types or shapes.
    """
    frames = [_image(side_by_side, side_px) for side_by_side in zip(*map(_checked, clips), strict=True)]
    buffer = io.BytesIO()
    frames[0].save(
        buffer,
        "WEBP",
        save_all=True,
        append_images=frames[1:],
        duration=round(1000 * frame_s),
        loop=0,
        quality=_QUALITY,
        method=2,
    )
    return "data:image/webp;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")


def _checked(clip: np.ndarray) -> np.ndarray:
    if clip.dtype != np.uint8 or clip.ndim not in (3, 4) or (clip.ndim == 4 and clip.shape[3] != 3) or 0 in clip.shape:
        raise DegenerateValues(
            f"picture: expected uint8 of shape (T, H, W) or (T, H, W, 3), found {clip.dtype} {clip.shape}; "
            f"convert the frames before they are drawn"
        )
    return clip


def _image(frames: tuple[np.ndarray, ...], side_px: int) -> Image.Image:
    images = [Image.fromarray(frame) for frame in frames]
    for image in images:
        image.thumbnail((side_px, side_px), Image.Resampling.BOX)
    if len(images) == 1:
        return images[0]
    width = sum(image.width for image in images) + _GAP_PX * (len(images) - 1)
    joined = Image.new(images[0].mode, (width, max(image.height for image in images)))
    left = 0
    for image in images:
        joined.paste(image, (left, 0))
        left += image.width + _GAP_PX
    return joined


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
    used = {*re.findall(r'(?:href="|url\()#([^")]*)', text), figures.LIVE_TAU}
    text = re.sub(r' id="([^"]*)"', lambda found: found[0] if found[1] in used else "", text)
    for colour, variable in _THEME.items():
        text = text.replace(colour, variable)
    # Only this library's own figures come here, and matplotlib escapes their text.
    return Markup(text)
