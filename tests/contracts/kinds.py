"""The table of kinds of models: each joins the contracts of `test_kinds.py` with one entry."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from distem.kernels.regression_reference import Layout
from distem.models.discrete import Categorical, CategoricalTheta, Poisson, PoissonTheta
from distem.models.gaussian import Gaussian
from distem.models.kmeans import KMeans, KMeansParams
from distem.models.markov import HiddenMarkov, MarkovParams
from distem.models.mixed import MixedGaussians, MixedTheta
from distem.models.mixture import Mixture, MixtureParams
from distem.models.regression import RegressionMixture, RegressionParams
from distem.types import Rows


@dataclass(frozen=True)
class Kind:
    """What the contracts need to know of a kind.

    Attributes
    ----------
    name : str
    model : Model
    right : parameters
        Well separated, to sample from.
    near : parameters
        Not far off, to start from.
    draw : callable
        Of a number and a generator: so many rows of the right parameters, in the order they came.
    axes : mapping
        Of named parameters the axes that go over components, where that is not the first alone.
    close : float
        How far a fit of 6,000 rows may be from the right parameters.
    exact : tuple of str
        The parameters that are compared, of all that are named.
    """

    name: str
    model: Any
    right: Any
    near: Any
    draw: Callable[[int, np.random.Generator], Rows]
    axes: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    close: float = 0.2
    exact: tuple[str, ...] = ()

    def relabelled(self, params: Any, order: np.ndarray) -> Any:
        """The same parameters with their components in another order."""
        named = self.model.arrays(params)
        for name, value in named.items():
            for axis in self.axes.get(name, (0,)):
                each = value.shape[axis] // len(order)  # several belong to a component
                at = (order[:, None] * each + np.arange(each)).ravel()
                value = np.take(value, at, axis=axis)
            named[name] = value
        return self.model.from_arrays(named)


MEANS = np.array([[0.0, 0.0], [7.0, 1.0], [-2.0, 8.0]])


def _shuffled(sample: Callable[..., Any]) -> Callable[[int, np.random.Generator], Rows]:
    """Independent rows in an order of their own."""
    return lambda n, rng: Rows(np.ascontiguousarray(rng.permutation(sample(n, rng)[0])))


def _gaussian() -> Kind:
    model = Mixture(Gaussian("full", 0.0))
    weights, even = np.array([0.5, 0.3, 0.2]), np.full(3, 1 / 3)
    spread = np.array([[[2.0, 0.5], [0.5, 1.0]], [[1.0, -0.4], [-0.4, 0.5]], [[1.0, 0.0], [0.0, 2.0]]])
    right = MixtureParams(weights, model.component.from_matrices(MEANS, spread, weights))
    near = MixtureParams(even, model.component.from_matrices(MEANS + 0.7, np.stack([np.eye(2)] * 3), even))
    draw = _shuffled(lambda n, rng: model.sample(right, n, rng))
    return Kind("gaussian mixture", model, right, near, draw, exact=("weights", "means", "covariances"))


def _kmeans() -> Kind:
    model = KMeans()
    right, near = KMeansParams(MEANS), KMeansParams(MEANS + 0.7)
    return Kind("k-means", model, right, near, _shuffled(lambda n, rng: model.sample(right, n, rng)))


def _regression() -> Kind:
    model = RegressionMixture(Layout(np.array([[[-1], [0]]]), np.array([[1, 2]]), np.array([0])))

    def params(coef: np.ndarray, spread: float) -> RegressionParams:
        k = len(coef)
        gram, even = np.stack([np.eye(2)] * k), np.full(k, 1 / k)
        centres, places = np.array([[0.0], [2.0], [-2.0]]), np.full((k, 1, 1), 1.5)
        return RegressionParams(even, coef, np.full((k, 2), spread), gram, centres, places)

    coef = np.array([[[0.0, 1.0], [1.0, 0.5]], [[6.0, 0.0], [-1.0, 1.0]], [[-5.0, 7.0], [0.5, -1.0]]])
    right, near = params(coef, 0.5), params(coef + 0.4, 2.0)
    draw = _shuffled(lambda n, rng: model.sample(right, n, rng))
    return Kind("regression mixture", model, right, near, draw, exact=("weights", "coef", "noise", "centres"))


START, WAYS = np.array([0.2, 0.5, 0.3]), np.array([[0.9, 0.06, 0.04], [0.1, 0.8, 0.1], [0.05, 0.15, 0.8]])


def _markov(name: str, component: Any, right: Any, near: Any, said: tuple[str, ...]) -> Kind:
    """One sequence of states that say `right`: blocks have to hear of each other."""
    model, even = HiddenMarkov(component), np.full(3, 1 / 3)
    truth = MarkovParams(START, WAYS, right)

    def draw(n: int, rng: np.random.Generator) -> Rows:
        return Rows(model.sample(truth, n, rng)[0], begins=np.arange(n) == 0)

    begun = MarkovParams(even, np.full((3, 3), 1 / 3), near)
    axes = {"transition": (0, 1)}
    return Kind(f"hidden markov, {name}", model, truth, begun, draw, axes, exact=("transition", *said))


def _gaussian_chain() -> Kind:
    component, even = Gaussian("full", 0.0), np.full(3, 1 / 3)
    spread = np.array([[[2.0, 0.5], [0.5, 1.0]], [[1.0, -0.4], [-0.4, 0.5]], [[1.0, 0.0], [0.0, 2.0]]])
    right = component.from_matrices(MEANS, spread, even)
    near = component.from_matrices(MEANS + 0.7, np.stack([np.eye(2)] * 3), even)
    return _markov("gaussian", component, right, near, ("means", "covariances"))


def _poisson_chain() -> Kind:
    rates = np.array([[1.0, 20.0], [9.0, 4.0], [25.0, 12.0]])
    return _markov("poisson", Poisson(), PoissonTheta(rates), PoissonTheta(1.3 * rates), ("rates",))


def _categorical_chain() -> Kind:
    shares = np.array([[0.85, 0.05, 0.05, 0.05], [0.05, 0.8, 0.1, 0.05], [0.1, 0.05, 0.05, 0.8]])
    near = CategoricalTheta(0.5 * shares + 0.125)
    return _markov("categorical", Categorical(), CategoricalTheta(shares), near, ("probabilities",))


def _mixed_chain() -> Kind:
    """Three states of two Gaussians each; whose of a state comes first is nobody's business."""
    component = MixedGaussians(Gaussian("full", 0.0), 2)
    apart = np.array([[0.0, 0.0], [0.0, 5.0]])
    mixing, even = np.array([[0.6, 0.4], [0.3, 0.7], [0.5, 0.5]]), np.full(6, 1 / 6)
    means = (2.5 * MEANS[:, None] + apart).reshape(6, 2)
    spread = np.stack([np.eye(2), 0.5 * np.eye(2)] * 3)
    right = MixedTheta(mixing, component.gaussian.from_matrices(means, spread, even))
    near = component.gaussian.from_matrices(means + 0.4, np.stack([2.0 * np.eye(2)] * 6), even)
    theta = MixedTheta(np.full((3, 2), 0.5), near)
    return _markov("mixed gaussians", component, right, theta, ("mixing", "means", "covariances"))


CHAINS = (_gaussian_chain, _mixed_chain, _poisson_chain, _categorical_chain)
KINDS = {kind.name: kind for kind in (made() for made in (_gaussian, _kmeans, _regression, *CHAINS))}
