"""Progress: the library reports, a person's terminal shows."""

from typing import Protocol


class Progress(Protocol):
    """Called now and then with how far a stage is."""

    def __call__(self, stage: str, done: int, total: int, unit: str) -> None:
        """``done`` of ``total`` ``unit``s (clips, frames, steps) of ``stage`` are finished."""
        ...


def unwatched(stage: str, done: int, total: int, unit: str) -> None:
    """The default: nobody watches."""
    del stage, done, total, unit
