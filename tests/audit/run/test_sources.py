import shutil
from pathlib import Path

import pandas as pd
import pytest

from mnemoscope.core.errors import InputError, TooFewSamples
from mnemoscope.latents.store import LatentStore
from tests.audit.run.conftest import Tiny
from tests.reference.tiny_audit import SPLITS


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
