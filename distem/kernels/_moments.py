"""What the compiled kernels add up over one tile of rows: see `_tiles` for how a tile lies."""

from __future__ import annotations

import numpy as np

from distem.kernels._simd import (
    BYTES,
    centred,
    fill,
    fma,
    inner,
    load,
    root,
    spread,
    store,
    where_less,
    zero_register,
)
from distem.kernels._simd_sums import (
    add_row_totals,
    add_totals,
    first_step,
    four_means,
    outer,
    outer_lower,
    squares_step,
    total,
)
from distem.kernels._tiles import centre_panel, fetch_some, fetch_step, four_rows, padded
from distem.types import Float64, Floats


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
def first_blocks(stride: int, k: int) -> Float64:
    """Return zeros for `add_first`: a block of eight for two components by four features."""
    return np.zeros(stride // 4 * ((k + 1) // 2) * 8)


@inner
def add_first(
    tile: Floats,
    panels: int,
    stride: int,
    high: Floats,
    low: Floats,
    shares: Floats,
    k: int,
    here: Float64,
    blocks: Float64,
    x: Floats,
    ahead: int,
) -> None:
    """Add the first moments of the components that have a share of the tile to their blocks.

    Four features at a time stay in the first-level cache while all components are done, two by two;
    the last of an odd number is paired with itself. Meanwhile half a tile of the flat rows `x` is asked
    for, from index `ahead`.
    """
    lanes = BYTES // tile.itemsize
    nothing = zero_register(tile)
    none = (nothing, nothing, nothing, nothing)
    zeros = none + none
    step = fetch_step(panels * lanes * stride // 2, stride // 4 * ((k + 1) // 2))
    to = 0
    for i in range(0, stride, 4):
        for c in range(0, k, 2):
            ahead = fetch_some(x, ahead, step)
            other = min(c + 1, k - 1)
            if here[c] != 0.0 or here[other] != 0.0:
                sums = zeros
                highs = four_means(high, c * stride + i, other * stride + i)
                lows = four_means(low, c * stride + i, other * stride + i)
                for p in range(panels):
                    one_at = (p * padded(k) + c) * lanes
                    other_at = (p * padded(k) + other) * lanes
                    at = (p * stride + i) * lanes
                    for t in range(0, lanes, lanes // 4):
                        sums = first_step(
                            sums, shares, one_at + t, other_at + t, tile, at + t, lanes,
                            highs, lows,
                        )  # fmt: skip
                add_totals(blocks, to, sums)
            to += 8


@inner
def squares_blocks(stride: int, k: int) -> Float64:
    """Return zeros for `add_first_and_squares`: a block of sixteen for two components by four features."""
    return np.zeros(stride // 4 * ((k + 1) // 2) * 16)


@inner
def add_first_and_squares(
    tile: Floats,
    panels: int,
    stride: int,
    high: Floats,
    low: Floats,
    shares: Floats,
    k: int,
    here: Float64,
    blocks: Float64,
    x: Floats,
    ahead: int,
) -> None:
    """Do as `add_first` does with the second moments, feature by feature, in blocks twice as long."""
    lanes = BYTES // tile.itemsize
    nothing = zero_register(tile)
    none = (nothing, nothing, nothing, nothing)
    zeros = none + none + none + none
    step = fetch_step(panels * lanes * stride // 2, stride // 4 * ((k + 1) // 2))
    to = 0
    for i in range(0, stride, 4):
        for c in range(0, k, 2):
            ahead = fetch_some(x, ahead, step)
            other = min(c + 1, k - 1)
            if here[c] != 0.0 or here[other] != 0.0:
                sums = zeros
                highs = four_means(high, c * stride + i, other * stride + i)
                lows = four_means(low, c * stride + i, other * stride + i)
                for p in range(panels):
                    one_at = (p * padded(k) + c) * lanes
                    other_at = (p * padded(k) + other) * lanes
                    at = (p * stride + i) * lanes
                    for t in range(0, lanes, lanes // 4):
                        sums = squares_step(
                            sums, shares, one_at + t, other_at + t, tile, at + t, lanes,
                            highs, lows,
                        )  # fmt: skip
                add_totals(blocks, to, sums)
            to += 16


@inner
def add_square_shares(shares: Floats, squares: Floats, panels: int, k: int, second: Float64) -> None:
    """Add the second moments summed over the features: shares times squared distances."""
    lanes = BYTES // shares.itemsize
    zero = fill(shares, 0.0)
    for c in range(k):
        sums = zero
        for p in range(panels):
            at = (p * padded(k) + c) * lanes
            share = load(shares, at)
            # a row too far away for its square has no share: not 0 times infinity
            sums = sums + where_less(zero, share, share * load(squares, at), zero)
        second[c] += total(sums)


@inner
def from_blocks(blocks: Float64, stride: int, k: int, moment: int, moments: int) -> Float64:
    """Return one of the moments that blocks hold, component by component."""
    result = np.empty(k * stride)
    pairs = (k + 1) // 2
    for c in range(k):
        for i in range(stride):
            block = i // 4 * pairs + c // 2
            result[c * stride + i] = blocks[((block * 2 + c % 2) * moments + moment) * 4 + i % 4]
    return result


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
def packed_size(stride: int) -> int:
    """Return how many numbers `add_outer` keeps: sixteen for each block of the lower triangle."""
    blocks = stride // 4
    return blocks * (blocks + 1) * 8


@inner
def add_blended(
    tile: Floats,
    panels: int,
    stride: int,
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
    blocks: Float64,
    second: Float64,
    pairs: Float64,
    x: Floats,
    ahead: int,
) -> None:
    """Add a tile's moments where the second is summed over the components.

    With s the sum of a row's shares r and m the blend of the means they make,
    ``sum_c r_c (x-mu_c)(x-mu_c)'`` is ``s (x-m)(x-m)'`` plus ``r_b r_c / s`` times the outer product
    of ``mu_b - mu_c`` over the pairs: one outer product of d features and one of k shares, where the
    direct way takes k of d features. No term is negative, so nothing cancels.
    """
    add_masses(shares, panels, k, here, mass)
    add_first(tile, panels, stride, high, low, shares, k, here, blocks, x, ahead)
    row_sums(shares, panels, k, inverse, roots)
    rooted_about_blend(
        tile, panels, stride, point, point_low, shares, k, blend, inverse, roots, z, rooted
    )  # fmt: skip
    add_outer(rooted, panels, stride, second, 0)
    root_pairs(shares, panels, k, inverse, roots)
    add_outer(shares, panels, padded(k), pairs, 0)
