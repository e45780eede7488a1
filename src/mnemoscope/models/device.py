"""Devices: a name that torch knows and this machine has, or an error that says which it has."""

import torch

from mnemoscope.core.errors import ConfigError


def usable_device(name: str) -> str:
    """``name`` if networks can run there.

    Raises:
        ConfigError: for a misspelt device, or one this machine lacks.
    """
    try:
        torch.empty(0, device=torch.device(name))
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        here = ["cpu", *(f"cuda:{i}" for i in range(torch.cuda.device_count()))]
        raise ConfigError(
            f"--device {name}: expected a device of this machine ({', '.join(here)}), got: {str(error).splitlines()[0]}"
        ) from error
    return name
