"""Scaling of rows in one compiled sweep: what `distem.data.transform` does in several of NumPy's.

Each value is subtracted from, divided and cast as NumPy would, one after the other and without fusing, so the
bits are NumPy's.
"""

from __future__ import annotations

import time
from typing import cast

import numpy as np
from numba import njit
from numpy.typing import DTypeLike

from distem.types import Float64, Floats

TOGETHER = 256
"""About so many values are worked on at once, in whole rows: a loop over the features alone is too short."""
TYPES = (np.dtype(np.float64), np.dtype(np.float32))
"""Of rows that the sweep takes and gives."""


def scale(x: Floats, shift: Float64 | None, by: Float64 | None, out: Floats, limit: float) -> bool:
    """Write ``(x - shift) / by`` to `out`; return whether every value is within the limit.

    Parameters
    ----------
    x : ndarray of float64 or float32, shape (n, d)
        C-contiguous.
    shift, by : ndarray of float64, shape (d,), or None
        None changes nothing.
    out : ndarray of float64 or float32, shape (n, d)
        C-contiguous.
    limit : float
        For absolute values, before they are cast. A missing value is not within it.
    """
    d = x.shape[1]
    rows = max(1, TOGETHER // max(1, d))
    shifts = np.zeros(d) if shift is None else shift
    scales = np.ones(d) if by is None else by
    beyond = _scale(x.reshape(-1), np.tile(shifts, rows), np.tile(scales, rows), out.reshape(-1), limit)
    return cast(int, beyond) == 0


@njit(cache=True, nogil=True, error_model="numpy")
def _scale(x, shift, by, out, limit):  # type: ignore[no-untyped-def]  # pragma: no cover - compiled
    """Scale flat rows; return how many values are not within the limit."""
    together, beyond = shift.size, 0
    for start in range(0, x.size, together):
        count = min(together, x.size - start)
        part, to = x[start : start + count], out[start : start + count]
        for i in range(count):
            z = (part[i] - shift[i]) / by[i]
            beyond += not (abs(z) <= limit)
            to[i] = z
    return beyond


def warm(dtype: DTypeLike) -> float:
    """Compile, or load from the cache, what makes rows of a type; return the seconds it took."""
    begin = time.perf_counter()
    for given in TYPES:
        scale(np.zeros((1, 1), given), None, None, np.zeros((1, 1), dtype), 1.0)
    return time.perf_counter() - begin
