"""EF readers: what can measure the ejection fraction of a clip, by name."""

from collections.abc import Callable

from mnemoscope.core.types import Frames
from mnemoscope.models import phantom_ef

# uint8 frames (T, H, W) or (T, H, W, 3) and frames per second to EF in percent; NaN where it finds none.
EfReader = Callable[[Frames, float], float]

EF_READERS: dict[str, EfReader] = {"phantom": phantom_ef.measure_ef}
