"""Calibration: are the audit's claims true? One instrument, and many synthetic sets of which the truth is known.

A phantom cohort of 1,000 train patients and 500 holdout patients, two clips each, is audited once, which trains the
model. Then, seed by seed, sets are drawn from new patients (a perfect sampler), from samplers that know 10, 30 and 60 %
of the train patients, and of noise; each is assessed against another half of the holdout patients. The page also holds
the ladder of planted copies for several ways to compare clips. Writes docs/results/audit.md and its figures.
"""

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy.ndimage import gaussian_filter

import benchmarks.methods as methods
import mnemoscope.audit.run.stages as stages
from benchmarks.calibration_page import write_page
from mnemoscope.audit.run import AuditConfig
from mnemoscope.audit.run.assess import Clips, assess
from mnemoscope.audit.run.probes import sector_mask
from mnemoscope.cli.audit import audited
from mnemoscope.core.files import folder_fingerprint
from mnemoscope.core.progress import unwatched
from mnemoscope.core.provenance import Run
from mnemoscope.core.rng import generator
from mnemoscope.data.layouts import read_layout
from mnemoscope.data.manifest import read_manifest
from mnemoscope.data.transform import FrameTransform
from mnemoscope.data.writing import write_video
from mnemoscope.latents.encode import PixelEncoder, encode_set, source_fingerprint
from mnemoscope.latents.features import FrameFeatures, extract_features
from mnemoscope.latents.store import LatentStore
from mnemoscope.models.reid import ReidModel, load_reid
from mnemoscope.models.vae import load_vae
from mnemoscope.phantom.cohort import CohortSpec, clips, render, write_cohort
from mnemoscope.phantom.plants import PlantSpec, write_plants
from mnemoscope.training.reid import paper_training, train_reid

OUT = Path("runs/calibration")
COHORT = CohortSpec(
    n_patients=1650,
    clips_per_patient=2,
    n_frames=16,
    fps=16.0,
    seed=0,
    val_share=150 / 1650,
    holdout_share=500 / 1650,
)
PLANTS = PlantSpec(n_copies=20, n_fresh=160, n_partial=160, known_share=0.3, variation=0.3, n_frames=16, seed=0)
# A clip's four compared frames are a quarter of a second apart; what is drawn for a seed has just these.
QUARTERS = dataclasses.replace(COHORT, n_frames=4, fps=4.0)
SEEDS = 20
N_FRESH, N_KNOWN, N_NOISE = 400, 600, 100
KNOWN_SHARES = (0.1, 0.3, 0.6)
LADDER_COPIES = 400
PAPER_EPOCHS = 40
PAIRS_EPOCHS = 400
CONFIG = AuditConfig(ladder_copies=LADDER_COPIES, ef_reader="phantom")


def run() -> None:
    """Everything, resumable; then the page."""
    folder = Run(OUT, command="calibration", identity={}, config=CONFIG.model_dump(mode="json"), seed=0)
    with folder.recording():
        real = folder.stage("real", {"cohort": dataclasses.asdict(COHORT)}, _cohort) / "clips"
        planted = folder.stage("planted", {"plants": dataclasses.asdict(PLANTS)}, _plants) / "clips"
        audited(real, planted, OUT / "audit", CONFIG, unwatched)
        model = load_reid(OUT / "audit" / "reid" / "model")
        rows = [row for seed in range(SEEDS) for row in _seed(folder, seed, model)]
        rows += _noise(folder, model)
        scored = _methods(folder, model)
        write_page(OUT / "audit", pd.DataFrame(rows), scored)


def _cohort(folder: Path) -> None:
    write_cohort(COHORT, folder / "clips")


def _plants(folder: Path) -> None:
    write_plants(COHORT, PLANTS, folder / "clips")


def _real() -> tuple[LatentStore, stages.SetFeatures]:
    return LatentStore(OUT / "audit" / "latents-real"), stages.load_features(OUT / "audit" / "features")


def _seed(folder: Run, seed: int, model: ReidModel) -> list[dict[str, Any]]:
    """Assessed sets of one seed: new patients, and samplers of known shares."""
    sets = {"fresh": PlantSpec(n_copies=0, n_fresh=N_FRESH, n_frames=4, seed=1000 + seed)}
    for share in KNOWN_SHARES:
        sets[f"knows {share:.0%}"] = PlantSpec(
            n_copies=0, n_fresh=0, n_partial=N_KNOWN, known_share=share, variation=0.0, n_frames=4, seed=1000 + seed
        )

    def make(place: Path) -> None:
        for name, plants in sets.items():
            _encoded(place, write_plants(QUARTERS, plants, place / _folder(name)))

    inputs = {"plants": [dataclasses.asdict(p) for p in sets.values()], "model": _key(), "version": 1}
    place = folder.stage(f"seed-{seed:02d}", inputs, make)
    return [{"seed": seed, "set": name} | _assessed(place / f"latents-{_folder(name)}", model, seed) for name in sets]


def _folder(name: str) -> str:
    return name.replace(" ", "-").rstrip("%")


def _noise(folder: Run, model: ReidModel) -> list[dict[str, Any]]:
    """Noise over the whole frame, of several grains; and noise where the phantom's sector is, which is harder."""
    rng = generator(0, "noise clips")
    sector = sector_mask(render(COHORT, clips(COHORT)[0]).frames)
    kinds: dict[str, Callable[[], np.ndarray]] = {
        "white noise": lambda: rng.integers(0, 256, (4, 112, 112)).astype(np.uint8),
        "coarse noise": lambda: np.kron(rng.integers(0, 256, (4, 14, 14)), np.ones((1, 8, 8))).astype(np.uint8),
        "gray noise": lambda: np.clip(128 + 20 * rng.standard_normal((4, 112, 112)), 0, 255).astype(np.uint8),
        "smooth noise": lambda: _smooth(rng),
        "white noise in the sector": lambda: (rng.integers(0, 200, (4, 112, 112)) * sector).astype(np.uint8),
        "smooth noise in the sector": lambda: _smooth(rng) * sector,
    }

    def make(place: Path) -> None:
        for name, draw in kinds.items():
            made = place / _folder(name)
            made.mkdir()
            for number in range(N_NOISE):
                write_video(made / f"noise{number:04d}.avi", draw(), fps=4.0, codec="mjpeg", quality=3)
            _encoded(place, made)

    place = folder.stage("noise", {"model": _key(), "n": N_NOISE, "kinds": list(kinds)}, make)
    return [{"seed": 0, "set": name} | _assessed(place / f"latents-{_folder(name)}", model, 0) for name in kinds]


def _smooth(rng: np.random.Generator) -> np.ndarray:
    blurred = gaussian_filter(rng.standard_normal((4, 112, 112)), (0, 6, 6))
    return np.clip(90 + 60 * blurred / blurred.std(), 0, 255).astype(np.uint8)


def _key() -> str:
    return folder_fingerprint(OUT / "audit" / "reid" / "model")


def _encoded(place: Path, made: Path) -> None:
    listed = read_layout(made, split="synthetic")
    encode_set(
        listed,
        place / f"latents-{made.name}",
        encoder=load_vae("bundled"),
        transform=FrameTransform(),
        source=source_fingerprint(listed),
        scaling=_real()[0].record.scaling,
    )


def _assessed(latents: Path, model: ReidModel, seed: int) -> dict[str, Any]:
    """The numbers of one set, against a random half of the holdout patients."""
    real, known = _real()
    store = LatentStore(latents)
    synthetic = extract_features(
        store, store.clips, model.embed, frames_per_clip=4, measure=stages.novelty_measure(real)
    )
    holdout = real.of_split("holdout")
    chosen = _half(holdout["patient_id"].to_numpy(), seed)
    features = stages.SetFeatures(
        train=known.train,
        holdout=_rows_of(known.holdout, chosen),
        synthetic=synthetic,
        verification=_rows_of(known.verification, chosen),
    )
    tables = Clips(real.of_split("train"), holdout.iloc[chosen].reset_index(drop=True), store.clips)
    found = assess(features, tables, model.network.search_head(), config=CONFIG.model_copy(update={"seed": seed}))
    p_max = {
        "p_max": found.compared.synthetic.p_max.tolist(),
        "holdout_p_max": found.compared.holdout.p_max.tolist(),
        "exposed": int((found.ledger.exposure_p <= 0.01).sum()),
    }
    numbers = {"privacy": found.privacy, "recall": found.recall}
    return p_max | {name: json.loads(json.dumps(dataclasses.asdict(value))) for name, value in numbers.items()}


def _half(patient: np.ndarray, seed: int) -> np.ndarray:
    names = np.unique(patient)
    kept = generator(seed, "half").permutation(names)[: len(names) // 2]
    return np.flatnonzero(np.isin(patient, kept))


def _rows_of(features: FrameFeatures, chosen: np.ndarray) -> FrameFeatures:
    rows = np.flatnonzero(np.isin(features.clip, chosen))
    novelty = None if features.novelty is None else features.novelty[rows]
    place = np.searchsorted(chosen, features.clip[rows])
    return FrameFeatures(features.values[rows], place, features.frame[rows], novelty)


def _methods(folder: Run, model: ReidModel) -> list[methods.Scored]:
    """The ladder for the default model, the paper's, their features by correlation, and raw pixels."""
    real, _ = _real()
    files, vae = methods.files_of(OUT / "audit"), methods.Remembering(load_vae("bundled"))
    default = methods.Method("default", real, vae, model, _key())
    paper_folder = folder.stage("reid-paper", {"store": real.fingerprint, "epochs": PAPER_EPOCHS}, _train_paper)
    paper = methods.Method(
        "paper", real, vae, load_reid(paper_folder / "model"), folder_fingerprint(paper_folder / "model")
    )
    pairs_folder = folder.stage("reid-pairs", {"store": real.fingerprint, "epochs": PAIRS_EPOCHS}, _train_pairs)
    pairs = methods.Method(
        "paper's pairs, compact network",
        real,
        vae,
        load_reid(pairs_folder / "model"),
        folder_fingerprint(pairs_folder / "model"),
    )
    pixels = LatentStore(folder.stage("pixels", {"store": real.fingerprint}, _encode_pixels))
    listed = [
        default,
        methods.correlated(default, "default features, correlation"),
        paper,
        methods.correlated(paper, "paper features, correlation"),
        pairs,
        methods.pixel_method(pixels),
    ]
    return [
        methods.score(
            Run(OUT / "methods" / method.name.replace(" ", "-"), command="ladder", identity={}, config={}, seed=0),
            method,
            files,
            CONFIG,
            copies=LADDER_COPIES,
        )
        for number, method in enumerate(listed)
    ]


def _train_paper(folder: Path) -> None:
    real, _ = _real()
    recipe = paper_training(space="latent", channels=real.frame_shape[0])
    loop = recipe.loop.model_copy(update={"epochs": PAPER_EPOCHS, "batch_size": 256})
    train_reid(real, recipe.model_copy(update={"loop": loop}), folder, seed=0)


def _train_pairs(folder: Path) -> None:
    """The paper's pairs and free head with the default's network, which trains in minutes."""
    real, _ = _real()
    recipe = paper_training(space="latent", channels=real.frame_shape[0])
    architecture = recipe.architecture.model_copy(update={"backbone": "compact", "stem": "dense"})
    loop = recipe.loop.model_copy(update={"epochs": PAIRS_EPOCHS, "batch_size": 256, "patience_epochs": 100})
    train_reid(real, recipe.model_copy(update={"architecture": architecture, "loop": loop}), folder, seed=0)


def _encode_pixels(folder: Path) -> None:
    listed = read_manifest(OUT / "audit" / "check-real" / "manifest.parquet")
    encode_set(
        listed,
        folder,
        encoder=PixelEncoder(),
        transform=FrameTransform(),
        source=source_fingerprint(listed),
    )


if __name__ == "__main__":
    run()
