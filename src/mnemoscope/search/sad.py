"""The innermost tile of the search as LLVM code: sums of absolute byte differences, kept in registers.

Numba has no vector types and its optimiser does not find this instruction by itself, so the tile is written in LLVM's
language: ``vpsadbw`` on x86 (64, 32 or 16 bytes wide), the same sums by shifts and masks elsewhere.
"""

from collections.abc import Callable
from typing import Any, NamedTuple, no_type_check

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

# Features that share one lane of the instruction.
GROUP = 8
# Queries of one tile.
TILE = 4
# Gallery columns of one tile, whatever the register width: the layout in memory is the same on every processor.
PANEL = 32
# Registers of columns held at once: 4 × 4 sums fit the 32 registers of AVX-512, 4 × 2 the 16 of its elders.
REGISTERS = {64: 4, 32: 2, 16: 2}

I8, I32, I64 = ir.IntType(8), ir.IntType(32), ir.IntType(64)


class Tile(NamedTuple):
    """Addresses (integers) and strides (bytes) of the three arrays, and the group where the sign turns."""

    coded: ir.Value
    coded_stride: ir.Value
    columns: ir.Value
    group_stride: ir.Value
    rows: ir.Value
    row_stride: ir.Value
    groups_add: ir.Value
    groups: ir.Value


def tile_intrinsic(vector_bytes: int | None = None) -> Any:
    """Make ``sad_tile(coded, columns, rows, groups_add)`` for use inside compiled functions.

    It reads ``coded`` (≥ TILE, groups, 8) and ``columns`` (groups, ≥ PANEL, 8), both uint8, and writes float32 sums
    into ``rows`` (≥ TILE, ≥ PANEL): the first ``groups_add`` groups added, the others subtracted.

    Args:
        vector_bytes: register width 64, 32 or 16; by default the widest that the processor has. 16 runs anywhere.
    """

    @intrinsic
    @no_type_check
    def sad_tile(typing_context, coded, columns, rows, groups_add):
        def emit(context, builder, signature, args):
            triple, _, features = context.codegen().magic_tuple()
            width = vector_bytes or widest_vector(triple, features)
            coded, columns, rows = (
                context.make_array(kind)(context, builder, array)
                for kind, array in zip(signature.args[:3], args[:3], strict=True)
            )
            emit_tile(builder, _tile(builder, coded, columns, rows, args[3]), width, has_instruction(triple))
            return context.get_dummy_value()

        return types.void(coded, columns, rows, types.intp), emit

    return sad_tile


def has_instruction(triple: str) -> bool:
    """Whether the target is an x86 of 64 bits, all of which have the instruction."""
    return triple.startswith("x86_64")


def widest_vector(triple: str, features: str) -> int:
    """Bytes of the widest register with the instruction, from LLVM's feature string."""
    enabled = features.split(",") if has_instruction(triple) else []
    return 64 if "+avx512bw" in enabled else 32 if "+avx2" in enabled else 16


def emit_tile(builder: ir.IRBuilder, tile: Tile, width: int, instruction: bool) -> None:
    """Write the code of one tile, some columns at a time, for registers of ``width`` bytes."""
    columns = REGISTERS[width] * width // GROUP
    for first in range(0, PANEL, columns):
        _emit_strip(builder, tile, first, width, _instruction(builder, width) if instruction else _by_shifts)


Difference: Any = Callable[[ir.IRBuilder, ir.Value, ir.Value], ir.Value]


def _tile(builder: ir.IRBuilder, coded: Any, columns: Any, rows: Any, groups_add: ir.Value) -> Tile:
    def address(array: Any) -> ir.Value:
        return builder.ptrtoint(array.data, I64)

    def stride(array: Any) -> ir.Value:
        return cgutils.unpack_tuple(builder, array.strides)[0]

    groups = cgutils.unpack_tuple(builder, columns.shape)[0]
    return Tile(
        address(coded),
        stride(coded),
        address(columns),
        stride(columns),
        address(rows),
        stride(rows),
        groups_add,
        groups,
    )


def _emit_strip(builder: ir.IRBuilder, tile: Tile, first: int, width: int, difference: Difference) -> None:
    lanes = ir.VectorType(I64, width // GROUP)
    sums = [
        [cgutils.alloca_once_value(builder, ir.Constant(lanes, None)) for _ in range(REGISTERS[width])]
        for _ in range(TILE)
    ]
    spans = ((I64(0), tile.groups_add, builder.add), (tile.groups_add, tile.groups, builder.sub))
    for start, stop, accumulate in spans:
        with cgutils.for_range_slice(builder, start, stop, I64(1), I64) as (group, _):
            _emit_group(builder, tile, first, width, group, sums, accumulate, difference)
    for i, row in enumerate(sums):
        for r, total in enumerate(row):
            offset = (first + r * width // GROUP) * 4
            _store_as_float(builder, builder.load(total), tile.rows, i, tile.row_stride, offset)


def _emit_group(
    builder: ir.IRBuilder,
    tile: Tile,
    first: int,
    width: int,
    group: ir.Value,
    sums: list[list[ir.Value]],
    accumulate: Callable[[ir.Value, ir.Value], ir.Value],
    difference: Difference,
) -> None:
    bytes_ = ir.VectorType(I8, width)
    base = builder.add(tile.columns, builder.mul(group, tile.group_stride))
    columns = [_load(builder, base, first * GROUP + r * width, bytes_) for r in range(REGISTERS[width])]
    for i, row in enumerate(sums):
        query = builder.add(tile.coded, builder.mul(I64(i), tile.coded_stride))
        eight = _load(builder, builder.add(query, builder.mul(group, I64(GROUP))), 0, I64)
        repeated = builder.bitcast(_splat(builder, eight, width // GROUP), bytes_)
        for column, total in zip(columns, row, strict=True):
            builder.store(accumulate(builder.load(total), difference(builder, column, repeated)), total)


def _instruction(builder: ir.IRBuilder, width: int) -> Difference:
    name = {64: "avx512.psad.bw.512", 32: "avx2.psad.bw", 16: "sse2.psad.bw"}[width]
    bytes_, lanes = ir.VectorType(I8, width), ir.VectorType(I64, width // GROUP)
    function = cgutils.get_or_insert_function(
        builder.module, ir.FunctionType(lanes, [bytes_, bytes_]), f"llvm.x86.{name}"
    )
    return lambda builder, a, b: builder.call(function, [a, b])


def _by_shifts(builder: ir.IRBuilder, a: ir.Value, b: ir.Value) -> ir.Value:
    """The instruction in plain arithmetic: eight byte differences, added pairwise inside each 64-bit lane."""
    lanes = ir.VectorType(I64, a.type.count // GROUP)

    def repeated(value: int) -> ir.Constant:
        return ir.Constant(lanes, [value] * lanes.count)

    greater = builder.icmp_unsigned(">", a, b)
    total = builder.bitcast(builder.select(greater, builder.sub(a, b), builder.sub(b, a)), lanes)
    for bits, mask in ((8, 0x00FF00FF00FF00FF), (16, 0x0000FFFF0000FFFF), (32, 0x00000000FFFFFFFF)):
        high = builder.and_(builder.lshr(total, repeated(bits)), repeated(mask))
        total = builder.add(builder.and_(total, repeated(mask)), high)
    return total


def _splat(builder: ir.IRBuilder, value: ir.Value, count: int) -> ir.Value:
    empty = ir.Constant(ir.VectorType(I64, count), ir.Undefined)
    one = builder.insert_element(empty, value, I32(0))
    return builder.shuffle_vector(one, empty, ir.Constant(ir.VectorType(I32, count), [0] * count))


def _load(builder: ir.IRBuilder, base: ir.Value, offset: int, kind: ir.Type) -> ir.Value:
    pointer = builder.inttoptr(builder.add(base, I64(offset)), kind.as_pointer())
    return builder.load(pointer, align=1)


def _store_as_float(
    builder: ir.IRBuilder, value: ir.Value, base: ir.Value, row: int, stride: ir.Value, offset: int
) -> None:
    count = value.type.count
    floats = builder.sitofp(builder.trunc(value, ir.VectorType(I32, count)), ir.VectorType(ir.FloatType(), count))
    address = builder.add(builder.add(base, builder.mul(I64(row), stride)), I64(offset))
    builder.store(floats, builder.inttoptr(address, floats.type.as_pointer()), align=4)


sad_tile = tile_intrinsic()
