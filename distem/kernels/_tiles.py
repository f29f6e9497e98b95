"""What the compiled kernels do to one tile of rows.

A tile is a run of `panels` panels; a panel holds L rows (32 of float64, 64 of float32) feature by
feature, so that a panel's row is one vector of `_simd`: entry ``(p * m + i) * L + t`` of the buffer
is feature i of row t of panel p, of m features. Features are padded with zeros to a multiple of four,
the side of a register block; rows that are not there are zeros of weight zero.

Means come as `high` and `low`, what the tile's type can hold of them and what is left (see
`_simd.centred`). Log weights and densities are halved: the exponential of a half is the square root
of the responsibility, which is what the outer products want, and its square is the responsibility.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from distem.kernels._simd import (
    PARTS,
    centred,
    fetch,
    fill,
    fill_like,
    fma,
    four_columns,
    inner,
    lanes_of,
    larger,
    load,
    load_like,
    merged,
    narrow,
    root,
    smaller,
    spread,
    spread_like,
    store,
    where_less,
    wide,
    zero_part,
    zero_register,
)
from distem.kernels._simd_math import exp, log
from distem.kernels._simd_sums import total
from distem.types import Float64, Floats


@inner
def padded(m: int) -> int:
    """Return the least multiple of four that holds m."""
    return (m + 3) // 4 * 4


@inner
def buffer(size: int, like: Floats) -> Floats:
    """Return zeros of a type that start on a cache line."""
    spare = 64 // like.itemsize
    memory = np.zeros(size + spare, like.dtype)
    start = (-memory.ctypes.data % 64) // like.itemsize
    return memory[start : start + size]


@inner
def load_tile(x: Floats, start: int, tile: Floats, stride: int, panels: int) -> None:
    """Transpose rows of `x` from `start` into a tile of `stride` features."""
    n, d = x.shape
    flat = x.reshape(x.size)
    lanes = lanes_of(tile)
    few = lanes // 4
    for p in range(panels):
        for t in range(0, lanes, few):
            row = start + p * lanes + t
            at = p * stride * lanes + t
            for i in range(0, d, 4):
                if (row + few - 1) * d + i + 4 <= flat.size:
                    # the last columns may belong to the next row: those are not stored
                    columns = four_columns(flat, row * d + i, d, tile)
                    store(tile, at + i * lanes, columns[0])
                    if i + 1 < d:
                        store(tile, at + (i + 1) * lanes, columns[1])
                    if i + 2 < d:
                        store(tile, at + (i + 2) * lanes, columns[2])
                    if i + 3 < d:
                        store(tile, at + (i + 3) * lanes, columns[3])
                else:
                    for j in range(i, min(i + 4, d)):
                        for r in range(few):
                            there = row + r < n
                            tile[at + j * lanes + r] = x[row + r, j] if there else 0.0


@inner
def fetch_step(size: int, calls: int) -> int:
    """Return how many numbers each of so many calls of `fetch_some` asks for."""
    return size // calls + 1


@inner
def fetch_some(x: Floats, at: int, step: int) -> int:
    """Ask for a run of a flat array, to be at hand when it is loaded; return where the next one starts.

    A tile's rows come from memory only while it is transposed, and nothing is computed then. Asked for a
    little at a time from among the arithmetic on the tile before, they come meanwhile.
    """
    for line in range(at, min(at + step, x.size), 64 // x.itemsize):
        fetch(x, line)
    return at + step


@inner
def load_weights(weights: Float64, n: int, start: int, into: Float64) -> None:
    """Copy the row weights of a tile; an empty array of weights means one each."""
    for t in range(into.size):
        if start + t >= n:
            into[t] = 0.0
        elif weights.size:
            into[t] = weights[start + t]
        else:
            into[t] = 1.0


@inner
def centre_panel(tile: Floats, p: int, stride: int, high: Floats, low: Floats, at: int, into: Floats) -> None:
    """Subtract a mean from a panel."""
    lanes = lanes_of(tile)
    for i in range(stride):
        x = load(tile, (p * stride + i) * lanes)
        store(into, i * lanes, centred(x, spread(high, at + i), spread(low, at + i)))


@merged
def four_rows(
    z: Floats, packed: Floats, at: int, rows: int, t: int, zero: Any
) -> tuple[Any, Any, Any, Any, int]:
    """Return four sums over the first rows of a panel, and where the next coefficients start.

    Of the part of the panel that begins at lane `t`, as long as `zero`.
    """
    lanes = lanes_of(z)
    y0 = zero
    y1 = zero
    y2 = zero
    y3 = zero
    for i in range(rows):
        row = load_like(z, i * lanes + t, zero)
        y0 = fma(spread_like(packed, at, zero), row, y0)
        y1 = fma(spread_like(packed, at + 1, zero), row, y1)
        y2 = fma(spread_like(packed, at + 2, zero), row, y2)
        y3 = fma(spread_like(packed, at + 3, zero), row, y3)
        at += 4
    return y0, y1, y2, y3, at


@merged
def four_whitened(
    z: Floats, packed: Floats, at: int, j: int, t: int, zero: Any
) -> tuple[Any, Any, Any, Any, int]:
    """Return rows j to j + 3 of the product with a triangle, and where the next coefficients start."""
    lanes = lanes_of(z)
    y0, y1, y2, y3, at = four_rows(z, packed, at, j, t, zero)
    row = load_like(z, j * lanes + t, zero)
    y0 = fma(spread_like(packed, at, zero), row, y0)
    y1 = fma(spread_like(packed, at + 1, zero), row, y1)
    y2 = fma(spread_like(packed, at + 2, zero), row, y2)
    y3 = fma(spread_like(packed, at + 3, zero), row, y3)
    row = load_like(z, (j + 1) * lanes + t, zero)
    y1 = fma(spread_like(packed, at + 4, zero), row, y1)
    y2 = fma(spread_like(packed, at + 5, zero), row, y2)
    y3 = fma(spread_like(packed, at + 6, zero), row, y3)
    row = load_like(z, (j + 2) * lanes + t, zero)
    y2 = fma(spread_like(packed, at + 7, zero), row, y2)
    y3 = fma(spread_like(packed, at + 8, zero), row, y3)
    y3 = fma(spread_like(packed, at + 9, zero), load_like(z, (j + 3) * lanes + t, zero), y3)
    return y0, y1, y2, y3, at + 10


@inner
def squares_full(
    tile: Floats,
    panels: int,
    stride: int,
    high: Floats,
    low: Floats,
    packed: Floats,
    c: int,
    z: Floats,
    into: Floats,
    k: int,
) -> None:
    """Put squared Mahalanobis distances from component c into row c of a tile of k."""
    lanes = lanes_of(tile)
    size = stride * (stride + 1) // 2
    zero = zero_part(z)
    for p in range(panels):
        centre_panel(tile, p, stride, high, low, c * stride, z)
        to = (p * padded(k) + c) * lanes
        store(into, to, fill(z, 0.0))
        at = c * size
        for j in range(0, stride, 4):
            after = at
            for t in range(0, lanes, lanes // PARTS):
                y0, y1, y2, y3, after = four_whitened(z, packed, at, j, t, zero)
                square = load_like(into, to + t, zero)
                square = fma(y0, y0, square)
                square = fma(y1, y1, square)
                square = fma(y2, y2, square)
                square = fma(y3, y3, square)
                store(into, to + t, square)
            at = after


@inner
def whiten(
    tile: Floats,
    panels: int,
    stride: int,
    high: Floats,
    low: Floats,
    packed: Floats,
    z: Floats,
    into: Floats,
) -> None:
    """Subtract a point from all rows and multiply them by a triangle."""
    lanes = lanes_of(tile)
    zero = zero_part(z)
    for p in range(panels):
        centre_panel(tile, p, stride, high, low, 0, z)
        at = 0
        for j in range(0, stride, 4):
            after = at
            for t in range(0, lanes, lanes // PARTS):
                y0, y1, y2, y3, after = four_whitened(z, packed, at, j, t, zero)
                to = (p * stride + j) * lanes + t
                store(into, to, y0)
                store(into, to + lanes, y1)
                store(into, to + 2 * lanes, y2)
                store(into, to + 3 * lanes, y3)
            at = after


@merged
def scaled_step(square: Any, tile: Floats, row: int, high: Any, low: Any, scale: Any) -> Any:
    """Add the square of a register of one feature, centred and scaled."""
    y = centred(load_like(tile, row, square), high, low) * scale
    return fma(y, y, square)


@inner
def squares_diag(
    tile: Floats,
    panels: int,
    stride: int,
    d: int,
    high: Floats,
    low: Floats,
    scale: Floats,
    into: Floats,
    k: int,
    x: Floats,
    ahead: int,
) -> None:
    """Put squared distances from k components, each feature scaled, into a tile of k.

    Meanwhile half a tile of the flat rows `x` is asked for, from index `ahead`.
    """
    lanes = lanes_of(tile)
    few = lanes // 4  # a register at a time: see `_moments.one_feature`
    zero = zero_register(tile)
    step = fetch_step(lanes * stride // 2, k)
    for p in range(panels):  # a panel of rows stays at hand for all components
        for c in range(k):
            ahead = fetch_some(x, ahead, step)
            square0, square1, square2, square3 = zero, zero, zero, zero
            for i in range(d):
                row = (p * stride + i) * lanes
                at = c * stride + i
                mean, left = spread_like(high, at, zero), spread_like(low, at, zero)
                over = spread_like(scale, at, zero)
                square0 = scaled_step(square0, tile, row, mean, left, over)
                square1 = scaled_step(square1, tile, row + few, mean, left, over)
                square2 = scaled_step(square2, tile, row + 2 * few, mean, left, over)
                square3 = scaled_step(square3, tile, row + 3 * few, mean, left, over)
            to = (p * padded(k) + c) * lanes
            store(into, to, square0)
            store(into, to + few, square1)
            store(into, to + 2 * few, square2)
            store(into, to + 3 * few, square3)


@inner
def squares_white(
    tile: Floats,
    panels: int,
    stride: int,
    d: int,
    high: Floats,
    low: Floats,
    into: Floats,
    k: int,
    x: Floats,
    ahead: int,
) -> None:
    """Put squared distances from k centres into a tile of k; ask for rows as `squares_diag` does."""
    lanes = lanes_of(tile)
    step = fetch_step(lanes * stride // 2, (k + 3) // 4 * PARTS)
    zero = zero_part(tile)
    for p in range(panels):
        for c in range(0, k, 4):  # four at a time, or it would wait for the rows to be loaded
            at0 = c * stride
            at1 = min(c + 1, k - 1) * stride
            at2 = min(c + 2, k - 1) * stride
            at3 = min(c + 3, k - 1) * stride
            for t in range(0, lanes, lanes // PARTS):
                ahead = fetch_some(x, ahead, step)
                square0 = zero
                square1 = zero
                square2 = zero
                square3 = zero
                for i in range(d):
                    row = load_like(tile, (p * stride + i) * lanes + t, zero)
                    z = centred(row, spread_like(high, at0 + i, zero), spread_like(low, at0 + i, zero))
                    square0 = fma(z, z, square0)
                    z = centred(row, spread_like(high, at1 + i, zero), spread_like(low, at1 + i, zero))
                    square1 = fma(z, z, square1)
                    z = centred(row, spread_like(high, at2 + i, zero), spread_like(low, at2 + i, zero))
                    square2 = fma(z, z, square2)
                    z = centred(row, spread_like(high, at3 + i, zero), spread_like(low, at3 + i, zero))
                    square3 = fma(z, z, square3)
                to = (p * padded(k) + c) * lanes + t
                store(into, to, square0)
                store(into, to + lanes, square1)
                store(into, to + 2 * lanes, square2)
                store(into, to + 3 * lanes, square3)


@inner
def put_densities(
    square: Floats, panels: int, k: int, logs: Float64, cap: float, start: int, into: Float64
) -> None:
    """Write a tile's log densities to the rows from `start`."""
    lanes = lanes_of(square)
    for p in range(panels):
        first = start + p * lanes
        for t in range(min(lanes, into.shape[0] - first)):
            for c in range(k):
                q = square[(p * padded(k) + c) * lanes + t]
                into[first + t, c] = logs[c] - 0.5 * (q if q < cap else cap)


@inner
def half_joint(square: Floats, panels: int, k: int, half: Floats, cap: float, top: Floats) -> None:
    """Replace squared distances by half of the log of weight times density; put the largest in `top`."""
    lanes = lanes_of(square)
    most = fill(square, cap)
    quarter = fill(square, -0.25)
    for p in range(panels):
        largest = fill(square, -np.inf)
        for c in range(k):
            at = (p * padded(k) + c) * lanes
            joint = fma(quarter, smaller(load(square, at), most), spread(half, c))
            store(square, at, joint)
            largest = larger(largest, joint)
        store(top, p * lanes, largest)


@inner
def half_joint_scaled(
    square: Floats, panels: int, k: int, scale: Floats, half: Floats, cap: float, top: Floats, joint: Floats
) -> None:
    """Do as `half_joint` does with squares yet to be multiplied by each component's `scale`, which stay."""
    lanes = lanes_of(square)
    most = fill(square, cap)
    quarter = fill(square, -0.25)
    for p in range(panels):
        largest = fill(square, -np.inf)
        for c in range(k):
            at = (p * padded(k) + c) * lanes
            scaled = load(square, at) * spread(scale, c)
            value = fma(quarter, smaller(scaled, most), spread(half, c))
            store(joint, at, value)
            largest = larger(largest, value)
        store(top, p * lanes, largest)


@inner
def half_given(joint: Floats, panels: int, k: int, lowest: float, top: Floats) -> None:
    """Halve given log joints, minus infinity counting as `lowest`; put the largest in `top`."""
    lanes = lanes_of(joint)
    for p in range(panels):
        largest = fill(joint, -np.inf)
        for c in range(k):
            at = (p * padded(k) + c) * lanes
            halved = fill(joint, 0.5) * larger(load(joint, at), fill(joint, lowest))
            store(joint, at, halved)
            largest = larger(largest, halved)
        store(top, p * lanes, largest)


@inner
def softmax(
    joint: Floats,
    panels: int,
    k: int,
    top: Floats,
    weights: Float64,
    offset: float,
    inverse: Floats,
    roots: Floats,
    norms: Float64,
) -> float:
    """Replace half log joints by roots of shares yet to be divided, and return the log-likelihood.

    Leaves weight over sum, and its root, in `inverse` and `roots`: share times weight is the square of
    what stands in `joint` times the one, and its root what stands there times the other.
    """
    lanes = lanes_of(joint)
    likelihood = 0.0
    for p in range(panels):
        row = p * padded(k) * lanes
        largest = load(top, p * lanes)
        sums = fill(joint, 0.0)
        for c in range(k):
            share = exp(load(joint, row + c * lanes) - largest)
            store(joint, row + c * lanes, share)
            sums = fma(share, share, sums)
        weight = load_like(weights, p * lanes, sums)
        scale = narrow(weight, joint) / sums
        store(inverse, p * lanes, scale)
        store(roots, p * lanes, root(scale))
        norm = wide(largest + largest) + log(wide(sums))
        norm = norm + fill_like(norm, offset)
        store(norms, p * lanes, norm)
        likelihood += total(weight * norm)
    return likelihood


@inner
def put_shares(
    joint: Floats,
    panels: int,
    k: int,
    inverse: Floats,
    norms: Float64,
    start: int,
    log_norm: Float64,
    into: Float64,
) -> None:
    """Write a tile's log norms and shares to the rows from `start`."""
    lanes = lanes_of(joint)
    for p in range(panels):
        first = start + p * lanes
        for t in range(min(lanes, into.shape[0] - first)):
            log_norm[first + t] = norms[p * lanes + t]
            for c in range(k):
                share = joint[(p * padded(k) + c) * lanes + t]
                into[first + t, c] = share * share * inverse[p * lanes + t]


@inner
def divide_shares(joint: Floats, panels: int, k: int, inverse: Floats) -> None:
    """Replace what `softmax` left by shares times weights."""
    lanes = lanes_of(joint)
    for p in range(panels):
        for c in range(k):
            at = (p * padded(k) + c) * lanes
            share = load(joint, at)
            store(joint, at, share * share * load(inverse, p * lanes))


@inner
def nearest_of(squares: Floats, panels: int, k: int, label: Floats, distance: Floats) -> None:
    """Put where each row's least of k squares stands, as a float, and the least."""
    lanes = lanes_of(squares)
    for p in range(panels):
        best = fill(squares, np.inf)
        which = fill(squares, 0.0)
        for c in range(k):
            square = load(squares, (p * padded(k) + c) * lanes)
            which = where_less(square, best, fill(squares, float(c)), which)
            best = where_less(square, best, square, best)
        store(label, p * lanes, which)
        store(distance, p * lanes, best)
