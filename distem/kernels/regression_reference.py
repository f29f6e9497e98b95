"""Plain NumPy kernels for mixtures of linear regressions: the executable truth.

A row holds predictors, responses, and where it lies. Component c expects of its responses y the product of
its coefficients with a design φ(x): p terms, each a product of the row's columns. `factors` (1 or k, p, f)
lists the columns of each term, -1 for none: a term without columns is the constant 1. Where the first
dimension is 1 all components share the design; `responses` (1 or k, q) likewise.

With `position`, a component also says where its rows lie: a Gaussian factor of the row's density. With an
outlier layer (`log_outlier` above minus infinity) one more component comes last, of the same density
everywhere.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from distem.kernels.reference import LOWEST, normalise
from distem.types import Float64, Floats, Ints

LOG_2PI = math.log(2.0 * math.pi)
CAP = 1e300
"""Cap on squared distances, so that log densities stay finite."""


@dataclass(frozen=True, slots=True, eq=False)
class Layout:
    """Which columns of a row are what.

    Attributes
    ----------
    factors : ndarray of int64, shape (1 or k, p, f)
        Columns whose product is a term of the design; -1 for none.
    responses : ndarray of int64, shape (1 or k, q)
        Columns of the responses.
    position : ndarray of int64, shape (s,)
        Columns that say where the row lies; may be empty.
    """

    factors: Ints
    responses: Ints
    position: Ints


@dataclass(frozen=True, slots=True, eq=False)
class Parameters:
    """What an E-step needs of k components.

    Attributes
    ----------
    log_weights : ndarray, shape (k,)
        Log of the components' weights; minus infinity where a component has none.
    coef : ndarray, shape (k, p, q)
        Coefficients.
    noise : ndarray, shape (k, q, q)
        Upper triangular factors of the precisions of the noise.
    centres : ndarray, shape (k, s)
        Mean positions.
    spreads : ndarray, shape (k, s, s)
        Upper triangular factors of the precisions of the positions.
    log_outlier : float
        Log of weight times density of the outlier layer; minus infinity where there is none.
    """

    log_weights: Float64
    coef: Float64
    noise: Float64
    centres: Float64
    spreads: Float64
    log_outlier: float


EStep = tuple[float, Float64, Float64, Float64, Float64, Float64, Float64]
"""Log-likelihood; mass (k or k + 1,); of φφ', φe', ee' (k, ., .); first and second of the position."""


def design(x: Floats, factors: Ints) -> Float64:
    """Terms of the design, shape (n, p), of factors (p, f)."""
    out = np.ones((len(x), len(factors)))
    for j, columns in enumerate(factors):
        for column in columns[columns >= 0]:
            out[:, j] *= x[:, column]
    return out


def residuals(x: Floats, layout: Layout, coef: Float64, c: int) -> tuple[Float64, Float64]:
    """Design (n, p) and residuals (n, q) of component c, whose coefficients are (p, q)."""
    phi = design(x, layout.factors[c % len(layout.factors)])
    return phi, x[:, layout.responses[c % len(layout.responses)]] - phi @ coef


def log_joint(x: Floats, layout: Layout, at: Parameters) -> Float64:
    """Log of weight times density, shape (n, k), or (n, k + 1) with an outlier layer.

    Parameters
    ----------
    x : ndarray of float64 or float32, shape (n, d)
        Rows.
    layout : Layout
        Which columns of a row are what.
    at : Parameters
        Of the components.
    """
    x = np.asarray(x, np.float64)
    k, q, s = len(at.coef), at.coef.shape[2], len(layout.position)
    out = np.empty((len(x), k + (at.log_outlier > -np.inf)))
    for c in range(k):
        _, e = residuals(x, layout, at.coef[c], c)
        with np.errstate(over="ignore", invalid="ignore"):
            squares = ((e @ at.noise[c]) ** 2).sum(axis=1)
            squares += (((x[:, layout.position] - at.centres[c]) @ at.spreads[c]) ** 2).sum(axis=1)
        out[:, c] = constants(at)[c] - 0.5 * np.where(squares < CAP, squares, CAP)
        out[:, c] -= 0.5 * (q + s) * LOG_2PI
    if at.log_outlier > -np.inf:
        out[:, k] = at.log_outlier
    return out


def constants(at: Parameters) -> Float64:
    """What all rows of a component have in common, but for the powers of 2 pi, shape (k,)."""
    with np.errstate(divide="ignore"):
        logs = np.log(np.abs(np.diagonal(at.noise, axis1=1, axis2=2))).sum(axis=1)
        logs = logs + np.log(np.abs(np.diagonal(at.spreads, axis1=1, axis2=2))).sum(axis=1)
    return np.asarray(np.maximum(at.log_weights, LOWEST) + logs)


def e_step(x: Floats, weights: Float64 | None, layout: Layout, at: Parameters) -> EStep:
    """Return log-likelihood and moments of one E-step.

    Parameters
    ----------
    x : ndarray of float64 or float32, shape (n, d)
        Rows.
    weights : ndarray of float64, shape (n,), or None
        Row weights, not negative; None means one each.
    layout : Layout
        Which columns of a row are what.
    at : Parameters
        Of the components; all moments are about what these expect.

    Returns
    -------
    log_likelihood : float
        Weighted sum of the rows' log densities.
    mass : ndarray, shape (k,) or (k + 1,)
        Sum of the responsibilities, those of outliers last.
    gram, cross, second : ndarray, shape (k, p, p), (k, p, q), (k, q, q)
        Sums of r φφ', r φe' and r ee', with residuals e.
    place, extent : ndarray, shape (k, s), (k, s, s)
        Sums of r (z - m) and r (z - m)(z - m)', with positions z.
    """
    x = np.asarray(x, np.float64)
    log_norm, resp = normalise(log_joint(x, layout, at))
    row_weights = np.ones(len(x)) if weights is None else weights
    resp = resp * row_weights[:, None]
    sums = []
    for c in range(len(at.coef)):
        phi, e = residuals(x, layout, at.coef[c], c)
        z = x[:, layout.position] - at.centres[c]
        r = resp[:, c, None]
        with np.errstate(over="ignore", invalid="ignore"):
            first, second = (r * z).sum(axis=0), (r * z).T @ z
            sums.append(((r * phi).T @ phi, (r * phi).T @ e, (r * e).T @ e, first, second))
    gram, cross, second, place, extent = (np.stack(each) for each in zip(*sums, strict=True))
    return float(row_weights @ log_norm), resp.sum(axis=0), gram, cross, second, place, extent
