"""Hidden Markov models: a chain of states over any component.

A sequence may reach over any number of blocks, and the answer does not depend on where they are cut.
Before each E-step a pass asks every block what it does to messages that pass through it (`links`); the
driver, in one scan forward and one back, says what reaches each block (`boundaries`); then every block
is done by itself.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, ClassVar, Protocol

import numpy as np
from scipy.special import logsumexp

from distem.kernels.reference import LOWEST
from distem.models._sweep import Sweep, begins_of, tiles_of
from distem.models.base import Moments, Stats, chain_kernels, log_weights
from distem.models.chain import (
    NO_PRIORS,
    Boundary,
    ChainPriors,
    Links,
    boundaries,
    softmax,
    stationary_law,
    stationary_transition,
    way_points,
)
from distem.models.holding import hold
from distem.types import Assignment, Bools, Float64, Floats, Ints, Rows

DEAD_ROWS = 1e-6
"""A state that is expected at less than this share of one row has died."""
LONE_ROWS = 1.5
"""A state of less than so many rows and without spread is a spike."""
NOTHING = 1e-300
"""What the logarithm takes for a probability of 0."""
EPS = float(np.finfo(np.float64).eps)


class Emission(Protocol):
    """What a state says: a component, as mixtures have them."""

    def log_density(self, rows: Rows, theta: Any) -> Float64:
        """Log densities, shape (n, k)."""

    def accumulate(self, rows: Rows, resp: Float64, theta: Any) -> Moments:
        """Moments of some rows."""

    def maximise(self, moments: Moments, theta: Any, least_mass: float) -> Any:
        """Maximum-likelihood parameters."""

    def n_parameters(self, theta: Any) -> int:
        """Free parameters."""

    def pack(self, theta: Any) -> Float64:
        """Unconstrained vector."""

    def unpack(self, vector: Float64, like: Any) -> Any:
        """The parameters of a vector."""

    def natural(self, differences: Float64, weights: Float64, theta: Any) -> Float64:
        """Differences of packed parameters in units of the information of one row."""

    def masses(self, moments: Moments) -> Float64:
        """Rows of each component, shape (k,)."""

    def point_like(self, theta: Any) -> Bools:
        """Components without spread, shape (k,)."""

    def relocate(self, theta: Any, weights: Float64, component: int, where: Float64) -> Any:
        """Put a component at a place."""

    def drop(self, theta: Any, component: int) -> Any:
        """Without a component."""

    def sample(self, theta: Any, counts: Ints, rng: np.random.Generator) -> Float64:
        """Draw rows, grouped by component."""

    def arrays(self, theta: Any) -> dict[str, Float64]:
        """Named arrays."""

    def from_arrays(self, arrays: dict[str, Float64]) -> Any:
        """The parameters of `arrays`."""

    def expected_log_density(self, moments: Moments, theta: Any) -> float:
        """Sum of r log density."""


@dataclass(frozen=True, slots=True, eq=False)
class MarkovParams:
    """A chain and what its states say.

    Attributes
    ----------
    start : ndarray, shape (k,)
        Probabilities of the first state.
    transition : ndarray, shape (k, k)
        From row to column; rows sum to one.
    theta : object
        The emission's parameters.
    """

    start: Float64
    transition: Float64
    theta: Any

    @property
    def k(self) -> int:
        """Number of states."""
        return int(self.start.shape[0])


@dataclass(frozen=True, slots=True, eq=False)
class MarkovStats(Stats):
    """What an E-step over some rows adds up to.

    Attributes
    ----------
    n : int
        Rows.
    total : float
        Rows that are not missing, as a number to divide by.
    log_likelihood : float
        Of the rows under the parameters of the pass.
    moments : Moments
        Of each state.
    pairs : ndarray, shape (k, k)
        Expected transitions.
    first : ndarray, shape (k,)
        Expected first states.
    """

    n: int
    total: float
    log_likelihood: float
    moments: Moments
    pairs: Float64
    first: Float64

    @property
    def mean_log_likelihood(self) -> float:
        """Per row."""
        return self.log_likelihood / self.total


@dataclass(frozen=True, eq=False)
class HiddenMarkov:
    """A hidden Markov model of k states.

    Parameters
    ----------
    component : Emission
        What the states say.
    stationary : bool
        Whether the start is tied to the chain's stationary law.
    kernels : {"compiled", "reference"}
        Which kernels do the work.
    held : frozenset of str
        Parameters, by their names in `arrays`, that stay as a fit begins.
    priors : ChainPriors
        Of the start and the transitions; none by default.
    """

    component: Emission
    stationary: bool = False
    kernels: str = "compiled"
    held: frozenset[str] = frozenset()
    priors: ChainPriors = NO_PRIORS
    stats_type: ClassVar[type[Stats]] = MarkovStats

    # the E-step

    def links(self, rows: Rows, params: MarkovParams) -> Links:
        """What a block does to messages."""
        return self._joined(self._tile_links(rows, params, "transfer"), params.k, logsumexp)

    def best_links(self, rows: Rows, params: MarkovParams) -> Links:
        """What a block does to the likeliest paths through it."""
        return self._joined(self._tile_links(rows, params, "best_transfer"), params.k, np.max)

    def reaching(self, links: Links) -> list[Boundary]:
        """What reaches each block, from the links of all."""
        return boundaries(links)

    def best_reaching(self, links: Links) -> list[tuple[int, int]]:
        """The states of the likeliest path before each block and in its last row, from the best links."""
        return way_points(links)

    def alone(self, params: MarkovParams) -> MarkovParams:
        """The parameters for rows of which each is looked at by itself: states as in the long run."""
        return replace(params, start=stationary_law(params.transition))

    def decode(
        self, rows: Rows, params: MarkovParams, before: int = -1, last: int = -1
    ) -> tuple[Ints, float]:
        """The likeliest path through a block, shape (n,), and its log probability with the rows'.

        `before` and `last` are the states at its edges, see `way_points`.
        """
        log_start, log_transition = self._logs(params)
        begins, path, total = begins_of(rows), np.empty(rows.n, dtype=np.int64), 0.0
        if rows.n == 0:
            return path, total
        tiles = self._tile_links(rows, params, "best_transfer")
        links = tiles[0]
        for more in tiles[1:]:
            links = links + more
        points = way_points(links, before, last)
        for (tile, log_emission), (entered, left) in zip(self._tiles(rows, params), points, strict=True):
            path[tile], here = self._chains.best_path(
                log_emission, begins[tile], log_start, log_transition, entered, left
            )
            total += here
        return path, total

    def _tile_links(self, rows: Rows, params: MarkovParams, verb: str) -> list[Links]:
        transfer, begins = getattr(self._chains, verb), begins_of(rows)
        logs = self._logs(params)
        found = []
        for tile, log_emission in self._tiles(rows, params):
            head, tail = transfer(log_emission, begins[tile], *logs)
            found.append(Links(head[None], tail[None], begins[tile][:1]))
        return found

    @staticmethod
    def _joined(tiles: Sequence[Links], k: int, add: Callable[..., Float64]) -> Links:
        """The links of consecutive tiles as those of one block."""
        with np.errstate(divide="ignore"):
            head, tail = np.log(np.eye(k)), np.full(k, np.nan)
        for here in tiles:
            if not np.isnan(here.tails[0]).any():
                if np.isnan(tail).any():
                    head = add(head[:, :, None] + here.heads[0], axis=1)
                tail = here.tails[0]
            elif np.isnan(tail).any():
                head = add(head[:, :, None] + here.heads[0], axis=1)
            else:
                tail = add(tail[:, None] + here.heads[0], axis=0)
                tail = tail - max(tail.max(), LOWEST)
        began = tiles[0].begins if tiles else np.zeros(1, dtype=bool)
        return Links(head[None], tail[None], began)

    def e_step(self, rows: Rows, params: MarkovParams, boundary: Boundary | None = None) -> MarkovStats:
        """Sufficient statistics of a block; `boundary` is what reaches it from outside."""
        k = params.k
        sweep = self._sweep(rows, params, boundary or Boundary.none(k))
        stats: MarkovStats | None = None
        for tile, resp, pairs, first in sweep.smoothed():
            part, resp = _observed(Rows(rows.values[tile]), resp)
            moments = self.component.accumulate(part, resp, params.theta)
            size = tile.stop - tile.start
            here = MarkovStats(size, float(part.n), 0.0, moments, pairs, first)
            stats = here if stats is None else stats + here
        if stats is None:
            moments = self.component.accumulate(rows, np.empty((0, k)), params.theta)
            stats = MarkovStats(0, 0.0, 0.0, moments, np.zeros((k, k)), np.zeros(k))
        log_likelihood = float(sum(sweep.log_likelihoods))
        return MarkovStats(stats.n, stats.total, log_likelihood, stats.moments, stats.pairs, stats.first)

    def assign(
        self,
        rows: Rows,
        params: MarkovParams,
        *,
        probability: bool = True,
        boundary: Boundary | None = None,
    ) -> Assignment:
        """Each row's likeliest state given its whole sequence, and the states' probabilities.

        `log_density` is that of a row given all rows before it: it adds up to the log-likelihood.
        """
        n, k = rows.n, params.k
        sweep = self._sweep(rows, params, boundary or Boundary.none(k))
        resp = np.empty((n, k)) if probability else None
        label, uncertainty = np.empty(n, dtype=np.int64), np.empty(n)
        for tile, found, _, _ in sweep.smoothed():
            label[tile] = found.argmax(axis=1)
            if resp is not None:
                resp[tile] = found
            found[np.arange(len(found)), label[tile]] = 0.0
            uncertainty[tile] = found.sum(axis=1)
        return Assignment(label, sweep.log_density, uncertainty, resp)

    def _sweep(self, rows: Rows, params: MarkovParams, boundary: Boundary) -> Sweep:
        return Sweep(self._chains, self._logs(params), rows, partial(self._emission, params), boundary)

    @property
    def _chains(self) -> Any:
        return chain_kernels(self.kernels)

    def _logs(self, params: MarkovParams) -> tuple[Float64, Float64]:
        return log_weights(params.start), log_weights(params.transition)

    def _tiles(self, rows: Rows, params: MarkovParams) -> Iterator[tuple[slice, Float64]]:
        """Tiles of a block and the log densities of their rows."""
        for tile in tiles_of(rows.n):
            yield tile, self._emission(params, rows.values[tile])

    def _emission(self, params: MarkovParams, values: Floats) -> Float64:
        """Log densities (n, k) of some rows, 0 for a missing one: it says nothing."""
        if np.isfinite(values).all():
            return self.component.log_density(Rows(values), params.theta)
        seen = np.isfinite(values).all(axis=1)
        log_emission = np.zeros((len(values), params.k))
        log_emission[seen] = self.component.log_density(Rows(values[seen]), params.theta)
        return log_emission

    # the M-step

    def m_step(self, stats: MarkovStats, params: MarkovParams) -> MarkovParams:
        """The parameters that maximise the expected complete log-likelihood."""
        free = self._free_step(stats, params)
        return hold(self, free, params, stats.moments) if self.held else free

    def _free_step(self, stats: MarkovStats, params: MarkovParams) -> MarkovParams:
        least = 10 * EPS * stats.total / max(stats.n, 1)
        theta = self.component.maximise(stats.moments, params.theta, least)
        pairs, first = self.priors.added(stats.pairs, stats.first, params.transition, params.start)
        left = pairs.sum(axis=1, keepdims=True)
        transition = np.where(left > 0, pairs / np.where(left > 0, left, 1.0), params.transition)
        if self.stationary:
            transition = stationary_transition(stats.pairs, stats.first, (transition, params.transition))
            return MarkovParams(stationary_law(transition), transition, theta)
        began = first.sum()
        start = first / began if began > 0 else params.start
        return MarkovParams(start, transition, theta)

    def n_parameters(self, params: MarkovParams) -> int:
        """Free parameters: start, transitions, emissions."""
        k = params.k
        return (0 if self.stationary else k - 1) + k * (k - 1) + self.component.n_parameters(params.theta)

    def expected_complete(self, stats: MarkovStats, params: MarkovParams) -> float:
        """Expected complete log-likelihood of the rows in `stats`."""
        log_start, log_transition = self._logs(params)
        chain = np.sum(stats.first[stats.first > 0] * log_start[stats.first > 0])
        chain += np.sum(stats.pairs[stats.pairs > 0] * log_transition[stats.pairs > 0])
        return float(chain) + self.component.expected_log_density(stats.moments, params.theta)

    # the engine's other questions

    def pack(self, params: MarkovParams) -> Float64:
        """Log start, log transitions, then the emission's vector; the log of 0 is held at a finite number."""
        chain = np.log(np.maximum(np.append(params.start, params.transition.ravel()), NOTHING))
        return np.concatenate([chain, self.component.pack(params.theta)])

    def unpack(self, vector: Float64, like: MarkovParams) -> MarkovParams:
        """The parameters of `vector`; probabilities are normalised, and what is 0 in `like` stays 0."""
        k = like.k
        start = _shared_out(np.where(like.start > 0, softmax(vector[:k]), 0.0))
        ways = softmax(vector[k : k + k * k].reshape(k, k))
        transition = _shared_out(np.where(like.transition > 0, ways, 0.0))
        theta = self.component.unpack(vector[k + k * k :], like.theta)
        first = stationary_law(transition) if self.stationary else start
        found = MarkovParams(first, transition, theta)
        return hold(self, found, like) if self.held else found

    def natural(self, differences: Float64, params: MarkovParams) -> Float64:
        """Log probabilities about their mean, times the roots of how often each is asked for."""
        k = params.k
        law = stationary_law(params.transition)
        first = params.start * (differences[:, :k] - (differences[:, :k] @ params.start)[:, None])
        ways = differences[:, k : k + k * k].reshape(-1, k, k)
        ways = ways - (ways * params.transition).sum(axis=2, keepdims=True)
        ways = ways * np.sqrt(law[:, None] * params.transition)
        rest = self.component.natural(differences[:, k + k * k :], law, params.theta)
        # a start is met once a sequence, next to nothing beside the rows
        return np.concatenate([1e-3 * first, ways.reshape(len(differences), -1), rest], axis=1)

    def shift(self, stats: MarkovStats, params: MarkovParams) -> None:  # noqa: ARG002
        """A chain is judged by its likelihood."""
        return

    def collapsed(self, stats: MarkovStats, params: MarkovParams) -> tuple[int, ...]:
        """States that are nowhere expected, or hold a row or two and no spread."""
        if stats.n == 0 or params.k == 1 or self.held:  # what is held cannot be moved
            return ()
        mass = self.component.masses(stats.moments)
        lone = (mass < LONE_ROWS) & self.component.point_like(params.theta)
        return tuple(int(i) for i in np.flatnonzero((mass < DEAD_ROWS) | lone))

    def relocate(self, params: MarkovParams, component: int, where: Float64) -> MarkovParams:
        """Put a state at `where`, as likely to be entered and left as the others are on average."""
        k = params.k
        weights = np.full(k, 1.0 / (k - 1))
        weights[component] = 0.0
        theta = self.component.relocate(params.theta, weights, component, where)
        start, transition = params.start.copy(), params.transition.copy()
        start[component], transition[:, component], transition[component] = 1.0 / k, 1.0 / k, 1.0 / k
        transition /= transition.sum(axis=1, keepdims=True)
        return MarkovParams(start / start.sum(), transition, theta)

    def drop(self, params: MarkovParams, component: int) -> MarkovParams:
        """Without one state; what led to it is shared out in proportion."""
        start = np.delete(params.start, component)
        transition = np.delete(np.delete(params.transition, component, 0), component, 1)
        start, transition = _shared_out(start), _shared_out(transition)
        return MarkovParams(start, transition, self.component.drop(params.theta, component))

    def arrays(self, params: MarkovParams) -> dict[str, Float64]:
        """The parameters as named arrays."""
        chain = {"start": params.start, "transition": params.transition}
        return chain | self.component.arrays(params.theta)

    def from_arrays(self, arrays: dict[str, Float64]) -> MarkovParams:
        """The parameters of `arrays`, bit for bit."""
        return MarkovParams(arrays["start"], arrays["transition"], self.component.from_arrays(arrays))

    def sample(self, params: MarkovParams, n: int, rng: np.random.Generator) -> tuple[Float64, Ints]:
        """Draw one sequence of n rows; returns rows (n, d) and states (n,)."""
        ladders = np.cumsum(params.transition, axis=1)
        draws = rng.random(n)
        states: Ints = np.empty(n, dtype=np.int64)
        ladder = np.cumsum(params.start)
        for t in range(n):
            states[t] = min(int(np.searchsorted(ladder, draws[t] * ladder[-1], side="right")), params.k - 1)
            ladder = ladders[states[t]]
        drawn = self.component.sample(params.theta, np.bincount(states, minlength=params.k), rng)
        rows = np.empty_like(drawn)
        rows[np.argsort(states, kind="stable")] = drawn
        return rows, states


def _observed(rows: Rows, resp: Float64) -> tuple[Rows, Float64]:
    """The rows that say something, and their responsibilities."""
    if np.isfinite(rows.values).all():
        return rows, resp
    seen = np.isfinite(rows.values).all(axis=1)
    return Rows(rows.values[seen]), resp[seen]


def _shared_out(probabilities: Float64) -> Float64:
    """Rows that sum to one; uniform where nothing is left."""
    total = probabilities.sum(axis=-1, keepdims=True)
    even = 1.0 / probabilities.shape[-1]
    return np.asarray(np.where(total > 0, probabilities / np.where(total > 0, total, 1.0), even))
