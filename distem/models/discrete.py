"""Components for counts and symbols: what a hidden state may say besides Gaussian numbers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from scipy.special import gammaln

from distem.models.base import Moments, log_weights
from distem.types import Bools, Float64, Ints, Rows

LEAST_RATE = 1e-12
"""A rate below it would make every count but 0 impossible for good."""


@dataclass(frozen=True, slots=True, eq=False)
class PoissonTheta:
    """Rates of k states, shape (k, d)."""

    rates: Float64


@dataclass(frozen=True, eq=False)
class Poisson:
    """Independent Poisson counts in each feature."""

    def log_density(self, rows: Rows, theta: PoissonTheta) -> Float64:
        """Log probabilities of the counts, shape (n, k)."""
        x = np.asarray(rows.values, dtype=np.float64)
        logs = x @ np.log(theta.rates).T - theta.rates.sum(axis=1)
        return np.asarray(logs - gammaln(x + 1.0).sum(axis=1)[:, None])

    def accumulate(self, rows: Rows, resp: Float64, theta: PoissonTheta) -> Moments:
        """Mass and first moments about the rates."""
        x = np.asarray(rows.values, dtype=np.float64)
        mass = resp.sum(axis=0)
        return Moments(mass, resp.T @ x - mass[:, None] * theta.rates, np.zeros((len(mass), 0)))

    def maximise(self, moments: Moments, theta: PoissonTheta, least_mass: float) -> PoissonTheta:
        """The mean counts."""
        rates = theta.rates + moments.first / (moments.mass + least_mass)[:, None]
        return PoissonTheta(np.maximum(rates, LEAST_RATE))

    def expected_log_density(self, moments: Moments, theta: PoissonTheta) -> float:
        """Sum of r log p(x), but for the factorials, which no parameter changes."""
        counts = moments.first + moments.mass[:, None] * theta.rates
        return float((counts * np.log(theta.rates)).sum() - moments.mass @ theta.rates.sum(axis=1))

    def masses(self, moments: Moments) -> Float64:
        """Rows of each state, shape (k,)."""
        return moments.mass

    def point_like(self, theta: PoissonTheta) -> Bools:
        """None: counts have no density to run away."""
        return np.zeros(len(theta.rates), dtype=bool)

    def natural(self, differences: Float64, weights: Float64, theta: PoissonTheta) -> Float64:
        """Differences of log rates (m, p) in units of the information of one row."""
        return differences * np.sqrt(weights[:, None] * theta.rates).ravel()

    def n_parameters(self, theta: PoissonTheta) -> int:
        """One rate for each state and feature."""
        return int(theta.rates.size)

    def pack(self, theta: PoissonTheta) -> Float64:
        """Log rates."""
        return np.log(theta.rates).ravel()

    def unpack(self, vector: Float64, like: PoissonTheta) -> PoissonTheta:
        """The rates of a vector."""
        return PoissonTheta(np.maximum(np.exp(vector.reshape(like.rates.shape)), LEAST_RATE))

    def relocate(
        self,
        theta: PoissonTheta,
        weights: Float64,  # noqa: ARG002 -- all components take them
        component: int,
        where: Float64,
    ) -> PoissonTheta:
        """Give a state the rates `where`, (d,)."""
        rates = theta.rates.copy()
        rates[component] = np.maximum(where, 0.5)
        return PoissonTheta(rates)

    def drop(self, theta: PoissonTheta, component: int) -> PoissonTheta:
        """Without one state."""
        return PoissonTheta(np.delete(theta.rates, component, axis=0))

    def sample(self, theta: PoissonTheta, counts: Ints, rng: np.random.Generator) -> Float64:
        """Draw `counts[k]` rows from each state, in order of state."""
        return rng.poisson(np.repeat(theta.rates, counts, axis=0)).astype(np.float64)

    def arrays(self, theta: PoissonTheta) -> dict[str, Float64]:
        """The parameters as named arrays."""
        return {"rates": theta.rates}

    def from_arrays(self, arrays: Mapping[str, Float64]) -> PoissonTheta:
        """The parameters of `arrays`."""
        return PoissonTheta(arrays["rates"])


@dataclass(frozen=True, slots=True, eq=False)
class CategoricalTheta:
    """Probabilities of m symbols, shape (k, m)."""

    probabilities: Float64


@dataclass(frozen=True, eq=False)
class Categorical:
    """One symbol a row, 0 to m - 1: the rows' only feature.

    Parameters
    ----------
    symbols : int
        How many there are at least, m.
    """

    symbols: int = 1

    def log_density(self, rows: Rows, theta: CategoricalTheta) -> Float64:
        """Log probabilities of the symbols, shape (n, k)."""
        return np.ascontiguousarray(log_weights(theta.probabilities).T[_symbols(rows)])

    def accumulate(self, rows: Rows, resp: Float64, theta: CategoricalTheta) -> Moments:
        """Mass, and expected counts of the symbols in the place of first moments."""
        m = theta.probabilities.shape[1]
        symbols = _symbols(rows)
        counts = np.zeros((resp.shape[1], m))
        for counted, r in zip(counts, resp.T, strict=True):
            counted += np.bincount(symbols, r, minlength=m)
        return Moments(resp.sum(axis=0), counts, np.zeros((resp.shape[1], 0)))

    def maximise(self, moments: Moments, theta: CategoricalTheta, least_mass: float) -> CategoricalTheta:
        """The shares of the symbols; a state that holds nothing keeps its own."""
        total = moments.first.sum(axis=1, keepdims=True)
        shares = moments.first / np.where(total > 0, total, 1.0)
        return CategoricalTheta(np.where(total > least_mass, shares, theta.probabilities))

    def expected_log_density(self, moments: Moments, theta: CategoricalTheta) -> float:
        """Sum of r log p(x)."""
        seen = moments.first > 0
        return float(np.sum(moments.first[seen] * log_weights(theta.probabilities)[seen]))

    def masses(self, moments: Moments) -> Float64:
        """Rows of each state, shape (k,)."""
        return moments.mass

    def point_like(self, theta: CategoricalTheta) -> Bools:
        """None: symbols have no density to run away."""
        return np.zeros(len(theta.probabilities), dtype=bool)

    def natural(self, differences: Float64, weights: Float64, theta: CategoricalTheta) -> Float64:
        """Differences of log probabilities (m, p) in units of the information of one row."""
        logs = differences.reshape(-1, *theta.probabilities.shape)
        logs = logs - (logs * theta.probabilities).sum(axis=2, keepdims=True)
        return np.asarray((logs * np.sqrt(weights[:, None] * theta.probabilities)).reshape(len(logs), -1))

    def n_parameters(self, theta: CategoricalTheta) -> int:
        """Probabilities of m symbols sum to one."""
        k, m = theta.probabilities.shape
        return int(k * (m - 1))

    def pack(self, theta: CategoricalTheta) -> Float64:
        """Log probabilities; that of 0 is held at a finite number."""
        return np.log(np.maximum(theta.probabilities, 1e-300)).ravel()

    def unpack(self, vector: Float64, like: CategoricalTheta) -> CategoricalTheta:
        """The probabilities of a vector."""
        logs = vector.reshape(like.probabilities.shape)
        shares = np.exp(logs - logs.max(axis=1, keepdims=True)) * (like.probabilities > 0)
        return CategoricalTheta(shares / shares.sum(axis=1, keepdims=True))

    def relocate(
        self,
        theta: CategoricalTheta,
        weights: Float64,  # noqa: ARG002 -- all components take them
        component: int,
        where: Float64,
    ) -> CategoricalTheta:
        """Let a state favour the symbol `where`."""
        probabilities = theta.probabilities.copy()
        m = probabilities.shape[1]
        probabilities[component] = 0.5 / m
        probabilities[component, int(where[0])] += 0.5
        return CategoricalTheta(probabilities)

    def drop(self, theta: CategoricalTheta, component: int) -> CategoricalTheta:
        """Without one state."""
        return CategoricalTheta(np.delete(theta.probabilities, component, axis=0))

    def sample(self, theta: CategoricalTheta, counts: Ints, rng: np.random.Generator) -> Float64:
        """Draw `counts[k]` rows from each state, in order of state."""
        m = theta.probabilities.shape[1]
        drawn = [rng.choice(m, count, p=p) for p, count in zip(theta.probabilities, counts, strict=True)]
        return np.concatenate(drawn).astype(np.float64)[:, None]

    def arrays(self, theta: CategoricalTheta) -> dict[str, Float64]:
        """The parameters as named arrays."""
        return {"probabilities": theta.probabilities}

    def from_arrays(self, arrays: Mapping[str, Float64]) -> CategoricalTheta:
        """The parameters of `arrays`."""
        return CategoricalTheta(arrays["probabilities"])


def _symbols(rows: Rows) -> Ints:
    return np.asarray(rows.values[:, 0], dtype=np.int64)
