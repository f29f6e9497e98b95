"""Gaussian components: full, tied, diag and spherical covariances."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from distem.models.base import Moments, kernel_set
from distem.models.covariance import COVARIANCES, SMALLEST_VARIANCE, Covariance
from distem.types import Assignment, Bools, Float64, Rows

LOG_2PI = float(np.log(2.0 * np.pi))
EPS = float(np.finfo(np.float64).eps)


def in_units(reg_covar: float, scale: Float64 | None) -> float | Float64:
    """A variance in the data's units as variances in units of `scale`, (d,), held at 1e200."""
    if scale is None:
        return reg_covar
    with np.errstate(over="ignore", under="ignore"):
        return np.minimum(reg_covar / scale / scale, 1e200)


def relative_floor(reg_covar: float) -> float:
    """Least variance of a component relative to the data's: where it is reached, a component collapsed.

    With a `reg_covar` that is the caller's own floor; beside it the relative one only guards against
    rounding, or one far outlier would raise it above.
    """
    return 1e-30 if reg_covar > 0 else 1e-24


@dataclass(frozen=True, slots=True, eq=False)
class GaussianTheta:
    """Parameters of k Gaussians.

    Attributes
    ----------
    means : ndarray, shape (k, d)
    covariances : ndarray
        (k, d, d), (d, d), (k, d) or (k,), by the kind of covariance.
    precisions_cholesky : ndarray
        Factors P with inverse covariance P P'; same shape as `covariances`.
    """

    means: Float64
    covariances: Float64
    precisions_cholesky: Float64


@dataclass(frozen=True, eq=False)
class Gaussian:
    """A Gaussian component.

    Parameters
    ----------
    covariance : {"full", "tied", "diag", "spherical"}
        Shape of the covariances.
    reg_covar : float, or ndarray of shape (d,)
        Added to every variance in the M-step.
    floor : float
        Least variance of a component, relative to that of the data.
    data_variance : ndarray, shape (d,), or None
        Variance of each feature over the data, which `floor` refers to; None means one.
    kernels : {"compiled", "reference"}
        Which kernels do the work.
    """

    covariance: str = "full"
    reg_covar: float | Float64 = 1e-6
    floor: float = 1e-24
    data_variance: Float64 | None = None
    kernels: str = "compiled"

    @property
    def shape(self) -> Covariance:
        """The covariance's shape."""
        return COVARIANCES[self.covariance]

    def _kernel(self, verb: str) -> Any:
        return getattr(kernel_set(self.kernels), f"{verb}_{self.covariance}")

    def _least(self, d: int) -> Float64:
        variance = np.ones(d) if self.data_variance is None else self.data_variance
        return np.maximum(self.floor * variance, SMALLEST_VARIANCE)

    def theta(self, means: Float64, covariances: Float64) -> GaussianTheta:
        """Parameters from means and covariances, which are made non-singular where they are not."""
        factors, covariances = self.shape.factor(covariances)
        return GaussianTheta(means, covariances, factors)

    def from_matrices(self, means: Float64, matrices: Float64, weights: Float64) -> GaussianTheta:
        """Parameters nearest to the given covariance matrices (k, d, d) that this shape can hold."""
        covariances = self.shape.from_matrices(matrices, weights / weights.sum())
        return self.theta(means, self.shape.regularise(covariances, 0.0, self._least(means.shape[1])))

    def e_step(self, rows: Rows, weights: Float64, theta: GaussianTheta) -> tuple[float, Moments]:
        """Log-likelihood and moments in one sweep; `weights` are logs of the mixing weights, (k,)."""
        out = self._kernel("e_step")(
            rows.values, rows.weights, weights, theta.means, theta.precisions_cholesky
        )
        return float(out[0]), Moments(*out[1:])

    def answers(self, rows: Rows, weights: Float64, theta: GaussianTheta, shares: bool) -> Assignment:
        """Labels and densities in one sweep; `weights` are logs of the mixing weights, (k,)."""
        args = rows.values, weights, theta.means, theta.precisions_cholesky, shares
        return Assignment(*self._kernel("answers")(*args))

    def log_density(self, rows: Rows, theta: GaussianTheta) -> Float64:
        """Log densities, shape (n, k)."""
        out: Float64 = self._kernel("log_density")(rows.values, theta.means, theta.precisions_cholesky)
        return out

    def accumulate(self, rows: Rows, resp: Float64, theta: GaussianTheta) -> Moments:
        """Moments about the means of `theta`; `resp` (n, k) carries the row weights."""
        return Moments(*self._kernel("moments")(rows.values, resp, theta.means))

    def maximise(self, moments: Moments, theta: GaussianTheta, least_mass: float) -> GaussianTheta:
        """The maximum-likelihood means and covariances, regularised and floored.

        `least_mass` is added to each component's, so that none divides by zero.
        """
        mass = moments.mass + least_mass
        shift = moments.first / mass[:, None]
        covariances = self.shape.estimate(mass, shift, moments.second)
        # a variance is known to the rounding of the squared way its mean has gone, and no better
        rounding = 8.0 * EPS * shift**2
        if self.covariance == "tied":
            rounding = mass @ rounding / mass.sum()
        least = np.maximum(self._least(theta.means.shape[1]), rounding)
        return self.theta(theta.means + shift, self.shape.regularise(covariances, self.reg_covar, least))

    def begin(self, rows: Rows, resp: Float64, means: Float64) -> GaussianTheta:
        """Starting parameters from hard or soft assignments of a few rows.

        Components of few rows are shrunk towards the spread that all have on average, as if each
        held d + 1 rows of it: a start with a spike would stay there.
        """
        k, d = means.shape
        moments = Moments(*self._kernel("moments")(rows.values, resp, means))
        total, shift = moments.mass.sum(), np.zeros((k, d))
        prior = (d + 1.0) * total / max(rows.n, 1)
        second = moments.second
        if self.covariance != "tied":
            second = second + prior * second.sum(axis=0) / total
        covariances = self.shape.estimate(
            moments.mass + (prior if self.covariance != "tied" else 0.0), shift, second
        )
        return self.theta(means, self.shape.regularise(covariances, self.reg_covar, self._least(d)))

    def expected_log_density(self, moments: Moments, theta: GaussianTheta) -> float:
        """Sum over rows and components of r log N(x; mu_k, Sigma_k)."""
        k, d = theta.means.shape
        constant = self.shape.log_det(theta.precisions_cholesky, k, d) - d * LOG_2PI / 2
        return (
            float(moments.mass @ constant)
            - self.shape.quadratic(moments.second, theta.precisions_cholesky) / 2
        )

    def point_like(self, theta: GaussianTheta) -> Bools:
        """Components without spread: at the floor in every feature, shape (k,)."""
        k, d = theta.means.shape
        if self.covariance == "tied":  # one spread for all: no component can lose it alone
            return np.zeros(k, dtype=bool)
        variances = self.shape.variances(theta.covariances, k, d)
        return np.asarray((variances <= 2.0 * self._least(d)).all(axis=1))

    def masses(self, moments: Moments) -> Float64:
        """Rows of each component, shape (k,)."""
        return moments.mass

    def n_parameters(self, theta: GaussianTheta) -> int:
        """Free parameters of means and covariances."""
        k, d = theta.means.shape
        return int(k * d + self.shape.n_parameters(k, d))

    def pack(self, theta: GaussianTheta) -> Float64:
        """Unconstrained vector: means, then packed covariances."""
        return np.concatenate([theta.means.ravel(), self.shape.pack(theta.covariances)])

    def unpack(self, vector: Float64, like: GaussianTheta) -> GaussianTheta:
        """The parameters of `vector`, in the shape of `like`."""
        k, d = like.means.shape
        covariances = self.shape.unpack(vector[k * d :], k, d)
        covariances = self.shape.regularise(covariances, 0.0, self._least(d))
        return self.theta(vector[: k * d].reshape(k, d).copy(), covariances)

    def natural(self, differences: Float64, weights: Float64, theta: GaussianTheta) -> Float64:
        """Differences of packed parameters (m, p) in units of the information of one row.

        `weights` (k,) is the share of rows of each component.
        """
        k, d = theta.means.shape
        means = differences[:, : k * d].reshape(-1, k, d) * np.sqrt(weights)[:, None]
        means = self.shape.whiten(means, theta.precisions_cholesky).reshape(len(differences), -1)
        rest = self.shape.natural(differences[:, k * d :], weights, theta.precisions_cholesky, d)
        return np.concatenate([means, rest], axis=1)

    def relocate(
        self, theta: GaussianTheta, weights: Float64, component: int, where: Float64
    ) -> GaussianTheta:
        """Move a component to `where`, with the mean covariance of the others."""
        means = theta.means.copy()
        means[component] = where
        return self.theta(means, self.shape.relocate(theta.covariances, weights, component))

    def drop(self, theta: GaussianTheta, component: int) -> GaussianTheta:
        """Without one component."""
        means = np.delete(theta.means, component, axis=0)
        return self.theta(means, self.shape.drop(theta.covariances, component))

    def sample(
        self, theta: GaussianTheta, counts: NDArray[np.integer[Any]], rng: np.random.Generator
    ) -> Float64:
        """Draw `counts[k]` rows from each component, in order of component."""
        k, d = theta.means.shape
        matrices = self.shape.matrices(theta.covariances, k, d)
        draws = []
        for mean, matrix, count in zip(theta.means, matrices, counts, strict=True):
            scale = np.sqrt(np.diagonal(matrix))
            lower = np.linalg.cholesky(matrix / scale[:, None] / scale[None, :]) * scale[:, None]
            draws.append(mean + rng.standard_normal((count, d)) @ lower.T)
        return np.concatenate(draws)

    def arrays(self, theta: GaussianTheta) -> dict[str, Float64]:
        """The parameters as named arrays."""
        return {
            "means": theta.means,
            "covariances": theta.covariances,
            "precisions_cholesky": theta.precisions_cholesky,
        }

    def from_arrays(self, arrays: Mapping[str, Float64]) -> GaussianTheta:
        """The parameters of `arrays`, bit for bit."""
        return GaussianTheta(arrays["means"], arrays["covariances"], arrays["precisions_cholesky"])
