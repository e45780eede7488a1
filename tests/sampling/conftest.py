from collections.abc import Iterator

import pytest

from tests.reference import tiny_audit


@pytest.fixture(autouse=True, scope="session")
def one_thread() -> Iterator[None]:
    """Networks this small lose more to waking threads than they win."""
    with tiny_audit.one_thread():
        yield
