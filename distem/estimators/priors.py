"""hmmlearn's arguments for priors: those of the chain are taken, the others refused with a remedy."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from distem.errors import FitError
from distem.models.chain import ChainPriors

if TYPE_CHECKING:
    from distem.estimators.markov import ChainEstimator

_OFF: dict[str, tuple[tuple[float, ...], str]] = {
    "means_weight": ((0.0,), "Leave it out."),
    "covars_prior": ((0.0,), "Leave it out; reg_covar adds to every variance."),
    "covars_weight": ((0.0, 1.0), "Leave it out; reg_covar adds to every variance."),
    "weights_prior": ((1.0,), "Leave it out."),
    "lambdas_prior": ((0.0,), "Leave it out."),
    "lambdas_weight": ((0.0,), "Leave it out."),
    "emissionprob_prior": ((1.0,), "Leave it out."),
    "min_covar": ((0.0,), "Leave it out; reg_covar adds to every variance."),
}
"""Arguments that are known and not done: the values at which they change nothing, and what to do."""


def priors_of(estimator: ChainEstimator) -> ChainPriors:
    """The priors of an estimator's chain.

    Raises
    ------
    FitError
        A prior is no positive number, does not fit the states, or goes with what leaves none; or one is
        asked for on what states say.
    """
    for name, (off, remedy) in _OFF.items():
        value = getattr(estimator, name, None)
        if value is not None and not np.isin(value, off).all():
            raise FitError(
                f"{name} is {value}, and {type(estimator).__name__} has no such prior.",
                f"{off[0]:g} and None are none. {remedy}",
            )
    k = estimator.n_components
    found = [
        _checked(name, getattr(estimator, name), shape)
        for name, shape in (("startprob_prior", (k,)), ("transmat_prior", (k, k)))
    ]
    if all(np.all(prior == 1.0) for prior in found):
        return ChainPriors()
    if estimator.stationary or estimator.acceleration not in (None, "none"):
        asked = "stationary=True" if estimator.stationary else f"acceleration={estimator.acceleration!r}"
        raise FitError(
            f"{asked} does not go with startprob_prior or transmat_prior.",
            "Leave the priors at 1, or ask for neither a stationary start nor an acceleration.",
        )
    return ChainPriors(*found)


def _checked(name: str, value: Any, shape: tuple[int, ...]) -> Any:
    try:
        prior = np.asarray(value, dtype=np.float64)
        fits = np.broadcast_shapes(prior.shape, shape) == shape
    except (TypeError, ValueError):
        fits = False
    if not fits or not (np.isfinite(prior).all() and (prior > 0).all()):
        raise FitError(
            f"{name} is {value!r}.",
            f"Give a positive number, or an array of the shape {shape}; 1 is no prior.",
        )
    return prior


__all__ = ["priors_of"]
