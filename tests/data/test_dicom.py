from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.pixels import apply_voi_lut, pixel_array
from pydicom.uid import ExplicitVRLittleEndian, UltrasoundMultiFrameImageStorage

from mnemoscope.core.errors import InputError
from mnemoscope.data.dicom import hash_patient_id, is_dicom, probe_dicom, read_patient_id
from mnemoscope.data.examine import ClipFacts, examine
from mnemoscope.data.video import FrameTransform, UnreadableClip, content_fingerprint, probe, read_clip

BUNDLED = Path(pydicom.__file__).parent / "data" / "test_files"
ULTRASOUND = BUNDLED / "examples_ybr_color.dcm"


def write_dicom(path, pixels, photometric, *, bits=8, **tags):
    """A multi-frame ultrasound file around the given pixels, (T, H, W) or (T, H, W, 3)."""
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = UltrasoundMultiFrameImageStorage
    meta.MediaStorageSOPInstanceUID = "1.2.3.4"
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset = FileDataset(str(path), {}, file_meta=meta, preamble=b"\0" * 128)
    dataset.SOPClassUID, dataset.SOPInstanceUID = UltrasoundMultiFrameImageStorage, "1.2.3.4"
    dataset.NumberOfFrames, dataset.Rows, dataset.Columns = pixels.shape[:3]
    dataset.SamplesPerPixel = 3 if pixels.ndim == 4 else 1
    if pixels.ndim == 4:
        dataset.PlanarConfiguration = 0
    dataset.PhotometricInterpretation = photometric
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = 8 * pixels.itemsize, bits, bits - 1
    dataset.PixelRepresentation = int(np.issubdtype(pixels.dtype, np.signedinteger))
    dataset.PatientName, dataset.PatientID = "Doe^Jane", "MRN-7"
    for tag, value in tags.items():
        setattr(dataset, tag, value)
    dataset.PixelData = pixels.tobytes()
    dataset.save_as(path, enforce_file_format=True)
    return path


def native(pixels, color="gray", **fields):
    return FrameTransform(height=pixels.shape[1], width=pixels.shape[2], color=color, **fields)


@pytest.fixture
def gray(rng):
    return rng.integers(0, 256, (5, 6, 8), dtype=np.uint8)


@pytest.fixture
def colour(rng):
    return rng.integers(0, 256, (3, 6, 8, 3), dtype=np.uint8)


def test_monochrome_as_stored(tmp_path, gray):
    path = write_dicom(tmp_path / "a.dcm", gray, "MONOCHROME2")
    assert np.array_equal(read_clip(path, native(gray)), gray)
    assert np.array_equal(read_clip(path, native(gray, "rgb")), np.stack([gray] * 3, axis=-1))


def test_monochrome1_is_inverted(tmp_path, gray):
    path = write_dicom(tmp_path / "a.dcm", gray, "MONOCHROME1")
    assert np.array_equal(read_clip(path, native(gray)), 255 - gray)


def test_rgb_as_stored_and_luma_for_gray(tmp_path, colour):
    path = write_dicom(tmp_path / "a.dcm", colour, "RGB")
    assert np.array_equal(read_clip(path, native(colour, "rgb")), colour)
    luma = colour @ np.array([0.299, 0.587, 0.114])
    assert np.abs(read_clip(path, native(colour)) - luma).max() <= 1


def test_ybr_full_by_the_formula(tmp_path, colour):
    path = write_dicom(tmp_path / "a.dcm", colour, "YBR_FULL")
    y, cb, cr = (colour[..., i].astype(float) - (128 if i else 0) for i in range(3))
    rgb = np.stack([y + 1.402 * cr, y - 0.344136 * cb - 0.714136 * cr, y + 1.772 * cb], axis=-1)
    assert np.array_equal(read_clip(path, native(colour)), colour[..., 0])
    assert np.abs(read_clip(path, native(colour, "rgb")) - np.clip(rgb, 0, 255)).max() <= 1.5


def test_uncompressed_ybr_422_as_pydicom_reads_it():
    path = BUNDLED / "SC_ybr_full_422_uncompressed.dcm"
    expected = pixel_array(path)
    ours = read_clip(path, FrameTransform(height=100, width=100, color="rgb"))
    assert np.abs(ours[0].astype(int) - expected).max() <= 2


def test_real_ultrasound_as_pydicom_reads_it():
    info = probe(ULTRASOUND)
    assert (info.n_frames, info.height, info.width) == (30, 240, 320)
    assert info.fps == pytest.approx(30, rel=1e-3)
    transform = FrameTransform(height=240, width=320, color="rgb")
    ours = read_clip(ULTRASOUND, transform, frames=[0, 17])
    expected = pixel_array(ULTRASOUND)[[0, 17]]
    assert np.abs(ours.astype(int) - expected).max() <= 2
    gray = read_clip(ULTRASOUND, FrameTransform(height=240, width=320), frames=[17])[0]
    assert np.array_equal(gray, pixel_array(ULTRASOUND, raw=True, index=17)[..., 0])


@pytest.mark.parametrize("name", ["examples_palette.dcm", "SC_rgb_rle_2frame.dcm", "examples_jpeg2k.dcm"])
def test_other_encodings_read(name):
    info = probe(BUNDLED / name)
    clip = read_clip(BUNDLED / name, FrameTransform(height=info.height, width=info.width, color="rgb"))
    assert clip.shape == (info.n_frames, info.height, info.width, 3)
    assert np.ptp(clip) > 100


def test_palette_colours_by_the_table():
    dataset = pydicom.dcmread(BUNDLED / "examples_palette.dcm")
    table = np.frombuffer(dataset.RedPaletteColorLookupTableData, "<u2")
    red = read_clip(BUNDLED / "examples_palette.dcm", FrameTransform(height=350, width=800, color="rgb"))[0, ..., 0]
    expected = table[dataset.pixel_array] / 65535 * 255
    assert np.abs(red - expected).max() <= 1


@pytest.mark.parametrize("dtype", [np.uint16, np.int16])
def test_windowed_values_as_pydicom_windows_them(tmp_path, rng, dtype):
    low = -2048 if dtype == np.int16 else 0
    pixels = rng.integers(low + 980, low + 1020, (2, 6, 8)).astype(dtype)
    window = {"WindowCenter": low + 1000, "WindowWidth": 20}
    path = write_dicom(tmp_path / "a.dcm", pixels, "MONOCHROME2", bits=12, **window)
    windowed = apply_voi_lut(pixels, pydicom.dcmread(path))
    expected = (windowed - windowed.min()) / np.ptp(windowed) * 255
    assert np.abs(read_clip(path, native(pixels)) - expected).max() <= 0.51


@pytest.mark.parametrize(("dtype", "low"), [(np.uint16, 0), (np.int16, -512)])
def test_without_window_the_stored_range_counts_not_the_content(tmp_path, dtype, low):
    pixels = np.array([[[low, low + 1023]], [[low + 100, low + 100]]], dtype)
    path = write_dicom(tmp_path / "a.dcm", pixels, "MONOCHROME2", bits=10)
    assert read_clip(path, native(pixels)).tolist() == [[[0, 255]], [[25, 25]]]


@pytest.mark.parametrize(
    ("tags", "fps"),
    [
        ({"FrameTime": "20"}, 50),
        ({"CineRate": 40}, 40),
        ({"RecommendedDisplayFrameRate": 35}, 35),
        ({"FrameTime": "20", "CineRate": 40, "RecommendedDisplayFrameRate": 35}, 50),
        ({"FrameTimeVector": [0, 30, 50]}, 25),
        ({"FrameTime": "0", "CineRate": 40}, 40),
        ({}, None),
    ],
)
def test_rate_from_the_header(tmp_path, gray, tags, fps):
    path = write_dicom(tmp_path / "a.dcm", gray, "MONOCHROME2", **tags)
    assert probe(path).fps == (None if fps is None else pytest.approx(fps))


def test_resampling_uses_the_header_rate_and_refuses_without_it(tmp_path, gray):
    timed = write_dicom(tmp_path / "a.dcm", gray, "MONOCHROME2", FrameTime="20")
    assert np.array_equal(read_clip(timed, native(gray, target_fps=25)), gray[::2])
    untimed = write_dicom(tmp_path / "b.dcm", gray, "MONOCHROME2")
    with pytest.raises(InputError, match=r"--set frames\.target_fps"):
        read_clip(untimed, native(gray, target_fps=25))


def test_no_patient_tag_but_the_id_is_read(tmp_path, gray, monkeypatch):
    path = write_dicom(tmp_path / "a.dcm", gray, "MONOCHROME2")
    seen = []
    original = pydicom.dcmread
    monkeypatch.setattr(pydicom, "dcmread", lambda *a, **k: seen.append(original(*a, **k)) or seen[-1])
    read_clip(path, native(gray))
    probe_dicom(path)
    assert read_patient_id(path) == "MRN-7"
    patient_tags = {element.keyword for dataset in seen for element in dataset if "Patient" in element.keyword}
    assert patient_tags == {"PatientID"}


def test_empty_patient_id_is_none(tmp_path, gray):
    assert read_patient_id(write_dicom(tmp_path / "a.dcm", gray, "MONOCHROME2", PatientID=" ")) is None


def test_known_by_suffix_or_magic_word(tmp_path, gray):
    bare = write_dicom(tmp_path / "IM_0001", gray, "MONOCHROME2")
    uid = write_dicom(tmp_path / "1.2.840.113", gray, "MONOCHROME2")
    (tmp_path / "README").write_text("no clip")
    assert [is_dicom(p) for p in (bare, uid, tmp_path / "README", tmp_path / "x.DCM")] == [True, True, False, True]
    assert np.array_equal(read_clip(bare, native(gray)), gray)
    assert content_fingerprint(bare) == content_fingerprint(uid)


@pytest.mark.parametrize("name", ["rtplan.dcm", "waveform_ecg.dcm"])
def test_dicom_without_image_is_refused(name):
    with pytest.raises(UnreadableClip, match=name):
        probe(BUNDLED / name)


def test_unsupported_compression_is_named():
    path = BUNDLED / "JPEGLSNearLossless_08.dcm"
    with pytest.raises(UnreadableClip, match="JPEG-LS"):
        read_clip(path, FrameTransform(height=45, width=10))


def test_truncated_pixels_are_refused(tmp_path, gray):
    path = write_dicom(tmp_path / "a.dcm", gray, "MONOCHROME2")
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(UnreadableClip, match=r"a\.dcm"):
        read_clip(path, native(gray))


def test_hash_needs_the_salt_and_repeats():
    first = hash_patient_id("MRN-7", salt="a long secret")
    assert first == hash_patient_id("MRN-7", salt="a long secret")
    assert (
        len({first, hash_patient_id("MRN-8", salt="a long secret"), hash_patient_id("MRN-7", salt="another secret")})
        == 3
    )
    assert first != "7"
    with pytest.raises(InputError, match="--patient-salt"):
        hash_patient_id("MRN-7", salt="short")


@pytest.mark.filterwarnings("ignore::UserWarning:pydicom")
@pytest.mark.parametrize(
    "name", ["SC_rgb_rle_2frame.dcm", "SC_ybr_full_422_uncompressed.dcm", "SC_rgb_small_odd_jpeg.dcm", "image_dfl.dcm"]
)
def test_any_damage_gives_facts_and_never_an_exception(tmp_path, rng, name):
    original = (BUNDLED / name).read_bytes()
    for _ in range(30):
        data = bytearray(original)
        for i in rng.integers(0, min(len(data), 1500), rng.integers(1, 12)):
            data[i] = rng.integers(256)
        (tmp_path / "a.dcm").write_bytes(data[: int(len(data) * rng.uniform(0.2, 1))])
        assert isinstance(examine(tmp_path / "a.dcm"), ClipFacts)
