"""Screens: cheap approximate costs of a gallery block with a proven error, which leave few pairs to float64."""

from collections.abc import Callable

import numpy as np
from jaxtyping import Float32, Float64

from mnemoscope.search.blocks import ROWS_AT_ONCE, blocks
from mnemoscope.search.codes import plan_code
from mnemoscope.search.kernels import Best, Formula, Normalised, encode_columns, search_codes, search_screened
from mnemoscope.search.sad import GROUP, PANEL

# Searches the given queries in one gallery block; the second argument is their part of the result, which is updated.
BlockSearch = Callable[[slice, Best], None]


class ByteScreen:
    """For p = 1: rows become bytes, whose summed differences bound the cost from both sides."""

    def __init__(self, formula: Formula, u: Normalised, v: Normalised) -> None:
        self._formula, self._u, self._v = formula, u, v
        self._code = plan_code(u.rows, v.rows, formula.weight)

    def open_block(self, part: slice) -> BlockSearch:
        """Code these gallery rows, eight features of one row side by side."""
        block = self._v.part(part)
        width = -(-len(block.rows) // PANEL) * PANEL
        columns = np.zeros((self._code.order.size // GROUP, width, GROUP), np.uint8)
        slack = np.empty(len(block.rows), np.float32)
        encode_columns(block.rows, self._code, columns, slack)

        def search(queries: slice, best: Best) -> None:
            u = self._u.part(queries)
            search_codes(self._formula, self._code, u, columns, block, slack, part.start, best)

        return search


class ProductScreen:
    """For p = 2: |u − v|² = |u|² + |v|² − 2 u·v as one float32 matrix product.

    Rows are centred, which keeps the product small, and divided by the largest magnitude, which keeps it in range.
    """

    def __init__(self, formula: Formula, u: Normalised, v: Normalised) -> None:
        self._formula, self._u, self._v = formula, u, v
        # Casting to float32, the product over D terms and the additions round by 2⁻²⁴ each, with a tenth to spare.
        self._error = 1.1 * (formula.weight.size + 16) * 2.0**-24
        sample = slice(0, None, max(1, len(v.rows) // ROWS_AT_ONCE))
        self._centre = self._exact(v.part(sample)).mean(axis=0)
        self._unit = max(self._largest(u), self._largest(v)) or 1.0

    def open_block(self, part: slice) -> BlockSearch:
        """Prepare these gallery rows for the product."""
        block = self._v.part(part)
        g, g_length2, g_slack = self._prepare(block)
        slack = np.nextafter(g_slack.astype(np.float32), np.float32(np.inf))

        def search(queries: slice, best: Best) -> None:
            u = self._u.part(queries)
            q, q_length2, q_slack = self._prepare(u)
            screened = q @ g.T
            screened *= np.float32(-2.0)
            screened += q_length2[:, None]
            screened += g_length2
            search_screened(self._formula, u, screened, q_slack, self._unit**2, block, slack, part.start, best)

        return search

    def _exact(self, rows: Normalised) -> Float64[np.ndarray, "n D"]:
        return (rows.rows - rows.shift[:, None]) * rows.scale[:, None] * np.sqrt(self._formula.weight)

    def _largest(self, rows: Normalised) -> float:
        parts = (self._exact(rows.part(part)) for part in blocks(len(rows.rows), ROWS_AT_ONCE))
        return max((float(np.abs(part - self._centre).max()) for part in parts), default=0.0)

    def _prepare(
        self, rows: Normalised
    ) -> tuple[Float32[np.ndarray, "n D"], Float32[np.ndarray, " n"], Float64[np.ndarray, " n"]]:
        """Rows for the product, their squared lengths, and their share of its error."""
        exact = (self._exact(rows) - self._centre) / self._unit
        length2 = np.einsum("nd,nd->n", exact, exact)
        return exact.astype(np.float32), length2.astype(np.float32), self._error * length2 + 1e-30
