import dataclasses

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from mnemoscope.core.rng import generator
from mnemoscope.phantom.acquisition import (
    N_BEAMS,
    N_DEPTHS,
    TILE,
    beam_field,
    draw_acquisition,
    noise_offsets,
)


def test_the_same_generator_makes_the_same_recording(acquisition):
    assert acquisition == draw_acquisition(generator(7, "acquisition"))
    assert acquisition != draw_acquisition(generator(8, "acquisition"))


@settings(deadline=None)
@given(shorter=st.integers(0, 40), more=st.integers(0, 40))
def test_a_longer_clip_begins_with_the_noise_of_a_shorter_one(shorter, more):
    acquisition = draw_acquisition(generator(0, "a"))
    long = noise_offsets(acquisition, shorter + more)
    np.testing.assert_array_equal(long[:shorter], noise_offsets(acquisition, shorter))
    assert long.min(initial=0) >= 0
    assert long.max(initial=0) < TILE


def test_fields_have_the_beams_shape_and_unit_tiles(acquisition):
    fields = beam_field(acquisition, wall_rings=10.0)
    assert fields.offset.shape == fields.haze.shape == (N_DEPTHS, N_BEAMS)
    for tile in (fields.speckle, fields.noise):
        assert tile.shape == (TILE, TILE)
        assert abs(float(tile.mean())) < 1e-4
        assert abs(float(tile.std()) - 1.0) < 1e-3


def test_speckle_grains_are_two_to_four_pixels_wide(acquisition):
    tile = beam_field(acquisition, wall_rings=10.0).speckle.astype(np.float64)
    spectrum = np.abs(np.fft.fft2(tile)) ** 2
    correlation = np.fft.ifft2(spectrum).real / spectrum.mean()
    half_width_cells = np.interp(0.5, correlation[0, :20][::-1] / correlation[0, 0], np.arange(20)[::-1])
    width_px = 2.0 * half_width_cells * 0.5  # a cell of the tile is half a pixel
    assert 2.0 <= width_px <= 4.0


def test_tiles_have_no_seam(acquisition):
    for tile in (beam_field(acquisition, wall_rings=10.0).speckle, beam_field(acquisition, wall_rings=10.0).noise):
        inner = np.abs(np.diff(tile, axis=0)).mean()
        assert np.abs(tile[0] - tile[-1]).mean() < 1.3 * inner


def test_settings_reach_the_field(acquisition):
    plain = beam_field(acquisition, wall_rings=10.0)
    louder = beam_field(dataclasses.replace(acquisition, gain_level=acquisition.gain_level + 0.1), wall_rings=10.0)
    np.testing.assert_allclose(louder.offset - plain.offset, 0.1, atol=1e-5)
    deeper = beam_field(dataclasses.replace(acquisition, attenuation_level=0.5), wall_rings=10.0)
    assert (deeper.offset - plain.offset)[-1].mean() < (deeper.offset - plain.offset)[0].mean() - 0.3
    edged = beam_field(dataclasses.replace(acquisition, edge_level=0.5), wall_rings=10.0)
    assert (edged.offset - plain.offset)[:, 0].max() < -0.2
    assert abs((edged.offset - plain.offset)[:, N_BEAMS // 2]).max() < 1e-3
    clear = beam_field(dataclasses.replace(acquisition, haze_level=0.0, reverberation_level=0.0), wall_rings=10.0)
    assert clear.haze.max() == 0.0
    assert plain.haze[:10].mean() > 5.0 * plain.haze[60:].mean()
    silent = beam_field(dataclasses.replace(acquisition, noise_level=0.0), wall_rings=10.0)
    assert silent.noise_depth.max() == 0.0
    assert plain.noise_depth[-1] > plain.noise_depth[0] > 0.0


def test_rings_follow_the_chest_wall(acquisition):
    field = dataclasses.replace(acquisition, haze_level=0.0, reverberation_level=0.2)
    few, many = (beam_field(field, wall_rings=rings).haze[:, N_BEAMS // 2] for rings in (8.0, 16.0))
    peaks = [int(np.sum((h[1:-1] > h[:-2]) & (h[1:-1] > h[2:]))) for h in (few, many)]
    assert peaks[1] > 1.5 * peaks[0]
