"""Which component of one model is which of another: distances, pairs, and numbers that stay."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from distem.errors import ConfigError
from distem.families.base import Variables
from distem.fitted import FittedModel
from distem.types import Float64, Ints

APART = 1.0
"""Components further from each other than this are not the same one: a standard deviation of the data."""
SAYING_APART = 0.5
"""The same of states that say symbols, whose distance is Hellinger's and never above 1."""
_KINDS = ("gaussian_mixture", "kmeans", "hidden_markov")
# how many leading axes of an array run over components, where it is not the first alone
_AXES: Mapping[str, int] = {"transition": 2, "pairs": 2, "inertia": 0}
_SHARED_BY_TIED = ("covariances", "precisions_cholesky")


@dataclass(frozen=True, eq=False)
class Parts:
    """The components of a model in the data's own units, ready to be compared.

    Attributes
    ----------
    kind, part : str
        Of the model, and what one of its k is called.
    features : tuple of str
    units : mapping
        Units of the features that have some.
    weights : ndarray, shape (k,)
        Shares.
    means : ndarray, shape (k, d)
    covariances : ndarray, shape (k, d, d)
    symbols : ndarray, shape (k, m), or None
        Probabilities of the symbols that states say, where they say symbols.
    """

    kind: str
    part: str
    features: tuple[str, ...]
    units: Mapping[str, str]
    weights: Float64
    means: Float64
    covariances: Float64
    symbols: Float64 | None = None

    @property
    def k(self) -> int:
        """Number of components."""
        return len(self.weights)

    @property
    def apart(self) -> float:
        """Components further from each other than this are not the same one."""
        return APART if self.symbols is None else SAYING_APART

    @classmethod
    def of(cls, model: FittedModel) -> Parts:
        """The components of a fitted model.

        Raises
        ------
        ConfigError
            Components of this kind cannot be compared.
        """
        if model.kind not in _KINDS:
            raise ConfigError(
                f"The {model.family.part}s of a run of kind {model.kind} cannot be matched.",
                f"Kinds that can are {', '.join(_KINDS)}.",
            )
        variables = model.variables
        units = units_of(model.feature_attrs)
        means = _floats(variables, "means")
        k, d = means.shape
        if "covariances" not in variables:  # centres that were not fitted: points
            flat = np.full(k, 1.0 / k), np.zeros((k, d, d))
            return cls(model.kind, model.family.part, model.features, units, flat[0], means, flat[1])
        return cls(
            model.kind,
            model.family.part,
            model.features,
            units,
            _floats(variables, "weights"),
            means,
            _floats(variables, "covariances"),
            _floats(variables, "probabilities") if "probabilities" in variables else None,
        )

    def over(self, features: tuple[str, ...]) -> Parts:
        """The same components over the same features in another order.

        Raises
        ------
        ConfigError
            The features are others.
        """
        if features == self.features:
            return self
        if sorted(features) != sorted(self.features):
            raise ConfigError(
                f"One model is over {', '.join(self.features)}, the other over {', '.join(features)}.",
                "Compare models of the same features.",
            )
        order = [self.features.index(name) for name in features]
        blocks = self.covariances[:, order][:, :, order]
        return replace(self, features=features, means=self.means[:, order], covariances=blocks)


@dataclass(frozen=True, eq=False)
class Matching:
    """Pairs of components of two models.

    Attributes
    ----------
    pairs : tuple of (int, int)
        Component of the first, and of the second, by the first.
    distances : ndarray, shape (pairs,)
        Of each pair.
    vanished, appeared : tuple of int
        Components of the first, and of the second, that have no partner.
    nearest : ndarray, shape (k_first, k_second)
        All distances.
    """

    pairs: tuple[tuple[int, int], ...]
    distances: Float64
    vanished: tuple[int, ...]
    appeared: tuple[int, ...]
    nearest: Float64


def match(first: Parts, second: Parts, apart: float | None = None) -> Matching:
    """Pair components so that the sum of distances is least; no pair is further apart than `apart`.

    Without it no pair is further apart than one standard deviation, or a Hellinger distance of a half.

    The distance of two Gaussians is the 2-Wasserstein one, with each feature in standard deviations of
    the two models together: how far a row has to move to turn one into the other. K-means has centres
    alone, whose distance is Euclid's; states that say symbols have Hellinger's, between 0 and 1.

    Raises
    ------
    ConfigError
        The models are of different kinds, features or units.
    """
    from scipy.optimize import linear_sum_assignment  # late: every run would wait for SciPy

    if first.kind != second.kind or (first.symbols is None) != (second.symbols is None):
        raise ConfigError(
            f"One model is of kind {first.kind}, the other of kind {second.kind}.",
            "Compare models of one kind.",
        )
    apart = first.apart if apart is None else apart
    second = second.over(first.features)
    same_units(first.units, second.units)
    between = distances(first, second)
    # a pair that is too far is as good as none, and must not push others apart
    rows, columns = linear_sum_assignment(np.minimum(between, apart))
    kept = between[rows, columns] <= apart
    pairs = tuple((int(i), int(j)) for i, j in zip(rows[kept], columns[kept], strict=True))
    return Matching(
        pairs,
        between[rows[kept], columns[kept]],
        tuple(sorted(set(range(first.k)) - {i for i, _ in pairs})),
        tuple(sorted(set(range(second.k)) - {j for _, j in pairs})),
        between,
    )


def units_of(attrs: Mapping[str, Mapping[str, Any]]) -> dict[str, str]:
    """The units of the features that have some, from their attributes."""
    return {name: str(given["units"]) for name, given in attrs.items() if given.get("units") is not None}


def same_units(first: Mapping[str, str], second: Mapping[str, str]) -> None:
    """Refuse two models that have a feature in different units; one without a unit is taken at its word.

    Raises
    ------
    ConfigError
        A feature has two units.
    """
    for name, unit in first.items():
        one, other = unit.strip(), second.get(name, "").strip()
        if one and other and one != other:
            raise ConfigError(
                f"{name} is in {one} in one model and in {other} in the other.",
                "Convert one of the data sets, or give both the same units attribute if it is one unit.",
            )


def distances(first: Parts, second: Parts) -> Float64:
    """Of each component of the first from each of the second, over the same features."""
    if first.symbols is not None and second.symbols is not None:
        most = max(first.symbols.shape[1], second.symbols.shape[1])
        one, other = (np.sqrt(_widened(p, most)) for p in (first.symbols, second.symbols))
        return np.asarray(np.sqrt(np.clip(1.0 - one @ other.T, 0.0, 1.0)))
    scale = pooled_spread(first, second)
    one, other = first.means / scale, second.means / scale
    squared = ((one[:, None] - other[None]) ** 2).sum(axis=-1)
    if first.kind != "kmeans":
        squared = squared + _bures(_scaled(first.covariances, scale), _scaled(second.covariances, scale))
    return np.asarray(np.sqrt(np.maximum(squared, 0.0)))


def pooled_spread(first: Parts, second: Parts) -> Float64:
    """Standard deviation of each feature in the two mixtures together; one where there is none."""
    weights = np.concatenate([first.weights, second.weights])
    weights = weights / weights.sum()
    means = np.concatenate([first.means, second.means])
    within = np.concatenate([np.diagonal(p.covariances, axis1=1, axis2=2) for p in (first, second)])
    with np.errstate(over="ignore", invalid="ignore"):
        sd = np.sqrt(weights @ within + weights @ (means - weights @ means) ** 2)
    return np.where((sd > 0.0) & np.isfinite(sd), sd, 1.0)


def _scaled(covariances: Float64, scale: Float64) -> Float64:
    return np.asarray(covariances / scale[:, None] / scale[None, :])


def _bures(one: Float64, other: Float64) -> Float64:
    """Squared Bures distances of two lists of covariance matrices: tr A + tr B - 2 tr (A½ B A½)½."""
    found = np.empty((len(one), len(other)))
    for i, a in enumerate(one):
        root = _root(a)
        inner = np.linalg.eigvalsh(root @ other @ root)
        cross = np.sqrt(np.maximum(inner, 0.0)).sum(axis=-1)
        found[i] = np.trace(a) + np.trace(other, axis1=1, axis2=2) - 2.0 * cross
    return np.maximum(found, 0.0)


def _root(matrix: Float64) -> Float64:
    values, vectors = np.linalg.eigh(matrix)
    return np.asarray((vectors * np.sqrt(np.maximum(values, 0.0))) @ vectors.T)


def _widened(probabilities: Float64, m: int) -> Float64:
    return np.pad(probabilities, ((0, 0), (0, m - probabilities.shape[1])))


def _floats(variables: Variables, name: str) -> Float64:
    return np.asarray(variables[name][1], dtype=np.float64)


# numbers that stay


@dataclass(frozen=True, eq=False)
class Numbered:
    """How components were numbered after those of an earlier run.

    Attributes
    ----------
    order : ndarray, shape (k,)
        Component i of the result is component order[i] of the fit.
    earlier : ndarray, shape (k,)
        Its number in the earlier run; -1 where it is new.
    distances : ndarray, shape (k,)
        From it; NaN where it is new.
    remarks : tuple of str
        What cannot be as it was.
    """

    order: Ints
    earlier: Ints
    distances: Float64
    remarks: tuple[str, ...]


def number_after(earlier: Parts, now: Parts) -> Numbered:
    """Number components so that each has the number of its partner in an earlier model.

    New components take the numbers that became free, the largest first. With fewer components than
    before, those that are left keep their order.
    """
    found = match(earlier, now)
    place = {j: i for i, j in found.pairs}
    apart = {j: float(d) for (_, j), d in zip(found.pairs, found.distances, strict=True)}
    free = [i for i in range(max(earlier.k, now.k)) if i not in place.values()]
    new = sorted(found.appeared, key=lambda j: (-now.weights[j], j))
    wanted = place | dict(zip(new, free, strict=False))
    order = np.array(sorted(range(now.k), key=lambda j: wanted[j]), dtype=np.int64)
    before = np.array([place.get(int(j), -1) for j in order], dtype=np.int64)
    far = np.array([apart.get(int(j), np.nan) for j in order])
    remarks = []
    for i, j in enumerate(order):
        what = f"{now.part.capitalize()} {i}"
        if int(j) not in place:
            near = float(found.nearest[:, j].min())
            remarks.append(f"{what} is new: the nearest of output.match is {near:.3g} away.")
        elif before[i] != i:
            remarks.append(f"{what} has number {before[i]} in output.match: there are fewer now.")
    remarks += [f"{now.part.capitalize()} {i} of output.match has no successor." for i in found.vanished]
    return Numbered(order, before, far, tuple(remarks))


def renumbered(model: FittedModel, order: Ints) -> FittedModel:
    """The same model with its components in another order, bit for bit."""
    tied = model.family.attributes(model.model).get("covariance") == "tied"

    def moved(name: str, value: Any) -> Float64:
        array = np.asarray(value)
        axes = 0 if tied and name in _SHARED_BY_TIED else _AXES.get(name, 1)
        for axis in range(axes):
            array = np.take(array, order, axis=axis)
        return np.asarray(array, order="C")  # numbers stay numbers

    arrays = {name: moved(name, value) for name, value in model.model.arrays(model.params).items()}
    facts = {name: moved(name, value) for name, value in model.facts.items()}
    return replace(model, params=model.model.from_arrays(arrays), facts=facts)
