"""Errors that a user can act on: each message says what was expected, what was found, and the remedy."""


class MnemoscopeError(Exception):
    """Base of every error that ends a command with exit code 2 and its message."""


class InputError(MnemoscopeError):
    """A file, folder, table or option is not what the command needs."""


class ConfigError(InputError):
    """A configuration key is unknown or its value is out of range."""


class CorruptFile(InputError):
    """A file of ours (store, checkpoint, model) is damaged or of another version."""


class Mismatch(InputError):
    """Two things that must agree (scaling, channels, resolution, fingerprints) do not."""


class TooFewSamples(InputError):
    """Fewer clips or patients than the asked-for number can be computed from."""


class DegenerateValues(InputError):
    """Values that carry no information or cannot be computed with: NaN, infinite, constant."""


class OutputConflict(InputError):
    """The output folder belongs to another run."""


class Refused(MnemoscopeError):
    """The gate says no: the input is right and the answer is no, which ends a command with exit code 1."""


class OutOfSpace(MnemoscopeError):
    """The disk is full; what was finished before stays."""
