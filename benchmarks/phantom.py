"""The phantom: frames per second of one core, how compressible its frames are, and how well a patient is told apart.

Speed is counted in processor time, so that other work on the machine does not count; ``run`` measures it alone. All
figures of ``docs/phantom.md`` come from ``python -m benchmarks.phantom`` (some twenty minutes).
"""

import dataclasses
import time
from collections.abc import Callable

import numpy as np
from scipy.ndimage import gaussian_filter

from benchmarks.rows import Row, table
from mnemoscope.phantom.anatomy import VIEWS
from mnemoscope.phantom.cohort import ClipSpec, CohortSpec, acquisition, clips, patient, render
from mnemoscope.phantom.render import render_clip

REQUIRED_FPS = 300.0
N_COMPONENTS = 784  # as many numbers as a latent of 4 x 14 x 14
N_DIRECTIONS = 250
N_KEPT = 100


def frames_per_second(view: str, *, n_clips: int = 20) -> float:
    """Frames of 64-frame clips per second of processor time, drawing everything, writing nothing."""
    spec = CohortSpec(view=view, n_patients=n_clips)
    render(spec, clips(spec)[0])
    start = time.process_time()
    for clip in clips(spec):
        render(spec, clip)
    return n_clips * spec.n_frames / (time.process_time() - start)


def pca_psnr_db(view: str, *, n_fitted: int = 700, n_held_out: int = 60) -> float:
    """Peak signal-to-noise ratio of held-out patients' frames rebuilt from the first components of others."""
    spec = CohortSpec(view=view, n_patients=n_fitted + n_held_out, n_frames=6, fps=5.0)
    frames = np.stack([render(spec, clip).frames for clip in clips(spec)]).astype(np.float32) / 255.0
    fitted, held_out = (part.reshape(len(part) * 6, -1) for part in (frames[:n_fitted], frames[n_fitted:]))
    mean = fitted.mean(axis=0)
    _, rotated = np.linalg.eigh((fitted - mean) @ (fitted - mean).T)
    components = (fitted - mean).T @ rotated[:, -N_COMPONENTS:]
    components /= np.linalg.norm(components, axis=0)
    error = held_out - mean - (held_out - mean) @ components @ components.T
    return float(-10.0 * np.log10(np.mean(error**2)))


def grain_rms(view: str, *, n_clips: int = 20) -> float:
    """What speckle and noise add inside the sector, in grey levels."""
    spec = CohortSpec(view=view, n_patients=n_clips, n_frames=1)
    return float(np.sqrt(np.mean([_grain_power(spec, clip) for clip in clips(spec)])))


def _grain_power(spec: CohortSpec, clip: ClipSpec) -> float:
    who, recording = patient(spec, clip.patient_index), acquisition(spec, clip)
    quiet = dataclasses.replace(recording, speckle_level=0.0, noise_level=0.0)
    seen, bare = (render_clip(who, one, n_frames=1, fps=32.0).frames.astype(float) for one in (recording, quiet))
    return float(np.mean((seen - bare)[seen > 0] ** 2))


def linear_top1(view: str, *, n_fitted: int = 1000, n_held_out: int = 300) -> float:
    """Share of unseen patients whose nearest clip is their other clip, by a linear discriminant on one coarse frame.

    A lower bound for what a network sees: moments of the beat are arbitrary and nothing is aligned.
    """
    spec = CohortSpec(view=view, n_patients=n_fitted + n_held_out, clips_per_patient=3, n_frames=1)
    coarse = np.stack([_coarse(spec, clip) for clip in clips(spec)]).reshape(spec.n_patients, 3, -1)
    project = _discriminant(coarse[:n_fitted])
    query, gallery = (project(coarse[n_fitted:, recording]) for recording in (0, 1))
    return float(np.mean((query @ gallery.T).argmax(axis=1) == np.arange(n_held_out)))


def _coarse(spec: CohortSpec, clip: ClipSpec) -> np.ndarray:
    return gaussian_filter(render(spec, clip).frames[0].astype(np.float32), 1.5)[1::3, 1::3].ravel()


def _discriminant(coarse: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
    """Whitens what differs within patients, keeps where patients differ most; (patients, recordings, pixels) in."""
    flat = coarse.reshape(-1, coarse.shape[-1])
    mean = flat.mean(axis=0)
    directions = np.linalg.svd(flat - mean, full_matrices=False)[2][:N_DIRECTIONS].T
    reduced = (coarse - mean) @ directions
    within = (reduced - reduced.mean(axis=1, keepdims=True)).reshape(-1, N_DIRECTIONS)
    spread, axes = np.linalg.eigh(within.T @ within / len(within) + 1e-3 * np.eye(N_DIRECTIONS) * within.var())
    white = axes / np.sqrt(spread)
    between = np.linalg.eigh(np.cov((reduced @ white).mean(axis=1).T))[1][:, -N_KEPT:]

    def project(pixels: np.ndarray) -> np.ndarray:
        features = (pixels - mean) @ directions @ white @ between
        return features / np.linalg.norm(features, axis=1, keepdims=True)

    return project


def run() -> list[Row]:
    """Frames per second of one core, each view."""
    return [_speed_row(view, frames_per_second(view)) for view in VIEWS]


def _speed_row(view: str, fps: float) -> Row:
    note = "64-frame clips, without writing, processor time"
    return Row(
        name=f"phantom {view}",
        value=fps,
        unit="frames/s",
        peer=f"required: {REQUIRED_FPS:g}",
        ratio=fps / REQUIRED_FPS,
        target=1.0,
        note=note,
    )


def main() -> None:
    """Print every figure."""
    rows = run()
    for view in VIEWS:
        rows.append(Row(name=f"{view}: PCA of 784, held-out patients", value=pca_psnr_db(view), unit="dB"))
        rows.append(Row(name=f"{view}: speckle and noise in the sector", value=grain_rms(view), unit="grey levels"))
        rows.append(Row(name=f"{view}: linear top-1 among 300 unseen patients", value=linear_top1(view), unit=""))
    print(table(rows))


if __name__ == "__main__":
    main()
