"""Layers of a pair of frames: k motions, fitted from coarse to fine on whatever executor there is."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, Self

import numpy as np

from distem._random import generator
from distem.data.scan import ScanPass
from distem.em.acceleration import Plain
from distem.em.loop import Climb, EStep, climb
from distem.em.repair import Repair
from distem.em.stopping import FirstOf, GainLeft, MaxPasses
from distem.execution.base import BlockSet, Executor, one_blas_thread
from distem.models.regression import (
    RegressionMixture,
    RegressionParams,
    RegressionStats,
    coefficient_errors,
)
from distem.models.regression_start import start
from distem.models.seeding import Sample
from distem.motion.designs import DESIGNS, Geometry, displacement
from distem.motion.evidence import ClearTile, Evidence, grown, reach_of
from distem.motion.frames import SMOOTH, Despeckled, Frames, SourceFrames, level_shape, tiles, top_level
from distem.motion.tiles import BrightnessTile, FlowTile, brightness_layout, flow_layout
from distem.types import Block, Float64, Rows

SAMPLE_ROWS = 8000
"""Pixels that a start is looked for on."""
TRIES = 16
"""Starts that are tried for each."""
NEAR = 1e-3
"""Pixels: motions that change by less anywhere are at their end."""
AT_REST = 0.25
"""Pixels: with a last change below it the motions count as found."""
LOST = 0.01
"""Share of the pixels below which a layer may be lost; it is lent that much for the next pair."""


@dataclass(frozen=True)
class Motion:
    """What is asked of the motions.

    Attributes
    ----------
    k : int
        Layers that move.
    design : {"translation", "affine", "quadratic"}
        What displacement a layer may have.
    outliers : bool
        Whether there is one more, of pixels that follow none.
    levels : int
        Of the pyramid above the frames themselves, at most.
    warps : int
        How often the second frame is looked at anew on each level.
    passes : int
        EM steps between two looks.
    restarts : int
        Starts of the first pair; the likeliest is kept.
    tolerance : float
        Per pixel, on the gain still expected.
    tile : int
        Pixels on a side of a tile.
    despeckle : bool
        Whether single pixels that stand out are taken out of the frames first.
    window : float
        Standard deviation in pixels of the window over which evidence for a pixel's layer is gathered.
    noise : float
        Least standard deviation of the noise, as a share of the range of grey values: what a motion may miss.
    seed : int
    kernels : {"compiled", "reference"}
    """

    k: int
    design: str = "affine"
    outliers: bool = True
    levels: int = 4
    warps: int = 4
    passes: int = 8
    restarts: int = 3
    tolerance: float = 1e-6
    tile: int = 256
    despeckle: bool = True
    window: float = 3.0
    noise: float = 1e-5
    seed: int = 0
    kernels: str = "compiled"

    @property
    def p(self) -> int:
        """Terms of the design, in each direction."""
        return len(DESIGNS[self.design])


@dataclass(frozen=True, eq=False)
class Layers:
    """Motions of a pair of frames.

    Attributes
    ----------
    motions : ndarray, shape (k, 2, p)
        Displacements in pixels, along y and x, on terms of a `Geometry`'s coordinates.
    errors : ndarray, shape (k, 2, p)
        Standard errors, were the pixels' layers known.
    params : RegressionParams
        Weights and noise, with which the pixels were looked at last.
    stats : RegressionStats
        Under them.
    passes : int
        Over the pixels, of all levels.
    converged : bool
    log_outlier : float
        Log density of an outlier.
    """

    motions: Float64
    errors: Float64
    params: RegressionParams
    stats: RegressionStats
    passes: int
    converged: bool
    log_outlier: float

    @property
    def log_likelihood(self) -> float:
        """Mean per pixel."""
        return self.stats.mean_log_likelihood


Before = tuple[Float64, RegressionParams]
"""Motions, weights and noise of the pair before."""
Watched = Callable[[BlockSet], BlockSet]
"""Wraps blocks, so that a signal may drop passes over them."""


@dataclass(frozen=True, slots=True, eq=False)
class Pixels:
    """Rows of pixels, end to end."""

    values: Float64

    def __add__(self, other: Self) -> Self:
        return type(self)(np.concatenate([self.values, other.values]))


@dataclass(frozen=True)
class CountPixels:
    """The pass that counts the pixels that can be used."""

    name: ClassVar[str] = "count"

    def __call__(self, rows: Rows, block: int) -> int:  # noqa: ARG002
        """Of one tile; places and one pair of slopes and a difference, as they are looked at."""
        return int(np.isfinite(rows.values).all(axis=1).sum())


@dataclass(frozen=True)
class DrawPixels:
    """The pass that picks the pixels of a lattice.

    Parameters
    ----------
    geometry : Geometry
        Of the frame.
    scale : int
        Pixels of the frame from one pixel of the level to the next.
    step : int
        Pixels of the level from one that is picked to the next.
    """

    geometry: Geometry
    scale: int
    step: int
    name: ClassVar[str] = "sample"

    def __call__(self, rows: Rows, block: int) -> Pixels:  # noqa: ARG002
        """Pick from one tile."""
        middle = (self.geometry.height - 1) / 2.0, (self.geometry.width - 1) / 2.0
        picked = np.ones(rows.n, dtype=bool)
        for column, half in enumerate(middle):
            number = np.rint(rows.values[:, column] * self.geometry.unit + half).astype(np.int64)
            picked &= number // self.scale % self.step == 0
        return Pixels(np.asarray(rows.values[picked], dtype=np.float64))


@dataclass(frozen=True, eq=False)
class Estimator:
    """Fits the layers of pairs, one after the other.

    Parameters
    ----------
    asked : Motion
        What is wanted.
    frames : Frames
        The pictures, grey values from 0 to 1; or flow fields.
    executor : Executor
        Where passes run.
    flow : tuple of int, optional
        The features that are displacements along y and x, where the frames are flow fields.
    watched : callable
        Wraps blocks.
    """

    asked: Motion
    frames: Frames
    executor: Executor
    flow: tuple[int, int] | None = None
    watched: Watched = lambda blocks: blocks

    @property
    def geometry(self) -> Geometry:
        """Of a frame."""
        return Geometry(*self.frames.shape)

    def blocks(self, t: int, level: int, motions: Float64) -> list[Block]:
        """The pixels of a level of a pair, as tiles."""
        windows = tiles(level_shape(self.frames.shape, level), self.asked.tile)
        if self.flow is not None and isinstance(self.frames, SourceFrames):
            return [FlowTile(i, self.frames, t, window, self.flow) for i, window in enumerate(windows)]
        args = Despeckled(self.frames) if self.asked.despeckle else self.frames, t, level
        return [
            BrightnessTile(i, *args, window, self.asked.design, motions) for i, window in enumerate(windows)
        ]

    def comparable(self, t: int) -> int:
        """Pixels of pair t that can be compared, were nothing to move; of a flow field those that it has."""
        level = 0 if self.flow is not None else min(1, self._top)
        blocks = self.blocks(t, level, np.zeros((1, 2, self.asked.p)))
        with self.executor.open(blocks, resident=False) as opened:
            return int(self.watched(opened).map_reduce(CountPixels()))

    def fit(self, t: int, before: Before | None) -> Layers:
        """The layers of pair t, in the order of those before; of the first pair the largest first."""
        if self.flow is not None:
            return self._flow(t, before)
        if before is not None:
            level = min(1, self._top)
            return self._settled(t, self._down(t, level, before[0], revived(before[1], self.asked), 0))
        found = [
            self._down(t, self._top, *self._beginning(t, restart), 0)
            for restart in range(self.asked.restarts)
        ]
        best = max(found, key=lambda layers: layers.log_likelihood)
        return by_size(self._settled(t, replace(best, passes=sum(layers.passes for layers in found))))

    @property
    def _top(self) -> int:
        return top_level(self.frames.shape, self.asked.levels)

    # brightness

    def model(self, outlier: float | None = None) -> RegressionMixture:
        """Of brightness: grey values go from 0 to 1, and so does what an outlier may be."""
        asked = self.asked
        layout = brightness_layout(asked.design, asked.k)
        if self.flow is not None:
            layout = flow_layout(asked.design)
        log_outlier = (0.0 if outlier is None else outlier) if asked.outliers else -np.inf
        tied = self.flow is None
        floor = asked.noise**2
        return RegressionMixture(
            layout, floor=floor, log_outlier=log_outlier, kernels=asked.kernels, tied=tied, keeps=True
        )

    def _beginning(self, t: int, restart: int) -> tuple[Float64, RegressionParams]:
        """Translations of the coarsest level, found about motions of nothing."""
        asked, level = self.asked, self._top
        model = replace(self.model(), layout=brightness_layout("translation", asked.k))
        still = np.zeros((asked.k, 2, asked.p))
        with self.executor.open(self.blocks(t, level, still), resident=True) as opened:
            blocks = self.watched(opened)
            sample = self._sample(blocks, level)
        rng = generator(asked.seed, "motion", restart)
        with one_blas_thread():
            begun = start(model, asked.k, sample, rng, TRIES, places=(0, 1))
        motions = still.copy()
        motions[:, :, 0] = begun.coef[:, :, 0]
        p = 2 * asked.p
        grams = np.stack([np.eye(p)] * asked.k)
        return motions, replace(begun, coef=np.zeros((asked.k, p, 1)), gram=grams)

    def _sample(self, blocks: BlockSet, level: int) -> Sample:
        """Pixels on a lattice of a level, in an order of chance: the same however the level is cut."""
        height, width = level_shape(self.frames.shape, level)
        step = max(1, int(np.ceil(np.sqrt(height * width / SAMPLE_ROWS))))
        values = blocks.map_reduce(DrawPixels(self.geometry, 2**level, step)).values
        values = values[np.lexsort((values[:, 1], values[:, 0]))]
        values = generator(self.asked.seed, "pixels").permutation(values)
        return Sample(len(values), np.arange(len(values), dtype=np.float64), values, np.ones(len(values)))

    def _down(self, t: int, level: int, motions: Float64, params: RegressionParams, passes: int) -> Layers:
        """From a level to the frames themselves."""
        model, asked = self.model(), self.asked
        converged = False
        while True:
            for _ in range(asked.warps):
                params = replace(params, coef=np.zeros_like(params.coef))
                found, took = self._climb(model, self.blocks(t, level, motions), params, asked.passes)
                passes += took
                step = found.coef[:, :, 0].reshape(motions.shape)
                step = self._believed(step)
                motions, params = motions + step, found
                reach = self._moved(step, params)
                converged = reach < AT_REST
                if reach < NEAR:
                    break
            if level == 0:
                break
            level -= 1
        return self._looked_at(model, t, motions, params, passes + 1, converged)

    def _settled(self, t: int, layers: Layers) -> Layers:
        """The last of it, with pixels given to layers by all that lies about them.

        Alone, a pixel of little slope is of any layer, and what a motion learns of those that are not its own
        is wrong. A climb goes over tiles whose pixels' surroundings were judged before it: its likelihood,
        of these tiles, does not fall.
        """
        model, asked = self.model(), self.asked
        motions, params, passes = layers.motions, layers.params, layers.passes
        converged = False
        for _ in range(asked.warps):
            params = replace(params, coef=np.zeros_like(params.coef))
            found, took = self._climb(model, self._clear(model, t, motions, params), params, asked.passes)
            passes += took
            step = self._believed(found.coef[:, :, 0].reshape(motions.shape))
            motions, params = motions + step, found
            reach = self._moved(step, params)
            converged = reach < AT_REST
            if reach < NEAR:
                break
        return self._looked_at(model, t, motions, params, passes + 2, converged)

    def _clear(
        self, model: RegressionMixture, t: int, motions: Float64, params: RegressionParams
    ) -> list[Block]:
        """The pixels of a pair, each with the layers that are not out of the question."""
        shape, reach = self.frames.shape, reach_of(self.asked.window)
        evidence = Evidence(model, params, shape, self.asked.window)
        return [
            ClearTile(i, grown(i, tile, shape, reach), evidence)
            for i, tile in enumerate(self.blocks(t, 0, motions))
            if isinstance(tile, BrightnessTile)
        ]

    def _moved(self, step: Float64, params: RegressionParams) -> float:
        """The largest change of a motion, in pixels: root mean square over a layer, where it has slopes."""
        asked = self.asked
        most = 0.0
        for c in np.flatnonzero(params.weights[: asked.k] > LOST):
            slopes = params.gram[c, 0, 0] + params.gram[c, asked.p, asked.p]
            change = step[c].ravel() @ params.gram[c] @ step[c].ravel()
            # a slope sees of a change what goes along it, half on the whole
            most = max(most, float(np.sqrt(2.0 * max(change, 0.0) / max(slopes, 1e-300))))
        return most

    def _climb(
        self, model: RegressionMixture, blocks: Sequence[Block], start: RegressionParams, most: int
    ) -> tuple[RegressionParams, int]:
        """A few EM steps."""
        stop = FirstOf((GainLeft(self.asked.tolerance), MaxPasses(most)))
        fit = Climb("motion", model, start, stop, Repair(np.empty((0, 1)), 0, 0), Plain())
        with self.executor.open(blocks, resident=True) as opened:
            climb([fit], self.watched(opened))
        with one_blas_thread():  # the statistics are at hand
            return model.m_step(fit.fit.stats, fit.fit.params), len(fit.trace)

    def _looked_at(
        self,
        model: RegressionMixture,
        t: int,
        motions: Float64,
        params: RegressionParams,
        passes: int,
        converged: bool,
    ) -> Layers:
        """The pixels once more, about the motions as they are now."""
        if self.flow is None:
            params = replace(params, coef=np.zeros_like(params.coef))
        with self.executor.open(self.blocks(t, 0, motions), resident=False) as opened:
            stats = self.watched(opened).map_reduce(EStep(((model, params),))).each[0]
        mass = np.maximum(stats.mass[: self.asked.k], 1.0)
        if self.flow is None:
            with self.executor.open(self._clear(model, t, motions, params), resident=False) as opened:
                own = self.watched(opened).map_reduce(EStep(((model, params),))).each[0]
            mass = np.maximum(own.mass[: self.asked.k], 1.0)
            params = replace(params, gram=own.gram / mass[:, None, None])
            # smoothing makes neighbours alike: fewer pixels are independent than there are
            errors = coefficient_errors(params, mass, params.noise)[:, :, 0] / float((SMOOTH**2).sum())
            errors = errors.reshape(motions.shape)
        else:
            errors = np.swapaxes(coefficient_errors(params, mass, params.noise), 1, 2)
        return Layers(motions, errors, params, stats, passes, converged, model.log_outlier)

    def corners(self, motions: Float64) -> Float64:
        """The largest displacement of each at the frame's corners and middle, in pixels."""
        geometry = self.geometry
        y, x = np.array([0, 0, 0.5, 1, 1]), np.array([0, 1, 0.5, 0, 1])
        at = geometry.coordinates(y * (geometry.height - 1), x * (geometry.width - 1))
        moved = [np.abs(displacement(motion, self.asked.design, *at)).max() for motion in motions]
        return np.array(moved)

    def _believed(self, step: Float64) -> Float64:
        """Steps, without those of layers of too few pixels to tell: they would leave the frame."""
        wild = self.corners(step) > 0.5 * min(self.frames.shape)
        return np.where(wild[:, None, None], 0.0, step)

    # flow

    def _flow(self, t: int, before: Before | None) -> Layers:
        asked = self.asked
        with self.executor.open(self.blocks(t, 0, np.empty(0)), resident=True) as opened:
            blocks = self.watched(opened)
            scan = blocks.map_reduce(ScanPass())
            sides = (scan.maximum - scan.minimum)[2:]
            model = self.model(-float(np.log(np.maximum(sides, 1e-300)).sum()))
            model = replace(model, variance=np.maximum(scan.variance[2:], 1e-300))
            if before is None:
                sample = self._sample(blocks, 0)
                with one_blas_thread():
                    starts = [
                        start(
                            model, asked.k, sample, generator(asked.seed, "motion", i), TRIES, places=(0, 1)
                        )
                        for i in range(asked.restarts)
                    ]
            else:
                starts = [revived(before[1], asked)]
            stop = FirstOf((GainLeft(asked.tolerance), MaxPasses(20 * asked.passes)))
            repair = Repair(np.empty((0, 1)), 0, 0)
            climbs = [Climb(str(i), model, begun, stop, repair, Plain()) for i, begun in enumerate(starts)]
            climb(climbs, blocks)
        best = max((c.fit for c in climbs), key=lambda fit: fit.log_likelihood)
        with one_blas_thread():
            params = model.m_step(best.stats, best.params)
        motions = np.swapaxes(params.coef, 1, 2)
        passes = max(len(c.trace) for c in climbs) + 1
        found = self._looked_at(model, t, motions, params, passes, best.reason.converged)
        return by_size(found) if before is None else found


def revived(params: RegressionParams, asked: Motion) -> RegressionParams:
    """Parameters to begin the next pair with: a layer that was hidden may come back."""
    weights = np.maximum(params.weights, LOST)
    noise = params.noise
    if not asked.outliers or asked.k == 1:
        return replace(params, weights=weights / weights.sum())
    lost = params.weights[: asked.k] < LOST
    if lost.any() and not lost.all():
        noise = np.where(lost[:, None], noise[~lost].mean(axis=0), noise)
    return replace(params, weights=weights / weights.sum(), noise=noise)


def by_size(layers: Layers) -> Layers:
    """The same layers, the largest first; outliers stay last."""
    k = len(layers.motions)
    order = np.argsort(-layers.params.weights[:k], kind="stable")
    every = np.append(order, np.arange(k, layers.params.k))
    params, stats = layers.params, layers.stats
    parts = {n: getattr(params, n)[order] for n in ("coef", "noise", "gram", "centres", "spreads")}
    sums = {n: getattr(stats, n)[order] for n in ("gram", "cross", "second", "place", "extent")}
    return replace(
        layers,
        motions=layers.motions[order],
        errors=layers.errors[order],
        params=replace(params, weights=params.weights[every], **parts),
        stats=replace(stats, mass=stats.mass[every], **sums),
    )
