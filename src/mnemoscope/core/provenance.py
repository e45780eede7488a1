"""The run folder: who owns it, which stage is finished with which inputs, how long it took and how much memory."""

import json
import logging
import os
import platform
import shutil
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

import psutil

from mnemoscope.core.errors import InputError, OutputConflict
from mnemoscope.core.files import disk_errors, read_json, replace_folder, value_fingerprint, write_json

RUN_FILE = "run.json"
STAGE_FILE = "stage.json"
_LIBRARIES = ("mnemoscope", "numpy", "scipy", "torch", "diffusers", "monai", "accelerate", "av", "numba", "zarr")


class PeakMemory:
    """Highest resident memory of this process and its children while the block runs, in bytes."""

    def __init__(self, interval_s: float = 0.1) -> None:
        self.peak_bytes = 0
        self._interval_s = interval_s
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> "PeakMemory":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _watch(self) -> None:
        me = psutil.Process()
        while True:
            self.peak_bytes = max(self.peak_bytes, _resident_bytes(me))
            if self._stop.wait(self._interval_s):
                return


def _resident_bytes(process: psutil.Process) -> int:
    total = process.memory_info().rss
    for child in process.children(recursive=True):
        # A child may end between the listing and the reading: it then holds nothing.
        try:
            total += child.memory_info().rss
        except psutil.NoSuchProcess:
            total += 0
    return int(total)


class Warned(logging.Handler):
    """Keeps what mnemoscope warns of while the block runs."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.messages: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Keeps one message."""
        self.messages.append(record.getMessage())

    def __enter__(self) -> "Warned":
        logging.getLogger("mnemoscope").addHandler(self)
        return self

    def __exit__(self, *_: object) -> None:
        logging.getLogger("mnemoscope").removeHandler(self)


class Run:
    """A run folder. Stages are built beside their final place and appear whole; a finished one is reused.

    Of several processes of one training (``RANK``) the first keeps the records and moves what is finished.

    Args:
        out: the folder; made if absent.
        command: the command's name, such as ``"audit"``.
        identity: what makes this run this run (its inputs); another identity in the same folder is refused.
        config: the resolved configuration, for the record.
        seed: the seed, for the record.

    Raises:
        OutputConflict: if ``out`` holds something else.
    """

    def __init__(
        self, out: Path, *, command: str, identity: Mapping[str, Any], config: Mapping[str, Any], seed: int
    ) -> None:
        self.out = out
        self.stages: dict[str, dict[str, Any]] = {}
        self._record = {
            "command": command,
            "identity": json.loads(json.dumps(dict(identity), default=str)),
            "config": json.loads(json.dumps(dict(config), default=str)),
            "seed": seed,
            "started": datetime.now(UTC).isoformat(timespec="seconds"),
            "status": "running",
            **environment(),
        }
        self._keeps_records = os.environ.get("RANK", "0") == "0"
        if self._keeps_records:
            self._claim()
        self.write(status="running")

    def _claim(self) -> None:
        if not self.out.exists():
            self._make_folder()
            return
        if not self.out.is_dir():
            raise OutputConflict(f"{self.out}: expected a folder for the run, found a file; choose another --out")
        if not any(self.out.iterdir()):
            return
        if not (self.out / RUN_FILE).exists():
            raise OutputConflict(f"{self.out}: not empty and not a run of mnemoscope; choose an empty --out")
        before = read_json(self.out / RUN_FILE)
        found = {key: before.get(key) for key in ("command", "identity")}
        mine = {key: self._record[key] for key in ("command", "identity")}
        if found != mine and before.get("stages"):  # a folder where nothing was finished belongs to nobody
            raise OutputConflict(
                f"{self.out}: belongs to another run.\n"
                f"  found:    {json.dumps(found)}\n"
                f"  expected: {json.dumps(mine)}\n"
                f"choose another --out, or delete the folder"
            )

    def _make_folder(self) -> None:
        try:
            with disk_errors(self.out):
                self.out.mkdir(parents=True)
        except (PermissionError, FileExistsError, NotADirectoryError) as error:
            raise InputError(
                f"{self.out}: expected a place where the run's folder can be made, found: {error.strerror}; "
                f"choose another --out"
            ) from error

    def stage(self, name: str, inputs: Mapping[str, Any], make: Callable[[Path], None]) -> Path:
        """The finished folder of a stage: reused if its inputs are unchanged, else made (or continued) by ``make``.

        Args:
            name: the folder's name inside the run.
            inputs: JSON-able values that decide the result: fingerprints and settings.
            make: fills the folder it is given; may find there what an interrupted call left, for the same inputs.
        """
        key = value_fingerprint({"version": _version("mnemoscope"), "inputs": inputs})
        final = self.out / name
        finished = read_json(final / STAGE_FILE) if (final / STAGE_FILE).exists() else {}
        if finished.get("key") == key:
            self.stages[name] = {"key": key, "reused": True, "seconds": 0.0, "made_in": finished.get("made_in")}
            return final
        partial = self.out / f".partial-{name}-{key[:12]}"
        if not self._keeps_records:  # nothing is written here before the first process has claimed the folder
            make(partial)
            return final
        for stale in self.out.glob(f".partial-{name}-*"):
            if stale != partial:
                shutil.rmtree(stale)
        with self.measured(name, key), disk_errors(partial):
            partial.mkdir(exist_ok=True)
            make(partial)
        with disk_errors(partial):
            made_in = {what: self.stages[name][what] for what in ("seconds", "peak_memory_mb", "warnings")}
            write_json(partial / STAGE_FILE, {"stage": name, "key": key, "inputs": inputs, "made_in": made_in})
            replace_folder(partial, final)
        return final

    @contextmanager
    def measured(self, name: str, key: str = "") -> Iterator[None]:
        """Notes seconds, peak memory and warnings of the block under ``name``."""
        start = time.perf_counter()
        with PeakMemory() as memory, Warned() as warned:
            yield
        seconds = round(time.perf_counter() - start, 2)
        self.stages[name] = {
            "key": key,
            "reused": False,
            "seconds": seconds,
            "peak_memory_mb": round(memory.peak_bytes / 1e6),
            "warnings": warned.messages,
        }
        self.write(status="running")

    @contextmanager
    def recording(self) -> Iterator[None]:
        """Ends the record with done, or with failed when the block ends with an error or is interrupted."""
        try:
            yield
        except BaseException:
            self.write(status="failed")
            raise
        self.write(status="done")

    def record(self) -> dict[str, Any]:
        """The record as things stand."""
        return self._record | {"stages": self.stages}

    def write(self, *, status: str) -> None:
        """Writes ``run.json`` as things stand; ``status`` is running, done or failed."""
        if not self._keeps_records:
            return
        finished = datetime.now(UTC).isoformat(timespec="seconds") if status != "running" else None
        write_json(self.out / RUN_FILE, self._record | {"status": status, "finished": finished, "stages": self.stages})


def environment() -> dict[str, Any]:
    """Versions, git commit and machine, for the record."""
    versions = {name: _version(name) for name in _LIBRARIES}
    return {
        "versions": {"python": platform.python_version()} | versions,
        "git_commit": _git_commit(),
        "machine": {"system": platform.system(), "processor": _processor(), "cores": os.cpu_count()},
    }


def input_folder(path: Path, *, flag: str) -> Path:
    """``path`` if it is a folder with something in it.

    Raises:
        InputError: naming the flag it came from.
    """
    if not path.is_dir():
        raise InputError(f"{flag} {path}: expected a folder, found {'a file' if path.exists() else 'nothing'}")
    if not any(path.iterdir()):
        raise InputError(f"{flag} {path}: the folder is empty; expected clips, a FileList.csv or a latent store")
    return path


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _git_commit() -> str | None:
    # An installed copy may lie inside somebody else's repository, whose commit says nothing about it.
    if _git("ls-files", "--error-unmatch", Path(__file__).name) is None:
        return None
    return _git("rev-parse", "HEAD")


def _git(*words: str) -> str | None:
    call = ["git", "-C", str(Path(__file__).parent), *words]
    try:
        done = subprocess.run(call, capture_output=True, text=True, timeout=5)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor()
