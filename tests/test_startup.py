"""The command answers at once: a person who only asks for help does not wait for torch."""

import subprocess
import sys
import time
from pathlib import Path

COMMAND = [str(Path(sys.executable).parent / "mnemoscope"), "--help"]
MOST_S = 0.3
TRIES = 5
HEAVY = ("torch", "pandas", "matplotlib", "av", "pydicom", "numba", "diffusers", "monai", "scipy")
NAME_HEAVY = f"""
import sys
from mnemoscope.cli import main
main(["--help"], standalone_mode=False)
print("imported:", *sorted(set({HEAVY!r}) & set(sys.modules)))
"""


def seconds(command: list[str]) -> float:
    start = time.perf_counter()
    subprocess.run(command, check=True, capture_output=True)
    return time.perf_counter() - start


def test_help_answers_at_once() -> None:
    assert min(seconds(COMMAND) for _ in range(TRIES)) < MOST_S


def test_help_names_the_verbs_and_imports_nothing_heavy() -> None:
    done = subprocess.run([sys.executable, "-c", NAME_HEAVY], check=True, capture_output=True, text=True)
    help_text, _, imported = done.stdout.rpartition("imported:")
    for verb in ("audit", "check", "demo", "report"):
        assert f"  {verb} " in help_text
    assert imported.split() == []


def test_the_check_for_heavy_libraries_can_fail() -> None:
    code = NAME_HEAVY.replace("import sys", "import sys, pandas")
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert "pandas" in done.stdout.rpartition("imported:")[2].split()
