import gc
from collections.abc import Iterator

import pytest
import torch


@pytest.fixture(autouse=True, scope="session")
def one_thread() -> Iterator[None]:
    """Networks this small lose more to waking threads than they win."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(autouse=True, scope="module")
def quick_collection() -> Iterator[None]:
    """Each training ends with a garbage collection, which would look through all imported libraries every time."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()
