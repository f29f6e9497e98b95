"""Tiles of a pair of frames, or of a flow field, as rows of a regression."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from distem.kernels import warping_compiled
from distem.kernels.regression_reference import Layout
from distem.motion.designs import DESIGNS, Geometry, displacement, undone
from distem.motion.frames import Frames, SourceFrames, Window, level_shape, smoothed
from distem.types import Bools, Float64, Rows

PLACES = 2
"""The first columns of every row: its coordinates y and x."""


def flow_layout(design: str) -> Layout:
    """Of rows that hold coordinates and the displacement: both directions on the same terms."""
    factors = [[0] * a + [1] * b for a, b in DESIGNS[design]]
    return Layout(_padded([factors]), np.array([[2, 3]]), np.zeros(0, np.int64))


def brightness_layout(design: str, k: int) -> Layout:
    """Of rows that hold coordinates, and for each of k motions two slopes and a difference.

    Brightness stays: what differs between a frame and the next one, looked at where a motion puts it, is
    the next one's slopes times what the motion still lacks. The terms are those of the displacement along y
    times the slope along y, then those along x.
    """
    factors = []
    for c in range(k):
        first = PLACES + 3 * c
        own = [[slope] + [0] * a + [1] * b for slope in (first, first + 1) for a, b in DESIGNS[design]]
        factors.append(own)
    responses = np.array([[PLACES + 3 * c + 2] for c in range(k)])
    return Layout(_padded(factors), responses, np.zeros(0, np.int64))


def _padded(factors: list[list[list[int]]]) -> np.ndarray:
    most = max(1, *(len(term) for own in factors for term in own))
    return np.array([[term + [-1] * (most - len(term)) for term in own] for own in factors], dtype=np.int64)


@dataclass(frozen=True, eq=False)
class BrightnessTile:
    """A tile of a level of a pair of frames; its rows come into being where it is loaded.

    Attributes
    ----------
    index : int
        Number of the tile.
    frames : Frames
        The pictures.
    t : int
        The first frame of the pair.
    level : int
        Of the pyramid.
    window : tuple of slice
        The tile, in pixels of the level.
    design : str
    motions : ndarray, shape (k, 2, p)
        Where each motion puts the pixels of the first frame in the second, so far.
    back : bool
        Whether to look at the frame before instead, from which the motions led here.
    away : float
        What a motion that takes a pixel out of the frame misses it by: all the range of grey values, or NaN.
    """

    index: int
    frames: Frames
    t: int
    level: int
    window: Window
    design: str
    motions: Float64
    back: bool = False
    away: float = 1.0

    @property
    def n(self) -> int:
        """Number of pixels."""
        return _size(self.window)

    @property
    def nbytes(self) -> int:
        """Bytes of the rows."""
        return self.n * 8 * (PLACES + 3 * len(self.motions))

    def load(self) -> Rows:
        """Read both frames, warp the second by each motion, drop pixels that are missing.

        Pixels that all motions take out of the frame are missing, unless `away` is NaN.
        """
        k = len(self.motions)
        y, x = _grid(self.window)
        scale = 2**self.level
        geometry = Geometry(*self.frames.shape)
        here = geometry.coordinates(y * scale, x * scale)
        values = np.empty((self.n, PLACES + 3 * k))
        values[:, 0], values[:, 1] = here
        gone = np.ones(self.n, dtype=bool)
        first = smoothed(self.frames, self.t, self.level, self.window).ravel()
        for c, motion in enumerate(self.motions):
            if self.back:
                dy, dx = undone(motion, self.design, geometry, *here)
            else:
                dy, dx = displacement(motion, self.design, *here)
            at = PLACES + 3 * c
            value, along_y, along_x = self._look(y + dy / scale, x + dx / scale)
            out = np.isnan(value)
            gone &= out
            # slopes are per pixel of the level: a motion is in pixels of the frame
            values[:, at] = np.where(out, 0.0, along_y / scale)
            values[:, at + 1] = np.where(out, 0.0, along_x / scale)
            values[:, at + 2] = np.where(out, self.away, first - value)
        kept: Bools = np.asarray(np.isfinite(first) & ~(gone & np.isfinite(self.away)))
        if kept.all():
            return Rows(values)
        return Rows(np.ascontiguousarray(values[kept]), kept=kept)

    def _look(self, y: Float64, x: Float64) -> tuple[Float64, Float64, Float64]:
        """The second frame at places of the level, read no further than they reach."""
        shape = level_shape(self.frames.shape, self.level)
        spans = []
        for places, length in ((y, shape[0]), (x, shape[1])):
            low = int(np.clip(np.floor(places.min()) - 1, 0, length - 1))
            high = int(np.clip(np.floor(places.max()) + 3, low + 1, length))
            spans.append(slice(low, high))
        image = smoothed(self.frames, self.t + (-1 if self.back else 1), self.level, (spans[0], spans[1]))
        return warping_compiled.look(image, y - spans[0].start, x - spans[1].start)


@dataclass(frozen=True, eq=False)
class FlowTile:
    """A tile of a flow field: displacements along x and y, u and v, are the features.

    Attributes
    ----------
    index : int
        Number of the tile.
    frames : SourceFrames
        The flow fields.
    t : int
        Which of them.
    window : tuple of slice
        The tile.
    columns : tuple of int
        Which feature is the displacement along y, and which that along x.
    """

    index: int
    frames: SourceFrames
    t: int
    window: Window
    columns: tuple[int, int]

    @property
    def n(self) -> int:
        """Number of pixels."""
        return _size(self.window)

    @property
    def nbytes(self) -> int:
        """Bytes of the rows."""
        return self.n * 8 * (PLACES + 2)

    def load(self) -> Rows:
        """Read the field, drop pixels where it is missing."""
        y, x = _grid(self.window)
        here = Geometry(*self.frames.shape).coordinates(y, x)
        flow = self.frames.bands(self.t, self.window).reshape(-1, self.frames.source.d)
        values = np.stack([*here, *(flow[:, c] for c in self.columns)], axis=1)
        kept: Bools = np.asarray(np.isfinite(values).all(axis=1))
        return Rows(values) if kept.all() else Rows(np.ascontiguousarray(values[kept]), kept=kept)


def _size(window: Window) -> int:
    return int((window[0].stop - window[0].start) * (window[1].stop - window[1].start))


def _grid(window: Window) -> tuple[Float64, Float64]:
    """Pixel numbers y and x of a window's pixels, row by row."""
    y, x = np.meshgrid(*(np.arange(w.start, w.stop, dtype=np.float64) for w in window), indexing="ij")
    return y.ravel(), x.ravel()
