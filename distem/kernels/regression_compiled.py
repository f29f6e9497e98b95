"""Compiled kernels for mixtures of linear regressions: the twins of `distem.kernels.regression_reference`.

One sweep over tiles of rows: design, residuals, densities, responsibilities and moments while the tile is
in cache. Rows are computed in float64, whatever they come in; one thread, the GIL released, one order of
all sums.
"""

from __future__ import annotations

import time
from typing import Any

import numpy as np

from distem.kernels import _tiles as tiles
from distem.kernels._simd import entry, fill, fma, inner, lanes_of, larger, load, smaller, spread, store
from distem.kernels._simd_math import exp, log
from distem.kernels._simd_sums import total
from distem.kernels.reference import LOWEST
from distem.kernels.regression_reference import CAP, LOG_2PI, EStep, Layout, Parameters, constants
from distem.types import Float64, Floats, Ints

PANELS = 4
"""Panels of a tile: 128 rows."""
NONE = np.zeros(0)


@inner
def put_design(tile: Float64, panels: int, d: int, factors: Ints, into: Float64) -> None:
    """Put the terms of a design (p, f) into a tile of p."""
    lanes = lanes_of(tile)
    p = factors.shape[0]
    for panel in range(panels):
        for j in range(p):
            product = fill(tile, 1.0)
            for f in range(factors.shape[1]):
                if factors[j, f] >= 0:
                    product = product * load(tile, (panel * d + factors[j, f]) * lanes)
            store(into, (panel * p + j) * lanes, product)


@inner
def put_residuals(
    tile: Float64, panels: int, d: int, phi: Float64, responses: Ints, coef: Float64, into: Float64
) -> None:
    """Put responses less what the design and the flat coefficients (p, q) expect into a tile of q."""
    lanes = lanes_of(tile)
    q = responses.size
    p = coef.size // q
    minus = fill(tile, -1.0)
    for panel in range(panels):
        for i in range(q):
            e = load(tile, (panel * d + responses[i]) * lanes)
            for j in range(p):
                e = fma(minus * spread(coef, j * q + i), load(phi, (panel * p + j) * lanes), e)
            store(into, (panel * q + i) * lanes, e)


@inner
def put_places(tile: Float64, panels: int, d: int, position: Ints, centre: Float64, into: Float64) -> None:
    """Put positions less their mean into a tile of s."""
    lanes = lanes_of(tile)
    s = position.size
    for panel in range(panels):
        for i in range(s):
            z = load(tile, (panel * d + position[i]) * lanes) - spread(centre, i)
            store(into, (panel * s + i) * lanes, z)


@inner
def add_squares(z: Float64, panels: int, m: int, factor: Float64, into: Float64) -> None:
    """Add squared lengths of rows of m numbers, times a flat upper triangle (m, m), to a tile of one."""
    lanes = lanes_of(z)
    for panel in range(panels):
        square = load(into, panel * lanes)
        for i in range(m):
            y = fill(z, 0.0)
            for j in range(i + 1):
                y = fma(spread(factor, j * m + i), load(z, (panel * m + j) * lanes), y)
            square = fma(y, y, square)
        store(into, panel * lanes, square)


@inner
def add_products(
    a: Float64, m: int, b: Float64, n: int, resp: Float64, panels: int, same: bool, into: Float64
) -> None:
    """Add sums of r a b' to a matrix (m, n); of `same` rows only the lower triangle."""
    lanes = lanes_of(a)
    for i in range(m):
        for j in range(i + 1 if same else n):
            sums = fill(a, 0.0)
            for panel in range(panels):
                weighted = load(resp, panel * lanes) * load(a, (panel * m + i) * lanes)
                sums = fma(weighted, load(b, (panel * n + j) * lanes), sums)
            into[i, j] += total(sums)


@inner
def add_firsts(a: Float64, m: int, resp: Float64, panels: int, into: Float64) -> None:
    """Add sums of r a to m numbers."""
    lanes = lanes_of(a)
    for i in range(m):
        sums = fill(a, 0.0)
        for panel in range(panels):
            sums = fma(load(resp, panel * lanes), load(a, (panel * m + i) * lanes), sums)
        into[i] += total(sums)


@inner
def put_joint(
    tile: Float64,
    panels: int,
    d: int,
    factors: Ints,
    responses: Ints,
    position: Ints,
    coef: Float64,
    noise: Float64,
    centres: Float64,
    spreads: Float64,
    constant: Float64,
    outlier: float,
    phi: Float64,
    e: Float64,
    z: Float64,
    joint: Float64,
) -> None:
    """Put log joints, designs, residuals and positions of a tile, component by component."""
    lanes = lanes_of(tile)
    rows = panels * lanes
    k, q, s = coef.shape[0], responses.shape[1], position.size
    for c in range(k):
        own = c if factors.shape[0] > 1 else 0
        if own == c:
            put_design(tile, panels, d, factors[own], phi[own])
        y = c if responses.shape[0] > 1 else 0
        put_residuals(tile, panels, d, phi[own], responses[y], coef[c], e[c])
        square = joint[c * rows : (c + 1) * rows]
        square[:] = 0.0
        add_squares(e[c], panels, q, noise[c], square)
        if s:
            put_places(tile, panels, d, position, centres[c], z[c])
            add_squares(z[c], panels, s, spreads[c], square)
        for panel in range(panels):
            capped = smaller(load(square, panel * lanes), fill(square, CAP))
            value = fma(fill(square, -0.5), capped, spread(constant, c))
            store(square, panel * lanes, larger(value, fill(square, LOWEST)))
    if outlier > LOWEST:
        joint[k * rows : (k + 1) * rows] = outlier


@entry
def _e_step(
    x: Float64,
    weights: Float64,
    factors: Ints,
    responses: Ints,
    position: Ints,
    coef: Float64,
    noise: Float64,
    centres: Float64,
    spreads: Float64,
    constant: Float64,
    outlier: float,
    panels: int,
) -> EStep:
    n, d = x.shape
    k, p, q, s = coef.shape[0], factors.shape[1], responses.shape[1], position.size
    layers = k + (1 if outlier > LOWEST else 0)
    lanes = lanes_of(x)
    rows = panels * lanes
    tile = np.zeros(rows * d)
    phi, e, z = np.zeros((factors.shape[0], rows * p)), np.zeros((k, rows * q)), np.zeros((k, rows * s))
    joint, weight, norms = np.zeros(layers * rows), np.zeros(rows), np.zeros(rows)
    mass, likelihood = np.zeros(layers), 0.0
    gram, cross, second = np.zeros((k, p, p)), np.zeros((k, p, q)), np.zeros((k, q, q))
    place, extent = np.zeros((k, s)), np.zeros((k, s, s))
    for start in range(0, n, rows):
        tiles.load_tile(x, start, tile, d, panels)
        tiles.load_weights(weights, n, start, weight)
        put_joint(
            tile, panels, d, factors, responses, position, coef, noise, centres, spreads, constant,
            outlier, phi, e, z, joint,
        )  # fmt: skip
        for panel in range(panels):
            at = panel * lanes
            top = fill(joint, -np.inf)
            for c in range(layers):
                top = larger(load(joint, c * rows + at), top)
            sums = fill(joint, 0.0)
            for c in range(layers):
                share = exp(load(joint, c * rows + at) - top)
                store(joint, c * rows + at, share)
                sums = sums + share
            row_weight = load(weight, at)
            likelihood += total(row_weight * (top + log(sums)))
            store(norms, at, row_weight / sums)
        for c in range(layers):
            resp = joint[c * rows : (c + 1) * rows]
            sums = fill(joint, 0.0)
            for panel in range(panels):
                share = load(resp, panel * lanes) * load(norms, panel * lanes)
                store(resp, panel * lanes, share)
                sums = sums + share
            mass[c] += total(sums)
            if c < k:
                own = phi[c if factors.shape[0] > 1 else 0]
                add_products(own, p, own, p, resp, panels, True, gram[c])
                add_products(own, p, e[c], q, resp, panels, False, cross[c])
                add_products(e[c], q, e[c], q, resp, panels, True, second[c])
                if s:
                    add_firsts(z[c], s, resp, panels, place[c])
                    add_products(z[c], s, z[c], s, resp, panels, True, extent[c])
    return likelihood, mass, gram, cross, second, place, extent


@entry
def _log_joint(
    x: Float64,
    factors: Ints,
    responses: Ints,
    position: Ints,
    coef: Float64,
    noise: Float64,
    centres: Float64,
    spreads: Float64,
    constant: Float64,
    outlier: float,
    panels: int,
) -> Float64:
    n, d = x.shape
    k, p, q, s = coef.shape[0], factors.shape[1], responses.shape[1], position.size
    layers = k + (1 if outlier > LOWEST else 0)
    rows = panels * (lanes_of(x))
    tile = np.zeros(rows * d)
    phi, e, z = np.zeros((factors.shape[0], rows * p)), np.zeros((k, rows * q)), np.zeros((k, rows * s))
    joint = np.zeros(layers * rows)
    out = np.empty((n, layers))
    for start in range(0, n, rows):
        tiles.load_tile(x, start, tile, d, panels)
        put_joint(
            tile, panels, d, factors, responses, position, coef, noise, centres, spreads, constant,
            outlier, phi, e, z, joint,
        )  # fmt: skip
        for t in range(min(rows, n - start)):
            for c in range(layers):
                out[start + t, c] = joint[c * rows + t]
    return out


def _arguments(layout: Layout, at: Parameters) -> Any:
    k, q, s = len(at.coef), at.coef.shape[2], len(layout.position)
    constant = np.maximum(constants(at), LOWEST) - 0.5 * (q + s) * LOG_2PI
    return (
        np.ascontiguousarray(layout.factors, np.int64),
        np.ascontiguousarray(layout.responses, np.int64),
        np.ascontiguousarray(layout.position, np.int64),
        np.ascontiguousarray(at.coef).reshape(k, -1),
        np.ascontiguousarray(at.noise).reshape(k, -1),
        np.ascontiguousarray(at.centres).reshape(k, s),
        np.ascontiguousarray(at.spreads).reshape(k, s * s),
        constant,
        float(at.log_outlier),
        PANELS,
    )


def _both(lower: Float64) -> Float64:
    """Matrices (k, m, m) from their lower triangles."""
    return np.asarray(lower + np.swapaxes(np.tril(lower, -1), 1, 2))


def e_step(x: Floats, weights: Float64 | None, layout: Layout, at: Parameters) -> EStep:
    """Return log-likelihood and moments of one E-step; see `regression_reference.e_step`."""
    given = NONE if weights is None else np.ascontiguousarray(weights, np.float64)
    likelihood, mass, gram, cross, second, place, extent = _e_step(
        np.ascontiguousarray(x, np.float64), given, *_arguments(layout, at)
    )
    return likelihood, mass, _both(gram), cross, _both(second), place, _both(extent)


def log_joint(x: Floats, layout: Layout, at: Parameters) -> Float64:
    """Return logs of weight times density; see `regression_reference.log_joint`."""
    found: Float64 = _log_joint(np.ascontiguousarray(x, np.float64), *_arguments(layout, at))
    return found


def warm() -> float:
    """Compile, or load from the cache, both kernels; return the seconds it took."""
    begin = time.perf_counter()
    layout = Layout(np.array([[[-1], [0]]]), np.array([[1]]), np.zeros(0, np.int64))
    one = np.ones((1, 1, 1))
    at = Parameters(np.zeros(1), np.zeros((1, 2, 1)), one, np.zeros((1, 0)), np.zeros((1, 0, 0)), -np.inf)
    e_step(np.zeros((1, 2)), None, layout, at)
    log_joint(np.zeros((1, 2)), layout, at)
    return time.perf_counter() - begin
