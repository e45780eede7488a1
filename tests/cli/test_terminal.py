import errno
import json
from pathlib import Path
from typing import Any, Literal

import click
import pytest
import yaml
from click.testing import CliRunner
from pydantic import Field

from mnemoscope.cli import terminal
from mnemoscope.cli.terminal import Asked, answering, settings, show_json, show_plan
from mnemoscope.core.config import Config
from mnemoscope.core.errors import InputError, Refused


class Loop(Config):
    """Nested."""

    epochs: int = 3


class Toy(Config):
    """A toy.

    Attributes:
        share: of everything, which is
            told in two lines.
        mode: ``slow``, or fast.
        limit: none means no limit.
        keep: leave it.
        loop: a group.
        more: a bag.
    """

    share: float = 0.5
    mode: Literal["slow", "fast"] = "slow"
    limit: int | None = 7
    keep: bool = False
    where: Path | None = None
    loop: Loop = Loop()
    more: dict[str, Any] = Field(default_factory=dict)


@click.command()
@settings(Toy)
def toy(asked: Asked[Toy]) -> None:
    with asked.answering() as (config, _):
        if asked.dry_run:
            show_plan(config, {"folder": "here"})
        elif asked.as_json:
            show_json({"given": dict(asked.given), "where": config.where})


def planned(*words: str) -> Toy:
    done = CliRunner(catch_exceptions=False).invoke(toy, [*words, "--dry-run"])
    assert done.exit_code == 0, done.output
    return Toy.model_validate(yaml.safe_load(done.stdout))


@pytest.mark.parametrize(
    ("words", "changes"),
    [
        ((), {}),
        (("--share", "0.25"), {"share": 0.25}),
        (("--mode", "fast"), {"mode": "fast"}),
        (("--limit", "9"), {"limit": 9}),
        (("--limit", "none"), {"limit": None}),
        (("--keep",), {"keep": True}),
        (("--where", "a/b"), {"where": Path("a/b")}),
        (("--set", "loop.epochs=5"), {"loop": Loop(epochs=5)}),
        (("--set", "more.x=[1, 2]"), {"more": {"x": [1, 2]}}),
    ],
)
def test_each_kind_of_option_reaches_the_configuration(words: tuple[str, ...], changes: dict[str, Any]) -> None:
    assert planned(*words) == Toy(**changes)


def test_defaults_file_set_and_options_in_this_order(tmp_path: Path) -> None:
    file = tmp_path / "toy.yaml"
    file.write_text("share: 0.1\nlimit: 1\nmode: fast\n")
    found = planned("--config", str(file), "--set", "limit=2", "--set", "share=0.2", "--share", "0.3")
    assert found == Toy(share=0.3, limit=2, mode="fast")


def test_a_printed_plan_can_be_fed_back(tmp_path: Path) -> None:
    words = ["--share", "0.3", "--limit", "none", "--set", "loop.epochs=8", "--keep", "--dry-run"]
    first = CliRunner().invoke(toy, words).stdout
    assert first.startswith("# folder: here\n")
    (tmp_path / "plan.yaml").write_text(first)
    assert CliRunner().invoke(toy, ["--config", str(tmp_path / "plan.yaml"), "--dry-run"]).stdout == first


def test_help_says_what_a_setting_means_and_what_it_is() -> None:
    text = " ".join(CliRunner().invoke(toy, ["--help"]).stdout.split())
    assert "--share NUMBER of everything, which is told in two lines. [default: 0.5]" in text
    assert "--mode [slow|fast] slow, or fast. [default: slow]" in text
    assert "--keep leave it." in text
    assert "--loop" not in text
    assert "--more" not in text


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--set", "shar=1"), "shar: unknown key; did you mean 'share'?"),
        (("--set", "loop.epoch=1"), "loop.epoch: unknown key; did you mean 'loop.epochs'?"),
        (("--share", "much"), "share: "),
        (("--mode", "none"), "mode: "),
        (("--mode", ""), "mode: "),
        (("--config", "nowhere.yaml"), "nowhere.yaml: expected a readable YAML or JSON file"),
        (("--sharee", "1"), "No such option"),
    ],
)
def test_a_wrong_call_is_answered_on_stderr_with_2(words: tuple[str, ...], message: str) -> None:
    done = CliRunner(catch_exceptions=False).invoke(toy, words)
    assert done.exit_code == 2
    assert message in done.stderr
    assert done.stdout == ""


def test_json_shows_what_was_given_and_paths_as_text() -> None:
    done = CliRunner().invoke(toy, ["--json", "--limit", "null", "--where", "a"])
    assert json.loads(done.stdout) == {"given": {"limit": None, "where": "a"}, "where": "a"}


def test_a_refusal_is_an_answer_and_ends_with_1(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended, answering(watched=False):
        raise Refused("the verdict is fail")
    assert ended.value.code == 1
    assert capsys.readouterr().err == "refused: the verdict is fail\n"


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (InputError("expected this, found that"), "error: expected this, found that\n"),
        (KeyboardInterrupt(), "stopped; every finished stage stays and the same command goes on from there\n"),
        (OSError(errno.ENOSPC, "No space left on device"), "the disk is full; what was finished before stays"),
    ],
)
def test_errors_become_one_message_and_2(
    error: BaseException, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended, answering(watched=False):
        raise error
    assert ended.value.code == 2
    assert message in capsys.readouterr().err


def test_a_fault_of_ours_is_not_hidden_and_not_taken_for_the_gate(
    capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(SystemExit) as ended, answering(watched=False):
        raise ZeroDivisionError("of ours")
    assert ended.value.code == terminal.INTERNAL_ERROR
    assert "internal error, please report it: ZeroDivisionError: of ours" in capsys.readouterr().err
    assert "Traceback" in caplog.text


def test_a_person_who_watches_sees_a_bar_a_stage(capsys: pytest.CaptureFixture[str]) -> None:
    with answering(watched=True) as progress:
        for done in (1, 2):
            progress("encode", done, 2, "frame")
        progress("train", 1, 5, "step")
    shown = capsys.readouterr()
    assert shown.out == ""
    assert "encode: 100%" in shown.err
    assert "2/2" in shown.err
    assert "train:  20%" in shown.err


def test_nobody_watches_a_pipe(capsys: pytest.CaptureFixture[str]) -> None:
    with answering() as progress:
        progress("encode", 1, 2, "frame")
    assert progress is terminal.unwatched
    assert capsys.readouterr().err == ""
