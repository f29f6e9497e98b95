"""K-means on a few rows in memory, by the package's own kernels: where fits start.

scikit-learn's would do as well, but to import it takes a second and a half of every run.
"""

from __future__ import annotations

import numpy as np

from distem.kernels import compiled_centres
from distem.models.kmeans import KMeans, KMeansParams
from distem.types import Float64, Rows

ITERATIONS = 300
"""The most of Lloyd's iterations."""
SETTLED = 1e-4
"""Centres stay where they are when their squared shifts add up to less than this share of the variance."""


def plus_plus(values: Float64, weights: Float64, k: int, rng: np.random.Generator) -> Float64:
    """Rows to start from by k-means++: each drawn in proportion to its squared distance from those before.

    Of 2 + log k draws the one that leaves the least is taken, as scikit-learn does [1]_.

    Parameters
    ----------
    values : ndarray, shape (m, d)
        Rows, at least k.
    weights : ndarray, shape (m,)
        Not negative, one of them positive.
    k : int
        Rows wanted.
    rng : numpy.random.Generator
        Draws them.

    References
    ----------
    .. [1] Arthur and Vassilvitskii, k-means++: the advantages of careful seeding, SODA (2007).
    """
    centred = values - weights @ values / weights.sum()
    squares = np.einsum("ij,ij->i", centred, centred)
    trials = 2 + int(np.log(k))

    def left(rows: np.ndarray) -> Float64:
        """Squared distances of all rows from some of them, shape (trials, m)."""
        products = centred[rows] @ centred.T
        found = np.maximum(squares[rows][:, None] - 2.0 * products + squares, 0.0)
        found[np.arange(len(rows)), rows] = 0.0
        return np.asarray(found)

    def drawn(pull: Float64, count: int) -> np.ndarray:
        """Rows in proportion to their pull."""
        up_to = np.cumsum(pull)
        where = np.searchsorted(up_to, rng.random(count) * up_to[-1], side="right")
        return np.asarray(np.minimum(where, len(pull) - 1))

    chosen = drawn(weights, 1)
    nearest = left(chosen)[0]
    while len(chosen) < k:
        pull = nearest * weights
        # where all rows are taken, fewer are distinct than are wanted: any will do
        tried = drawn(pull if pull.sum() > 0.0 else weights, trials)
        rest = np.minimum(left(tried), nearest)
        best = int((rest @ weights).argmin())
        chosen, nearest = np.append(chosen, tried[best]), rest[best]
    return np.asarray(values[chosen])


def lloyd(values: Float64, weights: Float64, k: int, rng: np.random.Generator) -> Float64:
    """Centres of a k-means, shape (k, d), from a start by `plus_plus`; parameters as there."""
    rows = Rows(values, None if (weights == 1.0).all() else weights).remembering()
    model, params = KMeans(), KMeansParams(plus_plus(values, weights, k, rng))
    share = weights / weights.sum()
    spread = float((share @ (values - share @ values) ** 2).mean())
    for _ in range(ITERATIONS):
        stats = model.e_step(rows, params)
        moved = model.m_step(stats, params)
        empty = model.collapsed(stats, params)
        if empty:
            moved = _filled(moved, empty, values, weights)
        shift = float(((moved.centres - params.centres) ** 2).sum())
        params = moved
        if shift <= SETTLED * spread:
            break
    return params.centres


def _filled(params: KMeansParams, empty: tuple[int, ...], values: Float64, weights: Float64) -> KMeansParams:
    """Empty clusters move to the rows that are farthest from any centre."""
    _, square = compiled_centres.nearest(values, params.centres)
    farthest = np.argsort(-square * (weights > 0.0), kind="stable")
    centres = params.centres.copy()
    for cluster, row in zip(empty, farthest, strict=False):
        if square[row] > 0.0:
            centres[cluster] = values[row]
    return KMeansParams(centres)
