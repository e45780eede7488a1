import json
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from mnemoscope.core.config import Config, build, known_keys, resolve
from mnemoscope.core.errors import ConfigError


class Loop(Config):
    epochs: int = 10
    learning_rate: float = 1e-3


@dataclass(frozen=True)
class Frames:
    height: int = 112
    fit: str = "letterbox"


class Audit(Config):
    percentile: float = 95.0
    frames: tuple[int, ...] = (0,)
    preset: str = "default"
    loop: Loop = Loop()
    video: Frames = Frames()


def test_defaults_stand_when_nothing_is_given() -> None:
    assert resolve(Audit, given={}) == Audit(percentile=95.0, frames=(0,), preset="default", loop=Loop(epochs=10))


def test_later_sources_win(tmp_path: Path) -> None:
    file = tmp_path / "a.yaml"
    file.write_text("percentile: 90\npreset: paper\nloop: {epochs: 3, learning_rate: 0.5}\n")
    found = resolve(Audit, file=file, assignments=["percentile=91", "loop.epochs=4"], given={"percentile": 92.0})
    assert found == Audit(percentile=92.0, preset="paper", loop=Loop(epochs=4, learning_rate=0.5))


def test_an_assignment_leaves_its_neighbours_alone() -> None:
    found = resolve(Audit, assignments=["loop.learning_rate=1e-4"], given={})
    assert found.loop == Loop(epochs=10, learning_rate=1e-4)


@given(st.lists(st.integers(0, 10**6), max_size=5))
def test_a_list_travels_through_an_assignment(frames: list[int]) -> None:
    assert resolve(Audit, assignments=[f"frames={frames}"], given={}).frames == tuple(frames)


@given(st.floats(allow_nan=False, allow_infinity=False), st.integers(), st.text(st.characters(codec="ascii")))
def test_a_written_configuration_reads_back_the_same(percentile: float, epochs: int, preset: str) -> None:
    config = Audit(percentile=percentile, preset=preset, loop=Loop(epochs=epochs))
    assert build(Audit, json.loads(config.model_dump_json())) == config
    assert build(Audit, yaml.safe_load(yaml.safe_dump(config.model_dump(mode="json")))) == config


def test_every_problem_is_in_one_message() -> None:
    with pytest.raises(ConfigError) as caught:
        resolve(Audit, assignments=["percentil=90", "loop.epoch=3", "loop.learning_rate=fast"], given={})
    message = str(caught.value)
    assert "3 problem(s)" in message
    assert "percentil: unknown key; did you mean 'percentile'?" in message
    assert "loop.epoch: unknown key; did you mean 'loop.epochs'?" in message
    assert "loop.learning_rate" in message
    assert "'fast'" in message


def test_a_misspelt_key_of_a_nested_dataclass_is_named_too() -> None:
    assert resolve(Audit, assignments=["video.height=64"], given={}).video == Frames(height=64)
    with pytest.raises(ConfigError, match=r"video\.heigth: unknown key; did you mean 'video\.height'\?"):
        resolve(Audit, assignments=["video.heigth=64"], given={})


def test_a_key_like_no_other_points_to_the_list_of_keys() -> None:
    with pytest.raises(ConfigError, match="zzz: unknown key; --dry-run prints every known key"):
        resolve(Audit, assignments=["zzz=1"], given={})


@pytest.mark.parametrize("assignment", ["percentile", "=3", " =3"])
def test_an_assignment_without_key_or_value_says_what_it_should_be(assignment: str) -> None:
    with pytest.raises(ConfigError, match="expected key=value"):
        resolve(Audit, assignments=[assignment], given={})


def test_an_assignment_below_a_value_is_refused() -> None:
    with pytest.raises(ConfigError, match="'percentile' is a value"):
        resolve(Audit, assignments=["percentile=90", "percentile.high=3"], given={})


def test_an_unreadable_value_is_refused() -> None:
    with pytest.raises(ConfigError, match="not readable"):
        resolve(Audit, assignments=["frames=[1, 2"], given={})


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"a: [1", "readable YAML"), (b"- 1\n- 2\n", "found list"), (b"\xff\xfe\x00\x01", "readable YAML")],
)
def test_a_bad_file_is_named(tmp_path: Path, content: bytes, message: str) -> None:
    file = tmp_path / "settings.yaml"
    file.write_bytes(content)
    with pytest.raises(ConfigError, match=message) as caught:
        resolve(Audit, file=file, given={})
    assert str(file) in str(caught.value)


def test_a_missing_file_is_named_and_an_empty_one_means_defaults(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"nowhere\.yaml"):
        resolve(Audit, file=tmp_path / "nowhere.yaml", given={})
    (tmp_path / "empty.yaml").write_text("")
    assert resolve(Audit, file=tmp_path / "empty.yaml", given={}) == Audit()


def test_a_file_is_data_and_never_code(tmp_path: Path) -> None:
    file = tmp_path / "evil.yaml"
    file.write_text(f"preset: !!python/object/apply:os.mkdir ['{tmp_path / 'made'}']\n")
    with pytest.raises(ConfigError, match="readable YAML"):
        resolve(Audit, file=file, given={})
    assert not (tmp_path / "made").exists()


def test_known_keys_are_the_dotted_names() -> None:
    assert set(known_keys(Audit)) == {
        *("percentile", "frames", "preset", "loop", "loop.epochs", "loop.learning_rate"),
        *("video", "video.height", "video.fit"),
    }


def test_a_configuration_cannot_be_changed() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        Audit().__setattr__("percentile", 3.0)


class Stage(Config):
    loop: Loop = Loop(epochs=40)
    audit: Audit = Audit()


def test_a_group_given_in_part_keeps_the_other_choices_of_its_default() -> None:
    found = resolve(Stage, assignments=["loop.learning_rate=0.5", "audit.loop.learning_rate=0.25"], given={})
    assert found.loop == Loop(epochs=40, learning_rate=0.5)
    assert found.audit.loop == Loop(epochs=10, learning_rate=0.25)
    assert build(Stage, {"loop": Loop(epochs=7)}).loop == Loop(epochs=7)
