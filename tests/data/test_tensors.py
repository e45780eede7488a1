import pickle
import sys

import numpy as np
import pytest
import torch

from mnemoscope.data.clips import UnreadableClip
from mnemoscope.data.tensors import read_latent


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_latents_come_back_as_float32(tmp_path, dtype):
    latent = torch.randn(3, 4, 2, 2, generator=torch.Generator().manual_seed(0)).to(dtype)
    torch.save(latent, tmp_path / "a.pt")
    back = read_latent(tmp_path / "a.pt")
    assert back.dtype == np.float32
    assert np.array_equal(back, latent.float().numpy())


@pytest.mark.parametrize(
    "value", [torch.zeros(3, 4, 2), torch.zeros(2, 4, 2, 2, dtype=torch.int64), {"latent": 1}, torch.zeros(0, 4, 2, 2)]
)
def test_other_contents_are_refused(tmp_path, value):
    torch.save(value, tmp_path / "a.pt")
    with pytest.raises(UnreadableClip, match=r"\(T, C, h, w\)"):
        read_latent(tmp_path / "a.pt")


class Trap:
    def __reduce__(self):
        return sys.exit, (3,)


def test_code_in_a_file_is_never_run(tmp_path):
    torch.save(Trap(), tmp_path / "a.pt")
    with pytest.raises(UnreadableClip, match=r"a\.pt"):
        read_latent(tmp_path / "a.pt")


@pytest.mark.parametrize("content", [b"", b"garbage", pickle.dumps([1, 2], protocol=2), b"PK\x03\x04 half a zip"])
def test_damaged_files_are_named(tmp_path, content):
    (tmp_path / "a.pt").write_bytes(content)
    with pytest.raises(UnreadableClip, match=r"a\.pt"):
        read_latent(tmp_path / "a.pt")


def test_a_truncated_file_is_named(tmp_path):
    torch.save(torch.zeros(30, 4, 8, 8), tmp_path / "a.pt")
    (tmp_path / "a.pt").write_bytes((tmp_path / "a.pt").read_bytes()[:5000])
    with pytest.raises(UnreadableClip, match=r"a\.pt"):
        read_latent(tmp_path / "a.pt")


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(UnreadableClip, match=r"a\.pt"):
        read_latent(tmp_path / "a.pt")
