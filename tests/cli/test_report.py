from pathlib import Path

import mnemoscope
from mnemoscope.core.types import AuditResult
from tests.cli.conftest import Call
from tests.reference import tiny_audit


def test_the_page_of_a_finished_audit_is_written_again(call: Call, clips: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    result = mnemoscope.audit(
        real=clips / "real", synthetic=clips / "synthetic", out=run, config=tiny_audit.settings(altered_frames=0)
    )
    assert isinstance(result, AuditResult)
    first = (run / "report.html").read_text()
    assert first.count("data:image/webp") >= tiny_audit.N_SYNTHETIC
    (run / "report.html").unlink()
    done = call("report", run)
    assert (done.exit_code, done.stdout, done.stderr) == (0, f"{run / 'report.html'}\n", "")
    second = (run / "report.html").read_text()
    assert second.count("data:image/webp") == first.count("data:image/webp")
    (run / "report.html").unlink()
    assert mnemoscope.report(str(run)) == run / "report.html"
    assert (run / "report.html").read_text() == second


def test_a_folder_without_an_audit_ends_with_2(call: Call, tmp_path: Path) -> None:
    done = call("report", tmp_path)
    assert (done.exit_code, done.stdout) == (2, "")
    assert f"expected a finished audit with audit.json; run mnemoscope audit --out {tmp_path}" in done.stderr
