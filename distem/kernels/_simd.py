"""Short vectors for Numba: a type, its arithmetic, and the two or three moves a tile kernel needs.

Numba leaves vectors to LLVM's loop vectoriser, which knows neither register blocking nor how to
keep a panel's sums in registers. Here a vector is a value: `load` one, do arithmetic with the usual
operators and `fma`, `store` it. Two widths, both fixed whatever the machine, so that the order of
every sum, and with it every bit, is the machine's no more than the caller's:

- a **row** of a panel, `PANEL` numbers of 32 (float64) or 64 (float32): four registers of AVX-512,
  eight of AVX2, so that chains of dependent operations overlap;
- a **register**, a quarter of it, for kernels that need many sums at once.

LLVM splits them into what the machine has. Nothing here is fast-math: what is written is what is done.
"""

# ruff: noqa: ARG001 -- Numba prescribes the arguments of what it calls

from __future__ import annotations

import functools
import math
import operator
import os
from collections.abc import Callable, Sequence
from typing import Any, TypeVar, cast

import numba
import numba.core.cgutils
import numba.extending
import numba.np.arrayobj
import numpy as np
from llvmlite import ir  # type: ignore[import-untyped]

F = TypeVar("F", bound=Callable[..., Any])

# numba has no type hints to speak of
cgutils: Any = numba.core.cgutils
types: Any = numba.types
extending: Any = numba.extending
make_array: Any = numba.np.arrayobj.make_array

BYTES = 256
"""Bytes of a panel's row."""


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
        super().__init__(dmm, fe_type, _llvm(fe_type))


def _llvm(vector: Vector) -> Any:
    return ir.VectorType(ir.DoubleType() if vector.dtype == types.float64 else ir.FloatType(), vector.lanes)


def _row(dtype: Any) -> Vector:
    return Vector(dtype, BYTES // (dtype.bitwidth // 8))


def _register(dtype: Any) -> Vector:
    return Vector(dtype, BYTES // (dtype.bitwidth // 8) // 4)


def _constant(vector: Vector, value: float) -> Any:
    return ir.Constant(_llvm(vector), [value] * vector.lanes)


def _call(builder: Any, name: str, vector: Vector, *operands: Any) -> Any:
    """Call LLVM's intrinsic of that name on vectors of that type."""
    llvm = _llvm(vector)
    full_name = f"llvm.{name}.v{vector.lanes}f{vector.dtype.bitwidth}"
    function_type = ir.FunctionType(llvm, [llvm] * len(operands))
    return builder.call(cgutils.get_or_insert_function(builder.module, function_type, full_name), operands)


def _fma(builder: Any, vector: Vector, a: Any, b: Any, c: Any) -> Any:
    # fmuladd, not fma: one rounding where the machine can, never a library call where it cannot
    return _call(builder, "fmuladd", vector, a, b, c)


def _shuffle(builder: Any, a: Any, b: Any, lanes: Sequence[int]) -> Any:
    return builder.shuffle_vector(a, b, ir.Constant(ir.VectorType(ir.IntType(32), len(lanes)), list(lanes)))


def _pointer(context: Any, builder: Any, array_type: Any, array: Any, index: Any, vector: Vector) -> Any:
    data = make_array(array_type)(context, builder, array).data
    return builder.bitcast(builder.gep(data, [index]), _llvm(vector).as_pointer())


def _load(context: Any, builder: Any, array_type: Any, array: Any, index: Any, vector: Vector) -> Any:
    pointer = _pointer(context, builder, array_type, array, index, vector)
    # asking for no more than a number's own alignment: any offset into a buffer will do
    return builder.load(pointer, align=vector.dtype.bitwidth // 8)


def _splat(builder: Any, vector: Vector, value: Any) -> Any:
    llvm = _llvm(vector)
    first = builder.insert_element(ir.Constant(llvm, ir.Undefined), value, ir.Constant(ir.IntType(32), 0))
    return _shuffle(builder, first, ir.Constant(llvm, ir.Undefined), [0] * vector.lanes)


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
def load(typing: Any, array: Any, index: Any) -> Any:
    """Return the panel row at an index of a one-dimensional array."""
    vector = _row(array.dtype)

    def generate(context: Any, builder: Any, signature: Any, operands: Any) -> Any:
        return _load(context, builder, array, operands[0], operands[1], vector)

    return vector(array, types.intp), generate


@intrinsic
def store(typing: Any, array: Any, index: Any, value: Any) -> Any:
    """Put a vector at an index of a one-dimensional array of its own type."""
    if array.dtype != value.dtype:
        raise numba.TypingError(f"cannot store {value} in {array}")

    def generate(context: Any, builder: Any, signature: Any, operands: Any) -> Any:
        pointer = _pointer(context, builder, array, operands[0], operands[1], value)
        builder.store(operands[2], pointer, align=value.dtype.bitwidth // 8)
        return context.get_dummy_value()

    return types.none(array, types.intp, value), generate


@intrinsic
def spread(typing: Any, array: Any, index: Any) -> Any:
    """Return a panel row that repeats one number of a one-dimensional array."""
    vector = _row(array.dtype)

    def generate(context: Any, builder: Any, signature: Any, operands: Any) -> Any:
        data = make_array(array)(context, builder, operands[0]).data
        return _splat(builder, vector, builder.load(builder.gep(data, [operands[1]])))

    return vector(array, types.intp), generate


@intrinsic
def fill(typing: Any, array: Any, value: Any) -> Any:
    """Return a panel row of the array's type that repeats one float64, rounded."""
    vector = _row(array.dtype)

    def generate(context: Any, builder: Any, signature: Any, operands: Any) -> Any:
        return _splat(builder, vector, context.cast(builder, operands[1], types.float64, array.dtype))

    return vector(array, types.float64), generate


@intrinsic
def fill_like(typing: Any, like: Any, value: Any) -> Any:
    """Return a vector of the type of another that repeats one float64, rounded."""

    def generate(context: Any, builder: Any, signature: Any, operands: Any) -> Any:
        return _splat(builder, like, context.cast(builder, operands[1], types.float64, like.dtype))

    return like(like, types.float64), generate


@intrinsic
def four_columns(typing: Any, matrix: Any, index: Any, d: Any, like: Any) -> Any:
    """Return four registers of the type of `like`: four columns of as many rows of a flat matrix.

    `index` is the first row's first column, `d` the distance between rows. LLVM's own code for this
    gathers numbers one by one.
    """
    vector = _register(like.dtype)
    lanes = vector.lanes
    part = Vector(matrix.dtype, 4)

    def generate(context: Any, builder: Any, signature: Any, operands: Any) -> Any:
        data, first, step, _ = operands

        def row(r: int) -> Any:
            at = builder.add(first, builder.mul(step, ir.Constant(step.type, r)))
            four = _load(context, builder, matrix, data, at, part)
            return four if matrix.dtype == like.dtype else builder.fptrunc(four, _llvm(Vector(like.dtype, 4)))

        def joined(parts: list[Any], width: int) -> Any:
            while len(parts) > 1:
                pairs = zip(parts[::2], parts[1::2], strict=True)
                parts = [_shuffle(builder, a, b, range(2 * width)) for a, b in pairs]
                width *= 2
            return parts[0]

        # group g of vector r holds row 4 g + r; then each group of the four vectors is transposed
        a, b, c, e = (joined([row(4 * g + r) for g in range(lanes // 4)], 4) for r in range(4))

        def melt(one: Any, other: Any, picks: Sequence[int]) -> Any:
            """Take four numbers of each group, those of the other vector counted from 4."""
            mask = [
                g + pick if pick < 4 else lanes + g + pick - 4 for g in range(0, lanes, 4) for pick in picks
            ]
            return _shuffle(builder, one, other, mask)

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
def zero_register(typing: Any, array: Any) -> Any:
    """Return a register of zeros of the array's type."""
    vector = _register(array.dtype)

    def generate(context: Any, builder: Any, signature: Any, operands: Any) -> Any:
        return _constant(vector, 0.0)

    return vector(array), generate


@intrinsic
def fma(typing: Any, a: Any, b: Any, c: Any) -> Any:
    """Return ``a * b + c``."""

    def generate(context: Any, builder: Any, signature: Any, operands: Any) -> Any:
        return _fma(builder, a, *operands)

    return a(a, a, a), generate


@intrinsic
def load_like(typing: Any, array: Any, index: Any, like: Any) -> Any:
    """Return as many numbers at an index of a one-dimensional array as another vector has."""
    vector = Vector(array.dtype, like.lanes)

    def generate(context: Any, builder: Any, signature: Any, operands: Any) -> Any:
        return _load(context, builder, array, operands[0], operands[1], vector)

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
        return _call(builder, "sqrt", a, *operands)

    return a(a), generate


@intrinsic
def wide(typing: Any, a: Any) -> Any:
    """Return a vector in float64."""
    result = Vector(types.float64, a.lanes)

    def generate(context: Any, builder: Any, signature: Any, operands: Any) -> Any:
        return operands[0] if a == result else builder.fpext(operands[0], _llvm(result))

    return result(a), generate


@intrinsic
def narrow(typing: Any, a: Any, array: Any) -> Any:
    """Return a float64 vector in the type of an array."""
    result = Vector(array.dtype, a.lanes)

    def generate(context: Any, builder: Any, signature: Any, operands: Any) -> Any:
        return operands[0] if a == result else builder.fptrunc(operands[0], _llvm(result))

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


def _fold(builder: Any, value: Any, lanes: int, to: int) -> Any:
    """Add the upper half of a vector to the lower until `to` lanes are left."""
    while lanes > to:
        lanes //= 2
        low = _shuffle(builder, value, value, range(lanes))
        high = _shuffle(builder, value, value, range(lanes, 2 * lanes))
        value = builder.fadd(low, high)
    return value


@intrinsic
def total(typing: Any, a: Any) -> Any:
    """Return the sum over a vector's lanes, a float64."""

    def generate(context: Any, builder: Any, signature: Any, operands: Any) -> Any:
        single = _fold(builder, operands[0], a.lanes, 1)
        value = builder.extract_element(single, ir.Constant(ir.IntType(32), 0))
        return value if a.dtype == types.float64 else builder.fpext(value, ir.DoubleType())

    return types.float64(a), generate


# exp(r) = 1 + r + r**2 q(r) for |r| <= ln(2)/2; q by Chebyshev interpolation, errors 1e-17 and 2e-9
_EXP = {
    64: (52, 1.5 * 2.0**52, 6.93147180369123816490e-01, 1.90821492927058770002e-10, -345.0, 9),
    32: (23, 1.5 * 2.0**23, 0.693359375, -2.12194440e-4, -40.0, 5),
}


@functools.cache
def _exp_polynomial(degree: int) -> tuple[float, ...]:
    """Return the coefficients of q, the highest power first."""

    def q(r: float) -> float:
        # the Taylor series of (exp(r) - 1 - r) / r**2 has no cancellation
        return math.fsum(r**j / math.factorial(j + 2) for j in range(24))

    limit = 0.5 * math.log(2.0) * 1.001
    nodes = np.cos(np.pi * (np.arange(degree + 1) + 0.5) / (degree + 1))
    values = np.array([q(limit * node) for node in nodes])
    fitted = np.polynomial.chebyshev.cheb2poly(np.polynomial.chebyshev.chebfit(nodes, values, degree))
    return tuple(float(c) / limit**j for j, c in enumerate(fitted))[::-1]


@intrinsic
def exp(typing: Any, a: Any) -> Any:
    """Return the exponentials of numbers that are not positive.

    Exactly 1 at 0, and exactly 0 below -345 (float32: -40), so that even the square of the smallest
    result is far from the denormal numbers.
    """
    bits = a.dtype.bitwidth
    shift, magic, ln2_high, ln2_low, lowest, degree = _EXP[bits]
    integers = ir.VectorType(ir.IntType(bits), a.lanes)

    def generate(context: Any, builder: Any, signature: Any, operands: Any) -> Any:
        (x,) = operands
        # adding the magic number leaves the rounded multiple of ln(2) in the lowest bits
        rounded = _fma(builder, a, x, _constant(a, 1.0 / math.log(2.0)), _constant(a, magic))
        multiple = builder.fsub(rounded, _constant(a, magic))
        r = _fma(builder, a, multiple, _constant(a, -ln2_high), x)
        r = _fma(builder, a, multiple, _constant(a, -ln2_low), r)
        highest, *rest = _exp_polynomial(degree)
        q = _constant(a, highest)
        for coefficient in rest:
            q = _fma(builder, a, q, r, _constant(a, coefficient))
        p = builder.fadd(_fma(builder, a, builder.fmul(r, r), q, r), _constant(a, 1.0))
        power = builder.shl(
            builder.bitcast(rounded, integers), ir.Constant(integers, [shift] * a.lanes)
        )  # the multiple, moved to where a number keeps its exponent
        scaled = builder.bitcast(builder.add(builder.bitcast(p, integers), power), _llvm(a))
        tiny = builder.fcmp_ordered("<", x, _constant(a, lowest))
        return builder.select(tiny, _constant(a, 0.0), scaled)

    return a(a), generate


# log((1+s)/(1-s)) = 2 s + s**3 (c0 + c1 s**2 + ...): the coefficients of fdlibm's log
_LOG = (
    1.479819860511658591e-01,
    1.531383769920937332e-01,
    1.818357216161805012e-01,
    2.222219843214978396e-01,
    2.857142874366239149e-01,
    3.999999999940941908e-01,
    6.666666666666735130e-01,
)


@intrinsic
def log(typing: Any, a: Any) -> Any:
    """Return the natural logs of positive, normal float64 numbers."""
    integers = ir.VectorType(ir.IntType(64), a.lanes)

    def generate(context: Any, builder: Any, signature: Any, operands: Any) -> Any:
        def integer(value: int) -> Any:
            return ir.Constant(integers, [value] * a.lanes)

        bits = builder.bitcast(operands[0], integers)
        root_half = 0x3FE6A09E667F3BCD
        # x = 2**e * m with m between sqrt(1/2) and sqrt(2)
        exponent = builder.ashr(builder.sub(bits, integer(root_half)), integer(52))
        m = builder.bitcast(builder.sub(bits, builder.shl(exponent, integer(52))), _llvm(a))
        e = builder.sitofp(exponent, _llvm(a))
        f = builder.fsub(m, _constant(a, 1.0))
        s = builder.fdiv(f, builder.fadd(f, _constant(a, 2.0)))
        z = builder.fmul(s, s)
        p = _constant(a, _LOG[0])
        for coefficient in _LOG[1:]:
            p = _fma(builder, a, p, z, _constant(a, coefficient))
        # log(m) = f - s (f - z p), which keeps the digits where m is near 1
        p = builder.fsub(f, builder.fmul(s, builder.fsub(f, builder.fmul(z, p))))
        p = _fma(builder, a, e, _constant(a, 1.90821492927058770002e-10), p)
        return _fma(builder, a, e, _constant(a, 6.93147180369123816490e-01), p)

    return a(a), generate


def _columns(builder: Any, vectors: list[Any], lanes: int) -> Any:
    """Return one vector whose lane j is the sum over the lanes of vector j."""
    group = 1
    while len(vectors) > 1:
        # pairs of vectors melt into one: group by group, the sums of the first, then of the second
        starts = range(0, lanes, 2 * group)
        even = [s + o for b in starts for s in (b, b + lanes) for o in range(group)]
        odd = [lane + group for lane in even]
        vectors = [
            builder.fadd(_shuffle(builder, u, v, even), _shuffle(builder, u, v, odd))
            for u, v in zip(vectors[::2], vectors[1::2], strict=True)
        ]
        group *= 2
    return _fold(builder, vectors[0], lanes, group)


@intrinsic
def add_totals(typing: Any, array: Any, index: Any, sums: Any) -> Any:
    """Add the totals of sixteen registers to as many numbers of a float64 array."""
    vector = sums.dtype
    result = Vector(types.float64, 16)

    def generate(context: Any, builder: Any, signature: Any, operands: Any) -> Any:
        registers = [builder.extract_value(operands[2], j) for j in range(16)]
        parts = [
            _columns(builder, registers[j : j + vector.lanes], vector.lanes)
            for j in range(0, 16, vector.lanes)
        ]
        row = parts[0] if len(parts) == 1 else _shuffle(builder, parts[0], parts[1], range(16))
        if vector.dtype != types.float64:
            row = builder.fpext(row, _llvm(result))
        pointer = _pointer(context, builder, array, operands[0], operands[1], result)
        builder.store(builder.fadd(builder.load(pointer, align=8), row), pointer, align=8)
        return context.get_dummy_value()

    return types.none(array, types.intp, sums), generate


@intrinsic
def add_row_totals(typing: Any, array: Any, index: Any, rows: Any) -> Any:
    """Add the totals of two panel rows to two numbers of a float64 array."""
    vector = rows.dtype
    result = Vector(types.float64, 2)

    def generate(context: Any, builder: Any, signature: Any, operands: Any) -> Any:
        folded = [
            _fold(builder, builder.extract_value(operands[2], j), vector.lanes, vector.lanes // 4)
            for j in range(2)
        ]
        totals = _columns(builder, folded, vector.lanes // 4)
        if vector.dtype != types.float64:
            totals = builder.fpext(totals, _llvm(result))
        pointer = _pointer(context, builder, array, operands[0], operands[1], result)
        builder.store(builder.fadd(builder.load(pointer, align=8), totals), pointer, align=8)
        return context.get_dummy_value()

    return types.none(array, types.intp, rows), generate


def _outer(pairs: Sequence[tuple[int, int]]) -> Any:
    """Return the code of one step of an outer product of four rows with four, for some of the pairs."""

    def typed(typing: Any, sums: Any, array: Any, a: Any, b: Any, stride: Any) -> Any:
        vector = sums.dtype

        def generate(context: Any, builder: Any, signature: Any, operands: Any) -> Any:
            values, data, first, second, step = operands

            def row(start: Any, j: int) -> Any:
                index = builder.add(start, builder.mul(step, ir.Constant(step.type, j)))
                return _load(context, builder, array, data, index, vector)

            left = {j: row(first, j) for j in sorted({i for i, _ in pairs})}
            right = {j: row(second, j) for j in sorted({j for _, j in pairs})}
            for i, j in pairs:
                updated = _fma(builder, vector, left[i], right[j], builder.extract_value(values, 4 * i + j))
                values = builder.insert_value(values, updated, 4 * i + j)
            return values

        return sums(sums, array, types.intp, types.intp, types.intp), generate

    return typed


@intrinsic
def outer(typing: Any, sums: Any, array: Any, a: Any, b: Any, stride: Any) -> Any:
    """Add to sixteen registers the products of four rows from index `a` with four from `b`."""
    return _outer([(i, j) for i in range(4) for j in range(4)])(typing, sums, array, a, b, stride)


@intrinsic
def outer_lower(typing: Any, sums: Any, array: Any, a: Any, b: Any, stride: Any) -> Any:
    """Do as `outer` does where both are the same four rows: the lower triangle only."""
    return _outer([(i, j) for i in range(4) for j in range(i + 1)])(typing, sums, array, a, b, stride)
