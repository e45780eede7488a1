from pathlib import Path
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin

import click
import pytest
import yaml

from mnemoscope.audit.run import AuditConfig
from mnemoscope.audit.run.reproduce import ReproduceConfig
from mnemoscope.cli import VERBS, main
from mnemoscope.cli.check import CheckConfig
from mnemoscope.cli.demo import DemoConfig
from mnemoscope.cli.encode import EncodeConfig
from mnemoscope.cli.phantom import PhantomConfig
from mnemoscope.cli.sample import ImagesConfig, VideosConfig
from mnemoscope.cli.train import EfConfig, LidmConfig, LvdmConfig, ReidConfig, VaeConfig
from mnemoscope.core.config import Config, build
from mnemoscope.downstream.run import DownstreamConfig
from mnemoscope.latents.encode import PixelEncoder, encode_set
from mnemoscope.latents.store import LatentStore
from mnemoscope.release.export import ExportConfig
from mnemoscope.release.selection import SelectConfig
from tests.cli.conftest import Call
from tests.reference import tiny_audit

# Every verb with settings, and the words it cannot do without; STORE is made by the fixture.
WITH_SETTINGS: dict[str, tuple[type[Config], tuple[str, ...]]] = {
    "audit": (AuditConfig, ("--real", "a", "--synthetic", "b", "--out", "c")),
    "check": (CheckConfig, ("a",)),
    "demo": (DemoConfig, ()),
    "downstream": (DownstreamConfig, ("--real", "a", "--synthetic", "b", "--audit", "c", "--out", "d")),
    "encode": (EncodeConfig, ("a", "b", "--out", "c")),
    "phantom": (PhantomConfig, ("a", "--synthetic", "b")),
    "release export": (ExportConfig, ("a", "--synthetic", "b", "--out", "c")),
    "release select": (SelectConfig, ("a", "--out", "c")),
    "reproduce": (ReproduceConfig, ("--out", "c")),
    "sample images": (ImagesConfig, ("--out", "c")),
    "sample videos": (VideosConfig, ("--out", "c")),
    "train ef": (EfConfig, ("--store", "a", "--out", "c")),
    "train lidm": (LidmConfig, ("--store", "a", "--out", "c")),
    "train lvdm": (LvdmConfig, ("--store", "a", "--out", "c")),
    "train reid": (ReidConfig, ("--store", "STORE", "--out", "c")),
    "train vae": (VaeConfig, ("--store", "a", "--out", "c")),
}
NESTED = {
    "audit": "reid.loop.epochs",
    "check": "table.file",
    "demo": "audit.frames.height",
    "downstream": "ef.loop.epochs",
    "encode": "frames.width",
    "release export": "title",
    "release select": "count",
    "reproduce": "reid.loop.epochs",
    "sample images": "steps",
    "sample videos": "frames",
    "train ef": "ef.loop.epochs",
    "train lidm": "lidm.loop.epochs",
    "train lvdm": "lvdm.loop.epochs",
    "train reid": "reid.loop.epochs",
    "train vae": "vae.loop.batch_size",
}


@pytest.fixture(scope="module")
def store(clips: Path, tmp_path_factory: pytest.TempPathFactory) -> LatentStore:
    from mnemoscope.data.layouts import read_layout

    folder = tmp_path_factory.mktemp("store") / "store"
    frames = tiny_audit.settings().frames
    return encode_set(read_layout(clips / "real"), folder, encoder=PixelEncoder(), transform=frames, source="test")


@pytest.fixture
def words(request: pytest.FixtureRequest, store: LatentStore) -> list[str]:
    verb: str = request.getfixturevalue("verb")
    needed = WITH_SETTINGS[verb][1]
    return [*verb.split(), *(str(store.folder) if word == "STORE" else word for word in needed)]


def commands() -> dict[str, click.Command]:
    context = click.Context(main)
    found = {name: main.get_command(context, name) for name in VERBS}
    groups = {name: command for name, command in found.items() if isinstance(command, click.Group)}
    inner = {f"{name} {sub}": made for name, group in groups.items() for sub, made in group.commands.items()}
    return {name: command for name, command in (found | inner).items() if command is not None}


def test_every_verb_with_settings_is_tested_here() -> None:
    config = {name for name, command in commands().items() if any(p.name == "config_file" for p in command.params)}
    assert config == set(WITH_SETTINGS)


@pytest.mark.parametrize("verb", sorted(name for name in commands() if name not in ("sample", "train")))
def test_help_of_every_verb_has_an_example_that_is_a_call_of_it(call: Call, verb: str) -> None:
    done = call(*verb.split(), "--help")
    assert done.exit_code == 0
    _, _, example = done.stdout.partition("Example: ")
    shown = example.split("\n")[0].split()
    assert shown[: 1 + len(verb.split())] == ["mnemoscope", *verb.split()]
    options = {option for parameter in commands()[verb].params for option in parameter.opts}
    assert {word for word in shown if word.startswith("--")} <= options


def test_an_unknown_verb_is_a_wrong_call(call: Call) -> None:
    done = call("adit")
    assert done.exit_code == 2
    assert "No such command 'adit'" in done.stderr


def test_help_lists_every_verb_and_the_version_is_known(call: Call) -> None:
    assert all(f"  {verb} " in call("--help").stdout for verb in VERBS)
    assert call("--version").exit_code == 0


@pytest.mark.parametrize("verb", WITH_SETTINGS)
def test_a_dry_run_prints_a_plan_that_can_be_fed_back(call: Call, words: list[str], verb: str, tmp_path: Path) -> None:
    is_text = NESTED.get(verb, "").endswith(("file", "title"))
    changed = ["--set", f"{NESTED[verb]}={'name' if is_text else '7'}"] if verb in NESTED else []
    first = call(*words, *changed, "--dry-run")
    assert first.exit_code == 0, first.output
    (tmp_path / "plan.yaml").write_text(first.stdout)
    again = call(*words, "--config", tmp_path / "plan.yaml", "--dry-run")
    assert again.exit_code == 0, again.output
    assert again.stdout == first.stdout
    if verb in NESTED:
        value: Any = yaml.safe_load(first.stdout)
        for part in NESTED[verb].split("."):
            value = value[part]
        assert str(value) in {"7", "name"}


@pytest.mark.parametrize("verb", WITH_SETTINGS)
def test_an_unknown_key_ends_with_2_and_a_hint(call: Call, words: list[str], verb: str) -> None:
    known = NESTED.get(verb, "patients")
    done = call(*words, "--set", f"{known}x=1", "--dry-run")
    assert done.exit_code == 2
    assert "unknown key" in done.stderr
    assert f"did you mean '{known}'" in done.stderr


def other(annotation: Any, default: Any) -> Any:
    """A value of the type that is not the default."""
    parts = get_args(annotation)
    if get_origin(annotation) is Literal:
        return next(part for part in parts if part != default)
    if annotation is bool:
        return not default
    if get_origin(annotation) in (Union, UnionType):
        return other(parts[0], default)
    if annotation is int:
        return (default or 0) + 3
    if annotation is float:
        return 0.3 if default == 0.0 else (default or 40.0) * 0.75
    return annotation("another")


@pytest.mark.parametrize("verb", WITH_SETTINGS)
def test_every_option_reaches_its_setting(call: Call, words: list[str], verb: str) -> None:
    kind = WITH_SETTINGS[verb][0]
    options = {parameter.name: parameter for parameter in commands()[verb].params if parameter.name}
    chosen: dict[str, Any] = {}
    for name, field in kind.model_fields.items():
        if name not in options:
            assert (
                isinstance(field.default, Config)
                or hasattr(field.annotation, "__dataclass_fields__")
                or (str(field.annotation).startswith(("dict", "tuple")))
            ), f"{name} has no option"
            continue
        if "--json" not in options[name].opts:
            chosen[name] = other(field.annotation, field.default)
    spoken = [
        word
        for name, value in chosen.items()
        for word in ([options[name].opts[0]] if value is True else [options[name].opts[0], str(value)])
    ]
    done = call(*words, *spoken, "--dry-run")
    assert done.exit_code == 0, done.output
    found = yaml.safe_load(done.stdout)
    expected = build(kind, chosen).model_dump(mode="json")
    assert {name: found[name] for name in chosen} == {name: expected[name] for name in chosen}
