"""Sums over the lanes of the vectors of `_simd`, of outer products and of moments, sixteen at a time."""

# ruff: noqa: ARG001 -- Numba prescribes the arguments of what it calls

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from llvmlite import ir  # type: ignore[import-untyped]

from distem.kernels._simd import (
    Vector,
    constant,
    emit_fma,
    emit_load,
    emit_number,
    emit_pointer,
    emit_shuffle,
    emit_splat,
    half_of,
    intrinsic,
    llvm_type,
    register_of,
    types,
)


def _fold(builder: Any, value: Any, lanes: int, to: int) -> Any:
    """Add the upper half of a vector to the lower until `to` lanes are left."""
    while lanes > to:
        lanes //= 2
        low = emit_shuffle(builder, value, value, range(lanes))
        high = emit_shuffle(builder, value, value, range(lanes, 2 * lanes))
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


def _columns(builder: Any, vectors: list[Any], lanes: int) -> Any:
    """Return one vector whose lane j is the sum over the lanes of vector j."""
    group = 1
    while len(vectors) > 1:
        # pairs of vectors melt into one: group by group, the sums of the first, then of the second
        starts = range(0, lanes, 2 * group)
        even = [s + o for b in starts for s in (b, b + lanes) for o in range(group)]
        odd = [lane + group for lane in even]
        vectors = [
            builder.fadd(emit_shuffle(builder, u, v, even), emit_shuffle(builder, u, v, odd))
            for u, v in zip(vectors[::2], vectors[1::2], strict=True)
        ]
        group *= 2
    return _fold(builder, vectors[0], lanes, group)


@intrinsic
def add_totals(typing: Any, array: Any, index: Any, sums: Any) -> Any:
    """Add the totals of eight or sixteen registers to as many numbers of a float64 array."""
    vector = sums.dtype
    count = sums.count
    result = Vector(types.float64, count)

    def generate(context: Any, builder: Any, signature: Any, operands: Any) -> Any:
        registers = [builder.extract_value(operands[2], j) for j in range(count)]
        parts = [
            _columns(builder, registers[j : j + vector.lanes], vector.lanes)
            for j in range(0, count, vector.lanes)
        ]
        row = parts[0] if len(parts) == 1 else emit_shuffle(builder, parts[0], parts[1], range(count))
        if vector.dtype != types.float64:
            row = builder.fpext(row, llvm_type(result))
        pointer = emit_pointer(context, builder, array, operands[0], operands[1], result)
        builder.store(builder.fadd(builder.load(pointer, align=8), row), pointer, align=8)
        return context.get_dummy_value()

    return types.none(array, types.intp, sums), generate


@intrinsic
def add_two_totals(typing: Any, array: Any, index: Any, sums: Any) -> Any:
    """Add the totals of two registers to two numbers of a float64 array."""
    vector = sums.dtype
    result = Vector(types.float64, 2)

    def generate(context: Any, builder: Any, signature: Any, operands: Any) -> Any:
        registers = [builder.extract_value(operands[2], j) for j in range(2)]
        totals = _columns(builder, registers, vector.lanes)
        if vector.dtype != types.float64:
            totals = builder.fpext(totals, llvm_type(result))
        pointer = emit_pointer(context, builder, array, operands[0], operands[1], result)
        builder.store(builder.fadd(builder.load(pointer, align=8), totals), pointer, align=8)
        return context.get_dummy_value()

    return types.none(array, types.intp, sums), generate


def _outer(pairs: Sequence[tuple[int, int]], width: int = 4) -> Any:
    """Return the code of one step of an outer product of four rows with `width`, for some of the pairs."""

    def typed(typing: Any, sums: Any, array: Any, a: Any, b: Any, stride: Any) -> Any:
        vector = sums.dtype

        def generate(context: Any, builder: Any, signature: Any, operands: Any) -> Any:
            values, data, first, second, step = operands

            def row(start: Any, j: int) -> Any:
                index = builder.add(start, builder.mul(step, ir.Constant(step.type, j)))
                return emit_load(context, builder, array, data, index, vector)

            left = {j: row(first, j) for j in sorted({i for i, _ in pairs})}
            right = {j: row(second, j) for j in sorted({j for _, j in pairs})}
            for i, j in pairs:
                updated = emit_fma(
                    builder, vector, left[i], right[j], builder.extract_value(values, width * i + j)
                )
                values = builder.insert_value(values, updated, width * i + j)
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


@intrinsic
def outer_two(typing: Any, sums: Any, array: Any, a: Any, b: Any, stride: Any) -> Any:
    """Do as `outer` does with two of the second four rows: eight sums, for machines of few registers."""
    return _outer([(i, j) for i in range(4) for j in range(2)], 2)(typing, sums, array, a, b, stride)


@intrinsic
def zero_halves(typing: Any, array: Any) -> Any:
    """Return eight halves of a register of zeros of the array's type."""
    vector = half_of(register_of(array.dtype))
    result = types.UniTuple(vector, 8)

    def generate(context: Any, builder: Any, signature: Any, operands: Any) -> Any:
        return context.make_tuple(builder, result, [constant(vector, 0.0)] * 8)

    return result(array), generate


@intrinsic
def sixteen(typing: Any, low: Any, high: Any, low_right: Any, high_right: Any) -> Any:
    """Return the sixteen registers of `outer` from what `outer_two` found: both halves, left and right."""
    whole = Vector(low.dtype.dtype, 2 * low.dtype.lanes)
    result = types.UniTuple(whole, 16)

    def generate(context: Any, builder: Any, signature: Any, operands: Any) -> Any:
        found = []
        for i in range(4):
            for j in range(4):
                pair = operands[:2] if j < 2 else operands[2:]
                parts = [builder.extract_value(part, 2 * i + j % 2) for part in pair]
                found.append(emit_shuffle(builder, parts[0], parts[1], range(whole.lanes)))
        return context.make_tuple(builder, result, found)

    return result(low, high, low_right, high_right), generate


@intrinsic
def eight(typing: Any, low: Any, high: Any) -> Any:
    """Return registers from their halves."""
    whole = Vector(low.dtype.dtype, 2 * low.dtype.lanes)
    result = types.UniTuple(whole, low.count)

    def generate(context: Any, builder: Any, signature: Any, operands: Any) -> Any:
        found = []
        for i in range(low.count):
            a, b = (builder.extract_value(half, i) for half in operands)
            found.append(emit_shuffle(builder, a, b, range(whole.lanes)))
        return context.make_tuple(builder, result, found)

    return result(low, high), generate


def _moments(squares: bool, components: int = 2) -> Any:
    """Return the code that adds a register of rows to moments of two components by four features.

    Or of the first of them alone, for machines of few registers.
    Every share serves four features and every feature two components, so that multiply-adds bound it,
    not loads. Of each component the four sums of ``r z`` come first, then those of ``r z**2`` if asked for.
    """
    each = 8 if squares else 4

    def typed(
        typing: Any,
        sums: Any,
        shares: Any,
        one: Any,
        other: Any,
        tile: Any,
        at: Any,
        stride: Any,
        high: Any,
        low: Any,
    ) -> Any:
        vector = sums.dtype

        def generate(context: Any, builder: Any, signature: Any, operands: Any) -> Any:
            values, share_data, *share_ats, data, first, step, highs, lows = operands
            rows = []
            for i in range(4):
                index = builder.add(first, builder.mul(step, step.type(i)))
                rows.append(emit_load(context, builder, tile, data, index, vector))
            for a, share_at in enumerate(share_ats[:components]):
                share = emit_load(context, builder, shares, share_data, share_at, vector)
                for i, row in enumerate(rows):
                    z = builder.fsub(row, builder.extract_value(highs, 4 * a + i))
                    if vector.dtype != types.float64:
                        z = builder.fsub(z, builder.extract_value(lows, 4 * a + i))
                    to = each * a + i
                    old = builder.extract_value(values, to)
                    if squares:
                        weighted = builder.fmul(share, z)
                        values = builder.insert_value(values, builder.fadd(old, weighted), to)
                        square = builder.extract_value(values, to + 4)
                        square = emit_fma(builder, vector, weighted, z, square)
                        values = builder.insert_value(values, square, to + 4)
                    else:
                        added = emit_fma(builder, vector, share, z, old)
                        values = builder.insert_value(values, added, to)
            return values

        where = types.intp
        return sums(sums, shares, where, where, tile, where, where, high, low), generate

    return typed


@intrinsic
def four_means(typing: Any, array: Any, one: Any, other: Any, like: Any) -> Any:
    """Return eight vectors that repeat a number each: four from an index of an array, four from another.

    Of the type of those in the tuple `like`.
    """
    vector = like.dtype
    result = types.UniTuple(vector, 8)

    def generate(context: Any, builder: Any, signature: Any, operands: Any) -> Any:
        data, *starts = operands[:3]
        numbers = [
            emit_number(context, builder, array, data, builder.add(start, start.type(i)))
            for start in starts
            for i in range(4)
        ]
        return context.make_tuple(builder, result, [emit_splat(builder, vector, n) for n in numbers])

    return result(array, types.intp, types.intp, like), generate


@intrinsic
def first_step(
    typing: Any, sums: Any, shares: Any, one: Any, other: Any, tile: Any, at: Any, stride: Any,
    high: Any, low: Any,
) -> Any:  # fmt: skip
    """Add a register of rows to eight registers of first moments.

    Shares at `one` and `other`, features from `at`, `stride` apart, means as `four_means` returns them.
    """
    return _moments(squares=False)(
        typing, sums, shares, one, other, tile, at, stride, high, low
    )  # fmt: skip


@intrinsic
def squares_step(
    typing: Any, sums: Any, shares: Any, one: Any, other: Any, tile: Any, at: Any, stride: Any,
    high: Any, low: Any,
) -> Any:  # fmt: skip
    """Do as `first_step` does, with second moments, feature by feature, in eight registers more."""
    return _moments(squares=True)(
        typing, sums, shares, one, other, tile, at, stride, high, low
    )  # fmt: skip


@intrinsic
def squares_step_of_one(
    typing: Any, sums: Any, shares: Any, one: Any, other: Any, tile: Any, at: Any, stride: Any,
    high: Any, low: Any,
) -> Any:  # fmt: skip
    """Do as `squares_step` does for the first component alone."""
    return _moments(squares=True, components=1)(
        typing, sums, shares, one, other, tile, at, stride, high, low
    )  # fmt: skip
