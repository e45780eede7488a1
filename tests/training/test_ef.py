from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from mnemoscope.core.config import build
from mnemoscope.core.errors import CorruptFile, DegenerateValues, InputError, TooFewSamples
from mnemoscope.latents.store import LatentStore
from mnemoscope.models.ef import EfArchitecture, R2Plus1D, load_ef
from mnemoscope.models.initial import named_weights
from mnemoscope.training import ef as ef_training
from mnemoscope.training.ef import EfTask, EfTraining, paper_training, shifted, train_ef
from mnemoscope.training.loop import LoopConfig, learning_rate
from tests.toys import ToyClip, write_store

SIDE, FRAMES = 8, 6
ARCHITECTURE = EfArchitecture(channels=1, stem=2, widths=(4, 6), blocks=1)
TINY = EfTraining(
    architecture=ARCHITECTURE,
    n_frames=4,
    shift_px=0,
    windows=1,
    draws=None,
    loop=LoopConfig(epochs=2, batch_size=4, learning_rate=1e-2, optimizer="adamw"),
)


def with_changes(**changes: Any) -> EfTraining:
    return build(EfTraining, TINY.model_dump() | changes)


def beating(ef: float, number: int) -> np.ndarray:
    """A clip (T, 1, H, W) whose darkest frame is EF percent darker than its brightest."""
    wave = 1 - ef / 100 * ((np.arange(FRAMES) + number) % 2)
    values = (200 * wave)[:, None, None, None] + np.random.default_rng(number).normal(0, 2, (FRAMES, 1, SIDE, SIDE))
    return np.clip(values, 0, 255).astype(np.uint8)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> LatentStore:
    """40 train and 8 val clips, all of their own EF."""
    ef = np.random.default_rng(0).permutation(np.linspace(10, 90, 48))
    clips = {
        f"c{i:02d}": ToyClip(beating(value, i), f"p{i:02d}", "train" if i < 40 else "val") for i, value in enumerate(ef)
    }
    return write_store(tmp_path_factory.mktemp("ef") / "store", clips, space="image", columns={"ef": ef})


def task(store: LatentStore, *, seed: int = 0, **changes: Any) -> EfTask:
    recipe = with_changes(**changes)
    clips, val = store.of_split("train"), store.of_split("val")
    record = ef_training._record(store, recipe, clips)
    with named_weights(0, "test"):
        network = R2Plus1D(ARCHITECTURE)
    return EfTask(network, record, store, clips=clips, val=val, recipe=recipe, seed=seed)


def test_a_batch_depends_on_seed_epoch_and_index_alone(store: LatentStore) -> None:
    stage, indices = task(store, shift_px=2), np.arange(12)
    whole = stage.batch(3, indices)
    np.random.default_rng(0).random()
    mixed = np.random.default_rng(1).permutation(12)
    for some in (mixed, mixed[:1]):
        found = task(store, shift_px=2).batch(3, some)
        assert all(torch.equal(found[name], whole[name][some]) for name in whole)
    for other in (stage.batch(4, indices), task(store, shift_px=2, seed=1).batch(3, indices)):
        assert not torch.equal(other["x"], whole["x"])


@pytest.mark.parametrize(("draws", "each"), [(None, 1), (120, 3), (10, None)])
def test_every_clip_is_drawn_before_one_is_drawn_again(store: LatentStore, draws: int | None, each: int | None) -> None:
    stage = task(store, draws=draws)
    assert stage.examples() == (draws or 40)
    drawn = stage.batch(0, np.arange(stage.examples()))["ef"].tolist()
    counts = pd.Series(drawn).value_counts()
    assert set(counts) == {each or 1}
    assert len(counts) == (40 if each else draws)
    if not each:
        assert set(drawn) != set(stage.batch(1, np.arange(10))["ef"].tolist())


def test_a_window_is_a_stretch_of_its_clip_in_units_of_the_train_clips(store: LatentStore) -> None:
    stage, clips = task(store), store.of_split("train")
    pixels = np.concatenate([frames for _, frames in store.clips_of(clips)]).astype(np.float64)
    batch = stage.batch(0, np.arange(40))
    starts = set()
    for window, ef in zip(batch["x"][:, 0].numpy(), batch["ef"].tolist(), strict=True):
        row = clips.loc[(clips["ef"] - ef).abs().idxmin()]
        scaled = (store.clip(row)[:, 0] - pixels.mean()) / pixels.std()
        found = [s for s in range(3) if np.allclose(window, scaled[s : s + 4], atol=1e-4)]
        assert len(found) == 1
        starts.add(found[0])
    assert starts == {0, 1, 2}


def test_a_shift_is_a_cut_out_of_the_padded_window() -> None:
    window = np.random.default_rng(0).normal(size=(2, 5, 7))
    padded = np.pad(window, ((0, 0), (3, 3), (3, 3)))
    for down in range(-3, 4):
        for right in range(-3, 4):
            expected = padded[:, 3 - down : 8 - down, 3 - right : 10 - right]
            np.testing.assert_array_equal(shifted(window, down, right), expected)


def test_loss_and_validation_are_squared_errors(store: LatentStore) -> None:
    stage = task(store)
    network = stage.network.eval()
    batch = stage.batch(0, np.arange(5))
    predicted = network(batch["x"]).detach().numpy()[:, 0]
    loss = float(stage.loss(network, batch, 0).detach())
    assert loss == pytest.approx(np.mean((predicted - batch["ef"].numpy()) ** 2), rel=1e-5)
    val = store.of_split("val")
    with torch.inference_mode():
        found = stage.validate(network, torch.device("cpu"))["loss"]
        middle = [stage._record.window(store.clip(row)[:, 0], 1) for _, row in val.iterrows()]
        errors = network(torch.from_numpy(np.stack(middle))[:, None])[:, 0].numpy() - val["ef"].to_numpy()
    assert found == pytest.approx(np.mean(errors**2), rel=1e-5)


def test_training_learns_to_read_and_comes_back(store: LatentStore, tmp_path: Path) -> None:
    loop = LoopConfig(epochs=25, batch_size=8, learning_rate=2e-2, optimizer="adamw", schedule="cosine")
    model, state = train_ef(store, with_changes(loop=loop), tmp_path, seed=0)
    val = store.of_split("val")
    read = np.array([load_ef(tmp_path / "model").read(frames[:, 0]) for _, frames in store.clips_of(val)])
    assert np.abs(read - val["ef"].to_numpy()).mean() < 8
    assert read.tolist() == [model.read(frames[:, 0]) for _, frames in store.clips_of(val)]
    assert state.best_loss == min(row["val_loss"] for row in state.history)


def test_the_same_seed_gives_the_same_model_and_another_another(store: LatentStore, tmp_path: Path) -> None:
    made = {}
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        train_ef(store, TINY, tmp_path / name, seed=seed)
        made[name] = (tmp_path / name / "model" / "model.safetensors").read_bytes()
    assert made["a"] == made["b"] != made["c"]


def test_other_labels_and_other_clips_can_be_given(store: LatentStore, tmp_path: Path) -> None:
    clips = store.of_split("train").iloc[:12].assign(ef=lambda rows: 100 - rows["ef"])
    model, _ = train_ef(
        store, with_changes(loop={"epochs": 1, "learning_rate": 1e-9}), tmp_path, clips=clips, val=clips, seed=0
    )
    assert float(model.network.fc.bias.detach()[0]) == pytest.approx(clips["ef"].mean(), rel=1e-4)
    pixels = np.concatenate([frames for _, frames in store.clips_of(clips)]).astype(np.float64)
    assert (model.record.mean, model.record.std) == pytest.approx((pixels.mean(), pixels.std()))


@pytest.mark.parametrize("outputs", [1, 400])
def test_a_training_can_start_from_weights(store: LatentStore, tmp_path: Path, outputs: int) -> None:
    with named_weights(7, "other"):
        weights = R2Plus1D(ARCHITECTURE, outputs=outputs).state_dict()
    torch.save({"state_dict": {f"module.{name}": value for name, value in weights.items()}}, tmp_path / "w.pt")
    still = with_changes(start=str(tmp_path / "w.pt"), loop={"epochs": 1, "learning_rate": 1e-12, "optimizer": "sgd"})
    model, _ = train_ef(store, still, tmp_path / "out", seed=0)
    found = model.network.state_dict()
    torch.testing.assert_close(found["stem.0.weight"], weights["stem.0.weight"])
    bias = weights["fc.bias"][0] if outputs == 1 else torch.tensor(store.of_split("train")["ef"].mean()).float()
    torch.testing.assert_close(found["fc.bias"][0], bias)
    with pytest.raises(CorruptFile, match=r"nowhere\.pt"):
        train_ef(store, with_changes(start=str(tmp_path / "nowhere.pt")), tmp_path / "no", seed=0)


def test_what_cannot_be_trained_on_is_refused(store: LatentStore, tmp_path: Path) -> None:
    train = store.of_split("train")
    with pytest.raises(TooFewSamples, match=r"expected at least 10 clips with EF.*found 9 and 8"):
        train_ef(store, TINY, tmp_path, clips=train.iloc[:9], seed=0)
    with pytest.raises(TooFewSamples, match=r"found 40 and 0"):
        train_ef(store, TINY, tmp_path, val=train.iloc[:0], seed=0)
    with pytest.raises(DegenerateValues, match=r"all 40 have 55 %"):
        train_ef(store, TINY, tmp_path, clips=train.assign(ef=55.0), seed=0)
    latents = write_store(tmp_path / "latents", {"a": ToyClip(np.zeros((2, 1, 4, 4)), "p")} | _noise())
    with pytest.raises(InputError, match=r"holds latents.*--space image"):
        train_ef(latents, TINY, tmp_path, clips=train, val=train, seed=0)
    assert not (tmp_path / "model").exists()


def _noise() -> dict[str, ToyClip]:
    return {"b": ToyClip(np.random.default_rng(0).normal(size=(3, 1, 4, 4)).astype(np.float16), "q")}


def test_the_papers_recipe_is_its_text() -> None:
    recipe = paper_training()
    assert (recipe.n_frames, recipe.period, recipe.windows, recipe.architecture) == (32, 2, None, EfArchitecture())
    loop = recipe.loop
    assert (loop.optimizer, loop.weight_decay, loop.batch_size, loop.epochs) == ("sgd", 1e-4, 20, 45)
    rates = [learning_rate(loop, epoch * 10, 450) for epoch in (0, 14, 15, 29, 30, 44)]
    assert rates == pytest.approx([1e-4, 1e-4, 1e-5, 1e-5, 1e-6, 1e-6])
