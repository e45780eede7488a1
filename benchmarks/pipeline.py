"""Encoding and re-identification training: frames and seconds on this machine.

Training is measured over a few steps of the paper's networks and stated per epoch of 7,465 pairs: a whole epoch in
image space takes most of an hour on two cores. Frames are random numbers, which cost what real ones cost.
"""

import time
from collections.abc import Callable

import numpy as np
import pandas as pd
import torch

from benchmarks.rows import Row
from mnemoscope.latents.scaling import Scaling
from mnemoscope.latents.store import Space
from mnemoscope.models.initial import named_weights
from mnemoscope.models.reid import Reid
from mnemoscope.models.vae import BUNDLED, load_vae
from mnemoscope.phantom.cohort import CohortSpec, clips, render
from mnemoscope.training.reid import PRESETS, ReidTask

PAIRS_PER_EPOCH = 7465
_REPEATS = 3


def run() -> list[Row]:
    """All figures."""
    frames = np.concatenate([render(_COHORT, clip).frames for clip in clips(_COHORT)])
    return [_encoding(frames), *_training()]


_COHORT = CohortSpec(view="a4c", n_patients=8, n_frames=64)


def _encoding(frames: np.ndarray) -> Row:
    vae = load_vae(BUNDLED)
    fps = _best_fps(lambda: len(vae.encode(frames[:256], clip_id="clip")))
    return Row(name="encoding, bundled VAE", value=fps, unit="frames/s", note="float32, arrays to latents")


def _training() -> list[Row]:
    seconds = {
        "image": _seconds_per_epoch("image", (1, 112, 112), steps=2, batch=32),
        "latent": _seconds_per_epoch("latent", (4, 14, 14), steps=3, batch=1024),
    }
    note = f"paper preset, ResNet-50, {PAIRS_PER_EPOCH} pairs, from a few steps"
    ratio = seconds["image"] / seconds["latent"]
    return [
        Row(name="re-identification epoch, image space", value=seconds["image"], unit="s", note=note),
        Row(
            name="re-identification epoch, latent space",
            value=seconds["latent"],
            unit="s",
            peer="image space",
            ratio=ratio,
            note=f"{note}; the paper has 60 × on a GPU, data loading included",
        ),
    ]


def _seconds_per_epoch(space: Space, shape: tuple[int, int, int], *, steps: int, batch: int) -> float:
    recipe = PRESETS["paper"](space=space, channels=shape[0])
    rng = np.random.default_rng(0)
    frames = rng.integers(0, 255, (512, *shape)).astype(np.uint8 if space == "image" else np.float16)
    with named_weights(0, "benchmark"):
        network = Reid(recipe.architecture)
    constants = (0.0,) * shape[0], (255.0,) * shape[0], (127.5,) * shape[0], (74.0,) * shape[0]
    rows = pd.DataFrame(
        {"first_frame": np.arange(0, 512, 4), "n_frames": 4, "patient_id": [str(i) for i in range(128)]}
    )
    task = ReidTask(network, frames, Scaling(*constants), recipe=recipe, train_clips=rows, val_clips=rows, seed=0)
    optimizer = torch.optim.Adam(network.parameters())
    taken = []
    for step in range(steps + 1):
        start = time.perf_counter()
        task.loss(network, task.batch(step, np.arange(batch) % len(rows)), step).backward()
        optimizer.step()
        optimizer.zero_grad()
        taken.append(time.perf_counter() - start)
    return min(taken[1:]) * PAIRS_PER_EPOCH / batch


def _best_fps(work: Callable[[], int]) -> float:
    best = 0.0
    for _ in range(_REPEATS):
        start = time.perf_counter()
        frames = work()
        best = max(best, frames / (time.perf_counter() - start))
    return best
