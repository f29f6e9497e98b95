"""Compiled kernels that look at a picture between its pixels: twins of `distem.kernels.warping_reference`."""

from __future__ import annotations

import time

import numpy as np

from distem.kernels._simd import entry, inner
from distem.kernels.warping_reference import SPECK, Looked
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
        if not (y[t] >= 0.0 and y[t] <= h - 1.0 and x[t] >= 0.0 and x[t] <= w - 1.0):
            continue
        i, j = int(np.floor(y[t])), int(np.floor(x[t]))
        _cubic(y[t] - i, down, down_slopes)
        _cubic(x[t] - j, across, across_slopes)
        v, vy, vx = 0.0, 0.0, 0.0
        for a in range(4):
            row, slope = 0.0, 0.0
            from_row = min(max(i + a - 1, 0), h - 1)
            for b in range(4):
                pixel = image[from_row, min(max(j + b - 1, 0), w - 1)]
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


@entry
def _despeckle(image: Float64) -> Float64:
    h, w = image.shape[0] - 2, image.shape[1] - 2
    out = np.empty((h, w))
    near = np.empty(8)
    for i in range(h):
        for j in range(w):
            own = image[i + 1, j + 1]
            out[i, j] = own
            if np.isnan(own):
                continue
            filled = 0
            for a in range(3):
                for b in range(3):
                    if a == 1 and b == 1:
                        continue
                    value = image[i + a, j + b]
                    if np.isnan(value):
                        value = own
                    at = filled
                    while at > 0 and near[at - 1] > value:
                        near[at] = near[at - 1]
                        at -= 1
                    near[at] = value
                    filled += 1
            low, high = near[1], near[6]
            least = max(high - low, SPECK)
            if own > high + least or own < low - least:
                out[i, j] = 0.5 * (near[3] + near[4])
    return out


def despeckle(image: Float64) -> Float64:
    """A picture without specks; see `warping_reference.despeckle`."""
    found: Float64 = _despeckle(np.ascontiguousarray(image, np.float64))
    return found


def warm() -> float:
    """Compile, or load from the cache; return the seconds it took."""
    begin = time.perf_counter()
    despeckle(np.zeros((3, 3)))
    look(np.zeros((4, 4)), np.ones(1), np.ones(1))
    return time.perf_counter() - begin
