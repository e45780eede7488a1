"""The one training loop. A stage brings its network, batches, loss and validation; the loop does everything else.

Nothing random lives here: the order of an epoch follows from (seed, epoch), a batch from (epoch, indices), noise from
the step. A checkpoint is therefore the state of network and optimiser and the place in the epoch, and a training that
was killed goes on to the numbers of an undisturbed one.
"""

import csv
import logging
import math
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
import torch
from accelerate import Accelerator, PartialState
from accelerate.state import AcceleratorState
from accelerate.utils import broadcast_object_list
from diffusers.training_utils import EMAModel
from pydantic import Field
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.utils.tensorboard import SummaryWriter

from mnemoscope.core.config import Config
from mnemoscope.core.errors import ConfigError, CorruptFile, DegenerateValues
from mnemoscope.core.files import disk_errors, whole_file
from mnemoscope.core.progress import Progress, unwatched
from mnemoscope.core.rng import generator
from mnemoscope.training.checkpoint import load_checkpoint, save_checkpoint

log = logging.getLogger(__name__)

_CALMER = (
    "lower the learning rate (--set MODEL.loop.learning_rate=…, MODEL being reid, vae, lidm, lvdm or ef) or clip "
    "gradients (--set MODEL.loop.clip_gradient_norm=1)"
)

Batch = Mapping[str, Tensor]
CHECKPOINT, BEST, LOG = "checkpoint.pt", "best.safetensors", "log.csv"


class LoopConfig(Config):
    """How long and how fast to train.

    Attributes:
        epochs: at most this many.
        batch_size: examples in a step, over all processes; each takes its share.
        learning_rate: peak rate.
        optimizer: adam, adamw, or sgd (momentum 0.9).
        schedule: ``constant``, ``cosine`` to zero over all epochs, or ``step``, to a tenth each ``step_epochs``; all of
            them after ``warmup_steps`` of linear rise.
        clip_gradient_norm: global norm to clip to; None does not clip.
        patience_epochs: stop when validation has not improved for so long; None never stops early.
        precision: ``no`` is float32.
        compile: compile the network (``torch.compile``); minutes at first, which pay on a GPU. Needs a C++ compiler.
        ema_decay: validate and keep an exponential moving average of the weights, of this decay after a warm-up;
            None keeps the weights themselves.
        keep: the network of the ``best`` validation loss, or the ``last``.
        checkpoint_every_steps: a killed training loses at most this many steps.
    """

    epochs: int = Field(1000, ge=1)
    batch_size: int = Field(1024, ge=1)
    learning_rate: float = Field(5e-4, gt=0)
    weight_decay: float = Field(0.0, ge=0)
    optimizer: Literal["adam", "adamw", "sgd"] = "adam"
    schedule: Literal["constant", "cosine", "step"] = "constant"
    step_epochs: int = Field(15, ge=1)
    warmup_steps: int = Field(0, ge=0)
    clip_gradient_norm: float | None = Field(None, gt=0)
    patience_epochs: int | None = Field(None, ge=1)
    precision: Literal["no", "bf16", "fp16"] = "no"
    compile: bool = False
    ema_decay: float | None = Field(None, gt=0, lt=1)
    keep: Literal["best", "last"] = "best"
    checkpoint_every_steps: int = Field(500, ge=1)


class Task(Protocol):
    """One stage of training, as the loop sees it."""

    network: nn.Module

    def examples(self) -> int:
        """Examples in an epoch."""
        ...

    def batch(self, epoch: int, indices: np.ndarray) -> Batch:
        """The examples ``indices`` of an epoch, on the CPU; a function of (seed, epoch, index) alone."""
        ...

    def loss(self, network: nn.Module, batch: Batch, step: int) -> Tensor:
        """The scalar to minimise."""
        ...

    def validate(self, network: nn.Module, device: torch.device) -> dict[str, float]:
        """Figures on validation data; the smallest ``loss`` is the best network."""
        ...


@dataclass
class TrainingState:
    """Where a training stands; all of it is in the checkpoint."""

    epoch: int = 0
    batch: int = 0
    step: int = 0
    best_loss: float = math.inf
    best_epoch: int = -1
    loss_sum: float = 0.0
    history: list[dict[str, float]] = field(default_factory=list)


class _Objective(nn.Module):
    """Network and loss as one module: several processes average the gradients of what runs inside ``forward`` only.

    It also keeps mixed precision away from the network itself, which is validated and used in float32.
    """

    def __init__(self, task: Task) -> None:
        super().__init__()
        self.network = task.network
        self._task = task

    def forward(self, batch: Batch, step: int) -> Tensor:
        return self._task.loss(self.network, batch, step)


def train(
    task: Task,
    config: LoopConfig,
    out: Path,
    *,
    seed: int,
    device: str = "cpu",
    progress: Progress = unwatched,
) -> TrainingState:
    """Trains ``task.network`` in place and leaves it with the best validation loss.

    Args:
        task: the stage.
        config: length and speed.
        out: folder for checkpoint, best weights, ``log.csv`` and TensorBoard events; an interrupted training in it
            is continued.
        seed: order of the examples.
        device: torch device; with ``accelerate launch`` each process takes its own.
        progress: told after every step.

    Raises:
        ConfigError: for a precision that the device lacks.
        DegenerateValues: when the loss becomes NaN or infinite, with the step.
        CorruptFile: when the checkpoint in ``out`` is damaged or of another network.
    """
    accelerator = _accelerator(config, device)  # here several processes meet; the first has claimed the run by then
    with disk_errors(out):
        out.mkdir(parents=True, exist_ok=True)
        return _train(task, config, out, seed, accelerator, progress)


def _train(
    task: Task, config: LoopConfig, out: Path, seed: int, accelerator: Accelerator, progress: Progress
) -> TrainingState:
    if config.compile:
        task.network.compile()
    objective, optimizer = accelerator.prepare(_Objective(task), _optimizer(task.network, config))
    average = _average(task.network, config, accelerator.device)
    state = _resume(out, accelerator, task.network, optimizer, average)
    per_epoch = math.ceil(task.examples() / config.batch_size)
    with _board(out, state, accelerator) as board:
        while state.epoch < config.epochs and not _out_of_patience(state, config):
            started = time.perf_counter()
            task.network.train()
            for batch in _batches(task, config, state, seed, accelerator):
                _step(config, state, accelerator, objective, optimizer, batch, per_epoch)
                if average is not None:
                    average.step(task.network.parameters())
                progress("train", state.step, config.epochs * per_epoch, "step")
                if state.step % config.checkpoint_every_steps == 0:
                    _save(out, state, accelerator, task.network, optimizer, average)
            with _averaged(task.network, average):
                _end_epoch(task, config, out, state, accelerator, board, per_epoch, started)
            _save(out, state, accelerator, task.network, optimizer, average)
    accelerator.wait_for_everyone()
    _load_best(task.network, out / BEST)
    accelerator.free_memory()
    return state


def is_main_process() -> bool:
    """Whether this process writes what several processes made together; true where there is only one."""
    return bool(PartialState().is_main_process)


def _accelerator(config: LoopConfig, device: str) -> Accelerator:
    AcceleratorState._reset_state()
    if config.precision == "fp16" and device == "cpu":
        raise ConfigError(
            "loop.precision: expected no or bf16 on a CPU, found fp16; choose a GPU (--device cuda) or "
            "--set loop.precision=bf16"
        )
    return Accelerator(mixed_precision=config.precision, cpu=device == "cpu")


@contextmanager
def _board(out: Path, state: TrainingState, accelerator: Accelerator) -> Iterator[SummaryWriter | None]:
    """TensorBoard's events, written by the first process; those after the checkpoint are taken back."""
    if not accelerator.is_main_process:
        yield None
        return
    with SummaryWriter(str(out / "tensorboard"), purge_step=state.step) as board:
        yield board


def _optimizer(network: nn.Module, config: LoopConfig) -> torch.optim.Optimizer:
    kinds: dict[str, Any] = {
        "adam": torch.optim.Adam,
        "adamw": torch.optim.AdamW,
        "sgd": partial(torch.optim.SGD, momentum=0.9),
    }
    trainable = [p for p in network.parameters() if p.requires_grad]
    made: torch.optim.Optimizer = kinds[config.optimizer](
        trainable, lr=config.learning_rate, weight_decay=config.weight_decay
    )
    return made


def _average(network: nn.Module, config: LoopConfig, device: torch.device) -> EMAModel | None:
    """The moving average of the weights; its warm-up forgets the first, random ones."""
    if config.ema_decay is None:
        return None
    average = EMAModel(network.parameters(), decay=config.ema_decay, use_ema_warmup=True, inv_gamma=1.0, power=0.75)
    average.to(device)
    return average


@contextmanager
def _averaged(network: nn.Module, average: EMAModel | None) -> Iterator[None]:
    """The network with averaged weights inside the block, and its own ones after it."""
    if average is None:
        yield
        return
    average.store(network.parameters())
    average.copy_to(network.parameters())
    try:
        yield
    finally:
        average.restore(network.parameters())


def learning_rate(config: LoopConfig, step: int, total_steps: int) -> float:
    """Rate of step ``step`` (from 0) of ``total_steps``."""
    rise = min(1.0, (step + 1) / config.warmup_steps) if config.warmup_steps else 1.0
    fall = 1.0
    if config.schedule == "cosine":
        fall = 0.5 * (1 + math.cos(math.pi * min(1.0, step / total_steps)))
    elif config.schedule == "step":
        fall = 0.1 ** (step * config.epochs // total_steps // config.step_epochs)
    return config.learning_rate * rise * fall


def _batches(
    task: Task, config: LoopConfig, state: TrainingState, seed: int, accelerator: Accelerator
) -> Iterator[Batch]:
    """What is left of the present epoch, this process's share of each batch."""
    order = generator(seed, "order", state.epoch).permutation(task.examples())
    for first in range(state.batch * config.batch_size, len(order), config.batch_size):
        indices = order[first : first + config.batch_size]
        share = _share(indices, process=accelerator.process_index, processes=accelerator.num_processes)
        batch = task.batch(state.epoch, share)
        yield {name: value.to(accelerator.device) for name, value in batch.items()}


def _share(indices: np.ndarray, *, process: int, processes: int) -> np.ndarray:
    """Every ``processes``-th example; a batch that does not divide is filled up from its own beginning."""
    each = math.ceil(len(indices) / processes)
    return np.resize(indices, each * processes)[process::processes]


def _step(
    config: LoopConfig,
    state: TrainingState,
    accelerator: Accelerator,
    objective: nn.Module,
    optimizer: torch.optim.Optimizer,
    batch: Batch,
    per_epoch: int,
) -> None:
    for group in optimizer.param_groups:
        group["lr"] = learning_rate(config, state.step, config.epochs * per_epoch)
    loss = objective(batch, state.step)
    value = float(accelerator.reduce(loss.detach(), reduction="mean"))
    if not math.isfinite(value):
        raise DegenerateValues(
            f"the loss became {value} at step {state.step} (epoch {state.epoch}, batch {state.batch}); {_CALMER}"
        )
    accelerator.backward(loss)
    if config.clip_gradient_norm is not None:
        accelerator.clip_grad_norm_(objective.parameters(), config.clip_gradient_norm)
    optimizer.step()
    optimizer.zero_grad()
    state.step += 1
    state.batch += 1
    state.loss_sum += value


def _end_epoch(
    task: Task,
    config: LoopConfig,
    out: Path,
    state: TrainingState,
    accelerator: Accelerator,
    board: SummaryWriter | None,
    per_epoch: int,
    started: float,
) -> None:
    figures = _validated(task, state, accelerator)
    row = {"epoch": state.epoch, "step": state.step, "train_loss": state.loss_sum / per_epoch}
    row |= {f"val_{name}": value for name, value in figures.items()}
    row["seconds"] = round(time.perf_counter() - started, 3)
    state.history.append(row)
    improved = figures["loss"] < state.best_loss
    if improved:
        state.best_loss, state.best_epoch = figures["loss"], state.epoch
    state.epoch, state.batch, state.loss_sum = state.epoch + 1, 0, 0.0
    if board is not None:
        _write_epoch(out, state, board, best=task.network if improved or config.keep == "last" else None)
    log.info("epoch %d: %s", row["epoch"], {k: round(v, 5) for k, v in row.items() if k != "epoch"})


def _validated(task: Task, state: TrainingState, accelerator: Accelerator) -> dict[str, float]:
    """Figures of the first process: all must agree on when to stop, and running means of a network may differ."""
    task.network.eval()
    with torch.inference_mode():
        figures = task.validate(task.network, accelerator.device)
    [figures] = broadcast_object_list([figures])
    if not math.isfinite(figures["loss"]):
        raise DegenerateValues(f"the validation loss became {figures['loss']} in epoch {state.epoch}; {_CALMER}")
    return figures


def _write_epoch(out: Path, state: TrainingState, board: SummaryWriter, *, best: nn.Module | None) -> None:
    if best is not None:
        with whole_file(out / BEST) as temporary:
            save_file(_plain(best), temporary)
    _write_log(out / LOG, state.history)
    for name, value in state.history[-1].items():
        board.add_scalar(name, value, state.step)
    board.flush()


def _write_log(path: Path, history: list[dict[str, float]]) -> None:
    with whole_file(path) as temporary, temporary.open("w", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=list(history[0]))
        writer.writeheader()
        writer.writerows(history)


def _out_of_patience(state: TrainingState, config: LoopConfig) -> bool:
    if config.patience_epochs is None or state.best_epoch < 0:
        return False
    return state.epoch - 1 - state.best_epoch >= config.patience_epochs


def _plain(network: nn.Module) -> dict[str, Tensor]:
    return {name: value.detach().cpu().contiguous() for name, value in network.state_dict().items()}


def _save(
    out: Path,
    state: TrainingState,
    accelerator: Accelerator,
    network: nn.Module,
    optimizer: torch.optim.Optimizer,
    average: EMAModel | None,
) -> None:
    if not accelerator.is_main_process:
        return
    scaler = accelerator.scaler.state_dict() if accelerator.scaler is not None else {}
    save_checkpoint(
        out / CHECKPOINT,
        {
            "network": _plain(network),
            "optimizer": optimizer.state_dict(),
            "scaler": scaler,
            "average": average.state_dict() if average is not None else {},
            "state": dict(state.__dict__),
        },
    )


def _resume(
    out: Path,
    accelerator: Accelerator,
    network: nn.Module,
    optimizer: torch.optim.Optimizer,
    average: EMAModel | None,
) -> TrainingState:
    if not (out / CHECKPOINT).exists():
        return TrainingState()
    saved = load_checkpoint(out / CHECKPOINT)
    try:
        network.load_state_dict(saved["network"])
        optimizer.load_state_dict(saved["optimizer"])
        if accelerator.scaler is not None:
            accelerator.scaler.load_state_dict(saved["scaler"])
        if average is not None:
            average.load_state_dict(saved["average"])
            average.to(accelerator.device)
        state = TrainingState(**saved["state"])
    except (KeyError, RuntimeError, TypeError, ValueError) as error:
        raise CorruptFile(
            f"{out / CHECKPOINT}: expected a checkpoint of this network, found: {error}; choose another --out, or "
            f"delete it to start this training again"
        ) from error
    log.info("going on at epoch %d, step %d", state.epoch, state.step)
    return state


def _load_best(network: nn.Module, path: Path) -> None:
    try:
        network.load_state_dict(load_file(path))
    except (OSError, RuntimeError, SafetensorError) as error:
        raise CorruptFile(
            f"{path}: expected the best weights of this training, found: {error}; delete its folder to start again"
        ) from error
