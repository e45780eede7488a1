"""Rooms that are also verbs: ``mnemoscope.audit(...)`` runs an audit, ``mnemoscope.audit.privacy`` is a part of it."""

import sys
from importlib import import_module
from types import ModuleType
from typing import Any


class Room(ModuleType):
    """A package that passes a call on to its verb of the same name; the verb is loaded when it is called."""

    def __call__(self, *args: Any, **options: Any) -> Any:
        """Runs the verb."""
        return self.verb(*args, **options)

    @property
    def verb(self) -> Any:
        """The function that a call reaches, for its signature and documentation."""
        name = self.__name__.rpartition(".")[2]
        return getattr(import_module(f"mnemoscope.cli.{name}"), name)


def make_callable(package: str) -> None:
    """Lets the package of this name be called as its verb."""
    sys.modules[package].__class__ = Room
