import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import mnemoscope
from mnemoscope.core.errors import ConfigError, InputError, Mismatch, MnemoscopeError, TooFewSamples
from mnemoscope.core.files import read_json
from mnemoscope.core.provenance import STAGE_FILE
from mnemoscope.downstream.regress import PREDICTIONS, Material
from mnemoscope.downstream.results import DownstreamResult
from mnemoscope.downstream.run import RESULT, TABLE, DownstreamConfig
from mnemoscope.downstream.sets import _require_alike
from mnemoscope.downstream.subsets import paper_arms
from mnemoscope.downstream.table import markdown
from mnemoscope.latents.store import LatentStore
from mnemoscope.models.ef import load_ef
from mnemoscope.training.ef import EfTraining
from tests.downstream.conftest import N_SYNTHETIC, SPLITS, tiny
from tests.reference.tiny_audit import drifting, write_clip
from tests.toys import ToyClip, write_store


def ran(place: Path, out: Path, config: DownstreamConfig | None = None, **sets: Path) -> DownstreamResult:
    given = {name: place / name for name in ("real", "synthetic", "audit")} | sets
    return mnemoscope.downstream(out=out, config=config or tiny(ef_reader=str(place / "reader")), **given)


@pytest.fixture(scope="module")
def whole(place: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, DownstreamResult]:
    out = tmp_path_factory.mktemp("whole") / "run"
    return out, ran(place, out)


def learnt(out: Path, name: str) -> "pd.Series[float]":
    """What an arm was trained on: EF by clip_id."""
    clips = read_json(out / f"{name}-0" / STAGE_FILE)["inputs"]["clips"]
    return pd.Series(clips["ef"], index=clips["clip_id"])


def unflagged(place: Path) -> pd.DataFrame:
    samples = pd.read_parquet(place / "audit" / "samples.parquet")
    return samples[~samples["flagged"]].set_index("clip_id")


def test_every_arm_is_trained_and_tested_on_the_real_holdout(whole: tuple[Path, DownstreamResult]) -> None:
    out, result = whole
    assert {arm.name for arm in result.arms} >= {"real_full", "real_noisy", "prior", "recall_large_control_relabelled"}
    holdout = [f"c{i:02d}" for i, split in enumerate(SPLITS) if split == "holdout"]
    for arm in result.arms:
        table = pd.read_parquet(out / f"{arm.name}-0" / PREDICTIONS)
        assert table["clip_id"].tolist() == holdout
        assert arm.clips == len(learnt(out, arm.name))
        error = table["predicted"] - table["ef"]
        assert arm.mae.value == pytest.approx(error.abs().mean())
        assert not (out / f"{arm.name}-0" / "training").exists()
    assert len(result.parts) == 8
    assert result.absent == {}
    assert read_json(out / RESULT) == read_json(out / RESULT) | {"schema": "mnemoscope.downstream/1"}
    assert (out / TABLE).read_text().endswith(f"\n\n{markdown(result)}\n")


def test_flagged_clips_are_trained_on_in_no_arm(place: Path, whole: tuple[Path, DownstreamResult]) -> None:
    samples = pd.read_parquet(place / "audit" / "samples.parquet").set_index("clip_id")
    assert samples.loc["s07", "flagged"]
    assert set(learnt(whole[0], "synthetic_full").index) == set(unflagged(place).index)


def test_each_arm_has_the_labels_it_is_named_for(place: Path, whole: tuple[Path, DownstreamResult]) -> None:
    out = whole[0]
    requested = pd.read_csv(place / "synthetic" / "clips.csv")
    requested = requested.assign(clip_id=requested["file"].str[:-4]).set_index("clip_id")["ef"]
    given = learnt(out, "synthetic_full")
    np.testing.assert_allclose(given, requested.loc[given.index])
    store, reader = LatentStore(out / "pixels-synthetic"), load_ef(place / "reader")
    teacher = load_ef(out / "real_full-0" / "model")
    rows = store.clips.set_index("clip_id", drop=False).loc[given.index]
    frames = [clip[:, 0] for _, clip in store.clips_of(rows)]
    measured, read = learnt(out, "synthetic_measured"), learnt(out, "synthetic_full_relabelled")
    np.testing.assert_allclose(measured, [reader.measure(clip, 25.0) for clip in frames], rtol=1e-4)
    np.testing.assert_allclose(read, [teacher.read(clip) for clip in frames], rtol=1e-4)
    noise = (learnt(out, "real_noisy") - learnt(out, "real_full")).to_numpy()
    error = (given - measured).to_numpy()
    assert all(np.isclose(error, value, atol=1e-6).any() for value in noise)
    assert np.ptp(noise) > 0


def test_a_second_call_trains_nothing_and_a_lost_training_is_made_again(
    place: Path, whole: tuple[Path, DownstreamResult], tmp_path: Path
) -> None:
    out = tmp_path / "run"
    shutil.copytree(whole[0], out)
    shutil.rmtree(out / "recall_small-0")
    assert ran(place, out).to_json() == whole[1].to_json()
    stages = read_json(out / "run.json")["stages"]
    assert [name for name, stage in stages.items() if not stage["reused"]] == ["recall_small-0"]


def test_a_store_of_pixels_serves_as_well(place: Path, whole: tuple[Path, DownstreamResult], tmp_path: Path) -> None:
    config = tiny(arms=["real_full", "synthetic_full"], relabel="off")
    stores = {name: place / "audit" / f"latents-{name}" for name in ("real", "synthetic")}
    found = ran(place, tmp_path / "run", config, **stores)
    by_name = {arm.name: arm for arm in whole[1].arms}
    for arm in found.arms:
        assert arm == by_name[arm.name]
    assert found.absent == {"decomposition": found.absent["decomposition"]}
    assert "--ef-reader" in found.absent["decomposition"]


@pytest.mark.parametrize(
    ("relabel", "labels"), [("off", {"given"}), ("on", {"relabelled"}), ("both", {"given", "relabelled"})]
)
def test_relabelling_can_be_chosen(place: Path, tmp_path: Path, relabel: str, labels: set[str]) -> None:
    arms = [f"synthetic_full{suffix}" for suffix in ("", "_relabelled")]
    chosen = [name for name in arms if ("relabelled" if name.endswith("_relabelled") else "given") in labels]
    found = ran(place, tmp_path / "run", tiny(relabel=relabel, arms=chosen))
    assert {arm.labels for arm in found.arms if arm.source == "synthetic"} == labels
    with pytest.raises(ConfigError, match=r"arms: expected some of real_full, .*found nonsense"):
        ran(place, tmp_path / "run", tiny(relabel=relabel, arms=["nonsense"]))


def test_a_selection_is_an_arm_beside_as_many_clips_at_random(place: Path, tmp_path: Path) -> None:
    clips = unflagged(place).index[3:27].tolist()
    pd.DataFrame({"clip_id": clips}).to_csv(tmp_path / "chosen.csv", index=False)
    config = tiny(arms=["selected", "selected_control"], relabel="off")
    found = ran(place, tmp_path / "run", config, select=tmp_path / "chosen.csv")
    assert [(arm.name, arm.clips) for arm in found.arms] == [("selected", 24), ("selected_control", 24)]
    assert sorted(learnt(tmp_path / "run", "selected").index) == sorted(clips)
    assert found.arms[0].against_random is not None
    everything = unflagged(place).reset_index()[["clip_id"]].assign(selected=True, nearest_clip_id="c00", gated=True)
    arms = paper_arms(pd.DataFrame({"clip_id": ["c00"]}), everything, seed=0)
    assert (arms["selected"].control, "selected_control" in arms) == (None, False)  # all: nothing to draw
    pd.DataFrame({"clip_id": [*clips, "s07"]}).to_csv(tmp_path / "chosen.csv", index=False)
    with pytest.raises(InputError, match=r"--select: expected unflagged clips, .*1 flagged: 's07'"):
        ran(place, tmp_path / "run", config, select=tmp_path / "chosen.csv")


def test_an_arm_chooses_its_network_by_its_own_patients() -> None:
    clips = pd.DataFrame({"clip_id": list("abcdefgh"), "group": list("ppqqrrss"), "ef": 50.0})
    store = object()
    material = Material(store, clips, EfTraining(), val_share=0.25, seed=3)  # type: ignore[arg-type]
    val = set(clips.loc[material.is_val, "group"])
    assert len(val) == 1
    assert not val & set(clips.loc[~material.is_val, "group"])


@pytest.mark.slow
def test_a_prior_that_cannot_be_matched_is_absent(place: Path, tmp_path: Path) -> None:
    reader = load_ef(place / "reader")
    reader.network.fc.bias.data.add_(300.0)
    reader.save(tmp_path / "reader")
    found = ran(place, tmp_path / "run", tiny(ef_reader=str(tmp_path / "reader"), relabel="off"))
    assert "too few synthetic clips can have the EF distribution" in found.absent["prior"]
    assert {part.name for part in found.parts} == {
        "label noise",
        "coverage, on real clips",
        "label noise, on real clips",
        "gap",
    }


def refused(place: Path, out: Path, error: type[MnemoscopeError], match: str, **given: object) -> None:
    """Refused with this message, before anything is trained."""
    config = given.pop("config", None)
    with pytest.raises(error, match=match):
        ran(place, out, config, **given)  # type: ignore[arg-type]
    assert not list(out.glob("*full*"))
    assert error is not Mismatch or not list(out.glob("pixels*"))


def test_an_audit_of_another_set_is_refused(place: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    shutil.copytree(place / "synthetic", other)
    write_clip(other / "s03.avi", 999)
    refused(place, tmp_path / "a", Mismatch, r"--synthetic .*found other content", synthetic=other)
    table = pd.read_csv(other / "clips.csv")
    table.assign(ef=table["ef"] + 1).to_csv(other / "clips.csv", index=False)
    refused(
        place,
        tmp_path / "b",
        Mismatch,
        rf"{N_SYNTHETIC} of another EF or none \(such as 's00'\).*\(--audit\)",
        synthetic=other,
    )
    (other / "s05.avi").rename(other / "t05.avi")
    table.assign(file=table["file"].str.replace("s05", "t05")).to_csv(other / "clips.csv", index=False)
    refused(
        place, tmp_path / "c", Mismatch, r"1 absent \(such as 's05'\); 1 not audited \(such as 't05'\)", synthetic=other
    )
    refused(place, tmp_path / "d", Mismatch, r"--real .*absent", real=place / "audit" / "latents-synthetic")


@pytest.mark.parametrize(("name", "clip"), [("real", "c02"), ("real", "c35"), ("synthetic", "s11")])
def test_clips_without_ef_are_refused(place: Path, tmp_path: Path, name: str, clip: str) -> None:
    shutil.copytree(place / "audit", tmp_path / "audit")
    stores = {each: tmp_path / "audit" / f"latents-{each}" for each in ("real", "synthetic")}
    rows = pd.read_parquet(stores[name] / "clips.parquet")
    rows.loc[rows["clip_id"] == clip, "ef"] = np.nan
    rows.to_parquet(stores[name] / "clips.parquet", index=False)
    match = rf"--{name} .*none for 1 of .*'{clip}'.*table \(EF\)"
    refused(place, tmp_path / "run", InputError, match, audit=tmp_path / "audit", **stores)


def test_arms_that_are_too_small_or_unknown_are_named_before_anything_is_encoded(place: Path, tmp_path: Path) -> None:
    small = r"expected at least 10 clips .*real_full: 30 clips of 30 patients.*--val-share, now 0.9\)$"
    refused(place, tmp_path / "run", TooFewSamples, small, config=tiny(val_share=0.9))
    unknown = r"arms: expected some of .*prior_real.*found nonsense"
    reader = str(place / "reader")
    refused(place, tmp_path / "run", ConfigError, unknown, config=tiny(ef_reader=reader, arms=["nonsense"]))
    assert [file.name for file in (tmp_path / "run").iterdir()] == ["run.json"]


def test_misspelt_readers_devices_and_settings_are_named_first(place: Path, tmp_path: Path) -> None:
    refused(place, tmp_path / "a", InputError, r"--ef-reader nowhere", config=tiny(ef_reader="nowhere"))
    refused(place, tmp_path / "b", ConfigError, r"--device gpu", config=tiny(device="gpu"))
    refused(
        place, tmp_path / "g", ConfigError, r"ef\.start=no\.pt: expected a file", config=tiny(ef={"start": "no.pt"})
    )
    refused(place, tmp_path / "c", ConfigError, r"ef\.epochs: unknown key", config=tiny(ef={"epochs": 3}))
    refused(place, tmp_path / "d", InputError, r"--real .*expected a folder", real=place / "nowhere")
    refused(place, tmp_path / "e", InputError, r"expected a finished audit", audit=place / "real")


def test_sets_of_other_sizes_or_rates_are_not_compared(tmp_path: Path) -> None:
    def store(name: str, side: int, fps: float) -> LatentStore:
        frames = drifting(0)[:, None, :side, :side]
        return write_store(tmp_path / name, {"a": ToyClip(frames, "p")}, space="image", columns={"fps": [fps]})

    a = store("a", 32, 25.0)
    _require_alike(a, store("b", 32, 26.0))
    with pytest.raises(Mismatch, match=r"of one size, found \(1, 32, 32\) and \(1, 16, 16\)"):
        _require_alike(a, store("c", 16, 25.0))
    with pytest.raises(Mismatch, match=r"found 25 and 50 frames a second; .*--target-fps 25"):
        _require_alike(a, store("d", 32, 50.0))
