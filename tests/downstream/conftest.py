"""A tiny cohort with EF, a synthetic set of it, and the finished audit of the two."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import mnemoscope
from mnemoscope.core.config import build
from mnemoscope.downstream.run import DownstreamConfig
from mnemoscope.models.ef import EfArchitecture, EfModel, EfRecord, R2Plus1D
from mnemoscope.models.initial import named_weights
from tests.reference import tiny_audit

SPLITS = ["train"] * 30 + ["val"] * 3 + ["holdout"] * 9
N_SYNTHETIC = 48
ARCHITECTURE = EfArchitecture(channels=1, stem=2, widths=(3,), blocks=1, stem_stride=4)
RECIPE = {
    "architecture": ARCHITECTURE.model_dump(),
    "n_frames": 4,
    "windows": 1,
    "draws": 8,
    "loop": {"epochs": 1, "batch_size": 8},
}


def tiny(**changes: object) -> DownstreamConfig:
    return build(DownstreamConfig, {"ef": RECIPE, "seeds": 1, "side_px": tiny_audit.SIZE_PX} | changes)


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> Iterator[None]:
    with tiny_audit.one_thread():
        yield


@pytest.fixture(scope="session")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """``real``, ``synthetic``, ``audit`` of the two, and ``reader``, a model of EF; to be looked at only."""
    folder = tmp_path_factory.mktemp("downstream")
    tiny_audit.write_real(folder / "real", splits=SPLITS)
    table = pd.read_csv(folder / "real" / "clips.csv")
    real_ef = np.random.default_rng(1).permutation(np.linspace(5, 95, len(table))).round(2)
    table.assign(ef=real_ef).to_csv(folder / "real" / "clips.csv", index=False)
    names = [f"s{number:02d}" for number in range(N_SYNTHETIC)]
    for number, name in enumerate(names):
        tiny_audit.write_clip(folder / "synthetic" / f"{name}.avi", _shown(number))
    ef = np.random.default_rng(0).uniform(20, 80, N_SYNTHETIC).round(2)
    pd.DataFrame({"file": [f"{n}.avi" for n in names], "ef": ef}).to_csv(
        folder / "synthetic" / "clips.csv", index=False
    )
    mnemoscope.audit(
        real=folder / "real",
        synthetic=folder / "synthetic",
        out=folder / "audit",
        config=tiny_audit.settings(percentile=88.0),
    )
    record = EfRecord(architecture=ARCHITECTURE, n_frames=4, period=1, height=32, width=32, mean=120.0, std=60.0)
    with named_weights(0, "reader"):
        network = R2Plus1D(ARCHITECTURE).eval()
    _spread(EfModel(network, record), [tiny_audit.drifting(_shown(i)) for i in range(N_SYNTHETIC)]).save(
        folder / "reader"
    )
    return folder


def _shown(number: int) -> int:
    """Clip s07 copies a train patient; the others show nobody."""
    return 2 if number == 7 else 500 + number


def _spread(model: EfModel, clips: list[np.ndarray]) -> EfModel:
    """The model with a head that reads EF of 50 ± 30 off these clips."""
    before = np.array([model.read(clip) for clip in clips])
    scale = 30 / before.std()
    model.network.fc.weight.data.mul_(scale)
    model.network.fc.bias.data.fill_(50 - scale * before.mean())
    return model
