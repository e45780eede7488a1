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
    assert lines[0] == ["what differs", *map(str, runs), "forbids comparing"]
    assert ["training clips", *["7,465 clips (not recorded)"] * 2, "nothing"] in lines
    assert ["verdict", "fail", "fail", "same"] in lines
    five = {line[0]: line[1:] for line in lines if len(line) == 4}
    assert five["Can the audit recognise a patient?"][-1].startswith("no change shown: 0.000, 95")
    place = next(number for number, line in enumerate(lines) if line[0].startswith("1 of "))
    assert [line[0] for line in lines[place + 1 :]] == ["privacy.flag_rate", str(tmp_path / "c.html")]
    assert lines[place + 1][3].startswith("lower: better: −0.0612")
    assert "privacy.flag_rate" in (tmp_path / "c.html").read_text()


def test_the_comparison_is_printed_for_machines_too(call: Call, runs: list[Path]) -> None:
    found = json.loads(call("compare", *runs, "--json").stdout)
    values = {row["name"]: row for row in found["changes"]}
    assert values["privacy.flag_rate"]["says"] == ["lower: better"]
    assert len(found["figures"]) == 5
    assert [change.name for change in mnemoscope.compare(runs).changes] == list(values)


def test_audits_by_one_model_are_compared_and_those_by_two_are_not(call: Call, clips: Path, tmp_path: Path) -> None:
    def audited(name: str, synthetic: str, *more: object) -> Path:
        sets = ("--real", clips / "real", "--synthetic", clips / synthetic)
        done = call("audit", *sets, "--out", tmp_path / name, "--config", clips / "tiny.yaml", *more)
        assert done.exit_code == 0, done.output
        return tmp_path / name

    first = audited("first", "synthetic")
    model = ("--reid-model", first / "reid" / "model")
    alike, other = audited("alike", "copies", *model), audited("other", "copies", "--seed", 1)
    found = mnemoscope.compare([first, alike])
    assert [(part.name, part.forbids) for part in found.differs] == [("synthetic clips", ())]
    assert "not comparable" not in {said for change in found.changes for said in change.says}
    found = mnemoscope.compare([first, alike, other])
    named = {part.name: part for part in found.differs}
    assert {"re-identification model", "tau", "seed", "synthetic clips"} <= set(named)
    assert "percentile" not in named
    rate = next(change for change in found.changes if change.name == "privacy.flag_rate")
    assert rate.says[0] != "not comparable"
    assert rate.says[1] == "not comparable"


def test_one_audit_or_none_is_refused(call: Call, runs: list[Path], tmp_path: Path) -> None:
    for words in ([runs[0]], [runs[0], runs[0]]):
        done = call("compare", *words)
        assert done.exit_code == 2
        assert "expected two or more different audits to compare" in done.stderr
    done = call("compare", runs[0], tmp_path / "nothing")
    assert done.exit_code == 2
    assert "expected a finished audit" in done.stderr
