"""The phantom: a beating-heart ultrasound cohort with known truth; called, the verb ``mnemoscope phantom``."""

from mnemoscope.core.room import make_callable

make_callable(__name__)
