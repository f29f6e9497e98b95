"""Starting parameters: where a climb begins. Random choices are keyed by (seed, purpose, block)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import ClassVar, Protocol, Self

import numpy as np

from distem._random import generator
from distem.errors import FitError
from distem.kernels import compiled, reference
from distem.models.centres import lloyd, plus_plus
from distem.models.mixture import Mixture, MixtureParams
from distem.types import Bools, Float64, Ints, Pass, Rows, S

NAMES = ("kmeans", "kmeans||", "kmeans++", "random", "random_from_data")
"""The starts there are."""
ROUNDS = 4
"""Sampling passes of k-means||; one more weighs the candidates."""
OVERSAMPLING = 2
"""Candidates drawn in each round, per component."""


Key = tuple[int, int]
"""What a candidate's random choices depend on: its components and its restart."""


class BlockSet(Protocol):
    """The data, ready for passes."""

    def map_reduce(self, run: Pass[S]) -> S:
        """Run a pass on every block and add up the results."""


@dataclass(frozen=True, slots=True, eq=False)
class Sample:
    """Rows drawn without replacement: those with the smallest keys, at most `size` of them.

    Attributes
    ----------
    size : int
        How many are kept at most.
    keys : ndarray, shape (m,)
        Random keys; the order of rows is that of their keys.
    values : ndarray of float64, shape (m, d)
    weights : ndarray, shape (m,)
    addresses : ndarray of int64, shape (m,), or None
        Where the rows lie in the data, where that is known.
    """

    size: int
    keys: Float64
    values: Float64
    weights: Float64
    addresses: Ints | None = None

    @classmethod
    def of(cls, size: int, keys: Float64, rows: Rows, addresses: Ints | None = None) -> Self:
        """The rows with the smallest keys."""
        order = np.argsort(keys, kind="stable")[:size]
        weights = np.ones(len(order)) if rows.weights is None else rows.weights[order]
        lie = None if addresses is None else addresses[order]
        return cls(size, keys[order], rows.values[order].astype(np.float64), weights, lie)

    def __add__(self, other: Self) -> Self:
        keys = np.concatenate([self.keys, other.keys])
        order = np.argsort(keys, kind="stable")[: self.size]
        return type(self)(
            self.size,
            keys[order],
            np.concatenate([self.values, other.values])[order],
            np.concatenate([self.weights, other.weights])[order],
            None
            if self.addresses is None or other.addresses is None
            else np.concatenate([self.addresses, other.addresses])[order],
        )

    def where(self, chosen: Bools) -> Self:
        """Only the rows of a mask, shape (m,)."""
        lie = None if self.addresses is None else self.addresses[chosen]
        return type(self)(self.size, self.keys[chosen], self.values[chosen], self.weights[chosen], lie)

    def first(self, size: int) -> Self:
        """The sample that would have been drawn for a smaller size."""
        lie = None if self.addresses is None else self.addresses[:size]
        return type(self)(size, self.keys[:size], self.values[:size], self.weights[:size], lie)

    @property
    def rows(self) -> Rows:
        """The rows, with their weights where these differ."""
        return Rows(self.values, None if (self.weights == 1.0).all() else self.weights)


@dataclass(frozen=True)
class DrawSample:
    """The pass that draws a uniform sample of the rows with positive weight.

    Parameters
    ----------
    size : int
        Rows wanted.
    n : int
        Usable rows of the data: keys beyond what can be among the smallest are left out early.
    seed : int
        Seed of the run.
    """

    size: int
    n: int
    seed: int
    name: ClassVar[str] = "sample"

    def __call__(self, rows: Rows, block: int) -> Sample:
        """Draw from one block."""
        keys = generator(self.seed, self.name, block).random(rows.n)
        # the size-th smallest of n uniform keys lies below this but for one case in a billion
        keep = keys < (self.size + 6.0 * np.sqrt(self.size) + 20.0) / max(self.n, 1)
        if rows.weights is not None:  # `n` counts the rows of weight zero: too few could pass
            keep = rows.weights > 0.0
        if rows.begins is not None:  # rows of sequences keep their places where they are missing
            keep &= np.isfinite(rows.values).all(axis=1)
        weights = None if rows.weights is None else rows.weights[keep]
        addresses = None if rows.places is None else rows.addresses[keep]
        return Sample.of(self.size, keys[keep], Rows(rows.values[keep], weights), addresses)


def whitening(sample: Sample) -> Float64:
    """Matrix W, shape (d, d): rows times W have the identity as their covariance, over the sample.

    In such units distance is Mahalanobis's, and clusters that are long in the same direction are not
    cut across. Directions without spread are left as they are.
    """
    weights = sample.weights / sample.weights.sum()
    centred = sample.values - weights @ sample.values
    scale = np.sqrt(weights @ centred**2)
    scale[scale == 0.0] = 1.0
    centred = centred / scale
    spread, axes = np.linalg.eigh((centred * weights[:, None]).T @ centred)
    flat = spread <= len(spread) * np.finfo(np.float64).eps * max(float(spread[-1]), 1.0)
    return np.asarray(axes / np.sqrt(np.where(flat, 1.0, spread)) / scale[:, None])


def in_units(sample: Sample, matrix: Float64 | None) -> Sample:
    """The sample with its rows times a matrix."""
    return sample if matrix is None else replace(sample, values=sample.values @ matrix)


def out_of_units(centres: Float64, matrix: Float64 | None) -> Float64:
    """Points in units of a matrix, shape (k, d), in those it was applied to."""
    return centres if matrix is None else np.asarray(np.linalg.solve(matrix.T, centres.T).T)


@dataclass(frozen=True, slots=True, eq=False)
class Samples:
    """One sample for each of several candidates."""

    each: tuple[Sample, ...]

    def __add__(self, other: Self) -> Self:
        return type(self)(tuple(a + b for a, b in zip(self.each, other.each, strict=True)))


def _times(rows: Rows, matrix: Float64 | None) -> Rows:
    if matrix is None:
        return rows
    return Rows(np.ascontiguousarray(rows.values.astype(np.float64) @ matrix), rows.weights)


@dataclass(frozen=True, eq=False)
class DrawCentres:
    """A round of k-means||: rows drawn in proportion to weight times squared distance [1]_.

    Exactly `sizes[i]` rows are drawn for candidate i, by an exponential race, so a round needs
    one pass and its outcome is bounded in memory.

    References
    ----------
    .. [1] Bahmani et al., Scalable k-means++, PVLDB 5 (2012).
    """

    centres: tuple[Float64, ...]
    sizes: tuple[int, ...]
    keys: tuple[Key, ...]
    seed: int
    round: int
    matrix: Float64 | None = None
    name: ClassVar[str] = "seed"

    def __call__(self, rows: Rows, block: int) -> Samples:
        """Draw from one block."""
        rows = _times(rows, self.matrix)
        drawn = []
        for centres, size, key in zip(self.centres, self.sizes, self.keys, strict=True):
            _, distance = compiled.nearest(rows.values, centres)
            pull = distance if rows.weights is None else distance * rows.weights
            race = generator(self.seed, "kmeans||", *key, self.round, block).exponential(size=rows.n)
            with np.errstate(divide="ignore", over="ignore"):
                arrival = np.where(pull > 0.0, race / pull, np.inf)
            arrived = np.isfinite(arrival)
            weights = None if rows.weights is None else rows.weights[arrived]
            drawn.append(Sample.of(size, arrival[arrived], Rows(rows.values[arrived], weights)))
        return Samples(tuple(drawn))


@dataclass(frozen=True, slots=True, eq=False)
class Masses:
    """Row weight nearest to each centre of each candidate."""

    each: tuple[Float64, ...]

    def __add__(self, other: Self) -> Self:
        return type(self)(tuple(a + b for a, b in zip(self.each, other.each, strict=True)))


@dataclass(frozen=True, eq=False)
class WeighCentres:
    """The last pass of k-means||: how much of the data is nearest to each centre."""

    centres: tuple[Float64, ...]
    matrix: Float64 | None = None
    name: ClassVar[str] = "seed"

    def __call__(self, rows: Rows, block: int) -> Masses:  # noqa: ARG002
        """Weigh one block."""
        rows = _times(rows, self.matrix)
        masses = []
        for centres in self.centres:
            label, _ = compiled.nearest(rows.values, centres)
            masses.append(np.bincount(label, weights=rows.weights, minlength=len(centres)).astype(float))
        return Masses(tuple(masses))


def kmeans_parallel(
    blocks: BlockSet,
    wanted: Mapping[Key, int],
    sample: Sample,
    seed: int,
    matrix: Float64 | None = None,
) -> dict[Key, Float64]:
    """Centres by k-means|| over all rows, for several candidates in the same passes.

    Parameters
    ----------
    blocks : BlockSet
        The data.
    wanted : mapping of (int, int) to int
        Number of centres by key; random choices depend on the key.
    sample : Sample
        Rows of the data, one of which is the first centre.
    seed : int
        Seed of the run.
    matrix : ndarray, shape (d, d), optional
        Rows are multiplied by it, as in `whitening`.

    Returns
    -------
    dict of ndarray, shape (k, d)
        In the units of rows times `matrix`. Takes `ROUNDS` + 1 passes; at most 1 + 4 * 2 k candidates a key.
    """
    sample = in_units(sample, matrix)
    keys, sizes = tuple(wanted), tuple(OVERSAMPLING * k for k in wanted.values())
    first = [generator(seed, "kmeans|| first", *key).integers(len(sample.values)) for key in keys]
    centres = tuple(sample.values[[row]] for row in first)
    for number in range(ROUNDS):
        drawn = blocks.map_reduce(DrawCentres(centres, sizes, keys, seed, number, matrix))
        centres = tuple(np.concatenate([c, new.values]) for c, new in zip(centres, drawn.each, strict=True))
    masses = blocks.map_reduce(WeighCentres(centres, matrix)).each
    found = {}
    for (key, k), candidates, mass in zip(wanted.items(), centres, masses, strict=True):
        rng = generator(seed, "kmeans|| last", *key)
        if len(candidates) < k:  # fewer distinct rows than components
            candidates = np.concatenate([candidates, sample.values[: k - len(candidates)]])
            mass = np.concatenate([mass, np.ones(len(candidates) - len(mass))])
        found[key] = lloyd(candidates, mass, k, rng)
    return found


def start(
    init: str,
    model: Mixture,
    k: int,
    sample: Sample,
    rng: np.random.Generator,
    centres: Float64 | None = None,
    matrix: Float64 | None = None,
) -> MixtureParams:
    """Starting parameters of one candidate.

    Parameters
    ----------
    init : str
        One of `NAMES`.
    sample : Sample
        Rows of the data.
    rng : numpy.random.Generator
        This candidate's own.
    centres : ndarray, shape (k, d), optional
        Known already, by k-means||, in units of `matrix`.
    matrix : ndarray, shape (d, d), optional
        Distances are between rows times it, as in `whitening`.
    """
    if init == "random":
        return from_responsibilities(model, sample, random_responsibilities(sample, k, rng))
    scaled = in_units(sample, matrix)
    if centres is None:
        centres = centres_by_name(init, k, scaled, rng)
    resp = hard_responsibilities(scaled, centres)
    return from_responsibilities(model, sample, resp, out_of_units(centres, matrix))


def centres_by_name(init: str, k: int, sample: Sample, rng: np.random.Generator) -> Float64:
    """Starting means from the sample, shape (k, d): kmeans, kmeans++ or random_from_data.

    Raises
    ------
    FitError
        The sample holds fewer rows than components.
    """
    values, weights = sample.values, sample.weights
    if len(values) < k:
        rows = "1 row" if len(values) == 1 else f"{len(values):,} rows"
        raise FitError(
            f"{k} components cannot start from {rows}.",
            "Ask for fewer components.",
        )
    if init == "kmeans":
        return lloyd(values, weights, k, rng)
    if init == "kmeans++":
        return plus_plus(values, weights, k, rng)
    if init == "random_from_data":
        return values[rng.choice(len(values), k, replace=False)]
    raise FitError(
        f"There is no start called {init!r}.", "Use kmeans, kmeans||, kmeans++, random or random_from_data."
    )


def hard_responsibilities(sample: Sample, centres: Float64) -> Float64:
    """One for the nearest centre, shape (m, k)."""
    label: Ints
    label, _ = reference.nearest(sample.values, centres)
    return np.eye(len(centres))[label]


def random_responsibilities(sample: Sample, k: int, rng: np.random.Generator) -> Float64:
    """Uniform random numbers, normalised by row, shape (m, k)."""
    resp = rng.random((len(sample.values), k))
    return np.asarray(resp / resp.sum(axis=1, keepdims=True))


def from_responsibilities(
    model: Mixture, sample: Sample, resp: Float64, centres: Float64 | None = None
) -> MixtureParams:
    """Parameters after an M-step on the sample.

    Parameters
    ----------
    resp : ndarray, shape (m, k)
        Responsibilities, without row weights.
    centres : ndarray, shape (k, d), optional
        Means of components that no row of the sample belongs to; default: the mean of all.
    """
    weighted = resp * sample.weights[:, None]
    mass = weighted.sum(axis=0)
    overall = sample.weights @ sample.values / sample.weights.sum()
    fallback = np.broadcast_to(overall, (resp.shape[1], len(overall))) if centres is None else centres
    sums = weighted.T @ sample.values
    means = np.where(mass[:, None] > 0.0, sums / np.maximum(mass, 1e-300)[:, None], fallback)
    theta = model.component.begin(Rows(sample.values), weighted, means)
    # one row's share more each, so that a component nothing is nearest to still has a chance
    weights = mass + sample.weights.mean()
    return MixtureParams(weights / weights.sum(), theta)
