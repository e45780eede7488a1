"""DICOM: a synthetic clip as a multi-frame ultrasound object that says so and names nobody."""

import uuid
from pathlib import Path

import numpy as np
import pydicom
from pydicom.dataset import FileMetaDataset
from pydicom.uid import UID, ExplicitVRLittleEndian, UltrasoundMultiFrameImageStorage

from mnemoscope.core.errors import InputError
from mnemoscope.data.video import decode, probe

_SPACE = uuid.UUID("6b2f7a1e-0d5c-5c1f-9c0e-6d6e656d6f73")
_IMPLEMENTATION = UID(f"2.25.{_SPACE.int}")
# What the object's modules must have and may leave empty (type 2; DICOM PS3.3, A.7).
_EMPTY = (
    *("PatientName", "PatientID", "PatientBirthDate", "PatientSex"),
    *("StudyDate", "StudyTime", "ReferringPhysicianName", "StudyID", "AccessionNumber"),
    *("Manufacturer", "PatientOrientation"),
)
# Defined terms of Lossy Image Compression Method (0028,2114).
_METHODS = {
    "mjpeg": "ISO_10918_1",
    "jpeg2000": "ISO_15444_1",
    "mpeg2video": "ISO_13818_2",
    "h264": "ISO_14496_10",
    "hevc": "ISO_23008_2",
}
_LOSSLESS = ("ffv1", "rawvideo", "huffyuv", "ffvhuff", "png", "gif")


def dicom_uid(purpose: str, clip_id: str, sha256: str) -> UID:
    """A UID under 2.25 that follows from the clip's id and content alone."""
    return UID(f"2.25.{uuid.uuid5(_SPACE, f'{purpose}/{clip_id}/{sha256}').int}")


def write_dicom(source: Path, target: Path, *, clip_id: str, sha256: str) -> None:
    """Writes a video as uncompressed DICOM with Synthetic Data (0008,001C) = YES, new UIDs and an empty patient.

    Args:
        source: the video.
        target: the DICOM file.
        clip_id: of the clip.
        sha256: of the video's bytes.

    Raises:
        InputError: if the video says no frame rate, or its frames cannot be decoded.
    """
    info = probe(source)
    if not info.fps:
        raise InputError(f"{source}: expected a frame rate in the header, found none; export without --dicom")
    frames = np.stack([frame.image() for frame in decode(source, "rgb")])
    gray = bool((frames == frames[..., :1]).all())
    uids = {name: dicom_uid(name, clip_id, sha256) for name in ("study", "series", "instance")}
    header = pydicom.Dataset()
    header.SOPClassUID, header.SOPInstanceUID = UltrasoundMultiFrameImageStorage, uids["instance"]
    header.StudyInstanceUID, header.SeriesInstanceUID = uids["study"], uids["series"]
    for name in _EMPTY:
        setattr(header, name, "")
    header.SyntheticData = "YES"
    header.Modality, header.ImageType = "US", ["DERIVED", "SECONDARY"]
    header.SeriesNumber, header.InstanceNumber = 1, 1
    header.NumberOfFrames, header.Rows, header.Columns = frames.shape[:3]
    header.FrameTime, header.FrameIncrementPointer = f"{1000 / info.fps:.12g}"[:16], 0x00181063
    pixels = frames[..., 0] if gray else frames
    header.LossyImageCompression = "00" if info.codec in _LOSSLESS else "01"
    if info.codec not in _LOSSLESS:
        header.LossyImageCompressionRatio = f"{pixels.nbytes / source.stat().st_size:.4g}"
        header.LossyImageCompressionMethod = _METHODS.get(info.codec, info.codec.upper()[:16])
    _set_pixels(header, pixels)
    header.file_meta = FileMetaDataset()
    header.file_meta.MediaStorageSOPClassUID = header.SOPClassUID
    header.file_meta.MediaStorageSOPInstanceUID = header.SOPInstanceUID
    header.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    header.file_meta.ImplementationClassUID = _IMPLEMENTATION
    header.save_as(target, enforce_file_format=True)


def _set_pixels(header: pydicom.Dataset, frames: np.ndarray) -> None:
    colour = frames.ndim == 4
    header.SamplesPerPixel = 3 if colour else 1
    header.PhotometricInterpretation = "RGB" if colour else "MONOCHROME2"
    if colour:
        header.PlanarConfiguration = 0
    header.BitsAllocated = header.BitsStored = 8
    header.HighBit, header.PixelRepresentation = 7, 0
    pixels = frames.tobytes()
    header.add_new("PixelData", "OB", pixels + b"\0" * (len(pixels) % 2))
