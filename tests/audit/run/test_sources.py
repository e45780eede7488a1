import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from mnemoscope.audit.run import sources
from mnemoscope.core.errors import InputError, TooFewSamples
from mnemoscope.latents.store import LatentStore
from tests.audit.run.conftest import Tiny
from tests.reference.tiny_audit import SPLITS
from tests.toys import ToyClip, write_store


def retable(real: Path, splits: list[str]) -> None:
    rows = pd.read_csv(real / "clips.csv")
    rows.assign(split=splits).to_csv(real / "clips.csv", index=False)


def test_no_holdout_is_refused_before_anything_is_decoded(fresh: Tiny) -> None:
    retable(fresh.real, ["train"] * 16 + ["val"] * 3)
    with pytest.raises(InputError, match=r"found 16 train, 3 val; .*--holdout-share"):
        fresh.audit()
    assert [path.name for path in fresh.out.iterdir()] == ["run.json"]


def test_fewer_holdout_clips_than_the_percentile_needs_are_refused_before_anything_is_decoded(fresh: Tiny) -> None:
    with pytest.raises(TooFewSamples, match=r"95th percentile needs at least 20 holdout clips, got 6; .*--percentile"):
        fresh.audit(percentile=95.0)
    assert [path.name for path in fresh.out.iterdir()] == ["run.json"]


@pytest.mark.parametrize("name", ["real", "synthetic"])
@pytest.mark.parametrize("kind", ["empty", "absent"])
def test_a_folder_without_clips_is_refused_before_anything_is_decoded(fresh: Tiny, name: str, kind: str) -> None:
    shutil.rmtree(getattr(fresh, name))
    if kind == "empty":
        getattr(fresh, name).mkdir()
    words = "the folder is empty; expected clips" if kind == "empty" else "expected a folder, found nothing"
    with pytest.raises(InputError, match=f"--{name} .*{words}"):
        fresh.audit()
    assert [path.name for path in fresh.out.iterdir()] == ["run.json"]


def test_a_misspelt_recipe_is_named_before_anything_is_decoded(fresh: Tiny) -> None:
    with pytest.raises(InputError, match=r"reid\.loop\.epoch: unknown key; did you mean 'reid\.loop\.epochs'"):
        fresh.audit(reid={"loop": {"epoch": 3}})
    assert [path.name for path in fresh.out.iterdir()] == ["run.json"]


def test_a_bad_clip_is_refused_by_name_or_left_out_on_demand(copied: Tiny, finished: Tiny) -> None:
    bad = copied.real / "c12.avi"  # a val clip: scaling and training set stay as they are
    bad.write_bytes(bad.read_bytes()[:700])
    with pytest.raises(InputError, match=r"(?s)errors in the clips .*c12\.avi.*--drop-bad-clips"):
        copied.audit()
    model = finished.out / "reid" / "model"
    copied.audit(drop_bad_clips=True, reid_model=model)
    assert "c12" not in set(LatentStore(copied.out / "latents-real").clips["clip_id"])
    assert len(LatentStore(copied.out / "latents-real").clips) == len(SPLITS) - 1
    assert pd.read_csv(copied.out / "problems-real.csv").query("severity == 'error'")["clip_id"].tolist() == ["c12"]
    assert copied.written["privacy"] == finished.written["privacy"]


def test_leaving_out_may_not_use_up_the_holdout(fresh: Tiny) -> None:
    for number in (17, 18):
        (fresh.real / f"c{number}.avi").write_bytes(b"no video")
    with pytest.raises(TooFewSamples, match="at least 5 holdout clips, got 4"):
        fresh.audit(drop_bad_clips=True)
    assert not (fresh.out / "latents-real").exists()


def test_equal_latents_are_found_in_every_split_and_only_where_all_frames_are_equal(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    frames = {name: rng.normal(size=(4, 2, 3, 3)).astype(np.float16) for name in ("t", "h", "own")}
    almost = frames["t"].copy()
    almost[3, 1, 2, 2] += 1
    real = write_store(
        tmp_path / "real", {"t": ToyClip(frames["t"], "p0"), "h": ToyClip(frames["h"], "p1", split="holdout")}
    )
    suspects = {"a": frames["h"], "b": frames["own"], "c": almost, "d": frames["t"], "e": frames["t"][:3]}
    synthetic = write_store(
        tmp_path / "synthetic",
        {name: ToyClip(clip, name, split="synthetic") for name, clip in suspects.items()},
        scaling=real.record.scaling,
    )
    assert sources.equal_latents(real, synthetic) == [("a", "h"), ("d", "t")]
