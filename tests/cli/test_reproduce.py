"""The whole way at toy size: three cohorts in EchoNet's layouts, a model of each in each space, the tables."""

import json
from pathlib import Path
from typing import Any

import pytest

import mnemoscope
from mnemoscope.audit.run.paper import SETS
from mnemoscope.core.files import read_json
from mnemoscope.data.layouts import read_layout
from mnemoscope.models.reid import load_reid
from tests.cli.conftest import Call

WORDS = ("--patients", 12, "--clips-per-patient", 1, "--phantom-frames", 3, "--workers", 1, "--set", "frames.height=32")
SMALL = (*WORDS, "--set", "frames.width=32", "--set", "reid={loop: {epochs: 1, batch_size: 8}, least_pairs: 0}")


@pytest.fixture(scope="module")
def out(call: Call, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run."""
    folder = tmp_path_factory.mktemp("reproduce") / "run"
    done = call("reproduce", "tables", "--out", folder, *SMALL)
    assert done.exit_code == 0, done.output
    assert done.stdout.startswith("# The paper's Tables 1 to 3\n")
    assert done.stdout.endswith(f"{folder / 'tables.md'}\n")
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
        assert row["clips"] == 3
        assert sum(map(sum, row["confusion"])) == 6
        same = next(
            r
            for r in rows["generalisation"]
            if (r["space"], r["train"]) == (row["space"], row["set"]) == (r["space"], r["test"])
        )
        assert same["auc"] == row["auc"]
    assert len(rows["heads"]) == 10
    assert (out / "confusion.png").stat().st_size > 0
    assert "PSAX, latent space" in (out / "confusion.svg").read_text()
    assert "Phantom cohorts of 12 patients a view" in (out / "tables.md").read_text()


@pytest.mark.slow
def test_cohorts_lie_in_echonets_layouts_and_models_know_their_set_alone(out: Path) -> None:
    pediatric = out / "clips-psax" / "clips" / "PSAX"
    assert set(read_layout(pediatric, layout="echonet-pediatric").clips["view"]) == {"PSAX"}
    assert read_layout(out / "clips-dynamic" / "clips", layout="echonet-dynamic").clips["esv"].notna().all()
    models = {name: load_reid(out / f"reid-{name}-latent" / "model") for name in SETS}
    assert {model.initial for model in models.values()} == {"random"}
    assert len({model.scaling for model in models.values()}) == 3


@pytest.mark.slow
def test_the_same_call_reuses_every_stage_and_given_folders_give_the_same_numbers(
    call: Call, out: Path, tmp_path: Path
) -> None:
    before = read_json(out / "tables.json")
    done = call("reproduce", "tables", "--out", out, *SMALL, "--json")
    assert json.loads(done.stdout) == before
    assert all(stage["reused"] for stage in stages(out).values())
    given = ("--dynamic", out / "clips-dynamic" / "clips", "--spaces", "image")
    done = call("reproduce", "tables", "--out", tmp_path / "given", *given, *SMALL, "--json")
    assert done.exit_code == 0, done.output
    assert "clips-dynamic" not in stages(tmp_path / "given")
    fixed = ("training_s",)
    mine, other = (
        [{key: value for key, value in row.items() if key not in fixed} for row in rows["identification"]]
        for rows in (before, json.loads(done.stdout))
    )
    assert other == mine[:3]


@pytest.mark.slow
def test_a_changed_seed_of_another_run_is_refused(call: Call, out: Path) -> None:
    done = call("reproduce", "tables", "--out", out, "--dynamic", out, *SMALL)
    assert done.exit_code == 2
    assert "belongs to another run" in done.stderr


def test_the_plan_tells_the_cost(call: Call, tmp_path: Path) -> None:
    done = call("reproduce", "tables", "--out", tmp_path / "run", "--dry-run")
    assert done.exit_code == 0
    assert "# dynamic: phantom\n" in done.stdout
    together = next(line for line in done.stdout.splitlines() if "together" in line)
    assert 1 < int(together.split()[-2]) <= 12
    assert not (tmp_path / "run").exists()
    assert mnemoscope.TablesConfig().spaces == "latent,image"
