import json
from pathlib import Path

import mnemoscope
from mnemoscope.data.layouts import read_layout
from mnemoscope.phantom.plants import read_truth
from tests.cli.conftest import Call

SMALL = ("--patients", "8", "--frames", "3", "--workers", "1", "--copies", "2", "--fresh", "1")


def test_a_cohort_and_its_plants_are_written(call: Call, tmp_path: Path) -> None:
    done = call("phantom", tmp_path / "real", "--synthetic", tmp_path / "planted", *SMALL, "--json")
    assert done.exit_code == 0, done.output
    said = json.loads(done.stdout)
    assert said["out"] == str(tmp_path / "real")
    assert said["cohort"]["n_patients"] == 8
    real = read_layout(tmp_path / "real")
    assert (len(real), set(real.clips["n_frames"])) == (8, {3})
    truth = read_truth(Path(said["truth"]))
    assert truth["kind"].value_counts().to_dict() == {"copy": 2, "fresh": 1}
    train = set(real.clips.loc[real.clips["split"] == "train", "clip_id"])
    assert set(truth.loc[truth["kind"] == "copy", "source_clip_id"]) <= train


def test_the_same_from_python_and_without_plants(call: Call, tmp_path: Path) -> None:
    config = mnemoscope.PhantomConfig(patients=8, frames=3, workers=1)
    assert mnemoscope.phantom(tmp_path / "one", config=config) == (tmp_path / "one", None)
    done = call("phantom", tmp_path / "two", *SMALL[:6])
    assert (done.exit_code, done.stdout) == (0, f"{tmp_path / 'two'}\n")
    clips = sorted(path.relative_to(tmp_path / "one") for path in (tmp_path / "one").rglob("*.avi"))
    assert len(clips) == 8
    assert all((tmp_path / "one" / clip).read_bytes() == (tmp_path / "two" / clip).read_bytes() for clip in clips)


def test_sizes_that_cannot_be_end_with_2(call: Call, tmp_path: Path) -> None:
    done = call("phantom", tmp_path / "real", "--copies", "-1")
    assert done.exit_code == 2
    assert "copies: " in done.stderr
    assert not (tmp_path / "real").exists()
