from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import UNet2DModel
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from mnemoscope.core.config import build
from mnemoscope.core.errors import ConfigError, CorruptFile, InputError
from mnemoscope.core.files import read_json, write_json
from mnemoscope.models.initial import named_weights
from mnemoscope.models.lidm import (
    LidmArchitecture,
    build_lidm,
    load_lidm,
    pad_sides,
    paper_architecture,
    save_lidm,
)
from mnemoscope.models.lvdm import load_lvdm
from tests.tiny_generators import LIDM, tiny_lidm, tiny_record

WEIGHTS = "diffusion_pytorch_model.safetensors"
STEPS = torch.tensor([0, 500, 999])


def noise(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def saved(folder: Path, n_classes: int = 0) -> Path:
    record = tiny_record("lidm", classes=("a4c", "psax")[:n_classes])
    save_lidm(folder, tiny_lidm(n_classes=n_classes), record)
    return folder


@given(h=st.integers(1, 20), w=st.integers(1, 20), multiple=st.sampled_from([1, 2, 4, 8]), leading=st.integers(0, 2))
def test_padding_adds_zeros_below_and_right_and_no_more_than_needed(
    h: int, w: int, multiple: int, leading: int
) -> None:
    x = torch.ones(*(2,) * leading, 3, h, w)
    padded = pad_sides(x, multiple)
    assert all(a % multiple == 0 and 0 <= a - b < multiple for a, b in zip(padded.shape[-2:], (h, w), strict=True))
    assert padded.shape[:-2] == x.shape[:-2]
    assert bool((padded[..., :h, :w] == 1).all())
    assert padded.sum() == x.sum()


@pytest.mark.parametrize(("h", "w"), [(14, 14), (6, 6), (5, 5), (4, 7), (1, 1)])
@torch.inference_mode()
def test_any_side_gives_v_of_the_same_shape(h: int, w: int) -> None:
    network, x = tiny_lidm(frame_shape=(4, h, w)), noise(3, 4, h, w)
    v = network(x, STEPS)
    assert v.shape == x.shape
    height, width = h + h % 2, w + w % 2
    by_hand = torch.zeros(3, 4, height, width)
    by_hand[..., :h, :w] = x
    torch.testing.assert_close(v, network.unet(by_hand, STEPS).sample[..., :h, :w], rtol=0, atol=0)


@torch.inference_mode()
def test_where_nothing_is_to_pad_the_network_is_diffusers_own() -> None:
    network, x = tiny_lidm(), noise(3, 2, 4, 6)
    torch.testing.assert_close(network(x, STEPS), network.unet(x, STEPS).sample, rtol=0, atol=0)


@torch.inference_mode()
def test_no_classes_mean_any_and_every_class_reaches_the_output() -> None:
    network, x = tiny_lidm(n_classes=2), noise(3, 2, 4, 4)
    assert network.n_classes == 2
    outputs = [network(x, STEPS, torch.full((3,), number)) for number in range(3)]
    torch.testing.assert_close(network(x, STEPS), outputs[2], rtol=0, atol=0)
    for a, b in ((0, 1), (0, 2), (1, 2)):
        assert not torch.allclose(outputs[a], outputs[b])
    mixed = network(x, STEPS, torch.tensor([1, 2, 0]))
    for row, number in enumerate((1, 2, 0)):
        torch.testing.assert_close(mixed[row], outputs[number][row], rtol=1e-4, atol=1e-5)


@torch.inference_mode()
def test_a_network_without_classes_takes_numbers_and_minds_none() -> None:
    network, x = tiny_lidm(), noise(3, 2, 4, 4)
    assert network.n_classes == 0
    assert torch.equal(network(x, STEPS, torch.tensor([0, 1, 5])), network(x, STEPS))


@torch.inference_mode()
def test_the_step_reaches_the_output() -> None:
    network, x = tiny_lidm(), noise(1, 2, 4, 4).repeat(3, 1, 1, 1)
    v = network(x, STEPS)
    assert not torch.allclose(v[0], v[1])
    assert not torch.allclose(v[1], v[2])


def test_the_paper_s_network_has_its_sizes() -> None:
    with torch.device("meta"):
        network = build_lidm(paper_architecture(), frame_shape=(4, 14, 14))
    assert sum(p.numel() for p in network.parameters()) == pytest.approx(73e6, rel=0.05)
    config: Any = network.unet.config
    assert (config.block_out_channels, config.layers_per_block) == ((128, 256, 256, 512), 2)
    assert config.down_block_types == ("AttnDownBlock2D",) * 3 + ("DownBlock2D",)
    assert config.up_block_types == ("UpBlock2D",) + ("AttnUpBlock2D",) * 3
    assert (config.attention_head_dim, config.sample_size, config.in_channels, config.out_channels) == (8, 16, 4, 4)
    assert (network.multiple, network.n_classes) == (8, 0)


CHANGES: dict[str, Any] = {
    "channels": (32, 32),
    "layers": 2,
    "attention": (True, True),
    "head_channels": 16,
}


@pytest.mark.parametrize("name", LidmArchitecture.model_fields)
def test_every_size_changes_the_network(name: str) -> None:
    def outline(architecture: LidmArchitecture) -> list[object]:
        with torch.device("meta"):
            unet = build_lidm(architecture, frame_shape=(2, 4, 4)).unet
        heads = [module.heads for module in unet.modules() if hasattr(module, "heads")]
        return [*heads, *((key, value.shape) for key, value in unet.state_dict().items())]

    changed = build(LidmArchitecture, LIDM.model_dump() | {name: CHANGES[name]})
    assert outline(changed) != outline(LIDM)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"channels": ()}, r"channels: expected one or more multiples of 16"),
        ({"channels": (16, 24)}, r"channels: expected one or more multiples of 16, found \(16, 24\)"),
        ({"channels": (0, 16)}, r"multiples of 16"),
        ({"attention": (True,)}, r"attention: expected one for each of the 2 levels"),
        ({"channels": (16, 32, 32)}, r"attention: expected one for each of the 3 levels"),
        ({"head_channels": 32, "attention": (True, True)}, r"multiples of head_channels=32, found 16"),
        ({"head_channels": 64, "attention": (False, False)}, r"multiples of head_channels=64, found 32"),
        ({"head_channels": 0}, r"head_channels"),
        ({"layers": 0}, r"layers"),
        ({"depth": 3}, r"depth"),
    ],
)
def test_sizes_that_make_no_network_are_refused_by_name(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        build(LidmArchitecture, LIDM.model_dump() | changes)


@pytest.mark.parametrize(
    "changes", [{"head_channels": 32}, {"channels": (16,), "attention": (True,)}, {"attention": (False, False)}]
)
@torch.inference_mode()
def test_sizes_that_are_taken_make_a_network(changes: dict[str, Any]) -> None:
    architecture = build(LidmArchitecture, LIDM.model_dump() | changes)
    with named_weights(0, "taken"):
        network = build_lidm(architecture, frame_shape=(2, 4, 4))
    assert bool(network(noise(3, 2, 4, 4), STEPS).isfinite().all())


@pytest.mark.parametrize("n_classes", [0, 2])
@torch.inference_mode()
def test_a_saved_network_reads_back_with_equal_outputs(tmp_path: Path, n_classes: int) -> None:
    network, record = load_lidm(saved(tmp_path / "model", n_classes))
    assert record == tiny_record("lidm", classes=("a4c", "psax")[:n_classes])
    assert (network.n_classes, network.training) == (n_classes, False)
    x = noise(3, 2, 4, 4)
    assert torch.equal(network(x, STEPS), tiny_lidm(n_classes=n_classes)(x, STEPS))


@torch.inference_mode()
def test_the_folder_loads_with_diffusers_alone(tmp_path: Path) -> None:
    saved(tmp_path / "model")
    unet = UNet2DModel.from_pretrained(tmp_path / "model", subfolder="unet").eval()
    x = noise(3, 2, 4, 4)
    assert torch.equal(unet(x, STEPS).sample, tiny_lidm()(x, STEPS))


def test_weights_in_half_precision_become_float32(tmp_path: Path) -> None:
    path = saved(tmp_path / "model") / "unet" / WEIGHTS
    save_file({name: value.half() for name, value in load_file(path).items()}, path)
    network, _ = load_lidm(tmp_path / "model")
    expected = tiny_lidm().unet.state_dict()
    for name, value in network.unet.state_dict().items():
        assert value.dtype == torch.float32
        assert torch.equal(value, expected[name].half().float())


@pytest.mark.parametrize("keep", [None, 0, 4, 0.5, 0.99])
def test_missing_or_damaged_weights_are_refused(tmp_path: Path, keep: float | None) -> None:
    path = saved(tmp_path / "model") / "unet" / WEIGHTS
    content = path.read_bytes()
    path.unlink()
    if keep is not None:
        path.write_bytes(content[: int(keep * len(content) if 0 < keep < 1 else keep)])
    with pytest.raises(CorruptFile, match=r"safetensors: expected weights that fit the network.*; train it again"):
        load_lidm(tmp_path / "model")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"in_channels": 3}, "belongs to a network with"),
        ({"layers_per_block": 2}, "Missing key"),
        ({"block_out_channels": [16]}, r"config\.json: expected a UNet2DModel"),
        ({"norm_num_groups": 5}, r"config\.json: expected a UNet2DModel"),
        ({"block_out_channels": None}, r"config\.json: expected a UNet2DModel"),
    ],
)
def test_a_configuration_that_does_not_fit_is_refused(tmp_path: Path, change: dict[str, object], message: str) -> None:
    path = saved(tmp_path / "model") / "unet" / "config.json"
    write_json(path, read_json(path) | change)
    with pytest.raises(CorruptFile, match=rf"(?s){message}.*train it again"):
        load_lidm(tmp_path / "model")


@pytest.mark.parametrize("content", [None, "", "{", "[]"])
def test_a_missing_or_unreadable_configuration_is_refused(tmp_path: Path, content: str | None) -> None:
    path = saved(tmp_path / "model") / "unet" / "config.json"
    path.unlink()
    if content is not None:
        path.write_text(content)
    with pytest.raises(CorruptFile, match=r"config\.json: expected a.* JSON"):
        load_lidm(tmp_path / "model")


def test_an_image_model_is_no_video_model(tmp_path: Path) -> None:
    saved(tmp_path / "model")
    with pytest.raises(InputError, match="expected a lvdm, found a lidm"):
        load_lvdm(tmp_path / "model")
    with pytest.raises(InputError, match="mnemoscope train lidm"):
        load_lidm(tmp_path / "nowhere")
