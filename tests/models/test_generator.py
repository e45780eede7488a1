from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import DDPMScheduler
from hypothesis import given
from hypothesis import strategies as st

from mnemoscope.core.errors import CorruptFile, InputError, Mismatch
from mnemoscope.core.files import read_json, write_json
from mnemoscope.models import generator
from mnemoscope.models.generator import (
    RECORD_FILE,
    GeneratorRecord,
    Kind,
    generator_fingerprint,
    generator_folder,
    noise_schedule,
    read_record,
)
from mnemoscope.models.lidm import load_lidm, save_lidm
from mnemoscope.models.lvdm import load_lvdm, save_lvdm
from tests.tiny_generators import coded_frames, tiny_lidm, tiny_lvdm, tiny_record, write_cohort


@pytest.mark.parametrize("kind", ["lidm", "lvdm"])
@pytest.mark.parametrize("classes", [(), ("a4c", "psax")])
def test_a_record_reads_back_as_it_was(tmp_path: Path, kind: Kind, classes: tuple[str, ...]) -> None:
    record = tiny_record(kind, classes=classes)
    write_json(tmp_path / RECORD_FILE, record.to_json())
    assert read_record(tmp_path, kind) == record


def test_the_schedule_is_the_paper_s_in_closed_form() -> None:
    schedule = noise_schedule()
    expected = np.cumprod(1 - np.linspace(1e-4, 0.02, 1000))
    np.testing.assert_allclose(schedule.alphas_cumprod.numpy(), expected, rtol=1e-4)
    config = schedule.config
    assert (config.prediction_type, config.clip_sample, config.clip_sample_range) == ("v_prediction", True, 4.0)


def test_a_written_schedule_is_the_one_that_was_trained_with(tmp_path: Path) -> None:
    save_lidm(tmp_path / "model", tiny_lidm(), tiny_record("lidm"))
    read = DDPMScheduler.from_pretrained(tmp_path / "model", subfolder="scheduler")
    assert torch.equal(read.alphas_cumprod, noise_schedule().alphas_cumprod)
    expected = {name: value for name, value in noise_schedule().config.items() if not name.startswith("_")}
    assert {name: read.config[name] for name in expected} == expected


def test_the_latents_it_was_trained_on_are_taken_and_others_refused(tmp_path: Path) -> None:
    frames = [coded_frames(0, 3), coded_frames(1, 2)]
    store = write_cohort(tmp_path / "store", frames, splits=("train", "val"), columns={})
    record = replace(tiny_record("lidm"), scaling=store.record.scaling)
    record.require_store(store, what="the LIDM")
    with pytest.raises(Mismatch, match=r"latents of shape \(4, 4, 4\) as the LIDM was trained on, found \(2, 4, 4\)"):
        replace(record, frame_shape=(4, 4, 4)).require_store(store, what="the LIDM")
    with pytest.raises(Mismatch, match=r"of the VAE other as .* found toy; .*--vae"):
        replace(record, encoder="other").require_store(store, what="the LIDM")
    with pytest.raises(Mismatch, match="--scaling-from"):
        tiny_record("lidm").require_store(store, what="the LIDM")


@pytest.mark.parametrize("kind", ["lidm", "lvdm"])
def test_a_record_beside_another_network_is_refused(tmp_path: Path, kind: Kind) -> None:
    folder = tmp_path / "model"
    if kind == "lidm":
        save_lidm(folder, tiny_lidm(), tiny_record("lidm"))
    else:
        save_lvdm(folder, tiny_lvdm(), tiny_record("lvdm"))
    load: Callable[[Path], object] = load_lidm if kind == "lidm" else load_lvdm
    load(folder)
    values = read_json(folder / RECORD_FILE)
    for change in ({"classes": ["a", "b", "c", "d"]}, {"frame_shape": [3, *values["frame_shape"][1:]]}):
        write_json(folder / RECORD_FILE, values | change)
        with pytest.raises(CorruptFile, match=r"generator\.json belongs to a network with .*unet/config\.json says"):
            load(folder)


def test_bundled_and_paths_name_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(generator, "BUNDLED_FOLDER", tmp_path)
    for kind in ("lidm", "lvdm"):
        write_json(tmp_path / kind / RECORD_FILE, tiny_record(kind).to_json())
        assert generator_folder("bundled", kind) == tmp_path / kind
        assert generator_folder(tmp_path / kind, "lidm") == tmp_path / kind


@pytest.mark.parametrize("name", ["bundled", "nowhere", "", "some/where"])
def test_a_folder_without_a_record_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setattr(generator, "BUNDLED_FOLDER", tmp_path)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=r"expected 'bundled' or a folder.*mnemoscope train lvdm"):
        generator_folder(name, "lvdm")


def test_the_other_kind_is_refused(tmp_path: Path) -> None:
    write_json(tmp_path / RECORD_FILE, tiny_record("lidm").to_json())
    with pytest.raises(InputError, match="expected a lvdm, found a lidm; choose another folder"):
        read_record(tmp_path, "lvdm")


@pytest.mark.parametrize("content", ["", "{", "[]", "{}"])
def test_a_damaged_record_is_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / RECORD_FILE).write_text(content)
    with pytest.raises(CorruptFile, match=r"generator\.json"):
        read_record(tmp_path, "lidm")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format": "mnemoscope.generator/9"}, "format 'mnemoscope.generator/9'"),
        ({"colour": "red"}, "colour"),
        ({"scaling": {"low": [0.0]}}, "high"),
        ({"scaling": None}, "NoneType"),
    ],
)
def test_a_record_of_another_form_is_refused(tmp_path: Path, change: dict[str, object], message: str) -> None:
    write_json(tmp_path / RECORD_FILE, tiny_record("lidm").to_json() | change)
    with pytest.raises(CorruptFile, match=rf"generator\.json: .*{message}.*; train it again"):
        read_record(tmp_path, "lidm")


@pytest.mark.parametrize("name", ["kind", "frame_shape", "height", "width", "encoder", "scaling", "format"])
def test_a_record_that_lacks_something_is_refused(tmp_path: Path, name: str) -> None:
    values = tiny_record("lidm").to_json()
    del values[name]
    write_json(tmp_path / RECORD_FILE, values)
    with pytest.raises(CorruptFile, match=rf"generator\.json: .*{name}"):
        read_record(tmp_path, "lidm")


def test_a_record_without_later_additions_reads_with_none_of_them() -> None:
    values = {k: v for k, v in tiny_record("lidm").to_json().items() if k not in ("classes", "fps", "ef_quantiles")}
    assert GeneratorRecord.from_json(values) == tiny_record("lidm")


def test_the_fingerprint_tells_weights_and_records_apart(tmp_path: Path) -> None:
    record = tiny_record("lidm")
    for name, seed, written in (
        ("a", 0, record),
        ("same", 0, record),
        ("b", 1, record),
        ("c", 0, replace(record, height=40)),
    ):
        save_lidm(tmp_path / name, tiny_lidm(seed=seed), written)
    prints = {name: generator_fingerprint(tmp_path / name) for name in ("a", "same", "b", "c")}
    assert prints["a"] == prints["same"]
    assert len(set(prints.values())) == 3


def test_the_folder_holds_what_diffusers_expects_and_the_record(tmp_path: Path) -> None:
    save_lidm(tmp_path / "model", tiny_lidm(), tiny_record("lidm"))
    assert {str(p.relative_to(tmp_path / "model")) for p in (tmp_path / "model").rglob("*") if p.is_file()} == {
        "generator.json",
        "unet/config.json",
        "unet/diffusion_pytorch_model.safetensors",
        "scheduler/scheduler_config.json",
    }
    assert read_json(tmp_path / "model" / "unet" / "config.json")["_class_name"] == "UNet2DModel"


def test_an_interrupted_save_leaves_the_old_model_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save_lidm(tmp_path / "model", tiny_lidm(), tiny_record("lidm"))
    before = generator_fingerprint(tmp_path / "model")

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(generator, "save_file", interrupted)
    with pytest.raises(KeyboardInterrupt):
        save_lidm(tmp_path / "model", tiny_lidm(seed=1), tiny_record("lidm"))
    assert generator_fingerprint(tmp_path / "model") == before
    assert [p.name for p in tmp_path.iterdir()] == ["model"]


def test_saving_draws_nothing(tmp_path: Path) -> None:
    before = torch.get_rng_state()
    save_lidm(tmp_path / "model", tiny_lidm(), tiny_record("lidm"))
    assert torch.equal(torch.get_rng_state(), before)


@given(ef=st.floats(0, 100), slope=st.floats(0.2, 3), offset=st.floats(-60, 60))
def test_the_ef_told_shows_the_ef_asked_for_or_the_nearest_there_is(ef: float, slope: float, offset: float) -> None:
    record = replace(tiny_record("lvdm"), ef_shown=tuple(slope * told + offset for told in range(5, 100, 10)))
    told = float(record.ef_to_tell(np.array([ef]), n_frames=2)[0])
    shown = slope * told + offset
    nearest = min(max(ef, slope * 5 + offset), slope * 95 + offset)
    assert 5 <= told <= 95
    assert shown == pytest.approx(nearest, abs=1e-6)
    assert tiny_record("lvdm").ef_to_tell(np.array([ef]), n_frames=2)[0] == ef


def test_clips_of_one_window_and_joined_ones_have_responses_of_their_own() -> None:
    one, joined = (tuple(slope * told for told in range(5, 100, 10)) for slope in (0.5, 0.8))
    record = replace(tiny_record("lvdm"), window_frames=4, ef_shown=one, ef_shown_joined=joined)
    for n_frames, told in ((4, 80), (3, 50), (7, 50)):
        assert record.ef_to_tell(np.array([40.0]), n_frames=n_frames)[0] == pytest.approx(told)
    assert replace(record, ef_shown_joined=()).ef_to_tell(np.array([40.0]), n_frames=7)[0] == pytest.approx(80)
