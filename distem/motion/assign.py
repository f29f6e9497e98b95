"""The pass that labels the pixels of every pair, and sums up where each layer is."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar, Self

import numpy as np

from distem.data.assignment import AssignmentWriter
from distem.models.regression import RegressionMixture, RegressionParams
from distem.motion.evidence import Evidence, EvidenceTile
from distem.types import Float64, Rows


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
        model = replace(self.model, log_outlier=self.outliers[t]) if self.model.outliers else self.model
        before = None if tile.before is None else self.params[t - 1]
        return Evidence(model, self.params[t], self.shape, self.width, before).answers(rows, tile)
