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
        NaN where a place is outside, or one of the sixteen pixels about it is NaN; about the outermost
        pixels the picture goes on as it ends.
    """
    h, w = image.shape
    with np.errstate(invalid="ignore"):
        inside = (y >= 0.0) & (y <= h - 1.0) & (x >= 0.0) & (x <= w - 1.0)
    out = tuple(np.full(y.shape, np.nan) for _ in range(3))
    i, j = np.floor(y[inside]).astype(np.int64), np.floor(x[inside]).astype(np.int64)
    (down, down_slopes), (across, across_slopes) = cubic(y[inside] - i), cubic(x[inside] - j)
    value, along_y, along_x = np.zeros(len(i)), np.zeros(len(i)), np.zeros(len(i))
    for a in range(4):
        row, row_slope = np.zeros(len(i)), np.zeros(len(i))
        for b in range(4):
            pixel = image[np.clip(i + a - 1, 0, h - 1), np.clip(j + b - 1, 0, w - 1)]
            row = row + across[b] * pixel
            row_slope = row_slope + across_slopes[b] * pixel
        value = value + down[a] * row
        along_y = along_y + down_slopes[a] * row
        along_x = along_x + down[a] * row_slope
    for target, found in zip(out, (value, along_y, along_x), strict=True):
        target[inside] = found
    return out[0], out[1], out[2]


SPECK = 0.02
"""Least difference, in grey values from 0 to 1, by which a speck stands out."""


def despeckle(image: Float64) -> Float64:
    """A picture without specks: single pixels that nothing about them explains.

    A pixel is one if it lies outside the range of its eight neighbours, their lowest and highest left out, by
    more than that range and by `SPECK`. It then takes their median [1]_. Ends of the range are left out for
    specks next to specks; two neighbours that look like the pixel keep it: lines stay.

    Parameters
    ----------
    image : ndarray of float64, shape (h + 2, w + 2)
        The picture, with one pixel more on every side.

    Returns
    -------
    ndarray, shape (h, w)
        NaN pixels stay, and are left out of what is about others.

    References
    ----------
    .. [1] Sun and Neuvo, Detail-preserving median based filters in image processing, Pattern Recognition
       Letters 15 (1994).
    """
    h, w = image.shape[0] - 2, image.shape[1] - 2
    own = image[1:-1, 1:-1]
    about = [image[a : a + h, b : b + w] for a in range(3) for b in range(3) if (a, b) != (1, 1)]
    near = np.sort(np.stack([np.where(np.isnan(v), own, v) for v in about]), axis=0)
    low, high = near[1], near[6]
    least = np.maximum(high - low, SPECK)
    with np.errstate(invalid="ignore"):
        speck = (own > high + least) | (own < low - least)
    return np.where(speck, 0.5 * (near[3] + near[4]), own)
