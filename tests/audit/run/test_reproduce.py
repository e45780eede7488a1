from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from mnemoscope.audit.run.paper import SETS
from mnemoscope.audit.run.reproduce import ReproduceConfig, expected_s, on_holdout, trained_and_tested
from mnemoscope.core.config import build
from mnemoscope.core.errors import ConfigError, InputError, Mismatch, TooFewSamples
from mnemoscope.core.provenance import Run
from mnemoscope.latents.scaling import Scaling
from mnemoscope.latents.store import LatentStore
from mnemoscope.models.initial import named_weights
from mnemoscope.models.reid import Reid, ReidArchitecture, ReidModel
from mnemoscope.phantom.cohort import write_cohort
from tests.toys import ToyClip, write_store

ARCHITECTURE = ReidArchitecture(backbone="compact", stem="dense", channels=2, features=8)


def store_of(folder: Path, *, shift: float, frames: int = 6) -> LatentStore:
    """Six holdout patients who are a pattern of their own each, and some train clips."""
    clips = {}
    for patient in range(8):
        rng = np.random.default_rng(patient)
        pattern = rng.normal(shift, 2.0, size=(2, 8, 8))
        moved = pattern + rng.normal(size=(frames, 2, 8, 8))
        clips[f"c{patient}"] = ToyClip(moved.astype(np.float16), f"p{patient}", "holdout" if patient < 6 else "train")
    return write_store(folder, clips)


def model_of(scaling: Scaling) -> ReidModel:
    """A network that nobody trained, whose features differ well from frame to frame."""
    with named_weights(3, "toy"):
        network = Reid(ARCHITECTURE)
    with torch.no_grad():
        network.model[-1].weight.mul_(50.0)
    return ReidModel(network, scaling=scaling, encoder="toy", preset="default")


@pytest.fixture(scope="module")
def stores(tmp_path_factory: pytest.TempPathFactory) -> tuple[LatentStore, LatentStore]:
    place = tmp_path_factory.mktemp("stores")
    return store_of(place / "own", shift=0.0), store_of(place / "other", shift=3.0)


def test_frames_of_another_set_are_scaled_by_the_models_own_constants(stores: tuple[LatentStore, LatentStore]) -> None:
    own, other = stores
    with pytest.raises(Mismatch):
        other.require_scaling(own.record.scaling, owner="model")
    model = model_of(own.record.scaling)
    found = on_holdout(other, model, train="own", test="other", seed=0)
    correlations = []
    for _, clip in other.clips_of(other.of_split("holdout")):
        with torch.inference_mode():
            scaled = torch.from_numpy(own.record.scaling.apply(clip, "minmax"))
            matrix = np.corrcoef(model.network(scaled).double().numpy())
        correlations.append((matrix.sum() - len(matrix)) / (len(matrix) ** 2 - len(matrix)))
    assert found.mcc_mean == pytest.approx(np.mean(correlations), abs=1e-6)
    assert found.mcc_std == pytest.approx(np.std(correlations), abs=1e-6)
    assert (found.space, found.train, found.test, found.clips) == ("latent", "own", "other", 6)
    by_its_own = on_holdout(other, model_of(other.record.scaling), train="other", test="other", seed=0)
    assert by_its_own.mcc_mean != pytest.approx(found.mcc_mean, abs=1e-3)


def test_holdout_clips_of_one_frame_are_named(tmp_path: Path) -> None:
    short = store_of(tmp_path / "short", shift=0.0, frames=1)
    with pytest.raises(TooFewSamples, match="found one in c0, c1, c2 …"):
        on_holdout(short, model_of(short.record.scaling), train="a", test="a", seed=0)


def test_training_begins_with_random_weights_and_stays_short() -> None:
    for space in ("latent", "image"):
        default = ReproduceConfig().recipe(space)
        assert (default.initial, default.loop.epochs, default.architecture.backbone) == ("random", 15, "compact")
        assert default.architecture.space == space
        paper = ReproduceConfig(preset="paper").recipe(space)
        assert (paper.initial, paper.loop.epochs, paper.architecture.backbone) == ("random", 1000, "resnet50")
    changed = ReproduceConfig(reid={"loop": {"epochs": 3}}).recipe("latent")
    assert (changed.loop.epochs, changed.initial, changed.loop.batch_size) == (3, "random", 256)


def test_the_three_cohorts_differ_in_view_alone() -> None:
    config = ReproduceConfig(patients=20, clips_per_patient=3, phantom_frames=5, seed=4)
    cohorts = {name: config.cohort(name) for name in SETS}
    assert {name: spec.view for name, spec in cohorts.items()} == {"dynamic": "a4c", "a4c": "ped_a4c", "psax": "psax"}
    assert {replace(spec, view="a4c") for spec in cohorts.values()} == {cohorts["dynamic"]}
    one = cohorts["a4c"]
    assert (one.n_patients, one.clips_per_patient, one.n_frames, one.seed) == (20, 3, 5, 4)


@pytest.mark.parametrize(("spaces", "chosen"), [("latent,image", ["image", "latent"]), ("latent", ["latent"])])
def test_spaces_come_in_the_order_of_the_paper(spaces: str, chosen: list[str]) -> None:
    assert ReproduceConfig(spaces=spaces).chosen() == chosen


def test_the_cost_grows_with_patients_and_falls_with_given_folders(tmp_path: Path) -> None:
    usual, many = (sum(expected_s(ReproduceConfig(patients=n)).values()) for n in (2400, 4800))
    assert many == pytest.approx(2 * usual)
    assert usual / 10 < 12 * 60
    real = write_cohort(ReproduceConfig(patients=8, phantom_frames=2).cohort("dynamic"), tmp_path / "real", workers=1)
    parts = expected_s(ReproduceConfig(spaces="latent"), dynamic=real)
    assert parts["phantoms"] == pytest.approx(expected_s(ReproduceConfig())["phantoms"] * 2 / 3)
    assert sum(expected_s(ReproduceConfig(preset="paper")).values()) > 1e4


def test_a_misspelt_setting_is_named_before_anything_is_drawn(tmp_path: Path) -> None:
    config = build(ReproduceConfig, {"reid": {"loop": {"epoch": 3}}})
    with pytest.raises(ConfigError, match=r"did you mean 'reid\.loop\.epochs'"):
        trained_and_tested(run_in(tmp_path / "run", config), config=config)
    assert {path.name for path in (tmp_path / "run").iterdir()} == {"run.json"}


@pytest.mark.parametrize("flag", ["dynamic", "pediatric"])
def test_a_folder_without_clips_or_splits_is_refused(tmp_path: Path, flag: str) -> None:
    config = ReproduceConfig(patients=4, phantom_frames=2, workers=1)
    with pytest.raises(InputError, match=f"--{flag} .*nowhere"):
        expected_s(config, **{flag: tmp_path / "nowhere"})
    name = "dynamic" if flag == "dynamic" else "a4c"
    layout = "dynamic" if flag == "dynamic" else "pediatric"
    real = write_cohort(config.cohort(name), tmp_path / "real", workers=1, layout=layout)
    table = next(real.rglob("FileList.csv"))
    rows = pd.read_csv(table)
    rows.assign(Split="TRAIN" if flag == "dynamic" else 0).to_csv(table, index=False)
    with pytest.raises(InputError, match="found no holdout, val"):
        expected_s(config, **{flag: real})


def run_in(out: Path, config: ReproduceConfig) -> Run:
    return Run(out, command="test", identity={}, config=config.model_dump(mode="json"), seed=config.seed)
