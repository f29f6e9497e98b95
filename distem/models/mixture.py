"""Finite mixtures: weights and responsibilities over any component."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from distem.models.base import MixtureStats, Moments, Stats, kernel_set, log_weights
from distem.models.gaussian import EPS, Gaussian, GaussianTheta
from distem.types import Assignment, Float64, Ints, Rows

DEAD_ROWS = 1e-6
"""A component with less than this share of one average row has died."""
LONE_ROWS = 1.5
"""A component without spread and with less than so many rows sits on one row; with more, the rows
are equal to each other and it is right to have no spread."""


@dataclass(frozen=True, slots=True, eq=False)
class MixtureParams:
    """Mixing weights, shape (k,), and the parameters of the components."""

    weights: Float64
    theta: GaussianTheta

    @property
    def k(self) -> int:
        """Number of components."""
        return int(self.weights.shape[0])


@dataclass(frozen=True, eq=False)
class Mixture:
    """A mixture of k components of one family.

    Parameters
    ----------
    component : Gaussian
        The family.
    """

    component: Gaussian
    stats_type: ClassVar[type[Stats]] = MixtureStats

    def e_step(self, rows: Rows, params: MixtureParams) -> MixtureStats:
        """Sufficient statistics of some rows, in one fused sweep."""
        log_likelihood, moments = self.component.e_step(rows, log_weights(params.weights), params.theta)
        return self._stats(rows, log_likelihood, moments)

    def composed_e_step(self, rows: Rows, params: MixtureParams) -> MixtureStats:
        """The E-step by its definition: densities, responsibilities, moments. What `e_step` must equal."""
        log_norm, resp = self.responsibilities(rows, params)
        row_weights = np.ones(rows.n) if rows.weights is None else rows.weights
        moments = self.component.accumulate(rows, resp * row_weights[:, None], params.theta)
        return self._stats(rows, float(row_weights @ log_norm), moments)

    @staticmethod
    def _stats(rows: Rows, log_likelihood: float, moments: Moments) -> MixtureStats:
        total = float(rows.n) if rows.weights is None else float(rows.weights.sum())
        return MixtureStats(rows.n, total, log_likelihood, moments)

    def m_step(self, stats: MixtureStats, params: MixtureParams) -> MixtureParams:
        """Weights in proportion to mass; the component's own maximum."""
        # a little mass for each, as scikit-learn does; in units of the mean row weight
        least = 10 * EPS * stats.total / max(stats.n, 1)
        mass = stats.moments.mass + least
        return MixtureParams(mass / mass.sum(), self.component.maximise(stats.moments, params.theta, least))

    def assign(self, rows: Rows, params: MixtureParams, *, probability: bool = True) -> Assignment:
        """Labels, uncertainties and log densities, in one sweep; all responsibilities only if asked for."""
        return self.component.answers(rows, log_weights(params.weights), params.theta, probability)

    def responsibilities(self, rows: Rows, params: MixtureParams) -> tuple[Float64, Float64]:
        """Log densities (n,) and responsibilities (n, k) of a tile of rows."""
        joint = self.component.log_density(rows, params.theta) + log_weights(params.weights)
        log_density, resp = kernel_set(self.component.kernels).normalise(joint)
        return log_density, resp

    def n_parameters(self, params: MixtureParams) -> int:
        """Free parameters: weights, means, covariances."""
        return params.k - 1 + self.component.n_parameters(params.theta)

    def expected_complete(self, stats: MixtureStats, params: MixtureParams) -> float:
        """Sum over rows and components of r log(pi_k N_k): the likelihood less the entropy."""
        mass = stats.moments.mass
        with np.errstate(divide="ignore", invalid="ignore"):
            mixing = np.where(mass > 0, mass * np.log(params.weights), 0.0).sum()
        return float(mixing) + self.component.expected_log_density(stats.moments, params.theta)

    def pack(self, params: MixtureParams) -> Float64:
        """Log weights, then the component's unconstrained vector."""
        return np.concatenate([log_weights(params.weights), self.component.pack(params.theta)])

    def unpack(self, vector: Float64, like: MixtureParams) -> MixtureParams:
        """The parameters of `vector`; weights are normalised."""
        logs = vector[: like.k]
        weights = np.exp(logs - logs.max())
        return MixtureParams(weights / weights.sum(), self.component.unpack(vector[like.k :], like.theta))

    def natural(self, differences: Float64, params: MixtureParams) -> Float64:
        """Log weights about their mean, times the roots of the weights; then the component's."""
        weights, logs = params.weights, differences[:, : params.k]
        logs = np.sqrt(weights) * (logs - (logs @ weights)[:, None])
        rest = self.component.natural(differences[:, params.k :], weights, params.theta)
        return np.concatenate([logs, rest], axis=1)

    def shift(self, stats: MixtureStats, params: MixtureParams) -> None:  # noqa: ARG002
        """A mixture is judged by its likelihood."""
        return

    def collapsed(self, stats: MixtureStats, params: MixtureParams) -> tuple[int, ...]:
        """Components that hold no row, or one row and no spread."""
        if stats.n == 0 or params.k == 1:
            return ()
        rows = stats.moments.mass * (stats.n / stats.total)
        lone = (rows < LONE_ROWS) & self.component.point_like(params.theta)
        return tuple(int(i) for i in np.flatnonzero((rows < DEAD_ROWS) | lone))

    def relocate(self, params: MixtureParams, component: int, where: Float64) -> MixtureParams:
        """Put a component at `where`, with an even share of the weight and the others' mean spread."""
        weights = params.weights.copy()
        weights[component] = 0.0
        weights *= (1.0 - 1.0 / params.k) / max(weights.sum(), EPS)
        theta = self.component.relocate(params.theta, weights, component, where)
        weights[component] = 1.0 / params.k
        return MixtureParams(weights / weights.sum(), theta)

    def drop(self, params: MixtureParams, component: int) -> MixtureParams:
        """Without one component; the others' weights grow in proportion."""
        weights = np.delete(params.weights, component)
        return MixtureParams(weights / weights.sum(), self.component.drop(params.theta, component))

    def sample(self, params: MixtureParams, n: int, rng: np.random.Generator) -> tuple[Float64, Ints]:
        """Draw n rows; returns rows (n, d) and labels (n,), grouped by component."""
        counts = rng.multinomial(n, params.weights)
        return self.component.sample(params.theta, counts, rng), np.repeat(np.arange(params.k), counts)

    def arrays(self, params: MixtureParams) -> dict[str, Float64]:
        """The parameters as named arrays."""
        theta = params.theta
        return {
            "weights": params.weights,
            "means": theta.means,
            "covariances": theta.covariances,
            "precisions_cholesky": theta.precisions_cholesky,
        }

    def from_arrays(self, arrays: dict[str, Float64]) -> MixtureParams:
        """The parameters of `arrays`, bit for bit."""
        theta = GaussianTheta(arrays["means"], arrays["covariances"], arrays["precisions_cholesky"])
        return MixtureParams(arrays["weights"], theta)
