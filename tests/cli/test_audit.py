import errno
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

import mnemoscope
from mnemoscope.audit.run import stages
from mnemoscope.core.files import read_json
from mnemoscope.core.types import AuditResult
from tests.cli.conftest import Call
from tests.reference import tiny_audit
from tests.reference.tiny_audit import COPIED

Stop = Callable[[BaseException], None]


@pytest.fixture(scope="module")
def out(call: Call, clips: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run."""
    run = tmp_path_factory.mktemp("cli") / "run"
    done = call(*words(clips, run))
    assert done.exit_code == 0, done.output
    assert done.stderr == ""
    return run


@pytest.fixture
def no_page(monkeypatch: pytest.MonkeyPatch) -> None:
    """The page has tests of its own, and drawing it takes longer than such an audit."""
    monkeypatch.setattr("mnemoscope.cli.audit.report_files", lambda *_: None)


def words(clips: Path, out: Path, *, synthetic: str = "synthetic") -> list[object]:
    return [
        *("audit", "--real", clips / "real", "--synthetic", clips / synthetic, "--out", out),
        *("--config", clips / "tiny.yaml"),
    ]


def quick(out: Path) -> list[object]:
    """With the model of a finished run, so that nothing is trained."""
    return ["--reid-model", out / "reid" / "model"]


@pytest.mark.usefixtures("no_page")
def test_the_answer_stands_on_stdout_with_what_was_not_tested(call: Call, clips: Path, out: Path) -> None:
    said = call(*words(clips, out)).stdout
    result = AuditResult.from_json(read_json(out / "audit.json"))
    assert result.privacy is not None
    assert said.startswith(f"verdict: {result.verdict.status}\n")
    assert f"flagged: {result.privacy.flagged} of 8 (tau {result.privacy.tau:.3f})" in said
    assert "of 10 train clips" in said
    assert result.recall is not None
    for name, number in (("matched", result.recall.matched), ("known_share", result.recall.known_share)):
        assert (f"not measured ({result.absent.get(f'recall.{name}')})" in said) == (number is None)
    for line in (*result.verdict.reasons, *result.verdict.not_tested):
        assert f"  {line}\n" in said
    assert said.endswith(f"report: {out / 'report.html'}\n")


def test_the_run_holds_every_file_and_its_record(clips: Path, out: Path) -> None:
    files = {path.name for path in out.iterdir() if path.is_file()}
    tables = {"samples.parquet", "holdout.parquet", "patients.parquet"}
    assert {"audit.json", "report.html", "run.json", *tables} <= files
    assert not [path for path in out.rglob(".*") if "partial" in path.name]
    record = read_json(out / "run.json")
    assert record["status"] == "done"
    assert record["config"] == tiny_audit.settings().model_dump(mode="json")


@pytest.mark.usefixtures("no_page")
def test_json_is_the_audit(call: Call, clips: Path, out: Path) -> None:
    assert json.loads(call(*words(clips, out), "--json").stdout) == read_json(out / "audit.json")


def test_the_same_from_python(clips: Path, out: Path) -> None:
    result = mnemoscope.audit(
        real=clips / "real", synthetic=str(clips / "synthetic"), out=out, config=tiny_audit.settings()
    )
    assert isinstance(result, AuditResult)
    assert result == AuditResult.from_json(read_json(out / "audit.json"))
    stages_of = read_json(out / "run.json")["stages"]
    assert {name for name, stage in stages_of.items() if not stage["reused"]} == {"assess", "audit", "report"}


@pytest.mark.usefixtures("no_page")
def test_options_reach_the_audit(call: Call, clips: Path, out: Path, tmp_path: Path) -> None:
    more = ["--percentile", "60", "--fdr-rate", "0.5", "--csv", "--gate-percentile", "none", "--json", *quick(out)]
    found: dict[str, Any] = json.loads(call(*words(clips, tmp_path / "run"), *more).stdout)
    assert (found["privacy"]["percentile"], found["privacy"]["fdr_rate"]) == (60.0, 0.5)
    assert found["recall"]["gate"] is None
    csv = {path.name for path in (tmp_path / "run").glob("*.csv")}
    assert {"samples.csv", "holdout.csv", "patients.csv"} <= csv


@pytest.mark.usefixtures("no_page")
def test_the_gate_turns_a_fail_into_1_and_nothing_else(call: Call, clips: Path, out: Path, tmp_path: Path) -> None:
    copies = words(clips, tmp_path / "run", synthetic="copies") + quick(out)
    told = call(*copies)
    assert (told.exit_code, told.stdout.splitlines()[0]) == (0, "verdict: fail")
    gated = call(*copies, "--gate")
    assert (gated.exit_code, gated.stdout) == (1, told.stdout)
    strangers = shutil.copytree(clips / "synthetic", tmp_path / "clips" / "strangers")
    for name in COPIED:
        (strangers / f"{name}.avi").unlink()
    innocent = ["audit", "--real", clips / "real", "--synthetic", strangers, "--out", tmp_path / "b"]
    done = call(*innocent, "--config", clips / "tiny.yaml", *quick(out), "--gate")
    assert (done.exit_code, done.stdout.splitlines()[0]) == (0, "verdict: inconclusive")


def test_a_run_of_other_clips_is_left_alone(call: Call, clips: Path, out: Path) -> None:
    before = (out / "audit.json").read_bytes(), (out / "run.json").read_bytes()
    done = call(*words(clips, out, synthetic="copies"))
    assert done.exit_code == 2
    assert "belongs to another run" in done.stderr
    assert "choose another --out" in done.stderr
    assert ((out / "audit.json").read_bytes(), (out / "run.json").read_bytes()) == before


def test_a_folder_that_is_no_run_is_left_alone(call: Call, clips: Path, tmp_path: Path) -> None:
    (tmp_path / "thesis.doc").write_text("of somebody")
    done = call(*words(clips, tmp_path))
    assert done.exit_code == 2
    assert "not empty and not a run of mnemoscope" in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.doc"]


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--real", "nowhere"], "--real nowhere: expected a folder, found nothing"),
        (["--percentile", "95"], "at least 20 holdout clips, got 6; add holdout clips or lower percentile"),
        (["--set", "percentil=90"], "percentil: unknown key; did you mean 'percentile'?"),
        (["--set", "reid.loop.epoch=1"], "reid.loop.epoch: unknown key; did you mean 'reid.loop.epochs'?"),
        (["--train-frames", "0"], "train_frames (--train-frames) must be at least 1 or 'all', found 0"),
        (["--reid-model", "nowhere"], "nowhere"),
    ],
)
def test_a_wrong_call_ends_with_2_and_the_remedy_on_stderr(
    call: Call, clips: Path, tmp_path: Path, more: list[str], message: str
) -> None:
    done = call(*words(clips, tmp_path / "run"), *more)
    assert (done.exit_code, done.stdout) == (2, "")
    assert done.stderr.startswith("error: ")
    assert message in done.stderr
    assert not (tmp_path / "run" / "audit.json").exists()


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (KeyboardInterrupt(), "stopped; every finished stage stays and the same command goes on from there"),
        (OSError(errno.ENOSPC, "No space left on device"), "the disk is full; what was finished before stays"),
    ],
)
@pytest.mark.usefixtures("no_page")
def test_a_stage_that_is_broken_off_ends_with_2_and_leaves_nothing_under_its_name(
    call: Call,
    clips: Path,
    out: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    error: BaseException,
    message: str,
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise error

    run = tmp_path / "run"
    with monkeypatch.context() as patch:
        patch.setattr(stages, "extract_features", broken)
        done = call(*words(clips, run), *quick(out))
    assert (done.exit_code, done.stdout) == (2, "")
    assert message in done.stderr
    assert read_json(run / "run.json")["status"] == "failed"
    assert {path.name for path in run.iterdir() if path.is_dir() and not path.name.startswith(".")} == {
        *("check-real", "latents-real", "check-synthetic", "latents-synthetic")
    }
    assert call(*words(clips, run), *quick(out)).exit_code == 0


@pytest.mark.usefixtures("no_page")
def test_left_out_clips_are_told_each_time(
    call: Call, out: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    tiny_audit.write_real(tmp_path / "real")
    tiny_audit.write_synthetic(tmp_path / "synthetic")
    (tmp_path / "tiny.yaml").write_text(yaml.safe_dump(tiny_audit.SETTINGS))
    (tmp_path / "synthetic" / "s1.avi").write_bytes(b"no video")
    refused = call(*words(tmp_path, tmp_path / "run"), *quick(out))
    assert refused.exit_code == 2
    assert "s1.avi" in refused.stderr
    assert "--drop-bad-clips" in refused.stderr
    for _ in range(2):
        caplog.clear()
        done = call(*words(tmp_path, tmp_path / "run"), *quick(out), "--drop-bad-clips")
        assert done.exit_code == 0
        assert "of 7 (tau" in done.stdout
        assert "1 of 8 clips have errors and are left out" in caplog.text


def test_a_secret_of_the_house_stays_out_of_every_file(call: Call, clips: Path, out: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    done = call(*words(clips, run), *quick(out), "--patient-salt", "open sesame, please")
    assert done.exit_code == 0
    files = [path for path in run.rglob("*") if path.is_file()]
    assert not [path for path in files if b"open sesame" in path.read_bytes()]
    assert not set(mnemoscope.LatentStore(run / "latents-real").clips["patient_id"]) & {"p00", "p01"}
