import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from mnemoscope.audit.run import Finished, run_audit
from mnemoscope.audit.run.settings import recorded
from mnemoscope.core.files import read_json
from mnemoscope.core.progress import Progress, unwatched
from mnemoscope.core.provenance import Run
from tests.reference import tiny_audit


@dataclass(frozen=True)
class Tiny:
    """Where an audit's clips and its run lie."""

    real: Path
    synthetic: Path
    out: Path

    def audit(self, *, progress: Progress = unwatched, **changes: Any) -> Finished:
        """Runs the audit with changed settings, or goes on with it."""
        config = tiny_audit.settings(**changes)
        run = Run(self.out, command="audit", identity={}, config=recorded(config), seed=config.seed)
        with run.recording():
            return run_audit(run, real=self.real, synthetic=self.synthetic, config=config, progress=progress)

    def remade(self) -> set[str]:
        """The stages that the last call could not reuse."""
        return {name for name, stage in read_json(self.out / "run.json")["stages"].items() if not stage["reused"]}

    @property
    def written(self) -> dict[str, Any]:
        """``audit.json``."""
        return read_json(self.out / "audit.json")


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> Iterator[None]:
    with tiny_audit.one_thread():
        yield


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Tiny:
    """A finished audit; look, but do not change it."""
    place = tmp_path_factory.mktemp("tiny")
    tiny = Tiny(tiny_audit.write_real(place / "real"), tiny_audit.write_synthetic(place / "synthetic"), place / "run")
    with tiny_audit.one_thread():
        tiny.audit()
    return tiny


@pytest.fixture
def again(finished: Tiny, tmp_path: Path) -> Tiny:
    """A copy of the finished run over the same clips."""
    shutil.copytree(finished.out, tmp_path / "run")
    return Tiny(finished.real, finished.synthetic, tmp_path / "run")


@pytest.fixture
def copied(finished: Tiny, again: Tiny, tmp_path: Path) -> Tiny:
    """A copy of the finished run and of its clips, to be changed."""
    for name in ("real", "synthetic"):
        shutil.copytree(getattr(finished, name), tmp_path / name)
    return Tiny(tmp_path / "real", tmp_path / "synthetic", again.out)


@pytest.fixture
def fresh(copied: Tiny, tmp_path: Path) -> Tiny:
    """A copy of the clips, of which nothing was audited yet."""
    return Tiny(copied.real, copied.synthetic, tmp_path / "fresh")


@pytest.fixture
def stopping() -> Callable[[str, int], Progress]:
    """A person who presses Ctrl-C as soon as a stage has done so much."""

    def at(stage: str, done: int) -> Progress:
        def watch(name: str, so_far: int, total: int, unit: str) -> None:
            if name == stage and so_far >= done:
                raise KeyboardInterrupt

        return watch

    return at
