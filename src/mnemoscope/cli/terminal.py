"""The terminal: options every verb has, errors as exit codes, progress for a person who watches."""

import functools
import json
import logging
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, Literal, NoReturn, TypeVar, get_args, get_origin

import click
import yaml
from tqdm import tqdm

from mnemoscope.core.config import Config, resolve
from mnemoscope.core.errors import MnemoscopeError, Refused
from mnemoscope.core.files import disk_errors
from mnemoscope.core.progress import Progress, unwatched

log = logging.getLogger(__name__)

C = TypeVar("C", bound=Config)
INTERNAL_ERROR = 70  # EX_SOFTWARE of sysexits.h


@dataclass(frozen=True, kw_only=True)
class Asked(Generic[C]):
    """How a verb was called, beside its own arguments.

    Attributes:
        kind: the class of its settings.
        config_file: file with settings.
        assignments: ``--set`` strings.
        given: settings that have options of their own, as given.
        dry_run: print the resolved settings and stop.
        as_json: print the result for machines.
        verbose: log what is done.
    """

    kind: type[C]
    config_file: Path | None
    assignments: tuple[str, ...]
    given: Mapping[str, Any]
    dry_run: bool
    as_json: bool
    verbose: bool

    @contextmanager
    def answering(self) -> Iterator[tuple[C, Progress]]:
        """:func:`answering` with the resolved settings of this call."""
        with answering(verbose=self.verbose) as progress:
            yield (
                resolve(self.kind, file=self.config_file, assignments=self.assignments, given=self.given),
                progress,
            )


def settings(kind: type[Config]) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Gives a command ``--config``, ``--set``, ``--dry-run``, ``--json`` and an option per plain key of ``kind``.

    The command receives all of them as ``asked``, an :class:`Asked`.
    """
    described = _described(kind)
    names = [name for name, field in kind.model_fields.items() if not _is_group(field.annotation)]

    def decorate(command: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(command)
        def wrapped(*args: Any, **options: Any) -> Any:
            chosen = {name: options.pop(name) for name in names}
            given = {name: _value(kind, name, text) for name, text in chosen.items() if text is not None}
            shared = {name: options.pop(name) for name in _SHARED}
            return command(*args, asked=Asked(kind=kind, given=given, **shared), **options)

        made = wrapped
        for name in reversed(names):
            made = _option(name, kind, described.get(name, ""))(made)
        for option in (_CONFIG, _SET, _DRY_RUN, _JSON, _VERBOSE):
            made = option(made)
        return made

    return decorate


_SHARED = ("config_file", "assignments", "dry_run", "as_json", "verbose")
_CONFIG = click.option(
    "--config", "config_file", type=click.Path(path_type=Path), help="YAML or JSON file with settings."
)
_SET = click.option(
    "--set",
    "assignments",
    multiple=True,
    metavar="KEY=VALUE",
    help="Any setting, nested ones with dots, as --dry-run lists them; repeatable.",
)
_DRY_RUN = click.option("--dry-run", is_flag=True, help="Print the resolved configuration and stop.")
_JSON = click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
_VERBOSE = click.option("--verbose", is_flag=True, help="Log what is done, on stderr.")


def _option(name: str, kind: type[Config], text: str) -> Callable[..., Any]:
    field = kind.model_fields[name]
    flag = f"--{name.replace('_', '-')}"
    if field.annotation is bool:
        return click.option(flag, name, is_flag=True, default=None, help=text)
    default = field.get_default(call_default_factory=True) if not field.is_required() else None
    shown = "" if default is None else f" [default: {default}]"
    return click.option(
        flag, name, default=None, required=field.is_required(), metavar=_metavar(field.annotation), help=text + shown
    )


def _metavar(annotation: Any) -> str:
    """The choices where there are any, else the kind of value."""
    if get_origin(annotation) is Literal:
        return f"[{'|'.join(map(str, get_args(annotation)))}]"
    kinds = {int: "INTEGER", float: "NUMBER", Path: "PATH"}
    return next((name for kind, name in kinds.items() if kind in (annotation, *get_args(annotation))), "TEXT")


def _value(kind: type[Config], name: str, text: Any) -> Any:
    """``none`` and ``null`` are no value, unless the setting has a choice of that name."""
    return None if text in ("none", "null") and text not in get_args(kind.model_fields[name].annotation) else text


def _is_group(annotation: Any) -> bool:
    return annotation is not None and not _plain(annotation)


def _plain(annotation: Any) -> bool:
    text = str(annotation)
    return not re.search(r"dict\[|tuple\[", text) and not (
        isinstance(annotation, type)
        and (hasattr(annotation, "model_fields") or hasattr(annotation, "__dataclass_fields__"))
    )


def _described(kind: type[Config]) -> dict[str, str]:
    """What the class's docstring says of each key, under ``Attributes:``."""
    doc = (kind.__doc__ or "").partition("Attributes:")[2]
    entries = re.findall(r"^\s{8}(\w+): (.*(?:\n\s{10,}.*)*)", doc, flags=re.MULTILINE)
    return {name: re.sub(r"\s+", " ", text).replace("``", "") for name, text in entries}


def show_plan(config: Config, places: Mapping[str, object]) -> None:
    """Prints the resolved configuration as YAML that ``--config`` takes; files and folders stand in its comments."""
    lines = [f"# {name}: {place}\n" for name, place in places.items()]
    click.echo("".join(lines) + yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False), nl=False)


def show_json(values: Any) -> None:
    """Prints a result for machines."""
    click.echo(json.dumps(values, indent=2, default=str))


@contextmanager
def answering(*, verbose: bool = False, watched: bool | None = None) -> Iterator[Progress]:
    """Runs a verb: progress on stderr where a person watches; errors as one message and exit code 2, refusals 1."""
    logging.basicConfig(level=logging.INFO if verbose else logging.WARNING, format="%(name)s: %(message)s")
    bars = _Bars()
    try:
        with disk_errors(Path.cwd()):
            yield bars if (sys.stderr.isatty() if watched is None else watched) else unwatched
    except Refused as error:
        _fail(f"refused: {error}", code=1)
    except MnemoscopeError as error:
        _fail(f"error: {error}")
    except KeyboardInterrupt:
        _fail("stopped; every finished stage stays and the same command goes on from there")
    except click.ClickException:
        raise
    except Exception as error:
        # 1 would say that the gate said no.
        log.exception("unexpected")
        _fail(f"internal error, please report it: {type(error).__name__}: {error}", code=INTERNAL_ERROR)
    finally:
        bars.close()


def _fail(message: str, *, code: int = 2) -> NoReturn:
    click.echo(message, err=True)
    sys.exit(code)


class _Bars:
    """A progress bar per stage, one after the other."""

    def __init__(self) -> None:
        self._stage = ""
        self._bar: tqdm[Any] | None = None

    def __call__(self, stage: str, done: int, total: int, unit: str) -> None:
        if stage != self._stage or self._bar is None:
            self.close()
            self._stage, self._bar = stage, tqdm(total=total, unit=unit, desc=stage, file=sys.stderr)
        self._bar.update(done - self._bar.n)

    def close(self) -> None:
        """Leaves the last bar standing as it is."""
        if self._bar is not None:
            self._bar.close()
            self._bar = None
