import json
from pathlib import Path

import pytest
import yaml

import mnemoscope
from mnemoscope.core.files import read_json
from tests.cli.conftest import Call

SMALL = ("--set", "reid.loop.epochs=1", "--set", "reid.loop.batch_size=8")


@pytest.fixture(scope="module")
def store(clips: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("train") / "store"
    config = mnemoscope.EncodeConfig(space="image", frames={"height": 32, "width": 32})
    mnemoscope.encode(clips / "real", out=out, config=config)
    return out


def test_a_model_is_trained_once_and_reads_back(call: Call, store: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    done = call("train", "reid", "--store", store, "--out", out, *SMALL)
    assert (done.exit_code, done.stdout) == (0, f"{out / 'reid' / 'model'}\n")
    model = mnemoscope.load_reid(out / "reid" / "model")
    model.require_store(mnemoscope.LatentStore(store))
    assert model.network.architecture.space == "image"
    written = (out / "reid" / "model" / "model.safetensors").read_bytes()
    again = call("train", "reid", "--store", store, "--out", out, *SMALL, "--json")
    assert json.loads(again.stdout) == {"model": str(out / "reid" / "model")}
    assert (out / "reid" / "model" / "model.safetensors").read_bytes() == written
    assert read_json(out / "run.json")["stages"]["reid"]["reused"]
    other = mnemoscope.train_reid_model(
        store=store, out=tmp_path / "other", config=mnemoscope.ReidConfig(reid={"loop": {"epochs": 1, "batch_size": 8}})
    )
    assert (tmp_path / "other" / "reid" / "model" / "model.safetensors").read_bytes() == written
    assert other.scaling == model.scaling


def test_a_vae_is_trained_on_the_choices_of_its_recipe(call: Call, store: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    small = ("--set", "vae.channels=[4, 4, 4, 4]", "--set", "vae.loop.epochs=1", "--set", "vae.frames_per_clip=1")
    done = call("train", "vae", "--store", store, "--out", out, *small)
    assert (done.exit_code, done.stdout) == (0, f"{out / 'vae' / 'model'}\n")
    recipe = read_json(out / "run.json")["config"]["vae"]
    assert (recipe["loop"]["epochs"], recipe["loop"]["batch_size"], recipe["loop"]["schedule"]) == (1, 16, "cosine")
    assert mnemoscope.load_vae(str(out / "vae" / "model")).frame_shape(32, 32) == (4, 4, 4)
    assert read_json(out / "vae" / "held_out.json")["frames"] > 0


def test_the_papers_vae_is_a_preset_that_can_be_changed_in_part(call: Call, store: Path, tmp_path: Path) -> None:
    changes = {"loop": {"epochs": 3}, "adversarial": {"start_step": 10}}
    paper = mnemoscope.VaeConfig(preset="paper", vae=changes).recipe()
    assert paper.adversarial is not None
    assert (paper.loop.epochs, paper.loop.keep, paper.loop.batch_size) == (3, "last", 512)
    assert (paper.adversarial.start_step, paper.adversarial.weight, paper.channels[3]) == (10, 0.5, 512)
    assert mnemoscope.VaeConfig(preset="paper", vae={"adversarial": None}).recipe().adversarial is None
    assert mnemoscope.VaeConfig().recipe().adversarial is None
    asked = ("--set", "preset=paper", "--set", "vae.perceptual.kind=none", "--dry-run")
    plan = yaml.safe_load(call("train", "vae", "--store", store, "--out", tmp_path / "run", *asked).stdout)
    assert (plan["vae"]["blocks"], plan["vae"]["perceptual"]["kind"]) == (2, "none")


def test_no_store_ends_with_2(call: Call, tmp_path: Path) -> None:
    for model in ("reid", "vae"):
        done = call("train", model, "--store", tmp_path / "nowhere", "--out", tmp_path / "run")
        assert (done.exit_code, done.stdout) == (2, "")
        assert "nowhere" in done.stderr


def test_another_store_needs_another_run(call: Call, store: Path, tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "note.txt").write_text("mine")
    done = call("train", "reid", "--store", store, "--out", tmp_path / "run", *SMALL)
    assert done.exit_code == 2
    assert "choose an empty --out" in done.stderr
