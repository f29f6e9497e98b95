"""What a pixel's surroundings say of its layer: grown tiles, and evidence gathered over windows."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from scipy.ndimage import correlate1d

from distem.kernels.reference import normalise
from distem.models.regression import RegressionMixture, RegressionParams
from distem.motion.frames import SMOOTH, Window
from distem.motion.tiles import PLACES, BrightnessTile, FlowTile
from distem.types import Bools, Float64, Rows

REACH = 3.0
"""Standard deviations of the window at which evidence is no longer looked at."""

STRAY = 0.1
"""Share of stray pixels that a layer may hold, when a window is judged."""
FURTHEST = 10.0
"""Where there is no outlier layer: the most that a pixel says against a layer, in log density."""


WIDER = 2.5
"""Times the window's width over which layers' shares are taken: where a pixel's own window says little, it
goes to what lies about it."""
NOWHERE = 1e-4
"""Least share of a layer about a pixel."""


def reach_of(width: float) -> int:
    """Pixels about a tile that its own are judged by."""
    return 0 if width <= 0.0 else len(taps_of(width)) // 2 + len(taps_of(WIDER * width)) // 2


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
    before : BrightnessTile or None
        The same pixels, looked at in the frame before.
    """

    index: int
    tile: BrightnessTile | FlowTile
    window: Window
    before: BrightnessTile | None = None

    @property
    def n(self) -> int:
        """Number of pixels, those about the tile included."""
        return self.tile.n

    @property
    def nbytes(self) -> int:
        """Bytes of the rows."""
        return self.tile.nbytes + (0 if self.before is None else self.before.nbytes)

    @property
    def own(self) -> Bools:
        """Which of the pixels are the tile's own."""
        around = self.tile.window
        own = np.zeros([w.stop - w.start for w in around], dtype=bool)
        own[
            tuple(
                slice(o.start - a.start, o.stop - a.start) for o, a in zip(self.window, around, strict=True)
            )
        ] = True
        return own.ravel()

    def load(self) -> Rows:
        """The rows of the grown tile; behind each, what the frame before says of the same pixel."""
        rows = self.tile.load()
        if self.before is None:
            return rows
        values = np.concatenate([rows.values, self.before.load().values[:, PLACES:]], axis=1)
        return Rows(values, kept=rows.kept)


def grown(
    index: int,
    tile: BrightnessTile | FlowTile,
    shape: tuple[int, int],
    reach: int,
    motions_before: Float64 | None = None,
) -> EvidenceTile:
    """A tile of a frame with its surroundings, and its pixels in the frame before if motions led from it."""
    around = tuple(
        slice(max(0, w.start - reach), min(n, w.stop + reach))
        for w, n in zip(tile.window, shape, strict=True)
    )
    wide = replace(tile, window=(around[0], around[1]))
    if not isinstance(wide, BrightnessTile):
        return EvidenceTile(index, wide, tile.window)
    wide = replace(wide, away=np.nan)
    before = None if motions_before is None else replace(wide, motions=motions_before, back=True)
    return EvidenceTile(index, wide, tile.window, before)


@dataclass(frozen=True, eq=False)
class Evidence:
    """Judges pixels by all that lie about them.

    Pixels near to each other mostly are of one layer: the log densities of a small Gaussian window about a
    pixel are averaged and count as the number of independent pixels in it. Frames are looked at both ways:
    what the next frame hides or leaves out, the frame before mostly shows. Where a layer takes a pixel out
    of the frame, it may have any grey value.

    Attributes
    ----------
    model : RegressionMixture
        Of the pair, its outliers' density included.
    params : RegressionParams
        Of the pair.
    shape : tuple of int
        Height and width of a frame.
    width : float
        Standard deviation of the window, in pixels; 0 judges each pixel alone.
    before : RegressionParams or None
        Of the pair before, for tiles that look there.
    """

    model: RegressionMixture
    params: RegressionParams
    shape: tuple[int, int]
    width: float
    before: RegressionParams | None = None

    def answers(self, rows: Rows, tile: EvidenceTile) -> tuple[np.ndarray, Float64, Float64]:
        """Which of the tile's pixels have an answer, their probabilities (n, k) and log densities (n,)."""
        joint, logs = self._joint(rows, self.params, isinstance(tile.tile, BrightnessTile))
        around = tile.tile.window
        h, w = (part.stop - part.start for part in around)
        k = joint.shape[1]
        there = np.ones(h * w, dtype=bool) if rows.kept is None else rows.kept
        own = tile.own
        inside = there[own]
        density, _ = normalise(joint)
        taps = taps_of(self.width)
        said = joint - logs
        if self.before is not None or len(taps) > 1:
            said = self._bounded(said)
        if self.before is not None:
            columns = np.r_[:PLACES, rows.d - (rows.d - PLACES) // 2 : rows.d]
            earlier, weighed = self._joint(Rows(rows.values[:, columns]), self.before, True)
            said = said + self._bounded(earlier - weighed)
        joint = said + logs
        if len(taps) > 1:
            evidence = np.zeros((h * w, k))
            evidence[there] = said
            alike = isinstance(tile.tile, BrightnessTile)
            evidence = strength(taps, alike) * self._averaged(evidence.reshape(h, w, k), around, taps)
            joint = evidence.reshape(-1, k)[there] + logs
        _, resp = normalise(joint)
        if len(taps) > 1:
            about = np.zeros((h * w, k))
            about[there] = resp
            about = self._averaged(about.reshape(h, w, k), around, taps_of(WIDER * self.width))
            with np.errstate(divide="ignore"):
                near = np.log(np.maximum(about.reshape(-1, k)[there], NOWHERE))
            _, resp = normalise(joint - logs + near)
        mine = own[there]
        return inside, np.ascontiguousarray(resp[mine]), np.ascontiguousarray(density[mine])

    def _joint(self, rows: Rows, params: RegressionParams, brightness: bool) -> tuple[Float64, Float64]:
        """Log of weight times density, and log of the weights; of pixels that are away the density is one."""
        model = self.model
        with np.errstate(divide="ignore"):
            logs = np.maximum(np.log(params.weights), -700.0)
        if not brightness:
            return model.log_joint(rows, params), logs
        differences = model.layout.responses[:, 0]
        away = np.isnan(rows.values[:, differences])
        joint = model.log_joint(Rows(np.nan_to_num(rows.values)), params)
        joint[:, : len(differences)] = np.where(away, logs[: len(differences)], joint[:, : len(differences)])
        return joint, logs

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


CLEAR = 0.02
"""Probability below which a layer is out of the question for a pixel."""


@dataclass(frozen=True, eq=False)
class ClearTile:
    """A tile whose pixels may only be of layers, or outliers, that their surroundings do not speak against.

    Attributes
    ----------
    index : int
        Number of the tile.
    tile : EvidenceTile
        With the pixels about it.
    evidence : Evidence
        What judges them.
    """

    index: int
    tile: EvidenceTile
    evidence: Evidence

    @property
    def n(self) -> int:
        """Number of pixels."""
        return int(self.tile.own.sum())

    @property
    def nbytes(self) -> int:
        """Bytes of the rows."""
        return self.tile.nbytes

    def load(self) -> Rows:
        """The rows of the tile; where a layer is out of the question it misses a pixel by all there is."""
        rows = self.tile.load()
        inside, resp, _ = self.evidence.answers(rows, self.tile)
        there = self.tile.own if rows.kept is None else self.tile.own[rows.kept]
        values = rows.values[there]
        out = resp[:, : (values.shape[1] - PLACES) // 3] < CLEAR
        out |= np.isnan(values[:, PLACES + 2 :: 3])
        for c, column in enumerate(out.T):
            values[column, PLACES + 3 * c : PLACES + 3 * c + 2] = 0.0
            values[column, PLACES + 3 * c + 2] = 1.0
        gone = out.all(axis=1)
        kept = inside.copy()
        kept[inside] = ~gone
        return Rows(np.ascontiguousarray(values[~gone]), kept=kept)
