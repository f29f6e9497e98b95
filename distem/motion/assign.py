"""The pass that labels the pixels of every pair, and sums up where each layer is."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar, Self

import numpy as np
from scipy.ndimage import correlate1d

from distem.data.assignment import AssignmentWriter
from distem.kernels.reference import normalise
from distem.models.regression import RegressionMixture, RegressionParams
from distem.motion.frames import SMOOTH, Window
from distem.motion.tiles import BrightnessTile, FlowTile
from distem.types import Float64, Rows

REACH = 3.0
"""Standard deviations of the window at which evidence is no longer looked at."""

STRAY = 0.1
"""Share of stray pixels that a layer may hold, when a window is judged."""
FURTHEST = 10.0
"""Where there is no outlier layer: the most that a pixel says against a layer, in log density."""


def taps_of(width: float) -> Float64:
    """Weights of a Gaussian window along one direction."""
    if width <= 0.0:
        return np.ones(1)
    reach = int(np.ceil(REACH * width))
    taps = np.exp(-0.5 * (np.arange(-reach, reach + 1) / width) ** 2)
    return np.asarray(taps / taps.sum())


def strength(taps: Float64, alike: bool) -> float:
    """How many independent pixels a window is worth; neighbours in smoothed frames are alike."""
    independent = float((SMOOTH**2).sum()) ** 2 if alike else 1.0
    return max(1.0, independent / float((taps**2).sum()) ** 2)


@dataclass(frozen=True, eq=False)
class EvidenceTile:
    """A tile with the pixels about it that its own are judged with.

    Attributes
    ----------
    index : int
        Number among the tiles of all pairs.
    tile : BrightnessTile or FlowTile
        Grown by the reach of the window, inside the frame.
    window : tuple of slice
        The tile itself.
    """

    index: int
    tile: BrightnessTile | FlowTile
    window: Window

    @property
    def n(self) -> int:
        """Number of pixels, those about the tile included."""
        return self.tile.n

    @property
    def nbytes(self) -> int:
        """Bytes of the rows."""
        return self.tile.nbytes

    def load(self) -> Rows:
        """The rows of the grown tile."""
        return self.tile.load()


def grown(index: int, tile: BrightnessTile | FlowTile, shape: tuple[int, int], reach: int) -> EvidenceTile:
    """A tile of a frame with its surroundings."""
    around = tuple(
        slice(max(0, w.start - reach), min(n, w.stop + reach))
        for w, n in zip(tile.window, shape, strict=True)
    )
    return EvidenceTile(index, replace(tile, window=(around[0], around[1])), tile.window)


@dataclass(frozen=True, slots=True, eq=False)
class LayerSums:
    """Where layers are. Adds.

    Attributes
    ----------
    mass : ndarray, shape (t, k)
        Sum of the probabilities of each pair's pixels.
    y, x : ndarray, shape (t, k)
        Sums of probability times place.
    missing : int
        Pixels without a label.
    """

    mass: Float64
    y: Float64
    x: Float64
    missing: int

    def __add__(self, other: Self) -> Self:
        return type(self)(
            self.mass + other.mass, self.y + other.y, self.x + other.x, self.missing + other.missing
        )


@dataclass(frozen=True, eq=False)
class AssignLayers:
    """Label every pixel and write it where it lies; repeating it on a tile writes the same again.

    Pixels near to each other mostly are of one layer: the log densities of a small Gaussian window about a
    pixel are averaged and count as the number of independent pixels in it.

    Attributes
    ----------
    model : RegressionMixture
    params : tuple of RegressionParams
        Of each pair.
    outliers : tuple of float
        Log density of an outlier in each pair.
    blocks : tuple of EvidenceTile
        All tiles, by their numbers.
    shape : tuple of int
        Height and width of a frame.
    width : float
        Standard deviation of the window, in pixels; 0 judges each pixel alone.
    writer : AssignmentWriter or None
        Where answers go.
    """

    model: RegressionMixture
    params: tuple[RegressionParams, ...]
    outliers: tuple[float, ...]
    blocks: tuple[EvidenceTile, ...]
    shape: tuple[int, int]
    width: float
    writer: AssignmentWriter | None
    name: ClassVar[str] = "assign"

    def __call__(self, rows: Rows, block: int) -> LayerSums:
        """Label and write one tile."""
        tile = self.blocks[block]
        t, pairs = tile.tile.t, len(self.params)
        inside, resp, density = self.answers(rows, tile)
        k = resp.shape[1]
        mass, along_y, along_x = (np.zeros((pairs, k)) for _ in range(3))
        sums = LayerSums(mass, along_y, along_x, int((~inside).sum()))
        y, x = np.meshgrid(*(np.arange(w.start, w.stop) for w in tile.window), indexing="ij")
        sums.mass[t] = resp.sum(axis=0)
        sums.y[t], sums.x[t] = y.ravel()[inside] @ resp, x.ravel()[inside] @ resp
        if self.writer is not None:
            label = resp.argmax(axis=1)
            others = resp.copy()
            others[np.arange(len(label)), label] = 0.0
            # tiles are numbered as the chunks of what is written
            self.writer.write(range(block, block + 1), inside, label, resp, density, others.sum(axis=1))
        return sums

    def answers(self, rows: Rows, tile: EvidenceTile) -> tuple[np.ndarray, Float64, Float64]:
        """Which of the tile's pixels have an answer, their probabilities (n, k) and log densities (n,)."""
        t = tile.tile.t
        params = self.params[t]
        model = replace(self.model, log_outlier=self.outliers[t]) if self.model.outliers else self.model
        joint = model.log_joint(rows, params)
        around, own = tile.tile.window, tile.window
        h, w = (part.stop - part.start for part in around)
        k = joint.shape[1]
        there = np.ones(h * w, dtype=bool) if rows.kept is None else rows.kept
        with np.errstate(divide="ignore"):
            logs = np.maximum(np.log(params.weights), -700.0)
        crop = tuple(slice(o.start - a.start, o.stop - a.start) for o, a in zip(own, around, strict=True))
        inside = there.reshape(h, w)[crop].ravel()
        density, _ = normalise(joint)
        taps = taps_of(self.width)
        if len(taps) > 1:
            evidence = np.zeros((h * w, k))
            evidence[there] = self._bounded(joint - logs)
            alike = isinstance(tile.tile, BrightnessTile)
            evidence = strength(taps, alike) * self._averaged(evidence.reshape(h, w, k), around, taps)
            joint = evidence.reshape(-1, k)[there] + logs
        _, resp = normalise(joint)
        cropped = np.zeros(h * w, dtype=bool).reshape(h, w)
        cropped[crop] = True
        mine = cropped.ravel()[there]
        return inside, np.ascontiguousarray(resp[mine]), np.ascontiguousarray(density[mine])

    def _bounded(self, evidence: Float64) -> Float64:
        """No pixel says more against a layer than a stray one does: a few must not speak for all."""
        if not self.model.outliers:
            return np.asarray(np.maximum(evidence, evidence.max(axis=1, keepdims=True) - FURTHEST))
        stray = evidence[:, -1:] + np.log(STRAY)
        bounded = np.logaddexp(evidence[:, :-1], stray)
        return np.concatenate([bounded, evidence[:, -1:]], axis=1)

    def _averaged(self, evidence: Float64, around: Window, taps: Float64) -> Float64:
        """Window means, mirrored at the frame's own edges: elsewhere the tile has all that counts."""
        reach = len(taps) // 2
        edges = [
            (reach if w.start == 0 else 0, reach if w.stop == n else 0)
            for w, n in zip(around, self.shape, strict=True)
        ]
        padded = np.pad(evidence, [*edges, (0, 0)], mode="symmetric")
        for axis in (0, 1):
            padded = correlate1d(padded, taps, axis=axis, mode="nearest")
        inner = tuple(slice(a, padded.shape[i] - b) for i, (a, b) in enumerate(edges))
        return np.asarray(padded[inner])
