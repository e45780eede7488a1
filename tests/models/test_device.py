import pytest

from mnemoscope.core.errors import ConfigError
from mnemoscope.models.device import usable_device


def test_the_processor_is_always_there() -> None:
    assert usable_device("cpu") == "cpu"


@pytest.mark.parametrize("name", ["gpu-one", "cuda:99", ""])
def test_a_device_that_is_not_here_is_refused_with_those_that_are(name: str) -> None:
    with pytest.raises(ConfigError, match=r"--device .*expected a device of this machine \(cpu"):
        usable_device(name)
