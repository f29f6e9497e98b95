"""Plain NumPy kernels for hidden Markov chains, in log space: the truth the compiled ones are tested against.

A call works on a run of consecutive rows, which may begin and end in the middle of a sequence. What
lies before and after reaches it as two messages of k logs each, and what it has to say to its
neighbours leaves it in the same form, so any cutting of a sequence gives one answer [1]_.

Throughout, ``log_emission`` (n, k) holds the log densities of the rows in each state, ``begins`` (n,)
tells which rows are the first of a sequence, ``log_start`` (k,) and ``log_transition`` (k, k), from row
to column, are the chain's, and

- ``log_before`` (k,): of the states of the row before the run given all rows up to it; normalised.
  It is not read if the first row begins a sequence.
- ``log_after`` (k,): of all rows after the run, up to their sequence's end, given the state of the
  run's last row; up to a constant. Zeros where the run ends with a sequence.

References
----------
.. [1] Rabiner, A tutorial on hidden Markov models, Proceedings of the IEEE 77 (1989).
"""

from __future__ import annotations

import numpy as np
from scipy.special import logsumexp

from distem.kernels.reference import LOWEST
from distem.types import Bools, Float64, Ints


def _normalised(logs: Float64) -> tuple[Float64, float]:
    """Logs that sum to one, and the log of what they summed to; as they are where that is nothing."""
    total = float(logsumexp(logs))
    return (logs - total if np.isfinite(total) else logs), total


def _filtered(
    log_emission: Float64, begins: Bools, log_start: Float64, log_transition: Float64, log_before: Float64
) -> tuple[Float64, Float64]:
    """Log probabilities (n, k) of the states given all rows so far, and the rows' log densities (n,)."""
    result, each = np.empty_like(log_emission), np.empty(len(log_emission))
    for t in range(len(log_emission)):
        arriving = log_start if begins[t] else logsumexp(log_before[:, None] + log_transition, axis=0)
        log_before, each[t] = _normalised(arriving + log_emission[t])
        result[t] = log_before
    return result, each


def forward(
    log_emission: Float64, begins: Bools, log_start: Float64, log_transition: Float64, log_before: Float64
) -> tuple[Float64, Float64]:
    """Return the message to the next run and the log density of each row given all before it.

    Returns
    -------
    log_last : ndarray of float64, shape (k,)
        Log probabilities of the last row's states given all rows so far.
    each : ndarray of float64, shape (n,)
        They add up to the log-likelihood; minus infinity where a row is impossible.
    """
    with np.errstate(divide="ignore"):
        filtered, each = _filtered(log_emission, begins, log_start, log_transition, log_before)
    return (filtered[-1] if len(filtered) else log_before), each


def smooth(
    log_emission: Float64,
    begins: Bools,
    log_start: Float64,
    log_transition: Float64,
    log_before: Float64,
    log_after: Float64,
) -> tuple[Float64, Float64, Float64, Float64]:
    """Return what is expected of the states given all rows of their sequences.

    Returns
    -------
    resp : ndarray of float64, shape (n, k)
        Probability of each state at each row.
    pairs : ndarray of float64, shape (k, k)
        Expected transitions into these rows; the one from the row before the run is counted here.
    first : ndarray of float64, shape (k,)
        Expected states of the rows that begin a sequence.
    log_message : ndarray of float64, shape (k,)
        What the run before takes as its `log_after`.
    """
    n, k = log_emission.shape
    resp, pairs, first = np.empty((n, k)), np.zeros((k, k)), np.zeros(k)
    filtered, _ = _filtered(log_emission, begins, log_start, log_transition, log_before)
    for t in range(n - 1, -1, -1):
        resp[t] = np.exp(_normalised(filtered[t] + log_after)[0])
        ahead = log_emission[t] + log_after
        if begins[t]:
            first += resp[t]
            log_after = np.zeros(k)
            continue
        came = filtered[t - 1] if t else log_before
        joint = came[:, None] + log_transition + ahead
        pairs += np.exp(joint - logsumexp(joint))
        log_after = _normalised(logsumexp(log_transition + ahead, axis=1))[0]
    return resp, pairs, first, log_after


def remember(
    log_emission: Float64, begins: Bools, log_start: Float64, log_transition: Float64, log_before: Float64
) -> tuple[Float64, Float64, Float64, Float64, bool]:
    """Return what `forward` does, and what `smooth_on` goes on from: it need not look forward again.

    Returns
    -------
    log_last, each : ndarray
        See `forward`.
    filtered, likelihoods : ndarray of float64, shape (n, k)
        For `smooth_on` alone, which writes over them.
    scaled : bool
        Whether these are probabilities; otherwise logs.
    """
    with np.errstate(divide="ignore"):
        filtered, each = _filtered(log_emission, begins, log_start, log_transition, log_before)
    return (filtered[-1] if len(filtered) else log_before), each, filtered, np.empty_like(filtered), False


def smooth_on(
    log_emission: Float64,
    begins: Bools,
    log_start: Float64,
    log_transition: Float64,
    log_before: Float64,
    log_after: Float64,
    filtered: Float64,  # noqa: ARG001 -- the definition looks forward itself
    likelihoods: Float64,  # noqa: ARG001
    scaled: bool,  # noqa: ARG001
) -> tuple[Float64, Float64, Float64, Float64]:
    """Return what `smooth` does, from what `remember` returned."""
    return smooth(log_emission, begins, log_start, log_transition, log_before, log_after)


def transfer(
    log_emission: Float64, begins: Bools, log_start: Float64, log_transition: Float64
) -> tuple[Float64, Float64]:
    """Return what a run of rows does to the messages that pass through it.

    Returns
    -------
    log_head : ndarray of float64, shape (k, k)
        From the state before the run to that of the last row before a sequence begins, or of the run's
        last row: log density of the rows between, jointly with where they lead. The identity if the
        first row begins a sequence.
    log_tail : ndarray of float64, shape (k,)
        Log probabilities of the last row's states given the rows of its sequence; NaN if no sequence
        begins in the run.
    """
    k = len(log_start)
    at = np.flatnonzero(begins)
    head = log_emission[: at[0]] if len(at) else log_emission
    with np.errstate(divide="ignore"):
        log_head = np.log(np.eye(k))
    for row in head:
        log_head = logsumexp(log_head[:, :, None] + log_transition, axis=1) + row
    if not len(at):
        return log_head, np.full(k, np.nan)
    tail = slice(at[-1], None)
    return log_head, forward(log_emission[tail], begins[tail], log_start, log_transition, log_start)[0]


def best_transfer(
    log_emission: Float64, begins: Bools, log_start: Float64, log_transition: Float64
) -> tuple[Float64, Float64]:
    """As `transfer`, of the likeliest path in place of all: sums are maxima.

    Returns
    -------
    log_head : ndarray of float64, shape (k, k)
    log_tail : ndarray of float64, shape (k,)
        Less their largest; NaN if no sequence begins in the run.
    """
    k = len(log_start)
    at = np.flatnonzero(begins)
    head = log_emission[: at[0]] if len(at) else log_emission
    with np.errstate(divide="ignore"):
        log_head = np.log(np.eye(k))
    for row in head:
        log_head = (log_head[:, :, None] + log_transition).max(axis=1) + row
    if not len(at):
        return log_head, np.full(k, np.nan)
    tail = log_start + log_emission[at[-1]]
    for row in log_emission[at[-1] + 1 :]:
        tail = (tail[:, None] + log_transition).max(axis=0) + row
    return log_head, tail - tail.max()


def best_path(
    log_emission: Float64, begins: Bools, log_start: Float64, log_transition: Float64, before: int, last: int
) -> tuple[Ints, float]:
    """Return the likeliest path through the rows between two states that are known [1]_.

    Of equal paths the one with the smaller states, seen from the end, is taken.

    Parameters
    ----------
    before : int
        State of the row before the run; not read if the first row begins a sequence.
    last : int
        State of the run's last row, or -1 where a sequence ends there: then it is free.

    Returns
    -------
    path : ndarray of int64, shape (n,)
    log_probability : float
        Of the path and the rows, the transition from `before` included.

    References
    ----------
    .. [1] Viterbi, Error bounds for convolutional codes, IEEE Transactions on Information Theory 13 (1967).
    """
    n, k = log_emission.shape
    came, scores = np.zeros((n, k), dtype=np.int64), np.empty((n, k))
    for t in range(n):
        if begins[t]:
            scores[t] = log_start + log_emission[t]
        elif t == 0:
            scores[t] = log_transition[before] + log_emission[t]
        else:
            joint = scores[t - 1][:, None] + log_transition
            came[t], scores[t] = joint.argmax(axis=0), joint.max(axis=0) + log_emission[t]
        scores[t] -= max(scores[t].max(), LOWEST)
    path, total = np.empty(n, dtype=np.int64), 0.0
    for t in range(n - 1, -1, -1):
        if t + 1 < n and not begins[t + 1]:
            path[t] = came[t + 1][path[t + 1]]
        else:
            path[t] = last if t + 1 == n and last >= 0 else scores[t].argmax()
    for t in range(n):
        came_from = path[t - 1] if t else before
        step = log_start[path[t]] if begins[t] else log_transition[came_from, path[t]]
        total += float(step + log_emission[t, path[t]])
    return path, total
