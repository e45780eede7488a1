"""How a large problem is cut: sizes that bound memory and change no result."""

from collections.abc import Iterator
from dataclasses import dataclass

from mnemoscope.core.errors import ConfigError

# A float64 copy of so many rows stays small beside the features.
ROWS_AT_ONCE = 4096


@dataclass(frozen=True, kw_only=True)
class Blocking:
    """Rows taken at once. Scratch memory grows with ``queries · gallery``, at most 8 bytes for each pair and thread.

    Args:
        queries: queries of one block.
        gallery: gallery rows of one block; 8192 coded rows of 128 features fill a 1 MB L2 cache.

    Raises:
        ConfigError: if a size is below 1.
    """

    queries: int = 1024
    gallery: int = 8192

    def __post_init__(self) -> None:
        if min(self.queries, self.gallery) < 1:
            raise ConfigError(
                f"block sizes must be at least 1, found queries={self.queries}, gallery={self.gallery}; "
                f"raise them (blocking=Blocking(queries=, gallery=))"
            )


def blocks(total: int, size: int) -> Iterator[slice]:
    """Slices of ``size`` that cover ``range(total)`` in order, the last one shorter."""
    return (slice(start, min(start + size, total)) for start in range(0, total, size))
