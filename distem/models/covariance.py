"""The four shapes of a Gaussian's covariance: estimation, floors, factors, packing.

The names and array shapes are scikit-learn's: full (k, d, d), tied (d, d), diag (k, d), spherical (k,).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Protocol

import numpy as np

from distem.types import Float64

SINGULAR = 8.0 * float(np.finfo(np.float64).eps)
"""Squared pivot of a correlation matrix, per feature, below which it is singular to rounding."""
SMALLEST_VARIANCE = 1e-300


class Covariance(Protocol):
    """One shape of covariance."""

    kind: ClassVar[str]

    def estimate(self, mass: Float64, shift: Float64, second: Float64) -> Float64:
        """Covariances about the new means, which lie `shift` from where `second` was taken."""

    def regularise(self, covariances: Float64, reg_covar: float | Float64, least: Float64) -> Float64:
        """Add `reg_covar` to every variance and lift those that are still below `least`, (d,) or (k, d)."""

    def factor(self, covariances: Float64) -> tuple[Float64, Float64]:
        """Precision Cholesky factors, and the covariances made non-singular where they were."""

    def variances(self, covariances: Float64, k: int, d: int) -> Float64:
        """Variances, shape (k, d)."""

    def matrices(self, covariances: Float64, k: int, d: int) -> Float64:
        """Covariance matrices, shape (k, d, d)."""

    def from_matrices(self, matrices: Float64, weights: Float64) -> Float64:
        """Covariances of this shape from matrices (k, d, d): what it cannot hold is averaged out."""

    def quadratic(self, second: Float64, factors: Float64) -> float:
        """Sum over rows and components of r (x - mu)' Lambda (x - mu), from second moments."""

    def log_det(self, factors: Float64, k: int, d: int) -> Float64:
        """Half the log-determinant of the precision, shape (k,)."""

    def n_parameters(self, k: int, d: int) -> int:
        """Free parameters."""

    def pack(self, covariances: Float64) -> Float64:
        """Unconstrained vector: Cholesky factors with the log of their diagonals."""

    def unpack(self, vector: Float64, k: int, d: int) -> Float64:
        """The covariances of `vector`."""

    def whiten(self, shifts: Float64, factors: Float64) -> Float64:
        """Shifts of the means, shape (m, k, d), in standard deviations."""

    def natural(self, differences: Float64, weights: Float64, factors: Float64, d: int) -> Float64:
        """Differences of packed covariances (m, p) in units of the information of one row."""

    def relocate(self, covariances: Float64, weights: Float64, component: int) -> Float64:
        """Give one component the average covariance of the others."""

    def drop(self, covariances: Float64, component: int) -> Float64:
        """Without one component."""


def _outer(shift: Float64) -> Float64:
    return shift[:, :, None] * shift[:, None, :]


def _lift_diagonal(matrix: Float64, least: Float64) -> Float64:
    diagonal = np.diagonal(matrix, axis1=-2, axis2=-1)
    extra = np.maximum(least - diagonal, 0.0)
    if not extra.any():
        return matrix
    lifted = matrix.copy()
    np.einsum("...ii->...i", lifted)[...] += extra
    return lifted


def _factors(matrices: Float64) -> tuple[Float64, Float64]:
    """Upper-triangular P, (k, d, d), with inverse(matrix) = P P', and the matrices, lifted if singular."""
    lower, scale, lifted = (np.stack(each) for each in zip(*map(_cholesky, matrices), strict=True))
    inverse = np.swapaxes(_inverse(lower), 1, 2)
    return np.ascontiguousarray(inverse) / scale[:, :, None], lifted


def _inverse(lower: Float64) -> Float64:
    """Inverses of lower triangles (k, d, d), all at once, by halves: [[A, 0], [B, C]] has -C^-1 B A^-1 below.

    SciPy's would take one at a time, and a fifth of a second to import in every worker.
    """
    d = lower.shape[1]
    if d == 1:
        return np.asarray(1.0 / lower)
    half = d // 2
    a, c = _inverse(lower[:, :half, :half]), _inverse(lower[:, half:, half:])
    out = np.zeros_like(lower)
    out[:, :half, :half], out[:, half:, half:] = a, c
    out[:, half:, :half] = -(c @ lower[:, half:, :half]) @ a
    return out


def _cholesky(matrix: Float64) -> tuple[Float64, Float64, Float64]:
    """The correlation matrix's lower factor, the standard deviations, and the matrix, lifted if singular.

    The correlation matrix is factored, so columns of any scale stand side by side.
    """
    d = matrix.shape[0]
    scale = np.sqrt(np.diagonal(matrix))
    correlation = matrix / scale[:, None] / scale[None, :]
    try:
        lower = np.linalg.cholesky(correlation)
        singular = bool((np.diagonal(lower) ** 2).min() < d * SINGULAR)
    except np.linalg.LinAlgError:
        singular = True
    if singular:
        # beyond one in size is rounding: the moments were taken about a mean that moved very far
        values, vectors = np.linalg.eigh(np.clip(correlation, -1.0, 1.0))
        correlation = (vectors * np.maximum(values, 16 * d * SINGULAR)) @ vectors.T
        correlation = (correlation + correlation.T) / 2
        lower = np.linalg.cholesky(correlation)
        matrix = correlation * scale[:, None] * scale[None, :]
    return np.asarray(lower, np.float64), np.asarray(scale, np.float64), matrix


def _pack_matrix(matrix: Float64) -> Float64:
    scale = np.sqrt(np.diagonal(matrix))
    lower = np.linalg.cholesky(matrix / scale[:, None] / scale[None, :]) * scale[:, None]
    d = matrix.shape[0]
    return np.concatenate([np.log(np.diagonal(lower)), lower[np.tril_indices(d, -1)]])


def _unpack_matrix(vector: Float64, d: int) -> Float64:
    lower = np.diag(np.exp(vector[:d]))
    lower[np.tril_indices(d, -1)] = vector[d:]
    return np.asarray(lower @ lower.T)


def _natural_matrix(differences: Float64, factor: Float64) -> Float64:
    """With L the Cholesky factor of Sigma and A = L^-1 dL: 2 A_ii^2 and A_ij^2 add up to the information."""
    d = factor.shape[0]
    change = np.zeros((len(differences), d, d))
    change[:, np.arange(d), np.arange(d)] = differences[:, :d] / np.diagonal(factor)
    change[(slice(None), *np.tril_indices(d, -1))] = differences[:, d:]
    change = factor.T @ change
    change[:, np.arange(d), np.arange(d)] *= np.sqrt(2.0)
    return np.asarray(change[(slice(None), *np.tril_indices(d))])


def _mean_of_others(covariances: Float64, weights: Float64, component: int) -> Float64:
    others = weights.copy()
    others[component] = 0.0
    if others.sum() <= 0.0:
        others = np.ones_like(weights)
    out = covariances.copy()
    out[component] = np.tensordot(others / others.sum(), covariances, axes=1)
    return out


@dataclass(frozen=True)
class Full:
    """Each component its own matrix, (k, d, d)."""

    kind: ClassVar[str] = "full"

    def estimate(self, mass: Float64, shift: Float64, second: Float64) -> Float64:
        return second / mass[:, None, None] - _outer(shift)

    def regularise(self, covariances: Float64, reg_covar: float | Float64, least: Float64) -> Float64:
        return _lift_diagonal(covariances + reg_covar * np.eye(covariances.shape[-1]), least)

    def factor(self, covariances: Float64) -> tuple[Float64, Float64]:
        return _factors(covariances)

    def variances(self, covariances: Float64, k: int, d: int) -> Float64:  # noqa: ARG002
        return np.array(np.diagonal(covariances, axis1=1, axis2=2))

    def matrices(self, covariances: Float64, k: int, d: int) -> Float64:  # noqa: ARG002
        return covariances.copy()

    def from_matrices(self, matrices: Float64, weights: Float64) -> Float64:  # noqa: ARG002
        return matrices.copy()

    def quadratic(self, second: Float64, factors: Float64) -> float:
        return float(np.einsum("kij,kil,klj->", factors, second, factors, optimize=True))

    def log_det(self, factors: Float64, k: int, d: int) -> Float64:  # noqa: ARG002
        return np.asarray(np.log(np.abs(np.diagonal(factors, axis1=1, axis2=2))).sum(axis=1))

    def n_parameters(self, k: int, d: int) -> int:
        return k * d * (d + 1) // 2

    def pack(self, covariances: Float64) -> Float64:
        return np.concatenate([_pack_matrix(c) for c in covariances])

    def unpack(self, vector: Float64, k: int, d: int) -> Float64:
        return np.stack([_unpack_matrix(part, d) for part in np.split(vector, k)])

    def whiten(self, shifts: Float64, factors: Float64) -> Float64:
        return np.asarray(np.matmul(shifts[:, :, None, :], factors)[:, :, 0, :])

    def natural(self, differences: Float64, weights: Float64, factors: Float64, d: int) -> Float64:  # noqa: ARG002
        parts = np.split(differences, len(weights), axis=1)
        pairs = zip(np.sqrt(weights), parts, factors, strict=True)
        return np.concatenate([root * _natural_matrix(part, factor) for root, part, factor in pairs], axis=1)

    def relocate(self, covariances: Float64, weights: Float64, component: int) -> Float64:
        return _mean_of_others(covariances, weights, component)

    def drop(self, covariances: Float64, component: int) -> Float64:
        return np.delete(covariances, component, axis=0)


@dataclass(frozen=True)
class Tied:
    """One matrix for all components, (d, d)."""

    kind: ClassVar[str] = "tied"

    def estimate(self, mass: Float64, shift: Float64, second: Float64) -> Float64:
        return np.asarray((second - (shift * mass[:, None]).T @ shift) / mass.sum())

    def regularise(self, covariances: Float64, reg_covar: float | Float64, least: Float64) -> Float64:
        return _lift_diagonal(covariances + reg_covar * np.eye(covariances.shape[-1]), least)

    def factor(self, covariances: Float64) -> tuple[Float64, Float64]:
        factors, lifted = _factors(covariances[None])
        return factors[0], lifted[0]

    def variances(self, covariances: Float64, k: int, d: int) -> Float64:
        return np.broadcast_to(np.diagonal(covariances), (k, d)).copy()

    def matrices(self, covariances: Float64, k: int, d: int) -> Float64:
        return np.broadcast_to(covariances, (k, d, d)).copy()

    def from_matrices(self, matrices: Float64, weights: Float64) -> Float64:
        return np.asarray(np.tensordot(weights, matrices, axes=1))

    def quadratic(self, second: Float64, factors: Float64) -> float:
        return float(np.einsum("ij,il,lj->", factors, second, factors, optimize=True))

    def log_det(self, factors: Float64, k: int, d: int) -> Float64:  # noqa: ARG002
        return np.full(k, np.log(np.abs(np.diagonal(factors))).sum())

    def n_parameters(self, k: int, d: int) -> int:  # noqa: ARG002
        return d * (d + 1) // 2

    def pack(self, covariances: Float64) -> Float64:
        return _pack_matrix(covariances)

    def unpack(self, vector: Float64, k: int, d: int) -> Float64:  # noqa: ARG002
        return _unpack_matrix(vector, d)

    def whiten(self, shifts: Float64, factors: Float64) -> Float64:
        return shifts @ factors

    def natural(self, differences: Float64, weights: Float64, factors: Float64, d: int) -> Float64:  # noqa: ARG002
        return _natural_matrix(differences, factors)

    def relocate(self, covariances: Float64, weights: Float64, component: int) -> Float64:  # noqa: ARG002
        return covariances

    def drop(self, covariances: Float64, component: int) -> Float64:  # noqa: ARG002
        return covariances


@dataclass(frozen=True)
class Diag:
    """Each component its own variances, (k, d)."""

    kind: ClassVar[str] = "diag"

    def estimate(self, mass: Float64, shift: Float64, second: Float64) -> Float64:
        return np.maximum(second / mass[:, None] - shift**2, 0.0)

    def regularise(self, covariances: Float64, reg_covar: float | Float64, least: Float64) -> Float64:
        return np.maximum(covariances + reg_covar, least)

    def factor(self, covariances: Float64) -> tuple[Float64, Float64]:
        return 1.0 / np.sqrt(covariances), covariances

    def variances(self, covariances: Float64, k: int, d: int) -> Float64:  # noqa: ARG002
        return covariances.copy()

    def matrices(self, covariances: Float64, k: int, d: int) -> Float64:  # noqa: ARG002
        return covariances[:, :, None] * np.eye(d)

    def from_matrices(self, matrices: Float64, weights: Float64) -> Float64:  # noqa: ARG002
        return np.diagonal(matrices, axis1=1, axis2=2).copy()

    def quadratic(self, second: Float64, factors: Float64) -> float:
        return float((second * factors**2).sum())

    def log_det(self, factors: Float64, k: int, d: int) -> Float64:  # noqa: ARG002
        return np.asarray(np.log(factors).sum(axis=1))

    def n_parameters(self, k: int, d: int) -> int:
        return k * d

    def pack(self, covariances: Float64) -> Float64:
        return np.log(covariances).ravel()

    def unpack(self, vector: Float64, k: int, d: int) -> Float64:
        return np.exp(vector).reshape(k, d)

    def whiten(self, shifts: Float64, factors: Float64) -> Float64:
        return shifts * factors

    def natural(self, differences: Float64, weights: Float64, factors: Float64, d: int) -> Float64:  # noqa: ARG002
        return np.asarray(differences * np.repeat(np.sqrt(weights / 2.0), d))

    def relocate(self, covariances: Float64, weights: Float64, component: int) -> Float64:
        return _mean_of_others(covariances, weights, component)

    def drop(self, covariances: Float64, component: int) -> Float64:
        return np.delete(covariances, component, axis=0)


@dataclass(frozen=True)
class Spherical:
    """Each component one variance, (k,)."""

    kind: ClassVar[str] = "spherical"

    def estimate(self, mass: Float64, shift: Float64, second: Float64) -> Float64:
        variances = (second / mass - (shift**2).sum(axis=1)) / shift.shape[1]
        return np.asarray(np.maximum(variances, 0.0))

    def regularise(self, covariances: Float64, reg_covar: float | Float64, least: Float64) -> Float64:
        return np.asarray(np.maximum(covariances + np.mean(reg_covar), least.mean(axis=-1)))

    def factor(self, covariances: Float64) -> tuple[Float64, Float64]:
        return 1.0 / np.sqrt(covariances), covariances

    def variances(self, covariances: Float64, k: int, d: int) -> Float64:  # noqa: ARG002
        return np.repeat(covariances[:, None], d, axis=1)

    def matrices(self, covariances: Float64, k: int, d: int) -> Float64:  # noqa: ARG002
        return covariances[:, None, None] * np.eye(d)

    def from_matrices(self, matrices: Float64, weights: Float64) -> Float64:  # noqa: ARG002
        return np.asarray(np.diagonal(matrices, axis1=1, axis2=2).mean(axis=1))

    def quadratic(self, second: Float64, factors: Float64) -> float:
        return float((second * factors**2).sum())

    def log_det(self, factors: Float64, k: int, d: int) -> Float64:  # noqa: ARG002
        return d * np.log(factors)

    def n_parameters(self, k: int, d: int) -> int:  # noqa: ARG002
        return k

    def pack(self, covariances: Float64) -> Float64:
        return np.log(covariances)

    def unpack(self, vector: Float64, k: int, d: int) -> Float64:  # noqa: ARG002
        return np.exp(vector)

    def whiten(self, shifts: Float64, factors: Float64) -> Float64:
        return shifts * factors[:, None]

    def natural(self, differences: Float64, weights: Float64, factors: Float64, d: int) -> Float64:  # noqa: ARG002
        return differences * np.sqrt(weights * d / 2.0)

    def relocate(self, covariances: Float64, weights: Float64, component: int) -> Float64:
        return _mean_of_others(covariances, weights, component)

    def drop(self, covariances: Float64, component: int) -> Float64:
        return np.delete(covariances, component, axis=0)


COVARIANCES: dict[str, Covariance] = {c.kind: c for c in (Full(), Tied(), Diag(), Spherical())}
"""The shapes by name."""
