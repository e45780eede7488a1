"""The tile of byte differences against NumPy, for every register width this processor can run."""

import numpy as np
import pytest
from llvmlite import binding
from numba import njit

from mnemoscope.core.rng import generator
from mnemoscope.search import sad

FEATURES = binding.get_host_cpu_features()
WIDTHS = [
    pytest.param(64, marks=pytest.mark.skipif(not FEATURES.get("avx512bw"), reason="needs AVX-512BW")),
    pytest.param(32, marks=pytest.mark.skipif(not FEATURES.get("avx2"), reason="needs AVX2")),
    16,
]


def compiled(width: int):
    tile = sad.tile_intrinsic(width)

    @njit
    def call(coded, columns, rows, groups_add):
        tile(coded, columns, rows, groups_add)

    return call


@pytest.fixture(params=["instruction", "shifts"])
def arithmetic(request, monkeypatch):
    if request.param == "shifts":
        monkeypatch.setattr(sad, "has_instruction", lambda triple: False)


@pytest.mark.usefixtures("arithmetic")
@pytest.mark.parametrize("width", WIDTHS)
def test_tile_is_the_signed_sum_of_absolute_byte_differences(width):
    tile = compiled(width)
    for groups, groups_add in ((0, 0), (1, 1), (3, 0), (5, 2)):
        rng = generator(0, "bytes", groups)
        coded = rng.integers(0, 256, (sad.TILE, groups, sad.GROUP), dtype=np.uint8)
        columns = rng.integers(0, 256, (groups, sad.PANEL, sad.GROUP), dtype=np.uint8)
        difference = np.abs(coded[:, :, None, :].astype(int) - columns[None].astype(int)).sum(axis=3)
        rows = np.full((sad.TILE, sad.PANEL), np.nan, np.float32)
        tile(coded, columns, rows, groups_add)
        expected = difference[:, :groups_add].sum(axis=1) - difference[:, groups_add:].sum(axis=1)
        np.testing.assert_array_equal(rows, expected)


def test_the_widest_register_is_read_from_the_target():
    assert sad.widest_vector("x86_64-unknown-linux-gnu", "+avx2,+avx512bw") == 64
    assert sad.widest_vector("x86_64-unknown-linux-gnu", "+avx2,-avx512bw") == 32
    assert sad.widest_vector("x86_64-unknown-linux-gnu", "+sse2") == 16
    assert sad.widest_vector("aarch64-apple-darwin", "+neon") == 16
