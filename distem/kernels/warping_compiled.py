"""Compiled kernels that look at a picture between its pixels: twins of `distem.kernels.warping_reference`."""

from __future__ import annotations

import time

import numpy as np

from distem.kernels._simd import entry, inner
from distem.kernels.warping_reference import Looked
from distem.types import Float64


@inner
def _cubic(f: float, weights: Float64, slopes: Float64) -> None:
    """Write the weights of four pixels and their slopes; see `warping_reference.cubic`."""
    weights[0] = ((-0.5 * f + 1.0) * f - 0.5) * f
    weights[1] = (1.5 * f - 2.5) * f * f + 1.0
    weights[2] = ((-1.5 * f + 2.0) * f + 0.5) * f
    weights[3] = (0.5 * f - 0.5) * f * f
    slopes[0] = (-1.5 * f + 2.0) * f - 0.5
    slopes[1] = (4.5 * f - 5.0) * f
    slopes[2] = (-4.5 * f + 4.0) * f + 0.5
    slopes[3] = (1.5 * f - 1.0) * f


@entry
def _look(image: Float64, y: Float64, x: Float64) -> Looked:
    h, w = image.shape
    value, along_y, along_x = np.full(y.size, np.nan), np.full(y.size, np.nan), np.full(y.size, np.nan)
    down, down_slopes = np.empty(4), np.empty(4)
    across, across_slopes = np.empty(4), np.empty(4)
    for t in range(y.size):
        if not (y[t] >= 1.0 and y[t] < h - 2.0 and x[t] >= 1.0 and x[t] < w - 2.0):
            continue
        i, j = int(np.floor(y[t])), int(np.floor(x[t]))
        _cubic(y[t] - i, down, down_slopes)
        _cubic(x[t] - j, across, across_slopes)
        v, vy, vx = 0.0, 0.0, 0.0
        for a in range(4):
            row, slope = 0.0, 0.0
            for b in range(4):
                pixel = image[i + a - 1, j + b - 1]
                row += across[b] * pixel
                slope += across_slopes[b] * pixel
            v += down[a] * row
            vy += down_slopes[a] * row
            vx += down[a] * slope
        value[t], along_y[t], along_x[t] = v, vy, vx
    return value, along_y, along_x


def look(image: Float64, y: Float64, x: Float64) -> Looked:
    """Return values and slopes at places between pixels; see `warping_reference.look`."""
    image, y, x = (np.ascontiguousarray(a, np.float64) for a in (image, y, x))
    found: Looked = _look(image, y, x)
    return found


def warm() -> float:
    """Compile, or load from the cache; return the seconds it took."""
    begin = time.perf_counter()
    look(np.zeros((4, 4)), np.ones(1), np.ones(1))
    return time.perf_counter() - begin
