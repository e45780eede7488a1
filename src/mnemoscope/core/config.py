"""Configuration: frozen, typed values; defaults, then a file, then ``--set key=value``, and nothing that is unknown."""

import dataclasses
import difflib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError, model_validator

from mnemoscope.core.errors import ConfigError


class Config(BaseModel):
    """Base of every configuration: immutable, and an unknown key is an error.

    A group that is given in part keeps the other choices of its default: ``loop.epochs=3`` leaves the batch size that
    this stage chose alone.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    @model_validator(mode="before")
    @classmethod
    def _complete_groups(cls, values: Any) -> Any:
        if not isinstance(values, Mapping):
            return values
        groups = {name: field.default for name, field in cls.model_fields.items() if isinstance(field.default, Config)}
        given = {name: values[name] for name in groups if isinstance(values.get(name), Mapping)}
        # Only what the default itself chose: the rest is the group's own business, such as its presets.
        return {**values} | {k: merged(groups[k].model_dump(exclude_unset=True), v) for k, v in given.items()}


C = TypeVar("C", bound=Config)


def resolve(kind: type[C], *, file: Path | None = None, assignments: Sequence[str] = (), given: Mapping[str, Any]) -> C:
    """The configuration of one command: defaults < file < ``--set`` < options given by name.

    Args:
        kind: the configuration's class.
        file: YAML or JSON file with (nested) keys of ``kind``; read as data, never executed.
        assignments: ``"reid.loop.epochs=3"`` strings; values are YAML scalars or lists.
        given: options that were given by name on the command line, top-level keys.

    Raises:
        ConfigError: with every unknown key and bad value in one message.
    """
    values = _read(file) if file else {}
    for assignment in assignments:
        _assign(values, assignment)
    return build(kind, values | dict(given))


def build(kind: type[C], values: Mapping[str, Any], *, prefix: str = "") -> C:
    """``kind(**values)`` with all problems in one :class:`ConfigError`.

    Args:
        kind: the configuration's class.
        values: its keys.
        prefix: what a user writes before them, such as ``"reid."``.
    """
    try:
        return kind.model_validate(dict(values))
    except ValidationError as error:
        lines = dict.fromkeys(_explain(kind, problem, prefix) for problem in error.errors())
        raise ConfigError(f"{kind.__name__}: {len(lines)} problem(s)\n" + "\n".join(lines)) from None


def merged(values: dict[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """``values`` with ``changes`` laid over them, group by group."""
    both = {
        key: merged(values[key], change)
        for key, change in changes.items()
        if isinstance(change, Mapping) and isinstance(values.get(key), dict)
    }
    return values | dict(changes) | both


def known_keys(kind: type, prefix: str = "") -> Iterator[str]:
    """Dotted names of every key of a configuration, those of nested configurations and dataclasses included."""
    for name, inner in _keys(kind).items():
        yield from known_keys(inner, f"{prefix}{name}.") if isinstance(inner, type) else ()
        yield prefix + name


def _keys(kind: type) -> dict[str, Any]:
    if issubclass(kind, BaseModel):
        return {name: field.annotation for name, field in kind.model_fields.items()}
    return {f.name: f.type for f in dataclasses.fields(kind)} if dataclasses.is_dataclass(kind) else {}


def _read(file: Path) -> dict[str, Any]:
    try:
        values = yaml.safe_load(file.read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{file}: expected a readable YAML or JSON file of settings, got: {error}") from error
    if values is None:
        return {}
    if not isinstance(values, dict):
        raise ConfigError(f"{file}: expected keys and values at the top, found {type(values).__name__}")
    return values


def _assign(values: dict[str, Any], assignment: str) -> None:
    key, equals, text = assignment.partition("=")
    if not equals or not key.strip():
        raise ConfigError(f"--set {assignment!r}: expected key=value, for example --set percentile=99")
    *parents, last = key.strip().split(".")
    for parent in parents:
        values = values.setdefault(parent, {})
        if not isinstance(values, dict):
            raise ConfigError(f"--set {assignment!r}: {parent!r} is a value, not a group of settings")
    try:
        values[last] = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ConfigError(f"--set {assignment!r}: the value is not readable: {error}") from error


def _explain(kind: type, problem: Any, prefix: str) -> str:
    key = ".".join(str(part) for part in problem["loc"])
    if problem["type"] not in ("extra_forbidden", "unexpected_keyword_argument"):
        return f"  {prefix}{key}: {problem['msg']} (found {problem['input']!r})"
    near = difflib.get_close_matches(key, list(known_keys(kind)), n=1, cutoff=0.6)
    hint = f"; did you mean {prefix + near[0]!r}?" if near else "; --dry-run prints every known key"
    return f"  {prefix}{key}: unknown key{hint}"
