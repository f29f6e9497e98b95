"""Plain NumPy kernels: the executable truth the compiled ones are tested against.

The letters: n rows, d features, k components. Four kinds of covariance, with the factors of
the precisions as scikit-learn keeps them (``precision = P @ P.T``):

========== =============== ==========================================
kind       factor's shape  factor
========== =============== ==========================================
full       (k, d, d)       upper triangular, one for each component
tied       (d, d)          upper triangular, one for all
diag       (k, d)          one over the standard deviations
spherical  (k,)            one over the standard deviation
========== =============== ==========================================

Here all arithmetic is in float64 whatever the rows' type; the compiled kernels compute float32
rows in float32. Moments are always taken about the given means, never as raw sums of squares:
with data far from the origin those have no digits left.
"""

from __future__ import annotations

import math

import numpy as np

from distem.types import Float64, Floats, Ints

Moments = tuple[Float64, Float64, Float64]
"""Mass, first and second moments about the means."""

EStep = tuple[float, Float64, Float64, Float64]
"""Log-likelihood, mass, first and second moments about the means."""

Answers = tuple[Ints, Float64, Float64, Float64 | None]
"""Labels, log densities, uncertainties, and shares where they were asked for."""

LOWEST = float(np.finfo(np.float64).min)
"""Stands for minus infinity: differences of two of them are 0, not NaN."""


def largest_distance(x: Floats) -> float:
    """Return the cap on squared Mahalanobis distances, so that log densities stay finite.

    Parameters
    ----------
    x : ndarray of float64 or float32
        Rows; their type decides.

    Returns
    -------
    float
        1e300 for float64 rows, 1e30 for float32 ones (which are computed in float32).
    """
    return 1e30 if x.dtype == np.float32 else 1e300


def _log_density(squares: Float64, log_det: Float64 | float, x: Floats) -> Float64:
    """Return Gaussian log densities from squared distances (n, k) and log determinants of the factors."""
    cap = largest_distance(x)
    # an overflow leaves inf, or NaN where infinities met: `<` is false for both
    capped = np.where(squares < cap, squares, cap)
    result: Float64 = log_det - 0.5 * (x.shape[1] * math.log(2.0 * math.pi) + capped)
    return result


def _log_det(diagonals: Float64) -> Float64:
    """Return the log determinants of factors with the given diagonals (..., d)."""
    with np.errstate(divide="ignore"):
        total: Float64 = np.log(np.abs(diagonals)).sum(axis=-1)
    return total


def log_density_full(x: Floats, means: Float64, precisions_cholesky: Float64) -> Float64:
    """Return Gaussian log densities, one covariance for each component.

    Parameters
    ----------
    x : ndarray of float64 or float32, shape (n, d)
        Rows.
    means : ndarray of float64, shape (k, d)
        Means.
    precisions_cholesky : ndarray of float64, shape (k, d, d)
        Upper triangular factors of the precisions.

    Returns
    -------
    ndarray of float64, shape (n, k)
        Natural log of the densities; always finite for finite input.
    """
    squares = np.empty((x.shape[0], means.shape[0]))
    with np.errstate(over="ignore", invalid="ignore"):
        for c in range(means.shape[0]):
            y = (x - means[c]) @ precisions_cholesky[c]
            squares[:, c] = np.einsum("ij,ij->i", y, y)
    return _log_density(squares, _log_det(np.diagonal(precisions_cholesky, axis1=1, axis2=2)), x)


def log_density_tied(x: Floats, means: Float64, precisions_cholesky: Float64) -> Float64:
    """Return Gaussian log densities, one covariance shared by all components.

    Parameters
    ----------
    x : ndarray of float64 or float32, shape (n, d)
        Rows.
    means : ndarray of float64, shape (k, d)
        Means.
    precisions_cholesky : ndarray of float64, shape (d, d)
        Upper triangular factor of the precision.

    Returns
    -------
    ndarray of float64, shape (n, k)
        Natural log of the densities; always finite for finite input.
    """
    squares = np.empty((x.shape[0], means.shape[0]))
    with np.errstate(over="ignore", invalid="ignore"):
        for c in range(means.shape[0]):
            y = (x - means[c]) @ precisions_cholesky
            squares[:, c] = np.einsum("ij,ij->i", y, y)
    return _log_density(squares, _log_det(np.diagonal(precisions_cholesky)), x)


def log_density_diag(x: Floats, means: Float64, precisions_cholesky: Float64) -> Float64:
    """Return Gaussian log densities, one diagonal covariance for each component.

    Parameters
    ----------
    x : ndarray of float64 or float32, shape (n, d)
        Rows.
    means : ndarray of float64, shape (k, d)
        Means.
    precisions_cholesky : ndarray of float64, shape (k, d)
        One over the standard deviations.

    Returns
    -------
    ndarray of float64, shape (n, k)
        Natural log of the densities; always finite for finite input.
    """
    squares = np.empty((x.shape[0], means.shape[0]))
    with np.errstate(over="ignore", invalid="ignore"):
        for c in range(means.shape[0]):
            y = (x - means[c]) * precisions_cholesky[c]
            squares[:, c] = np.einsum("ij,ij->i", y, y)
    return _log_density(squares, _log_det(precisions_cholesky), x)


def log_density_spherical(x: Floats, means: Float64, precisions_cholesky: Float64) -> Float64:
    """Return Gaussian log densities, one variance for each component.

    Parameters
    ----------
    x : ndarray of float64 or float32, shape (n, d)
        Rows.
    means : ndarray of float64, shape (k, d)
        Means.
    precisions_cholesky : ndarray of float64, shape (k,)
        One over the standard deviations.

    Returns
    -------
    ndarray of float64, shape (n, k)
        Natural log of the densities; always finite for finite input.
    """
    return log_density_diag(x, means, np.repeat(precisions_cholesky[:, None], x.shape[1], axis=1))


def moments_full(x: Floats, resp: Float64, means: Float64) -> Moments:
    """Return the components' moments about their means.

    Parameters
    ----------
    x : ndarray of float64 or float32, shape (n, d)
        Rows.
    resp : ndarray of float64, shape (n, k)
        Responsibilities, already multiplied by the row weights.
    means : ndarray of float64, shape (k, d)
        The points the moments are taken about.

    Returns
    -------
    mass : ndarray of float64, shape (k,)
        Sums of the responsibilities.
    first : ndarray of float64, shape (k, d)
        Sums of ``r * (x - mean)``.
    second : ndarray of float64, shape (k, d, d)
        Sums of ``r * outer(x - mean, x - mean)``; exactly symmetric.
    """
    k, d = means.shape
    first = np.empty((k, d))
    second = np.empty((k, d, d))
    for c in range(k):
        z = x - means[c]
        weighted = resp[:, c, None] * z
        first[c] = weighted.sum(axis=0)
        product = weighted.T @ z
        second[c] = np.tril(product) + np.tril(product, -1).T
    return resp.sum(axis=0), first, second


def moments_tied(x: Floats, resp: Float64, means: Float64) -> Moments:
    """Return the components' moments about their means, the second summed over the components.

    Parameters
    ----------
    x : ndarray of float64 or float32, shape (n, d)
        Rows.
    resp : ndarray of float64, shape (n, k)
        Responsibilities, already multiplied by the row weights.
    means : ndarray of float64, shape (k, d)
        The points the moments are taken about.

    Returns
    -------
    mass : ndarray of float64, shape (k,)
        Sums of the responsibilities.
    first : ndarray of float64, shape (k, d)
        Sums of ``r * (x - mean)``.
    second : ndarray of float64, shape (d, d)
        Sum over rows and components of ``r * outer(x - mean, x - mean)``; exactly symmetric.
    """
    k, d = means.shape
    first = np.empty((k, d))
    total = np.zeros((d, d))
    for c in range(k):
        z = x - means[c]
        weighted = resp[:, c, None] * z
        first[c] = weighted.sum(axis=0)
        total += weighted.T @ z
    return resp.sum(axis=0), first, np.tril(total) + np.tril(total, -1).T


def moments_diag(x: Floats, resp: Float64, means: Float64) -> Moments:
    """Return the components' moments about their means, feature by feature.

    Parameters
    ----------
    x : ndarray of float64 or float32, shape (n, d)
        Rows.
    resp : ndarray of float64, shape (n, k)
        Responsibilities, already multiplied by the row weights.
    means : ndarray of float64, shape (k, d)
        The points the moments are taken about.

    Returns
    -------
    mass : ndarray of float64, shape (k,)
        Sums of the responsibilities.
    first : ndarray of float64, shape (k, d)
        Sums of ``r * (x - mean)``.
    second : ndarray of float64, shape (k, d)
        Sums of ``r * (x - mean)**2``.
    """
    first = np.empty(means.shape)
    second = np.empty(means.shape)
    for c in range(means.shape[0]):
        z = x - means[c]
        weighted = resp[:, c, None] * z
        first[c] = weighted.sum(axis=0)
        second[c] = np.einsum("ij,ij->j", weighted, z)
    return resp.sum(axis=0), first, second


def moments_spherical(x: Floats, resp: Float64, means: Float64) -> Moments:
    """Return the components' moments about their means, the second summed over the features.

    Parameters
    ----------
    x : ndarray of float64 or float32, shape (n, d)
        Rows.
    resp : ndarray of float64, shape (n, k)
        Responsibilities, already multiplied by the row weights.
    means : ndarray of float64, shape (k, d)
        The points the moments are taken about.

    Returns
    -------
    mass : ndarray of float64, shape (k,)
        Sums of the responsibilities.
    first : ndarray of float64, shape (k, d)
        Sums of ``r * (x - mean)``.
    second : ndarray of float64, shape (k,)
        Sums of ``r * |x - mean|**2``.
    """
    mass, first, second = moments_diag(x, resp, means)
    return mass, first, second.sum(axis=1)


def normalise(log_joint: Float64) -> tuple[Float64, Float64]:
    """Return each row's log of the summed exponentials, and its shares.

    Parameters
    ----------
    log_joint : ndarray of float64, shape (n, k)
        Log weight plus log density. Minus infinity counts as the lowest finite number, so a
        component of no weight gets a share of exactly 0, and a row of nothing else equal shares.

    Returns
    -------
    log_norm : ndarray of float64, shape (n,)
        ``log(sum(exp(log_joint)))`` along the rows.
    resp : ndarray of float64, shape (n, k)
        ``exp(log_joint - log_norm)``; each row sums to one.
    """
    joint = np.maximum(log_joint, LOWEST)
    largest = joint.max(axis=1, keepdims=True)
    with np.errstate(over="ignore", under="ignore"):
        shares = np.exp(joint - largest)
    total = shares.sum(axis=1, keepdims=True)
    return (largest + np.log(total))[:, 0], shares / total


def nearest(x: Floats, centres: Float64) -> tuple[Ints, Float64]:
    """Return each row's nearest centre and the squared distance to it.

    Parameters
    ----------
    x : ndarray of float64 or float32, shape (n, d)
        Rows.
    centres : ndarray of float64, shape (k, d)
        Centres.

    Returns
    -------
    label : ndarray of int64, shape (n,)
        Index of the nearest centre, the lowest where several are equally near.
    squared_distance : ndarray of float64, shape (n,)
        Squared Euclidean distance, from direct differences.
    """
    squares = np.empty((x.shape[0], centres.shape[0]))
    for c in range(centres.shape[0]):
        z = x - centres[c]
        squares[:, c] = np.einsum("ij,ij->i", z, z)
    label = squares.argmin(axis=1)
    return label, squares[np.arange(x.shape[0]), label]


def _shares(log_density: Float64, log_weights: Float64, weights: Float64 | None) -> tuple[float, Float64]:
    """Return the log-likelihood and the responsibilities times the row weights."""
    log_norm, resp = normalise(np.maximum(log_weights, LOWEST) + log_density)
    if weights is None:
        return float(log_norm.sum()), resp
    return float(weights @ log_norm), weights[:, None] * resp


def e_step_full(
    x: Floats, weights: Float64 | None, log_weights: Float64, means: Float64, precisions_cholesky: Float64
) -> EStep:
    """Return log-likelihood and moments of one E-step, one covariance for each component.

    Parameters
    ----------
    x : ndarray of float64 or float32, shape (n, d)
        Rows.
    weights : ndarray of float64, shape (n,), or None
        Row weights, not negative; None means one each.
    log_weights : ndarray of float64, shape (k,)
        Log of the components' weights; minus infinity where a component has none.
    means : ndarray of float64, shape (k, d)
        Means.
    precisions_cholesky : ndarray of float64, shape (k, d, d)
        Upper triangular factors of the precisions.

    Returns
    -------
    log_likelihood : float
        Weighted sum of the rows' log densities under the mixture.
    mass, first, second : ndarray of float64
        As `moments_full` returns them.
    """
    density = log_density_full(x, means, precisions_cholesky)
    log_likelihood, resp = _shares(density, log_weights, weights)
    return (log_likelihood, *moments_full(x, resp, means))


def e_step_tied(
    x: Floats, weights: Float64 | None, log_weights: Float64, means: Float64, precisions_cholesky: Float64
) -> EStep:
    """Return log-likelihood and moments of one E-step, one covariance shared by all components.

    Parameters
    ----------
    x : ndarray of float64 or float32, shape (n, d)
        Rows.
    weights : ndarray of float64, shape (n,), or None
        Row weights, not negative; None means one each.
    log_weights : ndarray of float64, shape (k,)
        Log of the components' weights; minus infinity where a component has none.
    means : ndarray of float64, shape (k, d)
        Means.
    precisions_cholesky : ndarray of float64, shape (d, d)
        Upper triangular factor of the precision.

    Returns
    -------
    log_likelihood : float
        Weighted sum of the rows' log densities under the mixture.
    mass, first, second : ndarray of float64
        As `moments_tied` returns them.
    """
    density = log_density_tied(x, means, precisions_cholesky)
    log_likelihood, resp = _shares(density, log_weights, weights)
    return (log_likelihood, *moments_tied(x, resp, means))


def e_step_diag(
    x: Floats, weights: Float64 | None, log_weights: Float64, means: Float64, precisions_cholesky: Float64
) -> EStep:
    """Return log-likelihood and moments of one E-step, one diagonal covariance for each component.

    Parameters
    ----------
    x : ndarray of float64 or float32, shape (n, d)
        Rows.
    weights : ndarray of float64, shape (n,), or None
        Row weights, not negative; None means one each.
    log_weights : ndarray of float64, shape (k,)
        Log of the components' weights; minus infinity where a component has none.
    means : ndarray of float64, shape (k, d)
        Means.
    precisions_cholesky : ndarray of float64, shape (k, d)
        One over the standard deviations.

    Returns
    -------
    log_likelihood : float
        Weighted sum of the rows' log densities under the mixture.
    mass, first, second : ndarray of float64
        As `moments_diag` returns them.
    """
    density = log_density_diag(x, means, precisions_cholesky)
    log_likelihood, resp = _shares(density, log_weights, weights)
    return (log_likelihood, *moments_diag(x, resp, means))


def e_step_spherical(
    x: Floats, weights: Float64 | None, log_weights: Float64, means: Float64, precisions_cholesky: Float64
) -> EStep:
    """Return log-likelihood and moments of one E-step, one variance for each component.

    Parameters
    ----------
    x : ndarray of float64 or float32, shape (n, d)
        Rows.
    weights : ndarray of float64, shape (n,), or None
        Row weights, not negative; None means one each.
    log_weights : ndarray of float64, shape (k,)
        Log of the components' weights; minus infinity where a component has none.
    means : ndarray of float64, shape (k, d)
        Means.
    precisions_cholesky : ndarray of float64, shape (k,)
        One over the standard deviations.

    Returns
    -------
    log_likelihood : float
        Weighted sum of the rows' log densities under the mixture.
    mass, first, second : ndarray of float64
        As `moments_spherical` returns them.
    """
    density = log_density_spherical(x, means, precisions_cholesky)
    log_likelihood, resp = _shares(density, log_weights, weights)
    return (log_likelihood, *moments_spherical(x, resp, means))


def _answers(log_density: Float64, log_weights: Float64, shares: bool) -> Answers:
    """Return what joint log densities say of their rows."""
    log_norm, resp = normalise(np.maximum(log_weights, LOWEST) + log_density)
    label = resp.argmax(axis=1)
    others = resp.copy()
    # what the others hold, added up: 1 - max would round small values away
    others[np.arange(label.size), label] = 0.0
    return label, log_norm, others.sum(axis=1), resp if shares else None


def answers_full(
    x: Floats, log_weights: Float64, means: Float64, precisions_cholesky: Float64, shares: bool
) -> Answers:
    """Return what a mixture says of each row, a covariance for each component.

    float32 rows are answered for in float64: nothing is added up that float32 would make faster.

    Parameters
    ----------
    x : ndarray of float64 or float32, shape (n, d)
        Rows.
    log_weights : ndarray of float64, shape (k,)
        Log of the components' weights; minus infinity where a component has none.
    means : ndarray of float64, shape (k, d)
        Means.
    precisions_cholesky : ndarray of float64, shape (k, d, d)
        Upper triangular factors of the precisions.
    shares : bool
        Whether the shares are asked for.

    Returns
    -------
    label : ndarray of int64, shape (n,)
        The component with the largest share, the lowest where several have it.
    log_density : ndarray of float64, shape (n,)
        Log density of the mixture.
    uncertainty : ndarray of float64, shape (n,)
        What the other components hold.
    resp : ndarray of float64, shape (n, k), or None
        Shares; each row sums to one.
    """
    density = log_density_full(x.astype(np.float64, copy=False), means, precisions_cholesky)
    return _answers(density, log_weights, shares)


def answers_tied(
    x: Floats, log_weights: Float64, means: Float64, precisions_cholesky: Float64, shares: bool
) -> Answers:
    """Return what a mixture says of each row, one covariance for all components.

    float32 rows are answered for in float64: nothing is added up that float32 would make faster.

    Parameters
    ----------
    x : ndarray of float64 or float32, shape (n, d)
        Rows.
    log_weights : ndarray of float64, shape (k,)
        Log of the components' weights; minus infinity where a component has none.
    means : ndarray of float64, shape (k, d)
        Means.
    precisions_cholesky : ndarray of float64, shape (d, d)
        Upper triangular factor of the precision.
    shares : bool
        Whether the shares are asked for.

    Returns
    -------
    label : ndarray of int64, shape (n,)
        The component with the largest share, the lowest where several have it.
    log_density : ndarray of float64, shape (n,)
        Log density of the mixture.
    uncertainty : ndarray of float64, shape (n,)
        What the other components hold.
    resp : ndarray of float64, shape (n, k), or None
        Shares; each row sums to one.
    """
    density = log_density_tied(x.astype(np.float64, copy=False), means, precisions_cholesky)
    return _answers(density, log_weights, shares)


def answers_diag(
    x: Floats, log_weights: Float64, means: Float64, precisions_cholesky: Float64, shares: bool
) -> Answers:
    """Return what a mixture says of each row, one diagonal covariance for each component.

    float32 rows are answered for in float64: nothing is added up that float32 would make faster.

    Parameters
    ----------
    x : ndarray of float64 or float32, shape (n, d)
        Rows.
    log_weights : ndarray of float64, shape (k,)
        Log of the components' weights; minus infinity where a component has none.
    means : ndarray of float64, shape (k, d)
        Means.
    precisions_cholesky : ndarray of float64, shape (k, d)
        One over the standard deviations.
    shares : bool
        Whether the shares are asked for.

    Returns
    -------
    label : ndarray of int64, shape (n,)
        The component with the largest share, the lowest where several have it.
    log_density : ndarray of float64, shape (n,)
        Log density of the mixture.
    uncertainty : ndarray of float64, shape (n,)
        What the other components hold.
    resp : ndarray of float64, shape (n, k), or None
        Shares; each row sums to one.
    """
    density = log_density_diag(x.astype(np.float64, copy=False), means, precisions_cholesky)
    return _answers(density, log_weights, shares)


def answers_spherical(
    x: Floats, log_weights: Float64, means: Float64, precisions_cholesky: Float64, shares: bool
) -> Answers:
    """Return what a mixture says of each row, one variance for each component.

    float32 rows are answered for in float64: nothing is added up that float32 would make faster.

    Parameters
    ----------
    x : ndarray of float64 or float32, shape (n, d)
        Rows.
    log_weights : ndarray of float64, shape (k,)
        Log of the components' weights; minus infinity where a component has none.
    means : ndarray of float64, shape (k, d)
        Means.
    precisions_cholesky : ndarray of float64, shape (k,)
        One over the standard deviations.
    shares : bool
        Whether the shares are asked for.

    Returns
    -------
    label : ndarray of int64, shape (n,)
        The component with the largest share, the lowest where several have it.
    log_density : ndarray of float64, shape (n,)
        Log density of the mixture.
    uncertainty : ndarray of float64, shape (n,)
        What the other components hold.
    resp : ndarray of float64, shape (n, k), or None
        Shares; each row sums to one.
    """
    density = log_density_spherical(x.astype(np.float64, copy=False), means, precisions_cholesky)
    return _answers(density, log_weights, shares)
