import json
from dataclasses import replace
from pathlib import Path

import pytest

import mnemoscope
from mnemoscope.audit.intervals import wilson
from mnemoscope.core.files import write_json
from tests.cli.conftest import Call
from tests.report import full


@pytest.fixture
def runs(tmp_path: Path) -> list[Path]:
    """Two audits, the second with fewer flags."""
    first = full.result()
    assert first.privacy is not None
    second = replace(first, privacy=replace(first.privacy, flagged=120, flag_rate=wilson(120, 10_000)))
    for name, result in (("all", first), ("filtered", second)):
        (tmp_path / name).mkdir()
        write_json(tmp_path / name / "audit.json", result.to_json())
    return [tmp_path / "all", tmp_path / "filtered"]


def test_what_changed_is_printed_and_written(call: Call, runs: list[Path], tmp_path: Path) -> None:
    done = call("compare", *runs, "--out", tmp_path / "c.html")
    assert (done.exit_code, done.stderr) == (0, "")
    lines = [line.split("\t") for line in done.stdout.splitlines()]
    assert lines[1] == ["verdict", "fail", "fail", "same"]
    assert [line[0] for line in lines[2:-1]] == ["privacy.flag_rate"]
    assert lines[2][3].startswith("lower: better: −0.0612")
    assert lines[-1][0].startswith("1 of ")
    assert "privacy.flag_rate" in (tmp_path / "c.html").read_text()


def test_the_comparison_is_printed_for_machines_too(call: Call, runs: list[Path]) -> None:
    values = {row["name"]: row for row in json.loads(call("compare", *runs, "--json").stdout)}
    assert values["privacy.flag_rate"]["says"] == ["lower: better"]
    assert [change.name for change in mnemoscope.compare(runs)] == list(values)


def test_one_audit_or_none_is_refused(call: Call, runs: list[Path], tmp_path: Path) -> None:
    for words in ([runs[0]], [runs[0], runs[0]]):
        done = call("compare", *words)
        assert done.exit_code == 2
        assert "expected two or more different audits to compare" in done.stderr
    done = call("compare", runs[0], tmp_path / "nothing")
    assert done.exit_code == 2
    assert "expected a finished audit" in done.stderr
