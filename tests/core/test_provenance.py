import json
import logging
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import mnemoscope
from mnemoscope.core import provenance
from mnemoscope.core.errors import InputError, OutOfSpace, OutputConflict
from mnemoscope.core.provenance import PeakMemory, Run, environment, input_folder


def open_run(out: Path, *, command: str = "audit", inputs: str = "a", config: dict[str, Any] | None = None) -> Run:
    return Run(out, command=command, identity={"inputs": inputs}, config=config or {}, seed=3)


def record(out: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((out / "run.json").read_text())
    return found


def writes(text: str, calls: list[str]) -> Callable[[Path], None]:
    def make(folder: Path) -> None:
        calls.append(text)
        (folder / "result").write_text(text)

    return make


def test_the_record_says_who_ran_what_with_which_seed(tmp_path: Path) -> None:
    run = open_run(tmp_path / "new" / "out", config={"percentile": 95.0, "out": tmp_path})
    found = record(run.out)
    assert found["command"] == "audit"
    assert found["identity"] == {"inputs": "a"}
    assert found["config"] == {"percentile": 95.0, "out": str(tmp_path)}
    assert (found["seed"], found["status"], found["finished"]) == (3, "running", None)
    run.write(status="done")
    assert record(run.out)["status"] == "done"
    assert record(run.out)["finished"] >= found["started"]


def test_the_environment_names_versions_and_machine() -> None:
    found = environment()
    assert found["versions"]["python"] == ".".join(map(str, sys.version_info[:3]))
    assert found["versions"]["numpy"] == np.__version__
    assert found["versions"]["mnemoscope"] == mnemoscope.__version__
    assert found["machine"]["cores"] >= 1


def test_a_library_that_is_absent_has_no_version() -> None:
    assert provenance._version("no-such-library-anywhere") is None


def repository(root: Path, *, tracked: bool, monkeypatch: pytest.MonkeyPatch) -> str:
    """A fresh repository that holds a copy of the module; returns its commit."""
    git = ["git", "-C", str(root), "-c", "user.name=n", "-c", "user.email=e@x"]
    (root / "provenance.py").write_text("")
    (root / "other").write_text("")
    subprocess.run([*git, "init", "-q"], check=True)
    subprocess.run([*git, "add", "provenance.py" if tracked else "other"], check=True)
    subprocess.run([*git, "commit", "-qm", "first"], check=True)
    monkeypatch.setattr(provenance, "__file__", str(root / "provenance.py"))
    return subprocess.run([*git, "rev-parse", "HEAD"], check=True, capture_output=True, text=True).stdout.strip()


def test_the_commit_is_the_one_of_our_own_repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    commit = repository(tmp_path, tracked=True, monkeypatch=monkeypatch)
    assert environment()["git_commit"] == commit


def test_the_commit_of_a_repository_around_us_is_not_ours(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    repository(tmp_path, tracked=False, monkeypatch=monkeypatch)
    assert environment()["git_commit"] is None


def test_without_git_there_is_no_commit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    assert environment()["git_commit"] is None


def test_the_same_run_may_go_on_in_its_folder(tmp_path: Path) -> None:
    open_run(tmp_path / "out", config={"percentile": 95})
    open_run(tmp_path / "out", config={"percentile": 99})
    assert record(tmp_path / "out")["config"] == {"percentile": 99}


@pytest.mark.parametrize(("command", "inputs"), [("audit", "b"), ("phantom", "a")])
def test_another_run_is_refused_and_the_folder_left_alone(tmp_path: Path, command: str, inputs: str) -> None:
    with open_run(tmp_path / "out").measured("something"):
        pass
    before = (tmp_path / "out" / "run.json").read_bytes()
    with pytest.raises(OutputConflict, match=r"belongs to another run[\s\S]*--out"):
        open_run(tmp_path / "out", command=command, inputs=inputs)
    assert (tmp_path / "out" / "run.json").read_bytes() == before


def test_a_folder_in_which_nothing_was_finished_can_be_taken_by_another_run(tmp_path: Path) -> None:
    open_run(tmp_path / "out", inputs="mistyped")
    open_run(tmp_path / "out", inputs="right")
    assert record(tmp_path / "out")["status"] == "running"


def test_a_folder_of_something_else_is_refused(tmp_path: Path) -> None:
    (tmp_path / "thesis.docx").write_text("dear to somebody")
    with pytest.raises(OutputConflict, match="not a run of mnemoscope; choose an empty --out"):
        open_run(tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["thesis.docx"]


def test_a_file_in_the_place_of_the_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("")
    with pytest.raises(OutputConflict, match="found a file; choose another --out"):
        open_run(tmp_path / "out")
    with pytest.raises(InputError, match="choose another --out"):
        open_run(tmp_path / "out" / "below")


def test_a_stage_is_made_once_while_its_inputs_stand(tmp_path: Path) -> None:
    calls: list[str] = []
    for _ in range(2):
        run = open_run(tmp_path / "out")
        folder = run.stage("latents", {"vae": "x", "size": 3}, writes("first", calls))
        assert (folder / "result").read_text() == "first"
    assert calls == ["first"]
    assert run.stages["latents"]["reused"] is True


def test_a_reused_stage_still_says_what_it_cost(tmp_path: Path) -> None:
    first = open_run(tmp_path / "out")
    first.stage("latents", {}, lambda _: time.sleep(0.05))
    for _ in range(2):
        again = open_run(tmp_path / "out")
        again.stage("latents", {}, lambda _: None)
    again.write(status="done")
    made = first.stages["latents"]
    assert made["seconds"] >= 0.05
    assert made["peak_memory_mb"] > 0
    found = record(tmp_path / "out")["stages"]["latents"]
    kept = ("seconds", "peak_memory_mb", "warnings")
    assert found["made_in"] == {what: made[what] for what in kept}
    assert found["seconds"] == 0.0


def test_a_stage_records_what_was_warned_of_while_it_was_made(tmp_path: Path) -> None:
    log = logging.getLogger("mnemoscope.models.vae")
    run = open_run(tmp_path / "out")
    run.stage("quiet", {}, lambda _: log.info("not a warning"))
    run.stage("latents", {}, lambda _: log.warning("%s: falls to float32", "clip"))
    log.warning("afterwards")
    run.write(status="done")
    stages = record(tmp_path / "out")["stages"]
    assert {name: stage["warnings"] for name, stage in stages.items()} == {
        "quiet": [],
        "latents": ["clip: falls to float32"],
    }
    again = open_run(tmp_path / "out")
    again.stage("latents", {}, lambda _: None)
    assert again.stages["latents"]["made_in"]["warnings"] == ["clip: falls to float32"]


def test_a_stage_with_changed_inputs_is_made_again_without_old_files(tmp_path: Path) -> None:
    calls: list[str] = []
    run = open_run(tmp_path / "out")
    run.stage("latents", {"vae": "x"}, lambda folder: (folder / "old").touch())
    folder = run.stage("latents", {"vae": "y"}, writes("second", calls))
    assert sorted(p.name for p in folder.iterdir()) == ["result", "stage.json"]
    assert run.stages["latents"]["reused"] is False


@pytest.mark.parametrize("interruption", [KeyboardInterrupt, ValueError])
def test_an_interrupted_stage_goes_on_where_it_stopped(tmp_path: Path, interruption: type[BaseException]) -> None:
    def stops(folder: Path) -> None:
        (folder / "shard-0").write_text("done")
        raise interruption

    def goes_on(folder: Path) -> None:
        (folder / "shard-1").write_text((folder / "shard-0").read_text())

    with pytest.raises(interruption):
        open_run(tmp_path / "out").stage("latents", {"vae": "x"}, stops)
    assert not (tmp_path / "out" / "latents").exists()
    folder = open_run(tmp_path / "out").stage("latents", {"vae": "x"}, goes_on)
    assert sorted(p.name for p in folder.iterdir()) == ["shard-0", "shard-1", "stage.json"]
    assert not list((tmp_path / "out").glob(".partial-*"))


def test_what_an_interrupted_stage_left_is_not_mixed_with_other_inputs(tmp_path: Path) -> None:
    def stops(folder: Path) -> None:
        (folder / "shard-0").write_text("of x")
        raise ValueError("broken off")

    run = open_run(tmp_path / "out")
    with pytest.raises(ValueError, match="broken off"):
        run.stage("latents", {"vae": "x"}, stops)
    folder = run.stage("latents", {"vae": "y"}, lambda _: None)
    assert [p.name for p in folder.iterdir()] == ["stage.json"]


def test_a_full_disk_keeps_the_stages_before(tmp_path: Path) -> None:
    def full(_: Path) -> None:
        raise OSError(28, "No space left on device")

    run = open_run(tmp_path / "out")
    run.stage("latents", {}, lambda _: None)
    with pytest.raises(OutOfSpace, match="the disk is full"):
        run.stage("features", {}, full)
    assert (tmp_path / "out" / "latents" / "stage.json").exists()
    assert not (tmp_path / "out" / "features").exists()


def test_peak_memory_sees_a_large_array_come_and_go() -> None:
    with PeakMemory(interval_s=0.01) as idle:
        time.sleep(0.05)
    with PeakMemory(interval_s=0.01) as memory:
        block = np.ones(25_000_000)
        time.sleep(0.1)
        del block
    assert 150e6 < memory.peak_bytes - idle.peak_bytes < 300e6


def test_input_folder_names_the_flag(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "empty").mkdir()
    assert input_folder(tmp_path, flag="--real") == tmp_path
    for name, message in [("nowhere", "found nothing"), ("file", "found a file"), ("empty", "the folder is empty")]:
        with pytest.raises(InputError, match=rf"--real .*{name}: .*{message}"):
            input_folder(tmp_path / name, flag="--real")


def test_the_record_ends_with_done_or_failed(tmp_path: Path) -> None:
    run = open_run(tmp_path / "out")
    with run.recording():
        run.stage("latents", {}, lambda _: None)
        assert run.record()["stages"]["latents"]["reused"] is False
    assert record(run.out)["status"] == "done"


@pytest.mark.parametrize("interruption", [KeyboardInterrupt, OutOfSpace])
def test_a_run_that_breaks_off_is_recorded_as_failed(tmp_path: Path, interruption: type[BaseException]) -> None:
    run = open_run(tmp_path / "out")
    with pytest.raises(interruption), run.recording():
        raise interruption
    assert record(run.out)["status"] == "failed"
    assert record(run.out)["finished"] is not None


def test_a_lost_stage_is_made_again(tmp_path: Path) -> None:
    calls: list[str] = []
    run = open_run(tmp_path / "out")
    run.stage("latents", {}, writes("once", calls))
    shutil.rmtree(tmp_path / "out" / "latents")
    run.stage("latents", {}, writes("twice", calls))
    assert calls == ["once", "twice"]
