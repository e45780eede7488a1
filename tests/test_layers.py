"""Imports point one way: every import under src/mnemoscope is read, at the top of a file or inside a function."""

import ast
import sys
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[1] / "src" / "mnemoscope"
LEVELS = (
    {"core"},
    {"data"},
    {"latents", "phantom"},
    {"models", "search"},
    {"training", "sampling", "audit"},
    {"release", "downstream", "report"},
    {"cli"},
)
LEVEL = {room: level for level, rooms in enumerate(LEVELS) for room in rooms}
MATHEMATICS_MAY_IMPORT = {"numpy", "scipy", "jaxtyping", "mnemoscope", *sys.stdlib_module_names}


def module_name(path: Path) -> str:
    parts = path.relative_to(SOURCE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports(source: str, *, name: str, is_package: bool) -> Iterator[str]:
    """Every imported name, relative ones resolved; ``from a import b`` gives both a and a.b."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            parents = name.split(".") if is_package else name.split(".")[:-1]
            base = [*parents[: len(parents) - node.level + 1], node.module] if node.level else [node.module]
            origin = ".".join(part for part in base if part)
            yield origin
            yield from (f"{origin}.{alias.name}" for alias in node.names)


def room(name: str) -> str | None:
    parts = name.split(".")
    return parts[1] if parts[0] == "mnemoscope" and len(parts) > 1 else None


def upward(name: str, targets: Iterator[str]) -> list[str]:
    here = LEVEL.get(room(name) or "", len(LEVELS))
    return [f"{name} imports {target}" for target in targets if LEVEL.get(room(target) or "", -1) > here]


def foreign(name: str, targets: Iterator[str]) -> list[str]:
    return [f"{name} imports {target}" for target in targets if target.split(".")[0] not in MATHEMATICS_MAY_IMPORT]


def cycle(graph: dict[str, set[str]]) -> list[str]:
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        return list(error.args[1])
    return []


def modules() -> dict[str, Path]:
    return {module_name(path): path for path in sorted(SOURCE.rglob("*.py"))}


def imports_of(name: str, path: Path) -> Iterator[str]:
    return imports(path.read_text(encoding="utf-8"), name=name, is_package=path.name == "__init__.py")


def test_every_room_has_a_level() -> None:
    rooms = {path.parent.name for path in SOURCE.glob("*/__init__.py")}
    assert rooms
    assert rooms <= set(LEVEL)


def test_no_import_points_up() -> None:
    edges = [edge for name, path in modules().items() for edge in upward(name, imports_of(name, path))]
    assert edges == []


def test_no_cycle() -> None:
    known = modules()
    graph = {
        name: {target for target in imports_of(name, path) if target in known and target != name}
        for name, path in known.items()
    }
    # A package's front door imports its own modules, which may name the package: no cycle at run time.
    graph = {
        name: {target for target in targets if not name.startswith(f"{target}.")} for name, targets in graph.items()
    }
    assert cycle(graph) == []


def test_audit_mathematics_needs_numpy_and_scipy_only() -> None:
    audit = {name: path for name, path in modules().items() if room(name) == "audit"}
    files = {name: path for name, path in audit.items() if not name.startswith("mnemoscope.audit.run")}
    assert files
    edges = [edge for name, path in files.items() for edge in foreign(name, imports_of(name, path))]
    assert edges == []


@pytest.mark.parametrize(
    ("source", "edges"),
    [
        ("from mnemoscope.report import page", 2),
        ("from mnemoscope import cli", 1),
        ("def f():\n    import mnemoscope.report.page", 1),
        ("from ..report import page", 2),
        ("from mnemoscope.core import rng\nimport torch", 0),
        ("from . import threshold", 0),
    ],
)
def test_an_upward_import_is_found(source: str, edges: int) -> None:
    targets = imports(source, name="mnemoscope.audit.run", is_package=False)
    assert len(upward("mnemoscope.audit.run", targets)) == edges


def test_a_cycle_and_a_foreign_import_are_found() -> None:
    assert set(cycle({"a": {"b"}, "b": {"c"}, "c": {"a"}})) == {"a", "b", "c"}
    assert cycle({"a": {"b"}, "b": {"c"}, "c": set()}) == []
    targets = imports("import numpy.linalg\nfrom scipy import stats\nimport math, pandas", name="a.b", is_package=False)
    assert foreign("a.b", targets) == ["a.b imports pandas"]
