"""Local texture of a picture: mean, deviation and gradient in a square window about each pixel.

Every sum is taken in an order that depends on the window alone, so a pixel's texture has the same bits
whatever rectangle it is computed in, as long as its window lies in it. Missing pixels, and those beyond
the picture's edge, have no part in a window.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from distem.types import Bools, Float64

MEASURES = ("mean", "deviation", "gradient")


def reach(window: int, measures: tuple[str, ...]) -> int:
    """Return how many pixels away the texture of a pixel looks."""
    return window // 2 + (1 if "gradient" in measures else 0)


def texture(picture: Float64, window: int, measures: tuple[str, ...]) -> Float64:
    """Return the texture of a picture.

    Parameters
    ----------
    picture : ndarray, shape (y, x)
        Brightness; NaN where missing.
    window : int
        Odd: the side of the square about each pixel.
    measures : tuple of str
        "mean": of the window. "deviation": root of the mean squared distance from that mean. "gradient":
        root of the mean squared slope, by central differences, per pixel.

    Returns
    -------
    ndarray, shape (y, x, len(measures))
        In the units of the picture; 0 for a window without a pixel.
    """
    there = np.isfinite(picture)
    filled = np.where(there, picture, 0.0)
    count = there.astype(np.float64)
    found: dict[str, Float64] = {}
    if "mean" in measures or "deviation" in measures:
        total, mean, spread = _moments(count, filled, window)
        found["mean"] = mean
        found["deviation"] = np.sqrt(spread / np.maximum(total, 1.0))
    if "gradient" in measures:
        squared = _slope(filled, there, 0) ** 2 + _slope(filled, there, 1) ** 2
        total, summed = _windows(count, window), _windows(squared, window)
        found["gradient"] = np.sqrt(summed / np.maximum(total, 1.0))
    return np.stack([found[name] for name in measures], axis=-1)


def _shifted(values: Float64, window: int, axis: int) -> Iterator[Float64]:
    """Views of the values moved by -window // 2 to window // 2 along an axis, zeros coming in."""
    half = window // 2
    pad = [(half, half) if a == axis else (0, 0) for a in range(2)]
    padded = np.pad(values, pad)
    length = values.shape[axis]
    for start in range(window):
        yield padded[start : start + length] if axis == 0 else padded[:, start : start + length]


def _sum(parts: Iterator[Float64]) -> Float64:
    total = next(parts).copy()
    for part in parts:
        total += part
    return total


def _windows(values: Float64, window: int) -> Float64:
    """Sums over the square window."""
    for axis in (0, 1):
        values = _sum(_shifted(values, window, axis))
    return values


def _moments(count: Float64, values: Float64, window: int) -> tuple[Float64, Float64, Float64]:
    """Number, mean, and sum of squares about the mean, of what is there in each window.

    First down, then across: the squares about the means of the columns, and those of these means about theirs
    (Chan), so that nothing cancels.
    """
    spread = np.zeros_like(values)
    mean = values
    for axis in (0, 1):
        counts, means, spreads = (tuple(_shifted(part, window, axis)) for part in (count, mean, spread))
        count = _sum(iter(counts))
        mean = _sum(n * m for n, m in zip(counts, means, strict=True)) / np.maximum(count, 1.0)
        spread = _sum(iter(spreads)) + _sum(n * (m - mean) ** 2 for n, m in zip(counts, means, strict=True))
    return count, mean, spread


def _slope(values: Float64, there: Bools, axis: int) -> Float64:
    """Central differences; one-sided beside what is missing, zero between."""
    before, after = np.zeros_like(values), np.zeros_like(values)
    steps = np.diff(values, axis=axis)
    first = (slice(1, None), slice(None)) if axis == 0 else (slice(None), slice(1, None))
    last = (slice(None, -1), slice(None)) if axis == 0 else (slice(None), slice(None, -1))
    both = there[first] & there[last]
    before[first], after[last] = np.where(both, steps, 0.0), np.where(both, steps, 0.0)
    sides = np.zeros_like(values)
    sides[first] += both
    sides[last] += both
    return np.asarray((before + after) / np.maximum(sides, 1.0), np.float64)
