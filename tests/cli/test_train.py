import json
from pathlib import Path

import numpy as np
import pytest
import yaml

import mnemoscope
from mnemoscope.core.files import read_json
from mnemoscope.models.lidm import load_lidm
from mnemoscope.models.lvdm import load_lvdm
from tests.cli.conftest import Call
from tests.tiny_generators import coded_frames, write_cohort
from tests.toys import ToyClip, write_store

GENERATORS = ("lidm", "lvdm")
TINY = {
    "lidm": {
        "architecture": {"channels": [16, 32], "attention": [False, True], "head_channels": 8},
        "frames_per_clip": 1,
        "loop": {"epochs": 1, "batch_size": 2},
    },
    "lvdm": {
        "architecture": {"channels": [32], "attention": [True], "heads": [2], "time_channels": 4},
        "window_frames": 3,
        "loop": {"epochs": 1},
    },
}
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


@pytest.fixture(scope="module")
def latents(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("latents") / "store"
    frames = [coded_frames(i, 4) for i in range(3)]
    columns = {"ef": [50, 60, 70], "fps": [25, 25, 25]}
    write_cohort(folder, frames, splits=("train", "train", "val"), columns=columns)
    return folder


def tiny(model: str) -> list[str]:
    return [word for key, value in TINY[model].items() for word in ("--set", f"{model}.{key}={json.dumps(value)}")]


@pytest.mark.parametrize("model", GENERATORS)
def test_a_generator_is_trained_once_and_can_be_loaded(call: Call, latents: Path, tmp_path: Path, model: str) -> None:
    out, words = tmp_path / "run", ("train", model, "--store", latents, "--out", tmp_path / "run", *tiny(model))
    done = call(*words)
    assert (done.exit_code, done.stdout) == (0, f"{out / model / 'model'}\n")
    network, record = {"lidm": load_lidm, "lvdm": load_lvdm}[model](out / model / "model")
    record.require_store(mnemoscope.LatentStore(latents), what=model)
    assert list(network.unet.config["block_out_channels"]) == TINY[model]["architecture"]["channels"]
    recipe = read_json(out / "run.json")["config"][model]
    assert (recipe["loop"]["epochs"], recipe["loop"]["schedule"]) == (1, "cosine")
    again = call(*words, "--json")
    assert json.loads(again.stdout) == {"model": str(out / model / "model")}
    assert read_json(out / "run.json")["stages"][model]["reused"]


@pytest.mark.parametrize("preset", ["small", "paper"])
@pytest.mark.parametrize("model", GENERATORS)
def test_the_recipe_that_is_printed_can_be_given_back(
    call: Call, latents: Path, tmp_path: Path, model: str, preset: str
) -> None:
    words = ("train", model, "--store", latents, "--out", tmp_path / "run", "--dry-run")
    first = call(*words, "--preset", preset, "--set", f"{model}.loop.epochs=3", "--seed", 7)
    assert first.exit_code == 0
    (tmp_path / "plan.yaml").write_text(first.stdout)
    assert call(*words, "--config", tmp_path / "plan.yaml").stdout == first.stdout
    plan = yaml.safe_load(first.stdout)
    assert (plan["preset"], plan["seed"], plan[model]["loop"]["epochs"]) == (preset, 7, 3)
    assert plan[model]["loop"]["precision"] == {"small": "no", "paper": "fp16"}[preset]
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("model", GENERATORS)
@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("classes=cluster", "--set classes=cluster: expected a column"),
        ("loop.epoch=3", "did you mean"),
        ("architecture.channels=[16, 24]", "channels: expected one or more multiples"),
        ("architecture.attention=[true]", "attention: expected one for each of the 3 levels"),
        ("loop.precision=fp16", "loop.precision: expected no or bf16 on a CPU"),
    ],
)
def test_settings_that_make_no_generator_end_with_2(
    call: Call, latents: Path, tmp_path: Path, model: str, setting: str, message: str
) -> None:
    done = call(
        "train",
        model,
        "--store",
        latents,
        "--out",
        tmp_path / "run",
        "--set",
        f"{model}.{setting}",
        *(["--set", "lvdm.window_frames=3"] if model == "lvdm" else []),
    )
    assert (done.exit_code, done.stdout) == (2, "")
    assert message in done.stderr


@pytest.mark.parametrize("model", GENERATORS)
def test_a_store_of_pixels_is_no_store_for_a_generator(call: Call, store: Path, tmp_path: Path, model: str) -> None:
    done = call("train", model, "--store", store, "--out", tmp_path / "run", *tiny(model))
    assert done.exit_code == 2
    assert "holds pixels; latent diffusion trains on latents" in done.stderr


def test_a_window_that_no_clip_fills_ends_with_2(call: Call, latents: Path, tmp_path: Path) -> None:
    done = call("train", "lvdm", "--store", latents, "--out", tmp_path / "run", "--set", "lvdm.window_frames=9")
    assert done.exit_code == 2
    assert "--set lvdm.window_frames=4" in done.stderr


def test_no_store_ends_with_2(call: Call, tmp_path: Path) -> None:
    for model in ("reid", "vae", *GENERATORS):
        done = call("train", model, "--store", tmp_path / "nowhere", "--out", tmp_path / "run")
        assert (done.exit_code, done.stdout) == (2, "")
        assert "nowhere" in done.stderr


def test_another_store_needs_another_run(call: Call, store: Path, tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "note.txt").write_text("mine")
    done = call("train", "reid", "--store", store, "--out", tmp_path / "run", *SMALL)
    assert done.exit_code == 2
    assert "choose an empty --out" in done.stderr


def test_an_ef_regressor_is_trained_and_reads(call: Call, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    clips = {
        f"c{i:02d}": ToyClip(rng.integers(0, 256, (5, 1, 8, 8), dtype=np.uint8), f"p{i}", "val" if i > 11 else "train")
        for i in range(14)
    }
    write_store(tmp_path / "store", clips, space="image", columns={"ef": np.linspace(20, 80, 14)})
    small = ("--set", "ef.loop.epochs=1", "--set", "ef.draws=4", "--set", "ef.n_frames=4")
    done = call("train", "ef", "--store", tmp_path / "store", "--out", tmp_path / "run", *small)
    assert (done.exit_code, done.stdout) == (0, f"{tmp_path / 'run' / 'ef' / 'model'}\n")
    assert 0 < mnemoscope.load_ef(tmp_path / "run" / "ef" / "model").read(clips["c00"].frames[:, 0]) < 100
    other = mnemoscope.EfConfig(ef={"loop": {"epochs": 1}, "draws": 4, "n_frames": 4})
    model = mnemoscope.train_ef_model(store=tmp_path / "store", out=tmp_path / "other", config=other)
    name = "model.safetensors"
    assert (model / name).read_bytes() == (tmp_path / "run" / "ef" / "model" / name).read_bytes()
    done = call("train", "ef", "--store", tmp_path / "store", "--out", tmp_path / "no", "--set", "ef.epochs=3")
    assert (done.exit_code, "ef.epochs: unknown key" in done.stderr) == (2, True)
