"""Downstream: what a synthetic set is worth to train an EF regressor on, and why it is worth less than real clips;

called, the verb ``mnemoscope downstream``.
"""

from mnemoscope.core.room import make_callable

make_callable(__name__)
