import inspect
import sys
from types import ModuleType

import pytest

import mnemoscope
from mnemoscope.core.room import Room, make_callable


@pytest.mark.parametrize("verb", ["audit", "phantom", "report"])
def test_a_room_that_is_a_verb_passes_the_call_on(verb: str) -> None:
    room = getattr(mnemoscope, verb)
    assert inspect.ismodule(room)
    assert room.verb.__name__ == verb
    assert inspect.getdoc(room.verb)
    with pytest.raises(TypeError):
        room(no_such_option=1)


def test_a_package_becomes_a_room_and_keeps_what_it_holds(monkeypatch: pytest.MonkeyPatch) -> None:
    package = ModuleType("toy.audit")
    package.__dict__["inside"] = 3
    monkeypatch.setitem(sys.modules, "toy.audit", package)
    make_callable("toy.audit")
    assert isinstance(package, Room)
    assert package.inside == 3
    assert package.verb is mnemoscope.audit.verb
