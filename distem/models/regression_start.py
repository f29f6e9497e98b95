"""Where regressions start: fits through a few rows each, climbed for a few steps, and the likeliest kept."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from distem.errors import FitError
from distem.kernels.regression_reference import residuals
from distem.models.covariance import SMALLEST_VARIANCE
from distem.models.regression import RegressionMixture, RegressionParams, solve
from distem.models.seeding import Sample
from distem.types import Float64, Ints, Rows

TRIES = 12
"""Starts that are tried for each that is asked for."""
STEPS = 6
"""Steps of EM by which they are judged."""
TRY_ROWS = 2000
"""Rows of the sample that they climb on."""
OUTLIERS = 0.05
"""Share of outliers to begin with."""


def start(
    model: RegressionMixture,
    k: int,
    sample: Sample,
    rng: np.random.Generator,
    tries: int = TRIES,
    places: Sequence[int] | None = None,
) -> RegressionParams:
    """Starting parameters of k regressions.

    Each regression is fitted to a few rows: chosen at random or, every other time, near to each other in
    what is not the response. Short runs of EM tell the starts apart, as in emEM [1]_.

    Parameters
    ----------
    sample : Sample
        Rows of the data.
    rng : numpy.random.Generator
        This start's own.
    tries : int
        How many are made for the one that is kept.
    places : sequence of int, optional
        Columns by which rows are near to each other; by default all but the responses.

    References
    ----------
    .. [1] Biernacki, Celeux, Govaert, Choosing starting values for the EM algorithm, CSDA 41 (2003).

    Raises
    ------
    FitError
        The sample holds fewer rows than one regression has terms.
    """
    rows = sample.first(TRY_ROWS).rows
    p = model.layout.factors.shape[1]
    if rows.n < max(k, p):
        given = "1 row" if rows.n == 1 else f"{rows.n:,} rows"
        raise FitError(
            f"{k} regressions of {p} terms cannot start from {given}.",
            "Ask for fewer components or terms, or give more rows.",
        )
    best: tuple[float, RegressionParams] | None = None
    for number in range(tries):
        params = _through(model, k, rows, _chosen(model, k, rows, rng, number % 2 == 1, places))
        for _ in range(STEPS):
            params = model.m_step(model.e_step(rows, params), params)
        value = model.e_step(rows, params).mean_log_likelihood
        if np.isfinite(value) and (best is None or value > best[0]):
            best = value, params
    if best is None:
        raise FitError("No start of the regressions has a finite likelihood.", "Scale the data.")
    return best[1]


def _chosen(
    model: RegressionMixture,
    k: int,
    rows: Rows,
    rng: np.random.Generator,
    near: bool,
    places: Sequence[int] | None,
) -> list[Ints]:
    """A few rows for each regression."""
    p = model.layout.factors.shape[1]
    few = min(rows.n, p + p // 2 + 1)
    if not near:
        return [rng.choice(rows.n, few, replace=False) for _ in range(k)]
    others = np.setdiff1d(np.arange(rows.d), model.layout.responses) if places is None else places
    x = rows.values[:, others].astype(np.float64)
    spread = x.std(axis=0)
    x = x / np.where(spread > 0.0, spread, 1.0)
    found = []
    for centre in rng.choice(rows.n, k, replace=rows.n < k):
        distance = ((x - x[centre]) ** 2).sum(axis=1)
        # the more rows there are, the more are near enough: noise averages out
        closest = np.argsort(distance, kind="stable")[: max(min(rows.n, 3 * few), rows.n // 50)]
        found.append(rng.choice(closest, max(few, len(closest) // 2), replace=False))
    return found


def _through(model: RegressionMixture, k: int, rows: Rows, chosen: list[Ints]) -> RegressionParams:
    """Regressions fitted to a few rows each, with the noise that all rows have about the nearest."""
    layout, x = model.layout, rows.values.astype(np.float64)
    p, q, s = layout.factors.shape[1], layout.responses.shape[1], layout.position.size
    coef, grams, left = np.zeros((k, p, q)), np.zeros((k, p, p)), np.empty((k, rows.n, q))
    for c in range(k):
        phi, e = residuals(x, layout, coef[c], c)
        few = chosen[c]
        coef[c] = solve(phi[few].T @ phi[few], phi[few].T @ e[few])
        grams[c] = phi.T @ phi / rows.n
        left[c] = e - phi @ coef[c]
    nearest = (left**2).sum(axis=2).argmin(axis=0)
    least = left[nearest, np.arange(rows.n)]
    variance = np.maximum((1.4826 * np.median(np.abs(least), axis=0)) ** 2, 1e-4 * (least**2).mean(axis=0))
    variance = np.maximum(variance, SMALLEST_VARIANCE)
    noise = model.shape.from_matrices(np.stack([np.diag(variance)] * k), np.full(k, 1.0 / k))
    noise = model.shape.regularise(noise, 0.0, model.least(q))
    return RegressionParams(
        even_weights(k, model.outliers),
        coef,
        model.shape.factor(noise)[1],
        grams,
        *_places(x, layout.position, k, s),
    )


def _places(x: Float64, position: Ints, k: int, s: int) -> tuple[Float64, Float64]:
    """The position of all rows, for each."""
    if s == 0:
        return np.zeros((k, 0)), np.zeros((k, 0, 0))
    z = x[:, position]
    spread = np.cov(z, rowvar=False, bias=True).reshape(s, s)
    return np.stack([z.mean(axis=0)] * k), np.stack([spread + 1e-12 * np.trace(spread) * np.eye(s)] * k)


def even_weights(k: int, outliers: bool) -> Float64:
    """The same for all regressions, and a little for outliers."""
    weights = np.full(k, 1.0 / k)
    return np.append(weights * (1.0 - OUTLIERS), OUTLIERS) if outliers else weights
