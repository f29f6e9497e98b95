"""What the layers of a video do over time: the parameters of all its pairs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np

from distem.errors import ConfigError
from distem.models.regression import RegressionParams
from distem.motion.designs import Geometry, displacement
from distem.motion.layers import Layers
from distem.types import Assignment, Float64, Rows


@dataclass(frozen=True, slots=True, eq=False)
class Tracks:
    """Layers of t pairs of frames.

    Attributes
    ----------
    motions, errors : ndarray, shape (t, m, 2, p)
        Displacements along y and x, and their standard errors; see `Layers`.
    weights : ndarray, shape (t, k)
        Shares of the pixels, that of outliers last.
    noise : ndarray, shape (t, m, q)
        Variances.
    coef, gram : ndarray
        Of the regressions, as `RegressionParams` has them.
    outlier : ndarray, shape (t,)
        Log density of an outlier.
    log_likelihood, pixels, passes, converged : ndarray, shape (t,)
        Mean per pixel, pixels, passes over them, and whether the motions came to rest.
    places : ndarray, shape (t, k, 2)
        Middle of each layer, y and x; NaN as long as they are not known.
    """

    motions: Float64
    errors: Float64
    weights: Float64
    noise: Float64
    coef: Float64
    gram: Float64
    outlier: Float64
    log_likelihood: Float64
    pixels: Float64
    passes: Float64
    converged: Float64
    places: Float64

    @property
    def k(self) -> int:
        """Number of layers, outliers included."""
        return int(self.weights.shape[1])

    @property
    def pairs(self) -> int:
        """Number of pairs."""
        return len(self.weights)

    @classmethod
    def of(cls, found: Sequence[Layers]) -> Tracks:
        """Of the layers of each pair; where they are is not known yet."""
        params = [layers.params for layers in found]
        return cls(
            np.stack([layers.motions for layers in found]),
            np.stack([layers.errors for layers in found]),
            np.stack([p.weights for p in params]),
            np.stack([p.noise for p in params]),
            np.stack([p.coef for p in params]),
            np.stack([p.gram for p in params]),
            np.array([layers.log_outlier for layers in found]),
            np.array([layers.log_likelihood for layers in found]),
            np.array([float(layers.stats.n) for layers in found]),
            np.array([float(layers.passes) for layers in found]),
            np.array([float(layers.converged) for layers in found]),
            np.full((len(found), params[0].k, 2), np.nan),
        )

    def __add__(self, other: Tracks) -> Tracks:
        """These pairs, then others."""
        pairs = ((getattr(self, f.name), getattr(other, f.name)) for f in fields(self))
        return Tracks(*(np.concatenate(pair) for pair in pairs))

    def params(self, t: int) -> RegressionParams:
        """Of the regressions of a pair."""
        k = len(self.coef[t])
        none = np.zeros((k, 0)), np.zeros((k, 0, 0))
        return RegressionParams(self.weights[t], self.coef[t], self.noise[t], self.gram[t], *none)

    def velocities(self, model: TracksModel) -> Float64:
        """Displacements of the layers' middles, shape (t, m, 2)."""
        out = np.empty((*self.motions.shape[:2], 2))
        geometry = Geometry(model.height, model.width)
        for t, motions in enumerate(self.motions):
            for c, motion in enumerate(motions):
                at = geometry.coordinates(*self.places[t, c])
                out[t, c] = displacement(motion, model.design, *at)
        return out


@dataclass(frozen=True)
class TracksModel:
    """What tracks are about; pixels are labelled by `AssignLayers`, rows have no meaning alone."""

    design: str
    height: int
    width: int

    def n_parameters(self, params: Tracks) -> int:
        """Free parameters of all pairs."""
        each = params.k - 1 + params.motions[0].size + params.noise[0].size
        return int(params.pairs * each)

    def arrays(self, params: Tracks) -> dict[str, Float64]:
        """The tracks as named arrays."""
        return {f.name: getattr(params, f.name) for f in fields(params)}

    def from_arrays(self, arrays: dict[str, Float64]) -> Tracks:
        """The tracks of `arrays`."""
        return Tracks(*(arrays[f.name] for f in fields(Tracks)))

    def assign(self, rows: Rows, params: Any, *, probability: bool = True) -> Assignment:  # noqa: ARG002
        """Rows alone cannot be assigned.

        Raises
        ------
        ConfigError
            Always.
        """
        raise ConfigError(
            "A motion model labels the pixels of the frames it was fitted to, and no others.",
            "Run the pipeline estimate_motion on the new frames.",
        )
