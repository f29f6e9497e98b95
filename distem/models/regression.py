"""Mixtures of linear regressions: a component expects y of x, with noise of its own.

A component's density of a row is N(y; B'φ(x), Σ): the predictors x are given, and no law is asked of them.
Weights are the same for all rows or, with a `position`, depend on where a row lies: each component then also
has a Gaussian of the position, as in cluster-weighted modelling, so that the M-step stays in closed form.
An outlier layer of the same density everywhere may come last.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from distem.errors import FitError
from distem.kernels.regression_reference import Layout, Parameters, residuals
from distem.models.base import Stats, log_weights
from distem.models.base import kernel_set as kernel_module
from distem.models.covariance import COVARIANCES, SMALLEST_VARIANCE, Covariance
from distem.models.gaussian import EPS, LOG_2PI
from distem.models.mixture import DEAD_ROWS
from distem.types import Assignment, Float64, Ints, Rows

RANK = 64.0 * EPS
"""Eigenvalue of a design's correlations, per term, below which a direction is not in the data."""


@dataclass(frozen=True, slots=True, eq=False)
class RegressionParams:
    """Parameters of k regressions, and of an outlier layer if there is one.

    Attributes
    ----------
    weights : ndarray, shape (k,) or (k + 1,)
        Mixing weights; that of the outliers comes last.
    coef : ndarray, shape (k, p, q)
        Coefficients of the p terms of the design for the q responses.
    noise : ndarray, shape (k, q) or (k, q, q)
        Variances of the noise, or its covariances.
    gram : ndarray, shape (k, p, p)
        Mean of φφ' over each component's rows, as of the last M-step: not a parameter, but what says how
        well the coefficients are known.
    centres : ndarray, shape (k, s)
        Mean position.
    spreads : ndarray, shape (k, s, s)
        Covariance of the position.
    """

    weights: Float64
    coef: Float64
    noise: Float64
    gram: Float64
    centres: Float64
    spreads: Float64

    @property
    def k(self) -> int:
        """Number of layers: regressions, and the outliers."""
        return int(self.weights.shape[0])

    @property
    def regressions(self) -> int:
        """Number of regressions."""
        return int(self.coef.shape[0])


@dataclass(frozen=True, slots=True, eq=False)
class RegressionStats(Stats):
    """What an E-step over some rows adds up to; moments are about what its parameters expect.

    Attributes
    ----------
    n : int
        Rows.
    total : float
        Sum of row weights.
    log_likelihood : float
        Weighted sum of log densities.
    mass : ndarray, shape (k,)
        Sum of responsibilities times row weights, outliers last.
    gram, cross, second : ndarray, shape (k, p, p), (k, p, q), (k, q, q)
        Sums of r φφ', r φe', r ee', with residuals e.
    place, extent : ndarray, shape (k, s), (k, s, s)
        Sums of r (z - m), r (z - m)(z - m)', with positions z.
    """

    n: int
    total: float
    log_likelihood: float
    mass: Float64
    gram: Float64
    cross: Float64
    second: Float64
    place: Float64
    extent: Float64

    @property
    def mean_log_likelihood(self) -> float:
        """Per row, weights considered."""
        if not self.total > 0:
            raise FitError(
                "No row is left to fit to: all are missing, or every motion takes them out of the picture.",
                "Ask for fewer motions or a simpler design, or leave out frames that show nothing.",
            )
        return self.log_likelihood / self.total


@dataclass(frozen=True, eq=False)
class RegressionMixture:
    """A mixture of linear regressions.

    Parameters
    ----------
    layout : Layout
        Which columns of a row are the design's terms, the responses and the position.
    noise : {"diag", "full"}
        Whether the noise of the responses of a row is independent.
    floor : float
        Least variance of a component's noise, relative to that of the responses.
    variance : ndarray, shape (q,), or None
        Of the responses over the data, which `floor` refers to; None means one.
    log_outlier : float
        Log density of an outlier; minus infinity for no outlier layer.
    kernels : {"compiled", "reference"}
        Which kernels do the work.
    tied : bool
        Whether all regressions have the same noise.
    keeps : bool
        Whether a regression that loses its rows stays as it is: its number means something.
    """

    layout: Layout
    noise: str = "diag"
    floor: float = 1e-12
    variance: Float64 | None = None
    log_outlier: float = -np.inf
    kernels: str = "compiled"
    tied: bool = False
    keeps: bool = False
    stats_type: ClassVar[type[Stats]] = RegressionStats

    @property
    def shape(self) -> Covariance:
        """The noise's shape of covariance."""
        return COVARIANCES[self.noise]

    @property
    def outliers(self) -> bool:
        """Whether there is an outlier layer."""
        return self.log_outlier > -np.inf

    def _kernel(self, name: str) -> Any:
        return getattr(kernel_module(f"regression_{self.kernels}"), name)

    def least(self, q: int) -> Float64:
        """Least variances of the noise, shape (q,)."""
        variance = np.ones(q) if self.variance is None else self.variance
        return np.maximum(self.floor * variance, SMALLEST_VARIANCE)

    def _at(self, params: RegressionParams) -> Parameters:
        k, q = params.regressions, params.coef.shape[2]
        factors, _ = self.shape.factor(params.noise)
        if self.noise == "diag":
            factors = factors[:, :, None] * np.eye(q)
        s = params.centres.shape[1]
        spreads = COVARIANCES["full"].factor(params.spreads)[0] if s else np.zeros((k, 0, 0))
        logs = log_weights(params.weights)
        outlier = float(logs[-1]) + self.log_outlier if self.outliers else -np.inf
        # a layer without weight stays a layer: its column is there, and says nothing
        outlier = max(outlier, -1e300) if self.outliers else outlier
        return Parameters(logs[:k], params.coef, factors, params.centres, spreads, outlier)

    def e_step(self, rows: Rows, params: RegressionParams) -> RegressionStats:
        """Sufficient statistics of some rows, in one fused sweep."""
        found = self._kernel("e_step")(rows.values, rows.weights, self.layout, self._at(params))
        total = float(rows.n) if rows.weights is None else float(rows.weights.sum())
        return RegressionStats(rows.n, total, float(found[0]), *found[1:])

    def m_step(self, stats: RegressionStats, params: RegressionParams) -> RegressionParams:
        """Weighted least squares for each component, about what it expected so far."""
        k, (p, q) = params.regressions, params.coef.shape[1:]
        least = 10 * EPS * stats.total / max(stats.n, 1)
        mass = stats.mass + least
        coef, noise = params.coef.copy(), np.empty((k, q, q))
        for c in range(k):
            change = solve(stats.gram[c], stats.cross[c])
            coef[c] += change
            explained = change.T @ stats.cross[c]
            left = stats.second[c] - explained - explained.T + change.T @ stats.gram[c] @ change
            # what is left of large residuals is known to their rounding, and no better
            rounding = 8.0 * EPS * np.diagonal(stats.second[c])
            np.fill_diagonal(left, np.maximum(np.diagonal(left), rounding))
            noise[c] = (left + left.T) / (2.0 * mass[c])
        gram = np.where(
            stats.mass[:k, None, None] > least * 1e6, stats.gram / mass[:k, None, None], params.gram
        )
        centres, spreads = self._places(stats, params, mass)
        if self.tied:
            noise[:] = np.tensordot(mass[:k] / mass[:k].sum(), noise, axes=1)
        covariances = self.shape.from_matrices(noise, mass[:k])
        covariances = self.shape.regularise(covariances, 0.0, self.least(q))
        return RegressionParams(
            mass / mass.sum(), coef, self._proper(covariances), gram.reshape(k, p, p), centres, spreads
        )

    def _proper(self, noise: Float64) -> Float64:
        """The noise, made non-singular where it is not."""
        return self.shape.factor(noise)[1]

    def _places(
        self, stats: RegressionStats, params: RegressionParams, mass: Float64
    ) -> tuple[Float64, Float64]:
        k, s = params.centres.shape
        if s == 0:
            return params.centres, params.spreads
        full = COVARIANCES["full"]
        shift = stats.place / mass[:k, None]
        spreads = full.estimate(mass[:k], shift, stats.extent)
        # a position's units are the caller's: the least extent is relative to that of all
        overall = np.diagonal(params.spreads, axis1=1, axis2=2).max(axis=0)
        spreads = full.regularise(spreads, 0.0, np.maximum(1e-12 * overall, SMALLEST_VARIANCE))
        return params.centres + shift, full.factor(spreads)[1]

    def log_joint(self, rows: Rows, params: RegressionParams) -> Float64:
        """Log of weight times density, shape (n, k)."""
        found: Float64 = self._kernel("log_joint")(rows.values, self.layout, self._at(params))
        return found

    def assign(self, rows: Rows, params: RegressionParams, *, probability: bool = True) -> Assignment:
        """Labels, responsibilities and log densities of some rows; k is the label of outliers."""
        log_density, resp = kernel_module(self.kernels).normalise(self.log_joint(rows, params))
        label = resp.argmax(axis=1)
        others = resp.copy()
        others[np.arange(len(label)), label] = 0.0
        # added up: 1 - max would round small values away
        return Assignment(label, log_density, others.sum(axis=1), resp if probability else None)

    def n_parameters(self, params: RegressionParams) -> int:
        """Free parameters: weights, coefficients, noise, positions."""
        k, p, q = params.coef.shape
        s = params.centres.shape[1]
        noises = self.shape.n_parameters(1 if self.tied else k, q)
        return int(params.k - 1 + k * p * q + noises + k * (s + s * (s + 1) // 2))

    def expected_complete(self, stats: RegressionStats, params: RegressionParams) -> float:
        """Sum over rows and components of r log(weight times density)."""
        k, _, q = params.coef.shape
        s = params.centres.shape[1]
        at = self._at(params)
        with np.errstate(divide="ignore", invalid="ignore"):
            mixing = np.where(stats.mass > 0, stats.mass * np.log(params.weights), 0.0).sum()
        full = COVARIANCES["full"]
        constant = full.log_det(at.noise, k, q) + full.log_det(at.spreads, k, s) - (q + s) * LOG_2PI / 2
        found = float(mixing) + float(stats.mass[:k] @ constant) - full.quadratic(stats.second, at.noise) / 2
        if s:
            found -= full.quadratic(stats.extent, at.spreads) / 2
        return found + (float(stats.mass[-1]) * self.log_outlier if self.outliers else 0.0)

    def pack(self, params: RegressionParams) -> Float64:
        """Log weights, coefficients, then noise and positions, unconstrained."""
        parts = [log_weights(params.weights), params.coef.ravel(), self.shape.pack(params.noise)]
        if params.centres.size:
            parts += [params.centres.ravel(), COVARIANCES["full"].pack(params.spreads)]
        return np.concatenate(parts)

    def unpack(self, vector: Float64, like: RegressionParams) -> RegressionParams:
        """The parameters of `vector`; weights are normalised."""
        k, _, q = like.coef.shape
        s = like.centres.shape[1]
        logs, coef, noise, centres, spreads = self._split(vector, like)
        weights = np.exp(logs - logs.max())
        covariances = self.shape.regularise(self.shape.unpack(noise, k, q), 0.0, self.least(q))
        return RegressionParams(
            weights / weights.sum(),
            coef.reshape(like.coef.shape).copy(),
            covariances,
            like.gram,
            centres.reshape(k, s).copy(),
            COVARIANCES["full"].unpack(spreads, k, s) if s else like.spreads,
        )

    def _split(self, vectors: Float64, like: RegressionParams) -> list[Float64]:
        """The parts of packed vectors, (..., p)."""
        k, _, q = like.coef.shape
        sizes = [like.k, like.coef.size, self.shape.n_parameters(k, q), like.centres.size]
        return np.split(vectors, np.cumsum(sizes), axis=-1)

    def natural(self, differences: Float64, params: RegressionParams) -> Float64:
        """Differences of packed parameters (m, p) in units of the information of one row."""
        k, p, q = params.coef.shape
        m, s = len(differences), params.centres.shape[1]
        weights, own = params.weights, params.weights[: params.regressions]
        logs, coef, noise, centres, spreads = self._split(differences, params)
        logs = np.sqrt(weights) * (logs - (logs @ weights)[:, None])
        at = self._at(params)
        # the information of B is weight times gram kron precision: roots of both, from the sides
        coef = np.einsum("kip,mkpq,kqj->mkij", _roots(params.gram), coef.reshape(m, k, p, q), at.noise)
        coef = coef * np.sqrt(own)[:, None, None]
        factors = self.shape.factor(params.noise)[0]
        parts = [logs, coef.reshape(m, -1), self.shape.natural(noise, own, factors, q)]
        if s:
            full = COVARIANCES["full"]
            shifts = full.whiten(centres.reshape(m, k, s) * np.sqrt(own)[:, None], at.spreads)
            parts += [shifts.reshape(m, -1), full.natural(spreads, own, at.spreads, s)]
        return np.concatenate(parts, axis=1)

    def shift(self, stats: RegressionStats, params: RegressionParams) -> None:  # noqa: ARG002
        """A mixture is judged by its likelihood."""
        return

    def collapsed(self, stats: RegressionStats, params: RegressionParams) -> tuple[int, ...]:
        """Regressions that hold no row, or as few as they have terms and no noise."""
        k, p, q = params.coef.shape
        if stats.n == 0 or k == 1 or self.keeps:
            return ()
        rows = stats.mass[:k] * (stats.n / stats.total)
        variances = self.shape.variances(params.noise, k, q)
        exact = (variances <= 2.0 * self.least(q)).all(axis=1)
        return tuple(int(i) for i in np.flatnonzero((rows < DEAD_ROWS) | ((rows < p + 0.5) & exact)))

    def relocate(self, params: RegressionParams, component: int, where: Float64) -> RegressionParams:
        """Let a regression expect the responses of a row, with the others' mean slopes and noise."""
        weights = params.weights.copy()
        weights[component] = 0.0
        weights *= (1.0 - 1.0 / params.k) / max(weights.sum(), EPS)
        own = weights[: params.regressions]
        share = own / own.sum() if own.sum() > 0 else np.full(len(own), 1.0 / len(own))
        coef = params.coef.copy()
        coef[component] = np.tensordot(share, params.coef, axes=1)
        phi, e = residuals(where[None].astype(np.float64), self.layout, coef[component], component)
        coef[component] += phi.T @ e / max(float((phi**2).sum()), SMALLEST_VARIANCE)
        gram, centres, spreads = params.gram.copy(), params.centres.copy(), params.spreads
        gram[component] = np.tensordot(share, params.gram, axes=1)
        if centres.shape[1]:
            centres[component] = where[self.layout.position]
            spreads = COVARIANCES["full"].relocate(spreads, own, component)
        noise = self.shape.relocate(params.noise, own, component)
        weights[component] = 1.0 / params.k
        return RegressionParams(weights / weights.sum(), coef, noise, gram, centres, spreads)

    def drop(self, params: RegressionParams, component: int) -> RegressionParams:
        """Without one regression; the others' weights grow in proportion."""
        arrays = {name: np.delete(value, component, axis=0) for name, value in self.arrays(params).items()}
        arrays["weights"] = arrays["weights"] / arrays["weights"].sum()
        return self.from_arrays(arrays)

    def sample(
        self, params: RegressionParams, n: int, rng: np.random.Generator, x: Float64 | None = None
    ) -> tuple[Float64, Ints]:
        """Draw the responses of n rows, grouped by component; outliers are uniform.

        Parameters
        ----------
        x : ndarray, shape (n, d), optional
            Rows whose predictors are given and whose responses, and position, are written over; by default
            predictors are standard normal: the model says nothing of them.

        Returns
        -------
        rows : ndarray, shape (n, d)
        label : ndarray, shape (n,)
        """
        layout, k, q = self.layout, params.regressions, params.coef.shape[2]
        d = 1 + max(int(layout.factors.max()), int(layout.responses.max()), *layout.position.tolist(), 0)
        label = np.repeat(np.arange(params.k), rng.multinomial(n, params.weights))
        rows = rng.standard_normal((n, d)) if x is None else x.copy()
        noise = np.linalg.cholesky(self.shape.matrices(params.noise, k, q))
        for c in range(k):
            mine = label == c
            part = rows[mine]
            if layout.position.size:
                root = np.linalg.cholesky(params.spreads[c])
                drawn = rng.standard_normal((len(part), layout.position.size)) @ root.T
                part[:, layout.position] = params.centres[c] + drawn
            columns = layout.responses[c % len(layout.responses)]
            part[:, columns] = 0.0
            _, e = residuals(part, layout, params.coef[c], c)
            part[:, columns] = -e + rng.standard_normal((len(part), q)) @ noise[c].T
            rows[mine] = part
        if self.outliers:
            mine = label == k
            side = np.exp(-self.log_outlier / (q + layout.position.size))
            columns = np.concatenate([layout.responses[0], layout.position])
            rows[np.ix_(mine, columns)] = rng.uniform(-side / 2, side / 2, (int(mine.sum()), len(columns)))
        return rows, label

    def arrays(self, params: RegressionParams) -> dict[str, Float64]:
        """The parameters as named arrays."""
        return {
            "weights": params.weights,
            "coef": params.coef,
            "noise": params.noise,
            "gram": params.gram,
            "centres": params.centres,
            "spreads": params.spreads,
        }

    def from_arrays(self, arrays: dict[str, Float64]) -> RegressionParams:
        """The parameters of `arrays`, bit for bit."""
        names = ("weights", "coef", "noise", "gram", "centres", "spreads")
        return RegressionParams(*(arrays[name] for name in names))


def solve(gram: Float64, cross: Float64) -> Float64:
    """Least-squares coefficients of sums φφ' (p, p) and φe' (p, q), the shortest where there are many.

    The design's correlations are solved for, so terms of any scale stand side by side; directions that the
    rows do not have are left as they are.
    """
    scale = np.sqrt(np.diagonal(gram))
    scale = np.where(scale > 0.0, scale, 1.0)
    values, vectors = np.linalg.eigh(gram / scale[:, None] / scale)
    there = values > len(values) * RANK * max(float(values[-1]), SMALLEST_VARIANCE)
    inverse = np.where(there, 1.0 / np.where(there, values, 1.0), 0.0)
    return np.asarray((vectors * inverse) @ (vectors.T @ (cross / scale[:, None])) / scale[:, None])


def coefficient_errors(params: RegressionParams, mass: Float64, noise: Float64) -> Float64:
    """Standard errors of the coefficients, shape (k, p, q), were the rows' components known.

    Parameters
    ----------
    mass : ndarray, shape (k,)
        Weight of each component's rows.
    noise : ndarray, shape (k, q)
        Variances of the noise.
    """
    eye = np.eye(params.coef.shape[1])
    inverse = np.stack([np.diagonal(solve(g, eye)) for g in params.gram])
    return np.sqrt(np.maximum(inverse, 0.0)[:, :, None] * noise[:, None, :] / mass[:, None, None])


def _roots(grams: Float64) -> Float64:
    """Roots R of matrices (k, p, p), with gram = R'R; a little is lent to directions that are not there."""
    scale = np.sqrt(np.maximum(np.diagonal(grams, axis1=1, axis2=2), SMALLEST_VARIANCE))
    values, vectors = np.linalg.eigh(grams / scale[:, :, None] / scale[:, None, :])
    roots = np.sqrt(np.maximum(values, RANK))
    return np.asarray(roots[:, :, None] * np.swapaxes(vectors, 1, 2) * scale[:, None, :])
