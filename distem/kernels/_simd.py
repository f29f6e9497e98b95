"""Short vectors for Numba: a type, its arithmetic, and the few moves a tile kernel needs.

Numba leaves vectors to LLVM's loop vectoriser, which knows neither register blocking nor how to
keep a panel's sums in registers. Here a vector is a value: `load` one, do arithmetic with the usual
operators and `fma`, `store` it. Two widths, both fixed whatever the machine, so that the order of
every sum, and with it every bit, is the machine's no more than the caller's:

- a **row** of a panel, `PANEL` numbers of 32 (float64) or 64 (float32): four registers of AVX-512,
  eight of AVX2, so that chains of dependent operations overlap;
- a **register**, a quarter of it, for kernels that need many sums at once.

LLVM splits them into what the machine has. Where that is AVX2, whose sixteen registers hold half a
kilobyte, sums of whole rows and sixteen sums of registers would be spilled to memory at every step:
there the same sums are taken a **part** of a row at a time, and half a register at a time (`NARROW`).
Lane by lane the order is the same. Nothing here is fast-math: what is written is what is done.
"""

# ruff: noqa: ARG001 -- Numba prescribes the arguments of what it calls

from __future__ import annotations

import functools
import operator
import os
from collections.abc import Callable, Sequence
from typing import Any, TypeVar, cast

import numba
import numba.core.cgutils
import numba.extending
import numba.np.arrayobj
from llvmlite import binding, ir  # type: ignore[import-untyped]

F = TypeVar("F", bound=Callable[..., Any])

# numba has no type hints to speak of
cgutils: Any = numba.core.cgutils
types: Any = numba.types
extending: Any = numba.extending
make_array: Any = numba.np.arrayobj.make_array

BYTES = 256
"""Bytes of a panel's row."""
NARROW = not binding.get_host_cpu_features().get("avx512f", False)
"""Whether the machine has few and short registers."""
PARTS = 4 if NARROW else 1
"""Parts of a panel's row that are worked on one after the other, where several sums are under way."""


def inner(function: F) -> F:
    """Compile a function that only compiled functions call."""
    return cast(F, numba.njit(nogil=True)(function))


def merged(function: F) -> F:
    """Compile a function into each that calls it, so that the vectors it returns stay in registers."""
    return cast(F, numba.njit(nogil=True, inline="always")(function))


def entry(function: F) -> F:
    """Compile a function that Python calls, keep the machine code on disk, and release the GIL in it."""
    compiled = numba.njit(nogil=True, cache=True)(function)
    # Numba looks whether the file of a cached function has changed, and not whether those it calls
    # have: a stale kernel would outlive an edit of this file. So the stamps of all of them count.
    cache_file: Any = getattr(getattr(compiled, "_cache", None), "_cache_file", None)
    if hasattr(cache_file, "_source_stamp"):
        cache_file._source_stamp = (cache_file._source_stamp, _stamps())
    return cast(F, compiled)


@functools.cache
def _stamps() -> tuple[tuple[str, float, int], ...]:
    """Return name, time and size of the kernels' sources."""
    folder = os.path.dirname(os.path.abspath(__file__))
    found = []
    for name in sorted(os.listdir(folder)):
        if name.endswith(".py"):
            status = os.stat(os.path.join(folder, name))
            found.append((name, status.st_mtime, status.st_size))
    return tuple(found)


def intrinsic(function: Callable[..., Any]) -> Any:
    """Let compiled functions call one that writes LLVM's language itself."""
    return extending.intrinsic(function)


class Vector(numba.types.Type):
    """The type of a vector of `lanes` numbers of one type."""

    def __init__(self, dtype: Any, lanes: int) -> None:
        self.dtype = dtype
        self.lanes = lanes
        super().__init__(name=f"vector({dtype}, {lanes})")


@extending.register_model(Vector)
class _VectorModel(extending.models.PrimitiveModel):  # type: ignore[misc]  # numba has no stubs
    def __init__(self, dmm: Any, fe_type: Vector) -> None:
        super().__init__(dmm, fe_type, llvm_type(fe_type))


def llvm_type(vector: Vector) -> Any:
    """Return LLVM's type of a vector."""
    return ir.VectorType(ir.DoubleType() if vector.dtype == types.float64 else ir.FloatType(), vector.lanes)


def _row(dtype: Any) -> Vector:
    return Vector(dtype, BYTES // (dtype.bitwidth // 8))


def register_of(dtype: Any) -> Vector:
    """Return the type of a register."""
    return Vector(dtype, BYTES // (dtype.bitwidth // 8) // 4)


def half_of(vector: Vector) -> Vector:
    """Return the type of the half of a vector."""
    return Vector(vector.dtype, vector.lanes // 2)


def constant(vector: Vector, value: float) -> Any:
    """Return a vector that repeats a constant."""
    return ir.Constant(llvm_type(vector), [value] * vector.lanes)


def emit_call(builder: Any, name: str, vector: Vector, *operands: Any) -> Any:
    """Call LLVM's intrinsic of that name on vectors of that type."""
    llvm = llvm_type(vector)
    full_name = f"llvm.{name}.v{vector.lanes}f{vector.dtype.bitwidth}"
    function_type = ir.FunctionType(llvm, [llvm] * len(operands))
    return builder.call(cgutils.get_or_insert_function(builder.module, function_type, full_name), operands)


def emit_fma(builder: Any, vector: Vector, a: Any, b: Any, c: Any) -> Any:
    """Multiply and add, in one rounding where the machine can."""
    # fmuladd, not fma: that would be a call of the C library where the machine cannot
    return emit_call(builder, "fmuladd", vector, a, b, c)


def emit_shuffle(builder: Any, a: Any, b: Any, lanes: Sequence[int]) -> Any:
    """Take lanes of two vectors, those of the second counted on from the first's last."""
    return builder.shuffle_vector(a, b, ir.Constant(ir.VectorType(ir.IntType(32), len(lanes)), list(lanes)))


def emit_pointer(context: Any, builder: Any, array_type: Any, array: Any, index: Any, vector: Vector) -> Any:
    """Point to the vector at an index of an array."""
    data = make_array(array_type)(context, builder, array).data
    return builder.bitcast(builder.gep(data, [index]), llvm_type(vector).as_pointer())


def emit_load(context: Any, builder: Any, array_type: Any, array: Any, index: Any, vector: Vector) -> Any:
    """Load the vector at an index of an array."""
    pointer = emit_pointer(context, builder, array_type, array, index, vector)
    # asking for no more than a number's own alignment: any offset into a buffer will do
    return builder.load(pointer, align=vector.dtype.bitwidth // 8)


def emit_number(context: Any, builder: Any, array_type: Any, array: Any, index: Any) -> Any:
    """Load the number at an index of an array."""
    return builder.load(builder.gep(make_array(array_type)(context, builder, array).data, [index]))


def emit_splat(builder: Any, vector: Vector, value: Any) -> Any:
    """Repeat a number in all lanes."""
    llvm = llvm_type(vector)
    first = builder.insert_element(ir.Constant(llvm, ir.Undefined), value, ir.Constant(ir.IntType(32), 0))
    return emit_shuffle(builder, first, ir.Constant(llvm, ir.Undefined), [0] * vector.lanes)


def _operator(op: Callable[[Any, Any], Any], method: str) -> None:
    """Give vectors an operator."""

    @extending.type_callable(op)  # type: ignore[untyped-decorator]
    def _type(context: Any) -> Any:
        def typer(a: Any, b: Any) -> Any:
            return a if isinstance(a, Vector) and a == b else None

        return typer

    @extending.lower_builtin(op, Vector, Vector)  # type: ignore[untyped-decorator]
    def _lower(context: Any, builder: Any, signature: Any, operands: Any) -> Any:
        return getattr(builder, method)(*operands)


_operator(operator.add, "fadd")
_operator(operator.sub, "fsub")
_operator(operator.mul, "fmul")
_operator(operator.truediv, "fdiv")


@intrinsic
def lanes_of(typing: Any, array: Any) -> Any:
    """Return how many numbers of an array's type a panel's row holds.

    A constant when compiled: then distances in a tile are part of the instructions. From the array's own
    item size, a number in memory, each of them would be an address kept in a register, or on the stack.
    """
    lanes = BYTES // (array.dtype.bitwidth // 8)

    def generate(context: Any, builder: Any, signature: Any, operands: Any) -> Any:
        return context.get_constant(types.intp, lanes)

    return types.intp(array), generate


@intrinsic
def load(typing: Any, array: Any, index: Any) -> Any:
    """Return the panel row at an index of a one-dimensional array."""
    vector = _row(array.dtype)

    def generate(context: Any, builder: Any, signature: Any, operands: Any) -> Any:
        return emit_load(context, builder, array, operands[0], operands[1], vector)

    return vector(array, types.intp), generate


@intrinsic
def store(typing: Any, array: Any, index: Any, value: Any) -> Any:
    """Put a vector at an index of a one-dimensional array of its own type."""
    if array.dtype != value.dtype:
        raise numba.TypingError(f"cannot store {value} in {array}")

    def generate(context: Any, builder: Any, signature: Any, operands: Any) -> Any:
        pointer = emit_pointer(context, builder, array, operands[0], operands[1], value)
        builder.store(operands[2], pointer, align=value.dtype.bitwidth // 8)
        return context.get_dummy_value()

    return types.none(array, types.intp, value), generate


@intrinsic
def fetch(typing: Any, array: Any, index: Any) -> Any:
    """Ask for the cache line of an index of a one-dimensional array, and do not wait for it."""

    def generate(context: Any, builder: Any, signature: Any, operands: Any) -> Any:
        data = make_array(array)(context, builder, operands[0]).data
        pointer = builder.bitcast(builder.gep(data, [operands[1]]), ir.IntType(8).as_pointer())
        number = ir.IntType(32)
        kind = ir.FunctionType(ir.VoidType(), [pointer.type, number, number, number])
        function = cgutils.get_or_insert_function(builder.module, kind, "llvm.prefetch.p0")
        # to be read, into the second-level cache, as data
        builder.call(function, [pointer, number(0), number(2), number(1)])
        return context.get_dummy_value()

    return types.none(array, types.intp), generate


@intrinsic
def spread(typing: Any, array: Any, index: Any) -> Any:
    """Return a panel row that repeats one number of a one-dimensional array."""
    vector = _row(array.dtype)

    def generate(context: Any, builder: Any, signature: Any, operands: Any) -> Any:
        return emit_splat(builder, vector, emit_number(context, builder, array, *operands))

    return vector(array, types.intp), generate


@intrinsic
def fill(typing: Any, array: Any, value: Any) -> Any:
    """Return a panel row of the array's type that repeats one float64, rounded."""
    vector = _row(array.dtype)

    def generate(context: Any, builder: Any, signature: Any, operands: Any) -> Any:
        return emit_splat(builder, vector, context.cast(builder, operands[1], types.float64, array.dtype))

    return vector(array, types.float64), generate


@intrinsic
def fill_like(typing: Any, like: Any, value: Any) -> Any:
    """Return a vector of the type of another that repeats one float64, rounded."""

    def generate(context: Any, builder: Any, signature: Any, operands: Any) -> Any:
        return emit_splat(builder, like, context.cast(builder, operands[1], types.float64, like.dtype))

    return like(like, types.float64), generate


@intrinsic
def four_columns(typing: Any, matrix: Any, index: Any, d: Any, like: Any) -> Any:
    """Return four registers of the type of `like`: four columns of as many rows of a flat matrix.

    `index` is the first row's first column, `d` the distance between rows. LLVM's own code for this
    gathers numbers one by one.
    """
    vector = register_of(like.dtype)
    lanes = vector.lanes
    part = Vector(matrix.dtype, 4)

    def generate(context: Any, builder: Any, signature: Any, operands: Any) -> Any:
        data, first, step, _ = operands

        def row(r: int) -> Any:
            at = builder.add(first, builder.mul(step, ir.Constant(step.type, r)))
            four = emit_load(context, builder, matrix, data, at, part)
            if matrix.dtype == like.dtype:
                return four
            resize = builder.fpext if like.dtype == types.float64 else builder.fptrunc
            return resize(four, llvm_type(Vector(like.dtype, 4)))

        def joined(parts: list[Any], width: int) -> Any:
            while len(parts) > 1:
                pairs = zip(parts[::2], parts[1::2], strict=True)
                parts = [emit_shuffle(builder, a, b, range(2 * width)) for a, b in pairs]
                width *= 2
            return parts[0]

        # group g of vector r holds row 4 g + r; then each group of the four vectors is transposed
        a, b, c, e = (joined([row(4 * g + r) for g in range(lanes // 4)], 4) for r in range(4))

        def melt(one: Any, other: Any, picks: Sequence[int]) -> Any:
            """Take four numbers of each group, those of the other vector counted from 4."""
            mask = [
                g + pick if pick < 4 else lanes + g + pick - 4 for g in range(0, lanes, 4) for pick in picks
            ]
            return emit_shuffle(builder, one, other, mask)

        even, odd = (0, 4, 2, 6), (1, 5, 3, 7)
        halves = [melt(a, b, even), melt(c, e, even), melt(a, b, odd), melt(c, e, odd)]
        low, high = (0, 1, 4, 5), (2, 3, 6, 7)
        columns = [
            melt(halves[0], halves[1], low),
            melt(halves[2], halves[3], low),
            melt(halves[0], halves[1], high),
            melt(halves[2], halves[3], high),
        ]
        return context.make_tuple(builder, signature.return_type, columns)

    return types.UniTuple(vector, 4)(matrix, types.intp, types.intp, like), generate


@intrinsic
def four_rows_of(typing: Any, tile: Any, at: Any, lanes: Any, matrix: Any, to: Any, k: Any) -> Any:
    """Write a register's worth of rows of a flat matrix, four columns of them.

    `at` is the first column's place in the tile, `lanes` the distance to the next; `to` the first row's
    place in the matrix, `k` the distance between rows. Rows are written in order.
    """
    vector = register_of(tile.dtype)

    def generate(context: Any, builder: Any, signature: Any, operands: Any) -> Any:
        data, first, lanes, target, to, step = operands

        def column(c: int) -> Any:
            index = builder.add(first, builder.mul(lanes, ir.Constant(lanes.type, c)))
            return emit_load(context, builder, tile, data, index, vector)

        def zipped(a: Any, b: Any) -> Any:
            picks = [i for lane in range(vector.lanes) for i in (lane, vector.lanes + lane)]
            return emit_shuffle(builder, a, b, picks)

        left, right = zipped(column(0), column(1)), zipped(column(2), column(3))
        part = Vector(tile.dtype, 4)
        for r in range(vector.lanes):
            beyond = 2 * vector.lanes + 2 * r
            four = emit_shuffle(builder, left, right, [2 * r, 2 * r + 1, beyond, beyond + 1])
            index = builder.add(to, builder.mul(step, ir.Constant(step.type, r)))
            pointer = emit_pointer(context, builder, matrix, target, index, part)
            builder.store(four, pointer, align=tile.dtype.bitwidth // 8)
        return context.get_dummy_value()

    return types.none(tile, types.intp, types.intp, matrix, types.intp, types.intp), generate


@intrinsic
def zero_register(typing: Any, array: Any) -> Any:
    """Return a register of zeros of the array's type."""
    vector = register_of(array.dtype)

    def generate(context: Any, builder: Any, signature: Any, operands: Any) -> Any:
        return constant(vector, 0.0)

    return vector(array), generate


@intrinsic
def zero_part(typing: Any, array: Any) -> Any:
    """Return a part of a panel row of zeros of the array's type."""
    vector = Vector(array.dtype, BYTES // (array.dtype.bitwidth // 8) // PARTS)

    def generate(context: Any, builder: Any, signature: Any, operands: Any) -> Any:
        return constant(vector, 0.0)

    return vector(array), generate


@intrinsic
def spread_like(typing: Any, array: Any, index: Any, like: Any) -> Any:
    """Return a vector of the type of another that repeats one number of a one-dimensional array."""

    def generate(context: Any, builder: Any, signature: Any, operands: Any) -> Any:
        return emit_splat(builder, like, emit_number(context, builder, array, *operands[:2]))

    return like(array, types.intp, like), generate


@intrinsic
def fma(typing: Any, a: Any, b: Any, c: Any) -> Any:
    """Return ``a * b + c``."""

    def generate(context: Any, builder: Any, signature: Any, operands: Any) -> Any:
        return emit_fma(builder, a, *operands)

    return a(a, a, a), generate


@intrinsic
def load_like(typing: Any, array: Any, index: Any, like: Any) -> Any:
    """Return as many numbers at an index of a one-dimensional array as another vector has."""
    vector = Vector(array.dtype, like.lanes)

    def generate(context: Any, builder: Any, signature: Any, operands: Any) -> Any:
        return emit_load(context, builder, array, operands[0], operands[1], vector)

    return vector(array, types.intp, like), generate


@intrinsic
def smaller(typing: Any, a: Any, b: Any) -> Any:
    """Return the smaller of two vectors, lane by lane; `b` where `a` is not a number."""

    def generate(context: Any, builder: Any, signature: Any, operands: Any) -> Any:
        return builder.select(builder.fcmp_ordered("<", *operands), *operands)

    return a(a, a), generate


@intrinsic
def larger(typing: Any, a: Any, b: Any) -> Any:
    """Return the larger of two vectors, lane by lane; `b` where `a` is not a number."""

    def generate(context: Any, builder: Any, signature: Any, operands: Any) -> Any:
        return builder.select(builder.fcmp_ordered(">", *operands), *operands)

    return a(a, a), generate


@intrinsic
def where_less(typing: Any, a: Any, b: Any, yes: Any, no: Any) -> Any:
    """Return `yes` in the lanes where ``a < b``, else `no`."""

    def generate(context: Any, builder: Any, signature: Any, operands: Any) -> Any:
        return builder.select(builder.fcmp_ordered("<", operands[0], operands[1]), *operands[2:])

    return yes(a, a, yes, yes), generate


@intrinsic
def root(typing: Any, a: Any) -> Any:
    """Return the square roots."""

    def generate(context: Any, builder: Any, signature: Any, operands: Any) -> Any:
        return emit_call(builder, "sqrt", a, *operands)

    return a(a), generate


@intrinsic
def wide(typing: Any, a: Any) -> Any:
    """Return a vector in float64."""
    result = Vector(types.float64, a.lanes)

    def generate(context: Any, builder: Any, signature: Any, operands: Any) -> Any:
        return operands[0] if a == result else builder.fpext(operands[0], llvm_type(result))

    return result(a), generate


@intrinsic
def narrow(typing: Any, a: Any, array: Any) -> Any:
    """Return a float64 vector in the type of an array."""
    result = Vector(array.dtype, a.lanes)

    def generate(context: Any, builder: Any, signature: Any, operands: Any) -> Any:
        return operands[0] if a == result else builder.fptrunc(operands[0], llvm_type(result))

    return result(a, array), generate


@intrinsic
def centred(typing: Any, x: Any, high: Any, low: Any) -> Any:
    """Return ``x - (high + low)``, rounded once.

    A float64 mean is kept as a float32 and what that leaves out, so that float32 rows lose nothing
    of an offset: where `x` is near the mean the first difference is exact.
    """

    def generate(context: Any, builder: Any, signature: Any, operands: Any) -> Any:
        difference = builder.fsub(operands[0], operands[1])
        return difference if x.dtype == types.float64 else builder.fsub(difference, operands[2])

    return x(x, x, x), generate
