"""How well the phantom's ejection fraction is read off decoded frames of patients the reader has never seen.

    python -m benchmarks.phantom_ef [--train]

Prints the table of docs/phantom.md; ``--train`` first trains the reader anew and writes the bundled weights.
"""

import argparse
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import numpy as np
import torch
from safetensors.torch import save_file
from scipy.ndimage import gaussian_filter
from torch import Tensor, nn

from mnemoscope.audit.labels import mae, r2
from mnemoscope.core.files import whole_folder
from mnemoscope.core.rng import derive_seed, generator
from mnemoscope.models.phantom_ef import BUNDLED_FILE, VolumeNet, measure_ef, network_input
from mnemoscope.models.vae import load_vae
from mnemoscope.phantom.anatomy import VIEWS
from mnemoscope.phantom.cohort import ClipSpec, CohortSpec, acquisition, clips, patient, render, spread
from mnemoscope.phantom.render import PhantomClip, render_clip, volume_curve

SEED, HELD_OUT_SEED = 2026, 7001
BATCH_CLIPS, BATCH_FRAMES = 32, 6
PEAK_RATE = 3e-3
GAIN_AND_GAMMA = ((0.85, 1.15), (0.85, 1.2))

Alter = Callable[[np.ndarray], np.ndarray]


def as_drawn(frames: np.ndarray) -> np.ndarray:
    return frames


def blurred(frames: np.ndarray) -> np.ndarray:
    return gaussian_filter(frames, (0, 1, 1))


def through_vae(frames: np.ndarray) -> np.ndarray:
    vae = cached_vae("bundled")
    return vae.decode(vae.encode(frames, clip_id=""))


def slower(frames: np.ndarray) -> np.ndarray:
    return frames[::2]


cached_vae = cache(load_vae)


@dataclass(frozen=True)
class Condition:
    """What happens to a clip of 64 frames at 32 fps before it is read."""

    name: str
    alter: Alter
    fps: float
    n_clips: int


CONDITIONS = (
    Condition("as drawn", as_drawn, 32, 100),
    Condition("every second frame, 16 fps", slower, 16, 100),
    Condition("blurred by 1 px", blurred, 32, 100),
    Condition("through the bundled VAE", through_vae, 32, 100),
)


def rows(view: str) -> list[str]:
    """The lines of a view."""
    spec = CohortSpec(view=view, n_patients=max(one.n_clips for one in CONDITIONS), seed=HELD_OUT_SEED)
    rendered = [render(spec, clip) for clip in clips(spec)]
    return [row(view, condition, rendered[: condition.n_clips]) for condition in CONDITIONS]


def row(view: str, condition: Condition, rendered: list[PhantomClip]) -> str:
    """One line of the table."""
    true = np.array([one.ef for one in rendered])
    read = np.array([measure_ef(condition.alter(one.frames), condition.fps) for one in rendered])
    weight = np.ones(len(true))
    values = (r2(true, read, weight), mae(true, read, weight), float((read - true).mean()))
    return f"| {view} | {condition.name} | {len(true)} | " + " | ".join(f"{value:.2f}" for value in values) + " |"


@dataclass(frozen=True)
class Lesson:
    """Reduced frames (N, T, 56, 56), uint8, and log volumes (N, T) of phantom clips."""

    frames: Tensor
    log_volumes: Tensor


def lesson(n_patients: int) -> Lesson:
    """12 frames over more than a beat of as many patients of each view."""
    specs = [CohortSpec(view=view, n_patients=n_patients, n_frames=12, fps=10.0, seed=SEED) for view in VIEWS]
    jobs = [(spec, clip) for spec in specs for clip in clips(spec)]
    frames, log_volumes = zip(*spread(_example, jobs, workers=2), strict=True)
    return Lesson(torch.from_numpy(np.stack(frames)), torch.from_numpy(np.stack(log_volumes)))


def _example(job: tuple[CohortSpec, ClipSpec]) -> tuple[np.ndarray, np.ndarray]:
    spec, clip = job
    who, recording = patient(spec, clip.patient_index), acquisition(spec, clip)
    shown = render_clip(who, recording, n_frames=spec.n_frames, fps=spec.fps).frames
    volume = volume_curve(who, recording, n_frames=spec.n_frames, fps=spec.fps)
    return (network_input(shown)[:, 0] * 255).round().byte().numpy(), np.log(volume).astype(np.float32)


def altered(frames: Tensor, rng: np.random.Generator) -> Tensor:
    """Other gain, contrast, sharpness, place and noise; (B, T, 56, 56) in [0, 1]."""
    gain, gamma = (torch.from_numpy(rng.uniform(*span, (len(frames), 1, 1, 1))).float() for span in GAIN_AND_GAMMA)
    frames = (frames * gain).clamp(0, 1) ** gamma
    kernel = torch.exp(-0.5 * (torch.arange(-2, 3) / rng.uniform(0.2, 1.1)) ** 2)
    kernel = torch.outer(kernel, kernel) / kernel.sum() ** 2
    soft = nn.functional.conv2d(frames.flatten(0, 1)[:, None], kernel[None, None], padding=2)[:, 0]
    moved = _moved(soft.reshape(frames.shape), rng)
    noise = rng.standard_normal(moved.shape, dtype=np.float32) * np.float32(rng.uniform(0, 0.03))
    return moved + torch.from_numpy(noise)


def _moved(frames: Tensor, rng: np.random.Generator) -> Tensor:
    """Each clip turned by up to 8 degrees, enlarged or reduced by a tenth, and shifted by up to 2 pixels."""
    n = len(frames)
    angle, zoom = np.deg2rad(rng.uniform(-8, 8, n)), rng.uniform(0.9, 1.1, n)
    cosine, sine, shift = zoom * np.cos(angle), zoom * np.sin(angle), rng.uniform(-0.07, 0.07, (2, n))
    affine = np.stack([np.stack([cosine, -sine, shift[0]], 1), np.stack([sine, cosine, shift[1]], 1)], axis=1)
    grid = nn.functional.affine_grid(torch.from_numpy(affine).float(), list(frames.shape), align_corners=False)
    return nn.functional.grid_sample(frames, grid, align_corners=False)


def train(examples: Lesson, *, epochs: int) -> VolumeNet:
    """Learns log volumes up to a constant of each clip, by least squares."""
    torch.manual_seed(derive_seed(SEED, "network") % 2**63)
    network = VolumeNet().to(memory_format=torch.channels_last)
    n_batches = len(examples.frames) // BATCH_CLIPS
    optimizer = torch.optim.AdamW(network.parameters(), PEAK_RATE, weight_decay=1e-2)
    rates = torch.optim.lr_scheduler.OneCycleLR(optimizer, PEAK_RATE, total_steps=epochs * n_batches, pct_start=0.1)
    for epoch in range(epochs):
        rng = generator(SEED, "epoch", epoch)
        order = rng.permutation(len(examples.frames))[: n_batches * BATCH_CLIPS].reshape(n_batches, -1)
        losses = []
        for rows in order:
            losses.append(_step(network, optimizer, examples, rows, rng))
            rates.step()
        print(f"epoch {epoch + 1} of {epochs}: root mean square of log volume {np.mean(losses) ** 0.5:.4f}", flush=True)
    return network


def _step(
    network: VolumeNet, optimizer: torch.optim.Optimizer, examples: Lesson, rows: np.ndarray, rng: np.random.Generator
) -> float:
    chosen = rows[:, None], rng.permuted(np.tile(np.arange(12), (len(rows), 1)), axis=1)[:, :BATCH_FRAMES]
    frames, truth = examples.frames[chosen].float() / 255, examples.log_volumes[chosen]
    error = network(altered(frames, rng).flatten(0, 1)[:, None]).reshape(truth.shape) - truth
    loss = ((error - error.mean(dim=1, keepdim=True)) ** 2).mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    return loss.item()


def save(network: VolumeNet) -> None:
    with whole_folder(BUNDLED_FILE.parent) as folder:
        save_file(
            {name: value.half().contiguous() for name, value in network.state_dict().items()},
            folder / BUNDLED_FILE.name,
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--train", action="store_true")
    if parser.parse_args().train:
        save(train(lesson(1500), epochs=24))
    print("| view | clip | patients | R² | MAE, points | bias, points |\n|---|---|---|---|---|---|")
    for view in VIEWS:
        print("\n".join(rows(view)), flush=True)


if __name__ == "__main__":
    main()
