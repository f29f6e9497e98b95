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
    BYTES,
    add_row_totals,
    add_totals,
    centred,
    exp,
    fill,
    fill_like,
    fma,
    four_columns,
    inner,
    larger,
    load,
    load_like,
    log,
    merged,
    narrow,
    outer,
    outer_lower,
    root,
    smaller,
    spread,
    store,
    total,
    where_less,
    wide,
    zero_register,
)
from distem.types import Float64, Floats

FEW = 8
"""Features of a tile that stay in the first-level cache while all components are done."""


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
    lanes = BYTES // tile.itemsize
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
    lanes = BYTES // tile.itemsize
    for i in range(stride):
        x = load(tile, (p * stride + i) * lanes)
        store(into, i * lanes, centred(x, spread(high, at + i), spread(low, at + i)))


@merged
def four_rows(z: Floats, packed: Floats, at: int, rows: int) -> tuple[Any, Any, Any, Any, int]:
    """Return four sums over the first rows of a panel, and where the next coefficients start."""
    lanes = BYTES // z.itemsize
    y0 = fill(z, 0.0)
    y1 = y0
    y2 = y0
    y3 = y0
    for i in range(rows):
        row = load(z, i * lanes)
        y0 = fma(spread(packed, at), row, y0)
        y1 = fma(spread(packed, at + 1), row, y1)
        y2 = fma(spread(packed, at + 2), row, y2)
        y3 = fma(spread(packed, at + 3), row, y3)
        at += 4
    return y0, y1, y2, y3, at


@merged
def four_whitened(z: Floats, packed: Floats, at: int, j: int) -> tuple[Any, Any, Any, Any, int]:
    """Return rows j to j + 3 of the product with a triangle, and where the next coefficients start."""
    lanes = BYTES // z.itemsize
    y0, y1, y2, y3, at = four_rows(z, packed, at, j)
    row = load(z, j * lanes)
    y0 = fma(spread(packed, at), row, y0)
    y1 = fma(spread(packed, at + 1), row, y1)
    y2 = fma(spread(packed, at + 2), row, y2)
    y3 = fma(spread(packed, at + 3), row, y3)
    row = load(z, (j + 1) * lanes)
    y1 = fma(spread(packed, at + 4), row, y1)
    y2 = fma(spread(packed, at + 5), row, y2)
    y3 = fma(spread(packed, at + 6), row, y3)
    row = load(z, (j + 2) * lanes)
    y2 = fma(spread(packed, at + 7), row, y2)
    y3 = fma(spread(packed, at + 8), row, y3)
    y3 = fma(spread(packed, at + 9), load(z, (j + 3) * lanes), y3)
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
    lanes = BYTES // tile.itemsize
    size = stride * (stride + 1) // 2
    for p in range(panels):
        centre_panel(tile, p, stride, high, low, c * stride, z)
        square = fill(z, 0.0)
        at = c * size
        for j in range(0, stride, 4):
            y0, y1, y2, y3, at = four_whitened(z, packed, at, j)
            square = fma(y0, y0, square)
            square = fma(y1, y1, square)
            square = fma(y2, y2, square)
            square = fma(y3, y3, square)
        store(into, (p * padded(k) + c) * lanes, square)


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
    lanes = BYTES // tile.itemsize
    for p in range(panels):
        centre_panel(tile, p, stride, high, low, 0, z)
        at = 0
        for j in range(0, stride, 4):
            y0, y1, y2, y3, at = four_whitened(z, packed, at, j)
            to = (p * stride + j) * lanes
            store(into, to, y0)
            store(into, to + lanes, y1)
            store(into, to + 2 * lanes, y2)
            store(into, to + 3 * lanes, y3)


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
) -> None:
    """Put squared distances from k components, each feature scaled, into a tile of k."""
    lanes = BYTES // tile.itemsize
    for p in range(panels):  # a panel of rows stays at hand for all components
        for c in range(k):
            square = fill(tile, 0.0)
            for i in range(d):
                at = c * stride + i
                x = load(tile, (p * stride + i) * lanes)
                y = centred(x, spread(high, at), spread(low, at)) * spread(scale, at)
                square = fma(y, y, square)
            store(into, (p * padded(k) + c) * lanes, square)


@inner
def squares_white(
    tile: Floats, panels: int, stride: int, d: int, high: Floats, low: Floats, into: Floats, k: int
) -> None:
    """Put squared distances from k centres into a tile of k."""
    lanes = BYTES // tile.itemsize
    for p in range(panels):
        for c in range(0, k, 2):  # two at a time, or it would wait for the rows to be loaded
            other = min(c + 1, k - 1)
            square0 = fill(tile, 0.0)
            square1 = fill(tile, 0.0)
            for i in range(d):
                x = load(tile, (p * stride + i) * lanes)
                at = c * stride + i
                z = centred(x, spread(high, at), spread(low, at))
                square0 = fma(z, z, square0)
                at = other * stride + i
                z = centred(x, spread(high, at), spread(low, at))
                square1 = fma(z, z, square1)
            store(into, (p * padded(k) + c) * lanes, square0)
            store(into, (p * padded(k) + other) * lanes, square1)


@inner
def put_densities(
    square: Floats, panels: int, k: int, logs: Float64, cap: float, start: int, into: Float64
) -> None:
    """Write a tile's log densities to the rows from `start`."""
    lanes = BYTES // square.itemsize
    for p in range(panels):
        first = start + p * lanes
        for t in range(min(lanes, into.shape[0] - first)):
            for c in range(k):
                q = square[(p * padded(k) + c) * lanes + t]
                into[first + t, c] = logs[c] - 0.5 * (q if q < cap else cap)


@inner
def half_joint(square: Floats, panels: int, k: int, half: Floats, cap: float, top: Floats) -> None:
    """Replace squared distances by half of the log of weight times density; put the largest in `top`."""
    lanes = BYTES // square.itemsize
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
def half_given(joint: Floats, panels: int, k: int, lowest: float, top: Floats) -> None:
    """Halve given log joints, minus infinity counting as `lowest`; put the largest in `top`."""
    lanes = BYTES // joint.itemsize
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
    lanes = BYTES // joint.itemsize
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
    lanes = BYTES // joint.itemsize
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
    lanes = BYTES // joint.itemsize
    for p in range(panels):
        for c in range(k):
            at = (p * padded(k) + c) * lanes
            share = load(joint, at)
            store(joint, at, share * share * load(inverse, p * lanes))


@inner
def shares_of(
    joint: Floats, panels: int, k: int, c: int, inverse: Floats, roots: Floats, r: Floats, s: Floats
) -> float:
    """Put a component's shares times weights, and their roots, in `r` and `s`; return their sum."""
    lanes = BYTES // joint.itemsize
    mass = fill(joint, 0.0)
    for p in range(panels):
        share = load(joint, (p * padded(k) + c) * lanes)
        weighted = share * share * load(inverse, p * lanes)
        store(r, p * lanes, weighted)
        store(s, p * lanes, share * load(roots, p * lanes))
        mass = mass + weighted
    result: float = total(mass)
    return result


@inner
def given_shares(resp: Floats, panels: int, k: int, c: int, r: Floats, s: Floats) -> float:
    """Do as `shares_of` does from a tile of k responsibilities."""
    lanes = BYTES // resp.itemsize
    mass = fill(resp, 0.0)
    for p in range(panels):
        weighted = load(resp, (p * padded(k) + c) * lanes)
        store(r, p * lanes, weighted)
        store(s, p * lanes, root(weighted))
        mass = mass + weighted
    result: float = total(mass)
    return result


@inner
def first_and_rooted(
    tile: Floats,
    panels: int,
    stride: int,
    d: int,
    high: Floats,
    low: Floats,
    c: int,
    r: Floats,
    s: Floats,
    into: Floats,
    first: Float64,
) -> None:
    """Put the centred rows times `s` into a tile, and add the centred rows times `r` to `first`."""
    lanes = BYTES // tile.itemsize
    for i in range(0, d, 2):  # two at a time: their sums are added up together
        at = c * stride + i
        sums0 = fill(tile, 0.0)
        sums1 = fill(tile, 0.0)
        for p in range(panels):
            share = load(r, p * lanes)
            rooted = load(s, p * lanes)
            row = (p * stride + i) * lanes
            z = centred(load(tile, row), spread(high, at), spread(low, at))
            store(into, row, rooted * z)
            sums0 = fma(share, z, sums0)
            row += lanes
            z = centred(load(tile, row), spread(high, at + 1), spread(low, at + 1))
            store(into, row, rooted * z)
            sums1 = fma(share, z, sums1)
        add_row_totals(first, at, (sums0, sums1))


@inner
def add_masses(shares: Floats, panels: int, k: int, here: Float64, mass: Float64) -> None:
    """Put the sums of a tile's shares in `here`, and add them to `mass`."""
    lanes = BYTES // shares.itemsize
    for c in range(k):
        sums = fill(shares, 0.0)
        for p in range(panels):
            sums = sums + load(shares, (p * padded(k) + c) * lanes)
        here[c] = total(sums)
        mass[c] += here[c]


@inner
def add_first(
    tile: Floats,
    panels: int,
    stride: int,
    d: int,
    high: Floats,
    low: Floats,
    shares: Floats,
    k: int,
    here: Float64,
    first: Float64,
) -> None:
    """Add the first moments of the components that have a share of the tile."""
    lanes = BYTES // tile.itemsize
    for begin in range(0, d, FEW):
        for c in range(k):
            if here[c] != 0.0:
                for i in range(begin, min(begin + FEW, d), 2):  # two: their sums are added up together
                    at = c * stride + i
                    sums0 = fill(tile, 0.0)
                    sums1 = fill(tile, 0.0)
                    for p in range(panels):
                        share = load(shares, (p * padded(k) + c) * lanes)
                        row = (p * stride + i) * lanes
                        z = centred(load(tile, row), spread(high, at), spread(low, at))
                        sums0 = fma(share, z, sums0)
                        z = centred(load(tile, row + lanes), spread(high, at + 1), spread(low, at + 1))
                        sums1 = fma(share, z, sums1)
                    add_row_totals(first, at, (sums0, sums1))


@inner
def add_first_and_squares(
    tile: Floats,
    panels: int,
    stride: int,
    d: int,
    high: Floats,
    low: Floats,
    shares: Floats,
    k: int,
    here: Float64,
    first: Float64,
    second: Float64,
) -> None:
    """Do as `add_first` does, and add the second moments, feature by feature."""
    lanes = BYTES // tile.itemsize
    for begin in range(0, d, FEW):
        for c in range(k):
            if here[c] != 0.0:
                for i in range(begin, min(begin + FEW, d), 2):
                    at = c * stride + i
                    sums0 = fill(tile, 0.0)
                    sums1 = fill(tile, 0.0)
                    squares0 = fill(tile, 0.0)
                    squares1 = fill(tile, 0.0)
                    for p in range(panels):
                        share = load(shares, (p * padded(k) + c) * lanes)
                        row = (p * stride + i) * lanes
                        z = centred(load(tile, row), spread(high, at), spread(low, at))
                        weighted = share * z
                        sums0 = sums0 + weighted
                        squares0 = fma(weighted, z, squares0)
                        z = centred(load(tile, row + lanes), spread(high, at + 1), spread(low, at + 1))
                        weighted = share * z
                        sums1 = sums1 + weighted
                        squares1 = fma(weighted, z, squares1)
                    add_row_totals(first, at, (sums0, sums1))
                    add_row_totals(second, at, (squares0, squares1))


@inner
def add_outer(rooted: Floats, panels: int, stride: int, second: Float64, start: int) -> None:
    """Add the outer products of a tile's rows to the packed lower triangle at `start`.

    Blocks of four features by four, row by row of blocks; of the blocks on the diagonal the part
    above it is not used.
    """
    lanes = BYTES // rooted.itemsize
    nothing = zero_register(rooted)
    none = (nothing, nothing, nothing, nothing)
    zeros = none + none + none + none
    at = start
    for i in range(0, stride, 4):
        for j in range(0, i, 4):
            sums = zeros
            for p in range(panels):
                left = (p * stride + i) * lanes
                right = (p * stride + j) * lanes
                for t in range(0, lanes, lanes // 4):
                    sums = outer(sums, rooted, left + t, right + t, lanes)
            add_totals(second, at, sums)
            at += 16
        sums = zeros
        for p in range(panels):
            left = (p * stride + i) * lanes
            for t in range(0, lanes, lanes // 4):
                sums = outer_lower(sums, rooted, left + t, left + t, lanes)
        add_totals(second, at, sums)
        at += 16


@inner
def row_sums(shares: Floats, panels: int, k: int, inverse: Floats, roots: Floats) -> None:
    """Put one over the sum of each row's k shares, and the root of the sum; 0 and 0 where it is 0."""
    lanes = BYTES // shares.itemsize
    zero = fill(shares, 0.0)
    tiny = fill(shares, 1e-300 if shares.itemsize == 8 else 1e-36)  # below it one over it may overflow
    for p in range(panels):
        sums = zero
        for c in range(k):
            sums = sums + load(shares, (p * padded(k) + c) * lanes)
        store(inverse, p * lanes, where_less(tiny, sums, fill(shares, 1.0) / sums, zero))
        store(roots, p * lanes, root(sums))


@inner
def rooted_about_blend(
    tile: Floats,
    panels: int,
    stride: int,
    high: Floats,
    low: Floats,
    shares: Floats,
    k: int,
    packed: Floats,
    inverse: Floats,
    roots: Floats,
    z: Floats,
    into: Floats,
) -> None:
    """Put the rows' differences from the blend of means their shares make, times `roots`, into a tile."""
    lanes = BYTES // tile.itemsize
    for p in range(panels):
        centre_panel(tile, p, stride, high, low, 0, z)
        scale = load(inverse, p * lanes)
        weight = load(roots, p * lanes)
        at = 0
        for j in range(0, stride, 4):
            m0, m1, m2, m3, at = four_rows(shares[p * padded(k) * lanes :], packed, at, k)
            to = (p * stride + j) * lanes
            store(into, to, (load(z, j * lanes) - m0 * scale) * weight)
            store(into, to + lanes, (load(z, (j + 1) * lanes) - m1 * scale) * weight)
            store(into, to + 2 * lanes, (load(z, (j + 2) * lanes) - m2 * scale) * weight)
            store(into, to + 3 * lanes, (load(z, (j + 3) * lanes) - m3 * scale) * weight)


@inner
def root_pairs(shares: Floats, panels: int, k: int, inverse: Floats, roots: Floats) -> None:
    """Divide each row's shares by the root of their sum."""
    lanes = BYTES // shares.itemsize
    for p in range(panels):
        scale = load(inverse, p * lanes) * load(roots, p * lanes)
        for c in range(k):
            at = (p * padded(k) + c) * lanes
            store(shares, at, load(shares, at) * scale)


@inner
def nearest_of(squares: Floats, panels: int, k: int, label: Floats, distance: Floats) -> None:
    """Put where each row's least of k squares stands, as a float, and the least."""
    lanes = BYTES // squares.itemsize
    for p in range(panels):
        best = fill(squares, np.inf)
        which = fill(squares, 0.0)
        for c in range(k):
            square = load(squares, (p * padded(k) + c) * lanes)
            which = where_less(square, best, fill(squares, float(c)), which)
            best = where_less(square, best, square, best)
        store(label, p * lanes, which)
        store(distance, p * lanes, best)


@inner
def packed_size(stride: int) -> int:
    """Return how many numbers `add_outer` keeps: sixteen for each block of the lower triangle."""
    blocks = stride // 4
    return blocks * (blocks + 1) * 8


@inner
def add_blended(
    tile: Floats,
    panels: int,
    stride: int,
    d: int,
    high: Floats,
    low: Floats,
    point: Floats,
    point_low: Floats,
    blend: Floats,
    shares: Floats,
    k: int,
    inverse: Floats,
    roots: Floats,
    z: Floats,
    rooted: Floats,
    here: Float64,
    mass: Float64,
    first: Float64,
    second: Float64,
    pairs: Float64,
) -> None:
    """Add a tile's moments where the second is summed over the components.

    With s the sum of a row's shares r and m the blend of the means they make,
    ``sum_c r_c (x-mu_c)(x-mu_c)'`` is ``s (x-m)(x-m)'`` plus ``r_b r_c / s`` times the outer product
    of ``mu_b - mu_c`` over the pairs: one outer product of d features and one of k shares, where the
    direct way takes k of d features. No term is negative, so nothing cancels.
    """
    add_masses(shares, panels, k, here, mass)
    add_first(tile, panels, stride, d, high, low, shares, k, here, first)
    row_sums(shares, panels, k, inverse, roots)
    rooted_about_blend(
        tile, panels, stride, point, point_low, shares, k, blend, inverse, roots, z, rooted
    )  # fmt: skip
    add_outer(rooted, panels, stride, second, 0)
    root_pairs(shares, panels, k, inverse, roots)
    add_outer(shares, panels, padded(k), pairs, 0)
