"""What a run asks of a kind of model besides its mathematics, and where each kind is found."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import Any, Protocol, cast

import numpy as np
from numpy.typing import NDArray

from distem.data.transform import Transform
from distem.em.loop import Fit
from distem.em.selection import Score
from distem.errors import ConfigError
from distem.models.base import Model
from distem.models.seeding import Sample
from distem.types import Float64

Facts = Mapping[str, Float64]
"""Sums under a fit's parameters that its tables and pictures need, by name."""
Variables = dict[str, tuple[tuple[str, ...], NDArray[Any], dict[str, str]]]
"""By name: dimensions, values and attributes, as xarray takes them."""


@dataclass(frozen=True, eq=False)
class Beginning:
    """What a start by name is made from.

    Attributes
    ----------
    init : str
        One of `seeding.NAMES`.
    k : int
        Components wanted.
    sample : Sample
        Rows of the data, in the model's units.
    rng : numpy.random.Generator
        This candidate's own.
    centres : ndarray, shape (k, d), or None
        By k-means||, where that was asked for, in units of `matrix`.
    matrix : ndarray, shape (d, d), or None
        Distances are between rows times it.
    """

    init: str
    k: int
    sample: Sample
    rng: np.random.Generator
    centres: Float64 | None = None
    matrix: Float64 | None = None


@dataclass(frozen=True, eq=False)
class Described:
    """A fit in the data's own units.

    Attributes
    ----------
    transform : Transform
        From the data's units to the model's.
    features : tuple of str
        Names of the features.
    variables : dict
        Of the fit, as `Family.variables` has them.
    """

    transform: Transform
    features: tuple[str, ...]
    variables: Variables

    def values(self, name: str) -> Float64:
        """A variable's values.

        Raises
        ------
        ConfigError
            This kind of model has none of that name.
        """
        if name not in self.variables:
            known = ", ".join(self.variables)
            raise ConfigError(f"The model has no {name}.", f"It has {known}.")
        return np.asarray(self.variables[name][1], dtype=np.float64)


class Family(Protocol):
    """A kind of model. Its methods are pure.

    Attributes
    ----------
    kind : str
        As configs and results call it.
    title : str
        What people call it, in the singular.
    part : str
        What one of the k is called.
    variant : str
        What besides k tells candidates apart.
    objective : str
        What it is that a fit climbs on.
    step : str
        What one point of its trace is of: a pass over the data, or a pair of frames.
    answers : tuple of str
        What `predict` writes for each row.
    """

    kind: str
    title: str
    part: str
    variant: str
    objective: str
    step: str
    answers: tuple[str, ...]

    def start(self, model: Any, begin: Beginning) -> Any:
        """Starting parameters by name."""

    def given(self, model: Any, values: Mapping[str, Float64], transform: Transform) -> Any:
        """Starting parameters from values in the data's units, by the names of `variables`.

        Raises
        ------
        DataError
            They do not fit the data.
        """

    def facts(self, model: Any, stats: Any) -> Facts:
        """What `variables` needs to know of the rows."""

    def variables(self, model: Any, params: Any, facts: Facts, transform: Transform) -> Variables:
        """The parameters in the data's own units; `facts` are empty for parameters that were not fitted.

        Kinds whose parts have a share, a mean and a covariance call them weights (component), means
        (component, feature) and covariances (component, feature, feature_other).
        """

    def attributes(self, model: Any) -> dict[str, Any]:
        """What `model` needs to make the model again, JSON-able."""

    def model(self, attributes: Mapping[str, Any]) -> Model:
        """The model of `attributes`."""

    def offset(self, model: Any, transform: Transform) -> float:
        """What brings the log-likelihood of a row to the data's own units."""

    def score(self, model: Any, fit: Fit, transform: Transform) -> Score:
        """What the fit is judged by."""


_HOMES = {
    "gaussian_mixture": ("distem.families.mixture", "GaussianMixtures"),
    "kmeans": ("distem.families.kmeans", "KMeansFamily"),
    "hidden_markov": ("distem.families.markov", "HiddenMarkovFamily"),
    "motion": ("distem.families.motion", "Motions"),
    "regression_mixture": ("distem.families.regression", "RegressionMixtures"),
}


def family(kind: str) -> Family:
    """The family of a kind.

    Raises
    ------
    ConfigError
        This version knows no such kind.
    """
    if kind not in _HOMES:
        raise ConfigError(
            f"There is no model of kind {kind!r}.", f"This version knows {', '.join(sorted(_HOMES))}."
        )
    module, name = _HOMES[kind]
    return cast(Family, getattr(import_module(module), name)())
