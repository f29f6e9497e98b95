"""Cross-validation: folds of rows by where they lie, and what a fit says of rows it has not seen.

A fold is one more fit in the sweep: it works on all rows but those held out, which have no part in
its start, its statistics or its repairs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy as np

from distem.models.base import Model
from distem.types import Float64, Ints, Rows

_GAMMA, _FIRST, _SECOND = 0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB


@dataclass(frozen=True, slots=True)
class Folds:
    """Which rows are held out together.

    The fold of a row is a hash (SplitMix64 [1]_) of its address, the C-order number among all rows of
    the data: chunks, blocks, partitions and missing rows have no part in it.

    Parameters
    ----------
    count : int
        How many folds.
    seed : int
        Seed of the run.

    References
    ----------
    .. [1] Steele, Lea and Flood, Fast splittable pseudorandom number generators, OOPSLA (2014).
    """

    count: int
    seed: int

    def of(self, addresses: Ints) -> Ints:
        """Fold of each row, shape (n,), from 0."""
        key = _mixed(np.array([self.seed % 2**64], np.uint64))
        mixed = _mixed(addresses.astype(np.uint64) * np.uint64(_GAMMA) + key)
        # the upper half of the bits, scaled: as even as a remainder, and quicker
        return ((mixed >> np.uint64(32)) * np.uint64(self.count) >> np.uint64(32)).astype(np.int64)

    def parted(self, rows: Rows) -> Parted:
        """The rows of a block, fold after fold."""
        fold = self.of(rows.addresses).astype(np.uint8 if self.count <= 256 else np.int64)
        order = np.argsort(fold, kind="stable")
        edges = np.concatenate([[0], np.cumsum(np.bincount(fold, minlength=self.count))])
        weights = None if rows.weights is None else rows.weights[order]
        return Parted(Rows(rows.values[order], weights), edges)


def _mixed(x: np.ndarray[Any, np.dtype[np.uint64]]) -> np.ndarray[Any, np.dtype[np.uint64]]:
    x = x + np.uint64(_GAMMA)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(_FIRST)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(_SECOND)
    return x ^ (x >> np.uint64(31))


@dataclass(frozen=True, slots=True, eq=False)
class Parted:
    """Rows in the order of their folds; `edges` are the ends of the folds, shape (folds + 1,)."""

    rows: Rows
    edges: Ints

    def held_out(self, fold: int) -> Rows:
        """The rows of one fold."""
        return self._run(int(self.edges[fold]), int(self.edges[fold + 1]))

    def e_step(self, model: Model, params: Any, fold: int) -> Any:
        """Statistics of all rows but those of one fold: of what lies before it and what lies behind."""
        before = model.e_step(self._run(0, int(self.edges[fold])), params)
        return before + model.e_step(self._run(int(self.edges[fold + 1]), self.rows.n), params)

    def _run(self, start: int, stop: int) -> Rows:
        weights = self.rows.weights
        return Rows(self.rows.values[start:stop], None if weights is None else weights[start:stop])


@dataclass(frozen=True, slots=True, eq=False)
class HeldOut:
    """Log-likelihoods of rows that fits have not seen, and their mass, shape (m,) each."""

    log_likelihood: Float64
    mass: Float64

    def __add__(self, other: Self) -> Self:
        return type(self)(self.log_likelihood + other.log_likelihood, self.mass + other.mass)


@dataclass(frozen=True)
class Validate:
    """The pass that judges each fit by the rows of the fold it was fitted without.

    Attributes
    ----------
    fits : sequence of (Model, parameters, fold)
        What is judged.
    folds : Folds
        Which rows belong to which fold.
    """

    fits: Sequence[tuple[Model, Any, int]]
    folds: Folds
    name: ClassVar[str] = "validate"

    def __call__(self, rows: Rows, block: int) -> HeldOut:  # noqa: ARG002
        """Sums over the held-out rows of one block."""
        parted = self.folds.parted(rows)
        sums = np.zeros((2, len(self.fits)))
        for i, (model, params, fold) in enumerate(self.fits):
            unseen = parted.held_out(fold)
            density = model.assign(unseen, params, probability=False).log_density
            weights = np.ones(unseen.n) if unseen.weights is None else unseen.weights
            sums[:, i] = (density * weights).sum(), weights.sum()
        return HeldOut(*sums)


@dataclass(frozen=True, slots=True)
class CrossValidated:
    """What cross-validation says of a candidate.

    Attributes
    ----------
    mean : float
        Log-likelihood per held-out row, over all rows, weights considered.
    error : float
        Its standard error, from how the folds differ.
    """

    mean: float
    error: float

    @classmethod
    def of(cls, log_likelihood: Float64, mass: Float64) -> Self:
        """Of sums by fold, shape (folds,) each."""
        share = mass / mass.sum()
        each = log_likelihood / mass
        mean = float(share @ each)
        return cls(mean, float(np.sqrt(share @ (each - mean) ** 2 / (len(mass) - 1))))
