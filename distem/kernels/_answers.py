"""The compiled kernels that answer for rows: labels, log densities, uncertainties, shares in one sweep."""

from __future__ import annotations

import numpy as np

from distem.kernels import _tiles as tiles
from distem.kernels._simd import (
    entry,
    fill,
    four_rows_of,
    inner,
    lanes_of,
    larger,
    load,
    smaller,
    store,
    where_less,
)
from distem.types import Float64, Floats, Ints

Answers = tuple[Ints, Float64, Float64, Float64]
"""Labels, log densities, uncertainties, and shares where they were asked for."""


@inner
def best_of(joint: Floats, panels: int, k: int, inverse: Floats, which: Floats, others: Floats) -> None:
    """Replace what `softmax` left by shares; put the largest's place and the sum of the others aside."""
    lanes = lanes_of(joint)
    for p in range(panels):
        scale = load(inverse, p * lanes)
        best = fill(joint, 0.0)
        place = fill(joint, 0.0)
        rest = fill(joint, 0.0)
        for c in range(k):
            at = (p * tiles.padded(k) + c) * lanes
            root = load(joint, at)
            share = root * root * scale
            store(joint, at, share)
            place = where_less(best, share, fill(joint, float(c)), place)
            # what is not the largest, added up: 1 - max would round small values away
            rest = rest + smaller(share, best)
            best = larger(share, best)
        store(which, p * lanes, place)
        store(others, p * lanes, rest)


@inner
def put_rows(joint: Floats, panels: int, k: int, start: int, n: int, into: Float64) -> None:
    """Write a tile's shares to the rows from `start` of a flat (n, k) array."""
    lanes = lanes_of(joint)
    few = lanes // 4
    for p in range(panels):
        first = start + p * lanes
        for t in range(0, min(lanes, n - first), few):
            row = first + t
            for c in range((k - 1) // 4 * 4, -1, -4):
                at = (p * tiles.padded(k) + c) * lanes + t
                if (row + few - 1) * k + c + 4 <= into.size:
                    # four at a time: what a row's last four leave in the next is written over by its first
                    four_rows_of(joint, at, lanes, into, row * k + c, k)
                else:
                    for r in range(min(few, n - row)):
                        for j in range(c, min(c + 4, k)):
                            into[(row + r) * k + j] = joint[at + (j - c) * lanes + r]


@inner
def put_answers(
    joint: Floats,
    panels: int,
    k: int,
    inverse: Floats,
    norms: Float64,
    which: Floats,
    others: Floats,
    start: int,
    label: Ints,
    log_density: Float64,
    uncertainty: Float64,
    resp: Float64,
) -> None:
    """Write what a tile's rows are asked for."""
    n = label.size
    best_of(joint, panels, k, inverse, which, others)
    for t in range(min(norms.size, n - start)):
        label[start + t] = int(which[t])
        log_density[start + t] = norms[t]
        uncertainty[start + t] = others[t]
    if resp.size:
        put_rows(joint, panels, k, start, n, resp)


@entry
def answers_full(
    x: Floats,
    high: Floats,
    packed: Floats,
    half: Floats,
    offset: float,
    cap: float,
    asked: bool,
    panels: int,
) -> Answers:
    """Answer with a covariance for each component."""
    n, k = x.shape[0], half.size
    stride = high.size // k
    lanes = lanes_of(high)
    rows = panels * lanes
    tile, z = tiles.buffer(rows * stride, high), tiles.buffer(lanes * stride, high)
    joint = tiles.buffer(rows * tiles.padded(k), high)
    top, inverse, roots = np.empty(rows), np.empty(rows), np.empty(rows)
    w, norms, which, others = np.ones(rows), np.empty(rows), np.empty(rows), np.empty(rows)
    label, log_density, uncertainty = np.empty(n, np.int64), np.empty(n), np.empty(n)
    resp = np.empty(n * k if asked else 0)
    for start in range(0, n, rows):
        tiles.load_tile(x, start, tile, stride, panels)
        for c in range(k):
            tiles.squares_full(tile, panels, stride, high, high, packed, c, z, joint, k)
        tiles.half_joint(joint, panels, k, half, cap, top)
        tiles.softmax(joint, panels, k, top, w, offset, inverse, roots, norms)
        put_answers(
            joint, panels, k, inverse, norms, which, others, start, label, log_density, uncertainty, resp
        )  # fmt: skip
    return label, log_density, uncertainty, resp


@entry
def answers_tied(
    x: Floats,
    point: Floats,
    packed: Floats,
    white: Floats,
    half: Floats,
    offset: float,
    cap: float,
    asked: bool,
    panels: int,
) -> Answers:
    """Answer with one covariance for all components."""
    n, d = x.shape
    k = half.size
    stride = point.size
    lanes = lanes_of(point)
    rows = panels * lanes
    flat = x.reshape(x.size)
    tile, z = tiles.buffer(rows * stride, point), tiles.buffer(lanes * stride, point)
    whitened = tiles.buffer(rows * stride, point)
    joint = tiles.buffer(rows * tiles.padded(k), point)
    top, inverse, roots = np.empty(rows), np.empty(rows), np.empty(rows)
    w, norms, which, others = np.ones(rows), np.empty(rows), np.empty(rows), np.empty(rows)
    label, log_density, uncertainty = np.empty(n, np.int64), np.empty(n), np.empty(n)
    resp = np.empty(n * k if asked else 0)
    for start in range(0, n, rows):
        tiles.load_tile(x, start, tile, stride, panels)
        tiles.whiten(tile, panels, stride, point, point, packed, z, whitened)
        tiles.squares_white(whitened, panels, stride, d, white, white, joint, k, flat, (start + rows) * d)
        tiles.half_joint(joint, panels, k, half, cap, top)
        tiles.softmax(joint, panels, k, top, w, offset, inverse, roots, norms)
        put_answers(
            joint, panels, k, inverse, norms, which, others, start, label, log_density, uncertainty, resp
        )  # fmt: skip
    return label, log_density, uncertainty, resp


@entry
def answers_diag(
    x: Floats,
    high: Floats,
    scale: Floats,
    half: Floats,
    offset: float,
    cap: float,
    asked: bool,
    panels: int,
) -> Answers:
    """Answer with independent features."""
    n, d = x.shape
    k = half.size
    stride = high.size // k
    lanes = lanes_of(high)
    rows = panels * lanes
    flat = x.reshape(x.size)
    tile = tiles.buffer(rows * stride, high)
    joint = tiles.buffer(rows * tiles.padded(k), high)
    top, inverse, roots = np.empty(rows), np.empty(rows), np.empty(rows)
    w, norms, which, others = np.ones(rows), np.empty(rows), np.empty(rows), np.empty(rows)
    label, log_density, uncertainty = np.empty(n, np.int64), np.empty(n), np.empty(n)
    resp = np.empty(n * k if asked else 0)
    for start in range(0, n, rows):
        tiles.load_tile(x, start, tile, stride, panels)
        tiles.squares_diag(tile, panels, stride, d, high, high, scale, joint, k, flat, (start + rows) * d)
        tiles.half_joint(joint, panels, k, half, cap, top)
        tiles.softmax(joint, panels, k, top, w, offset, inverse, roots, norms)
        put_answers(
            joint, panels, k, inverse, norms, which, others, start, label, log_density, uncertainty, resp
        )  # fmt: skip
    return label, log_density, uncertainty, resp
