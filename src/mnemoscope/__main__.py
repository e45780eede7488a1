"""``python -m mnemoscope`` is the command ``mnemoscope``."""

from mnemoscope.cli import main

main(prog_name="mnemoscope")
