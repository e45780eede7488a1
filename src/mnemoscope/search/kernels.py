"""The compiled kernels: screen with cheap bounds, then decide among the survivors in float64.

Why it is fast: a weighted-L1 head is coded in bytes (|weight| folded in, ``codes.py``), and processors have one
instruction that sums eight absolute byte differences for eight columns at a time (``vpsadbw``). A tile of 4 queries by
32 gallery columns keeps its 16 sums in registers, and the coded gallery block stays in the L2 cache. That is a quarter
of the bytes and a sixth of the instructions of float32. It stays exact because the coding error of every row is known:
a column is left out only if its bounds exclude it, and all others are computed in float64.

Every kernel releases the GIL and works on its own queries: threads share nothing, so their number changes nothing.
Numba's cache looks at this file only: touch it after a change in ``sad.py``. ``no_type_check`` keeps run-time type
checkers from wrapping functions that Numba has to read.
"""

from typing import NamedTuple, no_type_check

import numpy as np
from numba import njit

from mnemoscope.search.sad import GROUP, PANEL, TILE, sad_tile

# Queries whose screened row is held at once: 16 rows of 8192 float32 are half of a 1 MB L2 cache.
QUERIES_AT_ONCE = 16
# Columns that one vectorised test clears together.
STRIP = 64

kernel = njit(cache=True, nogil=True, error_model="numpy")


class Formula(NamedTuple):
    """cost = sum_d weight_d · |u_d − v_d|^p, p = 2 if ``squared``; ``weight`` (D,) float64."""

    weight: np.ndarray
    squared: bool


class Normalised(NamedTuple):
    """Rows (n, D) float32 that stand for (rows − shift) · scale; ``shift`` and ``scale`` (n,) float64."""

    rows: np.ndarray
    shift: np.ndarray
    scale: np.ndarray

    def part(self, rows: slice) -> "Normalised":
        """Some of the rows, as views."""
        return Normalised(self.rows[rows], self.shift[rows], self.scale[rows])


class Code(NamedTuple):
    """How features become bytes: byte i is round((row[order_i] − low_i) · gain_i), cut to 0–255.

    ``order`` has −1 for padding. Where a feature has several bytes, each answers for the error between its ``least``
    and ``most`` steps. The first ``groups_add`` groups of eight add to the cost, the others subtract; a step is worth
    ``unit`` in cost. ``order``, ``low``, ``gain``, ``least``, ``most``: shape (groups · 8,).
    """

    order: np.ndarray
    low: np.ndarray
    gain: np.ndarray
    least: np.ndarray
    most: np.ndarray
    groups_add: int
    unit: float


class Best(NamedTuple):
    """The lowest ``costs`` (n, k) float64, ascending, and their gallery ``indices`` (n, k) int64."""

    costs: np.ndarray
    indices: np.ndarray

    def part(self, queries: slice) -> "Best":
        """Some of the queries, as views."""
        return Best(self.costs[queries], self.indices[queries])


@njit(cache=True, nogil=True, error_model="numpy", fastmath={"reassoc", "nsz"})
@no_type_check
def _cost(weight, squared, u, u_shift, u_scale, v, v_shift, v_scale):
    # Leave to sum in any order, which is fixed once compiled, lets the compiler use vectors: 5 × faster.
    cost = 0.0
    for d in range(weight.size):
        difference = abs((np.float64(u[d]) - u_shift) * u_scale - (np.float64(v[d]) - v_shift) * v_scale)
        cost += weight[d] * difference * (difference if squared else 1.0)
    return cost


@kernel
@no_type_check
def pair_cost(formula, a, i, b, j):
    """Cost of row i of ``a`` against row j of ``b`` in float64."""
    return _cost(formula.weight, formula.squared, a.rows[i], a.shift[i], a.scale[i], b.rows[j], b.shift[j], b.scale[j])


@kernel
@no_type_check
def row_costs(formula, a, b, out):
    """Cost of row i of ``a`` against row i of ``b`` into ``out`` (n,)."""
    for i in range(out.size):
        out[i] = pair_cost(formula, a, i, b, i)


@kernel
@no_type_check
def all_costs(formula, a, b, out):
    """Cost of every row of ``a`` against every row of ``b`` into ``out`` (n, m)."""
    for i in range(out.shape[0]):
        for j in range(out.shape[1]):
            out[i, j] = pair_cost(formula, a, i, b, j)


@kernel
@no_type_check
def _insert(values, value):
    """Place ``value`` into the ascending ``values``, behind its equals; its slot, or −1 if it is too large."""
    slot = values.size - 1
    if not value < values[slot]:
        return -1
    while slot > 0 and value < values[slot - 1]:
        values[slot] = values[slot - 1]
        slot -= 1
    values[slot] = value
    return slot


@kernel
@no_type_check
def _keep(costs, indices, cost, index):
    # Columns come in ascending order, so "behind its equals" makes the smaller index win a tie.
    slot = _insert(costs, cost)
    if slot >= 0:
        for later in range(indices.size - 1, slot, -1):
            indices[later] = indices[later - 1]
        indices[slot] = index


@kernel
@no_type_check
def _any_at_most(row, slack, sign, limit):
    # Counted without a branch over whole slices: the form that the compiler turns into vector code.
    count = 0
    for j in range(slack.size):
        count += row[j] + sign * slack[j] <= limit
    return count > 0


@kernel
@no_type_check
def _kth_upper_bound(row, slack, uppers):
    """The k-th smallest of ``row + slack``, k being the size of the work array; infinite with fewer than k columns."""
    uppers[:] = np.inf
    for start in range(0, slack.size, STRIP):
        strip, wide = row[start : start + STRIP], slack[start : start + STRIP]
        if _any_at_most(strip, wide, np.float32(1.0), uppers[-1]):
            for j in range(wide.size):
                _insert(uppers, strip[j] + wide[j])
    return np.float64(uppers[-1])


@kernel
@no_type_check
def _rounded_up(limit):
    return np.float32(limit + 1e-6 * abs(limit))


@kernel
@no_type_check
def _refine(formula, query, i, row, q_slack, unit, block, slack, first, uppers, costs, indices):
    """Decide one query against one block; ``row`` holds cost / unit to within ``slack[j] + q_slack``."""
    limit = _rounded_up(min(_kth_upper_bound(row, slack, uppers) + 2.0 * q_slack, costs[-1] / unit + q_slack))
    for start in range(0, slack.size, STRIP):
        strip, wide = row[start : start + STRIP], slack[start : start + STRIP]
        if _any_at_most(strip, wide, np.float32(-1.0), limit):
            for j in range(wide.size):
                if strip[j] - wide[j] <= limit:
                    _keep(costs, indices, pair_cost(formula, query, i, block, start + j), first + start + j)
                    limit = min(limit, _rounded_up(costs[-1] / unit + q_slack))


@kernel
@no_type_check
def encode(row, code, out):
    """Write the bytes of one row into ``out`` (groups, 8); the coding error in steps, summed over features."""
    error = 0.0
    for place in range(code.order.size):
        if code.order[place] >= 0:
            exact = (np.float64(row[code.order[place]]) - code.low[place]) * code.gain[place]
            step = min(max(np.rint(exact), 0.0), 255.0)
            if code.least[place] <= exact <= code.most[place]:
                error += abs(exact - step)
            out[place // GROUP, place % GROUP] = np.uint8(step)
    # One step more than the sum covers every rounding in this file; the factor covers huge outliers.
    return error * (1.0 + 1e-9) + 1.0


@kernel
@no_type_check
def encode_columns(rows, code, columns, slack):
    """Code a gallery block: bytes into ``columns`` (groups, padded m, 8), errors into ``slack`` (m,) float32."""
    for j in range(slack.size):
        slack[j] = _rounded_up(encode(rows[j], code, columns[:, j]))


@kernel
@no_type_check
def search_codes(formula, code, queries, columns, block, slack, first, best):
    """Weighted L1 of many queries against one coded block; ``best`` is updated."""
    groups, width = columns.shape[0], columns.shape[1]
    coded = np.zeros((QUERIES_AT_ONCE, groups, GROUP), np.uint8)
    error = np.zeros(QUERIES_AT_ONCE)
    rows = np.empty((QUERIES_AT_ONCE, width), np.float32)
    uppers = np.empty(best.costs.shape[1], np.float32)
    for start in range(0, best.costs.shape[0], QUERIES_AT_ONCE):
        held = min(QUERIES_AT_ONCE, best.costs.shape[0] - start)
        for i in range(held):
            error[i] = encode(queries.rows[start + i], code, coded[i])
        for column in range(0, width, PANEL):
            for i in range(0, held, TILE):
                sad_tile(coded[i:], columns[:, column:], rows[i:, column:], code.groups_add)
        for i in range(held):
            q = start + i
            _refine(
                formula,
                queries,
                q,
                rows[i],
                error[i],
                code.unit,
                block,
                slack,
                first,
                uppers,
                best.costs[q],
                best.indices[q],
            )


@kernel
@no_type_check
def search_screened(formula, queries, screened, q_slack, unit, block, slack, first, best):
    """Decide queries whose approximate costs ``screened`` (n, m) float32 are known; ``best`` is updated."""
    uppers = np.empty(best.costs.shape[1], np.float32)
    for q in range(best.costs.shape[0]):
        _refine(
            formula,
            queries,
            q,
            screened[q],
            q_slack[q],
            unit,
            block,
            slack,
            first,
            uppers,
            best.costs[q],
            best.indices[q],
        )
