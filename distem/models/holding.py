"""Fits of which a part stays as it begins: hmmlearn's `params`."""

from __future__ import annotations

from typing import Any

import numpy as np

from distem.models.base import Moments
from distem.models.chain import stationary_law
from distem.types import Float64


def hold(model: Any, new: Any, old: Any, moments: Moments | None = None) -> Any:
    """Parameters of a chain with the parts that `model.held` names as they were.

    Parameters
    ----------
    model : HiddenMarkov
        The family.
    new, old : MarkovParams
        After the step and before it.
    moments : Moments, optional
        What the step was made of: spreads are about the means that stay, not about those it would have
        found.
    """
    named, before = model.arrays(new), model.arrays(old)
    gaussian = getattr(model.component, "gaussian", model.component)
    if moments is not None and "means" in model.held and "covariances" not in model.held:
        off = named["means"] - before["means"]
        about = _about(named["covariances"], off, moments.mass, gaussian.covariance)
        theta = gaussian.theta(before["means"], about)
        if getattr(model.component, "tied", False):
            theta = model.component.tie(theta, named["mixing"])
        named["covariances"], named["precisions_cholesky"] = theta.covariances, theta.precisions_cholesky
    names = set(model.held)
    if "covariances" in names:
        names.add("precisions_cholesky")
    named |= {name: before[name] for name in names}
    if model.stationary:
        named["start"] = stationary_law(named["transition"])
    return model.from_arrays(named)


def _about(covariances: Float64, off: Float64, mass: Float64, kind: str) -> Float64:
    """Covariances about means that lie `off` (k, d) those that they were taken about."""
    if kind == "full":
        return np.asarray(covariances + off[:, :, None] * off[:, None, :])
    if kind == "tied":
        return np.asarray(covariances + np.einsum("k,ki,kj->ij", mass / mass.sum(), off, off))
    if kind == "diag":
        return np.asarray(covariances + off**2)
    return np.asarray(covariances + (off**2).mean(axis=1))
