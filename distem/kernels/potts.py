"""Mean-field Potts smoothing of responsibilities on a picture, in NumPy."""

from __future__ import annotations

import numpy as np

from distem.types import Bools, Float64

_LEAST = 1e-300  # far beyond what neighbours could win back


def mean_field(resp: Float64, there: Bools | None, beta: float, iterations: int) -> Float64:
    """Let every pixel's responsibilities lean towards those of its four neighbours.

    Each iteration sets, for all pixels at once, ``q = softmax(log r + beta * sum of the neighbours' q)``: the
    mean-field fixed point of a Potts prior on the labels. After m iterations a pixel depends on what lies
    within m steps of it, and on nothing else.

    Parameters
    ----------
    resp : ndarray of float64, shape (k, y, x)
        Responsibilities; 0 where a pixel is missing.
    there : ndarray of bool, shape (y, x), or None
        Which pixels are not missing; None means all. The others pull no neighbour.
    beta : float
        Strength, in units of log-odds a neighbour.
    iterations : int
        How many.

    Returns
    -------
    ndarray of float64, shape (k, y, x)
        They sum to one where a pixel is there, and are 0 elsewhere.

    References
    ----------
    G. Celeux, F. Forbes, N. Peyrard. EM procedures using mean field-like approximations for Markov
    model-based image segmentation. Pattern Recognition 36 (2003).
    """
    logs = np.log(np.maximum(resp, _LEAST))
    q = resp
    field = np.empty_like(logs)
    for _ in range(iterations):
        # in one order for every pixel, so that its bits do not depend on what else is smoothed
        field[...] = 0.0
        field[:, 1:] += q[:, :-1]
        field[:, :-1] += q[:, 1:]
        field[:, :, 1:] += q[:, :, :-1]
        field[:, :, :-1] += q[:, :, 1:]
        field *= beta
        field += logs
        field -= field.max(axis=0)
        np.exp(field, out=field)
        total = field[0].copy()
        for part in field[1:]:
            total += part
        field /= total
        if there is not None:
            field *= there
        q, field = field, (np.empty_like(logs) if q is resp else q)
    return q
