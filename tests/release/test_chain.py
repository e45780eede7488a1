import hashlib
from pathlib import Path

import numpy as np
import pytest

import mnemoscope
from mnemoscope.latents.store import LatentStore
from mnemoscope.models.generator import generator_fingerprint
from mnemoscope.models.vae import load_vae
from mnemoscope.release import chain
from tests.reference import tiny_audit
from tests.sampling.tiny_models import Models, write_models
from tests.toys import noise_clips, write_store


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Models:
    return write_models(tmp_path_factory.mktemp("models"))


def test_a_sampled_set_says_which_models_drew_it(models: Models, tmp_path: Path) -> None:
    config = mnemoscope.VideosConfig(
        lvdm=str(models.lvdm),
        lidm=str(models.lidm),
        vae=str(models.vae),
        count=2,
        frames=6,
        steps=2,
        frame_steps=2,
        seed=4,
    )
    with tiny_audit.one_thread():
        sampled = mnemoscope.sample_videos(out=tmp_path / "run", config=config)
    assert sampled.clips is not None
    run = chain.sampling_run(sampled.clips)
    assert run == tmp_path / "run"
    found = chain.generator_record(run)
    assert (found["command"], found["seed"], found["settings"]["frames"]) == ("sample videos", 4, 6)
    assert found["models"] == [generator_fingerprint(Path(folder)) for folder in (models.lvdm, models.lidm)]
    assert found["vae"] == load_vae(models.vae).fingerprint
    assert found["latents"] == sampled.latents.fingerprint
    assert str(tmp_path) not in str(found)
    assert str(models.lvdm) not in str(found)


def test_other_clips_know_no_generator(tmp_path: Path) -> None:
    (tmp_path / "clips").mkdir()
    assert chain.sampling_run(tmp_path / "clips") is None
    (tmp_path / "run.json").write_text('{"command": "demo"}')
    assert chain.sampling_run(tmp_path / "clips") is None
    assert chain.latent_digests(tmp_path, ["a"]) == {}


def test_digests_are_those_of_each_clip_whatever_the_blocks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clips = noise_clips([3, 1, 4, 1, 5, 9, 2])
    write_store(tmp_path / "store", clips)
    wanted = [name for number, name in enumerate(clips) if number not in (1, 4)]
    expected = {name: hashlib.sha256(np.ascontiguousarray(clips[name].frames).tobytes()).hexdigest() for name in wanted}
    for block in (1, 2, 100):
        monkeypatch.setattr(chain, "_BLOCK_CLIPS", block)
        assert chain.latent_digests(tmp_path / "store", wanted) == expected
    assert LatentStore(tmp_path / "store").n_frames == 25
