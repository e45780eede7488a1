import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from mnemoscope.core.config import build
from mnemoscope.core.errors import ConfigError, InputError, TooFewSamples
from mnemoscope.latents.store import LatentStore
from mnemoscope.models.vae import load_vae, small_vae
from mnemoscope.training.loop import LoopConfig
from mnemoscope.training.vae import VaeTask, VaeTraining, train_vae
from tests.toys import ToyClip, noise_clips, write_store

LOOP = LoopConfig(epochs=8, batch_size=4, learning_rate=5e-3, checkpoint_every_steps=1000)
TINY = VaeTraining(channels=(4, 4, 8, 8), frames_per_clip=2, val_frames=6, loop=LOOP)


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
    torch.manual_seed(0)
    return VaeTask(small_vae(channels=(4, 4, 8, 8)), store, recipe=with_changes(**changes), seed=seed)


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
        decoded = stage.network.decode(stage.network.encode(x).latent_dist.mean).sample.clamp(-1, 1).numpy()
    assert figures["psnr_db"] == pytest.approx(psnr_db(frames, (decoded.astype(np.float64) + 1) * 127.5), abs=1e-3)
    assert figures["loss"] == -figures["psnr_db"]


@pytest.mark.parametrize("reconstruction", ["l1", "l2"])
@pytest.mark.parametrize("kl_weight", [0.0, 0.5])
def test_the_loss_by_hand(store: LatentStore, reconstruction: str, kl_weight: float) -> None:
    stage = task(store, reconstruction=reconstruction, kl_weight=kl_weight)
    network, batch = stage.network, stage.batch(0, np.arange(4))
    found = float(stage.loss(network, batch, 7).detach())
    assert float(stage.loss(network, batch, 7).detach()) == found
    assert float(stage.loss(network, batch, 8).detach()) != found
    with torch.no_grad():
        parameters = network.encode(batch["frames"]).latent_dist.parameters.double().numpy()
        mean, logvar = np.split(parameters, 2, axis=1)
        drawn = noise_of(stage, network, batch, step=7)
        decoded = network.decode(torch.from_numpy(drawn)).sample.numpy()
    error = decoded - batch["frames"].numpy()
    expected = np.abs(error).mean() if reconstruction == "l1" else (error**2).mean()
    kl = 0.5 * (mean**2 + np.exp(logvar) - 1 - logvar).sum(axis=(1, 2, 3))
    assert found == pytest.approx(expected + kl_weight * kl.mean() / 256, rel=1e-4)


def noise_of(stage: VaeTask, network: torch.nn.Module, batch: Any, *, step: int) -> np.ndarray:
    """The latent that the loss drew, caught on its way to the decoder."""
    caught: list[torch.Tensor] = []
    handle = network.post_quant_conv.register_forward_pre_hook(lambda _, inputs: caught.append(inputs[0]))
    stage.loss(network, batch, step)
    handle.remove()
    return caught[0].numpy()


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
    handle = stage.network.encoder.register_forward_pre_hook(lambda _, inputs: seen.append(len(inputs[0])))
    with torch.inference_mode():
        stage.validate(stage.network, torch.device("cpu"))
    handle.remove()
    assert sum(seen) == used


CHANGES: dict[str, Any] = {
    "channels": (8, 8, 8, 8),
    "reconstruction": "l1",
    "kl_weight": 0.5,
    "frames_per_clip": 1,
    "val_frames": 1,
    "loop": LOOP.model_copy(update={"epochs": 1, "learning_rate": 1e-4}).model_dump(),
}


ONE_EPOCH = LOOP.model_copy(update={"epochs": 1}).model_dump()


def trace(store: LatentStore, folder: Path, **changes: Any) -> list[float]:
    network, state = train_vae(store, with_changes(**{"loop": ONE_EPOCH} | changes), folder, seed=0)
    figures = [value for key, value in state.history[-1].items() if key != "seconds"]
    return [*figures, sum(p.numel() for p in network.parameters())]


@pytest.fixture(scope="module")
def base_trace(store: LatentStore, tmp_path_factory: pytest.TempPathFactory) -> list[float]:
    return trace(store, tmp_path_factory.mktemp("base"))


@pytest.mark.parametrize("name", VaeTraining.model_fields)
def test_every_setting_changes_the_training(
    store: LatentStore, tmp_path: Path, base_trace: list[float], name: str
) -> None:
    assert trace(store, tmp_path, **{name: CHANGES[name]}) != base_trace


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
    with pytest.raises(InputError, match=r"multiples of 8, found 12×16.*frames\.height"):
        train_vae(store, TINY, tmp_path / "out", seed=0)


@pytest.mark.parametrize(
    ("name", "value"),
    [("channels", (6, 8, 8, 8)), ("kl_weight", -1.0), ("frames_per_clip", 0), ("val_frames", 0), ("width", 3)],
)
def test_settings_that_cannot_work_are_refused_by_name(name: str, value: object) -> None:
    with pytest.raises(ConfigError, match=name):
        with_changes(**{name: value})
