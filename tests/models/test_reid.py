import json
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from torch import Tensor

from mnemoscope.core.config import build
from mnemoscope.core.errors import ConfigError, CorruptFile, Mismatch
from mnemoscope.latents.scaling import Scaling
from mnemoscope.models import reid
from mnemoscope.models.initial import named_weights
from mnemoscope.models.reid import (
    CONFIG_FILE,
    WEIGHTS_FILE,
    Reid,
    ReidArchitecture,
    ReidModel,
    default_architecture,
    load_imagenet_weights,
    load_published_checkpoint,
    load_reid,
    paper_architecture,
)
from mnemoscope.models.vae import load_vae
from mnemoscope.phantom.cohort import CohortSpec, clips, render
from tests.reference import brute_force
from tests.reference.resnet50 import is_parameter, published_reid_shapes, resnet50_shapes
from tests.toys import Attack, ToyClip, write_store

PARAMETERS = 25_557_032  # of torchvision's ResNet-50
SCALING = Scaling(low=(-2.0, -1.0), high=(2.0, 3.0), mean=(0.5, 1.0), std=(0.5, 2.0))
ENCODER = "toy"
SMALL = ReidArchitecture(backbone="small", stem="dense", head="monotone", channels=2, features=8, scaling="standard")


def made(architecture: ReidArchitecture, seed: int = 0) -> Reid:
    with named_weights(seed, "test"):
        return Reid(architecture).eval()


@cache
def small() -> Reid:
    """Shared by the tests that do not change it."""
    return made(SMALL)


@cache
def published_state() -> dict[str, Tensor]:
    """A state dict of the published names and shapes, each tensor with its own values."""
    return filled(published_reid_shapes())


def filled(shapes: dict[str, tuple[int, ...]]) -> dict[str, Tensor]:
    return {name: values(number, name, shape) for number, (name, shape) in enumerate(shapes.items())}


def values(number: int, name: str, shape: tuple[int, ...]) -> Tensor:
    if name.endswith("num_batches_tracked"):
        return torch.tensor(number)
    generator = torch.Generator().manual_seed(number)
    return torch.rand(shape, generator=generator) * 0.02 + 0.01


def paper_network() -> Reid:
    with torch.device("meta"):
        network = Reid(paper_architecture(space="latent", channels=4))
    return network.to_empty(device="cpu")


def model(**changes: object) -> ReidModel:
    architecture = build(ReidArchitecture, SMALL.model_dump() | changes)
    return ReidModel(made(architecture), scaling=SCALING, encoder=ENCODER, preset="default")


def frames(count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(count, 2, 8, 8)).astype(np.float16)


def test_the_backbone_has_exactly_torchvisions_names_and_shapes() -> None:
    with torch.device("meta"):
        network = Reid(ReidArchitecture(channels=3, features=1000))
    own = {name: tuple(value.shape) for name, value in network.model.state_dict().items()}
    assert own == resnet50_shapes()
    assert sum(p.numel() for p in network.model.parameters()) == PARAMETERS


def test_the_oracle_of_names_counts_torchvisions_parameters() -> None:
    shapes = resnet50_shapes()
    assert sum(int(np.prod(shape)) for name, shape in shapes.items() if is_parameter(name)) == PARAMETERS
    assert len(shapes) == 320


@pytest.mark.parametrize("file", ["reid.pt", "reid.pth", "wrapped.pt", "reid.safetensors"])
def test_a_published_checkpoint_loads_by_name_all_of_it(tmp_path: Path, file: str) -> None:
    state = published_state()
    if file.endswith(".safetensors"):
        save_file(state, tmp_path / file)
    else:
        torch.save({"state_dict": state, "epoch": 3} if file == "wrapped.pt" else state, tmp_path / file)
    network = paper_network()
    load_published_checkpoint(network, tmp_path / file)
    own = network.state_dict()
    assert own.keys() == state.keys()
    assert all(torch.equal(own[name], state[name]) for name in state)


def without(state: dict[str, Tensor], name: str) -> dict[str, Tensor]:
    return {key: value for key, value in state.items() if key != name}


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"model.layer4.2.bn3.weight": None}, r"layer4\.2\.bn3\.weight"),
        ({"fc_end.weight": torch.zeros(1, 64)}, r"fc_end\.weight"),
        ({"model.conv1.weight": torch.zeros(64, 3, 7, 7)}, r"model\.conv1\.weight"),
        ({"extra.weight": torch.zeros(1)}, r"extra\.weight"),
    ],
)
def test_a_checkpoint_of_other_names_or_shapes_is_refused(
    tmp_path: Path, change: dict[str, Tensor | None], named: str
) -> None:
    state = {name: value for name, value in (published_state() | change).items() if value is not None}
    save_file(state, tmp_path / "other.safetensors")
    with pytest.raises(CorruptFile, match=rf"(?s)other\.safetensors: .*names and shapes.*{named}"):
        load_published_checkpoint(paper_network(), tmp_path / "other.safetensors")


def test_published_weights_are_not_read_into_a_monotone_head(tmp_path: Path) -> None:
    with pytest.raises(Mismatch, match=r"free head.*--preset paper.*reid\.architecture\.head=free"):
        load_published_checkpoint(small(), tmp_path / "reid.pt")


@pytest.mark.parametrize("value", [[1, 2], {"epoch": 3}, torch.zeros(3)])
def test_a_file_without_a_state_dict_is_refused(tmp_path: Path, value: object) -> None:
    torch.save(value, tmp_path / "a.pt")
    with pytest.raises(CorruptFile, match=r"a\.pt: expected a dictionary of tensors"):
        load_published_checkpoint(made(SMALL.model_copy(update={"head": "free"})), tmp_path / "a.pt")


def test_a_checkpoint_with_code_is_refused_and_the_code_not_run(tmp_path: Path) -> None:
    torch.save(published_state() | {"fc_end.bias": Attack(tmp_path / "ran")}, tmp_path / "reid.pth")
    with pytest.raises(CorruptFile, match=r"reid\.pth: expected tensors that load without running code"):
        load_published_checkpoint(paper_network(), tmp_path / "reid.pth")
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("content", [None, b"", b"garbage" * 20])
def test_a_damaged_safetensors_checkpoint_is_refused(tmp_path: Path, content: bytes | None) -> None:
    if content is not None:
        (tmp_path / "a.safetensors").write_bytes(content)
    with pytest.raises(CorruptFile, match=r"a\.safetensors"):
        load_published_checkpoint(made(SMALL.model_copy(update={"head": "free"})), tmp_path / "a.safetensors")


def test_imagenet_weights_leave_first_convolution_and_last_layer_as_initialised(tmp_path: Path) -> None:
    state = filled(resnet50_shapes())
    torch.save(state, tmp_path / "imagenet.pth")
    network = paper_network()
    for parameter in network.parameters():
        torch.nn.init.constant_(parameter, 0.5)
    load_imagenet_weights(network, tmp_path / "imagenet.pth")
    own = network.model.state_dict()
    left = {"conv1.weight", "fc.weight", "fc.bias"}
    assert all(bool((own[name] == 0.5).all()) for name in left)
    assert all(torch.equal(own[name], state[name]) for name in state.keys() - left)
    assert bool((network.fc_end.weight == 0.5).all())


def test_old_imagenet_weights_without_batch_counts_load_too(tmp_path: Path) -> None:
    state = {n: v for n, v in filled(resnet50_shapes()).items() if not n.endswith("num_batches_tracked")}
    torch.save(state, tmp_path / "imagenet.pth")
    network = paper_network()
    load_imagenet_weights(network, tmp_path / "imagenet.pth")
    assert torch.equal(network.model.state_dict()["layer3.5.conv2.weight"], state["layer3.5.conv2.weight"])


def test_imagenet_weights_fill_the_first_convolution_of_a_network_with_three_channels(tmp_path: Path) -> None:
    state = filled(resnet50_shapes())
    save_file(state, tmp_path / "imagenet.safetensors")
    with torch.device("meta"):
        network = Reid(ReidArchitecture(channels=3))
    network = network.to_empty(device="cpu")
    load_imagenet_weights(network, tmp_path / "imagenet.safetensors")
    assert torch.equal(network.model.state_dict()["conv1.weight"], state["conv1.weight"])


@pytest.mark.parametrize("missing", ["conv1.weight", "layer1.0.downsample.0.weight", "bn1.running_mean"])
def test_weights_that_are_not_a_resnet50_are_refused(tmp_path: Path, missing: str) -> None:
    save_file(without(filled(resnet50_shapes()), missing), tmp_path / "half.safetensors")
    with pytest.raises(CorruptFile, match=rf"(?s)half\.safetensors.*{missing}"):
        load_imagenet_weights(paper_network(), tmp_path / "half.safetensors")


def test_the_two_presets() -> None:
    paper = paper_architecture(space="image", channels=1)
    assert (paper.backbone, paper.stem, paper.head, paper.scaling) == ("resnet50", "imagenet", "free", "minmax")
    default = default_architecture(space="latent", channels=4, backbone="small")
    assert (default.backbone, default.stem, default.head, default.scaling) == ("small", "dense", "monotone", "standard")
    assert default_architecture(space="image", channels=1, backbone="small").stem == "imagenet"


@pytest.mark.parametrize(("stem", "side"), [("dense", 14), ("imagenet", 4)])
def test_the_dense_stem_keeps_the_cells_of_a_latent(stem: str, side: int) -> None:
    network = made(SMALL.model_copy(update={"stem": stem}))
    sides: list[int] = []
    network.model.layer1.register_forward_pre_hook(lambda _, inputs: sides.append(inputs[0].shape[-1]))
    network(torch.zeros(1, 2, 14, 14))
    assert sides == [side]


@pytest.mark.parametrize(("space", "side"), [("latent", 14), ("image", 112), ("latent", 28)])
def test_the_compact_network_takes_latents_and_pixels(space: str, side: int) -> None:
    architecture = default_architecture(space=space, channels=3)
    network = made(architecture)
    cells: list[tuple[int, ...]] = []
    flat = next(i for i, layer in enumerate(network.model) if isinstance(layer, torch.nn.Flatten))
    network.model[flat].register_forward_pre_hook(lambda _, inputs: cells.append(tuple(inputs[0].shape[1:])))
    assert network(torch.zeros(2, 3, side, side)).shape == (2, 128)
    assert cells == [(128, 4, 4)]
    assert architecture.backbone == "compact"


@pytest.mark.parametrize("head", ["free", "monotone"])
def test_the_matrix_of_logits_is_that_of_all_pairs(head: str) -> None:
    network = made(SMALL.model_copy(update={"head": head}))
    a, b = torch.rand(5, 8), torch.rand(3, 8)
    a.requires_grad_(True)
    found, expected = network.logit_matrix(a, b), network.logits(a[:, None], b[None])
    torch.testing.assert_close(found, expected)
    slopes = [torch.autograd.grad(logits.square().sum(), [a, network.fc_end.weight])[0] for logits in (found, expected)]
    torch.testing.assert_close(*slopes)


def test_the_bundled_weights_begin_the_default_network_on_the_bundled_latents() -> None:
    architecture = default_architecture(space="latent", channels=4)
    encoder = load_vae("bundled").fingerprint
    assert reid.bundled_weights_fit(architecture, encoder)
    network = made(architecture)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    reid.load_bundled_weights(network, encoder=encoder)
    given = load_file(reid.BUNDLED_FOLDER / WEIGHTS_FILE)
    assert all(torch.equal(value, given[name].to(value.dtype)) for name, value in network.state_dict().items())
    assert not torch.equal(before["fc_end.weight"], network.fc_end.weight)


def test_the_bundled_weights_tell_new_phantom_patients_apart() -> None:
    """Two clips each of twelve patients of a seed that training has not seen: each finds the patient's other clip."""
    spec = CohortSpec(view="psax", n_patients=12, clips_per_patient=2, n_frames=1, seed=4242)
    frames = np.concatenate([render(spec, clip).frames for clip in clips(spec)])
    bundled = load_reid(reid.BUNDLED_FOLDER)
    features = torch.from_numpy(bundled.embed(load_vae("bundled").encode(frames, clip_id="test")))
    logits = bundled.network.logit_matrix(features, features).detach().fill_diagonal_(-torch.inf)
    assert (logits.argmax(dim=1) // 2).tolist() == (torch.arange(24) // 2).tolist()


@pytest.mark.parametrize("change", [{"features": 64}, {"head": "free"}, {"space": "image"}])
def test_the_bundled_weights_fit_no_other_network(change: dict[str, object]) -> None:
    architecture = build(ReidArchitecture, default_architecture(space="latent", channels=4).model_dump() | change)
    with pytest.raises(Mismatch, match=r"reid\.initial=random"):
        reid.load_bundled_weights(made(architecture), encoder=load_vae("bundled").fingerprint)


def test_the_bundled_weights_fit_no_other_latents() -> None:
    assert not reid.bundled_weights_fit(default_architecture(space="latent", channels=4), "another VAE")


def test_features_lie_between_zero_and_one() -> None:
    found = small()(torch.randn(6, 2, 8, 8, generator=torch.Generator().manual_seed(0)) * 5)
    assert found.shape == (6, 8)
    assert bool(((found > 0) & (found < 1)).all())


def vectors(count: int, seed: int) -> Tensor:
    return torch.rand(count, 8, generator=torch.Generator().manual_seed(seed))


@given(st.integers(0, 10_000), st.floats(-30, 30))
def test_under_a_monotone_head_nothing_scores_more_than_a_copy(seed: int, shift: float) -> None:
    network = Reid.__new__(Reid)
    torch.nn.Module.__init__(network)
    network.architecture = SMALL
    network.fc_end = torch.nn.Linear(8, 1)
    with torch.no_grad():
        network.fc_end.weight.copy_(torch.randn(1, 8, generator=torch.Generator().manual_seed(seed)) + shift)
        a, b = vectors(5, seed), vectors(7, seed + 1)
        copies, strangers = network.logits(a, a), network.logits(a[:, None], b[None])
        assert bool((network.head_weight() <= 0).all())
    assert bool((copies == network.fc_end.bias[0]).all())
    assert bool((strangers <= copies[:, None]).all())


def test_a_free_head_uses_its_weights_as_they_are() -> None:
    network = made(SMALL.model_copy(update={"head": "free"}))
    assert torch.equal(network.head_weight(), network.fc_end.weight[0])
    assert bool((network.head_weight() > 0).any())


@pytest.mark.parametrize("head", ["free", "monotone"])
def test_the_search_scores_as_the_network_does(head: str) -> None:
    network = made(SMALL.model_copy(update={"head": head}))
    a, b = vectors(5, 0), vectors(7, 1)
    expected = network.logits(a[:, None], b[None]).detach().numpy()
    np.testing.assert_allclose(
        brute_force.similarities(a.numpy(), b.numpy(), network.search_head()), expected, atol=1e-5
    )


def test_logits_by_hand() -> None:
    network = made(SMALL.model_copy(update={"head": "free"}))
    a, b = vectors(4, 0), vectors(4, 1)
    weight, bias = network.fc_end.weight.detach().numpy()[0], float(network.fc_end.bias.detach()[0])
    expected = [
        bias + sum(w * abs(x - y) for w, x, y in zip(weight, p, q, strict=True)) for p, q in zip(a, b, strict=True)
    ]
    np.testing.assert_allclose(network.logits(a, b).detach(), np.array(expected, dtype=np.float32), atol=1e-6)


@pytest.mark.parametrize("scaling", ["minmax", "standard"])
def test_embedding_scales_by_the_train_constants(scaling: str) -> None:
    embedder, x = model(scaling=scaling), frames(5)
    scaled = torch.from_numpy(SCALING.apply(x, scaling))
    with torch.inference_mode():
        expected = embedder.network(scaled).numpy()
    np.testing.assert_allclose(embedder.embed(x), expected, atol=1e-6)
    assert embedder.embed(x).dtype == np.float32


@pytest.mark.parametrize("batch_frames", [1, 3, 100])
def test_embedding_does_not_depend_on_the_batch_size(monkeypatch: pytest.MonkeyPatch, batch_frames: int) -> None:
    embedder, x = model(), frames(7)
    expected = embedder.embed(x)
    monkeypatch.setattr(reid, "_BATCH_FRAMES", batch_frames)
    np.testing.assert_allclose(embedder.embed(x), expected, atol=1e-6)


def test_a_model_of_other_channels_is_refused() -> None:
    with pytest.raises(Mismatch, match=r"takes 3 channels.*have 2.*mnemoscope train reid"):
        model(channels=3)


def test_a_saved_model_comes_back_whole(tmp_path: Path) -> None:
    before = model()
    before.save(tmp_path / "model")
    after = load_reid(tmp_path / "model")
    assert sorted(p.name for p in (tmp_path / "model").iterdir()) == [CONFIG_FILE, WEIGHTS_FILE]
    assert (after.scaling, after.preset) == (SCALING, "default")
    assert after.network.architecture == SMALL
    np.testing.assert_array_equal(after.embed(frames(3)), before.embed(frames(3)))
    assert not after.network.training


@pytest.mark.parametrize("keep", [None, 0, 4, 100, 0.5])
def test_damaged_weights_are_refused(tmp_path: Path, keep: float | None) -> None:
    model().save(tmp_path)
    weights = tmp_path / WEIGHTS_FILE
    content = weights.read_bytes()
    weights.unlink()
    if keep is not None:
        weights.write_bytes(content[: int(keep * len(content) if 0 < keep < 1 else keep)])
    with pytest.raises(CorruptFile, match=r"fit config\.json.*mnemoscope train reid"):
        load_reid(tmp_path)


@pytest.mark.parametrize(
    "change",
    [
        {"model": "mnemoscope.ef/1"},
        {"architecture": {"channels": 2, "features": 9}},
        {"architecture": {"depth": 3}},
        {"architecture": None},
        {"scaling": None},
        {"scaling": {"low": [0, 0], "high": [0, 0], "mean": [0, 0], "std": [1, 1]}},
    ],
)
def test_a_configuration_that_does_not_fit_is_refused(tmp_path: Path, change: dict[str, object]) -> None:
    model().save(tmp_path)
    config = json.loads((tmp_path / CONFIG_FILE).read_text())
    if isinstance(change.get("architecture"), dict):
        change = {"architecture": config["architecture"] | change["architecture"]}
    (tmp_path / CONFIG_FILE).write_text(json.dumps(config | change))
    with pytest.raises(CorruptFile, match=r"config\.json"):
        load_reid(tmp_path)


def test_a_missing_model_is_named(tmp_path: Path) -> None:
    with pytest.raises(CorruptFile, match=r"nowhere.config\.json"):
        load_reid(tmp_path / "nowhere")


def test_weights_of_another_architecture_are_refused(tmp_path: Path) -> None:
    model().save(tmp_path)
    state = load_file(tmp_path / WEIGHTS_FILE)
    save_file(without(state, "fc_end.bias"), tmp_path / WEIGHTS_FILE)
    with pytest.raises(CorruptFile, match=r"(?s)fc_end\.bias"):
        load_reid(tmp_path)


def test_a_store_of_another_space_or_scaling_is_refused(tmp_path: Path) -> None:
    clips = {"a": ToyClip(frames(3), "p")}
    own = write_store(tmp_path / "own", clips, scaling=SCALING)
    model().require_store(own)
    with pytest.raises(Mismatch, match=r"holds latent frames.*takes image"):
        model(space="image").require_store(own)
    with pytest.raises(Mismatch, match="other scaling constants than re-identification model"):
        model().require_store(write_store(tmp_path / "other", clips))


@pytest.mark.parametrize("change", [{"channels": 0}, {"features": 0}, {"backbone": "vit"}, {"head": "mlp"}])
def test_architectures_that_cannot_be_built_are_refused(change: dict[str, object]) -> None:
    with pytest.raises(ConfigError, match=next(iter(change))):
        build(ReidArchitecture, change)
