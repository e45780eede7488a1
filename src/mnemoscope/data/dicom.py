"""DICOM: multi-frame ultrasound, monochrome, RGB, palette or YBR, frame by frame; of the patient only the id."""

import hashlib
import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from functools import partial
from pathlib import Path

import numpy as np
import pydicom
from PIL import Image
from pydicom.errors import BytesLengthException, InvalidDicomError
from pydicom.pixels import apply_color_lut, iter_pixels

from mnemoscope.core.errors import InputError
from mnemoscope.data.clips import DICOM_SUFFIXES, TimedFrame, UnreadableClip, VideoInfo
from mnemoscope.data.transform import Color

# Only these are ever read from a header: no name, birth date or address enters the process.
_PIXEL_TAGS = [
    "NumberOfFrames",
    "Rows",
    "Columns",
    "PhotometricInterpretation",
    "BitsStored",
    "PixelRepresentation",
    "WindowCenter",
    "WindowWidth",
    "RescaleSlope",
    "RescaleIntercept",
    "RedPaletteColorLookupTableDescriptor",
    "GreenPaletteColorLookupTableDescriptor",
    "BluePaletteColorLookupTableDescriptor",
    "RedPaletteColorLookupTableData",
    "GreenPaletteColorLookupTableData",
    "BluePaletteColorLookupTableData",
    "CineRate",
    "FrameTime",
    "FrameTimeVector",
    "RecommendedDisplayFrameRate",
]
_NEEDED_TAGS = ("Rows", "Columns", "PhotometricInterpretation", "BitsStored")
_YBR = ("YBR_FULL", "YBR_FULL_422")
_MONOCHROME = ("MONOCHROME1", "MONOCHROME2")
_MAGIC_OFFSET, _MAGIC = 128, b"DICM"
# What pydicom and its decoders raise on damaged files.
_PYDICOM_ERRORS = (
    BytesLengthException,
    InvalidDicomError,
    ArithmeticError,
    AssertionError,
    AttributeError,
    EOFError,
    IndexError,
    KeyError,
    NotImplementedError,
    OSError,
    RuntimeError,
    TypeError,
    ValueError,
    struct.error,
    zlib.error,
)


def is_dicom(path: Path) -> bool:
    """Whether the file is DICOM: by its suffix, or without one by the magic word."""
    if path.suffix.lower() in DICOM_SUFFIXES:
        return True
    return not _known_suffix(path) and _has_magic(path)


def _known_suffix(path: Path) -> bool:
    # UIDs as names end in digits after a dot: "1.2.840.113" has no suffix in the sense meant here.
    return bool(path.suffix) and not path.suffix[1:].isdigit()


def _has_magic(path: Path) -> bool:
    with path.open("rb") as file:
        file.seek(_MAGIC_OFFSET)
        return file.read(len(_MAGIC)) == _MAGIC


def probe_dicom(path: Path) -> VideoInfo:
    """What the header says of the clip.

    Raises:
        UnreadableClip: when the file is no DICOM image.
    """
    with _readable(path):
        header = _image_header(path)
        n_frames = int(header.get("NumberOfFrames") or 1)
        fps = _fps(header)
        return VideoInfo(
            n_frames=n_frames,
            height=int(header.Rows),
            width=int(header.Columns),
            fps=fps,
            duration_s=n_frames / fps if fps else None,
            codec=header.file_meta.TransferSyntaxUID.name,
        )


def decode_dicom(path: Path, color: Color) -> Iterator[TimedFrame]:
    """Every frame in order, as uint8; without a rate in the header they stand one second apart.

    More than eight stored bits go through the header's window, or else the full stored range, to 0-255: never
    through the values of the frame itself, so that brightness does not depend on the content.

    Raises:
        UnreadableClip: when the pixels cannot be decoded.
    """
    with _readable(path):
        header = _image_header(path)
        rate = Fraction(_fps(header) or 1).limit_denominator(1_000_000)
        # pydicom's own YBR to RGB conversion is several times slower than Pillow's, and gray needs none.
        raw = header.PhotometricInterpretation in _YBR
        for i, pixels in enumerate(iter_pixels(path, raw=raw)):
            yield TimedFrame(i / rate, partial(_readable_image, path, pixels, header, color))


def read_patient_id(path: Path) -> str | None:
    """The PatientID of a DICOM file, the only patient tag this package reads; None when it is empty.

    Raises:
        UnreadableClip: when the file is no DICOM file.
    """
    with _readable(path):
        header = pydicom.dcmread(path, stop_before_pixels=True, specific_tags=["PatientID"])
        return str(header.get("PatientID") or "").strip() or None


def hash_patient_id(patient_id: str, *, salt: str) -> str:
    """A pseudonym of 20 hex digits (keyed BLAKE2b): the same for the same salt, of no use without it.

    Args:
        patient_id: the id to hide.
        salt: a secret of at least 8 characters that stays in the house.

    Raises:
        InputError: when the salt is too short to hide anything.
    """
    if len(salt) < 8:
        raise InputError(
            f"expected a salt of at least 8 characters, got {len(salt)}; ids could be guessed (--patient-salt)"
        )
    key = hashlib.blake2b(salt.encode(), digest_size=32).digest()
    return hashlib.blake2b(patient_id.encode(), key=key, digest_size=10).hexdigest()


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    try:
        yield
    except _PYDICOM_ERRORS as error:
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise UnreadableClip(
            f"{path}: expected a DICOM file that can be decoded, got: {reason}; export it again or leave it out"
        ) from error


def _image_header(path: Path) -> pydicom.FileDataset:
    header = pydicom.dcmread(path, stop_before_pixels=True, specific_tags=_PIXEL_TAGS)
    missing = [tag for tag in _NEEDED_TAGS if header.get(tag) is None]
    if missing:
        raise UnreadableClip(f"{path}: expected a DICOM image, found none ({', '.join(missing)} missing); leave it out")
    return header


def _readable_image(path: Path, pixels: np.ndarray, header: pydicom.FileDataset, color: Color) -> np.ndarray:
    with _readable(path):
        return _image(pixels, header, color)


def _fps(header: pydicom.FileDataset) -> float | None:
    """The acquisition's frame time first; the two display rates are whole numbers and only hints."""
    times_ms = header.get("FrameTime"), _mean_step_ms(header.get("FrameTimeVector"))
    for time_ms in times_ms:
        if time_ms and float(time_ms) > 0:
            return 1000.0 / float(time_ms)
    for rate in (header.get("CineRate"), header.get("RecommendedDisplayFrameRate")):
        if rate and float(rate) > 0:
            return float(rate)
    return None


def _mean_step_ms(vector: object) -> float | None:
    # The first entry is the delay before the first frame, not a step.
    steps = np.atleast_1d(np.asarray([] if vector is None else vector, dtype=float))[1:]
    return float(steps.mean()) if steps.size else None


def _image(pixels: np.ndarray, header: pydicom.FileDataset, color: Color) -> np.ndarray:
    photometric = header.PhotometricInterpretation
    if photometric in _MONOCHROME:
        gray = _monochrome(pixels, header)
        return gray if color == "gray" else np.repeat(gray[:, :, None], 3, axis=2)
    if photometric == "PALETTE COLOR":
        pixels = apply_color_lut(pixels, header)
    eight_bit = _scaled(pixels, low=0.0, high=float(np.iinfo(pixels.dtype).max)) if pixels.itemsize > 1 else pixels
    if photometric in _YBR:
        return eight_bit[:, :, 0] if color == "gray" else _ybr_to_rgb(eight_bit)
    return np.asarray(Image.fromarray(eight_bit).convert("L")) if color == "gray" else eight_bit


def _ybr_to_rgb(ybr: np.ndarray) -> np.ndarray:
    height, width, _ = ybr.shape
    return np.asarray(Image.frombytes("YCbCr", (width, height), ybr.tobytes()).convert("RGB"))


def _monochrome(pixels: np.ndarray, header: pydicom.FileDataset) -> np.ndarray:
    signed = bool(header.get("PixelRepresentation", 0))
    gray = pixels if header.BitsStored == 8 and not signed else _windowed(pixels, header, signed=signed)
    return 255 - gray if header.PhotometricInterpretation == "MONOCHROME1" else gray


def _windowed(pixels: np.ndarray, header: pydicom.FileDataset, *, signed: bool) -> np.ndarray:
    """The linear window of DICOM PS3.3 C.11.2.1.2.1, or the full stored range where none is given."""
    center, width = (_first_number(header.get(tag)) for tag in ("WindowCenter", "WindowWidth"))
    if center is None or width is None or width <= 1:
        span = 2.0**header.BitsStored
        low = -span / 2 if signed else 0.0
        return _scaled(pixels, low=low, high=low + span - 1)
    values = pixels * float(header.get("RescaleSlope") or 1) + float(header.get("RescaleIntercept") or 0)
    return _scaled(values, low=center - 0.5 - (width - 1) / 2, high=center - 0.5 + (width - 1) / 2)


def _first_number(value: object) -> float | None:
    numbers = np.atleast_1d(np.asarray([] if value is None else value, dtype=float))
    return float(numbers[0]) if numbers.size else None


def _scaled(values: np.ndarray, *, low: float, high: float) -> np.ndarray:
    share = (values.astype(np.float64) - low) / (high - low)
    return np.rint(np.clip(share, 0.0, 1.0) * 255.0).astype(np.uint8)
