import copy
import json
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import AutoencoderKL

from mnemoscope.core.errors import CorruptFile, DegenerateValues, InputError
from mnemoscope.latents.scaling import unit_to_pixels
from mnemoscope.models import vae
from mnemoscope.models.initial import named_weights
from mnemoscope.models.vae import BUNDLED_FOLDER, Precision, Vae, frame_vae, load_vae

WEIGHTS = "diffusion_pytorch_model.safetensors"


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")


@cache
def tiny(channels: int = 1) -> AutoencoderKL:
    """A VAE of a few thousand weights, f = 4."""
    with named_weights(0, "tiny"):
        return AutoencoderKL(
            in_channels=channels,
            out_channels=channels,
            down_block_types=("DownEncoderBlock2D",) * 3,
            up_block_types=("UpDecoderBlock2D",) * 3,
            block_out_channels=(4, 4, 8),
            layers_per_block=1,
            latent_channels=4,
            norm_num_groups=2,
            mid_block_add_attention=False,
        ).eval()


def saved(folder: Path, channels: int = 1) -> Path:
    tiny(channels).save_pretrained(folder, safe_serialization=True)
    return folder


def clip(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def posterior(network: AutoencoderKL, frames: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation by the network itself; frames (T, C, H, W)."""
    x = torch.from_numpy(frames.astype(np.float32) / 127.5 - 1)
    with torch.inference_mode():
        distribution = network.encode(x).latent_dist
    return distribution.mean.numpy(), distribution.std.numpy()


def test_a_folder_and_one_with_a_vae_inside_load_the_same_network(tmp_path: Path) -> None:
    saved(tmp_path / "plain")
    saved(tmp_path / "pipeline" / "vae")
    frames = clip(3, 16, 24)
    plain, inside = load_vae(str(tmp_path / "plain")), load_vae(str(tmp_path / "pipeline"))
    assert plain.fingerprint == inside.fingerprint
    np.testing.assert_array_equal(plain.encode(frames, clip_id="a"), inside.encode(frames, clip_id="a"))
    assert (plain.channels, plain.factor, plain.frame_shape(16, 24)) == (1, 4, (4, 4, 6))


def test_encoding_is_the_posterior_mean_of_the_network(tmp_path: Path) -> None:
    frames = clip(5, 16, 24)
    found = load_vae(str(saved(tmp_path))).encode(frames, clip_id="a")
    assert (found.dtype, found.shape) == (np.float16, (5, 4, 4, 6))
    np.testing.assert_allclose(found, posterior(tiny(), frames[:, None])[0], atol=2e-3)


def test_gray_frames_fill_the_three_channels_of_a_colour_vae(tmp_path: Path) -> None:
    loaded, frames = load_vae(str(saved(tmp_path, channels=3))), clip(2, 8, 8)
    found = loaded.encode(frames, clip_id="a")
    np.testing.assert_array_equal(found, loaded.encode(np.repeat(frames[..., None], 3, axis=3), clip_id="a"))
    np.testing.assert_allclose(found, posterior(tiny(3), np.repeat(frames[:, None], 3, axis=1))[0], atol=2e-3)
    colours = clip(2, 8, 8, 3)
    expected = posterior(tiny(3), colours.transpose(0, 3, 1, 2))[0]
    np.testing.assert_allclose(loaded.encode(colours, clip_id="a"), expected, atol=2e-3)


def test_colour_frames_do_not_fit_a_gray_vae() -> None:
    with pytest.raises(InputError, match=r"takes 1 channel.*have 3.*frames\.color to gray"):
        Vae(tiny(), fingerprint="f").encode(clip(2, 8, 8, 3), clip_id="a")


@pytest.mark.parametrize(("height", "width"), [(14, 16), (16, 13), (1, 1)])
def test_a_size_that_is_no_multiple_of_the_factor_is_refused(height: int, width: int) -> None:
    with pytest.raises(InputError, match=rf"multiples of 4.*{height}×{width}.*frames\.height"):
        Vae(tiny(), fingerprint="f").frame_shape(height, width)


@pytest.mark.parametrize("channels", [1, 3])
def test_decoding_is_that_of_the_network(channels: int) -> None:
    loaded = Vae(tiny(channels), fingerprint="f")
    latents = np.random.default_rng(0).normal(size=(3, 4, 2, 3)).astype(np.float16)
    with torch.inference_mode():
        decoded = tiny(channels).decode(torch.from_numpy(latents.astype(np.float32))).sample.numpy()
    expected = unit_to_pixels(decoded).transpose(0, 2, 3, 1)
    found = loaded.decode(latents)
    assert (found.dtype, found.shape) == (np.uint8, (3, 8, 12) if channels == 1 else (3, 8, 12, 3))
    assert np.abs(found.reshape(expected.shape).astype(int) - expected).max() <= 1


@pytest.mark.parametrize("kind", ["mean", "sample"])
@pytest.mark.parametrize("batch_frames", [1, 2, 5])
def test_latents_do_not_depend_on_the_batch_size(
    monkeypatch: pytest.MonkeyPatch, batch_frames: int, kind: vae.Posterior
) -> None:
    loaded, frames = Vae(tiny(), fingerprint="f", posterior=kind), clip(7, 4, 4)
    expected = loaded.encode(frames, clip_id="a")
    monkeypatch.setattr(vae, "_BATCH_FRAMES", batch_frames)
    np.testing.assert_allclose(loaded.encode(frames, clip_id="a"), expected, atol=2e-3)
    np.testing.assert_allclose(loaded.encode(frames[:3], clip_id="a"), expected[:3], atol=2e-3)


def test_a_drawn_latent_depends_on_seed_and_clip_alone() -> None:
    def draw(seed: int, clip_id: str) -> np.ndarray:
        return Vae(tiny(), fingerprint="f", posterior="sample", seed=seed).encode(clip(2, 8, 8), clip_id=clip_id)

    first = draw(1, "a")
    torch.randn(3)
    np.testing.assert_array_equal(draw(1, "a"), first)
    assert (draw(1, "b") != first).any()
    assert (draw(2, "a") != first).any()


def test_drawn_latents_have_the_mean_and_spread_of_the_posterior() -> None:
    frames = np.repeat(clip(1, 4, 4), 4000, axis=0)
    mean, std = (values[0] for values in posterior(tiny(), frames[:1, None]))
    drawn = Vae(tiny(), fingerprint="f", posterior="sample").encode(frames, clip_id="a").astype(np.float64)
    np.testing.assert_allclose(drawn.mean(axis=0), mean, atol=5 * std.max() / 4000**0.5)
    np.testing.assert_allclose(drawn.std(axis=0), std, rtol=5 / 8000**0.5)


def test_the_fingerprint_tells_weights_and_drawing_apart(tmp_path: Path) -> None:
    folder = saved(tmp_path)
    plain = load_vae(str(folder)).fingerprint
    drawn = {load_vae(str(folder), posterior="sample", seed=seed).fingerprint for seed in (0, 1)}
    assert load_vae(str(folder), seed=5).fingerprint == plain
    with (folder / WEIGHTS).open("r+b") as file:
        file.seek(-1, 2)
        file.write(b"\x3f")
    assert len({plain, load_vae(str(folder)).fingerprint, *drawn}) == 4


def test_bf16_stays_near_float32() -> None:
    frames = clip(3, 16, 16)
    exact = Vae(tiny(), fingerprint="f", precision="fp32").encode(frames, clip_id="a").astype(np.float64)
    network = AutoencoderKL.from_config(tiny().config)
    network.load_state_dict(tiny().state_dict())
    found = Vae(network, fingerprint="f", precision="bf16")
    assert next(found.network.parameters()).dtype == torch.bfloat16
    np.testing.assert_allclose(found.encode(frames, clip_id="a"), exact, atol=0.05)


def test_precision_auto_is_float32_on_a_cpu() -> None:
    assert next(Vae(tiny(), fingerprint="f").network.parameters()).dtype == torch.float32


class Overflowing(torch.nn.Module):
    """Passes float32 through; in half precision a frame or latent that is bright at its corner becomes NaN."""

    def __init__(self, inner: torch.nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: torch.Tensor, *rest: object) -> torch.Tensor:
        y = self.inner(x)
        if x.dtype != torch.float32:
            y = torch.where(x[:, :1, :1, :1] > 0.5, torch.nan, y)
        return y


def overflowing(precision: Precision = "bf16", posterior: vae.Posterior = "mean") -> Vae:
    network = AutoencoderKL.from_config(tiny().config)
    network.load_state_dict(tiny().state_dict())
    network.encoder, network.decoder.conv_in = Overflowing(network.encoder), Overflowing(network.decoder.conv_in)
    return Vae(network, fingerprint="f", precision=precision, posterior=posterior)


def bright(frames: np.ndarray, number: int) -> np.ndarray:
    changed = frames.copy()
    changed[:, 0, 0] = 0
    changed[number, 0, 0] = 255
    return changed


@pytest.mark.parametrize("kind", ["mean", "sample"])
def test_a_clip_that_half_precision_turns_into_nan_is_encoded_in_float32(
    caplog: pytest.LogCaptureFixture, kind: vae.Posterior
) -> None:
    loaded, frames = overflowing(posterior=kind), clip(40, 8, 8)
    frames[:, 0, 0] = 0
    plain = loaded.encode(frames, clip_id="dark")
    assert (loaded.fell_to_float32, caplog.text) == ([], "")
    found = loaded.encode(bright(frames, 35), clip_id="lit")
    expected = Vae(tiny(), fingerprint="f", precision="fp32", posterior=kind).encode(bright(frames, 35), clip_id="lit")
    np.testing.assert_allclose(found, expected, atol=1e-3)
    assert loaded.fell_to_float32 == ["lit"]
    assert next(loaded.network.parameters()).dtype == torch.bfloat16
    np.testing.assert_array_equal(loaded.encode(frames, clip_id="dark"), plain)
    loaded.encode(bright(frames, 1), clip_id="again")
    assert loaded.fell_to_float32 == ["lit", "again"]
    assert [r.levelname for r in caplog.records] == ["WARNING"]
    assert "lit: NaN or infinite values in torch.bfloat16" in caplog.text


def test_latents_that_half_precision_cannot_decode_are_decoded_in_float32(caplog: pytest.LogCaptureFixture) -> None:
    loaded = overflowing()
    latents = np.random.default_rng(0).normal(size=(3, 4, 2, 3)).astype(np.float16)
    latents[:, :, 0, 0] = 4.0
    latents = latents if _reaches_half(loaded, latents) else -latents
    found = loaded.decode(latents)
    assert loaded.fell_to_float32 == ["decode"]
    assert "WARNING" in caplog.text
    exact = Vae(tiny(), fingerprint="f", precision="fp32").decode(latents)
    assert np.abs(found.astype(int) - exact).max() <= 1


def test_weights_that_half_precision_cannot_hold_are_used_in_float32() -> None:
    network = AutoencoderKL.from_config(tiny().config)
    network.load_state_dict(tiny().state_dict())
    network.encoder.conv_in.weight.data *= 1e7  # normalised away later, infinite in half precision
    expected = Vae(copy.deepcopy(network), fingerprint="f", precision="fp32").encode(clip(2, 8, 8), clip_id="a")
    loaded = Vae(network, fingerprint="f", precision="fp16")
    np.testing.assert_array_equal(loaded.encode(clip(2, 8, 8), clip_id="a"), expected)
    assert np.isfinite(expected).all()
    assert loaded.fell_to_float32 == ["a"]


def _reaches_half(loaded: Vae, latents: np.ndarray) -> bool:
    """Whether the convolution before the decoder leaves the corner bright."""
    with torch.inference_mode():
        z = loaded.network.post_quant_conv(torch.from_numpy(latents).to(torch.bfloat16))
    return bool((z[:, 0, 0, 0] > 0.5).any())


def test_float32_has_nothing_to_fall_to() -> None:
    loaded = overflowing(precision="fp32")
    loaded.encode(bright(clip(2, 8, 8), 0), clip_id="lit")
    assert loaded.fell_to_float32 == []


@pytest.mark.parametrize(("precision", "fell"), [("fp32", []), ("bf16", ["decode"])])
def test_pixels_that_are_nan_in_float32_too_are_refused(precision: Precision, fell: list[str]) -> None:
    network = AutoencoderKL.from_config(tiny().config)
    network.load_state_dict(tiny().state_dict())
    network.decoder.conv_out.bias.data.fill_(torch.nan)
    loaded = Vae(network, fingerprint="f", precision=precision)
    with pytest.raises(DegenerateValues, match=r"in float32 too.*--vae"):
        loaded.decode(np.zeros((1, 4, 2, 2), dtype=np.float16))
    assert loaded.fell_to_float32 == fell


@pytest.mark.parametrize(
    ("choice", "expected"),
    [({"image_channels": 3}, 3), ({"blocks": 2}, 2), ({"norm_groups": 8}, 8), ({"channels": (8, 8, 8)}, 3)],
)
def test_every_choice_of_a_network_reaches_it(choice: dict[str, Any], expected: int) -> None:
    config = frame_vae(**{"channels": (8, 8, 8, 8)} | choice).config
    found = {
        "image_channels": config.in_channels,
        "blocks": config.layers_per_block,
        "norm_groups": config.norm_num_groups,
        "channels": len(config.block_out_channels),
    }
    assert found[next(iter(choice))] == expected
    assert config.out_channels == config.in_channels


@pytest.mark.parametrize("name", ["{}/nowhere", "./nowhere", "a/b/c", "", "runs/vae/model"])
def test_a_path_that_is_none_is_refused_without_asking_the_hub(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(AutoencoderKL, "from_pretrained", None)
    with pytest.raises(InputError, match=r"--vae .*config\.json"):
        load_vae(name.format(tmp_path))


def test_a_hub_name_that_cannot_be_had_is_an_input_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[object] = []

    def unreachable(source: object, *, local_files_only: bool, **_: object) -> None:
        asked.append((source, local_files_only))
        raise OSError("no such model")

    monkeypatch.setattr(AutoencoderKL, "from_pretrained", unreachable)
    with pytest.raises(InputError, match=r"--vae some-org/some\.vae: .*hub name; got: no such model"):
        load_vae("some-org/some.vae")
    assert asked == [("some-org/some.vae", False)]


@pytest.mark.parametrize("keep", [None, 0, 4, 100, 0.5, 0.99])
def test_missing_or_damaged_weights_are_refused(tmp_path: Path, keep: float | None) -> None:
    weights = saved(tmp_path) / WEIGHTS
    content = weights.read_bytes()
    weights.unlink()
    if keep is not None:
        weights.write_bytes(content[: int(keep * len(content) if 0 < keep < 1 else keep)])
    with pytest.raises(CorruptFile, match=r"(?s)--vae .*config\.json.*save_pretrained"):
        load_vae(str(tmp_path))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"latent_channels": 3}, "size mismatch"),
        ({"layers_per_block": 2}, "missing"),
        ({"block_out_channels": [4, 8], "down_block_types": ["DownEncoderBlock2D"] * 2}, "config"),
        ({"norm_num_groups": 3}, "config"),
    ],
)
@pytest.mark.filterwarnings("ignore")
def test_weights_that_do_not_fill_the_network_are_refused(
    tmp_path: Path, change: dict[str, object], message: str
) -> None:
    config = saved(tmp_path) / "config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | change))
    with pytest.raises(CorruptFile, match=rf"(?s)--vae .*{message}"):
        load_vae(str(tmp_path))


@pytest.mark.parametrize("content", ["", "{", "[]", '{"_class_name": "UNet2DModel"}', "{}"])
def test_another_configuration_is_refused(tmp_path: Path, content: str) -> None:
    (saved(tmp_path) / "config.json").write_text(content)
    with pytest.raises(InputError, match=r"config\.json"):
        load_vae(str(tmp_path))


def test_a_folder_without_configuration_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"--vae .*the folder has no config\.json"):
        load_vae(str(tmp_path))


def test_the_small_vae_turns_112_pixels_into_14_cells() -> None:
    network = frame_vae()
    loaded = Vae(network, fingerprint="f")
    assert (loaded.channels, loaded.factor, loaded.frame_shape(112, 112)) == (1, 8, (4, 14, 14))
    assert sum(p.numel() for p in network.parameters()) * 4 < 8e6


@pytest.mark.skipif(not BUNDLED_FOLDER.is_dir(), reason="the bundled VAE is not in this copy")
def test_the_bundled_vae_loads_by_its_name() -> None:
    loaded = load_vae("bundled")
    assert loaded.frame_shape(112, 112) == (4, 14, 14)
    assert np.isfinite(loaded.encode(clip(1, 112, 112), clip_id="a")).all()
