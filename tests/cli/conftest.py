from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner, Result

from mnemoscope.cli import main
from tests.reference import tiny_audit

Call = Callable[..., Result]


@pytest.fixture(scope="session")
def call() -> Call:
    """Calls a verb as a person would; an exception that is no answer fails the test."""

    def run(*words: object) -> Result:
        return CliRunner(catch_exceptions=False).invoke(main, [str(word) for word in words])

    return run


@pytest.fixture(scope="session")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """``real``, ``synthetic`` and ``copies``, and the tiny audit's settings in ``tiny.yaml``; to be looked at only."""
    place = tmp_path_factory.mktemp("clips")
    tiny_audit.write_real(place / "real")
    tiny_audit.write_synthetic(place / "synthetic")
    tiny_audit.write_synthetic(place / "copies", only_copies=True)
    (place / "tiny.yaml").write_text(yaml.safe_dump(tiny_audit.SETTINGS))
    return place


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> Iterator[None]:
    with tiny_audit.one_thread():
        yield
