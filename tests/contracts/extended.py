"""EM of Gaussian mixtures in extended precision, from the textbook: what hard numbers are held to."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Long = np.longdouble


@dataclass(frozen=True, eq=False)
class Parameters:
    """Weights (k,), means (k, d) and covariance matrices (k, d, d), whatever their kind."""

    weights: NDArray
    means: NDArray
    covariances: NDArray

    @property
    def spreads(self) -> NDArray:
        return np.sqrt(np.diagonal(self.covariances, axis1=1, axis2=2))


def cholesky(matrix: NDArray) -> NDArray:
    """Lower factor; NumPy's own stops at float64."""
    rest, lower = matrix.copy(), np.zeros_like(matrix)
    for j in range(len(rest)):
        lower[j, j] = np.sqrt(rest[j, j])
        lower[j + 1 :, j] = rest[j + 1 :, j] / lower[j, j]
        rest[j + 1 :, j + 1 :] -= np.outer(lower[j + 1 :, j], lower[j + 1 :, j])
    return lower


def log_joint(x: NDArray, at: Parameters) -> NDArray:
    """Log of weight times density, shape (n, k)."""
    found = np.empty((len(x), len(at.weights)), Long)
    half_log_2pi = np.log(8 * np.arctan(Long(1))) / 2
    for c, (mean, covariance) in enumerate(zip(at.means, at.covariances, strict=True)):
        lower, z = cholesky(covariance), x - mean
        y = np.zeros_like(z)
        for j in range(len(lower)):
            y[:, j] = (z[:, j] - y[:, :j] @ lower[j, :j]) / lower[j, j]
        constant = np.log(at.weights[c]) - np.log(np.diag(lower)).sum() - len(lower) * half_log_2pi
        found[:, c] = constant - (y * y).sum(axis=1) / 2
    return found


def normalise(joint: NDArray) -> tuple[NDArray, NDArray]:
    top = joint.max(axis=1, keepdims=True)
    shares = np.exp(joint - top)
    total = shares.sum(axis=1, keepdims=True)
    return (top + np.log(total))[:, 0], shares / total


def of_kind(kind: str, covariances: NDArray, weights: NDArray) -> NDArray:
    """What a kind of covariance keeps of maximum-likelihood matrices."""
    d = covariances.shape[-1]
    if kind == "tied":
        return np.broadcast_to(np.tensordot(weights, covariances, axes=1), covariances.shape)
    if kind == "diag":
        return covariances * np.eye(d)
    if kind == "spherical":
        return np.stack([np.trace(c) / d * np.eye(d) for c in covariances])
    return covariances


def em(
    x: NDArray,
    start: Parameters,
    steps: int,
    kind: str = "full",
    reg_covar: float = 0.0,
    row_weights: NDArray | None = None,
) -> tuple[Parameters, NDArray]:
    """Parameters after so many steps, and every row's log density under them."""
    x = x.astype(Long)
    mass = np.ones(len(x), Long) if row_weights is None else row_weights.astype(Long)
    at = Parameters(*(np.asarray(a, Long) for a in (start.weights, start.means, start.covariances)))
    for _ in range(steps):
        resp = normalise(log_joint(x, at))[1] * mass[:, None]
        sums = resp.sum(axis=0)
        means = (resp.T @ x) / sums[:, None]
        matrices = np.stack([(resp[:, c, None] * (x - m)).T @ (x - m) / sums[c] for c, m in enumerate(means)])
        weights = sums / sums.sum()
        matrices = of_kind(kind, matrices, weights) + Long(reg_covar) * np.eye(x.shape[1])
        at = Parameters(weights, means, matrices)
    return at, normalise(log_joint(x, at))[0]
