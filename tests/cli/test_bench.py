import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from mnemoscope.cli import bench
from tests.cli.conftest import Call


@pytest.fixture
def toys(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A checkout whose benchmarks say their own name."""
    (tmp_path / "benchmarks").mkdir()

    def module(name: str) -> SimpleNamespace:
        return SimpleNamespace(run=lambda: [name], table="; ".join)

    monkeypatch.setattr(bench, "CHECKOUT", tmp_path)
    monkeypatch.setattr(bench, "import_module", module)
    monkeypatch.setattr(sys, "path", sys.path.copy())
    return tmp_path


def test_the_chosen_parts_run_and_the_machine_is_named(call: Call, toys: Path) -> None:
    done = call("bench", "search", "decode")
    assert done.exit_code == 0
    assert "benchmarks.search; benchmarks.decode\n" in done.stdout
    assert "cores" in done.stdout
    assert "numpy" in done.stdout
    assert not (toys / "benchmarks" / "results.md").exists()


def test_all_parts_run_by_default_and_the_page_is_kept_on_demand(call: Call, toys: Path) -> None:
    done = call("bench", "--write")
    assert "; ".join(f"benchmarks.{part}" for part in bench.PARTS) in done.stdout
    assert (toys / "benchmarks" / "results.md").read_text() == done.stdout.removesuffix("\n")


def test_a_study_runs_alone_and_writes_its_own_page(call: Call, toys: Path) -> None:
    done = call("bench", "calibration")
    assert (done.exit_code, done.stdout) == (0, "")


def test_without_the_sources_it_ends_with_2(call: Call, toys: Path) -> None:
    (toys / "benchmarks").rmdir()
    done = call("bench")
    assert done.exit_code == 2
    assert "part of the source checkout" in done.stderr
