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
from mnemoscope.latents.store import LatentStore
from mnemoscope.models.generator import noise_schedule
from mnemoscope.models.lvdm import Condition, load_lvdm
from mnemoscope.training import lvdm as lvdm_training
from mnemoscope.training.checkpoint import load_checkpoint
from mnemoscope.training.diffusion import drawn_noise
from mnemoscope.training.loop import BEST, CHECKPOINT, LoopConfig
from mnemoscope.training.lvdm import PRESETS, LvdmTask, LvdmTraining, paper_training, train_lvdm
from tests.tiny_generators import LVDM, coded_frames, tiny_lvdm, write_cohort
from tests.toys import ToyClip, write_store

LOOP = LoopConfig(
    epochs=2, batch_size=3, learning_rate=3e-3, optimizer="adamw", ema_decay=0.9, keep="last", checkpoint_every_steps=1
)
TINY = LvdmTraining(
    architecture=LVDM,
    window_frames=4,
    windows_per_clip=2,
    anchored=False,
    class_dropout=0.0,
    val_windows=3,
    loop=LOOP,
)
COUNTS = (7, 5, 2, 9)
SPLITS = ("train", "val", "train", "holdout")
EF = (62.0, 40.0, 31.0, 55.0)
COLUMNS = {"ef": EF, "fps": [50.0] * 4, "view": ["psax", "a4c", "a4c", "a4c"]}
CPU = torch.device("cpu")
RANDOM = ("x", "noise", "t")


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> LatentStore:
    frames = [coded_frames(i, count) for i, count in enumerate(COUNTS)]
    return write_cohort(tmp_path_factory.mktemp("lvdm") / "store", frames, splits=SPLITS, columns=COLUMNS)


def with_changes(**changes: Any) -> LvdmTraining:
    return build(LvdmTraining, TINY.model_dump() | changes)


def task(store: LatentStore, network: nn.Module | None = None, *, seed: int = 0, **changes: Any) -> LvdmTask:
    network = network or tiny_lvdm()
    return LvdmTask(network, store, recipe=with_changes(**changes), seed=seed)


def codes(store: LatentStore, frames: Tensor) -> np.ndarray:
    """Clip and number of each standardised coded frame (…, C, h, w), (…, 2)."""
    values = store.record.scaling.invert(frames.numpy(), "standard")[..., 0, 0, 0].round().astype(int)
    return np.stack(np.divmod(values, 64), axis=-1)


def same(a: Mapping[str, Tensor], b: Mapping[str, Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def untimed(row: Mapping[str, float]) -> dict[str, float]:
    return {name: value for name, value in row.items() if name != "seconds"}


class Halves(nn.Module):
    """A prediction that is known, frame by frame: half the input, a thousandth of the step, a hundredth of EF."""

    def forward(self, x: Tensor, t: Tensor, condition: Condition) -> Tensor:
        return x / 2 + (t / 1000 + condition.ef / 100)[:, None, None, None, None]


def test_a_batch_depends_on_seed_epoch_and_index_alone(store: LatentStore) -> None:
    stage, indices = task(store, classes="view", class_dropout=0.5), np.arange(8)
    whole = stage.batch(2, indices)
    np.random.default_rng(0).random()
    shuffled = np.random.default_rng(1).permutation(8)
    assert same(stage.batch(2, shuffled), {name: value[shuffled] for name, value in whole.items()})
    for i in indices:
        assert same(stage.batch(2, indices[[i]]), {name: value[[i]] for name, value in whole.items()})
    for other in (stage.batch(3, indices), task(store, seed=1).batch(2, indices)):
        assert not any(torch.equal(other[name], whole[name]) for name in RANDOM)


def test_a_window_is_a_piece_of_one_train_clip_with_a_frame_and_the_labels_of_that_clip(store: LatentStore) -> None:
    """Clip 0 has four places for 4 of its 7 frames; clip 2 has one, where its last frame fills up."""
    stage = task(store, windows_per_clip=200, classes="view", ef_evenness=0.0)
    assert stage.examples() == 400
    batch = stage.batch(0, np.arange(400))
    shown, found = codes(store, batch["frame"]), codes(store, batch["x"])
    places: dict[int, set[int]] = {0: set(), 2: set()}
    frames: dict[int, set[int]] = {0: set(), 2: set()}
    for row, (clip, first) in enumerate(found[:, 0]):
        numbers = [min(first + k, COUNTS[clip] - 1) for k in range(4)]
        assert found[row].tolist() == [[clip, number] for number in numbers]
        assert batch["exists"][row].tolist() == [first + k < COUNTS[clip] for k in range(4)]
        assert (shown[row, 0], float(batch["ef"][row])) == (clip, EF[clip])
        assert int(batch["classes"][row]) == {0: 1, 2: 0}[clip]
        places[clip].add(int(first))
        frames[clip].add(int(shown[row, 1]))
    assert places == {0: {0, 1, 2, 3}, 2: {0}}
    assert frames == {0: set(range(7)), 2: {0, 1}}


def test_steps_and_noise_are_those_of_their_names(store: LatentStore) -> None:
    batch = task(store, windows_per_clip=200, noise_offset=0.5).batch(4, np.arange(400))
    assert float(batch["t"].double().mean()) == pytest.approx(499.5, abs=5 * 1000 / 12**0.5 / 400**0.5)
    assert (batch["t"].dtype, int(batch["t"].min()) >= 0, int(batch["t"].max()) < 1000) == (torch.int64, True, True)
    for i in (0, 7):
        expected = drawn_noise(0, ("noise", 4, i), (4, 2, 4, 4), offset=0.5)
        np.testing.assert_array_equal(batch["noise"][i].numpy(), expected)


@pytest.mark.parametrize(
    ("frame", "ef", "classes"), [(0.0, 0.0, 0.0), (0.4, 0.0, 0.0), (0.0, 0.3, 0.0), (0.0, 0.0, 0.5), (0.2, 0.6, 0.3)]
)
def test_conditions_are_dropped_as_often_as_asked(store: LatentStore, frame: float, ef: float, classes: float) -> None:
    """Within five standard deviations of the binomial; independent of each other likewise."""
    rates = {"frame_dropout": frame, "ef_dropout": ef, "class_dropout": classes}
    batch = task(store, windows_per_clip=200, classes="view", **rates).batch(0, np.arange(400))
    dropped = [~batch["frame_given"], ~batch["ef_given"], batch["classes"] == 2]
    for found, share in [
        *zip(dropped, (frame, ef, classes), strict=True),
        (dropped[0] & dropped[1], frame * ef),
        (dropped[1] & dropped[2], ef * classes),
    ]:
        assert int(found.sum()) == pytest.approx(400 * share, abs=5 * (400 * share * (1 - share)) ** 0.5)


@pytest.mark.parametrize("evenness", [0.0, 1.0])
def test_clips_are_drawn_with_these_chances(tmp_path: Path, evenness: float) -> None:
    efs = [51.0, 52.0, 53.0, 30.0, 50.0]
    store = write_cohort(
        tmp_path / "store",
        [coded_frames(i, 4) for i in range(5)],
        splits=("train",) * 4 + ("val",),
        columns={"ef": efs, "fps": [50.0] * 5},
    )
    ef = task(store, windows_per_clip=100, ef_evenness=evenness).batch(0, np.arange(400))["ef"].numpy()
    for value, share in zip(efs, {0.0: [1 / 4] * 4, 1.0: [1 / 6] * 3 + [1 / 2]}[evenness], strict=False):
        assert (ef == value).sum() == pytest.approx(400 * share, abs=5 * (400 * share * (1 - share)) ** 0.5)


def test_the_loss_is_the_mean_over_frames_that_exist(store: LatentStore) -> None:
    stage = task(store, Halves(), ef_evenness=0.0)
    batch = dict(stage.batch(0, np.arange(6)))
    assert not bool(batch["exists"].all())
    found = float(stage.loss(stage.network, batch, 0))
    x, noise = (batch[name].double().numpy() for name in ("x", "noise"))
    alphas = np.cumprod(1 - np.linspace(1e-4, 0.02, 1000))
    errors = []
    for row, t in enumerate(batch["t"].tolist()):
        a, b = np.sqrt(alphas[t]), np.sqrt(1 - alphas[t])
        for k in np.flatnonzero(batch["exists"][row].numpy()):
            predicted = (a * x[row, k] + b * noise[row, k]) / 2 + t / 1000 + float(batch["ef"][row]) / 100
            errors.append(((predicted - a * noise[row, k] + b * x[row, k]) ** 2).mean())
    assert found == pytest.approx(np.mean(errors), rel=1e-5)
    filled = ~batch["exists"]
    for name in ("x", "noise"):
        batch[name] = torch.where(filled[:, :, None, None, None], torch.tensor(1e4), batch[name])
    assert float(stage.loss(stage.network, batch, 0)) == found


def noisy_clips(count: int, length: int) -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [rng.normal(size=(length, 2, 4, 4)).astype(np.float16) for _ in range(count)]


def test_what_is_diffused_is_motion_around_the_frame_where_one_is_shown(store: LatentStore) -> None:
    plain, anchored = (task(store, anchored=a, frame_dropout=0.5, windows_per_clip=30) for a in (False, True))
    before, after = plain.batch(0, np.arange(60)), anchored.batch(0, np.arange(60))
    assert same({**before, "x": after["x"]}, after)
    assert (plain.motion_std, anchored.motion_std is not None) == (None, True)
    for row in range(60):
        x = before["x"][row].double()
        motion = (x - before["frame"][row].double()) / float(anchored.motion_std or 0)
        expected = motion if bool(before["frame_given"][row]) else x
        torch.testing.assert_close(after["x"][row].double(), expected, rtol=1e-5, atol=1e-5)


def test_motion_has_unit_variance_where_every_frame_is_noise(tmp_path: Path) -> None:
    """n independent frames of variance 1 against one of them: 2(1 − 1/n)."""
    clips = noisy_clips(9, 10)
    columns = {"ef": [50] * 9, "fps": [25] * 9}
    noise = write_cohort(tmp_path / "store", clips, splits=("train",) * 8 + ("val",), columns=columns)
    stage = task(noise, anchored=True, window_frames=10, frame_dropout=0.0, windows_per_clip=10)
    assert stage.motion_std == pytest.approx((2 * (1 - 1 / 10)) ** 0.5, rel=0.05)
    x = stage.batch(0, np.arange(80))["x"].double()
    assert float(x.square().mean()) == pytest.approx(1, rel=0.1)


def test_what_fills_a_short_clip_does_not_count_as_motion(tmp_path: Path) -> None:
    """Three frames a clip, windows of 9: the six repeats of the last would outweigh them."""
    columns = {"ef": [50] * 9, "fps": [25] * 9}
    splits = ("train",) * 8 + ("val",)
    noise = write_cohort(tmp_path / "store", noisy_clips(9, 3), splits=splits, columns=columns)
    exact, filled = (task(noise, anchored=True, window_frames=n).motion_std for n in (3, 9))
    assert filled == pytest.approx(exact, rel=1e-9)


def test_clips_that_stand_still_are_not_divided_by_nothing(tmp_path: Path) -> None:
    clips = [np.broadcast_to(clip[:1], (6, 2, 4, 4)) for clip in noisy_clips(2, 1)]
    columns = {"ef": [50, 60], "fps": [25, 25]}
    still = write_cohort(tmp_path / "store", clips, splits=("train", "val"), columns=columns)
    stage = task(still, anchored=True, frame_dropout=0.0)
    assert stage.motion_std == 1.0
    assert not bool(stage.batch(0, np.arange(2))["x"].any())


def test_a_model_of_motion_says_so_in_its_record(store: LatentStore, tmp_path: Path) -> None:
    train_lvdm(store, with_changes(anchored=True), tmp_path, seed=0)
    measured = task(store, anchored=True).motion_std
    assert load_lvdm(tmp_path / "model")[1].motion_std == pytest.approx(measured)
    losses = [task(store, Halves(), anchored=a).validate(Halves(), CPU)["loss"] for a in (False, True)]
    assert losses[0] != losses[1]


def test_validation_by_hand(store: LatentStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """Four windows of the val clip c1 at steps 125, 375, 625, 875, all conditions given."""
    seen: list[tuple[Tensor, Tensor, Condition]] = []

    class Watching(Halves):
        def forward(self, x: Tensor, t: Tensor, condition: Condition) -> Tensor:
            seen.append((x, t, condition))
            return super().forward(x, t, condition)

    monkeypatch.setattr(lvdm_training, "_VAL_BLOCK", 3)
    stage = task(store, Watching(), val_windows=100, classes="view", class_dropout=0.9, ef_dropout=0.9)
    found = stage.validate(stage.network, CPU)["loss"]
    assert [t.tolist() for _, t, _ in seen] == [[125, 375, 625], [875]]
    schedule, errors = noise_schedule(), []
    for i in range(4):
        noised, t, condition = seen[i // 3][0][i % 3], seen[i // 3][1][[i % 3]], seen[i // 3][2]
        assert (float(condition.ef[i % 3]), int(condition.classes[i % 3])) == (40.0, 0)
        assert (bool(condition.frame_given[i % 3]), bool(condition.ef_given[i % 3])) == (True, True)
        assert int(codes(store, condition.frame[[i % 3]])[0, 0]) == 1
        noise = torch.from_numpy(drawn_noise(0, ("val", i), (4, 2, 4, 4)))
        alpha = schedule.alphas_cumprod[t]
        x = (noised - (1 - alpha).sqrt() * noise) / alpha.sqrt()
        [clip], numbers = set(codes(store, x)[:, 0].tolist()), codes(store, x)[:, 1]
        assert (clip, numbers.tolist()) == (1, list(range(numbers[0], numbers[0] + 4)))
        velocity = schedule.get_velocity(x[None], noise[None], t)
        errors.append(float((noised / 2 + float(t) / 1000 + 0.4 - velocity[0]).square().mean()))
    assert found == pytest.approx(np.mean(errors), rel=1e-4)


def test_validation_says_the_same_whatever_was_drawn_before(store: LatentStore) -> None:
    stage = task(store)
    with torch.inference_mode():
        first = stage.validate(stage.network, CPU)
        stage.batch(0, np.arange(4))
        torch.randn(5)
        assert stage.validate(stage.network, CPU) == first
        assert task(store, seed=1).validate(stage.network, CPU) != first


def test_a_few_steps_reduce_the_error_and_the_model_can_be_used(tmp_path: Path) -> None:
    """One picture over and over, whose v follows from its noisy version; predicting nothing has an error of 1."""
    picture = np.where(np.indices((4, 4)).sum(axis=0) % 2 == 0, 1.0, -1.0)
    frames = np.broadcast_to(picture, (8, 2, 4, 4)).astype(np.float16)
    toy = write_cohort(
        tmp_path / "store", [frames, frames], splits=("train", "val"), columns={"ef": [50, 60], "fps": [25, 25]}
    )
    changes = {"epochs": 3, "batch_size": 8, "schedule": "cosine", "checkpoint_every_steps": 1000}
    loop = LOOP.model_copy(update=changes).model_dump()
    network, state = train_lvdm(toy, with_changes(windows_per_clip=40, val_windows=8, loop=loop), tmp_path, seed=0)
    assert state.history[-1]["val_loss"] < 0.4
    assert state.history[-1]["train_loss"] < state.history[0]["train_loss"]
    loaded, record = load_lvdm(tmp_path / "model")
    record.require_store(toy, what="the LVDM")
    batch = task(toy).batch(0, np.arange(2))
    with torch.inference_mode():
        found, expected = (
            n(batch["x"], batch["t"], lvdm_training.condition_of(batch)) for n in (loaded, network.eval())
        )
    torch.testing.assert_close(found, expected)


def test_a_training_begins_with_the_weights_it_starts_from(store: LatentStore, tmp_path: Path) -> None:
    first, _ = train_lvdm(store, TINY, tmp_path / "first", seed=0)
    still = LOOP.model_copy(update={"learning_rate": 1e-12, "weight_decay": 0.0}).model_dump()
    start = str(tmp_path / "first" / "model")
    again, _ = train_lvdm(store, with_changes(start=start, loop=still), tmp_path / "again", seed=9)
    for name, value in first.state_dict().items():
        torch.testing.assert_close(again.state_dict()[name], value, rtol=0, atol=1e-6)


def test_the_record_says_what_was_trained_on(store: LatentStore, tmp_path: Path) -> None:
    train_lvdm(store, with_changes(classes="view"), tmp_path, seed=0)
    network, record = load_lvdm(tmp_path / "model")
    assert (record.kind, record.frame_shape, record.height, record.width) == ("lvdm", (2, 4, 4), 32, 48)
    assert (record.classes, record.fps, record.window_frames) == (("a4c", "psax"), 50.0, 4)
    assert (network.n_classes, network.fps) == (2, 50.0)
    assert record.motion_std is None
    np.testing.assert_allclose(record.ef_quantiles, np.linspace(31, 62, 21), atol=0.051)
    record.require_store(store, what="the LVDM")


def test_a_store_encoded_at_one_rate_counts_as_of_that_rate(tmp_path: Path) -> None:
    clips = [coded_frames(i, 4) for i in range(2)]
    columns = {"ef": [50, 60], "fps": [30, 50]}
    store = write_cohort(tmp_path / "store", clips, splits=("train", "val"), columns=columns, target_fps=32.0)
    network, _ = train_lvdm(store, TINY, tmp_path / "out", seed=0)
    assert (network.fps, load_lvdm(tmp_path / "out" / "model")[1].fps) == (32.0, 32.0)


@pytest.mark.parametrize("step", [1, 3])
def test_a_killed_training_goes_on_to_the_same_numbers(
    store: LatentStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: int
) -> None:
    class Killed(LvdmTask):
        def loss(self, network: nn.Module, batch: Mapping[str, Tensor], now: int) -> Tensor:
            if now == step:
                raise KeyboardInterrupt
            return super().loss(network, batch, now)

    whole, state = train_lvdm(store, TINY, tmp_path / "whole", seed=0)
    with monkeypatch.context() as patch:
        patch.setattr(lvdm_training, "LvdmTask", Killed)
        with pytest.raises(KeyboardInterrupt):
            train_lvdm(store, TINY, tmp_path / "killed", seed=0)
    assert not (tmp_path / "killed" / "model").exists()
    again, resumed = train_lvdm(store, TINY, tmp_path / "killed", seed=0)
    assert (state.step, resumed.step) == (4, 4)
    assert same(again.state_dict(), whole.state_dict())
    assert [untimed(row) for row in resumed.history] == [untimed(row) for row in state.history]
    own = [load_checkpoint(tmp_path / name / "training" / CHECKPOINT) for name in ("whole", "killed")]
    assert same(own[1]["network"], own[0]["network"])
    shadows = [saved["average"]["shadow_params"] for saved in own]
    assert all(torch.equal(a, b) for a, b in zip(*shadows, strict=True))
    assert same(again.state_dict(), load_file(tmp_path / "killed" / "training" / BEST))
    assert not same(again.state_dict(), own[1]["network"])


def test_a_loss_that_is_nan_stops_the_training_with_its_place(
    store: LatentStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Diverging(LvdmTask):
        def loss(self, network: nn.Module, batch: Mapping[str, Tensor], now: int) -> Tensor:
            return super().loss(network, batch, now) * (float("nan") if now == 3 else 1)

    monkeypatch.setattr(lvdm_training, "LvdmTask", Diverging)
    with pytest.raises(DegenerateValues, match=r"nan at step 3 \(epoch 1, batch 1\); lower the learning rate.*lvdm"):
        train_lvdm(store, TINY, tmp_path, seed=0)
    assert not (tmp_path / "model").exists()


def test_the_paper_preset_has_the_sizes_of_the_paper() -> None:
    paper = paper_training()
    assert set(PRESETS) == {"small", "paper"}
    assert paper.architecture.channels == (128, 256, 256, 512)
    assert (paper.window_frames, paper.noise_offset, paper.ef_evenness) == (64, 0.1, 0.0)
    assert not paper.anchored
    assert (paper.loop.batch_size, paper.loop.learning_rate, paper.loop.optimizer) == (16 * 8, 1e-4, "adamw")
    assert paper.loop.epochs * -(-(7465 + 2580 + 3559) // 128) == pytest.approx(500_000, rel=1e-2)


CHANGES: dict[str, Any] = {
    "architecture": LVDM.model_copy(update={"heads": (1, 4)}).model_dump(),
    "window_frames": 3,
    "windows_per_clip": 1,
    "frame_dropout": 0.9,
    "ef_dropout": 0.9,
    "ef_evenness": 0.0,
    "anchored": True,
    "noise_offset": 0.5,
    "classes": "view",
    "class_dropout": 0.9,
    "val_windows": 1,
    "loop": LOOP.model_copy(update={"learning_rate": 1e-4}).model_dump(),
}


def trace(store: LatentStore, folder: Path, **changes: Any) -> list[float]:
    network, state = train_lvdm(store, with_changes(**changes), folder, seed=0)
    return [*untimed(state.history[-1]).values(), sum(p.numel() for p in network.parameters())]


@pytest.fixture(scope="module")
def uneven(tmp_path_factory: pytest.TempPathFactory) -> LatentStore:
    """Three clips of one band of EF and one of another, so that evenness matters."""
    return write_cohort(
        tmp_path_factory.mktemp("uneven") / "store",
        [coded_frames(i, 5) for i in range(5)],
        splits=("train",) * 4 + ("val",),
        columns={"ef": [51, 52, 53, 30, 50], "fps": [50] * 5, "view": ["a", "b", "a", "b", "a"]},
    )


@pytest.fixture(scope="module")
def base_trace(uneven: LatentStore, tmp_path_factory: pytest.TempPathFactory) -> list[float]:
    return trace(uneven, tmp_path_factory.mktemp("base"))


@pytest.mark.parametrize("name", LvdmTraining.model_fields)
def test_every_setting_changes_the_training(
    uneven: LatentStore, tmp_path: Path, base_trace: list[float], name: str
) -> None:
    base = base_trace
    if name == "class_dropout":
        base = trace(uneven, tmp_path / "base", classes="view")
        found = trace(uneven, tmp_path / "changed", classes="view", class_dropout=CHANGES[name])
    elif name == "start":
        train_lvdm(uneven, TINY, tmp_path / "first", seed=7)
        found = trace(uneven, tmp_path / "changed", start=str(tmp_path / "first" / "model"))
    else:
        found = trace(uneven, tmp_path / "changed", **{name: CHANGES[name]})
    assert found != base


def test_the_same_settings_give_the_same_training(uneven: LatentStore, tmp_path: Path, base_trace: list[float]) -> None:
    torch.randn(5)
    assert trace(uneven, tmp_path) == base_trace


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("window_frames", 1),
        ("windows_per_clip", 0),
        ("frame_dropout", 1.0),
        ("ef_dropout", -0.1),
        ("ef_evenness", 1.1),
        ("noise_offset", -0.1),
        ("class_dropout", 1.0),
        ("val_windows", 0),
        ("architecture", {"heads": (1, 2)}),
        ("width", 3),
    ],
)
def test_settings_that_cannot_work_are_refused_by_name(name: str, value: object) -> None:
    with pytest.raises(ConfigError, match=name):
        with_changes(**{name: value})


def refused(folder: Path, message: str, *, recipe: LvdmTraining = TINY, **columns: list[Any]) -> None:
    clips = [coded_frames(i, 4) for i in range(3)]
    labels = {"ef": [50.0, 60.0, 70.0], "fps": [50.0] * 3} | columns
    store = write_cohort(folder / "store", clips, splits=("train", "train", "val"), columns=labels)
    with pytest.raises(InputError, match=message):
        train_lvdm(store, recipe, folder / "out", seed=0)
    assert not (folder / "out").exists()


@pytest.mark.parametrize("bad", [None, -0.5, 100.5, float("inf")])
def test_an_ef_that_is_missing_or_impossible_is_refused(tmp_path: Path, bad: float | None) -> None:
    message = r"(?s)EF from 0 to 100 .* found 2 without one, such as c1; fill the column"
    refused(tmp_path, message, ef=[50.0, bad, bad])


def test_the_ends_of_the_range_are_taken(tmp_path: Path) -> None:
    clips = [coded_frames(i, 4) for i in range(2)]
    store = write_cohort(tmp_path / "store", clips, splits=("train", "val"), columns={"ef": [0, 100], "fps": [50, 50]})
    assert train_lvdm(store, TINY, tmp_path / "out", seed=0)[1].step == 2


def test_clips_that_are_neither_train_nor_val_need_no_ef(tmp_path: Path) -> None:
    clips = [coded_frames(i, 4) for i in range(3)]
    columns = {"ef": [50, 60, None], "fps": [50, 50, None]}
    store = write_cohort(tmp_path / "store", clips, splits=("train", "val", "holdout"), columns=columns)
    assert train_lvdm(store, TINY, tmp_path / "out", seed=0)[1].step == 2


@pytest.mark.parametrize(
    ("fps", "found"),
    [
        ([50.0, 30.0, 50.0], r"found 30, 50; "),
        ([50.0, None, 50.0], r"found 50, none; "),
        ([None, None, None], r"found none; "),
    ],
)
def test_clips_of_several_or_unknown_rates_are_refused(tmp_path: Path, fps: list[Any], found: str) -> None:
    refused(tmp_path, rf"expected one frame rate for all clips, {found}.*frames\.target_fps", fps=fps)


def test_a_window_that_no_clip_fills_is_refused(tmp_path: Path) -> None:
    message = r"a train clip of at least 5 frames, the longest has 4; .*lvdm\.window_frames=4\)"
    refused(tmp_path, message, recipe=with_changes(window_frames=5))


def test_everything_against_a_store_is_said_at_once(tmp_path: Path) -> None:
    message = r"(?s)found 1 without one, such as c2.*at least 9 frames.*found 20, 30, 50; "
    refused(
        tmp_path,
        message,
        recipe=with_changes(window_frames=9),
        ef=[50.0, 60.0, None],
        fps=[50.0, 30.0, 20.0],
    )


def test_an_absent_class_column_and_gaps_in_it_are_refused(tmp_path: Path) -> None:
    refused(tmp_path / "a", "--set classes=cluster: expected a column", recipe=with_changes(classes="cluster"))
    message = r"view: 1 clip\(s\) have no class, such as c1"
    refused(tmp_path / "b", message, recipe=with_changes(classes="view"), view=["a4c", None, "psax"])


def test_pixels_and_missing_val_clips_are_refused(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (3, 1, 4, 4)).astype(np.uint8)
    image = write_store(tmp_path / "image", {"a": ToyClip(pixels, "p")}, space="image")
    with pytest.raises(InputError, match=r"image: holds pixels.*--space latent"):
        train_lvdm(image, TINY, tmp_path / "out", seed=0)
    clips = [coded_frames(i, 4) for i in range(2)]
    columns = {"ef": [50, 60], "fps": [50, 50]}
    no_val = write_cohort(tmp_path / "no_val", clips, splits=("train", "holdout"), columns=columns)
    with pytest.raises(TooFewSamples, match="expected train and val clips, found 1 and 0"):
        train_lvdm(no_val, TINY, tmp_path / "out", seed=0)
    assert not (tmp_path / "out").exists()
