"""Search at the size of the paper (7465 × 100,000 × 128) against FAISS, torch.cdist and the published loop.

All in one run on one machine with two threads each, repeats interleaved so that a busy moment hits everybody, the best
of each counted. Run with ``python -m benchmarks.search``.
"""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import faiss
import numpy as np
import psutil
import torch

from benchmarks.rows import Row, table
from mnemoscope.core.rng import generator
from mnemoscope.search import L2, Correlation, Neighbours, WeightedL1, nearest

THREADS = 2
# torch.cdist and the loop take half a minute and more: they are timed on a part and scaled, both being linear.
CDIST_QUERIES = 2000
LOOP_QUERIES = 10
# So short a part slips between other processes' turns more easily, which on a busy machine favours the peer.
LOOP_TRIES = 20
SAMPLE_EVERY_S = 0.002


@dataclass(frozen=True)
class Problem:
    """Features of both sides, in [0, 1] like those of a sigmoid, and a head of the paper's kind."""

    query: np.ndarray
    gallery: np.ndarray
    head: WeightedL1


@dataclass(frozen=True)
class Measured:
    """Best seconds for all queries by name, peak memory of ours above its inputs, and agreement with FAISS."""

    seconds: dict[str, float]
    peak_mb: float
    agreement_share: float


@dataclass(frozen=True)
class Contestant:
    """Something to time: its seconds are scaled to all queries, the best of some tries in a row counts."""

    run: Callable[[], object]
    scale: float = 1.0
    tries: int = 1

    def best_seconds(self) -> float:
        """Seconds for all queries."""
        return self.scale * min(seconds(self.run) for _ in range(self.tries))


def problem(*, n_query: int = 100_000, n_gallery: int = 7465, n_features: int = 128, seed: int = 0) -> Problem:
    rng = generator(seed, "benchmark search")
    query, gallery = (rng.random((n, n_features), dtype=np.float32) for n in (n_query, n_gallery))
    return Problem(query, gallery, WeightedL1(-rng.random(n_features), 6.0))


def measure(task: Problem, *, repeats: int = 4) -> Measured:
    """Time everybody, interleaved; memory first, while no peer has left freed pages behind."""
    faiss.omp_set_num_threads(THREADS)
    torch.set_num_threads(THREADS)
    ours(task, slice(0, 64))
    with peak_above_now() as peak:
        found = ours(task, slice(None))
    index = folded_index(task)
    folded = folded_queries(task)
    _, peers = index.search(folded[:1000], 1)
    runs = contestants(task, index, folded)
    best = {name: np.inf for name in runs}
    for _ in range(repeats):
        for name, contestant in runs.items():
            best[name] = min(best[name], contestant.best_seconds())
    return Measured(best, peak[0], float((peers == found.index[:1000]).mean()))


def contestants(task: Problem, index: faiss.Index, folded: np.ndarray) -> dict[str, Contestant]:
    n = len(task.query)
    few, fewest = min(CDIST_QUERIES, n), min(LOOP_QUERIES, n)
    return {
        "ours": Contestant(lambda: ours(task, slice(None))),
        "ours, k = 5": Contestant(lambda: ours(task, slice(None), k=5)),
        "FAISS IndexFlat L1": Contestant(lambda: index.search(folded, 1)),
        "torch.cdist(p=1)": Contestant(lambda: cdist(folded[:few], task), n / few),
        "loop in torch": Contestant(lambda: torch_loop(task, fewest), n / fewest, LOOP_TRIES),
        "loop in NumPy": Contestant(lambda: numpy_loop(task, fewest), n / fewest, LOOP_TRIES),
        "ours, L2": Contestant(lambda: nearest(task.query, task.gallery, L2(), threads=THREADS)),
        "ours, correlation": Contestant(lambda: nearest(task.query, task.gallery, Correlation(), threads=THREADS)),
    }


def ours(task: Problem, queries: slice, *, k: int = 1) -> Neighbours:
    return nearest(task.query[queries], task.gallery, task.head, k=k, threads=THREADS)


def folded_queries(task: Problem) -> np.ndarray:
    return task.query * np.abs(task.head.weight).astype(np.float32)


def folded_index(task: Problem) -> faiss.Index:
    """FAISS knows no weights; folded into the features they give the same distances when all have one sign."""
    index = faiss.IndexFlat(task.gallery.shape[1], faiss.METRIC_L1)
    index.add(task.gallery * np.abs(task.head.weight).astype(np.float32))
    return index


def cdist(folded: np.ndarray, task: Problem) -> None:
    gallery = torch.from_numpy(task.gallery * np.abs(task.head.weight).astype(np.float32))
    for part in torch.from_numpy(folded).split(1000):
        torch.cdist(part, gallery, p=1).min(dim=1)


def torch_loop(task: Problem, n_query: int) -> None:
    gallery, weight = torch.from_numpy(task.gallery), torch.from_numpy(task.head.weight.astype(np.float32))
    for query in torch.from_numpy(task.query[:n_query]):
        ((query - gallery).abs() @ weight + task.head.bias).max(dim=0)


def numpy_loop(task: Problem, n_query: int) -> None:
    weight = task.head.weight.astype(np.float32)
    for query in task.query[:n_query]:
        (np.abs(query - task.gallery) @ weight + task.head.bias).argmax()


def seconds(run: Callable[[], object]) -> float:
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


@contextmanager
def peak_above_now() -> Iterator[list[float]]:
    """Peak resident memory inside the block above that at its start, in MB, by sampling."""
    process, done = psutil.Process(), threading.Event()
    start = process.memory_info().rss
    peak = [0.0]

    def watch() -> None:
        while not done.wait(SAMPLE_EVERY_S):
            peak[0] = max(peak[0], (process.memory_info().rss - start) / 1e6)

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield peak
    finally:
        done.set()
        watcher.join()


def rows(measured: Measured, task: Problem) -> list[Row]:
    """The figures with their targets; the loop counts by its faster form."""
    own = measured.seconds["ours"]
    size = f"{len(task.gallery)} × {len(task.query):,} × {task.gallery.shape[1]}"
    loop = min(("loop in torch", "loop in NumPy"), key=measured.seconds.__getitem__)
    peers = (
        ("FAISS IndexFlat L1", 1.5, "weights folded into the features"),
        ("torch.cdist(p=1)", 10.0, f"in chunks; scaled from {CDIST_QUERIES:,} queries"),
        (loop, 30.0, f"the faster of NumPy and torch; scaled from {LOOP_QUERIES} queries"),
    )
    return [
        *(
            Row(
                name=f"search {size}",
                value=own,
                unit="s",
                peer=f"{name}: {measured.seconds[name]:.3g} s",
                ratio=measured.seconds[name] / own,
                target=target,
                note=note,
            )
            for name, target, note in peers
        ),
        Row(
            name="memory above inputs", value=measured.peak_mb, unit="MB", target=300.0, note="peak, sampled each 2 ms"
        ),
        Row(name="same neighbour as FAISS", value=100 * measured.agreement_share, unit="%", note="of 1000 queries"),
        *(
            Row(name=f"search{name.removeprefix('ours')}", value=measured.seconds[name], unit="s")
            for name in ("ours, k = 5", "ours, L2", "ours, correlation")
        ),
    ]


def run() -> list[Row]:
    """Measure at full size."""
    task = problem()
    return rows(measure(task), task)


def main() -> None:
    print(table(run()))


if __name__ == "__main__":
    main()
