from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from mnemoscope.core.config import build
from mnemoscope.core.errors import ConfigError, DegenerateValues, InputError, TooFewSamples
from mnemoscope.core.files import read_json
from mnemoscope.latents.store import LatentStore
from mnemoscope.models.generator import noise_schedule
from mnemoscope.models.initial import named_weights
from mnemoscope.models.lidm import load_lidm
from mnemoscope.models.reid import Reid, ReidArchitecture, ReidModel
from mnemoscope.training import lidm as lidm_training
from mnemoscope.training.checkpoint import load_checkpoint
from mnemoscope.training.diffusion import class_numbers, drawn_noise, even_steps
from mnemoscope.training.lidm import PRESETS, LidmTask, LidmTraining, paper_training, train_lidm
from mnemoscope.training.loop import BEST, CHECKPOINT, LoopConfig
from tests.tiny_generators import LIDM, coded_frames, tiny_lidm, write_cohort
from tests.toys import ToyClip, noise_clips, write_store
from tests.training.launching import launch

LOOP = LoopConfig(
    epochs=2, batch_size=4, learning_rate=3e-3, optimizer="adamw", ema_decay=0.9, keep="last", checkpoint_every_steps=1
)
TINY = LidmTraining(architecture=LIDM, frames_per_clip=2, val_frames=4, loop=LOOP)
COUNTS = (5, 3, 4, 1, 6)
SPLITS = ("train", "val", "train", "train", "holdout")
TRAIN = (0, 2, 3)
VIEWS = {"view": ["psax", "a4c", "a4c", "plax", "a4c"]}
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> LatentStore:
    frames = [coded_frames(i, count) for i, count in enumerate(COUNTS)]
    return write_cohort(tmp_path_factory.mktemp("lidm") / "store", frames, splits=SPLITS, columns=VIEWS)


def with_changes(**changes: Any) -> LidmTraining:
    return build(LidmTraining, TINY.model_dump() | changes)


def task(store: LatentStore, network: nn.Module | None = None, *, seed: int = 0, **changes: Any) -> LidmTask:
    names, numbers = class_numbers(store.clips, changes.get("classes"))
    network = network or tiny_lidm(n_classes=len(names))
    return LidmTask(network, store, numbers, recipe=with_changes(**changes), seed=seed)


def code(store: LatentStore, frame: np.ndarray) -> tuple[int, int]:
    """(clip, number) of a standardised coded frame."""
    value = round(float(store.record.scaling.invert(frame, "standard")[0, 0, 0]))
    return divmod(value, 64)


def same(a: Mapping[str, Tensor], b: Mapping[str, Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


class Halves(nn.Module):
    """A prediction that is known: half the input, a thousandth of the step, and the class."""

    n_classes = 2

    def forward(self, x: Tensor, t: Tensor, classes: Tensor) -> Tensor:
        return x / 2 + (t / 1000 + classes)[:, None, None, None]


def test_a_batch_depends_on_seed_epoch_and_index_alone(store: LatentStore) -> None:
    stage, indices = task(store, frames_per_clip=4, classes="view"), np.arange(12)
    whole = stage.batch(2, indices)
    np.random.default_rng(0).random()
    shuffled = np.random.default_rng(1).permutation(12)
    assert same(stage.batch(2, shuffled), {name: value[shuffled] for name, value in whole.items()})
    for i in indices:
        assert same(stage.batch(2, indices[[i]]), {name: value[[i]] for name, value in whole.items()})
    assert same(task(store, frames_per_clip=4, classes="view").batch(2, indices), whole)
    for other in (stage.batch(3, indices), task(store, frames_per_clip=4, classes="view", seed=1).batch(2, indices)):
        assert not any(torch.equal(other[name], whole[name]) for name in ("x", "noise", "t"))


def test_every_train_frame_is_drawn_and_no_other(store: LatentStore) -> None:
    stage = task(store, frames_per_clip=60)
    assert stage.examples() == 180
    found = [code(store, frame) for frame in stage.batch(0, np.arange(180))["x"].numpy()]
    assert [clip for clip, _ in found] == list(TRAIN) * 60
    assert set(found) == {(clip, k) for clip in TRAIN for k in range(COUNTS[clip])}


@pytest.mark.parametrize(("evenness", "chances"), [(1.0, (1 / 4, 1 / 4, 1 / 2)), (0.0, (1 / 3, 1 / 3, 1 / 3))])
def test_patients_are_drawn_evenly_however_many_clips_they_have(
    tmp_path: Path, evenness: float, chances: tuple[float, ...]
) -> None:
    """Two clips of one patient, one of another; within five standard deviations of the binomial."""
    frames = [coded_frames(i, count) for i, count in enumerate(COUNTS)]
    patients = {"patient_id": ["often", "val", "often", "once", "holdout"]}
    two = write_cohort(tmp_path / "store", frames, splits=SPLITS, columns=patients)
    drawn = task(two, frames_per_clip=200, patient_evenness=evenness).batch(0, np.arange(600))["x"].numpy()
    clips = np.array([code(two, frame)[0] for frame in drawn])
    for clip, chance in zip(TRAIN, chances, strict=True):
        assert (clips == clip).sum() == pytest.approx(600 * chance, abs=5 * (600 * chance * (1 - chance)) ** 0.5)


def test_frames_are_standardised_with_the_constants_of_the_store(store: LatentStore) -> None:
    [frame] = task(store).batch(0, np.array([1]))["x"].double().numpy()
    clip, number = code(store, frame.astype(np.float32))
    constants = store.record.scaling
    raw = coded_frames(clip, COUNTS[clip])[number].astype(np.float64)
    expected = (raw - np.array(constants.mean)[:, None, None]) / np.array(constants.std)[:, None, None]
    np.testing.assert_allclose(frame, expected, rtol=1e-5, atol=1e-6)


def test_steps_are_spread_evenly(store: LatentStore) -> None:
    t = task(store, frames_per_clip=200).batch(0, np.arange(600))["t"]
    assert (t.dtype, bool((t >= 0).all()), bool((t < 1000).all())) == (torch.int64, True, True)
    assert float(t.double().mean()) == pytest.approx(499.5, abs=5 * 1000 / 12**0.5 / 600**0.5)
    assert (int(t.min()) < 50, int(t.max()) >= 950) == (True, True)


@pytest.mark.parametrize("dropout", [0.0, 0.3])
def test_classes_are_the_clip_s_own_but_for_the_share_that_is_dropped(store: LatentStore, dropout: float) -> None:
    """Names in order: a4c 0, plax 1, psax 2, any 3. Within five standard deviations of the binomial."""
    stage = task(store, frames_per_clip=200, classes="view", class_dropout=dropout)
    batch = stage.batch(0, np.arange(600))
    own = torch.tensor([2, 0, 1]).repeat(200)
    dropped = batch["classes"] == 3
    assert torch.equal(batch["classes"][~dropped], own[~dropped])
    assert int(dropped.sum()) == pytest.approx(600 * dropout, abs=5 * (600 * dropout * (1 - dropout)) ** 0.5)


def test_without_a_column_every_class_is_the_same(store: LatentStore) -> None:
    assert set(task(store, frames_per_clip=20).batch(0, np.arange(60))["classes"].tolist()) == {0}


def test_the_loss_by_hand(store: LatentStore) -> None:
    stage = task(store, Halves(), classes="view", class_dropout=0.3)
    batch = stage.batch(1, np.arange(6))
    x, noise, t, classes = (batch[name].double().numpy() for name in ("x", "noise", "t", "classes"))
    alpha = np.cumprod(1 - np.linspace(1e-4, 0.02, 1000))[t.astype(int)][:, None, None, None]
    noised = np.sqrt(alpha) * x + np.sqrt(1 - alpha) * noise
    error = noised / 2 + (t / 1000 + classes)[:, None, None, None] - np.sqrt(alpha) * noise + np.sqrt(1 - alpha) * x
    assert float(stage.loss(stage.network, batch, 0)) == pytest.approx((error**2).mean(), rel=1e-5)


@pytest.mark.parametrize(("asked", "frames"), [(1, [0]), (2, [0, 1]), (100, [0, 1, 2])])
@pytest.mark.parametrize("block", [1, 2, 128])
def test_validation_by_hand(
    store: LatentStore, monkeypatch: pytest.MonkeyPatch, asked: int, frames: list[int], block: int
) -> None:
    """Frames of the val clip (c1, class a4c 0), the same noise for each every time, steps all over the schedule."""
    monkeypatch.setattr(lidm_training, "_VAL_BLOCK", block)
    stage = task(store, Halves(), val_frames=asked, classes="view")
    x = torch.from_numpy(store.record.scaling.apply(coded_frames(1, 3)[frames], "standard"))
    noise = torch.from_numpy(np.stack([drawn_noise(0, ("val", i), (2, 4, 4)) for i in range(len(frames))]))
    t, schedule = torch.from_numpy(even_steps(len(frames))), noise_schedule()
    predicted = Halves()(schedule.add_noise(x, noise, t), t, torch.zeros(len(frames)))
    expected = (predicted - schedule.get_velocity(x, noise, t)).double().square().mean()
    assert stage.validate(stage.network, CPU) == {"loss": pytest.approx(float(expected), rel=1e-5)}


def test_validation_says_the_same_whatever_was_drawn_before(store: LatentStore) -> None:
    stage = task(store)
    with torch.inference_mode():
        first = stage.validate(stage.network, CPU)
        stage.batch(0, np.arange(6))
        torch.randn(5)
        assert stage.validate(stage.network, CPU) == first
        assert task(store, seed=1).validate(stage.network, CPU) != first


def test_a_few_steps_reduce_the_error_and_the_model_can_be_used(tmp_path: Path) -> None:
    """One picture over and over, whose v follows from its noisy version; predicting nothing has an error of 1."""
    picture = np.where(np.indices((4, 4)).sum(axis=0) % 2 == 0, 1.0, -1.0)
    frames = np.broadcast_to(picture, (8, 2, 4, 4)).astype(np.float16)
    toy = write_cohort(tmp_path / "store", [frames, frames], splits=("train", "val"), columns={})
    loop = LOOP.model_copy(update={"epochs": 5, "batch_size": 16, "checkpoint_every_steps": 1000})
    recipe = with_changes(frames_per_clip=64, val_frames=8, loop=loop.model_dump())
    network, state = train_lidm(toy, recipe, tmp_path, seed=0)
    losses = [row["val_loss"] for row in state.history]
    assert losses == sorted(losses, reverse=True)
    assert losses[-1] < 0.5
    assert state.history[-1]["train_loss"] < state.history[0]["train_loss"]
    loaded, record = load_lidm(tmp_path / "model")
    record.require_store(toy, what="the LIDM")
    x, t = torch.from_numpy(frames[:2].astype(np.float32)), torch.tensor([100, 900])
    with torch.inference_mode():
        torch.testing.assert_close(loaded(x, t), network.eval()(x, t))


def test_the_record_says_what_was_trained_on(store: LatentStore, tmp_path: Path) -> None:
    train_lidm(store, with_changes(classes="view"), tmp_path, seed=0)
    network, record = load_lidm(tmp_path / "model")
    assert (record.kind, record.frame_shape, record.height, record.width) == ("lidm", (2, 4, 4), 32, 48)
    assert (record.classes, record.fps, record.window_frames) == (("a4c", "plax", "psax"), None, None)
    assert network.n_classes == 3
    record.require_store(store, what="the LIDM")


def test_the_written_model_is_the_moving_average(store: LatentStore, tmp_path: Path) -> None:
    train_lidm(store, TINY, tmp_path, seed=0)
    written = load_lidm(tmp_path / "model")[0].state_dict()
    assert same(written, load_file(tmp_path / "training" / BEST))
    assert not same(written, load_checkpoint(tmp_path / "training" / CHECKPOINT)["network"])


@pytest.mark.parametrize("step", [0, 1, 3])
def test_a_killed_training_goes_on_to_the_same_numbers(
    store: LatentStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: int
) -> None:
    class Killed(LidmTask):
        def loss(self, network: nn.Module, batch: Mapping[str, Tensor], now: int) -> Tensor:
            if now == step:
                raise KeyboardInterrupt
            return super().loss(network, batch, now)

    whole, state = train_lidm(store, TINY, tmp_path / "whole", seed=0)
    with monkeypatch.context() as patch:
        patch.setattr(lidm_training, "LidmTask", Killed)
        with pytest.raises(KeyboardInterrupt):
            train_lidm(store, TINY, tmp_path / "killed", seed=0)
    assert not (tmp_path / "killed" / "model").exists()
    again, resumed = train_lidm(store, TINY, tmp_path / "killed", seed=0)
    assert (state.step, resumed.step) == (4, 4)
    assert same(again.state_dict(), whole.state_dict())
    assert [untimed(row) for row in resumed.history] == [untimed(row) for row in state.history]
    own = [load_checkpoint(tmp_path / name / "training" / CHECKPOINT) for name in ("whole", "killed")]
    assert same(own[1]["network"], own[0]["network"])
    shadows = [saved["average"]["shadow_params"] for saved in own]
    assert all(torch.equal(a, b) for a, b in zip(*shadows, strict=True))


def untimed(row: Mapping[str, float]) -> dict[str, float]:
    return {name: value for name, value in row.items() if name != "seconds"}


def test_a_loss_that_is_nan_stops_the_training_with_its_place(
    store: LatentStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Diverging(LidmTask):
        def loss(self, network: nn.Module, batch: Mapping[str, Tensor], now: int) -> Tensor:
            return super().loss(network, batch, now) * (float("nan") if now == 3 else 1)

    monkeypatch.setattr(lidm_training, "LidmTask", Diverging)
    with pytest.raises(DegenerateValues, match=r"nan at step 3 \(epoch 1, batch 1\); lower the learning rate.*lidm"):
        train_lidm(store, TINY, tmp_path, seed=0)
    assert not (tmp_path / "model").exists()


def test_the_same_seed_gives_the_same_weights_and_another_seed_others(store: LatentStore, tmp_path: Path) -> None:
    def weights(folder: str, seed: int) -> dict[str, Tensor]:
        return train_lidm(store, TINY, tmp_path / folder, seed=seed)[0].state_dict()

    first = weights("a", 0)
    torch.randn(5)
    assert same(weights("b", 0), first)
    assert not same(weights("c", 1), first)


def test_the_paper_preset_has_the_sizes_of_the_paper() -> None:
    paper = paper_training()
    assert set(PRESETS) == {"small", "paper"}
    assert paper.architecture.channels == (128, 256, 256, 512)
    assert (paper.frames_per_clip, paper.loop.batch_size, paper.loop.learning_rate) == (1, 256, 3e-4)
    assert (paper.loop.optimizer, paper.loop.weight_decay, paper.loop.precision) == ("adamw", 1e-2, "fp16")
    assert paper.loop.ema_decay is not None
    assert paper.loop.epochs * -(-7465 // 256) == pytest.approx(500_000, rel=1e-3)


CHANGES: dict[str, Any] = {
    "architecture": LIDM.model_copy(update={"layers": 2}).model_dump(),
    "frames_per_clip": 1,
    "patient_evenness": 1.0,
    "classes": "view",
    "class_dropout": 0.9,
    "val_frames": 1,
    "loop": LOOP.model_copy(update={"learning_rate": 1e-4}).model_dump(),
}


@pytest.fixture(scope="module")
def base_trace(store: LatentStore, tmp_path_factory: pytest.TempPathFactory) -> list[float]:
    return trace(store, tmp_path_factory.mktemp("base"))


def own_reid(store: LatentStore, *, seed: int) -> ReidModel:
    """A re-identification model of the store's latents."""
    architecture = ReidArchitecture(
        backbone="compact", stem="dense", head="monotone", scaling="standard", channels=2, features=8
    )
    with named_weights(seed, "tiny"):
        network = Reid(architecture)
    return ReidModel(network, scaling=store.record.scaling, encoder=store.record.encoder, preset="toy")


def trace(store: LatentStore, folder: Path, **changes: Any) -> list[float]:
    network, state = train_lidm(store, with_changes(**changes), folder, seed=0)
    return [*untimed(state.history[-1]).values(), sum(p.numel() for p in network.parameters())]


@pytest.mark.parametrize("name", LidmTraining.model_fields)
def test_every_setting_changes_the_training(
    store: LatentStore, tmp_path: Path, base_trace: list[float], name: str
) -> None:
    base = base_trace
    if name == "class_dropout":
        base = trace(store, tmp_path / "base", classes="view")
        found = trace(store, tmp_path / "changed", classes="view", class_dropout=CHANGES[name])
    elif name in ("clusters", "reid"):  # each needs the other
        models = {key: tmp_path / key for key in ("some", "others")}
        for seed, folder in enumerate(models.values()):
            own_reid(store, seed=seed).save(folder)
        base = trace(store, tmp_path / "base", clusters=2, reid=str(models["some"]))
        other = {"clusters": 3} if name == "clusters" else {"reid": str(models["others"])}
        found = trace(store, tmp_path / "changed", **{"clusters": 2, "reid": str(models["some"])} | other)
    elif name == "patient_evenness":
        frames = [coded_frames(i, count) for i, count in enumerate(COUNTS)]
        patients = {"patient_id": ["often", "val", "often", "once", "holdout"]}
        store = write_cohort(tmp_path / "store", frames, splits=SPLITS, columns=patients)
        found = trace(store, tmp_path / "changed", patient_evenness=CHANGES[name])
        base = trace(store, tmp_path / "base")
    elif name == "start":
        train_lidm(store, TINY, tmp_path / "first", seed=7)
        found = trace(store, tmp_path / "changed", start=str(tmp_path / "first" / "model"))
    else:
        found = trace(store, tmp_path / "changed", **{name: CHANGES[name]})
    assert found != base


def test_the_same_settings_give_the_same_training(store: LatentStore, tmp_path: Path, base_trace: list[float]) -> None:
    assert trace(store, tmp_path) == base_trace


def test_classes_are_the_clusters_and_a_model_without_classes_is_a_start(store: LatentStore, tmp_path: Path) -> None:
    """With next to no learning rate every class is what the model without classes drew."""
    first, _ = train_lidm(store, TINY, tmp_path / "first", seed=0)
    own_reid(store, seed=0).save(tmp_path / "reid")
    still = LOOP.model_copy(update={"learning_rate": 1e-12, "weight_decay": 0.0}).model_dump()
    changes = {"clusters": 2, "reid": str(tmp_path / "reid"), "start": str(tmp_path / "first" / "model"), "loop": still}
    train_lidm(store, with_changes(**changes), tmp_path / "again", seed=9)
    network, record = load_lidm(tmp_path / "again" / "model")
    assert (record.classes, network.n_classes) == (("0000", "0001"), 2)
    x, t = torch.randn(3, 2, 4, 4, generator=torch.Generator().manual_seed(0)), torch.tensor([10, 500, 990])
    with torch.inference_mode():
        torch.testing.assert_close(network(x, t, torch.tensor([0, 1, 2])), first.eval()(x, t), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("clusters", 2),
        ("frames_per_clip", 0),
        ("class_dropout", 1.0),
        ("class_dropout", -0.1),
        ("val_frames", 0),
        ("architecture", {"channels": (16, 24)}),
        ("width", 3),
    ],
)
def test_settings_that_cannot_work_are_refused_by_name(name: str, value: object) -> None:
    with pytest.raises(ConfigError, match=name):
        with_changes(**{name: value})


def test_stores_that_cannot_be_learned_are_refused_before_anything_is_written(
    store: LatentStore, tmp_path: Path
) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (3, 1, 4, 4)).astype(np.uint8)
    image = write_store(tmp_path / "image", {"a": ToyClip(pixels, "p")}, space="image")
    with pytest.raises(InputError, match=r"image: holds pixels.*--space latent"):
        train_lidm(image, TINY, tmp_path / "out", seed=0)
    no_val = write_store(tmp_path / "no_val", noise_clips([3, 3], shape=(2, 4, 4)))
    with pytest.raises(TooFewSamples, match="expected train and val clips, found 2 and 0"):
        train_lidm(no_val, TINY, tmp_path / "out", seed=0)
    with pytest.raises(InputError, match="--set classes=cluster: expected a column"):
        train_lidm(store, with_changes(classes="cluster"), tmp_path / "out", seed=0)
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_two_processes_give_the_curve_of_one(store: LatentStore, tmp_path: Path) -> None:
    script = f"""
import json, os, sys
from pathlib import Path
from mnemoscope.core.config import build
from mnemoscope.core.files import read_json
from mnemoscope.latents.store import LatentStore
from mnemoscope.training.lidm import LidmTraining, train_lidm
rank, out = os.environ.get("RANK", "0"), Path(sys.argv[1])
recipe = build(LidmTraining, {with_changes(frames_per_clip=4).model_dump()!r})
network, state = train_lidm(LatentStore(Path({str(store.folder)!r})), recipe, out / "run", seed=0)
weights = [float(p.detach().double().sum()) for p in network.parameters()]
curve = [[row["train_loss"], row["val_loss"]] for row in state.history]
(out / f"{{rank}}.json").write_text(json.dumps({{"weights": weights, "curve": curve, "steps": state.step}}))
"""
    [one] = launch(script, tmp_path / "one", processes=1)
    first, second = launch(script, tmp_path / "two", processes=2)
    assert first == second
    assert first["steps"] == one["steps"] == 6
    np.testing.assert_allclose(first["curve"], one["curve"], rtol=1e-3)
    assert load_lidm(tmp_path / "two" / "run" / "model")[1] == load_lidm(tmp_path / "one" / "run" / "model")[1]


@pytest.mark.slow
def test_two_processes_train_by_the_command_and_find_the_finished_model_again(
    store: LatentStore, tmp_path: Path
) -> None:
    script = f"""
import json, os, sys, time
from pathlib import Path
from mnemoscope.cli.train import LidmConfig, train_lidm_model
rank, out = os.environ["RANK"], Path(sys.argv[1])
time.sleep(3 * (rank == "0"))  # the other process comes first
config = LidmConfig(lidm={with_changes(frames_per_clip=4).model_dump()!r}, seed=0)
models = [train_lidm_model(store=Path({str(store.folder)!r}), out=out / "run", config=config) for _ in range(2)]
found = [(model / "generator.json").is_file() for model in models]
(out / f"{{rank}}.json").write_text(json.dumps({{"found": found}}))
"""
    assert launch(script, tmp_path / "two", processes=2) == [{"found": [True, True]}] * 2
    run = read_json(tmp_path / "two" / "run" / "run.json")
    assert (run["status"], run["stages"]["lidm"]["reused"]) == ("done", True)
    assert sorted(p.name for p in (tmp_path / "two" / "run").iterdir()) == ["lidm", "run.json"]
