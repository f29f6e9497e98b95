"""K-means: the hard, spherical limit of a mixture.

With one variance for all components, held and shrunk towards zero, each row's responsibilities go to
the nearest mean alone, and twice that variance times the complete log-likelihood goes to minus the
inertia. Minus the inertia is therefore what this model calls its log-likelihood: neither the assignment
nor the move of the centres lowers it, so all that watches a mixture's climb (stop rules, safeguards,
restarts) watches this one as well. It is no density: compare it between fits of the same k only.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from distem.models.base import Stats, kernel_set
from distem.types import Assignment, Float64, Ints, Rows

ROUNDING = 16.0 * float(np.finfo(np.float64).eps)
"""A centre that moves by less than this share of its place and its rows' spread stays where it is."""
BESIDE_ROW = 12
"""Bytes of the bounds that a fit keeps beside each row: a label and two distances."""


@dataclass(frozen=True, slots=True, eq=False)
class KMeansParams:
    """Centres, shape (k, d)."""

    centres: Float64

    @property
    def k(self) -> int:
        """Number of clusters."""
        return int(self.centres.shape[0])


@dataclass(frozen=True, slots=True, eq=False)
class KMeansStats(Stats):
    """What Lloyd's assignment of some rows adds up to.

    Attributes
    ----------
    n : int
        Rows.
    total : float
        Sum of row weights.
    inertia : float
        Weighted sum of the rows' squared distances from the nearest centre.
    mass : ndarray, shape (k,)
        Weight of each cluster's rows.
    first : ndarray, shape (k, d)
        Weighted sum of the rows' differences from their centre.
    """

    n: int
    total: float
    inertia: float
    mass: Float64
    first: Float64

    @property
    def log_likelihood(self) -> float:
        """Minus the inertia; see the module."""
        return -self.inertia

    @property
    def mean_log_likelihood(self) -> float:
        """Per row, weights considered."""
        return -self.inertia / self.total


@dataclass(frozen=True, eq=False)
class KMeans:
    """Lloyd's k-means.

    Parameters
    ----------
    kernels : {"compiled", "reference"}
        Which kernels do the work.
    bounds : bool
        Whether to keep bounds of the distances beside rows that stay in memory. They spare most of the
        distances once the centres move little, and change no bit of the result.
    """

    kernels: str = "compiled"
    bounds: bool = True
    stats_type: ClassVar[type[Stats]] = KMeansStats

    def _kernel(self, name: str) -> Any:
        return getattr(kernel_set(f"{self.kernels}_centres"), name)

    def e_step(self, rows: Rows, params: KMeansParams) -> KMeansStats:
        """Assign the rows to their nearest centres, with the bounds of the last pass if they are there."""
        memory = rows.memory if self.bounds else None
        found = self._kernel("lloyd")(
            rows.values,
            rows.weights,
            params.centres,
            memory.get("bounds") if memory is not None else None,
            keep=memory is not None,
        )
        if memory is not None:
            memory["bounds"] = found.bounds
        total = float(rows.n) if rows.weights is None else float(rows.weights.sum())
        return KMeansStats(rows.n, total, found.inertia, found.mass, found.first)

    def m_step(self, stats: KMeansStats, params: KMeansParams) -> KMeansParams:
        """The means of the clusters; an empty one stays where it is."""
        mass = np.where(stats.mass > 0, stats.mass, 1.0)
        return KMeansParams(params.centres + stats.first / mass[:, None])

    def assign(self, rows: Rows, params: KMeansParams, *, probability: bool = True) -> Assignment:
        """Labels and minus squared distances; probabilities are zero or one, and nothing is uncertain."""
        label, square = self._kernel("nearest")(rows.values, params.centres)
        one_hot = None
        if probability:
            one_hot = np.zeros((rows.n, params.k))
            one_hot[np.arange(rows.n), label] = 1.0
        return Assignment(label, -square, np.zeros(rows.n), one_hot, np.sqrt(square))

    def n_parameters(self, params: KMeansParams) -> int:
        """The centres' coordinates."""
        return int(params.centres.size)

    def expected_complete(self, stats: KMeansStats, params: KMeansParams) -> float:  # noqa: ARG002
        """Minus the inertia: where nothing is shared there is no entropy."""
        return stats.log_likelihood

    def pack(self, params: KMeansParams) -> Float64:
        """The centres, flat."""
        return params.centres.ravel()

    def unpack(self, vector: Float64, like: KMeansParams) -> KMeansParams:
        """The centres of a vector."""
        return KMeansParams(vector.reshape(like.centres.shape).copy())

    def natural(self, differences: Float64, params: KMeansParams) -> Float64:  # noqa: ARG002
        """As they are: all centres' coordinates count alike."""
        return differences

    def shift(self, stats: KMeansStats, params: KMeansParams) -> float:
        """Squared distance that the M-step moves all centres by; zero if that is rounding."""
        new = self.m_step(stats, params).centres
        spread = np.sqrt(max(stats.inertia, 0.0) / stats.total) if stats.total > 0 else 0.0
        moved = new - params.centres
        if (np.abs(moved) <= ROUNDING * (np.abs(params.centres) + spread)).all():
            return 0.0
        return float((moved**2).sum())

    def collapsed(self, stats: KMeansStats, params: KMeansParams) -> tuple[int, ...]:
        """Clusters without a row."""
        if stats.n == 0 or params.k == 1:
            return ()
        return tuple(int(c) for c in np.flatnonzero(stats.mass == 0.0))

    def relocate(self, params: KMeansParams, component: int, where: Float64) -> KMeansParams:
        """Put a centre at a place."""
        centres = params.centres.copy()
        centres[component] = where
        return KMeansParams(centres)

    def drop(self, params: KMeansParams, component: int) -> KMeansParams:
        """Without one centre."""
        return KMeansParams(np.delete(params.centres, component, axis=0))

    def sample(
        self, params: KMeansParams, n: int, rng: np.random.Generator, spread: float = 1.0
    ) -> tuple[Float64, Ints]:
        """Draw n rows about the centres, all alike; returns rows (n, d) and labels (n,), by cluster."""
        label = np.sort(rng.integers(params.k, size=n))
        noise = rng.normal(scale=spread, size=(n, params.centres.shape[1]))
        return params.centres[label] + noise, label

    def arrays(self, params: KMeansParams) -> dict[str, Float64]:
        """The centres by name."""
        return {"centres": params.centres}

    def from_arrays(self, arrays: dict[str, Float64]) -> KMeansParams:
        """The parameters of `arrays`, bit for bit."""
        return KMeansParams(arrays["centres"])
