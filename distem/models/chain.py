"""Chains of hidden states across blocks: what passes from one to the next, and stationary laws."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
from scipy.optimize import minimize
from scipy.special import logsumexp

from distem.types import Bools, Float64


@dataclass(frozen=True, slots=True, eq=False)
class Links:
    """What some blocks, in their order, do to the messages that pass through them.

    Attributes
    ----------
    heads : ndarray, shape (B, k, k)
        From the state before a block to that of its last row before a sequence begins, in logs.
    tails : ndarray, shape (B, k)
        Log probabilities of the last row's state; NaN where no sequence begins in the block.
    begins : ndarray of bool, shape (B,)
        Whether a block's first row begins a sequence.
    """

    heads: Float64
    tails: Float64
    begins: Bools

    @property
    def closed(self) -> bool:
        """Whether every block begins a sequence, so that nothing passes from one to the next."""
        return bool(self.begins.all())

    def __add__(self, other: Self) -> Self:
        return type(self)(
            np.concatenate([self.heads, other.heads]),
            np.concatenate([self.tails, other.tails]),
            np.concatenate([self.begins, other.begins]),
        )


@dataclass(frozen=True, slots=True, eq=False)
class ChainPriors:
    """Dirichlet priors of where sequences start and of the transitions: 1 is none.

    Attributes
    ----------
    start : float or ndarray, shape (k,)
    transition : float or ndarray, shape (k, k)
    """

    start: float | Float64 = 1.0
    transition: float | Float64 = 1.0

    def added(self, pairs: Float64, first: Float64, ways: Float64, began: Float64) -> tuple[Float64, Float64]:
        """Expected transitions and first states with what the priors add; what cannot be stays so.

        Their shares maximise the expected log posterior. `ways` and `began` are the probabilities so far.
        """
        if np.all(self.start == 1.0) and np.all(self.transition == 1.0):
            return pairs, first
        pairs = np.where(ways > 0, np.maximum(pairs + self.transition - 1.0, 0.0), 0.0)
        return pairs, np.where(began > 0, np.maximum(first + self.start - 1.0, 0.0), 0.0)


NO_PRIORS = ChainPriors()


@dataclass(frozen=True, slots=True, eq=False)
class Boundary:
    """What reaches a block from outside: logs, shape (k,), see `kernels.chains_reference`."""

    log_before: Float64
    log_after: Float64

    @classmethod
    def none(cls, k: int) -> Boundary:
        """Of a run that holds whole sequences."""
        return cls(np.zeros(k), np.zeros(k))


def boundaries(links: Links) -> list[Boundary]:
    """What reaches each block, from what all of them do to messages.

    The log-likelihood itself is left to the blocks: each is given what was seen before it.
    """
    count, k = links.tails.shape
    before, after = np.zeros((count, k)), np.zeros((count, k))
    with np.errstate(divide="ignore"):
        for b in range(1, count):
            message = links.tails[b - 1]
            if np.isnan(message).any():
                message = logsumexp(before[b - 1][:, None] + links.heads[b - 1], axis=0)
            before[b] = level(message)
        for b in range(count - 2, -1, -1):
            if links.begins[b + 1]:
                continue
            open_end = np.isnan(links.tails[b + 1]).any()
            ahead = after[b + 1] if open_end else np.zeros(k)
            after[b] = level(logsumexp(links.heads[b + 1] + ahead, axis=1))
    return [Boundary(before[b], after[b]) for b in range(count)]


def way_points(links: Links, before: int = -1, last: int = -1) -> list[tuple[int, int]]:
    """The states of the likeliest path at the edges of blocks: before each block, and in its last row.

    Parameters
    ----------
    links : Links
        Of likeliest paths, see `HiddenMarkov.best_links`.
    before : int
        State of the row before the first block, or -1 where a sequence begins.
    last : int
        State of the last row of the last block, or -1 where a sequence ends.

    Returns
    -------
    list of (int, int)
        -1 where a sequence begins or ends at the edge.
    """
    count, k = links.tails.shape
    scores = np.zeros((count, k))
    if before >= 0:
        scores[0] = -np.inf
        scores[0, before] = 0.0
    for b in range(1, count):
        message = links.tails[b - 1]
        if np.isnan(message).any():
            message = (scores[b - 1][:, None] + links.heads[b - 1]).max(axis=0)
        top = message.max()
        scores[b] = message - top if np.isfinite(top) else message
    points = []
    for b in range(count - 1, -1, -1):
        if links.begins[b]:
            entered = -1
        elif b == 0:
            entered = before
        else:
            onward = links.heads[b]
            passed = last >= 0 and np.isnan(links.tails[b]).any()
            entered = int((scores[b] + (onward[:, last] if passed else onward.max(axis=1))).argmax())
        points.append((entered, last))
        last = entered
    return points[::-1]


def level(logs: Float64) -> Float64:
    """Logs of what sums to one; as they are where that is nothing."""
    total = logsumexp(logs)
    return np.asarray(logs - total if np.isfinite(total) else logs)


def softmax(logs: Float64) -> Float64:
    """Rows that sum to one, in proportion to the exponentials."""
    shifted = np.exp(logs - logs.max(axis=-1, keepdims=True))
    return np.asarray(shifted / shifted.sum(axis=-1, keepdims=True))


def stationary_law(transition: Float64) -> Float64:
    """The distribution (k,) that a transition matrix leaves as it is."""
    k = len(transition)
    system = np.vstack([transition.T - np.eye(k), np.ones(k)])
    law = np.linalg.lstsq(system, np.append(np.zeros(k), 1.0), rcond=None)[0]
    law = np.maximum(law, 0.0)
    return np.asarray(law / law.sum())


def stationary_transition(pairs: Float64, first: Float64, known: Sequence[Float64]) -> Float64:
    """The transition matrix that maximises ``sum pairs log A + sum first log delta(A)``.

    There is no closed form [1]_; the derivative of the stationary law delta is taken from the fundamental
    matrix [2]_. Climbs from the first of the known matrices and returns the best of all, so the likelihood
    never falls.

    References
    ----------
    .. [1] Bulla and Berzel, Computational issues in parameter estimation for stationary hidden Markov
       models, Computational Statistics 23 (2008).
    .. [2] Schweitzer, Perturbation theory and finite Markov chains, Journal of Applied Probability 5 (1968).
    """
    k = len(first)

    def loss(vector: Float64) -> tuple[float, Float64]:
        matrix = softmax(vector.reshape(k, k))
        law = np.maximum(stationary_law(matrix), 1e-300)
        safe = np.maximum(matrix, 1e-300)
        fundamental = np.linalg.pinv(np.eye(k) - matrix + law)
        slope = pairs / safe + law[:, None] * (fundamental @ (first / law))
        inner = matrix * (slope - (matrix * slope).sum(axis=1, keepdims=True))
        return -float((pairs * np.log(safe)).sum() + first @ np.log(law)), -inner.ravel()

    scale = max(float(pairs.sum() + first.sum()), 1.0)
    logs = [np.log(np.maximum(matrix, 1e-300)).ravel() for matrix in known]
    found = minimize(
        lambda v: tuple(part / scale for part in loss(v)),
        np.maximum(logs[0], -30.0),
        jac=True,
        method="L-BFGS-B",
        options={"ftol": 1e-15, "gtol": 1e-12, "maxiter": 200},
    )
    return softmax(min((found.x, *logs), key=lambda v: loss(v)[0]).reshape(k, k))
