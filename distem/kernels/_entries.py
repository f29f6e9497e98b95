"""The compiled kernels' loops over tiles: what `distem.kernels.compiled` calls.

Parameters come packed as the tiles need them and in the tiles' own type: means as `high` and `low`,
(k, stride); `half`, half of the logs of weight times normalising constant less `offset`.
"""

from __future__ import annotations

import numpy as np

from distem.kernels import _moments as moments
from distem.kernels import _tiles as tiles
from distem.kernels._simd import entry, lanes_of
from distem.types import Float64, Floats, Ints

Sums = tuple[float, Float64, Float64, Float64]
"""Log-likelihood, mass, first moments, packed second moments."""


@entry
def densities_full(
    x: Floats, high: Floats, low: Floats, packed: Floats, logs: Float64, cap: float, panels: int
) -> Float64:
    """Return log densities: `logs` less half of the squared distances."""
    n, k = x.shape[0], logs.size
    stride = high.size // k
    lanes = lanes_of(high)
    tile = tiles.buffer(panels * lanes * stride, high)
    z = tiles.buffer(lanes * stride, high)
    square = tiles.buffer(panels * lanes * tiles.padded(k), high)
    result = np.empty((n, k))
    for start in range(0, n, panels * lanes):
        tiles.load_tile(x, start, tile, stride, panels)
        for c in range(k):
            tiles.squares_full(tile, panels, stride, high, low, packed, c, z, square, k)
        tiles.put_densities(square, panels, k, logs, cap, start, result)
    return result


@entry
def densities_tied(
    x: Floats,
    point: Floats,
    point_low: Floats,
    packed: Floats,
    white: Floats,
    white_low: Floats,
    logs: Float64,
    cap: float,
    panels: int,
) -> Float64:
    """Return log densities from the distances between whitened rows and whitened means."""
    n, d = x.shape
    k = logs.size
    stride = point.size
    rows = panels * (lanes_of(point))
    flat = x.reshape(x.size)
    tile = tiles.buffer(rows * stride, point)
    whitened = tiles.buffer(rows * stride, point)
    z = tiles.buffer(rows // panels * stride, point)
    square = tiles.buffer(rows * tiles.padded(k), point)
    result = np.empty((n, k))
    for start in range(0, n, rows):
        tiles.load_tile(x, start, tile, stride, panels)
        tiles.whiten(tile, panels, stride, point, point_low, packed, z, whitened)
        tiles.squares_white(
            whitened, panels, stride, d, white, white_low, square, k, flat, (start + rows) * d
        )
        tiles.put_densities(square, panels, k, logs, cap, start, result)
    return result


@entry
def densities_diag(
    x: Floats, high: Floats, low: Floats, scale: Floats, logs: Float64, cap: float, panels: int
) -> Float64:
    """Return log densities: `logs` less half of the squared distances, each feature scaled."""
    n, d = x.shape
    k = logs.size
    stride = high.size // k
    rows = panels * (lanes_of(high))
    flat = x.reshape(x.size)
    tile = tiles.buffer(rows * stride, high)
    square = tiles.buffer(rows * tiles.padded(k), high)
    result = np.empty((n, k))
    for start in range(0, n, rows):
        tiles.load_tile(x, start, tile, stride, panels)
        tiles.squares_diag(tile, panels, stride, d, high, low, scale, square, k, flat, (start + rows) * d)
        tiles.put_densities(square, panels, k, logs, cap, start, result)
    return result


@entry
def moments_full(x: Floats, resp: Float64, high: Floats, low: Floats, apart: bool, panels: int) -> Sums:
    """Return mass, first and packed second moments, the second apart by component or summed."""
    n, d = x.shape
    k = resp.shape[1]
    stride = high.size // k
    lanes = lanes_of(high)
    rows = panels * lanes
    tile = tiles.buffer(rows * stride, high)
    rooted = tiles.buffer(rows * stride, high)
    shares = tiles.buffer(rows * tiles.padded(k), high)
    r = tiles.buffer(rows, high)
    s = tiles.buffer(rows, high)
    mass, first = np.zeros(k), np.zeros(high.size)
    size = moments.packed_size(stride)
    second = np.zeros(size * k if apart else size)
    for start in range(0, n, rows):
        tiles.load_tile(x, start, tile, stride, panels)
        tiles.load_tile(resp, start, shares, tiles.padded(k), panels)
        for c in range(k):
            here = moments.given_shares(shares, panels, k, c, r, s)
            if here != 0.0:
                mass[c] += here
                moments.first_and_rooted(tile, panels, stride, d, high, low, c, r, s, rooted, first)
                moments.add_outer(rooted, panels, stride, second, c * size if apart else 0)
    return 0.0, mass, first, second


@entry
def moments_blend(
    x: Floats,
    resp: Float64,
    high: Floats,
    low: Floats,
    point: Floats,
    point_low: Floats,
    blend: Floats,
    panels: int,
) -> tuple[Float64, Float64, Float64, Float64]:
    """Return mass, first moments, packed second moments about the rows' blends, and packed pairs."""
    n, d = x.shape
    k = resp.shape[1]
    stride = point.size
    lanes = lanes_of(point)
    rows = panels * lanes
    flat = x.reshape(x.size)
    tile = tiles.buffer(rows * stride, high)
    rooted = tiles.buffer(rows * stride, high)
    z = tiles.buffer(lanes * stride, high)
    shares = tiles.buffer(rows * tiles.padded(k), high)
    inverse = tiles.buffer(rows, high)
    roots = tiles.buffer(rows, high)
    here = np.empty(k)
    mass, blocks = np.zeros(k), moments.first_blocks(stride, k)
    second, pairs = np.zeros(moments.packed_size(stride)), np.zeros(moments.packed_size(tiles.padded(k)))
    for start in range(0, n, rows):
        tiles.load_tile(x, start, tile, stride, panels)
        tiles.load_tile(resp, start, shares, tiles.padded(k), panels)
        moments.add_blended(
            tile, panels, stride, high, low, point, point_low, blend, shares, k, inverse, roots, z, rooted,
            here, mass, blocks, second, pairs, flat, (start + rows) * d,
        )  # fmt: skip
    return mass, moments.from_blocks(blocks, stride, k, 0, 1), second, pairs


@entry
def moments_diag(x: Floats, resp: Float64, high: Floats, low: Floats, panels: int) -> Sums:
    """Return mass, first and second moments, feature by feature."""
    n, d = x.shape
    k = resp.shape[1]
    stride = high.size // k
    lanes = lanes_of(high)
    rows = panels * lanes
    flat = x.reshape(x.size)
    tile = tiles.buffer(rows * stride, high)
    shares = tiles.buffer(rows * tiles.padded(k), high)
    here = np.empty(k)
    mass, blocks = np.zeros(k), moments.squares_blocks(stride, k)
    for start in range(0, n, rows):
        tiles.load_tile(x, start, tile, stride, panels)
        tiles.load_tile(resp, start, shares, tiles.padded(k), panels)
        moments.add_masses(shares, panels, k, here, mass)
        moments.add_first_and_squares(
            tile, panels, stride, high, low, shares, k, here, blocks, flat, (start + rows) * d
        )  # fmt: skip
    first = moments.from_blocks(blocks, stride, k, 0, 2)
    return 0.0, mass, first, moments.from_blocks(blocks, stride, k, 1, 2)


@entry
def e_step_full(
    x: Floats,
    weights: Float64,
    high: Floats,
    low: Floats,
    packed: Floats,
    half: Floats,
    offset: float,
    cap: float,
    panels: int,
) -> Sums:
    """Return the sums of an E-step with a covariance for each component."""
    n, d = x.shape
    k = half.size
    stride = high.size // k
    lanes = lanes_of(high)
    rows = panels * lanes
    tile = tiles.buffer(rows * stride, high)
    rooted = tiles.buffer(rows * stride, high)
    joint = tiles.buffer(rows * tiles.padded(k), high)
    z = tiles.buffer(lanes * stride, high)
    r, s = tiles.buffer(rows, high), tiles.buffer(rows, high)
    top, inverse, roots = tiles.buffer(rows, high), tiles.buffer(rows, high), tiles.buffer(rows, high)
    w, norms = np.empty(rows), np.empty(rows)
    size = moments.packed_size(stride)
    mass, first, second = np.zeros(k), np.zeros(high.size), np.zeros(k * size)
    likelihood = 0.0
    for start in range(0, n, rows):
        tiles.load_tile(x, start, tile, stride, panels)
        tiles.load_weights(weights, n, start, w)
        for c in range(k):
            tiles.squares_full(tile, panels, stride, high, low, packed, c, z, joint, k)
        tiles.half_joint(joint, panels, k, half, cap, top)
        likelihood += tiles.softmax(joint, panels, k, top, w, offset, inverse, roots, norms)
        for c in range(k):
            here = moments.shares_of(joint, panels, k, c, inverse, roots, r, s)
            if here != 0.0:  # a component far from all of a tile's rows costs nothing more
                mass[c] += here
                moments.first_and_rooted(tile, panels, stride, d, high, low, c, r, s, rooted, first)
                moments.add_outer(rooted, panels, stride, second, c * size)
    return likelihood, mass, first, second


@entry
def e_step_tied(
    x: Floats,
    weights: Float64,
    high: Floats,
    low: Floats,
    point: Floats,
    point_low: Floats,
    packed: Floats,
    white: Floats,
    white_low: Floats,
    blend: Floats,
    half: Floats,
    offset: float,
    cap: float,
    blended: bool,
    panels: int,
) -> tuple[float, Float64, Float64, Float64, Float64]:
    """Return the sums of an E-step with one covariance for all components, and packed pairs."""
    n, d = x.shape
    k = half.size
    stride = point.size
    lanes = lanes_of(high)
    rows = panels * lanes
    flat = x.reshape(x.size)
    tile = tiles.buffer(rows * stride, high)
    whitened = tiles.buffer(rows * stride, high)
    joint = tiles.buffer(rows * tiles.padded(k), high)
    z = tiles.buffer(lanes * stride, high)
    r, s = tiles.buffer(rows, high), tiles.buffer(rows, high)
    top, inverse, roots = tiles.buffer(rows, high), tiles.buffer(rows, high), tiles.buffer(rows, high)
    w, norms, sums = np.empty(rows), np.empty(rows), np.empty(k)
    mass, first = np.zeros(k), np.zeros(high.size)
    blocks = moments.first_blocks(stride, k)
    second, pairs = np.zeros(moments.packed_size(stride)), np.zeros(moments.packed_size(tiles.padded(k)))
    likelihood = 0.0
    for start in range(0, n, rows):
        ahead = (start + rows) * d
        tiles.load_tile(x, start, tile, stride, panels)
        tiles.load_weights(weights, n, start, w)
        tiles.whiten(tile, panels, stride, point, point_low, packed, z, whitened)
        tiles.squares_white(whitened, panels, stride, d, white, white_low, joint, k, flat, ahead)
        tiles.half_joint(joint, panels, k, half, cap, top)
        likelihood += tiles.softmax(joint, panels, k, top, w, offset, inverse, roots, norms)
        if blended:
            tiles.divide_shares(joint, panels, k, inverse)
            moments.add_blended(
                tile, panels, stride, high, low, point, point_low, blend, joint, k, inverse, roots, z,
                whitened, sums, mass, blocks, second, pairs, flat, ahead + rows * d // 2,
            )  # fmt: skip
        else:
            for c in range(k):
                here = moments.shares_of(joint, panels, k, c, inverse, roots, r, s)
                if here != 0.0:
                    mass[c] += here
                    moments.first_and_rooted(tile, panels, stride, d, high, low, c, r, s, whitened, first)
                    moments.add_outer(whitened, panels, stride, second, 0)
    if blended:
        first = moments.from_blocks(blocks, stride, k, 0, 1)
    return likelihood, mass, first, second, pairs


@entry
def e_step_diag(
    x: Floats,
    weights: Float64,
    high: Floats,
    low: Floats,
    scale: Floats,
    half: Floats,
    offset: float,
    cap: float,
    panels: int,
) -> Sums:
    """Return the sums of an E-step with independent features."""
    n, d = x.shape
    k = half.size
    stride = high.size // k
    lanes = lanes_of(high)
    rows = panels * lanes
    flat = x.reshape(x.size)
    tile = tiles.buffer(rows * stride, high)
    joint = tiles.buffer(rows * tiles.padded(k), high)
    top, inverse, roots = tiles.buffer(rows, high), tiles.buffer(rows, high), tiles.buffer(rows, high)
    w, norms, here = np.empty(rows), np.empty(rows), np.empty(k)
    mass, blocks = np.zeros(k), moments.squares_blocks(stride, k)
    likelihood = 0.0
    for start in range(0, n, rows):
        ahead = (start + rows) * d
        tiles.load_tile(x, start, tile, stride, panels)
        tiles.load_weights(weights, n, start, w)
        tiles.squares_diag(tile, panels, stride, d, high, low, scale, joint, k, flat, ahead)
        tiles.half_joint(joint, panels, k, half, cap, top)
        likelihood += tiles.softmax(joint, panels, k, top, w, offset, inverse, roots, norms)
        tiles.divide_shares(joint, panels, k, inverse)
        moments.add_masses(joint, panels, k, here, mass)
        moments.add_first_and_squares(
            tile, panels, stride, high, low, joint, k, here, blocks, flat, ahead + rows * d // 2
        )  # fmt: skip
    first = moments.from_blocks(blocks, stride, k, 0, 2)
    return likelihood, mass, first, moments.from_blocks(blocks, stride, k, 1, 2)


@entry
def e_step_spherical(
    x: Floats,
    weights: Float64,
    high: Floats,
    low: Floats,
    scale: Floats,
    half: Floats,
    offset: float,
    cap: float,
    panels: int,
) -> Sums:
    """Return the sums of an E-step with one variance for each component, second moments by component.

    The squared distances of the E-step are what the second moments add up: `scale`, one over the
    variances, comes in after.
    """
    n, d = x.shape
    k = half.size
    stride = high.size // k
    lanes = lanes_of(high)
    rows = panels * lanes
    flat = x.reshape(x.size)
    tile = tiles.buffer(rows * stride, high)
    joint = tiles.buffer(rows * tiles.padded(k), high)
    square = tiles.buffer(rows * tiles.padded(k), high)
    top, inverse, roots = tiles.buffer(rows, high), tiles.buffer(rows, high), tiles.buffer(rows, high)
    w, norms, here = np.empty(rows), np.empty(rows), np.empty(k)
    mass, blocks, second = np.zeros(k), moments.first_blocks(stride, k), np.zeros(k)
    likelihood = 0.0
    for start in range(0, n, rows):
        ahead = (start + rows) * d
        tiles.load_tile(x, start, tile, stride, panels)
        tiles.load_weights(weights, n, start, w)
        tiles.squares_white(tile, panels, stride, d, high, low, square, k, flat, ahead)
        tiles.half_joint_scaled(square, panels, k, scale, half, cap, top, joint)
        likelihood += tiles.softmax(joint, panels, k, top, w, offset, inverse, roots, norms)
        tiles.divide_shares(joint, panels, k, inverse)
        moments.add_masses(joint, panels, k, here, mass)
        moments.add_square_shares(joint, square, panels, k, second)
        moments.add_first(
            tile, panels, stride, high, low, joint, k, here, blocks, flat, ahead + rows * d // 2
        )  # fmt: skip
    return likelihood, mass, moments.from_blocks(blocks, stride, k, 0, 1), second


@entry
def add_pairs(pairs: Float64, means: Float64, second: Float64) -> None:
    """Add ``pairs[a, b] * outer(means[a] - means[b])`` over the pairs b < a to a symmetric matrix."""
    k, d = means.shape
    for a in range(k):
        for b in range(a):
            if pairs[a, b] != 0.0:
                difference = means[a] - means[b]
                for i in range(d):
                    scaled = pairs[a, b] * difference[i]
                    for j in range(i + 1):
                        second[i, j] += scaled * difference[j]
    for i in range(d):
        for j in range(i):
            second[j, i] = second[i, j]


@entry
def normalise(log_joint: Float64, lowest: float, panels: int) -> tuple[Float64, Float64]:
    """Return the rows' log norms and shares."""
    n, k = log_joint.shape
    rows = panels * lanes_of(log_joint)
    joint = tiles.buffer(rows * tiles.padded(k), log_joint)
    top, inverse, roots = np.empty(rows), np.empty(rows), np.empty(rows)
    w, norms = np.ones(rows), np.empty(rows)
    log_norm, resp = np.empty(n), np.empty((n, k))
    for start in range(0, n, rows):
        tiles.load_tile(log_joint, start, joint, tiles.padded(k), panels)
        tiles.half_given(joint, panels, k, lowest, top)
        tiles.softmax(joint, panels, k, top, w, 0.0, inverse, roots, norms)
        tiles.put_shares(joint, panels, k, inverse, norms, start, log_norm, resp)
    return log_norm, resp


@entry
def nearest(x: Floats, high: Floats, low: Floats, k: int, panels: int) -> tuple[Ints, Float64, bool]:
    """Return the rows' nearest centres, the squared distances, and whether all are finite."""
    n, d = x.shape
    lanes = lanes_of(high)
    rows = panels * lanes
    flat = x.reshape(x.size)
    stride = high.size // k
    tile = tiles.buffer(rows * stride, high)
    squares = tiles.buffer(rows * tiles.padded(k), high)
    which, best = tiles.buffer(rows, high), tiles.buffer(rows, high)
    label, distance = np.empty(n, np.int64), np.empty(n)
    finite = True
    for start in range(0, n, rows):
        tiles.load_tile(x, start, tile, stride, panels)
        tiles.squares_white(tile, panels, stride, d, high, low, squares, k, flat, (start + rows) * d)
        tiles.nearest_of(squares, panels, k, which, best)
        for t in range(min(rows, n - start)):
            label[start + t] = int(which[t])
            distance[start + t] = best[t]
        for t in range(min(rows, n - start)):
            finite &= best[t] < np.inf
    return label, distance, finite
