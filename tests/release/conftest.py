from pathlib import Path

import pytest

from tests.release.audits import Made, make


@pytest.fixture
def passed(tmp_path: Path) -> Made:
    """An audit that passed, nothing flagged."""
    return make(tmp_path)


@pytest.fixture
def flagged(tmp_path: Path) -> Made:
    """An audit that passed, with two flags."""
    return make(tmp_path, flagged=("s1", "s4"))
