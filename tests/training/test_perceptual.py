import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from monai.networks.nets.resnet import ResNet
from safetensors.torch import save_file

from mnemoscope.core.config import build
from mnemoscope.core.errors import ConfigError, CorruptFile, InputError
from mnemoscope.models.initial import named_weights
from mnemoscope.training.perceptual import PerceptualConfig, feature_distance, perceptual_distance


def images(count: int, channels: int, seed: int = 0) -> torch.Tensor:
    return torch.rand((count, channels, 32, 32), generator=torch.Generator().manual_seed(seed)) * 2 - 1


def resnet(channels: int = 3) -> ResNet:
    with named_weights(0, "test"):
        return ResNet(
            "bottleneck",
            [3, 4, 6, 3],
            [64, 128, 256, 512],
            spatial_dims=2,
            n_input_channels=channels,
            conv1_t_size=7,
            conv1_t_stride=2,
            bias_downsample=False,
            num_classes=10,
        ).eval()


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("weights") / "resnet50.safetensors"
    save_file(resnet().state_dict(), file)
    return file


def resnet50(file: Path) -> PerceptualConfig:
    return PerceptualConfig(kind="resnet50", weights=file)


def test_none_is_no_term() -> None:
    assert perceptual_distance(PerceptualConfig()) is None


def test_the_distance_of_features_by_hand() -> None:
    """Directions (0.6, 0.8) and (1, 0) lie √0.8 apart, equal ones 0; the mean over two stages of two places."""
    a = [torch.tensor([3.0, 4.0]).reshape(1, 2, 1, 1).repeat(1, 1, 1, 2), torch.ones(1, 5, 2, 2)]
    b = [torch.tensor([[7.0, 3.0], [0.0, 4.0]]).reshape(1, 2, 1, 2), torch.full((1, 5, 2, 2), 9.0)]
    assert float(feature_distance(a, b)) == pytest.approx((0.8 / 2 + 0.0) / 2, abs=1e-6)


def test_a_place_without_features_has_a_gradient() -> None:
    features = torch.zeros(1, 3, 2, 2, requires_grad=True)
    feature_distance([features], [torch.ones(1, 3, 2, 2)]).backward()
    assert features.grad is not None
    assert torch.isfinite(features.grad).all()


def by_hooks(network: ResNet, x: torch.Tensor) -> list[torch.Tensor]:
    """What the stages give when the network itself runs on colour frames, normalised as torchvision says."""
    caught: list[torch.Tensor] = []
    handles = [
        getattr(network, f"layer{i}").register_forward_hook(lambda _m, _i, out: caught.append(out)) for i in range(1, 5)
    ]
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    colour = x.repeat(1, 3 // x.shape[1], 1, 1)
    with torch.no_grad():
        network(((colour + 1) / 2 - mean[:, None, None]) / std[:, None, None])
    for handle in handles:
        handle.remove()
    return caught


@pytest.mark.parametrize("channels", [1, 3])
def test_resnet50_is_the_distance_of_its_four_stages(weights: Path, channels: int) -> None:
    distance = perceptual_distance(resnet50(weights))
    assert distance is not None
    a, b = images(2, channels), images(2, channels, seed=1)
    network = resnet()
    expected = 0.0
    for p, q in zip(by_hooks(network, a), by_hooks(network, b), strict=True):
        p, q = (torch.nn.functional.normalize(v.double(), dim=1) for v in (p, q))
        expected += float((p - q).square().sum(dim=1).mean()) / 4
    assert float(distance(a, b)) == pytest.approx(expected, rel=1e-4)
    assert float(distance(a, a)) == 0.0


def test_only_the_decoded_frames_have_a_gradient_and_the_network_is_not_trained(weights: Path) -> None:
    distance: Any = perceptual_distance(resnet50(weights))
    decoded, frames = images(2, 1).requires_grad_(), images(2, 1, seed=1).requires_grad_()
    before = {name: value.clone() for name, value in distance._network.state_dict().items()}
    distance(decoded, frames).backward()
    assert decoded.grad is not None
    assert float(decoded.grad.abs().sum()) > 0
    assert frames.grad is None
    assert all(p.grad is None for p in distance._network.parameters())
    assert all(torch.equal(value, before[name]) for name, value in distance._network.state_dict().items())


def test_building_a_network_draws_nothing_from_the_global_generator(weights: Path) -> None:
    state = torch.random.get_rng_state()
    perceptual_distance(resnet50(weights))
    assert torch.equal(torch.random.get_rng_state(), state)


def test_weights_of_another_network_are_refused(tmp_path: Path) -> None:
    save_file(resnet(channels=4).state_dict(), tmp_path / "latent.safetensors")
    with pytest.raises(
        CorruptFile, match=r"(?s)latent\.safetensors.*three input channels.*--set vae\.perceptual\.weights"
    ):
        perceptual_distance(resnet50(tmp_path / "latent.safetensors"))
    with pytest.raises(CorruptFile, match=r"absent\.pth"):
        perceptual_distance(resnet50(tmp_path / "absent.pth"))


@pytest.mark.parametrize("values", [{"kind": "resnet50"}, {"weights": "f.pth"}, {"kind": "lpips", "weights": "f.pth"}])
def test_weights_and_resnet50_go_together(values: dict[str, object]) -> None:
    with pytest.raises(ConfigError, match=r"--set vae\.perceptual\.kind=resnet50 --set vae\.perceptual\.weights=FILE"):
        build(PerceptualConfig, values)


@pytest.mark.parametrize("values", [{"kind": "vgg"}, {"weight": 0.0}, {"weight": -1.0}])
def test_choices_that_cannot_work_are_refused_by_name(values: dict[str, object]) -> None:
    with pytest.raises(ConfigError, match=next(iter(values))):
        build(PerceptualConfig, values)


def fake_lpips(monkeypatch: pytest.MonkeyPatch, make: Any) -> None:
    module: Any = ModuleType("lpips")
    module.LPIPS = make
    monkeypatch.setitem(sys.modules, "lpips", module)


class FakeLpips(torch.nn.Module):
    """The library's interface: (N, 3, H, W) twice to (N, 1, 1, 1)."""

    def __init__(self, *, net: str, verbose: bool) -> None:
        super().__init__()
        assert (net, verbose) == ("vgg", False)
        self.gain = torch.nn.Parameter(torch.tensor(3.0))

    def forward(self, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        assert a.shape[1] == b.shape[1] == 3
        assert not self.training
        return self.gain * (a - b).abs().mean(dim=(1, 2, 3), keepdim=True)


@pytest.mark.parametrize("channels", [1, 3])
def test_lpips_is_its_librarys_mean_over_frames(monkeypatch: pytest.MonkeyPatch, channels: int) -> None:
    fake_lpips(monkeypatch, FakeLpips)
    distance: Any = perceptual_distance(PerceptualConfig(kind="lpips"))
    a, b = images(2, channels), images(2, channels, seed=1)
    assert float(distance(a, b)) == pytest.approx(3 * float((a - b).abs().mean()), rel=1e-6)
    assert not distance(a, b).requires_grad


def test_an_absent_lpips_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "lpips", None)
    with pytest.raises(ConfigError, match=r"(?s)kind=lpips.*pip install lpips torchvision.*kind=resnet50.*kind=none"):
        perceptual_distance(PerceptualConfig(kind="lpips"))


def test_weights_that_lpips_cannot_download_are_an_input_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def offline(**_: object) -> None:
        raise OSError("no route to host")

    fake_lpips(monkeypatch, offline)
    with pytest.raises(InputError, match=r"VGG-16 weights, got: no route to host; connect once"):
        perceptual_distance(PerceptualConfig(kind="lpips"))
