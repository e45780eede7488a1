"""Several training processes on one machine, as ``accelerate launch`` starts them."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
TIMEOUT_S = 240


def launch(code: str, out: Path, *, processes: int) -> list[dict[str, Any]]:
    """Runs ``code`` in each process; it is given ``out`` and writes ``out/RANK.json``, which is returned by rank."""
    out.mkdir()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-W", "ignore", "-c", code, str(out)]
    running = [
        subprocess.Popen(command, cwd=ROOT, env=_environment(rank, processes, port)) for rank in range(processes)
    ]
    try:
        codes = [process.wait(TIMEOUT_S) for process in running]
    finally:
        for process in running:
            process.kill()
    assert codes == [0] * processes
    return [json.loads((out / f"{rank}.json").read_text()) for rank in range(processes)]


def _environment(rank: int, processes: int, port: int) -> dict[str, str]:
    shared = {"OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "true"}
    if processes == 1:
        return os.environ | shared
    return (
        os.environ
        | shared
        | {
            "RANK": str(rank),
            "LOCAL_RANK": str(rank),
            "WORLD_SIZE": str(processes),
            "LOCAL_WORLD_SIZE": str(processes),
            "MASTER_ADDR": "127.0.0.1",
            "MASTER_PORT": str(port),
        }
    )
