from pathlib import Path

import numpy as np
import pytest
import torch

from mnemoscope.core.errors import CorruptFile
from mnemoscope.models.plain import read_plain
from tests.toys import Attack


def test_tensors_numbers_and_containers_come_back(tmp_path: Path) -> None:
    value = {
        "a": torch.arange(6).reshape(2, 3),
        "b": [1, 2.5, "text", None],
        "c": {"d": True, "e": np.float64(0.25), "f": np.int64(7)},
    }
    torch.save(value, tmp_path / "a.pt")
    found = read_plain(tmp_path / "a.pt")
    assert torch.equal(found.pop("a"), value.pop("a"))
    assert found == value


def test_code_is_never_run(tmp_path: Path) -> None:
    torch.save({"weights": Attack(tmp_path / "ran")}, tmp_path / "a.pt")
    with pytest.raises(CorruptFile, match=r"a\.pt: expected tensors that load without running code"):
        read_plain(tmp_path / "a.pt")
    assert not (tmp_path / "ran").exists()


def test_damage_anywhere_is_named_or_harmless(tmp_path: Path) -> None:
    torch.save({"a": torch.arange(40.0)}, tmp_path / "a.pt")
    content = (tmp_path / "a.pt").read_bytes()
    for length in range(0, len(content), 61):
        (tmp_path / "a.pt").write_bytes(content[:length])
        with pytest.raises(CorruptFile, match=r"a\.pt"):
            read_plain(tmp_path / "a.pt")


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04", b"\x80\x02]q\x00.", b"no tensor at all"])
def test_other_files_are_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.pt").write_bytes(content)
    with pytest.raises(CorruptFile, match=r"a\.pt"):
        read_plain(tmp_path / "a.pt")


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(CorruptFile, match=r"nowhere\.pt.*No such file"):
        read_plain(tmp_path / "nowhere.pt")
