"""Frames and their pyramids, read a rectangle at a time: any cut into tiles sees the same pixels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from scipy.ndimage import correlate1d

from distem.data.source import Source
from distem.kernels import warping_compiled
from distem.types import Float64

Window = tuple[slice, slice]
"""Rows and columns of a frame."""
REDUCE = np.array([1.0, 4.0, 6.0, 4.0, 1.0]) / 16.0
"""Before every second pixel is taken [1]_.

References
----------
.. [1] Burt and Adelson, The Laplacian pyramid as a compact image code, IEEE Trans. Comm. 31 (1983).
"""
SMOOTH = np.array([1.0, 2.0, 1.0]) / 4.0
"""Before slopes are taken."""
ENOUGH = 0.5
"""Weight of the pixels that are there, below which what is filtered of them is missing."""


class Frames(Protocol):
    """Pictures one after the other."""

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width."""

    @property
    def count(self) -> int:
        """How many there are."""

    def read(self, t: int, window: Window) -> Float64:
        """A part of frame t as grey values, shape (h, w); NaN where missing."""


@dataclass(frozen=True, eq=False)
class ArrayFrames:
    """Frames in memory.

    Attributes
    ----------
    values : ndarray, shape (t, h, w)
    """

    values: Float64

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width."""
        return int(self.values.shape[1]), int(self.values.shape[2])

    @property
    def count(self) -> int:
        """How many there are."""
        return len(self.values)

    def read(self, t: int, window: Window) -> Float64:
        """A part of frame t."""
        return np.asarray(self.values[t][window], dtype=np.float64)


@dataclass(frozen=True, eq=False)
class SourceFrames:
    """Frames of a source on (time, y, x), the mean of its features the grey value.

    Attributes
    ----------
    source : Source
        The data.
    low, span : float
        What becomes 0, and what span of values 1.
    """

    source: Source
    low: float = 0.0
    span: float = 1.0

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width."""
        return int(self.source.shape[1]), int(self.source.shape[2])

    @property
    def count(self) -> int:
        """How many there are."""
        return int(self.source.shape[0])

    def read(self, t: int, window: Window) -> Float64:
        """A part of frame t."""
        values = self.bands(t, window).mean(axis=2)
        return np.asarray((values - self.low) / self.span)

    def bands(self, t: int, window: Window) -> Float64:
        """All features of a part of frame t, shape (h, w, d), as they are stored."""
        values, _ = self.source.window((slice(t, t + 1), *window))
        h, w = (part.stop - part.start for part in window)
        return np.asarray(values, dtype=np.float64).reshape(h, w, self.source.d)


@dataclass(frozen=True, eq=False)
class Despeckled:
    """Frames without single pixels that stand out: smoothing would spread them over all about them.

    Attributes
    ----------
    frames : Frames
        As they are.
    """

    frames: Frames

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width."""
        return self.frames.shape

    @property
    def count(self) -> int:
        """How many there are."""
        return self.frames.count

    def read(self, t: int, window: Window) -> Float64:
        """A part of frame t, looked at with one pixel more on every side."""
        around = tuple(
            slice(max(w.start - 1, 0), min(w.stop + 1, n)) for w, n in zip(window, self.shape, strict=True)
        )
        pixels = self.frames.read(t, (around[0], around[1]))
        edges = [
            (1 - (w.start - a.start), 1 - (a.stop - w.stop)) for w, a in zip(window, around, strict=True)
        ]
        return warping_compiled.despeckle(np.pad(pixels, edges, mode="reflect"))


def level_shape(shape: tuple[int, int], level: int) -> tuple[int, int]:
    """Height and width of a level of the pyramid."""
    for _ in range(level):
        shape = ((shape[0] + 1) // 2, (shape[1] + 1) // 2)
    return shape


def top_level(shape: tuple[int, int], most: int, least: int = 24) -> int:
    """The coarsest level that has `least` pixels on its shorter side, and is no higher than `most`."""
    level = 0
    while level < most and min(level_shape(shape, level + 1)) >= least:
        level += 1
    return level


def smoothed(frames: Frames, t: int, level: int, window: Window) -> Float64:
    """A part of a level of frame t's pyramid, smoothed; the window lies inside the level."""
    return _filtered(frames, t, level, window, SMOOTH, step=1)


def plain(frames: Frames, t: int, level: int, window: Window) -> Float64:
    """A part of a level of frame t's pyramid."""
    if level == 0:
        return frames.read(t, window)
    return _filtered(frames, t, level - 1, window, REDUCE, step=2)


def _filtered(frames: Frames, t: int, level: int, window: Window, taps: Float64, step: int) -> Float64:
    """Every `step`-th pixel of a filtered level, mirrored at the frame's own edges only."""
    reach = len(taps) // 2
    shape = level_shape(frames.shape, level)
    wide = [(w.start * step - reach, (w.stop - 1) * step + 1 + reach) for w in window]
    inner = tuple(slice(max(a, 0), min(b, n)) for (a, b), n in zip(wide, shape, strict=True))
    pixels = plain(frames, t, level, (inner[0], inner[1]))
    edges = [(s.start - a, b - s.stop) for (a, b), s in zip(wide, inner, strict=True)]
    pixels = np.pad(pixels, edges, mode="symmetric")
    inside = tuple(slice(reach, pixels.shape[axis] - reach, step) for axis in (0, 1))
    there = np.isfinite(pixels)
    if there.all():
        return np.ascontiguousarray(_correlated(pixels, taps)[inside])
    known = _correlated(there.astype(np.float64), taps)[inside]
    found = _correlated(np.where(there, pixels, 0.0), taps)[inside] / np.maximum(known, ENOUGH)
    missing = known < ENOUGH
    if step == 1:  # a pixel that is missing stays so
        missing |= ~there[inside]
    return np.where(missing, np.nan, found)


def _correlated(pixels: Float64, taps: Float64) -> Float64:
    for axis in (0, 1):
        pixels = correlate1d(pixels, taps, axis=axis)
    return pixels


def tiles(shape: tuple[int, int], size: int) -> list[Window]:
    """Rectangles of at most `size` on a side that cover a frame, row by row."""
    return [
        (slice(y, min(y + size, shape[0])), slice(x, min(x + size, shape[1])))
        for y in range(0, shape[0], size)
        for x in range(0, shape[1], size)
    ]
