import errno
import json
import os
import shutil
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml
from click.testing import Result

import mnemoscope
from mnemoscope.core.files import read_json, write_json
from mnemoscope.data.layouts import read_layout
from mnemoscope.data.manifest import validate
from mnemoscope.data.transform import FrameTransform
from mnemoscope.data.video import probe, read_clip
from mnemoscope.latents.store import LatentStore
from mnemoscope.models.generator import GeneratorRecord
from mnemoscope.models.lidm import load_lidm, save_lidm
from mnemoscope.models.vae import load_vae
from mnemoscope.sampling.videos import VideoSampling
from tests.cli.conftest import Call
from tests.sampling.tiny_models import SHAPE, SIZE_PX, Models, named_noise, write_audit, write_models, write_vae
from tests.toys import ToyClip, write_store

CLASSES = ("a4c", "psax")
COUNT = 3
# Latents are kept in half precision, where a batch of another size may fall to the neighbouring number.
STORED = {"atol": 1e-3, "rtol": 1e-3}


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Models:
    return write_models(tmp_path_factory.mktemp("models"), classes=CLASSES)


def image_words(models: Models, out: Path) -> list[object]:
    return [
        "sample",
        "images",
        "--lidm",
        models.lidm,
        "--vae",
        models.vae,
        "--out",
        out,
        "--count",
        COUNT,
        "--steps",
        2,
    ]


def video_words(models: Models, out: Path) -> list[object]:
    places = ["--lvdm", models.lvdm, "--lidm", models.lidm, "--vae", models.vae, "--out", out]
    return ["sample", "videos", *places, "--count", COUNT, "--frames", 6, "--steps", 2, "--frame-steps", 2]


@pytest.fixture(scope="module")
def images(call: Call, models: Models, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("sample") / "images"
    done = call(*image_words(models, out))
    assert (done.exit_code, done.stderr) == (0, "")
    assert done.stdout == f"3 samples: {out / 'clips'}\n"
    return out


@pytest.fixture(scope="module")
def videos(call: Call, models: Models, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("sample") / "videos"
    done = call(*video_words(models, out), "--codec", "ffv1")
    assert (done.exit_code, done.stderr) == (0, "")
    assert done.stdout == f"3 samples: {out / 'clips'}\n"
    return out


def latents(out: Path) -> np.ndarray:
    store = LatentStore(out / "latents")
    return store.read(0, store.n_frames)


def reused(out: Path) -> dict[str, bool]:
    return {name: stage["reused"] for name, stage in read_json(out / "run.json")["stages"].items()}


def refused(done: Result) -> str:
    assert (done.exit_code, done.stdout) == (2, "")
    return str(done.stderr)


def require_decoded(out: Path, vae: Path) -> None:
    """The lossless files are what the VAE makes of the latents."""
    store, network = LatentStore(out / "latents"), load_vae(str(vae))
    for row, frames in store.clips_of(store.clips):
        file = out / "clips" / "Videos" / f"{row['clip_id']}.avi"
        expected = network.decode(frames)
        np.testing.assert_array_equal(read_clip(file, FrameTransform(height=SIZE_PX, width=SIZE_PX)), expected)


def test_images_are_a_store_and_clips_of_one_frame(images: Path, models: Models) -> None:
    store = LatentStore(images / "latents")
    assert store.clips["clip_id"].tolist() == ["SYN000000", "SYN000001", "SYN000002"]
    assert (store.n_frames, store.frame_shape) == (COUNT, SHAPE)
    assert store.clips["ef"].isna().all()
    assert store.clips["frame_attempts"].tolist() == [1, 1, 1]
    listed = pd.read_csv(images / "clips" / "FileList.csv")
    assert (set(listed["NumberOfFrames"]), set(listed["FPS"])) == ({1}, {1.0})
    require_decoded(images, models.vae)
    manifest = read_layout(images / "clips", split="synthetic")
    validate(manifest)
    assert manifest.clips["n_frames"].tolist() == [1, 1, 1]


def test_videos_are_a_store_and_an_echonet_folder(videos: Path, models: Models) -> None:
    store = LatentStore(videos / "latents")
    assert (len(store.clips), store.n_frames, store.frame_shape) == (COUNT, COUNT * 6, SHAPE)
    assert store.clips["ef"].between(10, 90).all()
    assert store.clips["view"].isna().all()
    require_decoded(videos, models.vae)
    manifest = read_layout(videos / "clips", split="synthetic")
    validate(manifest)
    found = manifest.clips.set_index("clip_id")
    for row in store.clips.itertuples():
        file = manifest.root / found.loc[row.clip_id, "path"]
        info = probe(file)
        assert (info.n_frames, info.height, info.width, info.fps) == (6, SIZE_PX, SIZE_PX, 32.0)
        assert found.loc[row.clip_id, ["n_frames", "fps", "split"]].tolist() == [6, 32.0, "synthetic"]
        assert found.loc[row.clip_id, "ef"] == pytest.approx(row.ef)


def test_samples_are_not_each_other(images: Path, videos: Path) -> None:
    frames, clips = latents(images), latents(videos).reshape(COUNT, -1)
    for found in (frames.reshape(COUNT, -1), clips):
        assert not np.isclose(found[0], found[1:], atol=1e-3).all(axis=1).any()


def test_another_batch_size_gives_the_same_numbers(
    call: Call, models: Models, images: Path, videos: Path, tmp_path: Path
) -> None:
    for before, words in ((images, image_words), (videos, video_words)):
        out = tmp_path / before.name
        assert call(*words(models, out), "--batch-size", 2, "--latents-only").exit_code == 0
        np.testing.assert_allclose(latents(out), latents(before), **STORED)


def test_the_first_of_more_samples_are_the_same(call: Call, models: Models, videos: Path, tmp_path: Path) -> None:
    assert call(*video_words(models, tmp_path), "--count", 4, "--latents-only").exit_code == 0
    np.testing.assert_allclose(latents(tmp_path)[: COUNT * 6], latents(videos), **STORED)


@pytest.mark.parametrize("change", [("--seed", 1), ("--class-name", "psax"), ("--sampler", "ddpm"), ("--steps", 3)])
def test_settings_change_the_images(
    call: Call, models: Models, images: Path, tmp_path: Path, change: tuple[object, ...]
) -> None:
    assert call(*image_words(models, tmp_path), *change, "--count", 1, "--latents-only").exit_code == 0
    assert not np.isclose(latents(tmp_path), latents(images)[:1], **STORED).all()


def test_every_setting_of_videos_reaches_its_consumer(
    call: Call, models: Models, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[dict[str, Any]] = []
    clips: list[dict[str, Any]] = []

    def frames(_: object, record: GeneratorRecord, ids: Sequence[str], **named: Any) -> np.ndarray:
        drawn.append(named)
        return np.zeros((len(ids), *SHAPE), dtype=np.float32)

    def sampled(_: object, record: GeneratorRecord, ids: Sequence[str], **named: Any) -> np.ndarray:
        clips.append(named | {"ids": list(ids)})
        return np.zeros((len(ids), 5, *SHAPE), dtype=np.float32)

    monkeypatch.setattr(mnemoscope.cli.sample, "sample_frames", frames)
    monkeypatch.setattr(mnemoscope.cli.sample, "sample_clips", sampled)
    how = {"guidance": 3.0, "merge": "paper", "image_share": 0.5, "mixing": "bernoulli", "class_name": "psax"}
    others = {"frames": 5, "sampler": "ddpm", "steps": 7, "frame_steps": 9, "ef": "uniform:90:95", "seed": 4}
    words = [word for key, value in (how | others).items() for word in (f"--{key.replace('_', '-')}", value)]
    assert call(*video_words(models, tmp_path), *words, "--batch-size", 2, "--latents-only").exit_code == 0
    assert {(d["steps"], d["sampler"], d["seed"], *set(d["class_names"])) for d in drawn} == {(9, "dpm++", 4, "psax")}
    expected = VideoSampling(n_frames=5, sampler="ddpm", steps=7, **how)  # type: ignore[arg-type]
    assert {(c["how"], c["seed"], c["image_class"]) for c in clips} == {(expected, 4, 1)}
    assert [len(c["ids"]) for c in clips] == [2, 1]
    ef = np.concatenate([c["ef"] for c in clips])
    assert ((ef >= 90) & (ef <= 95)).all()
    np.testing.assert_array_equal(LatentStore(tmp_path / "latents").clips["ef"], ef)


def test_the_models_own_guidance_and_correction_count_where_none_is_asked_for(
    call: Call, models: Models, videos: Path, tmp_path: Path
) -> None:
    own = tmp_path / "lvdm"
    shutil.copytree(models.lvdm, own)
    record = read_json(own / "generator.json")
    shown = [2 * told - 40 for told in range(5, 100, 10)]
    write_json(own / "generator.json", record | {"guidance": 4.0, "ef_shown": shown})
    (tmp_path / "wanted.csv").write_text("EF\n20\n55.5\n70\n")
    (tmp_path / "told.csv").write_text("EF\n30\n47.75\n55\n")
    words = [*video_words(models, tmp_path / "out"), "--lvdm", own, "--ef", tmp_path / "wanted.csv", "--latents-only"]
    assert call(*words).exit_code == 0
    told = ("--ef", tmp_path / "told.csv", "--guidance", 4)
    assert call(*video_words(models, tmp_path / "told"), *told, "--latents-only").exit_code == 0
    np.testing.assert_array_equal(latents(tmp_path / "out"), latents(tmp_path / "told"))
    assert LatentStore(tmp_path / "out" / "latents").clips["ef"].tolist() == [20, 55.5, 70]
    assert not np.allclose(latents(tmp_path / "out"), latents(videos), **STORED)


def test_latents_alone_need_no_vae(call: Call, models: Models, videos: Path, tmp_path: Path) -> None:
    words = [*video_words(models, tmp_path), "--latents-only", "--vae", tmp_path / "nowhere"]
    done = call(*words, "--json")
    found = {"latents": str(tmp_path / "latents"), "clips": None, "count": COUNT}
    assert json.loads(done.stdout) == found
    assert not (tmp_path / "clips").exists()
    np.testing.assert_allclose(latents(tmp_path), latents(videos), **STORED)


def test_the_class_stands_in_table_and_list(call: Call, models: Models, tmp_path: Path) -> None:
    done = call(*video_words(models, tmp_path), "--class-name", "a4c", "--count", 1)
    assert done.exit_code == 0
    assert LatentStore(tmp_path / "latents").clips["view"].tolist() == ["a4c"]
    assert pd.read_csv(tmp_path / "clips" / "FileList.csv")["View"].tolist() == ["a4c"]
    assert read_layout(tmp_path / "clips").clips["view"].tolist() == ["a4c"]


def test_even_classes_take_turns(call: Call, models: Models, images: Path, tmp_path: Path) -> None:
    done = call(*image_words(models, tmp_path), "--even-classes", "--count", 5, "--batch-size", 2, "--latents-only")
    assert done.exit_code == 0
    store = LatentStore(tmp_path / "latents")
    classes = store.clips["class_name"].tolist()
    assert classes == [*CLASSES, *CLASSES, CLASSES[0]]
    alone = tmp_path / "alone"
    assert call(*image_words(models, alone), "--class-name", CLASSES[1], "--count", 2, "--latents-only").exit_code == 0
    np.testing.assert_allclose(latents(tmp_path)[1], latents(alone)[1], **STORED)


@pytest.mark.parametrize("words", [image_words, video_words])
def test_even_classes_beside_one_class_are_refused(
    call: Call, models: Models, tmp_path: Path, words: Callable[[Models, Path], list[object]]
) -> None:
    message = refused(call(*words(models, tmp_path), "--even-classes", "--class-name", "psax"))
    assert "--even-classes: expected an image model with classes and no --class-name" in message


def test_ef_come_from_a_list(call: Call, models: Models, tmp_path: Path) -> None:
    (tmp_path / "wanted.csv").write_text("EF\n20\n55.5\n70\n")
    done = call(*video_words(models, tmp_path / "out"), "--ef", tmp_path / "wanted.csv", "--frames", 2)
    assert done.exit_code == 0
    assert pd.read_csv(tmp_path / "out" / "clips" / "FileList.csv")["EF"].tolist() == [20, 55.5, 70]


@pytest.mark.parametrize("words", [image_words, video_words])
def test_the_same_call_finds_everything_made(
    call: Call, models: Models, images: Path, videos: Path, words: Callable[[Models, Path], list[object]]
) -> None:
    out = images if words is image_words else videos
    before = latents(out)
    done = call(*words(models, out), "--codec", "ffv1", "--batch-size", 2, "--json")
    assert json.loads(done.stdout) == {"latents": str(out / "latents"), "clips": str(out / "clips"), "count": COUNT}
    assert reused(out) == {"latents": True, "clips": True}
    np.testing.assert_array_equal(latents(out), before)


def test_another_codec_writes_the_videos_again_and_nothing_else(call: Call, models: Models, tmp_path: Path) -> None:
    words = [*video_words(models, tmp_path), "--count", 1, "--frames", 2]
    assert call(*words).exit_code == 0
    assert probe(tmp_path / "clips" / "Videos" / "SYN000000.avi").codec == "mjpeg"
    assert call(*words, "--codec", "ffv1").exit_code == 0
    assert reused(tmp_path) == {"latents": True, "clips": False}
    assert probe(tmp_path / "clips" / "Videos" / "SYN000000.avi").codec == "ffv1"


@pytest.mark.parametrize("change", [("--seed", 1), ("--count", 2)])
def test_other_settings_in_the_same_folder_are_refused(
    call: Call, models: Models, images: Path, videos: Path, change: tuple[object, ...]
) -> None:
    for out, words in ((images, image_words), (videos, video_words)):
        message = refused(call(*words(models, out), *change))
        assert "belongs to another run" in message
        assert "choose another --out" in message


def test_images_and_videos_do_not_share_a_folder(call: Call, models: Models, images: Path) -> None:
    assert "choose another --out" in refused(call(*video_words(models, images)))


@pytest.mark.parametrize(("words", "key"), [(image_words, "steps"), (video_words, "frame_steps")])
def test_a_dry_run_makes_nothing(
    call: Call, models: Models, tmp_path: Path, words: Callable[[Models, Path], list[object]], key: str
) -> None:
    done = call(*words(models, tmp_path / "out"), "--dry-run")
    plan = yaml.safe_load(done.stdout)
    assert (done.exit_code, plan["count"], plan[key]) == (0, COUNT, 2)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("words", [image_words, video_words])
def test_another_vae_is_refused_before_anything_is_sampled(
    call: Call, models: Models, tmp_path: Path, words: Callable[[Models, Path], list[object]]
) -> None:
    write_vae(tmp_path / "vae", seed=1)
    message = refused(call(*words(models, tmp_path / "out"), "--vae", tmp_path / "vae"))
    assert "--vae: expected the VAE that the generator was trained with" in message
    assert "give its folder" in message
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("words", [image_words, video_words])
def test_a_class_the_models_do_not_know_is_refused(
    call: Call, models: Models, tmp_path: Path, words: Callable[[Models, Path], list[object]]
) -> None:
    message = refused(call(*words(models, tmp_path / "out"), "--class-name", "a2c"))
    assert "--class-name a2c: expected a class of the model (a4c, psax); choose one of them" in message


def with_record(models: Models, folder: Path, change: Callable[[GeneratorRecord], GeneratorRecord]) -> Path:
    network, record = load_lidm(models.lidm)
    save_lidm(folder, network, change(record))
    return folder


def other_scaling(record: GeneratorRecord) -> GeneratorRecord:
    return replace(record, scaling=replace(record.scaling, std=(0.2,) * 4))


def other_vae(record: GeneratorRecord) -> GeneratorRecord:
    return replace(record, encoder="another")


@pytest.mark.parametrize(("change", "with_frames"), [(other_scaling, False), (other_scaling, True), (other_vae, False)])
def test_models_of_other_latents_are_refused(
    call: Call,
    models: Models,
    shown: Path,
    tmp_path: Path,
    change: Callable[[GeneratorRecord], GeneratorRecord],
    with_frames: bool,
) -> None:
    """Also where frames come from a store and the image model only takes its share of the steps."""
    lidm = with_record(models, tmp_path / "lidm", change)
    words = ["--frames-from", shown, "--image-share", 0.5] if with_frames else []
    message = refused(call(*video_words(models, tmp_path / "out"), "--lidm", lidm, *words))
    assert "expected models of the same latents" in message
    assert "train both on one store" in message


def real_frames(folder: Path, record: GeneratorRecord, *, count: int = 4, shape: tuple[int, ...] = SHAPE) -> Path:
    """A store of clips of two frames that the video model can read."""
    noise = named_noise([f"clip {i}" for i in range(count)], (2, *shape)).astype(np.float16) / 8
    clips = {f"c{i}": ToyClip(frames, f"p{i}") for i, frames in enumerate(noise)}
    scaling = record.scaling
    if shape[0] != scaling.channels:
        scaling = type(scaling)(*(values[: shape[0]] for values in scaling.__dict__.values()))
    store = write_store(folder, clips, scaling=scaling)
    path = store.folder / "store.json"
    path.write_text(json.dumps(read_json(path) | {"encoder": record.encoder}))
    return folder


@pytest.fixture(scope="module")
def shown(models: Models, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return real_frames(tmp_path_factory.mktemp("shown"), load_lidm(models.lidm)[1])


def test_frames_are_taken_from_a_store_in_its_order(
    call: Call, models: Models, shown: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[np.ndarray] = []
    sample_clips = mnemoscope.cli.sample.sample_clips

    def noting(*words: Any, frames: np.ndarray, **named: Any) -> np.ndarray:
        seen.append(frames)
        return sample_clips(*words, frames=frames, **named)

    monkeypatch.setattr(mnemoscope.cli.sample, "sample_clips", noting)
    done = call(
        *video_words(models, tmp_path), "--frames-from", shown, "--lidm", "nowhere", "--batch-size", 2, "--frames", 3
    )
    assert (done.exit_code, done.stderr) == (0, "")
    store, scaling = LatentStore(shown), load_lidm(models.lidm)[1].scaling
    expected = scaling.apply(store.frames(np.array([0, 2, 4])), "standard")
    np.testing.assert_allclose(np.concatenate(seen), expected, atol=1e-6)


def store_of_other_scaling(folder: Path, record: GeneratorRecord) -> Path:
    return real_frames(folder, other_scaling(record))


def store_of_other_channels(folder: Path, record: GeneratorRecord) -> Path:
    return real_frames(folder, record, shape=(2, 6, 6))


def store_of_another_vae(folder: Path, record: GeneratorRecord) -> Path:
    return real_frames(folder, other_vae(record))


def store_of_too_few(folder: Path, record: GeneratorRecord) -> Path:
    return real_frames(folder, record, count=2)


def no_store(folder: Path, record: GeneratorRecord) -> Path:
    return folder


@pytest.mark.parametrize(
    ("make", "expected"),
    [
        (store_of_other_scaling, ("other scaling constants than the video model", "--scaling-from")),
        (
            store_of_other_channels,
            ("(4, 6, 6) as the video model was trained on, found (2, 6, 6)", "mnemoscope encode"),
        ),
        (store_of_another_vae, ("found another", "mnemoscope encode --vae")),
        (store_of_too_few, ("--frames-from", "expected 3 clips, one for each sample, found 2; lower --count")),
        (no_store, ("--frames-from", "expected a latent store, found none", "mnemoscope encode")),
    ],
)
def test_frames_that_do_not_fit_are_refused(
    call: Call,
    models: Models,
    tmp_path: Path,
    make: Callable[[Path, GeneratorRecord], Path],
    expected: Sequence[str],
) -> None:
    store = make(tmp_path / "frames", load_lidm(models.lidm)[1])
    message = refused(call(*video_words(models, tmp_path / "out"), "--frames-from", store))
    for text in expected:
        assert text in message


def test_frames_from_a_store_cannot_be_filtered(call: Call, models: Models, shown: Path, tmp_path: Path) -> None:
    words = ["--frames-from", shown, "--filter", tmp_path]
    assert "leave out --frames-from" in refused(call(*video_words(models, tmp_path / "out"), *words))


def test_frames_that_an_audit_would_flag_are_drawn_again(
    call: Call, models: Models, images: Path, tmp_path: Path
) -> None:
    """The audit's gallery holds two of the images that this seed gives."""
    flagged, record = latents(images)[[0, 2]], load_lidm(models.lidm)[1]
    write_audit(tmp_path / "audit", flagged, record, tau=5 - 1e-4)
    done = call(*image_words(models, tmp_path / "images"), "--filter", tmp_path / "audit")
    assert (done.exit_code, done.stderr) == (0, "")
    found = LatentStore(tmp_path / "images" / "latents")
    assert found.clips["frame_attempts"].tolist() == [2, 1, 2]
    same = np.isclose(latents(tmp_path / "images"), latents(images), **STORED).all(axis=(1, 2, 3))
    assert same.tolist() == [False, True, False]
    done = call(*video_words(models, tmp_path / "videos"), "--filter", tmp_path / "audit", "--frames", 2)
    assert done.exit_code == 0
    assert LatentStore(tmp_path / "videos" / "latents").clips["frame_attempts"].tolist() == [2, 1, 2]


def test_another_tau_is_another_run(call: Call, models: Models, images: Path, tmp_path: Path) -> None:
    write_audit(tmp_path / "audit", latents(images), load_lidm(models.lidm)[1], tau=6.0)
    words = [*image_words(models, tmp_path / "out"), "--filter", tmp_path / "audit"]
    assert call(*words).exit_code == 0
    (tmp_path / "audit" / "audit.json").write_text(json.dumps({"privacy": {"tau": 7.0}}))
    assert "belongs to another run" in refused(call(*words))


def test_a_folder_without_audit_is_no_filter(call: Call, models: Models, tmp_path: Path) -> None:
    for words in (image_words, video_words):
        message = refused(call(*words(models, tmp_path / "out"), "--filter", tmp_path))
        assert "expected the folder of a finished audit" in message
        assert "mnemoscope audit" in message


def test_a_full_disk_ends_with_2_and_the_same_call_goes_on(
    call: Call, models: Models, videos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    savez, written = np.savez, []

    def save(file: Any, **arrays: Any) -> None:
        if len(written) == 2:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        written.append(file)
        savez(file, **arrays)

    words = [*video_words(models, tmp_path), "--batch-size", 1, "--latents-only"]
    with monkeypatch.context() as patch:
        patch.setattr(np, "savez", save)
        message = refused(call(*words))
    assert "the disk is full; what was finished before stays" in message
    assert "run the same command again" in message
    finished = {file.name: file.stat().st_mtime_ns for file in tmp_path.glob(".partial-latents-*/parts/*.npz")}
    assert sorted(finished) == ["SYN000000.npz", "SYN000001.npz"]
    asked: list[str] = []
    sample_clips = mnemoscope.cli.sample.sample_clips

    def noting(network: Any, record: Any, ids: Sequence[str], **named: Any) -> np.ndarray:
        asked.extend(ids)
        return sample_clips(network, record, ids, **named)

    monkeypatch.setattr(mnemoscope.cli.sample, "sample_clips", noting)
    assert call(*words).exit_code == 0
    assert asked == ["SYN000002"]
    np.testing.assert_allclose(latents(tmp_path), latents(videos), **STORED)


@pytest.mark.parametrize("change", [("--count", 0), ("--steps", 0), ("--steps", 1001), ("--sampler", "euler")])
def test_values_out_of_range_are_refused(
    call: Call, models: Models, tmp_path: Path, change: tuple[object, ...]
) -> None:
    for words in (image_words, video_words):
        assert str(change[0]).strip("-") in refused(call(*words(models, tmp_path / "out"), *change))


def test_from_python_as_from_the_command_line(models: Models, images: Path, tmp_path: Path) -> None:
    config = mnemoscope.ImagesConfig(lidm=str(models.lidm), vae=str(models.vae), count=COUNT, steps=2)
    seen: list[str] = []
    sampled = mnemoscope.sample_images(
        out=str(tmp_path / "out"), config=config, progress=lambda stage, done, total, unit: seen.append(stage)
    )
    assert (sampled.latents.folder, sampled.clips) == (tmp_path / "out" / "latents", tmp_path / "out" / "clips")
    np.testing.assert_allclose(latents(tmp_path / "out"), latents(images), **STORED)
    assert list(dict.fromkeys(seen)) == ["sample", "decode"]
