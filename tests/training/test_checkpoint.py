from pathlib import Path

import pytest
import torch

from mnemoscope.core.errors import CorruptFile
from mnemoscope.training.checkpoint import load_checkpoint, save_checkpoint


def test_a_checkpoint_comes_back_as_it_was(tmp_path: Path) -> None:
    state = {"network": {"w": torch.arange(3.0)}, "state": {"epoch": 2, "history": [{"loss": 0.1}]}}
    save_checkpoint(tmp_path / "new" / "a.pt", state)
    found = load_checkpoint(tmp_path / "new" / "a.pt")
    assert torch.equal(found["network"]["w"], state["network"]["w"])
    assert found["state"] == state["state"]


def test_a_broken_off_save_leaves_the_last_whole_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save_checkpoint(tmp_path / "a.pt", {"step": 1})

    def half(_: object, path: Path) -> None:
        path.write_bytes(b"half")
        raise KeyboardInterrupt

    monkeypatch.setattr(torch, "save", half)
    with pytest.raises(KeyboardInterrupt):
        save_checkpoint(tmp_path / "a.pt", {"step": 2})
    assert load_checkpoint(tmp_path / "a.pt") == {"step": 1}
    assert [path.name for path in tmp_path.iterdir()] == ["a.pt"]


def test_another_value_is_refused(tmp_path: Path) -> None:
    torch.save([1], tmp_path / "a.pt")
    with pytest.raises(CorruptFile, match=r"a\.pt: expected a dictionary, found list; delete it"):
        load_checkpoint(tmp_path / "a.pt")
