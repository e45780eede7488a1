"""EF readers: what can measure the ejection fraction of a clip, by name, or the folder of a trained regressor."""

from collections.abc import Callable
from pathlib import Path

from mnemoscope.core.errors import InputError
from mnemoscope.core.types import Frames
from mnemoscope.models import phantom_ef
from mnemoscope.models.ef import load_ef

# uint8 frames (T, H, W) or (T, H, W, 3) and frames per second to EF in percent; NaN where it finds none.
EfReader = Callable[[Frames, float], float]

EF_READERS: dict[str, EfReader] = {"phantom": phantom_ef.measure_ef}


def ef_reader(name: str) -> EfReader:
    """The reader of this name, or the regressor in the folder of this name (``mnemoscope train ef``).

    Raises:
        InputError: if there is neither.
        CorruptFile: if the regressor is damaged.
    """
    if name in EF_READERS:
        return EF_READERS[name]
    if not Path(name).is_dir():
        raise InputError(
            f"--ef-reader {name}: expected {', '.join(EF_READERS)} or the folder of an EF model, found neither; train "
            f"one (mnemoscope train ef)"
        )
    return load_ef(Path(name)).measure
