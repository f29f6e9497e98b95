"""Fitted attributes to parameters and back, at any magnitude a float64 can hold.

`kind` is the covariance type; shapes are scikit-learn's.
"""

from __future__ import annotations

import numpy as np

from distem.data.transform import Transform
from distem.errors import FitError
from distem.models.covariance import COVARIANCES
from distem.models.gaussian import GaussianTheta
from distem.models.mixture import MixtureParams
from distem.types import Float64


def inverse(matrices: Float64, kind: str) -> Float64:
    """Covariances of precisions, in the shape of `kind`.

    Raises
    ------
    FitError
        They are not positive definite.
    """
    if kind in ("diag", "spherical"):
        if not (matrices > 0).all():
            raise FitError("'precisions_init' should be positive.")
        return 1.0 / matrices
    try:
        np.linalg.cholesky(matrices)
    except np.linalg.LinAlgError as error:
        raise FitError("'precisions_init' should be symmetric, positive-definite.") from error
    return np.asarray(np.linalg.inv(matrices))


def inverse_of_factors(factors: Float64, kind: str) -> Float64:
    """Covariances of precision factors."""
    if kind in ("diag", "spherical"):
        return factors**-2
    inverse = np.linalg.inv(factors)
    return np.asarray(np.swapaxes(inverse, -1, -2) @ inverse)


def triangular(factors: Float64, kind: str) -> Float64:
    """The upper-triangular factor of the same precision: others may be set by hand."""
    if kind in ("diag", "spherical") or np.allclose(factors, np.triu(factors), rtol=0, atol=0):
        return factors
    shape = COVARIANCES[kind]
    return shape.factor(inverse_of_factors(factors, kind))[0]


def held(values: Float64) -> Float64:
    """What float64 cannot hold, at the largest number it can."""
    largest = float(np.finfo(np.float64).max)
    return np.clip(values, -largest, largest)


def covariances_times(covariances: Float64, kind: str, scale: Float64) -> Float64:
    """Covariances in units `scale` times as small; for spherical ones all units are equal."""
    with np.errstate(over="ignore", under="ignore"):
        if kind in ("diag", "spherical"):
            by = scale if kind == "diag" else scale[0]
            return held(covariances * by * by)
        return held(covariances * scale[:, None] * scale)


def factors_times(factors: Float64, kind: str, scale: Float64) -> Float64:
    """Factors of the precisions in units `scale` times as large."""
    by = {"diag": scale, "spherical": scale[0]}.get(kind, scale[:, None])
    return np.asarray(factors * by)


def to_model_units(params: MixtureParams, kind: str, transform: Transform) -> MixtureParams:
    """Parameters in the data's units as the model has them behind a transform."""
    if transform.is_identity:
        return params
    theta, means = params.theta, transform.forward_means(params.theta.means)
    if transform.scale is None:
        return MixtureParams(
            params.weights, GaussianTheta(means, theta.covariances, theta.precisions_cholesky)
        )
    # by the factors: the covariances may lie beyond float64's range
    factors = factors_times(theta.precisions_cholesky, kind, transform.scale)
    return MixtureParams(params.weights, GaussianTheta(means, inverse_of_factors(factors, kind), factors))


def transform_for_asking(params: MixtureParams, kind: str) -> Transform:
    """Identity, but for magnitudes whose squares a float64 cannot hold."""
    means, factors = params.theta.means, params.theta.precisions_cholesky
    d = means.shape[1]
    slopes = np.abs(factors if kind in ("diag", "spherical") else np.diagonal(factors, axis1=-2, axis2=-1))
    slopes = slopes.reshape(-1, 1 if kind == "spherical" else d)
    size, spread = np.abs(means).max(axis=0), np.broadcast_to(1.0 / slopes.min(axis=0), d)
    if (size < 1e100).all() and (spread > 1e-100).all() and (spread < 1e100).all():
        return Transform.identity("keep")
    largest = np.maximum(size, spread)
    if kind == "spherical":
        largest = np.full(d, largest.max())
    return Transform(missing="keep", scale=np.ldexp(1.0, np.frexp(largest)[1] - 1))
