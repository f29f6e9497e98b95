"""Compiled k-means kernels: the twins of `distem.kernels.reference_centres`.

One fixed order over the rows, one thread, the GIL released, as in `distem.kernels.compiled`. Labels are
those of exact distances whether bounds spared their computing or not, and the sums are taken over all
rows once these are known: the same arrays give the same bits with bounds, without, and with any others.

Bounds are Hamerly's [1]_: one above the distance from the nearest centre, one below all others, both
carried along by how far the centres have moved. Where they cannot say who is nearest, all distances of
that row are taken, as for the first time.

References
----------
.. [1] Hamerly, Making k-means even faster, SIAM International Conference on Data Mining (2010).
"""

from __future__ import annotations

import time
from dataclasses import replace

import numpy as np
from numpy.typing import DTypeLike

from distem.kernels import _centres, scaling
from distem.kernels.compiled import _argument, _float64, _pad
from distem.kernels.reference_centres import Bounds, Lloyd
from distem.types import Float64, Floats, Ints

EPS = float(np.finfo(np.float64).eps)
PAYS = 0.6
"""Bounds that leave more than this share of the rows to do cost more than they spare."""
WORTH = 512
"""Bounds spare nothing where all distances of a row take fewer steps than looking after its bounds."""
PATIENCE = 8
"""The longest wait, in passes, before bounds that did not pay are tried again."""

_NO_LABELS = np.empty(0, np.int32)
_NO_BOUNDS = np.empty(0, np.float32)


def _scores(
    centres: Float64,
) -> tuple[Float64, Float64, Float64, Float64, Float64, int, float, float, Float64]:
    """Return what the scan reads: padded centres, a point amid them, coefficients, halved squares, marks…"""
    k, d = centres.shape
    point = centres.mean(axis=0)
    z = np.zeros((-(-k // 4) * 4, d))
    z[:k] = centres - point
    with np.errstate(over="ignore", invalid="ignore"):
        squares = np.einsum("ki,ki->k", z, z)
    half = 0.5 * squares
    half[k:] = _centres.HUGE
    packed = -z.reshape(-1, 4, d).transpose(0, 2, 1)
    bits = max(1, (len(z) - 1).bit_length())
    mask = (1 << bits) - 1
    marks = np.append(np.arange(len(z)), ~mask).astype(np.int64).view(np.float64)
    # rounding of a score, relative to the squared lengths of row and centre; 16 for the difference of
    # two, for direct differences' own rounding, and to spare
    trust = 16.0 * ((d + 8) * EPS + 2.0 ** (bits - 52))
    ends = np.ones(4)
    ends[(d - 1) % 4 + 1 :] = 0.0
    return (
        _float64(_pad(centres, 1).ravel()), _float64(point), _float64(packed.ravel()), half, marks, mask,
        float(squares.max()), trust, ends,
    )  # fmt: skip


def _moved(centres: Float64, bounds: Bounds) -> tuple[Float64, Float64]:
    """Return how far each centre has moved, rounded up, and how far any other than it."""
    with np.errstate(over="ignore", invalid="ignore"):
        drift = np.sqrt(((centres - bounds.centres) ** 2).sum(axis=1)) * (1.0 + 1e-9) + 1e-150
    k = len(drift)
    farthest = int(drift.argmax())
    others = np.full(k, drift[farthest])
    others[farthest] = np.delete(drift, farthest).max(initial=0.0)
    return drift, others


def lloyd(
    x: Floats, weights: Float64 | None, centres: Float64, bounds: Bounds | None = None, *, keep: bool = False
) -> Lloyd:
    """Return what Lloyd's assignment of the rows adds up to; see `reference_centres.lloyd`."""
    x, centres = _argument(x), _float64(centres)
    n, d = x.shape
    k = len(centres)
    keep = keep and k * (d + 8) >= WORTH
    if not keep or (bounds is not None and (bounds.centres.shape != centres.shape or len(bounds.label) != n)):
        bounds = None
    wait = bounds.wait if bounds is not None else 0
    known = bounds is not None and wait == 0
    drift, others = np.zeros(k), np.zeros(k)
    old = _NO_LABELS, _NO_BOUNDS, _NO_BOUNDS
    if bounds is not None and known:
        drift, others = _moved(centres, bounds)
        old = bounds.label, bounds.upper, bounds.lower
    inertia, mass, first, label, upper, lower, worked = _centres.lloyd(
        x, _float64(weights), *_scores(centres), drift, others, *old, keep and wait <= 1
    )  # fmt: skip
    found = None
    if keep:
        found = Bounds(centres.copy(), label, upper, lower, worked)
        if bounds is not None:
            found = _patient(found, bounds, n)
    return Lloyd(inertia, mass, np.ascontiguousarray(first.reshape(k, -1)[:, :d]), label, found)


def _patient(found: Bounds, bounds: Bounds, n: int) -> Bounds:
    """Return new bounds that wait where the old ones did not pay, longer each time."""
    if bounds.wait > 0:
        return replace(found, wait=bounds.wait - 1, patience=bounds.patience)
    if found.worked <= PAYS * n:
        return found
    patience = min(2 * max(bounds.patience, 1), PATIENCE)
    return replace(found, wait=patience, patience=patience)


def nearest(x: Floats, centres: Float64) -> tuple[Ints, Float64]:
    """Return each row's nearest centre and the squared distance to it; see `reference_centres.nearest`."""
    x, centres = _argument(x), _float64(centres)
    label, square = _centres.nearest(x, *_scores(centres), len(centres))
    return label.astype(np.int64), square


def warm(dtype: DTypeLike) -> float:
    """Compile, or load from the cache, what fitting and assigning need; return the seconds it took."""
    begin = time.perf_counter()
    x = np.zeros((1, 2), dtype)
    lloyd(x, None, np.zeros((1, 2)))
    nearest(x, np.zeros((1, 2)))
    scaling.warm(dtype)
    return time.perf_counter() - begin
