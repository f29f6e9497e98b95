"""Compiled kernels for hidden Markov chains: the twins of `distem.kernels.chains_reference`.

Probabilities are kept as such and scaled in each row, which costs no logarithm per state. Where scaling
is not enough (what a row says is beyond a float's range from what was expected, and no transition
leads back) the call is repeated in log space. One thread, the GIL released, one order of all sums.
"""

from __future__ import annotations

import math
import time

import numpy as np

from distem.kernels._simd import entry, inner
from distem.types import Bools, Float64, Ints

TINY = 1e-270
"""A probability below it may have lost digits to underflow."""
EQUAL = 4e-15
"""Rows of a transfer that differ by a smaller share have met: no step drives them apart again."""


@inner
def _log_sum(logs: Float64) -> float:
    top: float = logs.max()
    if top == -np.inf:
        return -np.inf
    total = 0.0
    for j in range(logs.size):
        total += math.exp(logs[j] - top)
    return top + math.log(total)


@inner
def _exp(logs: Float64) -> tuple[Float64, float]:
    """Return what sums to one in proportion to the exponentials, and the log of their sum."""
    total = _log_sum(logs)
    if total == -np.inf:
        return np.zeros(logs.size), total
    return np.exp(logs - total), total


@inner
def _log_times(log_before: Float64, log_transition: Float64) -> Float64:
    """Return the log probabilities a step later."""
    k = log_before.size
    result = np.empty(k)
    for j in range(k):
        result[j] = _log_sum(log_before + log_transition[:, j])
    return result


@inner
def _times(before: Float64, transition: Float64, result: Float64) -> None:
    """Write the probabilities a step later."""
    k = before.size
    result[:] = 0.0
    for i in range(k):
        share = before[i]
        for j in range(k):
            result[j] += share * transition[i, j]


@inner
def _weigh(row: Float64, likelihood: Float64) -> float:
    """Write the exponentials of a row of logs, the largest one; return its log."""
    top: float = row.max()
    if top == -np.inf:
        top = 0.0
    for j in range(row.size):
        likelihood[j] = math.exp(row[j] - top)
    return top


@inner
def _filter_step(arriving: Float64, likelihood: Float64, mixing: bool, result: Float64) -> float:
    """Write the normalised product; return its sum, or NaN where scaling does not suffice."""
    total = 0.0
    for j in range(arriving.size):
        result[j] = arriving[j] * likelihood[j]
        total += result[j]
    if not total > TINY:
        return np.nan
    scale = 1.0 / total
    lost = False
    for j in range(arriving.size):
        result[j] *= scale
        lost |= result[j] < TINY and arriving[j] > 0.0
    return np.nan if lost and not mixing else total


@inner
def _mixes(transition: Float64) -> bool:
    """Return whether every state is within reach of every other: what is lost comes back in a step."""
    return bool(transition.min() > 1e-100)


@inner
def _filtered(
    log_emission: Float64,
    begins: Bools,
    start: Float64,
    transition: Float64,
    before: Float64,
    filtered: Float64,
    likelihoods: Float64,
    each: Float64,
) -> bool:
    """Write the states' probabilities and the rows' log densities, both given all rows so far.

    False where scaling does not suffice.
    """
    n, k = log_emission.shape
    arriving = np.empty(k)
    mixing = _mixes(transition)
    for t in range(n):
        if begins[t]:
            arriving[:] = start
        elif t == 0:
            _times(before, transition, arriving)
        else:
            _times(filtered[t - 1], transition, arriving)
        top = _weigh(log_emission[t], likelihoods[t])
        total = _filter_step(arriving, likelihoods[t], mixing, filtered[t])
        if math.isnan(total):
            return False
        each[t] = top + math.log(total)
    return True


@inner
def _log_filtered(
    log_emission: Float64,
    begins: Bools,
    log_start: Float64,
    log_transition: Float64,
    log_before: Float64,
    filtered: Float64,
    each: Float64,
) -> None:
    """As `_filtered`, in log space."""
    for t in range(len(log_emission)):
        if begins[t]:
            arriving = log_start
        elif t == 0:
            arriving = _log_times(log_before, log_transition)
        else:
            arriving = _log_times(filtered[t - 1], log_transition)
        joint = arriving + log_emission[t]
        total = _log_sum(joint)
        filtered[t] = joint if total == -np.inf else joint - total
        each[t] = total


@entry
def remember(
    log_emission: Float64, begins: Bools, log_start: Float64, log_transition: Float64, log_before: Float64
) -> tuple[Float64, Float64, Float64, Float64, bool]:
    """Return what `forward` does, and what `smooth_on` goes on from; see the reference."""
    n, k = log_emission.shape
    each, filtered, likelihoods = np.empty(n), np.empty((n, k)), np.empty((n, k))
    if n == 0:
        return log_before.copy(), each, filtered, likelihoods, True
    before, _ = _exp(log_before)
    start, transition = np.exp(log_start), np.exp(log_transition)
    if _filtered(log_emission, begins, start, transition, before, filtered, likelihoods, each):
        return np.log(filtered[n - 1]), each, filtered, likelihoods, True
    _log_filtered(log_emission, begins, log_start, log_transition, log_before, filtered, each)
    return filtered[n - 1].copy(), each, filtered, likelihoods, False


@entry
def forward(
    log_emission: Float64, begins: Bools, log_start: Float64, log_transition: Float64, log_before: Float64
) -> tuple[Float64, Float64]:
    """Return the message to the next run and the rows' log densities; see the reference."""
    message, each, _, _, _ = remember(log_emission, begins, log_start, log_transition, log_before)
    return message, each


@inner
def _smooth(
    begins: Bools,
    transition: Float64,
    before: Float64,
    after: Float64,
    filtered: Float64,
    likelihoods: Float64,
    pairs: Float64,
    first: Float64,
) -> bool:
    """Turn `filtered` into responsibilities and `after` into the message; False where scaling fails."""
    n, k = filtered.shape
    turned = np.ascontiguousarray(transition.T)
    ahead, behind, joint = np.empty(k), np.empty(k), np.zeros((k, k))
    mixing = _mixes(transition)
    for t in range(n - 1, -1, -1):
        total = 0.0
        for j in range(k):
            ahead[j] = likelihoods[t, j] * after[j]
            total += filtered[t, j] * after[j]
        if not total > TINY:
            return False
        came = before if t == 0 else filtered[t - 1]
        if begins[t]:
            for j in range(k):
                filtered[t, j] = filtered[t, j] * after[j] / total
                first[j] += filtered[t, j]
            after[:] = 1.0
            continue
        for j in range(k):
            filtered[t, j] = filtered[t, j] * after[j] / total
        _times(ahead, turned, behind)
        total, least, sums = 0.0, np.inf, 0.0
        for i in range(k):
            total += came[i] * behind[i]
            least = min(least, behind[i])
            sums += behind[i]
        if not total > TINY or (least < TINY * sums and not mixing):
            return False
        for i in range(k):
            share = came[i] / total
            for j in range(k):
                joint[i, j] += share * ahead[j]
        for i in range(k):
            after[i] = behind[i] / sums
    for i in range(k):
        for j in range(k):
            pairs[i, j] = joint[i, j] * transition[i, j]
    return True


@inner
def _log_smooth(
    log_emission: Float64,
    begins: Bools,
    log_transition: Float64,
    log_before: Float64,
    log_after: Float64,
    filtered: Float64,
    pairs: Float64,
    first: Float64,
) -> None:
    """As `_smooth`, in log space."""
    n, k = filtered.shape
    for t in range(n - 1, -1, -1):
        came = log_before if t == 0 else filtered[t - 1]
        ahead = log_emission[t] + log_after
        filtered[t] = _exp(filtered[t] + log_after)[0]
        if begins[t]:
            first += filtered[t]
            log_after[:] = 0.0
            continue
        behind = np.empty(k)
        for i in range(k):
            behind[i] = _log_sum(log_transition[i] + ahead)
        total = _log_sum(came + behind)
        if total > -np.inf:
            for i in range(k):
                for j in range(k):
                    pairs[i, j] += math.exp(came[i] + log_transition[i, j] + ahead[j] - total)
        total = _log_sum(behind)
        log_after[:] = behind - total if total > -np.inf else behind


@entry
def smooth_on(
    log_emission: Float64,
    begins: Bools,
    log_start: Float64,
    log_transition: Float64,
    log_before: Float64,
    log_after: Float64,
    filtered: Float64,
    likelihoods: Float64,
    scaled: bool,
) -> tuple[Float64, Float64, Float64, Float64]:
    """Return what `smooth` does, from what `remember` returned; see the reference."""
    n, k = log_emission.shape
    pairs, first = np.zeros((k, k)), np.zeros(k)
    if n == 0:
        return filtered, pairs, first, log_after.copy()
    if scaled:
        before, _ = _exp(log_before)
        after, _ = _exp(log_after)
        if _smooth(begins, np.exp(log_transition), before, after, filtered, likelihoods, pairs, first):
            return filtered, pairs, first, np.log(after)
        pairs[:], first[:] = 0.0, 0.0
        each = np.empty(n)
        _log_filtered(log_emission, begins, log_start, log_transition, log_before, filtered, each)
    message = log_after.copy()
    _log_smooth(log_emission, begins, log_transition, log_before, message, filtered, pairs, first)
    return filtered, pairs, first, message


@entry
def smooth(
    log_emission: Float64,
    begins: Bools,
    log_start: Float64,
    log_transition: Float64,
    log_before: Float64,
    log_after: Float64,
) -> tuple[Float64, Float64, Float64, Float64]:
    """Return responsibilities, expected transitions and first states, and a message; see the reference."""
    _, _, filtered, likelihoods, scaled = remember(
        log_emission, begins, log_start, log_transition, log_before
    )
    return smooth_on(
        log_emission,
        begins,
        log_start,
        log_transition,
        log_before,
        log_after,
        filtered,
        likelihoods,
        scaled,
    )


@inner
def _first_beginning(begins: Bools) -> int:
    for t in range(begins.size):
        if begins[t]:
            return t
    return begins.size


@inner
def _last_beginning(begins: Bools) -> int:
    for t in range(begins.size - 1, -1, -1):
        if begins[t]:
            return t
    return -1


@entry
def transfer(
    log_emission: Float64, begins: Bools, log_start: Float64, log_transition: Float64
) -> tuple[Float64, Float64]:
    """Return what a run does to the messages that pass through it; see the reference.

    As soon as all states before the run lead to the same probabilities, one row stands for all: from
    there on a step costs k**2, not k**3.
    """
    n, k = log_emission.shape
    head = _first_beginning(begins)
    transition, mixing = np.exp(log_transition), _mixes(np.exp(log_transition))
    log_scale = np.zeros(k)
    now, arriving, likelihood = np.eye(k), np.empty(k), np.empty(k)
    scaled, rows = True, k
    for t in range(head):
        top = _weigh(log_emission[t], likelihood)
        for i in range(rows):
            _times(now[i], transition, arriving)
            total = _filter_step(arriving, likelihood, mixing, now[i])
            if math.isnan(total):
                scaled = False
                break
            step = math.log(total) + top
            if rows == 1:
                log_scale += step
            else:
                log_scale[i] += step
        if not scaled:
            break
        if rows > 1:
            met = True
            for i in range(1, k):
                for j in range(k):
                    met &= abs(now[i, j] - now[0, j]) <= EQUAL * now[0, j]
            if met:
                rows = 1
    log_head = np.empty((k, k))
    if scaled:
        for i in range(k):
            log_head[i] = np.log(now[i if rows > 1 else 0]) + log_scale[i]
    else:
        for i in range(k):
            at = np.full(k, -np.inf)
            at[i] = 0.0
            for t in range(head):
                at = _log_times(at, log_transition) + log_emission[t]
            log_head[i] = at
    if head == n:
        return log_head, np.full(k, np.nan)
    tail = _last_beginning(begins)
    return log_head, forward(log_emission[tail:], begins[tail:], log_start, log_transition, log_start)[0]


@inner
def _best_times(scores: Float64, log_transition: Float64, result: Float64) -> None:
    """Write the best scores a step later."""
    k = scores.size
    result[:] = -np.inf
    for i in range(k):
        here = scores[i]
        for j in range(k):
            result[j] = max(result[j], here + log_transition[i, j])


@entry
def best_transfer(
    log_emission: Float64, begins: Bools, log_start: Float64, log_transition: Float64
) -> tuple[Float64, Float64]:
    """As `transfer`, of the likeliest path in place of all; see the reference."""
    n, k = log_emission.shape
    head = _first_beginning(begins)
    log_head, step = np.full((k, k), -np.inf), np.empty(k)
    for i in range(k):
        log_head[i, i] = 0.0
        for t in range(head):
            _best_times(log_head[i], log_transition, step)
            log_head[i] = step + log_emission[t]
    if head == n:
        return log_head, np.full(k, np.nan)
    tail = _last_beginning(begins)
    scores = log_start + log_emission[tail]
    for t in range(tail + 1, n):
        _best_times(scores, log_transition, step)
        scores = step + log_emission[t]
        top = scores.max()
        if top > -np.inf:
            scores -= top
    top = scores.max()
    return log_head, scores - top if top > -np.inf else scores


@entry
def best_path(
    log_emission: Float64, begins: Bools, log_start: Float64, log_transition: Float64, before: int, last: int
) -> tuple[Ints, float]:
    """Return the likeliest path between two states that are known, and its score; see the reference."""
    n, k = log_emission.shape
    came = np.zeros((n, k), np.int16)
    scores, step = np.empty(k), np.empty(k)
    ends = np.zeros(n, np.int64)  # the best state of each row that ends a sequence
    for t in range(n):
        if begins[t]:
            if t:
                ends[t - 1] = scores.argmax()
            scores = log_start + log_emission[t]
        elif t == 0:
            scores = log_transition[before] + log_emission[t]
        else:
            step[:] = -np.inf
            for i in range(k):
                here = scores[i]
                for j in range(k):
                    if here + log_transition[i, j] > step[j]:
                        step[j] = here + log_transition[i, j]
                        came[t, j] = i
            scores = step + log_emission[t]
        top = scores.max()
        if top > -np.inf:
            scores -= top
    path, total = np.empty(n, np.int64), 0.0
    if n:
        ends[n - 1] = last if last >= 0 else scores.argmax()
    for t in range(n - 1, -1, -1):
        if t + 1 == n or begins[t + 1]:
            path[t] = ends[t]
        else:
            path[t] = came[t + 1, path[t + 1]]
    for t in range(n):
        if begins[t]:
            total += log_start[path[t]]
        else:
            total += log_transition[path[t - 1] if t else before, path[t]]
        total += log_emission[t, path[t]]
    return path, total


def warm() -> float:
    """Compile all kernels, and return the seconds it took."""
    begun = time.perf_counter()
    emission, begins = np.zeros((2, 2)), np.array([True, False])
    logs = np.log(np.full(2, 0.5)), np.log(np.full((2, 2), 0.5))
    _, _, filtered, likelihoods, scaled = remember(emission, begins, *logs, np.zeros(2))
    smooth_on(emission, begins, *logs, np.zeros(2), np.zeros(2), filtered, likelihoods, scaled)
    transfer(emission, begins, *logs)
    best_transfer(emission, begins, *logs)
    best_path(emission, begins, *logs, -1, -1)
    return time.perf_counter() - begun
