import numpy as np
import pytest
import torch

from mnemoscope.audit.labels import mae, r2
from mnemoscope.core.errors import InputError
from mnemoscope.models.ef_readers import EF_READERS
from mnemoscope.models.phantom_ef import BUNDLED_FILE, measure_ef, measure_log_volumes, network_input
from mnemoscope.phantom.anatomy import VIEWS
from mnemoscope.phantom.cohort import CohortSpec, acquisition, clips, patient, render
from mnemoscope.phantom.render import PhantomClip, volume_curve


def rendered(view: str, n_patients: int, *, seed: int = 4711) -> list[PhantomClip]:
    """Clips of patients the network was not trained on."""
    spec = CohortSpec(view=view, n_patients=n_patients, seed=seed)
    return [render(spec, clip) for clip in clips(spec)]


@pytest.fixture(scope="module")
def clip() -> PhantomClip:
    return rendered("a4c", 1)[0]


@pytest.mark.slow
@pytest.mark.parametrize("view", VIEWS)
def test_it_reads_the_ef_of_unseen_patients(view: str) -> None:
    shown = rendered(view, 40)
    true, read = np.array([one.ef for one in shown]), np.array([measure_ef(one.frames, 32.0) for one in shown])
    assert r2(true, read, np.ones(40)) > 0.85
    assert mae(true, read, np.ones(40)) < 4.5


@pytest.mark.parametrize("view", VIEWS)
def test_each_frame_has_its_volume(view: str) -> None:
    spec = CohortSpec(view=view, n_patients=1, seed=12)
    (one,) = clips(spec)
    true = np.log(volume_curve(patient(spec, 0), acquisition(spec, one), n_frames=64, fps=32.0))
    read = measure_log_volumes(render(spec, one).frames)
    assert np.corrcoef(true, read)[0, 1] > 0.95
    assert np.std((read - read.mean()) - (true - true.mean())) < 0.1


def test_a_heart_that_stands_still_ejects_nothing(clip: PhantomClip) -> None:
    still = np.repeat(clip.frames[:1], 64, axis=0)
    assert measure_ef(still, 32.0) == pytest.approx(0.0, abs=0.01)


def test_what_does_not_change_the_beat_does_not_change_the_reading(clip: PhantomClip) -> None:
    read = measure_ef(clip.frames, 32.0)
    assert measure_ef(clip.frames[::-1].copy(), 32.0) == pytest.approx(read, abs=1e-3)
    assert measure_ef(np.repeat(clip.frames[..., None], 3, axis=-1), 32.0) == pytest.approx(read, abs=1e-3)
    darker = np.rint(0.9 * clip.frames).astype(np.uint8)
    assert measure_ef(darker, 32.0) == pytest.approx(read, abs=4.0)


def test_less_than_a_beat_is_no_reading(clip: PhantomClip) -> None:
    """The slowest heart beats once in 60 / 52 s = 1.154 s: 36.9 frames."""
    assert np.isnan(measure_ef(clip.frames[:36], 32.0))
    assert np.isfinite(measure_ef(clip.frames[:37], 32.0))
    assert np.isnan(measure_ef(clip.frames[:37], 33.0))


def test_a_long_clip_reads_as_its_windows_do_on_average(clip: PhantomClip) -> None:
    """4.7 s are two windows of two of the slowest beats (2.31 s); 4.5 s are one."""
    other = rendered("a4c", 1, seed=4712)[0].frames
    both = np.concatenate([np.resize(frames, (75, *frames.shape[1:])) for frames in (clip.frames, other)])
    parts = [measure_ef(both[:75], 32.0), measure_ef(both[75:], 32.0)]
    assert abs(parts[0] - parts[1]) > 5
    assert measure_ef(both, 32.0) == pytest.approx(np.mean(parts), abs=1e-3)
    volume = measure_log_volumes(both[3:147])
    assert measure_ef(both[3:147], 32.0) == pytest.approx(100 * (1 - np.exp(volume.min() - volume.max())), abs=1e-3)


def test_pixels_are_averaged_two_by_two() -> None:
    frames = np.random.default_rng(0).integers(0, 256, (2, 112, 112, 3)).astype(np.uint8)
    expected = frames.reshape(2, 56, 2, 56, 2, 3).mean(axis=(2, 4, 5)) / 255
    assert np.allclose(network_input(frames)[:, 0].numpy(), expected, atol=1e-6)
    assert torch.allclose(network_input(frames[..., 0]), network_input(np.repeat(frames[..., :1], 3, axis=-1)))


@pytest.mark.parametrize("shape", [(40, 56, 56), (40, 112), (40, 3, 112, 112)])
def test_other_sizes_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(InputError, match=r"frames of 112×112, got shape .*frames.height=112"):
        measure_ef(np.zeros(shape, np.uint8), 16.0)


def test_it_is_listed_and_small() -> None:
    assert EF_READERS["phantom"] is measure_ef
    assert BUNDLED_FILE.stat().st_size < 1e6
