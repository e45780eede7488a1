"""The audit's numbers on 100,000 synthetic and 7,465 train clips with four frames each, features given."""

import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import numpy as np
import pandas as pd

from benchmarks.rows import Row
from mnemoscope.audit.run.assess import Clips, assess
from mnemoscope.audit.run.settings import AuditConfig
from mnemoscope.audit.run.stages import SetFeatures
from mnemoscope.audit.run.together import hold_together
from mnemoscope.audit.run.verify import verification
from mnemoscope.core.provenance import PeakMemory
from mnemoscope.latents.features import FrameFeatures
from mnemoscope.latents.scaling import Scaling
from mnemoscope.models.initial import named_weights
from mnemoscope.models.reid import Reid, ReidModel, default_architecture

SYNTHETIC, TRAIN, HOLDOUT = 100_000, 7_465, 1_277
FRAMES, FEATURES, WATCHED = 4, 128, 64
LIMIT_S, LIMIT_MB = 60.0, 3000.0


def run() -> list[Row]:
    """Seconds and peak memory, in a process of its own: what other benchmarks left in memory does not count."""
    with ProcessPoolExecutor(max_workers=1, mp_context=get_context("spawn")) as pool:
        return pool.submit(_measured).result()


def _measured() -> list[Row]:
    features, clips, model = given()
    head, config = model.network.search_head(), AuditConfig()
    assert features.watched_real is not None
    assert features.watched_synthetic is not None
    with PeakMemory(interval_s=0.02) as memory:
        start = time.perf_counter()
        assess(features, clips, head, config=config)
        verification(features.verification, clips.holdout, model, seed=0, absent={})
        hold_together(features.watched_real, features.watched_synthetic, np.arange(200), head, seed=0)
        seconds = time.perf_counter() - start
    note = f"{FRAMES} frames of every clip on both sides; privacy, recall, ledger, verification, consistency"
    name = f"audit of {SYNTHETIC:,} × {TRAIN:,}, features given"
    return [
        Row(name=name, value=seconds, unit="s", target=LIMIT_S, note=note),
        Row(name=f"{name}: memory", value=memory.peak_bytes / 1e6, unit="MB", target=LIMIT_MB, note="of the process"),
    ]


def given() -> tuple[SetFeatures, Clips, ReidModel]:
    """Features as a trained network has them: a place for each patient, spread by view and frame."""
    rng = np.random.default_rng(0)

    def frames(clips: int, per_clip: int = FRAMES) -> FrameFeatures:
        place = rng.normal(0, 1.2, (clips, FEATURES)).astype(np.float32)
        values = np.repeat(place, per_clip, axis=0)
        values += rng.normal(0, 0.3, values.shape).astype(np.float32)
        np.divide(1.0, 1.0 + np.exp(-values), out=values)
        return FrameFeatures(values, np.repeat(np.arange(clips), per_clip), np.tile(np.arange(per_clip), clips))

    def table(name: str, clips: int) -> pd.DataFrame:
        ids = [f"{name}{i:06d}" for i in range(clips)]
        return pd.DataFrame({"clip_id": ids, "patient_id": ids, "ef": rng.uniform(10, 80, clips)})

    holdout = frames(HOLDOUT)
    features = SetFeatures(
        train=frames(TRAIN),
        holdout=holdout,
        synthetic=frames(SYNTHETIC),
        verification=holdout,
        watched_real=frames(200, WATCHED),
        watched_synthetic=frames(200, WATCHED),
    )
    clips = Clips(table("train", TRAIN), table("holdout", HOLDOUT), table("synthetic", SYNTHETIC))
    with named_weights(0, "benchmark"):
        network = Reid(default_architecture(space="latent", channels=4))
    ones = (1.0,) * 4
    scaling = Scaling(low=(-1.0,) * 4, high=ones, mean=(0.0,) * 4, std=ones)
    return features, clips, ReidModel(network, scaling=scaling, encoder="benchmark", preset="default")
