import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml

import mnemoscope
import mnemoscope.cli.downstream as verb
from mnemoscope.core.config import build
from mnemoscope.downstream.results import DownstreamResult, summarise
from mnemoscope.downstream.run import DownstreamConfig
from mnemoscope.downstream.subsets import Arm
from tests.cli.conftest import Call


def made() -> DownstreamResult:
    """A result of two arms, of which the second errs by 5 points."""
    ef = np.linspace(30, 70, 9)
    tables = [
        pd.DataFrame({"clip_id": list("abcdefghi"), "patient_id": list("ppqqrrsst"), "ef": ef, "predicted": ef + error})
        for error in (0, 5)
    ]
    arms = {"real_full": Arm("real", ("x", "y")), "synthetic_full": Arm("synthetic", ("z",))}
    return summarise(arms, {name: [t] for name, t in zip(arms, tables, strict=True)}, absent={}, seed=0)


@pytest.fixture
def audited(call: Call, clips: Path, tmp_path: Path) -> Path:
    """A finished audit."""
    sets = ("--real", clips / "real", "--synthetic", clips / "copies")
    done = call("audit", *sets, "--out", tmp_path / "audit", "--config", clips / "tiny.yaml")
    assert done.exit_code == 0, done.output
    return tmp_path / "audit"


def words(clips: Path, audit: Path, out: Path) -> tuple[object, ...]:
    return ("downstream", "--real", clips / "real", "--synthetic", clips / "copies", "--audit", audit, "--out", out)


def test_the_result_is_printed_as_a_table_or_for_machines(
    call: Call, clips: Path, audited: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[DownstreamConfig] = []

    def run(*_: object, config: DownstreamConfig, **__: object) -> DownstreamResult:
        seen.append(config)
        return made()

    monkeypatch.setattr(verb, "run_downstream", run)
    done = call(*words(clips, audited, tmp_path / "out"), "--seeds", 2, "--relabel", "on", "--set", "ef.period=3")
    assert done.exit_code == 0, done.output
    assert done.stdout.startswith("Tested on the real holdout: ")
    assert "\n| arm | EF | clips | R² |" in done.stdout
    assert "| real, all | as given | 2 | 1.00 [1.00, 1.00] |" in done.stdout
    table, numbers = (tmp_path / "out" / name for name in ("table5.md", "downstream.json"))
    assert f"\n{table}, {numbers}\n" in done.stdout
    assert (seen[0].seeds, seen[0].relabel, seen[0].recipe().period) == (2, "on", 3)
    told = json.loads(call(*words(clips, audited, tmp_path / "out"), "--json").stdout)
    assert [arm["mae"]["value"] for arm in told["arms"]] == [0, 5]


def test_a_plan_prints_the_whole_recipe(call: Call, tmp_path: Path) -> None:
    sets = ("--real", "a", "--synthetic", "b", "--audit", "c", "--out", tmp_path / "o")
    done = call("downstream", *sets, "--preset", "paper", "--dry-run")
    values = yaml.safe_load(done.stdout)
    assert (done.exit_code, values["ef"]["loop"]["optimizer"], values["ef"]["n_frames"]) == (0, "sgd", 32)
    assert build(DownstreamConfig, values).recipe() == DownstreamConfig(preset="paper").recipe()
    assert not (tmp_path / "o").exists()


def test_clips_without_ef_end_with_2_and_leave_no_result(
    call: Call, clips: Path, audited: Path, tmp_path: Path
) -> None:
    done = call(*words(clips, audited, tmp_path / "out"), "--set", "side_px=32")
    assert done.exit_code == 2
    assert "--real" in done.stderr
    assert "found none for 16 of 16" in done.stderr
    assert not (tmp_path / "out" / "downstream.json").exists()


def test_what_is_no_audit_or_no_folder_ends_with_2(call: Call, clips: Path, tmp_path: Path) -> None:
    done = call(*words(clips, clips, tmp_path / "out"))
    assert (done.exit_code, "expected a finished audit" in done.stderr) == (2, True)
    done = call(
        "downstream", "--real", tmp_path / "no", "--synthetic", clips, "--audit", clips, "--out", tmp_path / "o"
    )
    assert (done.exit_code, f"--real {tmp_path / 'no'}: expected a folder" in done.stderr) == (2, True)
    assert list(tmp_path.iterdir()) == []


def test_the_room_is_the_verb() -> None:
    assert mnemoscope.downstream.verb is verb.downstream  # type: ignore[attr-defined]
