"""Acquisition: what belongs to one recording of a patient: probe, gain, depth, sector, speckle, noise."""

import dataclasses
from dataclasses import dataclass

import numpy as np
from scipy.ndimage import gaussian_filter, gaussian_filter1d

from mnemoscope.core.rng import generator

SIZE_PX = 112
N_DEPTHS = 128
N_BEAMS = 112
FACE_SHARE = 0.06
TILE = 256


@dataclass(frozen=True, kw_only=True)
class Acquisition:
    """One recording. Levels are shares of the display's range after log compression.

    Attributes:
        seed: names the recording's speckle, noise and gain pattern.
        start_s: moment of the patient's time line at which frame 0 is taken.
        depth_scale: depth shown, relative to the patient's usual one.
        half_angle_deg: half the opening of the sector.
        top_px: row of the point from which the beams fan out, a little above the image.
        shift_mm: where the heart lies relative to its usual place, (lateral, depth).
        turn_deg: tilt of the probe.
        gain_level: added to all echoes.
        attenuation_level: lost from probe to full depth.
        edge_level: lost at the sector's borders.
        haze_level: near-field haze at the probe.
        reverberation_level: strength of the rings in the near field.
        speckle_level: standard deviation of the speckle where tissue is brightest.
        noise_level: standard deviation of the electronic noise at full depth.
        contrast: slope of the display curve around mid-grey.
    """

    seed: int
    start_s: float
    depth_scale: float
    half_angle_deg: float
    top_px: float
    shift_mm: tuple[float, float]
    turn_deg: float
    gain_level: float
    attenuation_level: float
    edge_level: float
    haze_level: float
    reverberation_level: float
    speckle_level: float
    noise_level: float
    contrast: float


_SPANS: dict[str, tuple[float, float]] = {
    "start_s": (0.0, 10.0),
    "depth_scale": (0.95, 1.06),
    "half_angle_deg": (36.5, 42.5),
    "top_px": (-5.0, -1.0),
    "turn_deg": (-3.0, 3.0),
    "gain_level": (-0.02, 0.06),
    "attenuation_level": (0.03, 0.15),
    "edge_level": (0.06, 0.2),
    "haze_level": (0.22, 0.5),
    "reverberation_level": (0.06, 0.2),
    "speckle_level": (0.066, 0.090),
    "noise_level": (0.008, 0.016),
    "contrast": (0.92, 1.10),
}
_SHIFT_MM = 2.5


def draw_acquisition(rng: np.random.Generator) -> Acquisition:
    """A recording from the population of recordings, the same for every view.

    Args:
        rng: source of every setting.

    Returns:
        the recording.
    """
    values = {name: float(rng.uniform(low, high)) for name, (low, high) in _SPANS.items()}
    shift = rng.uniform(-_SHIFT_MM, _SHIFT_MM, size=2)
    return Acquisition(seed=int(rng.integers(2**62)), shift_mm=(float(shift[0]), float(shift[1])), **values)


@dataclass(frozen=True, eq=False)
class BeamField:
    """What a recording adds to the echoes, in beam space.

    Attributes:
        offset: added to the echo level, shape (N_DEPTHS, N_BEAMS).
        haze: share by which the level is lifted towards white, shape (N_DEPTHS, N_BEAMS).
        speckle: periodic tile carried by the tissue, unit variance, shape (TILE, TILE).
        noise: periodic tile of electronic noise, unit variance, shape (TILE, TILE).
        noise_depth: noise level at each depth, shape (N_DEPTHS,).
    """

    offset: np.ndarray
    haze: np.ndarray
    speckle: np.ndarray
    noise: np.ndarray
    noise_depth: np.ndarray


def beam_field(acquisition: Acquisition, *, wall_rings: float) -> BeamField:
    """Gain, haze, speckle and noise of a recording.

    Args:
        acquisition: which.
        wall_rings: number of near-field rings over the full depth, a property of the patient's chest wall.

    Returns:
        the fields, float32.
    """
    rng = generator(acquisition.seed, "beams")
    depth = ((np.arange(N_DEPTHS) + 0.5) / N_DEPTHS)[:, None]
    beam = np.linspace(-1.0, 1.0, N_BEAMS)[None, :]
    offset = acquisition.gain_level - acquisition.attenuation_level * depth - acquisition.edge_level * np.abs(beam) ** 3
    offset = offset + _streaks(rng)[None, :] + 0.02 * _smooth_line(rng, N_DEPTHS, sigma=14.0)[:, None]
    below = np.maximum(depth - FACE_SHARE, 0.0)
    near = np.exp(-below / 0.06) * (1.0 - 0.4 * beam**2)
    rings = 0.5 + 0.5 * np.cos(2.0 * np.pi * wall_rings * below)
    haze = acquisition.haze_level * near + acquisition.reverberation_level * rings * np.exp(-below / 0.11)
    fields = BeamField(
        offset=offset,
        haze=haze,
        speckle=_speckle_tile(rng),
        noise=_unit(gaussian_filter(rng.standard_normal((TILE, TILE)), (0.9, 0.7), mode="wrap")),
        noise_depth=acquisition.noise_level * (0.35 + 0.65 * depth[:, 0]),
    )
    return dataclasses.replace(
        fields, **{f.name: getattr(fields, f.name).astype(np.float32) for f in dataclasses.fields(fields)}
    )


def noise_offsets(acquisition: Acquisition, n_frames: int) -> np.ndarray:
    """Where in the noise tile each frame begins, shape (n_frames, 2); a longer clip begins with a shorter one's."""
    draws = generator(acquisition.seed, "noise").random((n_frames, 2))
    return (draws * TILE).astype(np.int64)


def _unit(field: np.ndarray) -> np.ndarray:
    return (field - field.mean()) / field.std()


def _smooth_line(rng: np.random.Generator, n: int, *, sigma: float) -> np.ndarray:
    return _unit(gaussian_filter1d(rng.standard_normal(n), sigma))


def _streaks(rng: np.random.Generator) -> np.ndarray:
    """Gain of each beam: broad shadows of ribs and fine streaks."""
    return 0.032 * _smooth_line(rng, N_BEAMS, sigma=8.0) + 0.012 * _smooth_line(rng, N_BEAMS, sigma=2.0)


def _speckle_tile(rng: np.random.Generator) -> np.ndarray:
    """Log-compressed fully developed speckle: the magnitude of a smoothed complex Gaussian field."""
    parts = rng.standard_normal((2, TILE, TILE))
    real, imaginary = (gaussian_filter(part, 2.2, mode="wrap") for part in parts)
    magnitude2 = real**2 + imaginary**2
    return _unit(np.log(magnitude2 + 0.15 * magnitude2.mean()))
