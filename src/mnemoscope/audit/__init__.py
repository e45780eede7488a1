"""The audit: arrays → numbers, and files → arrays in ``run``; called, the verb ``mnemoscope audit``."""

from mnemoscope.core.room import make_callable

make_callable(__name__)
