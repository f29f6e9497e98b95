"""Compiled kernels: the twins of `distem.kernels.reference`, same names, same signatures.

A call works through the rows tile by tile, in one fixed order, on one thread, with the GIL released:
the same arrays give the same bits, whatever else runs. A tile stays in the processor's cache from the
first look at its rows to the last; no matrix of n rows by k components is made unless it is the result.

float32 rows are computed in float32, summed over a tile and added up in float64. Where that overflows
(numbers beyond 1e15 or so) the call is repeated in float64.
"""

from __future__ import annotations

import functools
import math
import time
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import DTypeLike, NDArray

from distem.kernels import _answers, _entries, scaling
from distem.kernels._simd import BYTES
from distem.kernels.reference import LOWEST, Answers, EStep, Moments, largest_distance
from distem.types import Float64, Floats, Ints

Kind = Literal["full", "tied", "diag", "spherical"]
KINDS: tuple[Kind, ...] = ("full", "tied", "diag", "spherical")

_NO_WEIGHTS = np.empty(0)
"""Stands for row weights of one each."""


class _Lent:
    """An array that may only be read, shown to NumPy as one that may be written.

    To Numba they are two types, and each would be compiled for; the kernels write to no argument.
    """

    def __init__(self, array: NDArray[Any]) -> None:
        self.owner = array
        interface = array.__array_interface__
        self.__array_interface__ = {**interface, "data": (interface["data"][0], False)}


def _argument(array: NDArray[Any]) -> NDArray[Any]:
    """Return an array as the compiled code takes it: contiguous, aligned, of one Numba type."""
    array = np.ascontiguousarray(array, array.dtype.newbyteorder("="))
    if not array.flags.aligned:
        array = array.copy()
    if not array.flags.writeable:
        array = np.asarray(_Lent(array))
    return array


def _float64(array: NDArray[Any] | None) -> Float64:
    if array is None:
        return _NO_WEIGHTS
    return _argument(np.asarray(array, np.float64))


def _pad(array: Floats, axes: int) -> Floats:
    """Pad the last axes with zeros to a multiple of four."""
    d = array.shape[-1]
    stride = -(-d // 4) * 4
    if stride == d:
        return array
    result = np.zeros(array.shape[:-axes] + (stride,) * axes, array.dtype)
    if axes == 1:
        result[..., :d] = array
    else:
        result[..., :d, :d] = array
    return result


def _split(points: Float64, dtype: np.dtype[Any]) -> tuple[Floats, Floats]:
    """Return what the rows' type holds of some points, padded and flat, and what is left."""
    exact = _pad(points, 1)
    if dtype == np.float64:
        return exact.ravel(), exact.ravel()  # the second is never read
    exact = np.clip(exact, -3e38, 3e38)
    high = exact.astype(dtype)
    return high.ravel(), (exact - high).astype(dtype).ravel()


@functools.lru_cache(maxsize=64)
def _triangle(stride: int) -> Ints:
    """Return where the whitening finds its coefficients in a flat (stride, stride) upper triangle.

    Four columns at a time: row by row down to the block on the diagonal, then what is left of that.
    """
    order = []
    for j in range(0, stride, 4):
        for i in range(j + 4):
            order += [i * stride + column for column in range(max(i, j), j + 4)]
    return np.array(order, np.int64)


@functools.lru_cache(maxsize=64)
def _unpacking(m: int) -> Ints:
    """Return where each entry of a symmetric (m, m) matrix stands among the packed outer products."""
    i, j = np.indices((m, m))
    i, j = np.maximum(i, j), np.minimum(i, j)
    row, column = i // 4, j // 4
    block = row * (row + 1) // 2 + column
    return np.asarray(block * 16 + i % 4 * 4 + j % 4, np.int64)


def _pack(factors: Float64, dtype: np.dtype[Any]) -> Floats:
    """Return the upper triangles of (..., d, d), flat, as the whitening reads them."""
    padded = _pad(factors, 2)
    stride = padded.shape[-1]
    flat = padded.reshape(-1, stride * stride)[:, _triangle(stride)]
    return flat.astype(dtype, copy=False).ravel()


def _unpack(packed: Float64, count: int, m: int) -> Float64:
    """Return `count` symmetric (m, m) matrices from packed outer products."""
    result: Float64 = packed.reshape(count, -1)[:, _unpacking(m)]
    return result


_TILE_PANELS, _TILE_ROWS = 8, 1100
"""The panels of a tile and the panel rows of its buffers, each of 256 bytes: both by measurement.

Longer tiles share the cost of adding up lanes; 275 KiB of buffers and the coefficients beside them still
stay in a second-level cache of 512 KiB.
"""


def _panels(x: Floats, k: int) -> int:
    """Return the panels of a tile: from shapes and types alone, so that bits depend on no more."""
    n, d = x.shape
    panels: int = min(_TILE_PANELS, _TILE_ROWS // (2 * d + k), -(-n * x.itemsize // BYTES))
    return max(1, panels)


def _log_scale(diagonals: Float64, d: int) -> Float64:
    """Return the logs of the densities' normalising constants from the factors' diagonals."""
    with np.errstate(divide="ignore"):
        log_det = np.log(np.abs(diagonals)).sum(axis=-1)
    result: Float64 = log_det - 0.5 * d * math.log(2.0 * math.pi)
    return result


def _halves(log_weights: Float64, log_scale: Float64, dtype: np.dtype[Any]) -> tuple[Floats, float]:
    """Return half of the logs of weight times constant less their largest, and the largest."""
    logs = np.maximum(np.maximum(log_weights, LOWEST) + log_scale, LOWEST)
    offset = float(logs.max())
    lowest = LOWEST if dtype == np.float64 else -3e38
    return (0.5 * np.maximum(logs - offset, lowest)).astype(dtype), offset


def _finite(x: Floats, *sums: Float64 | float) -> bool:
    """Say whether float32 sufficed: float64 has no second chance."""
    return x.dtype == np.float64 or all(bool(np.isfinite(s).all()) for s in sums)


def _diag(precisions_cholesky: Float64, means: Float64) -> Float64:
    """Return one over the standard deviations (k, d) of diag or spherical factors."""
    if precisions_cholesky.ndim == 2:
        return precisions_cholesky
    return np.repeat(precisions_cholesky[:, None], means.shape[1], axis=1)


def _whitened(means: Float64, factor: Float64) -> tuple[Float64, Float64]:
    """Return a point amid the means, and their whitened differences from it."""
    point = means.mean(axis=0)
    # einsum, not a matrix product: BLAS may sum in another order with another number of threads
    return point, np.einsum("ki,ij->kj", means - point, factor)


def _blend(means: Float64, point: Float64, dtype: np.dtype[Any]) -> Floats:
    """Return the means' differences from a point, four features at a time, component by component."""
    padded = _pad(means - point, 1)
    k, stride = padded.shape
    return padded.reshape(k, stride // 4, 4).transpose(1, 0, 2).astype(dtype).ravel()


def _points(sums: Float64, k: int, d: int) -> Float64:
    """Return sums of each component and feature without the padding."""
    return np.ascontiguousarray(sums.reshape(k, -1)[:, :d])


def _blends(n: int, k: int, d: int) -> bool:
    """Say whether blending the means is cheaper than an outer product for each component."""
    direct = n * k * (d * d / 2 + 2 * d)
    return n * (k * k / 2 + 3 * k * d / 2 + d * d / 2) + k * k * d * d / 4 < direct


def _tied_second(second: Float64, pairs: Float64, means: Float64) -> Float64:
    """Return the second moments from the packed ones about the blends and the pairs of means."""
    k, d = means.shape
    result: Float64 = _unpack(second, 1, d)[0]
    _entries.add_pairs(_unpack(pairs, 1, k)[0], _float64(means), result)
    return result


def log_density_full(x: Floats, means: Float64, precisions_cholesky: Float64) -> Float64:
    """Return Gaussian log densities (n, k); see `reference.log_density_full`."""
    x = _argument(x)
    scale = _log_scale(np.diagonal(precisions_cholesky, axis1=1, axis2=2), x.shape[1])
    high, low = _split(means, x.dtype)
    packed = _pack(precisions_cholesky, x.dtype)
    panels = _panels(x, len(means))
    return _entries.densities_full(x, high, low, packed, scale, largest_distance(x), panels)


def log_density_tied(x: Floats, means: Float64, precisions_cholesky: Float64) -> Float64:
    """Return Gaussian log densities (n, k); see `reference.log_density_tied`."""
    x = _argument(x)
    k, d = means.shape
    scale = np.full(k, _log_scale(np.diagonal(precisions_cholesky), d))
    point, white = _whitened(means, precisions_cholesky)
    return _entries.densities_tied(
        x, *_split(point, x.dtype), _pack(precisions_cholesky, x.dtype), *_split(white, x.dtype),
        scale, largest_distance(x), _panels(x, k),
    )  # fmt: skip


def log_density_diag(x: Floats, means: Float64, precisions_cholesky: Float64) -> Float64:
    """Return Gaussian log densities (n, k); see `reference.log_density_diag`."""
    x = _argument(x)
    factor = _diag(precisions_cholesky, means)
    scale = _pad(factor, 1).astype(x.dtype).ravel()
    logs = _log_scale(factor, x.shape[1])
    high, low = _split(means, x.dtype)
    return _entries.densities_diag(x, high, low, scale, logs, largest_distance(x), _panels(x, len(means)))


def log_density_spherical(x: Floats, means: Float64, precisions_cholesky: Float64) -> Float64:
    """Return Gaussian log densities (n, k); see `reference.log_density_spherical`."""
    return log_density_diag(x, means, precisions_cholesky)


def moments_full(x: Floats, resp: Float64, means: Float64) -> Moments:
    """Return mass, first and second moments; see `reference.moments_full`."""
    x = _argument(x)
    k, d = means.shape
    panels = _panels(x, k)
    _, mass, first, second = _entries.moments_full(
        x, _float64(resp), *_split(means, x.dtype), True, panels
    )  # fmt: skip
    if not _finite(x, first, second):
        return moments_full(x.astype(np.float64), resp, means)
    return mass, _points(first, k, d), _unpack(second, k, d)


def moments_tied(x: Floats, resp: Float64, means: Float64) -> Moments:
    """Return mass, first and second moments; see `reference.moments_tied`."""
    x = _argument(x)
    k, d = means.shape
    panels = _panels(x, k)
    high, low = _split(means, x.dtype)
    if _blends(x.shape[0], k, d):
        point = means.mean(axis=0)
        mass, first, second, pairs = _entries.moments_blend(
            x, _float64(resp), high, low, *_split(point, x.dtype), _blend(means, point, x.dtype), panels
        )  # fmt: skip
        total = _tied_second(second, pairs, means)
    else:
        _, mass, first, second = _entries.moments_full(x, _float64(resp), high, low, False, panels)
        total = _unpack(second, 1, d)[0]
    if not _finite(x, first, total):
        return moments_tied(x.astype(np.float64), resp, means)
    return mass, _points(first, k, d), total


def moments_diag(x: Floats, resp: Float64, means: Float64) -> Moments:
    """Return mass, first and second moments; see `reference.moments_diag`."""
    x = _argument(x)
    panels = _panels(x, len(means))
    _, mass, first, second = _entries.moments_diag(
        x, _float64(resp), *_split(means, x.dtype), panels
    )  # fmt: skip
    if not _finite(x, first, second):
        return moments_diag(x.astype(np.float64), resp, means)
    return mass, _points(first, *means.shape), _points(second, *means.shape)


def moments_spherical(x: Floats, resp: Float64, means: Float64) -> Moments:
    """Return mass, first and second moments; see `reference.moments_spherical`."""
    mass, first, second = moments_diag(x, resp, means)
    return mass, first, second.sum(axis=1)


def normalise(log_joint: Float64) -> tuple[Float64, Float64]:
    """Return each row's log norm (n,) and shares (n, k); see `reference.normalise`."""
    log_joint = _float64(log_joint)
    return _entries.normalise(log_joint, LOWEST, _panels(log_joint, 0))


def nearest(x: Floats, centres: Float64) -> tuple[Ints, Float64]:
    """Return each row's nearest centre and the squared distance to it; see `reference.nearest`."""
    x = _argument(x)
    high, low = _split(centres, x.dtype)
    label, distance, finite = _entries.nearest(x, high, low, len(centres), _panels(x, len(centres)))
    if x.dtype == np.float32 and not finite:
        return nearest(x.astype(np.float64), centres)
    return label, distance


def e_step_full(
    x: Floats, weights: Float64 | None, log_weights: Float64, means: Float64, precisions_cholesky: Float64
) -> EStep:
    """Return log-likelihood and moments of an E-step; see `reference.e_step_full`."""
    return _e_step_full(_argument(x), weights, log_weights, means, precisions_cholesky, largest_distance(x))


def _e_step_full(
    x: Floats,
    weights: Float64 | None,
    log_weights: Float64,
    means: Float64,
    precisions_cholesky: Float64,
    cap: float,
) -> EStep:
    k, d = means.shape
    scale = _log_scale(np.diagonal(precisions_cholesky, axis1=1, axis2=2), d)
    likelihood, mass, first, second = _entries.e_step_full(
        x, _float64(weights), *_split(means, x.dtype), _pack(precisions_cholesky, x.dtype),
        *_halves(log_weights, scale, x.dtype), cap, _panels(x, k),
    )  # fmt: skip
    if not _finite(x, likelihood, first, second):
        return _e_step_full(x.astype(np.float64), weights, log_weights, means, precisions_cholesky, cap)
    return likelihood, mass, _points(first, k, d), _unpack(second, k, d)


def e_step_tied(
    x: Floats, weights: Float64 | None, log_weights: Float64, means: Float64, precisions_cholesky: Float64
) -> EStep:
    """Return log-likelihood and moments of an E-step; see `reference.e_step_tied`."""
    return _e_step_tied(_argument(x), weights, log_weights, means, precisions_cholesky, largest_distance(x))


def _e_step_tied(
    x: Floats,
    weights: Float64 | None,
    log_weights: Float64,
    means: Float64,
    precisions_cholesky: Float64,
    cap: float,
) -> EStep:
    k, d = means.shape
    scale = np.full(k, _log_scale(np.diagonal(precisions_cholesky), d))
    point, white = _whitened(means, precisions_cholesky)
    blended = _blends(x.shape[0], k, d)
    likelihood, mass, first, second, pairs = _entries.e_step_tied(
        x, _float64(weights), *_split(means, x.dtype), *_split(point, x.dtype),
        _pack(precisions_cholesky, x.dtype), *_split(white, x.dtype), _blend(means, point, x.dtype),
        *_halves(log_weights, scale, x.dtype), cap, blended, _panels(x, k),
    )  # fmt: skip
    total = _tied_second(second, pairs, means) if blended else _unpack(second, 1, d)[0]
    if not _finite(x, likelihood, first, total):
        return _e_step_tied(x.astype(np.float64), weights, log_weights, means, precisions_cholesky, cap)
    return likelihood, mass, _points(first, k, d), total


def e_step_diag(
    x: Floats, weights: Float64 | None, log_weights: Float64, means: Float64, precisions_cholesky: Float64
) -> EStep:
    """Return log-likelihood and moments of an E-step; see `reference.e_step_diag`."""
    return _e_step_diag(_argument(x), weights, log_weights, means, precisions_cholesky, largest_distance(x))


def e_step_spherical(
    x: Floats, weights: Float64 | None, log_weights: Float64, means: Float64, precisions_cholesky: Float64
) -> EStep:
    """Return log-likelihood and moments of an E-step; see `reference.e_step_spherical`."""
    x = _argument(x)
    cap = largest_distance(x)
    size = np.abs(precisions_cholesky)
    # distances in the rows' own units must neither overflow nor underflow where those in deviations do not
    if _SQUARABLE[x.itemsize] < size.min() and size.max() < 1.0 / _SQUARABLE[x.itemsize]:
        return _e_step_spherical(x, weights, log_weights, means, precisions_cholesky, cap)
    return _e_step_diag(x, weights, log_weights, means, precisions_cholesky, cap)


_SQUARABLE = {8: 1e-120, 4: 1e-12}
"""The least number, by the size of its type, whose square is far from the denormal ones."""


def _e_step_spherical(
    x: Floats,
    weights: Float64 | None,
    log_weights: Float64,
    means: Float64,
    precisions_cholesky: Float64,
    cap: float,
) -> EStep:
    log_scale = _log_scale(_diag(precisions_cholesky, means), x.shape[1])
    likelihood, mass, first, second = _entries.e_step_spherical(
        x, _float64(weights), *_split(means, x.dtype), (precisions_cholesky**2).astype(x.dtype),
        *_halves(log_weights, log_scale, x.dtype), cap, _panels(x, len(means)),
    )  # fmt: skip
    if not _finite(x, likelihood, first, second):
        return _e_step_spherical(
            x.astype(np.float64), weights, log_weights, means, precisions_cholesky, cap
        )  # fmt: skip
    return likelihood, mass, _points(first, *means.shape), second


def _e_step_diag(
    x: Floats,
    weights: Float64 | None,
    log_weights: Float64,
    means: Float64,
    precisions_cholesky: Float64,
    cap: float,
) -> EStep:
    by_feature = precisions_cholesky.ndim == 2
    factor = _diag(precisions_cholesky, means)
    likelihood, mass, first, second = _entries.e_step_diag(
        x, _float64(weights), *_split(means, x.dtype), _pad(factor, 1).astype(x.dtype).ravel(),
        *_halves(log_weights, _log_scale(factor, x.shape[1]), x.dtype), cap,
        _panels(x, len(means)),
    )  # fmt: skip
    if not _finite(x, likelihood, first, second):
        return _e_step_diag(x.astype(np.float64), weights, log_weights, means, precisions_cholesky, cap)
    squares = _points(second, *means.shape)
    return likelihood, mass, _points(first, *means.shape), squares if by_feature else squares.sum(axis=1)


def answers_full(
    x: Floats, log_weights: Float64, means: Float64, precisions_cholesky: Float64, shares: bool
) -> Answers:
    """Return labels, log densities, uncertainties and shares; see `reference.answers_full`."""
    x = _float64(x)
    scale = _log_scale(np.diagonal(precisions_cholesky, axis1=1, axis2=2), x.shape[1])
    found = _answers.answers_full(
        x, _split(means, x.dtype)[0], _pack(precisions_cholesky, x.dtype),
        *_halves(log_weights, scale, x.dtype), largest_distance(x), shares, _panels(x, len(means)),
    )  # fmt: skip
    return _by_row(found, len(means), shares)


def answers_tied(
    x: Floats, log_weights: Float64, means: Float64, precisions_cholesky: Float64, shares: bool
) -> Answers:
    """Return labels, log densities, uncertainties and shares; see `reference.answers_tied`."""
    x = _float64(x)
    k, d = means.shape
    scale = np.full(k, _log_scale(np.diagonal(precisions_cholesky), d))
    point, white = (_split(each, x.dtype)[0] for each in _whitened(means, precisions_cholesky))
    found = _answers.answers_tied(
        x, point, _pack(precisions_cholesky, x.dtype), white,
        *_halves(log_weights, scale, x.dtype), largest_distance(x), shares, _panels(x, k),
    )  # fmt: skip
    return _by_row(found, k, shares)


def answers_diag(
    x: Floats, log_weights: Float64, means: Float64, precisions_cholesky: Float64, shares: bool
) -> Answers:
    """Return labels, log densities, uncertainties and shares; see `reference.answers_diag`."""
    x = _float64(x)
    factor = _diag(precisions_cholesky, means)
    found = _answers.answers_diag(
        x, _split(means, x.dtype)[0], _pad(factor, 1).ravel(),
        *_halves(log_weights, _log_scale(factor, x.shape[1]), x.dtype), largest_distance(x), shares,
        _panels(x, len(means)),
    )  # fmt: skip
    return _by_row(found, len(means), shares)


def answers_spherical(
    x: Floats, log_weights: Float64, means: Float64, precisions_cholesky: Float64, shares: bool
) -> Answers:
    """Return labels, log densities, uncertainties and shares; see `reference.answers_spherical`."""
    return answers_diag(x, log_weights, means, precisions_cholesky, shares)


def _by_row(found: tuple[Ints, Float64, Float64, Float64], k: int, shares: bool) -> Answers:
    """Return answers with the shares row by row, or None where they were not asked for."""
    label, log_density, uncertainty, flat = found
    return label, log_density, uncertainty, flat.reshape(-1, k) if shares else None


_FACTORS = {"full": np.eye(2)[None], "tied": np.eye(2), "diag": np.ones((1, 2)), "spherical": np.ones(1)}


def warm(kind: str, dtype: DTypeLike) -> float:
    """Compile, or load from the cache, what fitting and assigning with one kind needs.

    Parameters
    ----------
    kind : {'full', 'tied', 'diag', 'spherical'}
        Kind of covariance.
    dtype : dtype
        Type of the rows, float64 or float32.

    Returns
    -------
    float
        Seconds it took.
    """
    begin = time.perf_counter()
    x, means, factor = np.zeros((1, 2), dtype), np.zeros((1, 2)), _FACTORS[kind]
    globals()[f"e_step_{kind}"](x, None, np.zeros(1), means, factor)
    globals()[f"answers_{kind}"](x, np.zeros(1), means, factor, True)
    if kind == "tied":  # asked for where components are many
        _entries.add_pairs(np.zeros((1, 1)), _float64(means), np.zeros((2, 2)))
    return time.perf_counter() - begin


def warm_all(kinds: Sequence[str], dtype: DTypeLike) -> float:
    """Do `warm` for several kinds of covariance, and for the scaling of rows; return the seconds of all."""
    return scaling.warm(dtype) + sum(warm(kind, dtype) for kind in kinds)
