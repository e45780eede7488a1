"""The public names: every verb of the command line has a function of its name."""

import inspect
import subprocess
import sys

import pytest

import mnemoscope
from mnemoscope.cli import VERBS


@pytest.mark.parametrize("name", mnemoscope.__all__)
def test_every_public_name_is_there_and_explained(name: str) -> None:
    value = getattr(mnemoscope, name)
    assert callable(value)
    assert inspect.getdoc(value)


def test_python_knows_the_verbs() -> None:
    assert set(VERBS) - {"bench", "release", "sample", "train"} <= set(mnemoscope.__all__)
    assert {
        "release_export",
        "release_select",
        "release_verify",
        "train_reid_model",
        "train_vae_model",
        "train_lidm_model",
        "train_lvdm_model",
        "sample_videos",
    } <= set(mnemoscope.__all__)
    assert set(mnemoscope.__all__) <= set(dir(mnemoscope))


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'adit'"):
        mnemoscope.__getattr__("adit")


def test_the_package_alone_imports_nothing_heavy() -> None:
    code = "import sys, mnemoscope; print(sorted({'numpy', 'torch', 'pandas'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout.strip() == "[]"
