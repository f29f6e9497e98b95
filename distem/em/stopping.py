"""When to stop: small rules that read the trace, and sentences that say why."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

FLAT = 16.0 * float(np.finfo(np.float64).eps)
"""Steps below this share of the log-likelihood are rounding."""


@dataclass(frozen=True, slots=True)
class TracePoint:
    """One pass.

    Attributes
    ----------
    log_likelihood : float
        Mean per row of the parameters the pass started from.
    accepted : bool
        False when an accelerated step was taken back.
    fresh : bool
        True when a component was moved or dropped before this pass: what came before
        is no guide to what follows.
    shift : float or None
        How far the M-step after the pass goes, squared and summed over the centres; zero where rounding is
        all that moves them. None for models without centres.
    """

    log_likelihood: float
    accepted: bool = True
    fresh: bool = False
    shift: float | None = None


Trace = Sequence[TracePoint]


@dataclass(frozen=True, slots=True)
class Reason:
    """Why a fit stopped: whether it converged, and a sentence; `dropped` if others made it hopeless."""

    converged: bool
    sentence: str
    dropped: bool = False


class StopRule(Protocol):
    """Says after a pass whether it was the last."""

    def __call__(self, trace: Trace) -> Reason | None:
        """Return the reason to stop, or None."""


def recent(trace: Trace, count: int) -> list[float]:
    """The last accepted log-likelihoods, at most `count`, none from before a repair."""
    out: list[float] = []
    for point in reversed(trace):
        if point.accepted:
            out.append(point.log_likelihood)
        if point.fresh or len(out) == count:
            break
    return out[::-1]


def gain_left(trace: Trace) -> float | None:
    """Aitken's estimate of the log-likelihood per row still to be gained.

    With steps s1 <- s2 <- s3 (latest first) and rate a = max(s1/s2, s2/s3), a geometric tail
    leaves s1 a / (1 - a). Steps of an accelerated climb are irregular: a short one between long ones says
    little. So the last three steps and the three before them, each added up, are held against each other
    likewise, and the larger estimate counts. None while the steps do not shrink, or there are too few [1]_.

    References
    ----------
    .. [1] McLachlan and Krishnan, The EM Algorithm and Extensions, 2nd ed., section 4.9.
    """
    values = recent(trace, 7)
    if len(values) < 4:
        return None
    s3, s2, s1 = np.diff(values)[-3:]
    if abs(s1) <= FLAT * max(1.0, abs(values[-1])):
        return 0.0
    if s1 <= 0 or s2 <= 0 or s3 <= 0:
        return None
    tails = [(s1, max(s1 / s2, s2 / s3))]
    if len(values) == 7:
        first, last = values[3] - values[0], values[6] - values[3]
        tails.append((last, last / first if first > 0.0 else 1.0))
    if max(rate for _, rate in tails) >= 1.0:
        return None
    return float(max(step * rate / (1.0 - rate) for step, rate in tails))


@dataclass(frozen=True, slots=True)
class GainLeft:
    """Stop when the gain still expected is below a tolerance, or steps are rounding.

    Parameters
    ----------
    tolerance : float
        Log-likelihood per row.
    """

    tolerance: float

    def __call__(self, trace: Trace) -> Reason | None:
        """See the class."""
        left = gain_left(trace)
        if left is None:
            return None
        if left == 0.0:
            return Reason(True, "Converged: the log-likelihood no longer changes beyond rounding.")
        if left < self.tolerance:
            return Reason(
                True,
                f"Converged: {left:.2g} per row is still expected, "
                f"less than the tolerance {self.tolerance:g}.",
            )
        return None


@dataclass(frozen=True, slots=True)
class Change:
    """Stop when the last step changed the log-likelihood per row by less than a tolerance.

    scikit-learn's rule. On slow problems it stops far from the optimum.
    """

    tolerance: float

    def __call__(self, trace: Trace) -> Reason | None:
        """See the class."""
        values = recent(trace, 2)
        if len(values) < 2 or not trace[-1].accepted:
            return None
        step = abs(values[1] - values[0])
        if step < self.tolerance:
            return Reason(
                True, f"Converged: the last step was {step:.2g}, less than the tolerance {self.tolerance:g}."
            )
        return None


@dataclass(frozen=True, slots=True)
class Settled:
    """Stop when the centres stay where they are, or move by no more than a tolerance.

    scikit-learn's rule for k-means: where no row has changed its cluster, no centre moves.

    Parameters
    ----------
    tolerance : float
        Squared distances moved, summed over the centres; zero waits until nothing but rounding moves them.
    """

    tolerance: float = 0.0

    def __call__(self, trace: Trace) -> Reason | None:
        """See the class."""
        shift = trace[-1].shift
        if shift is None or not trace[-1].accepted or shift > self.tolerance:
            return None
        if shift == 0.0:
            return Reason(True, "Converged: no row changes its cluster any more.")
        return Reason(
            True,
            f"Converged: the centres' squared shifts add up to {shift:.2g}, "
            f"within the tolerance {self.tolerance:g}.",
        )


@dataclass(frozen=True, slots=True)
class MaxPasses:
    """Stop after so many passes."""

    passes: int

    def __call__(self, trace: Trace) -> Reason | None:
        """See the class."""
        if len(trace) < self.passes:
            return None
        left = gain_left(trace)
        expected = "" if left is None else f", with {left:.2g} per row still expected"
        return Reason(
            False,
            f"Not converged: stopped after {len(trace)} passes{expected}. "
            "Allow more passes or a larger tolerance.",
        )


@dataclass(frozen=True, slots=True)
class FirstOf:
    """Stop as soon as one of several rules says so."""

    rules: tuple[StopRule, ...]

    def __call__(self, trace: Trace) -> Reason | None:
        """See the class."""
        return next((reason for rule in self.rules if (reason := rule(trace)) is not None), None)
