import csv
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch.optim.optimizer import register_optimizer_step_pre_hook

from mnemoscope.core.config import build
from mnemoscope.core.errors import ConfigError, CorruptFile, DegenerateValues
from mnemoscope.training import loop
from mnemoscope.training.loop import BEST, CHECKPOINT, LOG, LoopConfig, TrainingState, learning_rate, train
from tests.toys import Attack
from tests.training.launching import launch
from tests.training.toy_task import OFFSET, OPTIMUM, LinearTask

SHORT = LoopConfig(epochs=3, batch_size=4, learning_rate=0.05, checkpoint_every_steps=1)
STEPS = 9  # 3 epochs of 10 examples in batches of 4


@dataclass
class Steps:
    """What the optimiser was given, step by step."""

    kind: list[str] = field(default_factory=list)
    rate: list[float] = field(default_factory=list)
    decay: list[float] = field(default_factory=list)
    norm: list[float] = field(default_factory=list)

    def __call__(self, optimizer: torch.optim.Optimizer, *_: object) -> None:
        [group] = optimizer.param_groups
        grads = torch.cat([p.grad.flatten() for p in group["params"]])
        self.kind.append(type(optimizer).__name__)
        self.rate.append(group["lr"])
        self.decay.append(group["weight_decay"])
        self.norm.append(float(grads.norm()))


@pytest.fixture
def steps() -> Iterator[Steps]:
    seen = Steps()
    handle = register_optimizer_step_pre_hook(seen)
    yield seen
    handle.remove()


def with_changes(**changes: Any) -> LoopConfig:
    return build(LoopConfig, SHORT.model_dump() | changes)


def trained(
    out: Path, config: LoopConfig = SHORT, *, seed: int = 0, **options: Any
) -> tuple[LinearTask, TrainingState]:
    task = LinearTask(**options)
    return task, train(task, config, out, seed=seed)


def killed(out: Path, config: LoopConfig, step: int) -> None:
    with pytest.raises(KeyboardInterrupt):
        trained(out, config, fails_at=step)


def untimed(history: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{name: value for name, value in row.items() if name != "seconds"} for row in history]


def log_rows(out: Path) -> list[dict[str, str]]:
    with (out / LOG).open(newline="") as file:
        return untimed(list(csv.DictReader(file)))


def assert_same_weights(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> None:
    assert a.keys() == b.keys()
    assert all(torch.equal(a[name], b[name]) for name in a)


def test_the_known_optimum_is_reached(tmp_path: Path) -> None:
    task = LinearTask(count=64)
    task.network = linear = task.network[1]
    config = with_changes(epochs=25, batch_size=8, schedule="cosine", learning_rate=0.3, checkpoint_every_steps=1000)
    state = train(task, config, tmp_path, seed=0)
    np.testing.assert_allclose(linear.weight[0].detach(), OPTIMUM, atol=1e-3)
    assert float(linear.bias.detach()[0]) == pytest.approx(OFFSET, abs=1e-3)
    assert state.best_loss < 1e-6


@pytest.mark.parametrize("every", [1, 3])
@pytest.mark.parametrize("step", [0, 2, 3, 7])
@pytest.mark.parametrize("ema_decay", [None, 0.9])
def test_a_killed_training_goes_on_to_the_same_numbers(
    tmp_path: Path, every: int, step: int, ema_decay: float | None
) -> None:
    config = with_changes(
        checkpoint_every_steps=every, schedule="cosine", warmup_steps=2, clip_gradient_norm=0.5, ema_decay=ema_decay
    )
    whole, state = trained(tmp_path / "whole", config)
    killed(tmp_path / "killed", config, step)
    again, resumed = trained(tmp_path / "killed", config)
    assert_same_weights(again.network.state_dict(), whole.network.state_dict())
    last = [loop.load_checkpoint(tmp_path / name / CHECKPOINT) for name in ("whole", "killed")]
    assert_same_weights(last[1]["network"], last[0]["network"])
    assert untimed(resumed.history) == untimed(state.history)
    assert log_rows(tmp_path / "killed") == log_rows(tmp_path / "whole")
    assert (resumed.step, resumed.best_epoch, resumed.best_loss) == (STEPS, state.best_epoch, state.best_loss)


def test_the_kept_network_is_the_moving_average_of_the_weights(tmp_path: Path) -> None:
    """Decay after step t (from 0) is 1 − (1 + t)^−0.75, at most ``ema_decay``; the first step replaces the start."""
    plain = [
        trained(tmp_path / f"{epochs}", with_changes(epochs=epochs, batch_size=10, keep="last"))[0].network[1].weight
        for epochs in range(1, 4)
    ]
    decays = [min(0.5, 1 - (1 + t) ** -0.75) for t in range(3)]
    expected = torch.zeros_like(plain[0])
    for decay, weight in zip(decays, plain, strict=True):
        expected = decay * expected + (1 - decay) * weight.detach()
    averaged, _ = trained(tmp_path / "ema", with_changes(epochs=3, batch_size=10, keep="last", ema_decay=0.5))
    torch.testing.assert_close(averaged.network[1].weight.detach(), expected)
    own = loop.load_checkpoint(tmp_path / "ema" / CHECKPOINT)["network"]["1.weight"]
    torch.testing.assert_close(own, plain[-1].detach())


def test_the_last_network_is_kept_where_asked(tmp_path: Path) -> None:
    best, _ = trained(tmp_path / "best", val_losses=[1.0, 2.0, 3.0])
    last, _ = trained(tmp_path / "last", with_changes(keep="last"), val_losses=[1.0, 2.0, 3.0])
    assert_same_weights(best.network.state_dict(), best.weights_at_validation[0])
    assert_same_weights(last.network.state_dict(), last.weights_at_validation[2])


def test_a_training_killed_again_and_again_ends_the_same(tmp_path: Path) -> None:
    whole, _ = trained(tmp_path / "whole")
    for step in range(STEPS):
        killed(tmp_path / "killed", SHORT, step)
    assert_same_weights(trained(tmp_path / "killed")[0].network.state_dict(), whole.network.state_dict())


@pytest.mark.parametrize("place", ["validate", "write_best", "write_log", "save"])
def test_a_kill_at_the_end_of_an_epoch_changes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    whole, state = trained(tmp_path / "whole", with_changes(checkpoint_every_steps=100))
    owner, name = {
        "validate": (LinearTask, "validate"),
        "write_best": (loop, "save_file"),
        "write_log": (loop, "_write_log"),
        "save": (loop, "save_checkpoint"),
    }[place]
    with monkeypatch.context() as patch:
        patch.setattr(owner, name, second_call_interrupts(getattr(owner, name)))
        with pytest.raises(KeyboardInterrupt):
            trained(tmp_path / "killed", with_changes(checkpoint_every_steps=100))
    again, resumed = trained(tmp_path / "killed", with_changes(checkpoint_every_steps=100))
    assert_same_weights(again.network.state_dict(), whole.network.state_dict())
    assert untimed(resumed.history) == untimed(state.history)


def second_call_interrupts(function: Callable[..., Any]) -> Callable[..., Any]:
    calls = 0

    def once(*args: Any, **options: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == 2:
            raise KeyboardInterrupt
        return function(*args, **options)

    return once


def test_a_finished_training_is_loaded_and_not_repeated(tmp_path: Path, steps: Steps) -> None:
    first, _ = trained(tmp_path)
    taken = len(steps.rate)
    again, state = trained(tmp_path)
    assert (len(steps.rate), state.step) == (taken, STEPS)
    assert_same_weights(again.network.state_dict(), first.network.state_dict())


@pytest.mark.parametrize(
    ("losses", "patience", "epochs", "best"),
    [
        ([3, 2, 1, 1, 1, 1, 1], 2, 5, 2),
        ([3, 2, 1, 1, 0.5, 1, 1], 2, 7, 4),
        ([1, 2, 3, 4, 5, 6, 7], 1, 2, 0),
        ([1, 2, 3, 4, 5, 6, 7], 3, 4, 0),
        ([1, 2, 3, 4, 5, 6, 7], None, 7, 0),
        ([7, 6, 5, 4, 3, 2, 1], 1, 7, 6),
    ],
)
def test_training_stops_when_validation_has_not_improved_for_so_long(
    tmp_path: Path, losses: list[float], patience: int | None, epochs: int, best: int
) -> None:
    config = with_changes(epochs=7, patience_epochs=patience)
    task, state = trained(tmp_path, config, val_losses=losses)
    assert (len(state.history), state.best_epoch, state.best_loss) == (epochs, best, losses[best])
    assert_same_weights(task.network.state_dict(), task.weights_at_validation[best])
    assert_same_weights(load_file(tmp_path / BEST), task.weights_at_validation[best])


def test_gradients_are_clipped_to_the_global_norm(tmp_path: Path, steps: Steps) -> None:
    trained(tmp_path / "free")
    free, steps.norm = steps.norm, []
    trained(tmp_path / "clipped", with_changes(clip_gradient_norm=0.1))
    assert min(free) > 0.1
    np.testing.assert_allclose(steps.norm, 0.1, rtol=1e-3)


@given(
    step=st.integers(0, 200),
    total=st.integers(1, 200),
    warmup=st.integers(0, 50),
    schedule=st.sampled_from(["constant", "cosine", "step"]),
)
def test_the_learning_rate_in_closed_form(step: int, total: int, warmup: int, schedule: str) -> None:
    config = with_changes(learning_rate=0.2, warmup_steps=warmup, schedule=schedule, epochs=9, step_epochs=2)
    rise = 1.0 if step >= warmup else (step + 1) / warmup
    fall = {
        "constant": 1.0,
        "cosine": math.cos(math.pi / 2 * min(step / total, 1.0)) ** 2,
        "step": 10.0 ** -((step * 9 // total) // 2),
    }[schedule]
    assert learning_rate(config, step, total) == pytest.approx(0.2 * rise * fall, abs=1e-12)


def test_the_learning_rate_of_every_step_reaches_the_optimiser(tmp_path: Path, steps: Steps) -> None:
    config = with_changes(schedule="cosine", warmup_steps=4)
    trained(tmp_path, config)
    assert steps.rate == [learning_rate(config, step, STEPS) for step in range(STEPS)]
    assert steps.rate[-1] < steps.rate[4]


@pytest.mark.parametrize(("optimizer", "kind"), [("adam", "Adam"), ("adamw", "AdamW"), ("sgd", "SGD")])
def test_optimiser_and_weight_decay_are_those_asked_for(
    tmp_path: Path, steps: Steps, optimizer: str, kind: str
) -> None:
    trained(tmp_path, with_changes(optimizer=optimizer, weight_decay=0.125))
    assert set(steps.kind) == {kind}
    assert set(steps.decay) == {0.125}


def test_only_parameters_that_may_change_are_given_to_the_optimiser(tmp_path: Path) -> None:
    task = LinearTask()
    task.network[1].bias.requires_grad_(False)
    before = task.network[1].bias.clone()
    train(task, SHORT, tmp_path, seed=0)
    assert torch.equal(task.network[1].bias, before)


CHANGES: dict[str, Any] = {
    "epochs": 4,
    "batch_size": 5,
    "learning_rate": 0.01,
    "weight_decay": 0.3,
    "optimizer": "adamw",
    "schedule": "cosine",
    "warmup_steps": 5,
    "clip_gradient_norm": 0.2,
    "patience_epochs": 1,
    "precision": "bf16",
    "ema_decay": 0.5,
    "keep": "last",
    "checkpoint_every_steps": 2,
}


def trace(folder: Path, config: LoopConfig) -> tuple[object, ...]:
    saved_at: list[int] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop, "save_checkpoint", lambda _, state: saved_at.append(state["state"]["step"]))
        task, state = trained(folder, config, val_losses=[1, 2, 2, 2])
    return untimed(state.history), saved_at, task.network[1].weight.tolist()


# Without some decay adam and adamw would agree.
DECAYING = with_changes(weight_decay=0.1)


@pytest.fixture(scope="module")
def base_trace(tmp_path_factory: pytest.TempPathFactory) -> tuple[object, ...]:
    return trace(tmp_path_factory.mktemp("base"), DECAYING)


@pytest.mark.parametrize("name", sorted(CHANGES))
def test_every_setting_changes_the_training(tmp_path: Path, base_trace: tuple[object, ...], name: str) -> None:
    assert trace(tmp_path, build(LoopConfig, DECAYING.model_dump() | {name: CHANGES[name]})) != base_trace


def test_every_setting_is_tried() -> None:
    assert set(CHANGES) | {"compile", "step_epochs"} == set(LoopConfig.model_fields) | {"compile"}


def test_steps_of_the_rate_are_as_long_as_asked_for(tmp_path: Path) -> None:
    stepped = with_changes(schedule="step", epochs=3, step_epochs=2)
    other = build(LoopConfig, stepped.model_dump() | {"step_epochs": 1})
    assert trace(tmp_path / "two", stepped) != trace(tmp_path / "one", other)


def test_the_same_settings_give_the_same_training(tmp_path: Path, base_trace: tuple[object, ...]) -> None:
    assert trace(tmp_path, DECAYING) == base_trace


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("epochs", 0),
        ("batch_size", 0),
        ("learning_rate", 0.0),
        ("weight_decay", -1.0),
        ("warmup_steps", -1),
        ("clip_gradient_norm", 0.0),
        ("patience_epochs", 0),
        ("checkpoint_every_steps", 0),
        ("schedule", "linear"),
        ("step_epochs", 0),
        ("optimizer", "lion"),
    ],
)
def test_settings_that_cannot_work_are_refused_by_name(name: str, value: object) -> None:
    with pytest.raises(ConfigError, match=name):
        with_changes(**{name: value})


def test_every_example_is_seen_once_an_epoch_in_an_order_of_seed_and_epoch_alone(tmp_path: Path) -> None:
    def orders(folder: str, seed: int, batch_size: int) -> list[list[int]]:
        task, _ = trained(tmp_path / folder, with_changes(batch_size=batch_size), seed=seed)
        assert {len(indices) for _, indices in task.drawn} <= {batch_size, 10 % batch_size}
        return [[i for e, indices in task.drawn if e == epoch for i in indices] for epoch in range(3)]

    first = orders("a", 0, 4)
    assert all(sorted(order) == list(range(10)) for order in first)
    assert first == orders("b", 0, 5) == orders("c", 0, 10)
    assert first[0] != first[1]
    assert first != orders("d", 1, 4)


@pytest.mark.parametrize(("count", "processes"), [(8, 2), (7, 2), (1, 3), (5, 4), (6, 1)])
def test_processes_share_a_batch_evenly_and_completely(count: int, processes: int) -> None:
    indices = np.arange(100, 100 + count)
    shares = [loop._share(indices, process=p, processes=processes) for p in range(processes)]
    assert len({len(share) for share in shares}) == 1
    assert set(np.concatenate(shares)) == set(indices)
    assert len(np.concatenate(shares)) - count < processes


@pytest.mark.parametrize("step", [0, 4])
def test_a_nan_loss_names_the_step(tmp_path: Path, step: int) -> None:
    expected = rf"nan at step {step} \(epoch {step // 3}, batch {step % 3}\).*loop\.learning_rate"
    with pytest.raises(DegenerateValues, match=expected):
        trained(tmp_path, nan_at=step)


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_nan_validation_names_the_epoch(tmp_path: Path, value: float) -> None:
    with pytest.raises(DegenerateValues, match=r"validation loss became (nan|inf) in epoch 1"):
        trained(tmp_path, val_losses=[1.0, value, 1.0])


def test_the_log_is_the_history(tmp_path: Path) -> None:
    _, state = trained(tmp_path)
    rows = log_rows(tmp_path)
    assert [{name: float(value) for name, value in row.items()} for row in rows] == untimed(state.history)
    assert list(rows[0]) == ["epoch", "step", "train_loss", "val_loss", "val_worst"]
    assert [row["step"] for row in rows] == ["3", "6", "9"]


def test_the_train_loss_is_the_mean_over_the_steps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    losses: list[float] = []
    original = LinearTask.loss

    def noting(self: LinearTask, network: torch.nn.Module, batch: Any, step: int) -> torch.Tensor:
        value = original(self, network, batch, step)
        losses.append(float(value.detach()))
        return value

    monkeypatch.setattr(LinearTask, "loss", noting)
    _, state = trained(tmp_path)
    assert state.history[1]["train_loss"] == pytest.approx(np.mean(losses[3:6]), rel=1e-12)


def test_tensorboard_shows_each_epoch_once_also_after_a_kill(tmp_path: Path) -> None:
    killed(tmp_path, SHORT, 7)
    _, state = trained(tmp_path)
    events = EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    shown = [(event.step, event.value) for event in events.Scalars("val_loss")]
    assert [step for step, _ in shown] == [3, 6, 9]
    np.testing.assert_allclose([v for _, v in shown], [row["val_loss"] for row in state.history], rtol=1e-6)


def test_progress_counts_the_steps(tmp_path: Path) -> None:
    seen: list[tuple[str, int, int, str]] = []
    train(LinearTask(), SHORT, tmp_path, seed=0, progress=lambda *call: seen.append(call))
    assert seen == [("train", step, STEPS, "step") for step in range(1, STEPS + 1)]


@pytest.mark.parametrize("keep", [0, 10, 0.5, 0.99])
def test_a_damaged_checkpoint_is_refused(tmp_path: Path, keep: float) -> None:
    killed(tmp_path, SHORT, 4)
    content = (tmp_path / CHECKPOINT).read_bytes()
    (tmp_path / CHECKPOINT).write_bytes(content[: int(keep if keep >= 1 else keep * len(content))])
    with pytest.raises(CorruptFile, match=r"checkpoint\.pt.*delete it to start this training again"):
        trained(tmp_path)


def test_a_checkpoint_with_code_is_not_run(tmp_path: Path) -> None:
    torch.save({"network": Attack(tmp_path / "ran")}, tmp_path / CHECKPOINT)
    with pytest.raises(CorruptFile, match="without running code"):
        trained(tmp_path)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("state", [[1, 2], {"network": {}}, {"other": 1}])
def test_a_checkpoint_of_something_else_is_refused(tmp_path: Path, state: object) -> None:
    torch.save(state, tmp_path / CHECKPOINT)
    with pytest.raises(CorruptFile, match=r"(?s)checkpoint\.pt.*delete it"):
        trained(tmp_path)


def test_lost_best_weights_are_named(tmp_path: Path) -> None:
    trained(tmp_path)
    (tmp_path / BEST).write_bytes(b"none")
    with pytest.raises(CorruptFile, match=r"best\.safetensors"):
        trained(tmp_path)


def test_bf16_is_for_the_steps_and_leaves_a_float32_network(tmp_path: Path) -> None:
    task, state = trained(tmp_path, with_changes(precision="bf16"))
    assert task.product_dtype == torch.bfloat16
    x = torch.randn(5, 3, generator=torch.Generator().manual_seed(0))
    twin = LinearTask().network.eval()
    twin.load_state_dict(task.network.state_dict())
    assert task.network.eval()(x).dtype == torch.float32
    assert torch.equal(task.network(x), twin(x))
    exact = trained(tmp_path / "exact")[1].history[-1]["train_loss"]
    assert state.history[-1]["train_loss"] == pytest.approx(exact, rel=0.02)


class Own(torch.nn.Module):
    """The compiler leaves containers of PyTorch's own alone."""

    def __init__(self, inner: torch.nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.inner(x)
        return out


def test_a_compiled_network_is_run_and_trains_to_the_same_numbers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a backend that notes what it is to compile: the real one takes a C++ compiler and most of a minute."""
    graphs: list[object] = []

    def backend(graph: torch.fx.GraphModule, _: object) -> Callable[..., object]:
        graphs.append(graph)
        return graph.forward

    whole = torch.nn.Module.compile
    monkeypatch.setattr(torch.nn.Module, "compile", lambda network: whole(network, backend=backend))
    task, plain = LinearTask(), LinearTask()
    task.network, plain.network = Own(task.network), Own(plain.network)
    state = train(task, with_changes(compile=True), tmp_path / "compiled", seed=0)
    assert graphs
    expected = train(plain, SHORT, tmp_path / "plain", seed=0)
    assert untimed(state.history) == untimed(expected.history)
    assert_same_weights(task.network.state_dict(), plain.network.state_dict())


def test_fp16_on_a_cpu_is_refused_with_the_remedy(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"fp16.*--device cuda.*loop\.precision=bf16"):
        trained(tmp_path, with_changes(precision="fp16"))


TWO = """
import json, os, sys
from pathlib import Path
from torch import nn
from mnemoscope.training.loop import LoopConfig, is_main_process, train
from tests.toys import Attack
from tests.training.launching import launch
from tests.training.toy_task import LinearTask

out, rank = Path(sys.argv[1]), os.environ.get("RANK", "0")
task = LinearTask(count=12)
task.network = nn.Sequential(nn.Identity(), task.network[1])
config = LoopConfig(epochs=4, batch_size=4, learning_rate=0.05, patience_epochs=2, checkpoint_every_steps=2)
state = train(task, config, out, seed=0)
weights = [p.tolist() for p in task.network.parameters()]
(out / f"{rank}.json").write_text(
    json.dumps({"history": state.history, "weights": weights, "main": is_main_process()})
)
"""


@pytest.mark.slow
def test_two_processes_give_the_losses_of_one(tmp_path: Path) -> None:
    [one] = launch(TWO, tmp_path / "one", processes=1)
    first, second = launch(TWO, tmp_path / "two", processes=2)
    assert (first["main"], second["main"]) == (True, False)
    assert first["weights"] == second["weights"]
    assert untimed(first["history"]) == untimed(second["history"])
    for name in ("train_loss", "val_loss"):
        curves = [[row[name] for row in result["history"]] for result in (one, first)]
        np.testing.assert_allclose(curves[1], curves[0], rtol=1e-5)
    assert len(list((tmp_path / "two" / "tensorboard").iterdir())) == 1
