"""The table of families: a family joins the contracts with one entry."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from strategies import COVARIANCES, random_params

from distem.models.gaussian import Gaussian
from distem.models.mixture import Mixture, MixtureParams


@dataclass(frozen=True)
class Family:
    """What the contracts need to know of a family.

    Attributes
    ----------
    name : str
    model : callable
        Of the kernels' name and `reg_covar`: the model.
    relabel : callable
        Of parameters and an order: the same mixture, its components in another order.
    truth : callable
        Of a generator: well separated parameters to sample from, and parameters not far off.
    """

    name: str
    model: Callable[..., Any]
    relabel: Callable[..., Any]
    truth: Callable[[Any, np.random.Generator], tuple[Any, Any]]


def _gaussian(covariance: str) -> Family:
    def model(kernels: str = "compiled", reg_covar: float = 0.0) -> Mixture:
        return Mixture(Gaussian(covariance, reg_covar, kernels=kernels))

    def relabel(model: Mixture, params: MixtureParams, order: np.ndarray) -> MixtureParams:
        arrays = model.arrays(params)
        shared = ("covariances", "precisions_cholesky") if covariance == "tied" else ()
        return model.from_arrays({n: a if n in shared else a[order] for n, a in arrays.items()})

    def truth(model: Mixture, rng: np.random.Generator) -> tuple[MixtureParams, MixtureParams]:
        begun = random_params(model, 3, 2, rng)
        means = np.array([[0.0, 0.0], [7.0, 1.0], [-2.0, 8.0]])
        matrices = model.component.shape.matrices(begun.theta.covariances, 3, 2)
        weights = np.array([0.5, 0.3, 0.2])
        right = MixtureParams(weights, model.component.from_matrices(means, matrices, weights))
        even = np.full(3, 1 / 3)
        near = model.component.from_matrices(means + rng.normal(size=(3, 2)), np.stack([np.eye(2)] * 3), even)
        return right, MixtureParams(even, near)

    return Family(f"gaussian-{covariance}", model, relabel, truth)


FAMILIES = {family.name: family for family in map(_gaussian, COVARIANCES)}
