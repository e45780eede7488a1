from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import UNetSpatioTemporalConditionModel
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from mnemoscope.core.config import build
from mnemoscope.core.errors import ConfigError, CorruptFile, InputError
from mnemoscope.core.files import read_json, write_json
from mnemoscope.models.initial import named_weights
from mnemoscope.models.lidm import load_lidm
from mnemoscope.models.lvdm import (
    Condition,
    Lvdm,
    LvdmArchitecture,
    build_lvdm,
    load_lvdm,
    paper_architecture,
    save_lvdm,
)
from tests.tiny_generators import LVDM, tiny_lvdm, tiny_record

WEIGHTS = "diffusion_pytorch_model.safetensors"
STEPS = torch.tensor([10, 700])


def noise(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def condition(**changes: torch.Tensor) -> Condition:
    """Two clips of class 0, all given."""
    yes = torch.ones(2, dtype=torch.bool)
    plain = Condition(
        frame=noise(2, 2, 4, 4, seed=1),
        frame_given=yes,
        ef=torch.tensor([35.0, 60.0]),
        ef_given=yes,
        classes=torch.zeros(2, dtype=torch.int64),
    )
    return replace(plain, **changes)


def no() -> torch.Tensor:
    return torch.zeros(2, dtype=torch.bool)


@torch.inference_mode()
def predicted(c: Condition, network: Lvdm | None = None) -> torch.Tensor:
    return (network or tiny_lvdm(n_classes=2))(noise(2, 4, 2, 4, 4), STEPS, c)


def saved(folder: Path, n_classes: int = 0) -> Path:
    save_lvdm(folder, tiny_lvdm(n_classes=n_classes), tiny_record("lvdm", classes=("a4c", "psax")[:n_classes]))
    return folder


@pytest.mark.parametrize(("h", "w"), [(14, 14), (6, 6), (5, 5), (4, 7), (1, 1)])
@pytest.mark.parametrize("length", [1, 4, 5])
@torch.inference_mode()
def test_any_side_and_length_gives_v_of_the_same_shape(h: int, w: int, length: int) -> None:
    network, x = tiny_lvdm(frame_shape=(2, h, w)), noise(2, length, 2, h, w)
    v = network(x, STEPS, condition(frame=noise(2, 2, h, w, seed=1)))
    assert v.shape == x.shape


@pytest.mark.parametrize(("h", "w"), [(4, 4), (5, 3)])
@torch.inference_mode()
def test_the_network_is_diffusers_own_on_noise_and_frame(h: int, w: int) -> None:
    """Frames and condition by hand; where nothing is to pad, the padding does nothing."""
    network, x = tiny_lvdm(frame_shape=(2, h, w), n_classes=2), noise(2, 4, 2, h, w)
    c = condition(
        frame=noise(2, 2, h, w, seed=1),
        frame_given=torch.tensor([True, False]),
        ef_given=torch.tensor([False, True]),
        classes=torch.tensor([1, 2]),
    )
    both = torch.zeros(2, 4, 4, h + h % 2, w + w % 2)
    both[:, :, :2, :h, :w] = x
    both[0, :, 2:, :h, :w] = c.frame[0]
    context = torch.tensor([[[0, 0, 1, 0, 1, 0]], [[0.6, 1, 0, 0, 0, 1]]])
    numbers = torch.tensor([[-100.0, 32.0], [60.0, 32.0]])
    expected = network.unet(both, STEPS, context, numbers).sample[..., :h, :w]
    torch.testing.assert_close(network(x, STEPS, c), expected)


@pytest.mark.parametrize(
    "changes",
    [
        {"ef": torch.tensor([35.0, 61.0])},
        {"ef_given": torch.tensor([True, False])},
        {"frame": torch.stack([noise(2, 2, 4, 4, seed=1)[0], noise(2, 4, 4, seed=2)])},
        {"frame_given": torch.tensor([True, False])},
        {"classes": torch.tensor([0, 1])},
        {"classes": torch.tensor([0, 2])},
    ],
)
def test_every_condition_reaches_its_own_clip_and_no_other(changes: dict[str, torch.Tensor]) -> None:
    before, after = predicted(condition()), predicted(condition(**changes))
    torch.testing.assert_close(after[0], before[0], rtol=1e-5, atol=1e-6)
    assert float((after[1] - before[1]).abs().max()) > 1e-4


def test_ef_zero_is_not_the_same_as_no_ef_and_a_black_frame_not_as_none() -> None:
    assert not torch.allclose(predicted(condition(ef=torch.zeros(2))), predicted(condition(ef_given=no())))
    black = torch.zeros(2, 2, 4, 4)
    assert not torch.allclose(predicted(condition(frame=black)), predicted(condition(frame_given=no())))


@pytest.mark.parametrize("ef", [0.0, 35.0, 1e6, float("nan"), float("inf")])
def test_an_ef_that_is_not_given_counts_for_nothing(ef: float) -> None:
    dropped = condition(ef=torch.full((2,), ef), ef_given=no())
    assert torch.equal(predicted(dropped), predicted(condition(ef_given=no())))
    assert torch.equal(predicted(condition(ef=torch.full((2,), ef)).without_ef()), predicted(dropped))


@pytest.mark.parametrize("value", [0.0, -7.0, float("nan"), float("inf")])
def test_a_frame_that_is_not_given_counts_for_nothing(value: float) -> None:
    dropped = condition(frame=torch.full((2, 2, 4, 4), value), frame_given=no())
    assert torch.equal(predicted(dropped), predicted(condition(frame_given=no())))


@torch.inference_mode()
def test_frame_rate_and_step_reach_the_output() -> None:
    network = tiny_lvdm(n_classes=2)
    before = predicted(condition(), network)
    assert not torch.allclose(network(noise(2, 4, 2, 4, 4), STEPS + 100, condition()), before)
    network.fps = 50.0
    assert not torch.allclose(predicted(condition(), network), before)


@given(owner=st.lists(st.integers(0, 3), max_size=6))
def test_conditions_of_windows_stay_with_their_clips(owner: list[int]) -> None:
    """Clip k has k in every field."""
    k = torch.arange(4)
    whole = Condition(k.float()[:, None, None, None].expand(4, 2, 3, 3), k % 2 == 1, k.float(), k % 2 == 1, k)
    found = whole.of(torch.tensor(owner, dtype=torch.int64))
    assert found.classes.tolist() == owner
    assert found.ef.tolist() == owner
    assert found.ef_given.tolist() == found.frame_given.tolist() == [o % 2 == 1 for o in owner]
    assert found.frame.shape == (len(owner), 2, 3, 3)
    assert found.frame[:, 0, 0, 0].tolist() == owner


def test_a_condition_goes_to_another_device_whole() -> None:
    moved = condition().to("meta")
    assert {getattr(moved, field.name).device.type for field in fields(moved)} == {"meta"}


def test_the_paper_s_network_has_its_sizes() -> None:
    with torch.device("meta"):
        network = build_lvdm(paper_architecture(), frame_shape=(4, 14, 14), window_frames=64, fps=32.0)
    config: Any = network.unet.config
    assert (config.in_channels, config.out_channels, config.num_frames) == (8, 4, 64)
    assert (config.block_out_channels, config.layers_per_block) == ((128, 256, 256, 512), 2)
    assert config.num_attention_heads == (8, 16, 16, 32)
    assert config.down_block_types == ("CrossAttnDownBlockSpatioTemporal",) * 3 + ("DownBlockSpatioTemporal",)
    assert config.up_block_types == ("UpBlockSpatioTemporal",) + ("CrossAttnUpBlockSpatioTemporal",) * 3
    assert (network.multiple, network.fps, config.sample_size) == (8, 32.0, 16)


CHANGES: dict[str, Any] = {
    "channels": (32, 64),
    "layers": 2,
    "attention": (True, True),
    "heads": (1, 4),
    "time_channels": 8,
}


@pytest.mark.parametrize("name", LvdmArchitecture.model_fields)
def test_every_size_changes_the_network(name: str) -> None:
    def outline(architecture: LvdmArchitecture) -> list[object]:
        with torch.device("meta"):
            unet = build_lvdm(architecture, frame_shape=(2, 4, 4), window_frames=4, fps=32.0).unet
        heads = [module.heads for module in unet.modules() if hasattr(module, "heads")]
        return [*heads, *((key, value.shape) for key, value in unet.state_dict().items())]

    changed = build(LvdmArchitecture, LVDM.model_dump() | {name: CHANGES[name]})
    assert outline(changed) != outline(LVDM)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"channels": ()}, r"channels: expected one or more multiples of 32"),
        ({"channels": (32, 48)}, r"channels: expected one or more multiples of 32, found \(32, 48\)"),
        ({"attention": (True,)}, r"attention: expected one for each of the 2 levels"),
        ({"heads": (1, 2, 2)}, r"heads: expected one for each of the 2 levels"),
        ({"heads": (1, 3)}, r"heads: expected a divisor of the level's 32 channels, found 3"),
        ({"heads": (3, 1), "attention": (True, True)}, r"heads: expected a divisor .* found 3"),
        ({"heads": (1, 0), "attention": (False, False)}, r"heads: expected a divisor .* found 0"),
        ({"time_channels": 1}, r"time_channels"),
        ({"layers": 0}, r"layers"),
        ({"depth": 3}, r"depth"),
    ],
)
def test_sizes_that_make_no_network_are_refused_by_name(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        build(LvdmArchitecture, LVDM.model_dump() | changes)


@pytest.mark.parametrize(
    "changes",
    [
        {"heads": (3, 1)},
        {"channels": (32,), "attention": (True,), "heads": (4,)},
        {"attention": (False, False)},
        {"time_channels": 3},
    ],
)
def test_sizes_that_are_taken_make_a_network(changes: dict[str, Any]) -> None:
    architecture = build(LvdmArchitecture, LVDM.model_dump() | changes)
    with named_weights(0, "taken"):
        network = build_lvdm(architecture, frame_shape=(2, 4, 4), window_frames=4, fps=32.0)
    assert bool(predicted(condition(), network).isfinite().all())


@pytest.mark.parametrize("n_classes", [0, 2])
def test_a_saved_network_reads_back_with_equal_outputs(tmp_path: Path, n_classes: int) -> None:
    network, record = load_lvdm(saved(tmp_path / "model", n_classes))
    assert record == tiny_record("lvdm", classes=("a4c", "psax")[:n_classes])
    assert (network.n_classes, network.fps, network.training) == (n_classes, 32.0, False)
    assert torch.equal(predicted(condition(), network), predicted(condition(), tiny_lvdm(n_classes=n_classes)))


@torch.inference_mode()
def test_the_folder_loads_with_diffusers_alone(tmp_path: Path) -> None:
    saved(tmp_path / "model")
    unet = UNetSpatioTemporalConditionModel.from_pretrained(tmp_path / "model", subfolder="unet").eval()
    alone = Lvdm(unet, n_classes=0, fps=32.0)
    assert torch.equal(predicted(condition(), alone), predicted(condition(), tiny_lvdm()))


def test_weights_in_half_precision_become_float32(tmp_path: Path) -> None:
    path = saved(tmp_path / "model") / "unet" / WEIGHTS
    save_file({name: value.half() for name, value in load_file(path).items()}, path)
    network, _ = load_lvdm(tmp_path / "model")
    expected = tiny_lvdm().unet.state_dict()
    for name, value in network.unet.state_dict().items():
        assert value.dtype == torch.float32
        assert torch.equal(value, expected[name].half().float())


@pytest.mark.parametrize("keep", [None, 0, 4, 0.5])
def test_missing_or_damaged_weights_are_refused(tmp_path: Path, keep: float | None) -> None:
    path = saved(tmp_path / "model") / "unet" / WEIGHTS
    content = path.read_bytes()
    path.unlink()
    if keep is not None:
        path.write_bytes(content[: int(keep * len(content) if 0 < keep < 1 else keep)])
    with pytest.raises(CorruptFile, match=r"safetensors: expected weights that fit the network.*; train it again"):
        load_lvdm(tmp_path / "model")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"in_channels": 3}, "size mismatch"),
        ({"layers_per_block": 2}, "Missing key"),
        ({"block_out_channels": [32]}, r"config\.json: expected an UNetSpatioTemporalConditionModel"),
        ({"block_out_channels": [33, 32]}, r"config\.json: expected an UNetSpatioTemporalConditionModel"),
    ],
)
def test_a_configuration_that_does_not_fit_is_refused(tmp_path: Path, change: dict[str, object], message: str) -> None:
    path = saved(tmp_path / "model") / "unet" / "config.json"
    write_json(path, read_json(path) | change)
    with pytest.raises(CorruptFile, match=rf"(?s){message}.*train it again"):
        load_lvdm(tmp_path / "model")


def test_a_video_model_is_no_image_model(tmp_path: Path) -> None:
    saved(tmp_path / "model")
    with pytest.raises(InputError, match="expected a lidm, found a lvdm"):
        load_lidm(tmp_path / "model")
    with pytest.raises(InputError, match="mnemoscope train lvdm"):
        load_lvdm(tmp_path / "nowhere")
