import json
import math
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from mnemoscope.audit.evidence import structural_similarity
from mnemoscope.core.config import build
from mnemoscope.core.errors import ConfigError, InputError, TooFewSamples
from mnemoscope.latents.store import LatentStore
from mnemoscope.models.vae import load_vae
from mnemoscope.training import perceptual
from mnemoscope.training import vae as vae_training
from mnemoscope.training.adversarial import AdversarialConfig
from mnemoscope.training.checkpoint import load_checkpoint
from mnemoscope.training.loop import CHECKPOINT, LoopConfig
from mnemoscope.training.perceptual import perceptual_distance
from mnemoscope.training.vae import PRESETS, VaeTask, VaeTraining, paper_training, train_vae, vae_networks
from tests.toys import ToyClip, noise_clips, write_store
from tests.training.launching import launch

LOOP = LoopConfig(epochs=8, batch_size=4, learning_rate=5e-3, checkpoint_every_steps=1000)
TINY = VaeTraining(channels=(4, 4, 8, 8), frames_per_clip=2, val_frames=6, loop=LOOP)
GAN = {"weight": 0.5, "start_step": 3, "channels": 4, "layers": 1}


def blobs(count: int, seed: int) -> np.ndarray:
    """A bright blob that moves over a dark ground, (T, 1, 16, 16)."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:16, :16]
    centres = rng.uniform(3, 13, (count, 2))
    return np.stack([200 * np.exp(-((y - a) ** 2 + (x - b) ** 2) / 12) + 20 for a, b in centres])[:, None].astype(
        np.uint8
    )


def image_store(folder: Path, splits: tuple[str, ...] = ("train", "train", "train", "val")) -> LatentStore:
    clips = {f"c{i}": ToyClip(blobs(5, i), f"p{i}", split) for i, split in enumerate(splits)}
    return write_store(folder, clips, space="image")


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> LatentStore:
    return image_store(tmp_path_factory.mktemp("vae") / "store")


def with_changes(**changes: Any) -> VaeTraining:
    return build(VaeTraining, TINY.model_dump() | changes)


def task(store: LatentStore, seed: int = 0, **changes: Any) -> VaeTask:
    recipe = with_changes(**changes)
    networks = vae_networks(recipe, height=16, width=16, seed=0)
    distance = perceptual_distance(recipe.perceptual)
    return VaeTask(networks, store, recipe=recipe, perceptual=distance, seed=seed)


def autoencoder(stage: VaeTask) -> Any:
    return stage.network.autoencoder


def psnr_db(original: np.ndarray, decoded: np.ndarray) -> float:
    """Peak 255, each frame for itself, by the definition."""
    errors = [np.mean((a.astype(np.float64) - b) ** 2) for a, b in zip(original, decoded, strict=True)]
    return float(np.mean([20 * math.log10(255) - 10 * math.log10(error) for error in errors]))


def test_a_few_steps_reduce_the_error_and_the_model_can_be_used(store: LatentStore, tmp_path: Path) -> None:
    network, state = train_vae(store, TINY, tmp_path, seed=0)
    psnr = [row["val_psnr_db"] for row in state.history]
    assert psnr[-1] > psnr[0] + 1
    assert state.history[-1]["train_loss"] < state.history[0]["train_loss"] / 1.5
    loaded = load_vae(str(tmp_path / "model"))
    frames = store.read(15, 5)[:, 0]
    mean = network.encode(torch.from_numpy(frames[:, None] / np.float32(127.5) - 1)).latent_dist.mean
    np.testing.assert_allclose(loaded.encode(frames, clip_id="c3"), mean.detach().numpy(), atol=5e-3)


def test_the_same_seed_gives_the_same_weights_and_another_seed_others(store: LatentStore, tmp_path: Path) -> None:
    recipe = with_changes(loop=ONE_EPOCH)

    def weights(folder: str, seed: int) -> torch.Tensor:
        network, _ = train_vae(store, recipe, tmp_path / folder, seed=seed)
        return torch.cat([p.detach().flatten() for p in network.parameters()])

    first = weights("a", 0)
    torch.randn(5)
    assert torch.equal(weights("b", 0), first)
    assert not torch.equal(weights("c", 1), first)


def test_psnr_is_that_of_its_definition(store: LatentStore) -> None:
    stage = task(store, val_frames=100)
    with torch.inference_mode():
        figures = stage.validate(stage.network.eval(), torch.device("cpu"))
    frames = store.read(15, 5)
    with torch.inference_mode():
        x = torch.from_numpy(frames.astype(np.float32) / 127.5 - 1)
        mean = autoencoder(stage).encode(x).latent_dist.mean
        decoded = autoencoder(stage).decode(mean).sample.clamp(-1, 1).numpy()
    assert figures["psnr_db"] == pytest.approx(psnr_db(frames, (decoded.astype(np.float64) + 1) * 127.5), abs=1e-3)
    assert figures["loss"] == -figures["psnr_db"]
    gray = (decoded.astype(np.float64) + 1) * 127.5
    assert figures["ssim"] == pytest.approx(mean_ssim(frames[:, 0], gray[:, 0]), abs=1e-4)
    cells = mean.double().numpy().transpose(1, 0, 2, 3).reshape(4, -1)
    assert [figures[f"latent_mean_{c}"] for c in range(4)] == pytest.approx(cells.mean(axis=1), abs=1e-6)
    assert [figures[f"latent_std_{c}"] for c in range(4)] == pytest.approx(cells.std(axis=1), abs=1e-6)


def mean_ssim(a: np.ndarray, b: np.ndarray) -> float:
    """By another implementation; (T, H, W), gray levels 0–255."""
    everywhere = np.ones(a.shape[1:], dtype=bool)
    return float(np.mean([structural_similarity(x, y, everywhere) for x, y in zip(a, b, strict=True)]))


@pytest.mark.parametrize("reconstruction", ["l1", "l2"])
@pytest.mark.parametrize("kl_weight", [0.0, 0.5])
def test_the_loss_by_hand(store: LatentStore, reconstruction: str, kl_weight: float) -> None:
    stage = task(store, reconstruction=reconstruction, kl_weight=kl_weight)
    network, batch = stage.network, stage.batch(0, np.arange(4))
    plain = autoencoder(stage)
    found = float(stage.loss(network, batch, 7).detach())
    assert float(stage.loss(network, batch, 7).detach()) == found
    assert float(stage.loss(network, batch, 8).detach()) != found
    with torch.no_grad():
        parameters = plain.encode(batch["frames"]).latent_dist.parameters.double().numpy()
        mean, logvar = np.split(parameters, 2, axis=1)
        drawn = noise_of(stage, network, batch, step=7)
        decoded = plain.decode(torch.from_numpy(drawn)).sample.numpy()
    error = decoded - batch["frames"].numpy()
    expected = np.abs(error).mean() if reconstruction == "l1" else (error**2).mean()
    kl = 0.5 * (mean**2 + np.exp(logvar) - 1 - logvar).sum(axis=(1, 2, 3))
    assert found == pytest.approx(expected + kl_weight * kl.mean() / 256, rel=1e-4)


def noise_of(stage: VaeTask, network: torch.nn.Module, batch: Any, *, step: int) -> np.ndarray:
    """The latent that the loss drew, caught on its way to the decoder."""
    caught: list[torch.Tensor] = []
    handle = network.autoencoder.post_quant_conv.register_forward_pre_hook(lambda _, inputs: caught.append(inputs[0]))
    stage.loss(network, batch, step)
    handle.remove()
    return caught[0].numpy()


def flat_gradient(module: torch.nn.Module) -> torch.Tensor:
    return torch.cat([p.grad.flatten() for p in module.parameters() if p.grad is not None])


@pytest.mark.parametrize("step", [0, 2, 3])
def test_the_gan_changes_nothing_of_the_autoencoder_before_its_start(store: LatentStore, step: int) -> None:
    plain, with_gan = task(store), task(store, adversarial=GAN)
    losses = []
    for stage in (plain, with_gan):
        loss = stage.loss(stage.network, stage.batch(0, np.arange(4)), step)
        loss.backward()
        losses.append(float(loss.detach()))
    started = step >= GAN["start_step"]
    assert (losses[0] == losses[1]) is not started
    same = torch.equal(flat_gradient(autoencoder(plain)), flat_gradient(autoencoder(with_gan)))
    assert same is not started
    assert bool(flat_gradient(with_gan.network.discriminator).any()) is started


def test_the_perceptual_term_joins_the_reconstruction_with_its_weight(store: LatentStore) -> None:
    recipe = with_changes(perceptual={"weight": 0.25})
    distance = lambda decoded, frames: 7.0 * (decoded - frames).square().mean()  # noqa: E731
    networks = vae_networks(recipe, height=16, width=16, seed=0)
    stage, plain = VaeTask(networks, store, recipe=recipe, perceptual=distance, seed=0), task(store, kl_weight=0.0)
    batch = plain.batch(0, np.arange(4))
    without = float(task(store).loss(plain.network, batch, 0).detach())
    error = float(plain.loss(plain.network, batch, 0).detach())
    assert float(stage.loss(networks, batch, 0).detach()) == pytest.approx(without + 0.25 * 7 * error, rel=1e-5)


def test_gray_frames_fill_three_channels(store: LatentStore) -> None:
    frames = task(store, image_channels=3).batch(0, np.arange(4))["frames"]
    assert torch.equal(frames, task(store).batch(0, np.arange(4))["frames"].repeat(1, 3, 1, 1))


def test_frames_are_train_frames_and_depend_on_seed_epoch_and_index_alone(store: LatentStore) -> None:
    stage = task(store, frames_per_clip=3)
    assert stage.examples() == 9
    frames = stage.batch(2, np.arange(9))["frames"]
    one_by_one = torch.cat([stage.batch(2, np.array([i]))["frames"] for i in reversed(range(9))]).flip(0)
    assert torch.equal(frames, one_by_one)
    train = store.read(0, 15).astype(np.float32) / np.float32(127.5) - np.float32(1)
    for index, frame in enumerate(frames.numpy()):
        clip = index % 3
        assert any(np.array_equal(frame, candidate) for candidate in train[5 * clip : 5 * clip + 5])
    assert not torch.equal(stage.batch(3, np.arange(9))["frames"], frames)
    assert not torch.equal(task(store, seed=1).batch(2, np.arange(9))["frames"], frames)


@pytest.mark.parametrize(("asked", "used"), [(1, 1), (3, 3), (100, 5)])
def test_validation_uses_so_many_frames_of_val_clips(store: LatentStore, asked: int, used: int) -> None:
    stage = task(store, val_frames=asked)
    seen: list[int] = []
    handle = autoencoder(stage).encoder.register_forward_pre_hook(lambda _, inputs: seen.append(len(inputs[0])))
    with torch.inference_mode():
        stage.validate(stage.network, torch.device("cpu"))
    handle.remove()
    assert sum(seen) == used


class Killed(VaeTask):
    """Stops at a step, as a kill would."""

    fails_at = 5

    def loss(self, network: torch.nn.Module, batch: Any, step: int) -> torch.Tensor:
        if step == self.fails_at:
            raise KeyboardInterrupt
        return super().loss(network, batch, step)


@pytest.mark.parametrize("keep", ["best", "last"])
def test_a_killed_training_with_a_gan_goes_on_to_the_same_numbers(
    store: LatentStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, keep: str
) -> None:
    loop = LOOP.model_copy(update={"epochs": 4, "checkpoint_every_steps": 1, "keep": keep}).model_dump()
    recipe = with_changes(adversarial=GAN, loop=loop)
    whole, state = train_vae(store, recipe, tmp_path / "whole", seed=0)
    with monkeypatch.context() as patch:
        patch.setattr(vae_training, "VaeTask", Killed)
        with pytest.raises(KeyboardInterrupt):
            train_vae(store, recipe, tmp_path / "killed", seed=0)
    again, resumed = train_vae(store, recipe, tmp_path / "killed", seed=0)
    assert state.step == 8
    assert [untimed(row) for row in resumed.history] == [untimed(row) for row in state.history]
    assert all(torch.equal(p, q) for p, q in zip(whole.parameters(), again.parameters(), strict=True))
    last = [load_checkpoint(tmp_path / name / "training" / CHECKPOINT)["network"] for name in ("whole", "killed")]
    discriminator = [name for name in last[0] if name.startswith("discriminator.")]
    assert discriminator
    assert all(torch.equal(last[0][name], last[1][name]) for name in discriminator)


def untimed(row: dict[str, float]) -> dict[str, float]:
    return {name: value for name, value in row.items() if name != "seconds"}


def test_the_discriminator_rests_before_its_start_and_learns_after_it(store: LatentStore, tmp_path: Path) -> None:
    def resting(start_step: int) -> list[bool]:
        recipe = with_changes(adversarial=GAN | {"start_step": start_step}, loop=TWO_EPOCHS)
        new: Any = vae_networks(recipe, height=16, width=16, seed=0).discriminator
        train_vae(store, recipe, tmp_path / str(start_step), seed=0)
        saved = load_checkpoint(tmp_path / str(start_step) / "training" / CHECKPOINT)["network"]
        return [torch.equal(p, saved[f"discriminator.{name}"]) for name, p in new.named_parameters()]

    assert all(resting(4))
    assert not all(resting(3))
    train_vae(store, with_changes(loop=TWO_EPOCHS), tmp_path / "plain", seed=0)
    plain, late = (load_vae(str(tmp_path / name / "model")).fingerprint for name in ("plain", "4"))
    assert plain == late


def test_the_model_folder_holds_the_autoencoder_alone(store: LatentStore, tmp_path: Path) -> None:
    network, _ = train_vae(store, with_changes(adversarial=GAN, loop=ONE_EPOCH), tmp_path, seed=0)
    names = set(load_file(tmp_path / "model" / "diffusion_pytorch_model.safetensors"))
    assert names == set(network.state_dict())
    assert {file.name for file in (tmp_path / "model").iterdir()} == {
        "config.json",
        "diffusion_pytorch_model.safetensors",
    }


@pytest.mark.parametrize(
    ("splits", "chosen"), [(("train", "val", "holdout", "holdout"), "holdout"), (("train", "val"), "val")]
)
def test_held_out_figures_are_those_of_the_written_model_on_holdout_clips_else_val(
    tmp_path: Path, splits: tuple[str, ...], chosen: str
) -> None:
    store = image_store(tmp_path / "store", splits)
    train_vae(store, with_changes(loop=ONE_EPOCH), tmp_path / "out", seed=0)
    found = json.loads((tmp_path / "out" / "held_out.json").read_text())
    clips = store.of_split(chosen)
    frames = np.concatenate([clip[[0, 1, 2, 3]] for _, clip in store.clips_of(clips)])
    assert (found["split"], found["clips"], found["frames"]) == (chosen, len(clips), len(frames))
    network = load_vae(str(tmp_path / "out" / "model")).network
    with torch.inference_mode():
        mean = network.encode(torch.from_numpy(frames.astype(np.float32) / 127.5 - 1)).latent_dist.mean
        decoded = network.decode(mean).sample.clamp(-1, 1).double().numpy()
    gray = (decoded + 1) * 127.5
    assert found["psnr_db"]["mean"] == pytest.approx(psnr_db(frames, gray), abs=1e-3)
    each = [psnr_db(a[None], b[None]) for a, b in zip(frames, gray, strict=True)]
    assert [found["psnr_db"][p] for p in ("p5", "p95")] == pytest.approx(np.percentile(each, [5, 95]), abs=1e-3)
    assert found["ssim"]["mean"] == pytest.approx(mean_ssim(frames[:, 0], gray[:, 0]), abs=1e-4)
    cells = mean.double().numpy().transpose(1, 0, 2, 3).reshape(4, -1)
    for name in ("mean", "std", "min", "max"):
        assert found["latent"][name] == pytest.approx(getattr(cells, name)(axis=1), abs=1e-5)


def test_the_paper_preset_has_the_sizes_of_the_paper() -> None:
    paper = paper_training()
    assert set(PRESETS) == {"small", "paper"}
    assert (paper.channels, paper.blocks, paper.image_channels) == ((128, 256, 256, 512), 2, 3)
    assert (paper.reconstruction, paper.kl_weight, paper.perceptual.kind) == ("l1", 1e-6, "lpips")
    assert paper.adversarial is not None
    assert (paper.adversarial.weight, paper.adversarial.start_step) == (0.5, 50_001)
    assert (paper.loop.batch_size, paper.loop.learning_rate) == (512, pytest.approx(512 * 2e-6))
    with torch.device("meta"):
        network = vae_networks(paper, height=112, width=112, seed=0).autoencoder
    assert network.config.mid_block_add_attention is False
    assert network.config.in_channels == 3


def test_an_absent_library_stops_the_training_before_it_writes(
    store: LatentStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "lpips", None)
    with pytest.raises(ConfigError, match="pip install lpips torchvision"):
        train_vae(store, with_changes(perceptual={"kind": "lpips"}), tmp_path / "out", seed=0)
    assert not (tmp_path / "out").exists()


CHANGES: dict[str, Any] = {
    "image_channels": 3,
    "channels": (8, 8, 8, 8),
    "blocks": 2,
    "norm_groups": 2,
    "perceptual": {"kind": "lpips"},
    "adversarial": GAN | {"start_step": 0},
    "reconstruction": "l1",
    "kl_weight": 0.5,
    "frames_per_clip": 1,
    "val_frames": 1,
    "loop": LOOP.model_copy(update={"epochs": 1, "learning_rate": 1e-4}).model_dump(),
}


TWO_EPOCHS = LOOP.model_copy(update={"epochs": 2}).model_dump()
ONE_EPOCH = LOOP.model_copy(update={"epochs": 1}).model_dump()


def trace(store: LatentStore, folder: Path, **changes: Any) -> list[float]:
    network, state = train_vae(store, with_changes(**{"loop": ONE_EPOCH} | changes), folder, seed=0)
    figures = [value for key, value in state.history[-1].items() if key != "seconds"]
    return [*figures, sum(p.numel() for p in network.parameters())]


@pytest.fixture(scope="module")
def base_trace(store: LatentStore, tmp_path_factory: pytest.TempPathFactory) -> list[float]:
    return trace(store, tmp_path_factory.mktemp("base"))


class Contrast(torch.nn.Module):
    """In the place of LPIPS."""

    def forward(self, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        return (a - b).abs().amax(dim=(1, 2, 3), keepdim=True)


@pytest.mark.parametrize("name", VaeTraining.model_fields)
def test_every_setting_changes_the_training(
    store: LatentStore, tmp_path: Path, base_trace: list[float], monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setattr(perceptual, "_lpips_network", Contrast)
    assert trace(store, tmp_path, **{name: CHANGES[name]}) != base_trace


@pytest.mark.parametrize(
    "changes", [{"weight": 0.1}, {"start_step": 1}, {"balance": "fixed"}, {"channels": 8}, {"layers": 2}]
)
def test_every_setting_of_the_gan_changes_the_training(
    store: LatentStore, tmp_path: Path, changes: dict[str, Any]
) -> None:
    assert set(AdversarialConfig.model_fields) == set(GAN) | {"balance"}
    base = GAN | {"start_step": 0}
    one = trace(store, tmp_path / "base", adversarial=base)
    assert trace(store, tmp_path / "changed", adversarial=base | changes) != one


def test_the_same_settings_give_the_same_training(store: LatentStore, tmp_path: Path, base_trace: list[float]) -> None:
    assert trace(store, tmp_path) == base_trace


def test_a_latent_store_is_refused(tmp_path: Path) -> None:
    latents = write_store(tmp_path / "latents", noise_clips([3, 4]))
    with pytest.raises(InputError, match=r"latents: holds latents.*--space image"):
        train_vae(latents, TINY, tmp_path / "out", seed=0)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("splits", [("train", "train"), ("val", "val")])
def test_missing_train_or_val_clips_are_refused(tmp_path: Path, splits: tuple[str, ...]) -> None:
    clips = {f"c{i}": ToyClip(blobs(3, i), f"p{i}", split) for i, split in enumerate(splits)}
    scaling = image_store(tmp_path / "other").record.scaling
    store = write_store(tmp_path / "store", clips, space="image", scaling=scaling)
    with pytest.raises(TooFewSamples, match=r"expected train and val clips, found [02] and [02]"):
        train_vae(store, TINY, tmp_path / "out", seed=0)


def test_frames_that_the_vae_cannot_halve_are_refused(tmp_path: Path) -> None:
    clips = {f"c{i}": ToyClip(blobs(3, i)[:, :, :12], f"p{i}", split) for i, split in enumerate(("train", "val"))}
    store = write_store(tmp_path / "store", clips, space="image")
    with pytest.raises(InputError, match=r"multiples of 8.*found 12×16.*frames\.height"):
        train_vae(store, TINY, tmp_path / "out", seed=0)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("channels", (6, 8, 8, 8)),
        ("channels", (0, 8, 8, 8)),
        ("image_channels", 2),
        ("blocks", 0),
        ("norm_groups", 0),
        ("kl_weight", -1.0),
        ("frames_per_clip", 0),
        ("val_frames", 0),
        ("width", 3),
    ],
)
def test_settings_that_cannot_work_are_refused_by_name(name: str, value: object) -> None:
    with pytest.raises(ConfigError, match=name):
        with_changes(**{name: value})


def test_a_gan_that_waits_and_a_decay_of_weights_are_refused_together() -> None:
    loop = LOOP.model_copy(update={"weight_decay": 0.1}).model_dump()
    with pytest.raises(ConfigError, match=r"decay while it waits.*loop\.weight_decay=0"):
        with_changes(adversarial=GAN, loop=loop)
    assert with_changes(loop=loop).loop.weight_decay == 0.1


@pytest.mark.slow
def test_two_processes_train_one_network_with_a_gan(store: LatentStore, tmp_path: Path) -> None:
    """Also before the start, when no gradient but zero reaches the discriminator."""
    code = f"""
import json, os, sys
from pathlib import Path
from mnemoscope.core.config import build
from mnemoscope.latents.store import LatentStore
from mnemoscope.training.vae import VaeTraining, train_vae
rank, out = os.environ["RANK"], Path(sys.argv[1])
recipe = build(VaeTraining, {with_changes(adversarial=GAN | {"start_step": 2}, loop=TWO_EPOCHS).model_dump()!r})
network, state = train_vae(LatentStore(Path({str(store.folder)!r})), recipe, out / "run", seed=0)
weights = [float(p.detach().double().sum()) for p in network.parameters()]
(out / f"{{rank}}.json").write_text(json.dumps([weights, state.step]))
"""
    first, second = launch(code, tmp_path / "two", processes=2)
    assert first == second
    assert first[1] == 4
