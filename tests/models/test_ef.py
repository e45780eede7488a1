import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save_file
from torch import Tensor, nn

from mnemoscope.core.config import build
from mnemoscope.core.errors import ConfigError, CorruptFile, InputError
from mnemoscope.models.ef import (
    CONFIG_FILE,
    WEIGHTS_FILE,
    EfArchitecture,
    EfModel,
    EfRecord,
    R2Plus1D,
    load_ef,
    load_weights,
)
from mnemoscope.models.ef_readers import EF_READERS, ef_reader
from mnemoscope.models.initial import named_weights
from tests.reference.r2plus1d import PARAMETERS, r2plus1d_outputs, r2plus1d_shapes
from tests.toys import Attack

TINY = EfArchitecture(stem=3, widths=(4, 6, 8), blocks=2)


def record(**changes: Any) -> EfRecord:
    values = {"architecture": TINY, "n_frames": 4, "period": 2, "height": 16, "width": 12, "mean": 60.0, "std": 40.0}
    return build(EfRecord, values | changes)


def made(architecture: EfArchitecture = TINY, *, outputs: int = 1, seed: int = 0) -> R2Plus1D:
    """A network whose every weight and running mean is its own."""
    with named_weights(seed, "test"):
        network = R2Plus1D(architecture, outputs=outputs).eval()
        for module in network.modules():
            if isinstance(module, nn.BatchNorm3d):
                for values in (module.weight, module.bias, module.running_mean, module.running_var):
                    nn.init.uniform_(values, 0.5, 1.5)  # type: ignore[arg-type]
    return network


def same(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def test_names_and_shapes_are_torchvisions() -> None:
    with torch.device("meta"):
        network = R2Plus1D(EfArchitecture(), outputs=400)
        regressor = R2Plus1D(EfArchitecture())
    shapes = {name: tuple(value.shape) for name, value in network.state_dict().items()}
    assert list(shapes.items()) == list(r2plus1d_shapes().items())
    assert sum(value.numel() for value in network.parameters()) == PARAMETERS
    assert {name: tuple(v.shape) for name, v in regressor.state_dict().items()} == r2plus1d_shapes(outputs=1)


@pytest.mark.parametrize(
    "architecture",
    [TINY, EfArchitecture(channels=1, stem=2, widths=(3, 5), blocks=1, stem_stride=4), EfArchitecture(widths=(4,))],
)
def test_the_network_is_the_composition_of_its_layers(architecture: EfArchitecture) -> None:
    network = made(architecture, outputs=3)
    x = torch.from_numpy(np.random.default_rng(0).normal(size=(2, architecture.channels, 5, 17, 22))).float()
    expected = r2plus1d_outputs(
        network.state_dict(), x, blocks=architecture.blocks, stem_stride=architecture.stem_stride
    )
    torch.testing.assert_close(network(x), expected)


def test_a_gray_window_stands_for_all_channels() -> None:
    x = torch.from_numpy(np.random.default_rng(0).normal(size=(2, 1, 4, 16, 12))).float()
    torch.testing.assert_close(made()(x), made()(torch.cat([x, x, x], dim=1)))


@pytest.mark.parametrize("suffix", ["pth", "safetensors"])
def test_kinetics_weights_load_by_name_but_for_their_classes(tmp_path: Path, suffix: str) -> None:
    kinetics, path = made(outputs=400, seed=1).state_dict(), tmp_path / f"r2plus1d_18.{suffix}"
    save_file(kinetics, path) if suffix == "safetensors" else torch.save(kinetics, path)
    network = made()
    head = {name: network.state_dict()[name].clone() for name in ("fc.weight", "fc.bias")}
    assert load_weights(network, path, new_head=True) is False
    assert same(network.state_dict(), kinetics | head)
    with pytest.raises(CorruptFile, match=r"size mismatch for fc.weight"):
        load_weights(network, path, new_head=False)


def test_a_published_checkpoint_loads_by_name_head_and_all(tmp_path: Path) -> None:
    published = made(seed=2)
    checkpoint = {
        "epoch": 44,
        "period": 2,
        "frames": 32,
        "state_dict": nn.DataParallel(published).state_dict(),
        "best_loss": 29.5,
        "r2": np.float64(0.81),  # scikit-learn's, which is not a plain number
        "opt_dict": torch.optim.SGD(published.parameters(), lr=0.1, momentum=0.9).state_dict(),
    }
    assert all(name.startswith("module.") for name in checkpoint["state_dict"])
    torch.save(checkpoint, tmp_path / "best.pt")
    network = made()
    assert load_weights(network, tmp_path / "best.pt", new_head=True) is True
    assert same(network.state_dict(), published.state_dict())


def test_weights_of_another_network_or_with_code_are_refused(tmp_path: Path) -> None:
    torch.save(made(EfArchitecture(stem=3, widths=(4, 6), blocks=2)).state_dict(), tmp_path / "other.pt")
    with pytest.raises(CorruptFile, match=r"(?s)other\.pt: expected the names and shapes.*layer3.*ef\.architecture"):
        load_weights(made(), tmp_path / "other.pt", new_head=True)
    torch.save({"state_dict": {"fc.weight": Attack(tmp_path / "ran")}}, tmp_path / "evil.pt")
    with pytest.raises(CorruptFile, match=r"evil\.pt"):
        load_weights(made(), tmp_path / "evil.pt", new_head=True)
    assert not (tmp_path / "ran").exists()


def echonet_windows(video: np.ndarray, length: int, period: int) -> list[np.ndarray]:
    """All windows of a normalised video, as the published code cuts them (``clips="all"``)."""
    missing = max(0, length * period - len(video))
    video = np.concatenate([video, np.zeros((missing, *video.shape[1:]), video.dtype)])
    return [video[s + period * np.arange(length)] for s in range(len(video) - (length - 1) * period)]


@given(frames=st.integers(1, 30), length=st.integers(1, 5), period=st.integers(1, 4))
def test_windows_are_those_of_the_published_code(frames: int, length: int, period: int) -> None:
    clip = np.random.default_rng(frames).integers(0, 256, (frames, 2, 3), dtype=np.uint8)
    reads = record(n_frames=length, period=period, height=2, width=3)
    expected = echonet_windows((clip.astype(np.float32) - np.float32(60)) / np.float32(40), length, period)
    assert reads.starts(frames).tolist() == list(range(len(expected)))
    assert reads.last_start(frames) == len(expected) - 1
    for start, window in enumerate(expected):
        np.testing.assert_allclose(reads.window(clip, start), window, rtol=1e-6)


def test_some_windows_lie_evenly_inside_the_clip() -> None:
    assert record(n_frames=4, period=2, windows=3).starts(47).tolist() == [10, 20, 30]
    assert record(n_frames=4, period=2, windows=1).starts(47).tolist() == [20]
    assert record(n_frames=4, period=2, windows=3).starts(9).tolist() == [0, 1, 2]
    assert record(n_frames=4, period=2, windows=3).starts(5).tolist() == [0, 1]


def test_a_reading_is_the_mean_over_windows() -> None:
    clip = np.random.default_rng(3).integers(0, 256, (45, 16, 12), dtype=np.uint8)
    model = EfModel(made(), record())
    windows = echonet_windows((clip.astype(np.float32) - np.float32(60)) / np.float32(40), 4, 2)
    each = [float(model.network(torch.from_numpy(window)[None, None]).detach()) for window in windows]
    assert len(each) > 32
    assert model.read(clip) == pytest.approx(np.mean(each), rel=1e-5)


@pytest.mark.parametrize("shape", [(0, 16, 12), (4, 12, 16), (4, 16, 12, 3)])
def test_other_frames_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(InputError, match=r"expected one gray frame or more of 16×12, got shape"):
        EfModel(made(), record()).read(np.zeros(shape, np.uint8))


@pytest.fixture
def saved(tmp_path: Path) -> tuple[Path, EfModel]:
    model = EfModel(made(), record(windows=2))
    model.save(tmp_path / "model")
    return tmp_path / "model", model


def test_a_saved_model_comes_back(saved: tuple[Path, EfModel]) -> None:
    folder, model = saved
    found = load_ef(folder)
    assert found.record == model.record
    assert same(found.network.state_dict(), model.network.state_dict())
    assert not found.network.training


def test_a_folder_of_a_model_is_a_reader_of_frames_of_any_size(saved: tuple[Path, EfModel]) -> None:
    folder, model = saved
    small = np.random.default_rng(4).integers(0, 256, (9, 16, 12), dtype=np.uint8)
    large = np.kron(small, np.ones((1, 2, 2), np.uint8))
    read = ef_reader(str(folder))
    assert read(small, 25.0) == model.read(small)
    assert read(np.stack([large] * 3, axis=-1), 25.0) == pytest.approx(model.read(small), rel=1e-6)
    assert ef_reader("phantom") is EF_READERS["phantom"]
    with pytest.raises(InputError, match=r"--ef-reader nowhere: expected phantom or the folder of an EF model"):
        ef_reader("nowhere")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model": "mnemoscope.reid/1"}, r"expected a model of format"),
        ({"std": 0.0}, r"std: .*train it again"),
        ({"frames": 3}, r"frames: unknown key"),
        ({"architecture": {"widths": [4, 6, 9]}}, r"expected the names and shapes"),
    ],
)
def test_a_damaged_model_is_refused(saved: tuple[Path, EfModel], change: dict[str, Any], message: str) -> None:
    path = saved[0] / CONFIG_FILE
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(CorruptFile, match=message):
        load_ef(saved[0])


def test_missing_parts_of_a_model_are_named(saved: tuple[Path, EfModel], tmp_path: Path) -> None:
    (saved[0] / WEIGHTS_FILE).unlink()
    with pytest.raises(CorruptFile, match=r"model\.safetensors"):
        load_ef(saved[0])
    with pytest.raises(InputError, match=r"found no config\.json \(mnemoscope train ef\)"):
        load_ef(tmp_path / "nowhere")


@pytest.mark.parametrize("wrong", [{"widths": []}, {"stem": 0}, {"blocks": 0}, {"stem_stride": 0}, {"channels": 0}])
def test_sizes_that_make_no_network_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=next(iter(wrong))):
        build(EfArchitecture, wrong)
