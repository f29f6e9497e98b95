"""Gaussian mixtures as a run knows them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from distem.data.transform import Transform
from distem.em.loop import Fit
from distem.em.selection import Score, score
from distem.families.base import Beginning, Facts, Variables
from distem.models import seeding
from distem.models.gaussian import Gaussian
from distem.models.mixture import Mixture, MixtureParams
from distem.types import Float64

LARGEST = float(np.finfo(np.float64).max)


class GaussianMixtures:
    """Mixtures of Gaussians."""

    kind = "gaussian_mixture"
    title = "Gaussian mixture"
    part = "component"
    variant = "covariance"
    objective = "log-likelihood"
    step = "pass"
    answers = ("label", "probability", "log_density", "uncertainty")

    def start(self, model: Mixture, begin: Beginning) -> MixtureParams:
        """See `seeding.start`."""
        return seeding.start(begin.init, model, begin.k, begin.sample, begin.rng, begin.centres, begin.matrix)

    def given(self, model: Mixture, values: Mapping[str, Float64], transform: Transform) -> MixtureParams:
        """From weights, means and covariance matrices (k, d, d)."""
        weights = values["weights"]
        means = transform.forward_means(values["means"])
        matrices = transform.forward_covariances(values["covariances"])
        theta = model.component.from_matrices(means, matrices, weights)
        return MixtureParams(weights / weights.sum(), theta)

    def facts(self, model: Mixture, stats: Any) -> Facts:  # noqa: ARG002
        """None: the parameters say all."""
        return {}

    def variables(
        self,
        model: Mixture,
        params: MixtureParams,
        facts: Facts,  # noqa: ARG002
        transform: Transform,
    ) -> Variables:
        """Weights, means and covariance matrices."""
        theta = params.theta
        matrices = model.component.shape.matrices(theta.covariances, *theta.means.shape)
        return moments(params.weights, theta.means, matrices, transform, self.part)

    def attributes(self, model: Mixture) -> dict[str, Any]:
        """Of the component."""
        component = model.component
        return {
            "covariance": component.covariance,
            "reg_covar": np.asarray(component.reg_covar).tolist(),
            "floor": component.floor,
            "kernels": component.kernels,
        }

    def model(self, attributes: Mapping[str, Any]) -> Mixture:
        """The mixture of `attributes`."""
        reg_covar = attributes["reg_covar"]
        return Mixture(
            Gaussian(
                attributes["covariance"],
                float(reg_covar) if np.ndim(reg_covar) == 0 else np.asarray(reg_covar, dtype=np.float64),
                float(attributes["floor"]),
                kernels=attributes["kernels"],
            )
        )

    def offset(self, model: Mixture, transform: Transform) -> float:  # noqa: ARG002
        """The log Jacobian."""
        return transform.log_jacobian

    def score(self, model: Mixture, fit: Fit, transform: Transform) -> Score:
        """Likelihood, parameters, entropy."""
        return score(model, fit, transform.log_jacobian)


def moments(
    weights: Float64 | None, means: Float64, matrices: Float64 | None, transform: Transform, part: str
) -> Variables:
    """Shares, means and covariances of parts, in the data's own units and finite at any magnitude.

    Parameters
    ----------
    weights : ndarray, shape (k,), or None
        Shares; they are left out where they are not known.
    means : ndarray, shape (k, d)
        In the model's units.
    matrices : ndarray, shape (k, d, d), or None
        Likewise.
    part : str
        What one of them is called.
    """
    found: Variables = {}
    if weights is not None:
        found["weights"] = ("component",), weights, {"long_name": f"share of each {part}"}
    back = transform.backward_means(means)
    found["means"] = ("component", "feature"), back, {"long_name": f"mean of each {part}"}
    if matrices is not None:
        covariances = np.clip(transform.backward_covariances(matrices), -LARGEST, LARGEST)
        dims = ("component", "feature", "feature_other")
        found["covariances"] = dims, covariances, {"long_name": f"covariance matrix of each {part}"}
    return found
