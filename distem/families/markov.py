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
from distem.models.mixed import MixedGaussians, MixedTheta
from distem.types import Float64


class HiddenMarkovFamily:
    """Chains of hidden states over Gaussian numbers, counts or symbols."""

    kind = "hidden_markov"
    title = "hidden Markov model"
    part = "state"
    variant = "emission"
    objective = "log-likelihood"
    step = "pass"
    answers = ("label", "probability", "log_density", "uncertainty", "path")

    def start(self, model: HiddenMarkov, begin: Beginning) -> MarkovParams:
        """See `chain_start.start`."""
        return start(begin.init, model, begin.k, begin.sample, begin.rng, begin.centres, begin.matrix)

    def given(self, model: HiddenMarkov, values: Mapping[str, Float64], transform: Transform) -> MarkovParams:
        """From means, and covariance matrices or probabilities; start and transitions where they are there.

        Raises
        ------
        DataError
            There are no probabilities of symbols, or no Gaussians of states that have several.
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
        if isinstance(component, MixedGaussians):
            return MarkovParams(first, transition, _mixed(component, values, transform))
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
        if isinstance(params.theta, MixedTheta):
            found |= _of_gaussians(model, params.theta, transform)
        return found

    def attributes(self, model: HiddenMarkov) -> dict[str, Any]:
        """Of the chain and its emission."""
        component: Any = model.component
        inner: Any = component
        more: dict[str, Any] = {}
        about: dict[str, Any] = {"stationary": int(model.stationary), "kernels": model.kernels}
        if isinstance(component, MixedGaussians):
            inner, more = component.gaussian, {"components_per_state": component.voices}
        if isinstance(inner, Gaussian):
            covariance = "tied" if more and component.tied else inner.covariance
            about |= {"emission": "gaussian", "covariance": covariance, "floor": inner.floor}
            return about | more | {"reg_covar": np.asarray(inner.reg_covar).tolist()}
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
        reg_covar, covariance = attributes["reg_covar"], str(attributes["covariance"])
        m = int(attributes.get("components_per_state", 1))
        tied = m > 1 and covariance == "tied"
        component = Gaussian(
            "full" if tied else covariance,
            float(reg_covar) if np.ndim(reg_covar) == 0 else np.asarray(reg_covar, dtype=np.float64),
            float(attributes["floor"]),
            kernels=kernels,
        )
        return HiddenMarkov(MixedGaussians(component, m, tied) if m > 1 else component, stationary, kernels)

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
    if isinstance(theta, MixedTheta):
        each, spreads = _gaussians(component, theta)
        means = np.einsum("km,kmd->kd", theta.mixing, each)
        apart = each - means[:, None]
        between = np.einsum("km,kmd,kme->kde", theta.mixing, apart, apart)
        return means, np.einsum("km,kmde->kde", theta.mixing, spreads) + between
    matrices: Float64 = component.shape.matrices(theta.covariances, *theta.means.shape)
    return theta.means, matrices


def _gaussians(component: MixedGaussians, theta: MixedTheta) -> tuple[Float64, Float64]:
    """Means (k, m, d) and covariance matrices (k, m, d, d) of the Gaussians of each state."""
    means = theta.gaussians.means
    matrices = component.gaussian.shape.matrices(theta.gaussians.covariances, *means.shape)
    k, m = theta.mixing.shape
    return means.reshape(k, m, -1), matrices.reshape(k, m, *matrices.shape[1:])


def _of_gaussians(model: HiddenMarkov, theta: MixedTheta, transform: Transform) -> Variables:
    """What each state is a mixture of, in the data's own units."""
    component: Any = model.component
    k, m = theta.mixing.shape
    means, matrices = (part.reshape(k * m, *part.shape[2:]) for part in _gaussians(component, theta))
    plain = moments(None, means, matrices, transform, "Gaussian")
    share = {"long_name": "share of each Gaussian in its state"}
    found: Variables = {"mixing": (("component", "gaussian"), theta.mixing, share)}
    for name, (dims, values, about) in plain.items():
        found[f"gaussian_{name}"] = (
            ("component", "gaussian", *dims[1:]),
            values.reshape(k, m, *values.shape[1:]),
            about,
        )
    return found


def _mixed(component: MixedGaussians, values: Mapping[str, Float64], transform: Transform) -> MixedTheta:
    """The Gaussians of each state from an earlier run's."""
    mixing = values.get("mixing")
    if mixing is None or mixing.shape[1] != component.voices:
        has = 1 if mixing is None else mixing.shape[1]
        raise DataError(
            f"The run in fit.init has {has} Gaussian{'s' * (has != 1)} a state; this one asks for "
            f"{component.voices}.",
            "Start from a run with as many, or by name.",
        )
    size = mixing.size
    means = transform.forward_means(values["gaussian_means"].reshape(size, -1))
    matrices = values["gaussian_covariances"].reshape(size, means.shape[1], means.shape[1])
    even = np.full(size, 1.0 / size)
    gaussians = component.gaussian.from_matrices(means, transform.forward_covariances(matrices), even)
    return MixedTheta(mixing, component.tie(gaussians, mixing))
