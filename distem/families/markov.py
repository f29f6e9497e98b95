"""Hidden Markov models as a run knows them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from distem.data.transform import Transform
from distem.em.loop import Fit
from distem.em.selection import Score, score
from distem.errors import DataError
from distem.families.base import Beginning, Facts, Variables
from distem.families.mixture import moments
from distem.models.chain import stationary_law
from distem.models.chain_start import begin_chain, start
from distem.models.discrete import Categorical, CategoricalTheta, Poisson, PoissonTheta
from distem.models.gaussian import Gaussian
from distem.models.markov import HiddenMarkov, MarkovParams
from distem.types import Float64


class HiddenMarkovFamily:
    """Chains of hidden states over Gaussian numbers, counts or symbols."""

    kind = "hidden_markov"
    title = "hidden Markov model"
    part = "state"
    variant = "emission"
    objective = "log-likelihood"
    answers = ("label", "probability", "log_density", "uncertainty", "path")

    def start(self, model: HiddenMarkov, begin: Beginning) -> MarkovParams:
        """See `chain_start.start`."""
        return start(begin.init, model, begin.k, begin.sample, begin.rng, begin.centres, begin.matrix)

    def given(self, model: HiddenMarkov, values: Mapping[str, Float64], transform: Transform) -> MarkovParams:
        """From means, and covariance matrices or probabilities; start and transitions where they are there.

        Raises
        ------
        DataError
            There are no probabilities of symbols.
        """
        means = values["means"]
        component: Any = model.component
        first, transition = begin_chain(len(means))
        first, transition = values.get("start", first), values.get("transition", transition)
        if isinstance(component, Categorical):
            if "probabilities" not in values:
                raise DataError(
                    "States that say symbols cannot start from means.", "Start by name, or from a run."
                )
            return MarkovParams(first, transition, CategoricalTheta(values["probabilities"]))
        if isinstance(component, Poisson):
            return MarkovParams(first, transition, PoissonTheta(np.maximum(means, 1e-12)))
        matrices = transform.forward_covariances(values["covariances"])
        weights = np.full(len(means), 1.0 / len(means))
        theta = component.from_matrices(transform.forward_means(means), matrices, weights)
        return MarkovParams(first, transition, theta)

    def facts(self, model: HiddenMarkov, stats: Any) -> Facts:
        """Rows expected of each state, and expected transitions."""
        return {"mass": model.component.masses(stats.moments), "pairs": stats.pairs}

    def variables(
        self, model: HiddenMarkov, params: MarkovParams, facts: Facts, transform: Transform
    ) -> Variables:
        """Start, transitions, and of each state its share, mean and covariance; of symbols their shares."""
        mass = facts.get("mass")
        weights = stationary_law(params.transition) if mass is None else mass / mass.sum()
        means, matrices = _of_states(model, params.theta)
        found = moments(weights, means, matrices, transform, self.part)
        found["start"] = ("component",), params.start, {"long_name": "probability of the first state"}
        words = "probability of the next state, from row to column"
        found["transition"] = ("component", "component_next"), params.transition, {"long_name": words}
        if isinstance(params.theta, CategoricalTheta):
            words = "probability of each symbol in each state"
            found["probabilities"] = ("component", "symbol"), params.theta.probabilities, {"long_name": words}
        return found

    def attributes(self, model: HiddenMarkov) -> dict[str, Any]:
        """Of the chain and its emission."""
        component = model.component
        about: dict[str, Any] = {"stationary": int(model.stationary), "kernels": model.kernels}
        if isinstance(component, Gaussian):
            return about | {
                "emission": "gaussian",
                "covariance": component.covariance,
                "reg_covar": np.asarray(component.reg_covar).tolist(),
                "floor": component.floor,
            }
        if isinstance(component, Categorical):
            return about | {"emission": "categorical", "symbols": component.symbols, "covariance": "diag"}
        return about | {"emission": "poisson", "covariance": "diag"}

    def model(self, attributes: Mapping[str, Any]) -> HiddenMarkov:
        """The model of `attributes`."""
        emission, stationary = str(attributes["emission"]), bool(attributes["stationary"])
        kernels = str(attributes["kernels"])
        if emission == "poisson":
            return HiddenMarkov(Poisson(), stationary, kernels)
        if emission == "categorical":
            return HiddenMarkov(Categorical(int(attributes["symbols"])), stationary, kernels)
        reg_covar = attributes["reg_covar"]
        component = Gaussian(
            str(attributes["covariance"]),
            float(reg_covar) if np.ndim(reg_covar) == 0 else np.asarray(reg_covar, dtype=np.float64),
            float(attributes["floor"]),
            kernels=kernels,
        )
        return HiddenMarkov(component, stationary, kernels)

    def offset(self, model: HiddenMarkov, transform: Transform) -> float:  # noqa: ARG002
        """The log Jacobian."""
        return transform.log_jacobian

    def score(self, model: HiddenMarkov, fit: Fit, transform: Transform) -> Score:
        """Likelihood, parameters, entropy."""
        return score(model, fit, transform.log_jacobian)


def _of_states(model: HiddenMarkov, theta: Any) -> tuple[Float64, Float64]:
    """Means (k, d) and covariance matrices (k, d, d) of what the states say, in the model's units."""
    if isinstance(theta, PoissonTheta):
        return theta.rates, theta.rates[:, :, None] * np.eye(theta.rates.shape[1])
    if isinstance(theta, CategoricalTheta):
        shares, symbols = theta.probabilities, np.arange(theta.probabilities.shape[1], dtype=np.float64)
        means = shares @ symbols
        return means[:, None], ((shares @ symbols**2) - means**2)[:, None, None]
    component: Any = model.component
    matrices: Float64 = component.shape.matrices(theta.covariances, *theta.means.shape)
    return theta.means, matrices
