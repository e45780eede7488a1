import json
import math

import numpy as np
import pytest
import torch

from mnemoscope.audit.evidence import structural_similarity
from mnemoscope.training.reconstruction import Reconstruction, psnr_db, reconstruct, ssim


def images(count: int = 2, channels: int = 1, seed: int = 0) -> torch.Tensor:
    return torch.rand((count, channels, 16, 20), generator=torch.Generator().manual_seed(seed)) * 2 - 1


def gray(frames: torch.Tensor) -> np.ndarray:
    return (frames.double().numpy() + 1) * 127.5


@pytest.mark.parametrize(("offset", "expected_db"), [(2.0, 0.0), (0.2, 20.0), (0.02, 40.0)])
def test_psnr_of_an_even_error_is_its_share_of_the_range(offset: float, expected_db: float) -> None:
    frames = torch.full((3, 1, 16, 16), -1.0)
    assert psnr_db(frames + offset, frames).tolist() == pytest.approx([expected_db] * 3, abs=1e-3)


def test_what_overshoots_counts_as_white() -> None:
    frames = torch.full((1, 1, 16, 16), 0.8)
    assert float(psnr_db(frames + 5, frames)) == pytest.approx(20.0, abs=1e-3)
    assert float(ssim(frames + 5, frames)) == float(ssim(frames + 0.2, frames))


def test_equal_frames_are_as_alike_as_can_be() -> None:
    assert ssim(images(), images()).tolist() == pytest.approx([1.0, 1.0], abs=1e-6)
    assert psnr_db(images(), images()).tolist() == [math.inf, math.inf]


@pytest.mark.parametrize(("a", "b"), [(-1.0, 1.0), (0.0, 0.5), (-0.6, -0.2)])
def test_ssim_of_even_frames_is_that_of_their_brightness(a: float, b: float) -> None:
    x, y, c1 = (a + 1) / 2, (b + 1) / 2, 0.01**2
    expected = (2 * x * y + c1) / (x * x + y * y + c1)
    assert float(ssim(torch.full((1, 1, 11, 11), a), torch.full((1, 1, 11, 11), b))) == pytest.approx(
        expected, abs=1e-3
    )


@pytest.mark.parametrize("share", [0.1, 0.5, 1.0])
def test_ssim_agrees_with_the_one_of_the_audit(share: float) -> None:
    a, b = images(), images() * (1 - share) + images(seed=1) * share
    everywhere = np.ones((16, 20), dtype=bool)
    expected = [structural_similarity(p, q, everywhere) for p, q in zip(gray(a)[:, 0], gray(b)[:, 0], strict=True)]
    assert ssim(b, a).tolist() == pytest.approx(expected, abs=1e-4)


def test_ssim_is_the_mean_over_channels() -> None:
    a, b = images(channels=3), images(channels=3, seed=1)
    single = torch.stack([ssim(a[:, [c]], b[:, [c]]) for c in range(3)])
    assert ssim(a, b).tolist() == pytest.approx(single.mean(dim=0).tolist(), abs=1e-5)


class Halving(torch.nn.Module):
    """An autoencoder whose latent is the frame and which decodes it at half its strength."""

    class _Posterior:
        def __init__(self, mean: torch.Tensor) -> None:
            self.mean = self.latent_dist = self.sample = mean

    def encode(self, x: torch.Tensor) -> "Halving._Posterior":
        found = Halving._Posterior(x)
        found.latent_dist = Halving._Posterior(x)
        return found

    def decode(self, z: torch.Tensor) -> "Halving._Posterior":
        return Halving._Posterior(z / 2)


@pytest.mark.parametrize("sizes", [[5], [1, 4], [2, 2, 1]])
def test_blocks_of_any_size_give_the_same(sizes: list[int]) -> None:
    frames = images(5, channels=2)
    found = reconstruct(Halving(), torch.split(frames, sizes), torch.device("cpu"))
    assert found.psnr_db == pytest.approx(psnr_db(frames / 2, frames).numpy(), abs=1e-4)
    assert found.ssim == pytest.approx(ssim(frames / 2, frames).numpy(), abs=1e-5)
    np.testing.assert_array_equal(found.latents, frames.numpy())


def test_figures_by_hand() -> None:
    latents = np.array([[0.0, 1.0], [2.0, 5.0]], dtype=np.float32).reshape(2, 2, 1, 1)
    values = np.arange(101, dtype=np.float32)
    found = json.loads(json.dumps(Reconstruction(values, values / 100, latents).to_json()))
    assert found["frames"] == 101
    assert found["psnr_db"] == {"mean": 50.0, "p5": 5.0, "p95": 95.0}
    assert found["ssim"] == pytest.approx({"mean": 0.5, "p5": 0.05, "p95": 0.95})
    assert found["latent"] == {"mean": [1.0, 3.0], "std": [1.0, 2.0], "min": [0.0, 1.0], "max": [2.0, 5.0]}
