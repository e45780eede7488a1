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
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.data_loader import prepare_data_loader
from accelerate.state import AcceleratorState
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.utils.data import BatchSampler, DataLoader, Dataset
from torch.utils.tensorboard import SummaryWriter

from mnemoscope.core.config import Config
from mnemoscope.core.errors import DegenerateValues
from mnemoscope.core.files import whole_file
from mnemoscope.core.progress import Progress, unwatched
from mnemoscope.core.rng import generator
from mnemoscope.training.checkpoint import load_checkpoint, save_checkpoint

log = logging.getLogger(__name__)

Batch = Mapping[str, Tensor]
CHECKPOINT, BEST, LOG = "checkpoint.pt", "best.safetensors", "log.csv"


class LoopConfig(Config):
    """How long and how fast to train.

    Attributes:
        epochs: at most this many.
        batch_size: examples in a step, over all processes.
        learning_rate: peak rate.
        schedule: ``constant``, or ``cosine`` to zero over all epochs; both after ``warmup_steps`` of linear rise.
        clip_gradient_norm: global norm to clip to; None does not clip.
        patience_epochs: stop when validation has not improved for so long; None never stops early.
        precision: ``no`` is float32.
        checkpoint_every_steps: a killed training loses at most this many steps.
    """

    epochs: int = 1000
    batch_size: int = 1024
    learning_rate: float = 5e-4
    weight_decay: float = 0.0
    optimizer: Literal["adam", "adamw"] = "adam"
    schedule: Literal["constant", "cosine"] = "constant"
    warmup_steps: int = 0
    clip_gradient_norm: float | None = None
    patience_epochs: int | None = None
    precision: Literal["no", "bf16", "fp16"] = "no"
    checkpoint_every_steps: int = 500


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


class _EpochView(Dataset[Any]):
    """An epoch as torch's loader wants it: a list of indices in, one batch out."""

    def __init__(self, task: Task, epoch: int) -> None:
        self._task, self._epoch = task, epoch

    def __len__(self) -> int:
        return self._task.examples()

    def __getitems__(self, indices: list[int]) -> Batch:
        return self._task.batch(self._epoch, np.asarray(indices))


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
        DegenerateValues: when the loss becomes NaN or infinite, with the step.
        CorruptFile: when the checkpoint in ``out`` is damaged.
    """
    out.mkdir(parents=True, exist_ok=True)
    AcceleratorState._reset_state()
    accelerator = Accelerator(mixed_precision=config.precision, cpu=device == "cpu")
    network, optimizer = accelerator.prepare(task.network, _optimizer(task.network, config))
    state = _resume(out, accelerator, network, optimizer)
    per_epoch = math.ceil(task.examples() / config.batch_size)
    with SummaryWriter(str(out / "tensorboard"), purge_step=state.step) as board:
        while state.epoch < config.epochs and not _out_of_patience(state, config):
            started = time.perf_counter()
            network.train()
            for batch in _batches(task, config, state, seed, accelerator):
                _step(task, config, state, accelerator, network, optimizer, batch, per_epoch)
                progress("train", state.step, config.epochs * per_epoch, "step")
                if state.step % config.checkpoint_every_steps == 0:
                    _save(out, state, accelerator, network, optimizer)
            _end_epoch(task, out, state, accelerator, network, board, per_epoch, time.perf_counter() - started)
            _save(out, state, accelerator, network, optimizer)
    task.network.load_state_dict(load_file(out / BEST))
    accelerator.free_memory()
    return state


def _optimizer(network: nn.Module, config: LoopConfig) -> torch.optim.Optimizer:
    kind = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}[config.optimizer]
    trainable = [p for p in network.parameters() if p.requires_grad]
    return kind(trainable, lr=config.learning_rate, weight_decay=config.weight_decay)


def learning_rate(config: LoopConfig, step: int, total_steps: int) -> float:
    """Rate of step ``step`` (from 0) of ``total_steps``."""
    rise = min(1.0, (step + 1) / config.warmup_steps) if config.warmup_steps else 1.0
    fall = 0.5 * (1 + math.cos(math.pi * min(1.0, step / total_steps))) if config.schedule == "cosine" else 1.0
    return config.learning_rate * rise * fall


def _batches(
    task: Task, config: LoopConfig, state: TrainingState, seed: int, accelerator: Accelerator
) -> Iterator[Batch]:
    """What is left of the present epoch."""
    order = generator(seed, "order", state.epoch).permutation(task.examples())
    left = order[state.batch * config.batch_size :].tolist()
    sampler = BatchSampler(left, batch_size=config.batch_size, drop_last=False)
    loader = DataLoader(_EpochView(task, state.epoch), batch_sampler=sampler, collate_fn=lambda batch: batch)
    prepared = prepare_data_loader(
        loader,
        accelerator.device,
        num_processes=accelerator.num_processes,
        process_index=accelerator.process_index,
        split_batches=True,
        put_on_device=True,
    )
    yield from prepared


def _step(
    task: Task,
    config: LoopConfig,
    state: TrainingState,
    accelerator: Accelerator,
    network: nn.Module,
    optimizer: torch.optim.Optimizer,
    batch: Batch,
    per_epoch: int,
) -> None:
    for group in optimizer.param_groups:
        group["lr"] = learning_rate(config, state.step, config.epochs * per_epoch)
    with accelerator.autocast():
        loss = task.loss(network, batch, state.step)
    value = float(accelerator.reduce(loss.detach(), reduction="mean"))
    if not math.isfinite(value):
        raise DegenerateValues(
            f"the loss became {value} at step {state.step} (epoch {state.epoch}, batch {state.batch}); "
            f"lower the learning rate (--set loop.learning_rate=…) or clip gradients (--set loop.clip_gradient_norm=1)"
        )
    accelerator.backward(loss)
    if config.clip_gradient_norm is not None:
        accelerator.clip_grad_norm_(network.parameters(), config.clip_gradient_norm)
    optimizer.step()
    optimizer.zero_grad()
    state.step += 1
    state.batch += 1
    state.loss_sum += value


def _end_epoch(
    task: Task,
    out: Path,
    state: TrainingState,
    accelerator: Accelerator,
    network: nn.Module,
    board: SummaryWriter,
    per_epoch: int,
    seconds: float,
) -> None:
    network.eval()
    with torch.inference_mode():
        figures = task.validate(accelerator.unwrap_model(network), accelerator.device)
    row = {"epoch": state.epoch, "step": state.step, "train_loss": state.loss_sum / per_epoch}
    row |= {f"val_{name}": value for name, value in figures.items()} | {"seconds": round(seconds, 3)}
    state.history.append(row)
    if figures["loss"] < state.best_loss:
        state.best_loss, state.best_epoch = figures["loss"], state.epoch
        if accelerator.is_main_process:
            with whole_file(out / BEST) as temporary:
                save_file(_plain(accelerator.unwrap_model(network)), temporary)
    state.epoch, state.batch, state.loss_sum = state.epoch + 1, 0, 0.0
    if accelerator.is_main_process:
        _write_log(out / LOG, state.history)
        for name, value in row.items():
            board.add_scalar(name, value, state.step)
    log.info("epoch %d: %s", row["epoch"], {k: round(v, 5) for k, v in row.items() if k != "epoch"})


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
    out: Path, state: TrainingState, accelerator: Accelerator, network: nn.Module, optimizer: torch.optim.Optimizer
) -> None:
    if not accelerator.is_main_process:
        return
    scaler = accelerator.scaler.state_dict() if accelerator.scaler is not None else {}
    save_checkpoint(
        out / CHECKPOINT,
        {
            "network": _plain(accelerator.unwrap_model(network)),
            "optimizer": optimizer.state_dict(),
            "scaler": scaler,
            "state": dict(state.__dict__),
        },
    )


def _resume(out: Path, accelerator: Accelerator, network: nn.Module, optimizer: torch.optim.Optimizer) -> TrainingState:
    if not (out / CHECKPOINT).exists():
        return TrainingState()
    saved = load_checkpoint(out / CHECKPOINT)
    accelerator.unwrap_model(network).load_state_dict(saved["network"])
    optimizer.load_state_dict(saved["optimizer"])
    if accelerator.scaler is not None:
        accelerator.scaler.load_state_dict(saved["scaler"])
    state = TrainingState(**saved["state"])
    log.info("going on at epoch %d, step %d", state.epoch, state.step)
    return state
