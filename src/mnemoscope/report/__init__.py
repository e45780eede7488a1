"""The report: an audit as one page; called, the verb ``mnemoscope report``."""

from mnemoscope.core.room import make_callable

make_callable(__name__)
