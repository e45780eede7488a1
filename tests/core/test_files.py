import errno
import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors import SafetensorError

from mnemoscope.core import files
from mnemoscope.core.errors import CorruptFile, OutOfSpace

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=10,
)


def fails_with(code: int) -> Callable[..., None]:
    def fail(*_: object, **__: object) -> None:
        raise OSError(code, os.strerror(code))

    return fail


@pytest.mark.parametrize("size", [0, 1, files._BLOCK_BYTES - 1, files._BLOCK_BYTES, files._BLOCK_BYTES + 1])
def test_a_file_fingerprint_is_the_digest_of_all_its_bytes(tmp_path: Path, size: int) -> None:
    content = bytes(np.arange(size, dtype=np.uint64).astype(np.uint8))
    (tmp_path / "a").write_bytes(content)
    assert files.file_fingerprint(tmp_path / "a") == hashlib.blake2b(content, digest_size=16).hexdigest()


@given(st.dictionaries(st.text(), JSON, max_size=5))
def test_key_order_does_not_change_a_value_fingerprint(value: dict[str, object]) -> None:
    assert files.value_fingerprint(value) == files.value_fingerprint(dict(reversed(value.items())))


@given(JSON, JSON)
def test_different_values_have_different_fingerprints(a: object, b: object) -> None:
    same = json.dumps(a, sort_keys=True) == json.dumps(b, sort_keys=True)
    assert (files.value_fingerprint(a) == files.value_fingerprint(b)) is same


def test_paths_and_numpy_scalars_count_as_their_plain_value() -> None:
    plain = files.value_fingerprint({"path": "a/b", "n": 3, "x": 0.5})
    assert plain == files.value_fingerprint({"path": Path("a/b"), "n": np.int64(3), "x": np.float32(0.5)})


@pytest.mark.parametrize("value", [np.zeros(3), np.zeros(10_000), {"a", "b"}, object()])
def test_a_value_whose_text_hides_its_content_is_refused(value: object) -> None:
    with pytest.raises(TypeError, match="fingerprint its content"):
        files.value_fingerprint({"value": value})


def test_a_folder_fingerprint_sees_names_and_contents_and_nothing_else(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name / "inner").mkdir(parents=True)
    for name in ("b", "a", "inner/c"):
        (tmp_path / "one" / name).write_text(name)
    for name in ("inner/c", "a", "b"):
        (tmp_path / "two" / name).write_text(name)
    assert files.folder_fingerprint(tmp_path / "one") == files.folder_fingerprint(tmp_path / "two")
    (tmp_path / "two" / "a").rename(tmp_path / "two" / "z")
    assert files.folder_fingerprint(tmp_path / "one") != files.folder_fingerprint(tmp_path / "two")
    (tmp_path / "two" / "z").rename(tmp_path / "two" / "a")
    (tmp_path / "two" / "inner" / "c").write_text("changed")
    assert files.folder_fingerprint(tmp_path / "one") != files.folder_fingerprint(tmp_path / "two")
    assert files.folder_fingerprint(tmp_path / "one", pattern="?") == files.folder_fingerprint(
        tmp_path / "two", pattern="?"
    )


def test_a_file_appears_with_all_its_content(tmp_path: Path) -> None:
    target = tmp_path / "new" / "a.txt"
    with files.whole_file(target) as temporary:
        temporary.write_text("all of it")
        assert not target.exists()
    assert target.read_text() == "all of it"
    assert [p.name for p in target.parent.iterdir()] == ["a.txt"]


@pytest.mark.parametrize("interruption", [KeyboardInterrupt, ValueError])
def test_an_interrupted_file_leaves_the_old_one_and_no_rest(tmp_path: Path, interruption: type[BaseException]) -> None:
    target = tmp_path / "a.txt"
    target.write_text("old")

    def interrupted() -> None:
        with files.whole_file(target) as temporary:
            temporary.write_text("half")
            raise interruption

    with pytest.raises(interruption):
        interrupted()
    assert target.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["a.txt"]


@pytest.mark.parametrize("interruption", [KeyboardInterrupt, ValueError])
def test_an_interrupted_folder_leaves_the_old_one_and_no_rest(
    tmp_path: Path, interruption: type[BaseException]
) -> None:
    target = tmp_path / "out"
    target.mkdir()
    (target / "old").write_text("old")

    def interrupted() -> None:
        with files.whole_folder(target) as temporary:
            (temporary / "new").write_text("half")
            raise interruption

    with pytest.raises(interruption):
        interrupted()
    assert [p.relative_to(tmp_path).as_posix() for p in sorted(tmp_path.rglob("*"))] == ["out", "out/old"]


def test_a_finished_folder_replaces_the_old_one_whole(tmp_path: Path) -> None:
    for content in ("first", "second"):
        with files.whole_folder(tmp_path / "out") as temporary:
            (temporary / content).write_text(content)
    assert [p.relative_to(tmp_path).as_posix() for p in sorted(tmp_path.rglob("*"))] == ["out", "out/second"]


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG])
def test_a_full_disk_is_named_with_the_remedy(tmp_path: Path, code: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Path, "write_text", fails_with(code))
    with pytest.raises(OutOfSpace, match=r"a\.json: the disk is full.*--out"):
        files.write_json(tmp_path / "a.json", {})
    assert not list(tmp_path.iterdir())


def test_a_disk_that_is_full_before_the_folder_stands_is_named_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Path, "mkdir", fails_with(errno.ENOSPC))
    with pytest.raises(OutOfSpace, match="the disk is full"):
        files.write_text(tmp_path / "new" / "a.txt", "")


def test_a_full_disk_is_named_where_a_library_words_it(tmp_path: Path) -> None:
    """As safetensors 0.7 says it: an error of its own, without a number."""
    with pytest.raises(OutOfSpace, match="the disk is full"), files.disk_errors(tmp_path):
        raise SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")
    with pytest.raises(SafetensorError), files.disk_errors(tmp_path):
        raise SafetensorError("Error while deserializing header: header too small")


def test_other_disk_errors_stay_what_they_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Path, "write_text", fails_with(errno.EIO))
    with pytest.raises(OSError, match="Input/output error") as caught:
        files.write_text(tmp_path / "a", "")
    assert not isinstance(caught.value, OutOfSpace)


@given(st.dictionaries(st.text(st.characters(codec="utf-8")), JSON, max_size=4))
def test_json_reads_back_as_written(tmp_path_factory: pytest.TempPathFactory, value: dict[str, object]) -> None:
    path = tmp_path_factory.mktemp("json") / "a.json"
    files.write_json(path, value)
    assert files.read_json(path) == value


def test_nan_is_never_written(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="JSON compliant"):
        files.write_json(tmp_path / "a.json", {"auc": float("nan")})
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("content", "message"), [(b"{", "readable JSON"), (b"[1]", "found list"), (b"\xff\xff", "readable JSON")]
)
def test_a_damaged_json_file_is_named(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "a.json").write_bytes(content)
    with pytest.raises(CorruptFile, match=rf"a\.json.*{message}"):
        files.read_json(tmp_path / "a.json")


def test_a_missing_json_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(CorruptFile, match=r"nowhere\.json"):
        files.read_json(tmp_path / "nowhere.json")
