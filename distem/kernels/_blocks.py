"""Blocks of sums over a tile: in whole registers, and in halves of them for machines that have few.

Both ways add up the same numbers in the same order, lane by lane: see `_simd.NARROW`.
"""

from __future__ import annotations

from typing import Any

from distem.kernels._simd import inner, lanes_of, merged, zero_register
from distem.kernels._simd_sums import (
    add_totals,
    eight,
    first_step,
    four_means,
    outer,
    outer_lower,
    outer_two,
    sixteen,
    squares_step_of_one,
    zero_halves,
)
from distem.kernels._tiles import padded
from distem.types import Float64, Floats


@merged
def half_first(
    tile: Floats,
    panels: int,
    stride: int,
    high: Floats,
    low: Floats,
    shares: Floats,
    k: int,
    i: int,
    c: int,
    other: int,
    half: int,
) -> Any:
    """Return the first moments of two components by four features, over one half of every register."""
    lanes = lanes_of(tile)
    sums = zero_halves(tile)
    highs = four_means(high, c * stride + i, other * stride + i, sums)
    lows = four_means(low, c * stride + i, other * stride + i, sums)
    for p in range(panels):
        one_at = (p * padded(k) + c) * lanes + half
        other_at = (p * padded(k) + other) * lanes + half
        at = (p * stride + i) * lanes + half
        for t in range(0, lanes, lanes // 4):
            sums = first_step(sums, shares, one_at + t, other_at + t, tile, at + t, lanes, highs, lows)
    return sums


@merged
def block_first(
    tile: Floats,
    panels: int,
    stride: int,
    high: Floats,
    low: Floats,
    shares: Floats,
    k: int,
    i: int,
    c: int,
    other: int,
) -> Any:
    """Do as `half_first` does for whole registers."""
    lanes = lanes_of(tile)
    nothing = zero_register(tile)
    none = (nothing, nothing, nothing, nothing)
    sums = none + none
    highs = four_means(high, c * stride + i, other * stride + i, sums)
    lows = four_means(low, c * stride + i, other * stride + i, sums)
    for p in range(panels):
        one_at = (p * padded(k) + c) * lanes
        other_at = (p * padded(k) + other) * lanes
        at = (p * stride + i) * lanes
        for t in range(0, lanes, lanes // 4):
            sums = first_step(sums, shares, one_at + t, other_at + t, tile, at + t, lanes, highs, lows)
    return sums


@merged
def half_squares(
    tile: Floats,
    panels: int,
    stride: int,
    high: Floats,
    low: Floats,
    shares: Floats,
    k: int,
    i: int,
    c: int,
    half: int,
) -> Any:
    """Return first and second moments of one component by four features, over half of every register."""
    lanes = lanes_of(tile)
    sums = zero_halves(tile)
    highs = four_means(high, c * stride + i, c * stride + i, sums)
    lows = four_means(low, c * stride + i, c * stride + i, sums)
    for p in range(panels):
        one_at = (p * padded(k) + c) * lanes + half
        at = (p * stride + i) * lanes + half
        for t in range(0, lanes, lanes // 4):
            sums = squares_step_of_one(sums, shares, one_at + t, one_at + t, tile, at + t, lanes, highs, lows)
    return sums


@inner
def add_half_squares(
    tile: Floats,
    panels: int,
    stride: int,
    high: Floats,
    low: Floats,
    shares: Floats,
    k: int,
    i: int,
    c: int,
    other: int,
    blocks: Float64,
    to: int,
) -> None:
    """Add first and second moments of two components by four features, no more than eight sums at once."""
    half = lanes_of(tile) // 8
    low_one = half_squares(tile, panels, stride, high, low, shares, k, i, c, 0)
    high_one = half_squares(tile, panels, stride, high, low, shares, k, i, c, half)
    low_other = half_squares(tile, panels, stride, high, low, shares, k, i, other, 0)
    high_other = half_squares(tile, panels, stride, high, low, shares, k, i, other, half)
    add_totals(blocks, to, eight(low_one, high_one) + eight(low_other, high_other))


@inner
def block_outer(rooted: Floats, panels: int, stride: int, i: int, j: int, second: Float64, at: int) -> None:
    """Add the outer products of features i to i + 3 with j to j + 3 to the sixteen numbers at `at`."""
    lanes = lanes_of(rooted)
    nothing = zero_register(rooted)
    none = (nothing, nothing, nothing, nothing)
    sums = none + none + none + none
    for p in range(panels):
        left = (p * stride + i) * lanes
        right = (p * stride + j) * lanes
        for t in range(0, lanes, lanes // 4):
            sums = outer(sums, rooted, left + t, right + t, lanes)
    add_totals(second, at, sums)


@inner
def block_lower(rooted: Floats, panels: int, stride: int, i: int, second: Float64, at: int) -> None:
    """Do as `block_outer` does for a block on the diagonal: the part above it is not used."""
    lanes = lanes_of(rooted)
    nothing = zero_register(rooted)
    none = (nothing, nothing, nothing, nothing)
    sums = none + none + none + none
    for p in range(panels):
        left = (p * stride + i) * lanes
        for t in range(0, lanes, lanes // 4):
            sums = outer_lower(sums, rooted, left + t, left + t, lanes)
    add_totals(second, at, sums)


@merged
def half_outer(rooted: Floats, panels: int, stride: int, i: int, j: int, half: int) -> Any:
    """Return the eight sums of four features with two, over one half of every register."""
    lanes = lanes_of(rooted)
    sums = zero_halves(rooted)
    for p in range(panels):
        left = (p * stride + i) * lanes + half
        right = (p * stride + j) * lanes + half
        for t in range(0, lanes, lanes // 4):
            sums = outer_two(sums, rooted, left + t, right + t, lanes)
    return sums


@inner
def block_in_halves(
    rooted: Floats, panels: int, stride: int, i: int, j: int, second: Float64, at: int
) -> None:
    """Do as `block_outer` does, the same sums eight at a time: no more than few registers hold."""
    half = lanes_of(rooted) // 8
    low = half_outer(rooted, panels, stride, i, j, 0)
    high = half_outer(rooted, panels, stride, i, j, half)
    low_right = half_outer(rooted, panels, stride, i, j + 2, 0)
    high_right = half_outer(rooted, panels, stride, i, j + 2, half)
    add_totals(second, at, sixteen(low, high, low_right, high_right))
