"""The whole way at toy size: three cohorts in EchoNet's layouts, their models, synthetic sets of them, the tables."""

import json
import shutil
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from PIL import Image

import mnemoscope
from mnemoscope.audit.run.paper import SETS, TITLES
from mnemoscope.audit.run.reproduce import ReproduceConfig
from mnemoscope.core.config import build
from mnemoscope.core.files import read_json
from mnemoscope.data.layouts import read_layout
from mnemoscope.downstream.results import PAPER
from mnemoscope.models.reid import load_reid
from mnemoscope.phantom.cohort import write_cohort
from mnemoscope.phantom.plants import PlantSpec, write_plants
from tests.cli.conftest import Call

EF = {"n_frames": 3, "windows": 1, "draws": 8, "loop": {"epochs": 1, "batch_size": 8}}
EF |= {"architecture": {"channels": 1, "stem": 2, "widths": [3], "blocks": 1, "stem_stride": 4}}
SETTINGS: dict[str, Any] = {
    "patients": 80,
    "clips_per_patient": 1,
    "phantom_frames": 3,
    "workers": 1,
    "frames": {"height": 32, "width": 32},
    "reid": {"loop": {"epochs": 1, "batch_size": 8}, "least_pairs": 0},
    "audit": {"percentile": 90.0},
    "downstream": {"seeds": 1, "side_px": 32, "ef": EF},
}
NAMES = {"dynamic": "Dynamic", "a4c": "ped_a4c", "psax": "PSAX"}
FIGURES = ("fig3-confusion", "fig4-p-max", "fig5-map", "fig6-consistency")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Cohorts as EchoNet has them, a synthetic set of each, and the settings; to be looked at only."""
    folder = tmp_path_factory.mktemp("reproduce")
    (folder / "small.json").write_text(json.dumps(SETTINGS))
    config = build(ReproduceConfig, SETTINGS)
    plants = PlantSpec(n_copies=4, n_fresh=40, n_partial=66, n_frames=3)
    (folder / "pediatric").mkdir()
    for name in SETS:
        cohort, layout = config.cohort(name), "dynamic" if name == "dynamic" else "pediatric"
        real = write_cohort(cohort, folder / name, workers=1, layout=layout)
        if name != "dynamic":
            (real / TITLES[name]).rename(folder / "pediatric" / TITLES[name])
        write_plants(cohort, plants, folder / "synthetic" / NAMES[name], workers=1)
    return folder


def words(place: Path, out: Path, **folders: Path) -> list[object]:
    given = [word for name, folder in folders.items() for word in (f"--{name}", folder)]
    return ["reproduce", "--out", out, "--config", place / "small.json", *given]


def real(place: Path) -> dict[str, Path]:
    return {"dynamic": place / "dynamic", "pediatric": place / "pediatric"}


@pytest.fixture(scope="module")
def out(call: Call, place: Path) -> Path:
    """A finished run with synthetic sets."""
    folder = place / "run"
    done = call(*words(place, folder, **real(place), synthetic=place / "synthetic"))
    assert done.exit_code == 0, done.output
    assert done.stdout.startswith("# The paper's tables\n")
    assert done.stdout.endswith(f"{folder / 'tables.md'}\n{folder / 'figures'}\n")
    return folder


def stages(out: Path) -> dict[str, Any]:
    return read_json(out / "run.json")["stages"]


@pytest.mark.slow
def test_every_table_and_figure_is_written(out: Path) -> None:
    rows = read_json(out / "tables.json")
    spaces = ("image", "latent")
    assert [(r["space"], r["set"]) for r in rows["identification"]] == [(s, name) for s in spaces for name in SETS]
    assert {(r["space"], r["train"], r["test"]) for r in rows["generalisation"]} == {
        (space, train, test) for space in spaces for train in SETS for test in SETS
    }
    for row in rows["identification"]:
        assert row["clips"] == 20
        assert sum(map(sum, row["confusion"])) == 40
        same = next(
            r
            for r in rows["generalisation"]
            if (r["space"], r["train"]) == (row["space"], row["set"]) == (r["space"], r["test"])
        )
        assert same["auc"] == row["auc"]
    assert len(rows["heads"]) == 10
    assert [(row["set"], row["train"], row["synthetic"]) for row in rows["learned"]] == [(n, 48, 110) for n in SETS]
    for name in SETS:
        made = rows["downstream"][name]
        assert made["paper"]["recall_small"][TITLES[name]]["r2"] == PAPER["recall_small"][SETS.index(name)][0]
        arms = {arm["name"].removesuffix("_relabelled"): arm for arm in made["arms"]}
        assert set(PAPER) <= set(arms)
        assert arms["real_full"]["clips"] == 48
        assert arms["recall_small"]["against_random"] is not None
    assert rows["not_made"] == {}
    page = (out / "tables.md").read_text()
    for printed in ("0.82 | 4.0 | 5.2 | 7,465", "0.74 | 4.2 | 5.9 | 2,580", "0.76 | 3.7 | 5.1 | 3,559"):
        assert page.count(f" | {printed} |\n") == 1


@pytest.mark.slow
def test_the_numbers_of_table_4_are_those_of_the_audits(out: Path) -> None:
    for row in read_json(out / "tables.json")["learned"]:
        audit = read_json(out / "audits" / TITLES[row["set"]] / "audit.json")
        assert row["learned"] == audit["recall"]["learned"]
        assert row["flag_rate"] == audit["privacy"]["flag_rate"]
        assert audit["privacy"]["percentile"] == 90.0
        page = (out / "tables.md").read_text()
        assert f"{audit['recall']['learned']} ({audit['recall']['learned'] / 48:.1%})" in page


@pytest.mark.slow
def test_figures_have_a_panel_for_each_set_and_fig_3_both_spaces(out: Path) -> None:
    for name in FIGURES:
        with Image.open(out / "figures" / f"{name}.png") as picture:
            assert picture.size[0] == pytest.approx(6.875 * 300, abs=1)
        drawn = (out / "figures" / f"{name}.svg").read_text()
        assert all(title in drawn for title in TITLES.values())
    assert "PSAX, latent space" in (out / "figures" / "fig3-confusion.svg").read_text()
    assert "PSAX, image space" in (out / "figures" / "fig3-confusion.svg").read_text()


@pytest.mark.slow
def test_models_know_their_set_alone_and_audits_and_pediatric_arms_begin_with_what_was_trained_before(
    out: Path,
) -> None:
    models = {name: load_reid(out / f"reid-{name}-latent" / "model") for name in SETS}
    assert {model.initial for model in models.values()} == {"random"}
    assert len({model.scaling for model in models.values()}) == 3
    for name in SETS:
        config = read_json(out / "audits" / TITLES[name] / "run.json")["config"]
        assert config["reid_model"] == str(out / f"reid-{name}-latent" / "model")
        start = read_json(out / "downstream" / TITLES[name] / "run.json")["config"]["ef"].get("start")
        own = out / "downstream" / "Dynamic" / "real_full-0" / "model" / "model.safetensors"
        assert start == (None if name == "dynamic" else str(own))


@pytest.mark.slow
def test_the_same_call_reuses_every_stage(call: Call, place: Path, out: Path) -> None:
    before = read_json(out / "tables.json")
    done = call(*words(place, out, **real(place), synthetic=place / "synthetic"), "--json")
    assert json.loads(done.stdout) == before
    for record in (out, *(out / part / title for part in ("audits", "downstream") for title in TITLES.values())):
        kept = {name: stage["reused"] for name, stage in stages(record).items() if stage["key"]}
        assert kept
        assert all(kept.values())


@pytest.mark.slow
def test_a_table_that_too_few_clips_allow_is_named_and_the_others_are_made(call: Call, place: Path, out: Path) -> None:
    before = read_json(out / "tables.json")
    whole = words(place, out, **real(place), synthetic=place / "synthetic")
    rows = json.loads(call(*whole, "--set", "downstream.val_share=0.9", "--json").stdout)
    assert set(rows["not_made"]) == {f"{TITLES[name]} in Table 5" for name in SETS}
    assert all("expected at least 10 clips to train on" in why for why in rows["not_made"].values())
    assert (rows["learned"], rows["downstream"]) == (before["learned"], {})
    assert "## Table 4" in (out / "tables.md").read_text()
    assert "## Table 5" not in (out / "tables.md").read_text()
    assert json.loads(call(*whole, "--json").stdout) == before


@pytest.mark.slow
def test_without_synthetic_sets_the_real_tables_are_made_and_the_others_named(
    call: Call, place: Path, out: Path
) -> None:
    folder = place / "real-only"
    done = call(*words(place, folder, dynamic=place / "dynamic"), "--spaces", "image", "--json")
    assert done.exit_code == 0, done.output
    rows = json.loads(done.stdout)
    assert rows["not_made"] == {"Tables 4 and 5, Figures 4 to 6": "they need synthetic sets (--synthetic DIR)"}
    assert (rows["learned"], rows["downstream"]) == ([], {})
    page = (folder / "tables.md").read_text()
    assert "Not made: Tables 4 and 5, Figures 4 to 6: they need synthetic sets (--synthetic DIR)." in page
    assert "## Table 4" not in page
    assert {path.name for path in (folder / "figures").iterdir()} == {"fig3-confusion.png", "fig3-confusion.svg"}
    # The cohorts that nobody gave are drawn in EchoNet's layouts, and are those of the fixture.
    assert "stand in for EchoNet (pediatric)" in page
    pediatric = folder / "clips-psax" / "clips" / "PSAX"
    assert set(read_layout(pediatric, layout="echonet-pediatric").clips["view"]) == {"PSAX"}
    known = [row for row in read_json(out / "tables.json")["identification"] if row["space"] == "image"]
    for mine, other in zip(rows["identification"], known, strict=True):
        assert mine | {"training_s": 0} == other | {"training_s": 0}
    refused = call(*words(place, folder, dynamic=out), "--spaces", "image")
    assert refused.exit_code == 2
    assert "belongs to another run" in refused.stderr


def test_the_plan_tells_what_is_made_what_is_not_and_the_cost(call: Call, place: Path, tmp_path: Path) -> None:
    done = call("reproduce", "--out", tmp_path / "run", "--dry-run")
    assert done.exit_code == 0
    assert "# dynamic: phantom\n# pediatric: phantom\n# makes: Tables 1 to 3 and Figure 3\n" in done.stdout
    assert "# does not make Tables 4 and 5, Figures 4 to 6: they need synthetic sets (--synthetic DIR)\n" in done.stdout
    together = next(line for line in done.stdout.splitlines() if "together" in line).split()
    assert together[-1] == "min"
    assert 1 < float(together[-2]) <= 12
    shutil.copytree(place / "synthetic" / "Dynamic", tmp_path / "some" / "dynamic")
    sets = {**real(place), "synthetic": tmp_path / "some"}
    done = call(*words(place, tmp_path / "run", **sets), "--dry-run")
    assert done.exit_code == 0, done.output
    assert "; of Dynamic also Tables 4 and 5 and Figures 4 to 6\n" in done.stdout
    assert "# does not make A4C in Tables 4 and 5 and Figures 4 to 6: " in done.stdout
    assert "has no folder whose name ends in a4c\n" in done.stdout
    assert "# expected on two cores, downstream, Dynamic: " in done.stdout
    assert not (tmp_path / "run").exists()
    assert mnemoscope.ReproduceConfig().spaces == "latent,image"


def test_what_is_no_synthetic_set_is_refused_before_anything_is_made(call: Call, place: Path, tmp_path: Path) -> None:
    def refused(synthetic: Path, *more: object) -> str:
        done = call(*words(place, tmp_path / "run", **real(place), synthetic=synthetic), *more)
        assert done.exit_code == 2
        assert not (tmp_path / "run").exists()
        return done.stderr

    assert "expected a folder, found nothing" in refused(tmp_path / "no")
    assert "expected folders whose names end in dynamic, a4c, psax" in refused(place / "synthetic" / "Dynamic")
    twice = tmp_path / "twice"
    for name in ("dynamic", "echo_dynamic"):
        (twice / name).mkdir(parents=True)
    assert "found dynamic, echo_dynamic; rename the others" in refused(twice)
    bare = tmp_path / "bare" / "a4c"
    shutil.copytree(place / "synthetic" / NAMES["a4c"], bare)
    pd.read_csv(bare / "FileList.csv").drop(columns="EF").to_csv(bare / "FileList.csv", index=False)
    assert "expected the ejection fraction of every clip" in refused(tmp_path / "bare")
    assert "did you mean 'ef.loop.epochs'" in refused(place / "synthetic", "--set", "downstream.ef.loop.epoch=3")
    assert "did you mean 'audit.percentile'" in refused(place / "synthetic", "--set", "audit.percentil=3")
