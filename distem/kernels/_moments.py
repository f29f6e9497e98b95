"""What the compiled kernels add up over one tile of rows: see `_tiles` for how a tile lies."""

from __future__ import annotations

from typing import Any

import numpy as np

from distem.kernels._blocks import (
    add_half_squares,
    block_first,
    block_in_halves,
    block_lower,
    block_outer,
    half_first,
)
from distem.kernels._simd import (
    NARROW,
    PARTS,
    centred,
    fill,
    fma,
    inner,
    lanes_of,
    load,
    load_like,
    merged,
    root,
    spread_like,
    store,
    where_less,
    zero_part,
    zero_register,
)
from distem.kernels._simd_sums import (
    add_totals,
    add_two_totals,
    eight,
    four_means,
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
    lanes = lanes_of(joint)
    mass = fill(joint, 0.0)
    few = zero_register(joint)
    for p in range(panels):
        row = (p * (padded(k) - 1) + c) * lanes
        for t in range(p * lanes, (p + 1) * lanes, lanes // 4):
            share = load_like(joint, row + t, few)
            store(r, t, share * share * load_like(inverse, t, few))
            store(s, t, share * load_like(roots, t, few))
        mass = mass + load(r, p * lanes)
    result: float = total(mass)
    return result


@inner
def given_shares(resp: Floats, panels: int, k: int, c: int, r: Floats, s: Floats) -> float:
    """Do as `shares_of` does from a tile of k responsibilities."""
    lanes = lanes_of(resp)
    mass = fill(resp, 0.0)
    for p in range(panels):
        weighted = load(resp, (p * padded(k) + c) * lanes)
        store(r, p * lanes, weighted)
        store(s, p * lanes, root(weighted))
        mass = mass + weighted
    result: float = total(mass)
    return result


@merged
def rooted_step(
    sums: Any, tile: Floats, row: int, high: Any, low: Any, r: Floats, s: Floats, t: int, into: Floats
) -> Any:
    """Put a register of one feature, centred and times `s`, into a tile; add it times `r` to `sums`."""
    z = centred(load_like(tile, row, sums), high, low)
    store(into, row, load_like(s, t, sums) * z)
    return fma(load_like(r, t, sums), z, sums)


@merged
def one_feature(
    tile: Floats,
    panels: int,
    stride: int,
    high: Floats,
    low: Floats,
    at: int,
    i: int,
    r: Floats,
    s: Floats,
    into: Floats,
) -> Any:
    """Do `rooted_step` for one feature of all rows, and return the sums, four registers made one.

    A register at a time, or a machine of few would keep some of the sums in memory.
    """
    lanes = lanes_of(tile)
    few = lanes // 4
    sums0 = zero_register(tile)
    sums1, sums2, sums3 = sums0, sums0, sums0
    mean, left = spread_like(high, at, sums0), spread_like(low, at, sums0)
    for p in range(panels):
        t = p * lanes
        row = (p * stride + i) * lanes
        sums0 = rooted_step(sums0, tile, row, mean, left, r, s, t, into)
        sums1 = rooted_step(sums1, tile, row + few, mean, left, r, s, t + few, into)
        sums2 = rooted_step(sums2, tile, row + 2 * few, mean, left, r, s, t + 2 * few, into)
        sums3 = rooted_step(sums3, tile, row + 3 * few, mean, left, r, s, t + 3 * few, into)
    return (sums0 + sums2) + (sums1 + sums3)


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
    for i in range(0, d, 2):  # their sums are added up together
        at = c * stride + i
        one = one_feature(tile, panels, stride, high, low, at, i, r, s, into)
        other = one_feature(tile, panels, stride, high, low, at + 1, i + 1, r, s, into)
        add_two_totals(first, at, (one, other))


@inner
def add_masses(shares: Floats, panels: int, k: int, here: Float64, mass: Float64) -> None:
    """Put the sums of a tile's shares in `here`, and add them to `mass`."""
    lanes = lanes_of(shares)
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
    lanes = lanes_of(tile)
    half = lanes // 8
    step = fetch_step(panels * lanes * stride // 2, stride // 4 * ((k + 1) // 2))
    to = 0
    for i in range(0, stride, 4):
        for c in range(0, k, 2):
            ahead = fetch_some(x, ahead, step)
            other = min(c + 1, k - 1)
            if here[c] != 0.0 or here[other] != 0.0:
                if NARROW:
                    low_half = half_first(tile, panels, stride, high, low, shares, k, i, c, other, 0)
                    high_half = half_first(tile, panels, stride, high, low, shares, k, i, c, other, half)
                    add_totals(blocks, to, eight(low_half, high_half))
                else:
                    whole = block_first(tile, panels, stride, high, low, shares, k, i, c, other)
                    add_totals(blocks, to, whole)
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
    lanes = lanes_of(tile)
    nothing = zero_register(tile)
    none = (nothing, nothing, nothing, nothing)
    zeros = none + none + none + none
    step = fetch_step(panels * lanes * stride // 2, stride // 4 * ((k + 1) // 2))
    to = 0
    for i in range(0, stride, 4):
        for c in range(0, k, 2):
            ahead = fetch_some(x, ahead, step)
            other = min(c + 1, k - 1)
            if NARROW and (here[c] != 0.0 or here[other] != 0.0):
                add_half_squares(tile, panels, stride, high, low, shares, k, i, c, other, blocks, to)
            elif here[c] != 0.0 or here[other] != 0.0:
                sums = zeros
                highs = four_means(high, c * stride + i, other * stride + i, sums)
                lows = four_means(low, c * stride + i, other * stride + i, sums)
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
    lanes = lanes_of(shares)
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
    at = start
    for i in range(0, stride, 4):
        for j in range(0, i, 4):
            if NARROW:
                block_in_halves(rooted, panels, stride, i, j, second, at)
            else:
                block_outer(rooted, panels, stride, i, j, second, at)
            at += 16
        if NARROW:
            block_in_halves(rooted, panels, stride, i, i, second, at)
        else:
            block_lower(rooted, panels, stride, i, second, at)
        at += 16


@inner
def row_sums(shares: Floats, panels: int, k: int, inverse: Floats, roots: Floats) -> None:
    """Put one over the sum of each row's k shares, and the root of the sum; 0 and 0 where it is 0."""
    lanes = lanes_of(shares)
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
    lanes = lanes_of(tile)
    zero = zero_part(z)
    for p in range(panels):
        centre_panel(tile, p, stride, high, low, 0, z)
        at = 0
        for j in range(0, stride, 4):
            after = at
            for t in range(0, lanes, lanes // PARTS):
                m0, m1, m2, m3, after = four_rows(shares[p * padded(k) * lanes :], packed, at, k, t, zero)
                scale = load_like(inverse, p * lanes + t, zero)
                weight = load_like(roots, p * lanes + t, zero)
                to = (p * stride + j) * lanes + t
                row = j * lanes + t
                store(into, to, (load_like(z, row, zero) - m0 * scale) * weight)
                store(into, to + lanes, (load_like(z, row + lanes, zero) - m1 * scale) * weight)
                store(into, to + 2 * lanes, (load_like(z, row + 2 * lanes, zero) - m2 * scale) * weight)
                store(into, to + 3 * lanes, (load_like(z, row + 3 * lanes, zero) - m3 * scale) * weight)
            at = after


@inner
def root_pairs(shares: Floats, panels: int, k: int, inverse: Floats, roots: Floats) -> None:
    """Divide each row's shares by the root of their sum."""
    lanes = lanes_of(shares)
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
