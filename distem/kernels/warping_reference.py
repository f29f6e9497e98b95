"""Plain NumPy kernels that look at a picture between its pixels: the executable truth."""

from __future__ import annotations

import numpy as np

from distem.types import Float64

Looked = tuple[Float64, Float64, Float64]
"""Values, and their slopes along y and along x."""


def cubic(fraction: Float64) -> tuple[tuple[Float64, ...], tuple[Float64, ...]]:
    """Weights of the four pixels about a place by cubic convolution [1]_, and their slopes.

    References
    ----------
    .. [1] Keys, Cubic convolution interpolation for digital image processing, IEEE TASSP 29 (1981).
    """
    f = fraction
    weights = (
        ((-0.5 * f + 1.0) * f - 0.5) * f,
        (1.5 * f - 2.5) * f * f + 1.0,
        ((-1.5 * f + 2.0) * f + 0.5) * f,
        (0.5 * f - 0.5) * f * f,
    )
    slopes = (
        (-1.5 * f + 2.0) * f - 0.5,
        (4.5 * f - 5.0) * f,
        (-4.5 * f + 4.0) * f + 0.5,
        (1.5 * f - 1.0) * f,
    )
    return weights, slopes


def look(image: Float64, y: Float64, x: Float64) -> Looked:
    """Values and slopes of a picture at places between its pixels.

    Parameters
    ----------
    image : ndarray of float64, shape (h, w)
        The picture.
    y, x : ndarray of float64, shape (n,)
        Places, in pixels from the first.

    Returns
    -------
    value, along_y, along_x : ndarray, shape (n,)
        NaN where one of the sixteen pixels about a place is outside, or is NaN.
    """
    h, w = image.shape
    with np.errstate(invalid="ignore"):
        inside = (y >= 1.0) & (y < h - 2.0) & (x >= 1.0) & (x < w - 2.0)
    out = tuple(np.full(y.shape, np.nan) for _ in range(3))
    i, j = np.floor(y[inside]).astype(np.int64), np.floor(x[inside]).astype(np.int64)
    (down, down_slopes), (across, across_slopes) = cubic(y[inside] - i), cubic(x[inside] - j)
    value, along_y, along_x = np.zeros(len(i)), np.zeros(len(i)), np.zeros(len(i))
    for a in range(4):
        row, row_slope = np.zeros(len(i)), np.zeros(len(i))
        for b in range(4):
            pixel = image[i + a - 1, j + b - 1]
            row = row + across[b] * pixel
            row_slope = row_slope + across_slopes[b] * pixel
        value = value + down[a] * row
        along_y = along_y + down_slopes[a] * row
        along_x = along_x + down[a] * row_slope
    for target, found in zip(out, (value, along_y, along_x), strict=True):
        target[inside] = found
    return out[0], out[1], out[2]
