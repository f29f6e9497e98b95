"""What the compiled k-means kernels do to a panel of rows, and to its rows one by one.

Rows, whatever their type, are worked on in float64. A panel is L = 32 rows feature by feature, as in
`_tiles`, less a point amid the centres. The *score* of a centre c at a row x, both less that point, is
``|c|**2 / 2 - x @ c``: half of the squared distance less what all centres have in common, one
multiply-add a feature. Its last bits carry the centre's number, so the least of the scores says whose
it is. Where the two least are within what rounding could do, the row is decided by direct differences.
"""

# ruff: noqa: ARG001 -- Numba prescribes the arguments of what it calls

from __future__ import annotations

import math
from typing import Any

import numpy as np
from llvmlite import ir  # type: ignore[import-untyped]
from numpy.typing import NDArray

from distem.kernels import _tiles as tiles
from distem.kernels._simd import (
    BYTES,
    PARTS,
    Vector,
    emit_load,
    entry,
    fill,
    fill_like,
    fma,
    inner,
    intrinsic,
    larger,
    llvm_type,
    load,
    load_like,
    merged,
    root,
    smaller,
    spread,
    spread_like,
    store,
    types,
    zero_part,
)
from distem.kernels._simd_sums import total
from distem.types import Float64, Floats, Ints

Labels = NDArray[np.int32]

LANES = BYTES // 8
RUN = 1024
"""Rows whose bounds are looked at before those that need it are worked on together."""
NEAR = 2048
"""Coefficients of centres that stay in the first-level cache beside a panel."""
HUGE = 1e300
"""A score no row has: what stands for a centre that is not there."""
WIDER = 1.0 + 2.0**-21
NARROWER = 1.0 - 2.0**-21
"""What bounds are multiplied by whenever they are stored in float32, whose rounding is 2**-24."""
LEAST = 1e-30
"""Lower bounds below it say nothing: squares of such distances, or float32, may underflow."""


@intrinsic
def four(typing: Any, array: Any, index: Any) -> Any:
    """Return four numbers at an index of a one-dimensional array, in float64."""
    vector, result = Vector(array.dtype, 4), Vector(types.float64, 4)

    def generate(context: Any, builder: Any, signature: Any, operands: Any) -> Any:
        value = emit_load(context, builder, array, operands[0], operands[1], vector)
        return value if vector == result else builder.fpext(value, llvm_type(result))

    return result(array, types.intp), generate


@intrinsic
def marked(typing: Any, value: Any, keep: Any, mark: Any) -> Any:
    """Return numbers with some of their bits kept and others set: ``value & keep | mark``."""

    def generate(context: Any, builder: Any, signature: Any, operands: Any) -> Any:
        whole = ir.VectorType(ir.IntType(64), value.lanes)
        bits, kept, set_to = (builder.bitcast(operand, whole) for operand in operands)
        return builder.bitcast(builder.or_(builder.and_(bits, kept), set_to), llvm_type(value))

    return value(value, value, value), generate


@merged
def four_scores(
    panel: Floats, d: int, packed: Float64, at: int, half: Float64, g: int, t: int, zero: Any
) -> tuple[Any, Any, Any, Any]:
    """Return scores of the four centres from g, whose coefficients stand from `at`.

    Of the part of the panel that begins at lane `t`, as long as `zero`.
    """
    y0 = spread_like(half, g, zero)
    y1 = spread_like(half, g + 1, zero)
    y2 = spread_like(half, g + 2, zero)
    y3 = spread_like(half, g + 3, zero)
    for i in range(d):
        row = load_like(panel, i * LANES + t, zero)
        y0 = fma(spread_like(packed, at, zero), row, y0)
        y1 = fma(spread_like(packed, at + 1, zero), row, y1)
        y2 = fma(spread_like(packed, at + 2, zero), row, y2)
        y3 = fma(spread_like(packed, at + 3, zero), row, y3)
        at += 4
    return y0, y1, y2, y3


@inner
def centre_panel(panel: Floats, d: int, point: Float64, norm: Float64) -> None:
    """Subtract a point from a panel of rows, and put the squares of their lengths in `norm`."""
    square = fill(panel, 0.0)
    for i in range(d):
        z = load(panel, i * LANES) - spread(point, i)
        store(panel, i * LANES, z)
        square = fma(z, z, square)
    store(norm, 0, square)


@inner
def two_least(
    panel: Floats, d: int, packed: Float64, half: Float64, marks: Float64, best: Float64, second: Float64
) -> None:
    """Put the two least scores of each row, marked with their centres, in `best` and `second`.

    The last of `marks` is the mask of the bits that scores keep.
    """
    store(best, 0, fill(panel, HUGE))
    store(second, 0, fill(panel, HUGE))
    # where a panel is worked on in parts, only as many centres at once as the first-level cache holds
    some = half.size if PARTS == 1 else max(4, NEAR // (4 * d) * 4)
    for g in range(0, half.size, some):
        for t in range(0, LANES, LANES // PARTS):
            two_least_of_part(panel, d, packed, half, marks, g, min(g + some, half.size), t, best, second)


@inner
def two_least_of_part(
    panel: Floats,
    d: int,
    packed: Float64,
    half: Float64,
    marks: Float64,
    begin: int,
    end: int,
    t: int,
    best: Float64,
    second: Float64,
) -> None:
    """Go on with `two_least` at the centres from `begin` to `end`, for the part that starts at lane `t`."""
    count = half.size
    zero = zero_part(panel)
    least = load_like(best, t, zero)
    next_least = load_like(second, t, zero)
    for g in range(begin, end, 4):
        y0, y1, y2, y3 = four_scores(panel, d, packed, g * d, half, g, t, zero)
        keep = spread_like(marks, count, zero)
        y0 = marked(y0, keep, spread_like(marks, g, zero))
        y1 = marked(y1, keep, spread_like(marks, g + 1, zero))
        y2 = marked(y2, keep, spread_like(marks, g + 2, zero))
        y3 = marked(y3, keep, spread_like(marks, g + 3, zero))
        low = smaller(y0, y1)
        other = smaller(y2, y3)
        rest = smaller(larger(y0, y1), larger(y2, y3))
        rest = smaller(rest, larger(low, other))
        low = smaller(low, other)
        next_least = smaller(smaller(rest, next_least), larger(low, least))
        least = smaller(low, least)
    store(best, t, least)
    store(second, t, next_least)


@inner
def square_to(flat: Floats, row: int, centres: Float64, at: int, d: int) -> float:
    """Return the squared distance of the row at an index from the centre at another, in plain order."""
    square = 0.0
    for i in range(d):
        z = flat[row + i] - centres[at + i]
        square += z * z
    return square


@inner
def decide(flat: Floats, row: int, centres: Float64, k: int, d: int) -> tuple[int, float, float]:
    """Return a row's nearest centre, the first of equals, and the two least squared distances."""
    stride = centres.size // k
    label, least, next_least = 0, np.inf, np.inf
    for c in range(k):
        square = square_to(flat, row, centres, c * stride, d)
        if square < least:
            label, least, next_least = c, square, least
        elif square < next_least:
            next_least = square
    return label, least, next_least


@inner
def wider(distance: float) -> float:
    """Return an upper bound that remains one in float32."""
    return distance * WIDER


@inner
def narrower(distance: float) -> float:
    """Return a lower bound that remains one in float32, or zero."""
    return distance * NARROWER if distance > LEAST else 0.0


@inner
def label_panel(
    x: Floats,
    start: int,
    count: int,
    centres: Float64,
    k: int,
    point: Float64,
    packed: Float64,
    half: Float64,
    marks: Float64,
    mask: int,
    reach: float,
    trust: float,
    keep: bool,
    panel: Floats,
    best: Float64,
    second: Float64,
    norm: Float64,
    doubt: Float64,
    nearest: Ints,
) -> None:
    """Put the nearest centres of up to L rows of `x` from `start` in `nearest`.

    With `keep`, put bounds of the distances from it and from all others in `best` and `second`. Scores are
    trusted where the two least squared distances differ by more than `trust` times the squared lengths of
    the row and of the farthest centre (`reach`).
    """
    d = x.shape[1]
    flat = x.reshape(x.size)
    tiles.load_tile(x, start, panel, panel.size // LANES, 1)
    centre_panel(panel, d, point, norm)
    two_least(panel, d, packed, half, marks, best, second)
    store(doubt, 0, fma(load(norm, 0) + fill(norm, reach), fill(norm, trust), fill(norm, 1e-290)))
    bits = best.view(np.int64)
    for t in range(LANES):
        nearest[t] = bits[t] & mask
    doubtful = 0
    for t in range(count):
        doubtful += not 2.0 * (second[t] - best[t]) > doubt[t]
    if keep:
        two, zero = fill(norm, 2.0), fill(norm, 0.0)
        margin, square = load(doubt, 0), load(norm, 0)
        gap = load(second, 0) - load(best, 0)
        store(best, 0, root(larger(fma(two, load(best, 0), square) + margin, zero)))
        store(second, 0, root(larger(fma(two, load(second, 0), square) - margin, zero)))
        store(norm, 0, gap)
    else:
        store(norm, 0, load(second, 0) - load(best, 0))
    if doubtful > 0:
        for t in range(count):
            if not 2.0 * norm[t] > doubt[t]:
                c, least, next_least = decide(flat, (start + t) * d, centres, k, d)
                nearest[t] = c
                best[t], second[t] = math.sqrt(least), math.sqrt(next_least)


@inner
def need_work(
    flat: Floats,
    d: int,
    start: int,
    stop: int,
    centres: Float64,
    k: int,
    drift: Float64,
    others: Float64,
    old_label: Labels,
    old_upper: Floats,
    old_lower: Floats,
    label: Labels,
    upper: Floats,
    lower: Floats,
    which: Ints,
) -> int:
    """Carry the bounds of some rows over to the moved centres; list the rows they do not settle.

    `drift` says how far each centre has moved, `others` how far any but it. Hamerly's two tests: with the
    upper bound as it has widened, and with the distance itself.
    """
    stride = centres.size // k
    for r in range(start, stop):
        c = old_label[r]
        label[r] = c
        upper[r] = wider(old_upper[r] + drift[c])
        lower[r] = narrower(old_lower[r] - others[c])
    first = 0
    for r in range(start, stop):
        which[first] = r
        first += not upper[r] < lower[r]
    count = 0
    for a in range(first):
        r = which[a]
        which[count] = r
        if lower[r] > 0.0:
            upper[r] = wider(math.sqrt(square_to(flat, r * d, centres, label[r] * stride, d)))
        count += not upper[r] < lower[r]
    return count


@inner
def add_rows(
    flat: Floats,
    at: int,
    d: int,
    start: int,
    stop: int,
    weights: Float64,
    centres: Float64,
    k: int,
    ends: Float64,
    label: Labels,
    mass: Float64,
    first: Float64,
) -> float:
    """Add rows to the masses and first moments of their centres; return their inertia.

    The first row's numbers stand from `at` of `flat`, of which a row's last vector may take in the next
    row's first: `ends` is one where a last vector is the row's own, else zero.
    """
    stride = centres.size // k
    inertia = fill_like(four(ends, 0), 0.0)
    for r in range(start, stop):
        w = weights[r] if weights.size else 1.0
        c = label[r] * stride
        weight = fill_like(inertia, w)
        square = fill_like(inertia, 0.0)
        for i in range(0, stride - 4, 4):
            z = four(flat, at + i) - four(centres, c + i)
            store(first, c + i, fma(weight, z, four(first, c + i)))
            square = fma(z, z, square)
        i = stride - 4
        z = (four(flat, at + i) - four(centres, c + i)) * four(ends, 0)
        store(first, c + i, fma(weight, z, four(first, c + i)))
        square = fma(z, z, square)
        inertia = fma(weight, square, inertia)
        mass[label[r]] += w
        at += d
    return float(total(inertia))


@entry
def lloyd(
    x: Floats,
    weights: Float64,
    centres: Float64,
    point: Float64,
    packed: Float64,
    half: Float64,
    marks: Float64,
    mask: int,
    reach: float,
    trust: float,
    ends: Float64,
    drift: Float64,
    others: Float64,
    old_label: Labels,
    old_upper: Floats,
    old_lower: Floats,
    keep: bool,
) -> tuple[float, Float64, Float64, Labels, Floats, Floats, int]:
    """Return inertia, masses, first moments, labels, bounds, and the rows whose distances were all taken.

    Bounds of old are used where there are any, and new ones returned if `keep`. The sums are those of all
    rows in their own order, whatever the bounds spared.
    """
    n, d = x.shape
    k = drift.size
    stride = centres.size // k
    flat = x.reshape(x.size)
    panel = tiles.buffer(LANES * stride, centres)
    best, second, norm, doubt = np.empty(LANES), np.empty(LANES), np.empty(LANES), np.empty(LANES)
    near = np.empty(LANES, np.int64)
    label = np.empty(n, np.int32)
    upper = np.empty(n if keep else 0, np.float32)
    lower = np.empty(n if keep else 0, np.float32)
    which = np.empty(RUN + 1, np.int64)
    few = np.empty((LANES, d), x.dtype)
    mass, first = np.zeros(k), np.zeros(centres.size)
    whole = max(0, (x.size - stride) // d + 1)  # rows whose last vector ends within the array
    whole = min(n, whole)
    tail = np.zeros((n - whole) * d + stride, x.dtype)
    tail[: (n - whole) * d] = flat[whole * d :]
    inertia, worked = 0.0, 0
    for start in range(0, n, RUN):
        stop = min(n, start + RUN)
        if old_label.size:
            count = need_work(
                flat, d, start, stop, centres, k, drift, others, old_label, old_upper, old_lower,
                label, upper, lower, which,
            )  # fmt: skip
            for a in range(0, count, LANES):
                rows = min(LANES, count - a)
                for t in range(rows):
                    for i in range(d):
                        few[t, i] = x[which[a + t], i]
                label_panel(
                    few, 0, rows, centres, k, point, packed, half, marks, mask, reach, trust, keep,
                    panel, best, second, norm, doubt, near,
                )  # fmt: skip
                for t in range(rows):
                    r = which[a + t]
                    label[r] = near[t]
                    if keep:
                        upper[r], lower[r] = wider(best[t]), narrower(second[t])
            worked += count
        else:
            for a in range(start, stop, LANES):
                rows = min(LANES, stop - a)
                label_panel(
                    x, a, rows, centres, k, point, packed, half, marks, mask, reach, trust, keep,
                    panel, best, second, norm, doubt, near,
                )  # fmt: skip
                for t in range(rows):
                    label[a + t] = near[t]
                if keep:
                    for t in range(rows):
                        upper[a + t], lower[a + t] = wider(best[t]), narrower(second[t])
            worked += stop - start
        own = min(stop, whole)
        inertia += add_rows(
            flat, start * d, d, start, own, weights, centres, k, ends, label, mass, first
        )  # fmt: skip
        inertia += add_rows(
            tail, (max(start, own) - whole) * d, d, max(start, own), stop, weights, centres, k, ends, label,
            mass, first,
        )  # fmt: skip
    return inertia, mass, first, label, upper, lower, worked


@entry
def nearest(
    x: Floats,
    centres: Float64,
    point: Float64,
    packed: Float64,
    half: Float64,
    marks: Float64,
    mask: int,
    reach: float,
    trust: float,
    ends: Float64,
    k: int,
) -> tuple[Labels, Float64]:
    """Return labels, and squared distances from the centres they name."""
    n, d = x.shape
    stride = centres.size // k
    flat = x.reshape(x.size)
    panel = tiles.buffer(LANES * stride, centres)
    best, second, norm, doubt = np.empty(LANES), np.empty(LANES), np.empty(LANES), np.empty(LANES)
    near = np.empty(LANES, np.int64)
    label, square = np.empty(n, np.int32), np.empty(n)
    for start in range(0, n, LANES):
        rows = min(LANES, n - start)
        label_panel(
            x, start, rows, centres, k, point, packed, half, marks, mask, reach, trust, False,
            panel, best, second, norm, doubt, near,
        )  # fmt: skip
        for t in range(rows):
            r = start + t
            label[r] = near[t]
            square[r] = square_to(flat, r * d, centres, near[t] * stride, d)
    return label, square
