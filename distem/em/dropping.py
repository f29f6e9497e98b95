"""Fits that share passes and cannot win any more: which ones a sweep goes on without.

The verdict is taken anew after every pass from what the fits reached, so a fit that was dropped comes
back when the one that was ahead of it falls: a winner is never lost.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import numpy as np

from distem.em.stopping import Reason, Trace, gain_left
from distem.errors import FitError
from distem.models.base import Model


class Climber(Protocol):
    """What a verdict needs to know of a fit."""

    @property
    def name(self) -> str:
        """Its name."""

    @property
    def family(self) -> str:
        """What the restarts of a candidate have in common."""

    @property
    def model(self) -> Model:
        """What is fitted."""

    @property
    def trace(self) -> Trace:
        """One entry a pass."""

    @property
    def reason(self) -> Reason | None:
        """Why it stopped; None while it goes on."""

    @property
    def best(self) -> tuple[Any, Any] | None:
        """Parameters whose likelihood is known, and their statistics."""


@dataclass(frozen=True, slots=True)
class Hopeless:
    """Drop a fit that would stay behind even if it gained several times what it still expects.

    Restarts compare within their candidate, by log-likelihood per row; candidates with the likeliest
    restart of each other, by their criterion per row. ICL and held-out likelihood do not follow from the
    likelihood, so with them restarts alone compare. Only a fit that has ended, or whose estimate is
    settled, can be ahead of others: a likelihood that shoots up may belong to a component about to
    collapse.

    Parameters
    ----------
    criterion : str, optional
        What candidates are chosen by; without one restarts alone compare.
    least : int
        Passes every fit gets.
    settled : int
        So many of Aitken's estimates in a row must be known and not grow; the largest counts.
    times : float
        A fit is given the chance to gain so many times the estimate.
    """

    criterion: Literal["bic", "aic", "icl", "cv"] | None = None
    least: int = 20
    settled: int = 5
    times: float = 10.0

    @property
    def rule(self) -> str:
        """The rule in words, for the manifest."""
        across = self.criterion.upper() if self.criterion in ("bic", "aic") else None
        others = f"by {across} between candidates" if across else "not between candidates"
        return (
            f"After {self.least} passes a fit is dropped if it would stay behind even if it gained "
            f"{self.times:g} times what Aitken's estimate, settled over {self.settled} passes, still "
            f"expects: by log-likelihood within the restarts of a candidate, {others}."
        )

    @property
    def _across(self) -> bool:
        return self.criterion in ("bic", "aic")

    def __call__(self, fits: Sequence[Climber]) -> dict[str, Reason]:
        """Why each hopeless fit is dropped, by name, of all that have not ended by themselves."""
        hope = {f.name: self._hope(f.trace) for f in fits}
        known = [f for f in fits if f.best is not None]
        sure = [f for f in known if _ended(f) or hope[f.name] is not None]
        # one that was dropped stays so while anybody is ahead, settled or not: else it would come and go
        first, ever = self._first(sure), self._first(known)
        found = {}
        for f in known:
            left = hope[f.name]
            if _ended(f) or left is None:
                continue
            likeliest, leader = ever if f.reason is not None else first
            ahead = likeliest[f.family]
            behind, who = _likelihood(ahead) - _likelihood(f), ahead.name
            if behind <= self.times * left and leader is not None:
                behind, who = self._level(leader) - self._level(f), leader.name
            if behind > self.times * left:
                found[f.name] = Reason(
                    False,
                    f"Dropped after {len(f.trace)} passes: {behind:.3g} per row behind {who}, more than "
                    f"{self.times:g} times the {left:.2g} it still expects to gain.",
                    dropped=True,
                )
        return found

    def _first(self, fits: Sequence[Climber]) -> tuple[dict[str, Climber], Climber | None]:
        """The likeliest restart of each candidate, and the best of these by the criterion."""
        likeliest: dict[str, Climber] = {}
        for f in fits:
            rival = likeliest.get(f.family)
            if rival is None or _likelihood(f) > _likelihood(rival):
                likeliest[f.family] = f
        return likeliest, max(likeliest.values(), key=self._level, default=None) if self._across else None

    def _hope(self, trace: Trace) -> float | None:
        """The largest of the last estimates; None while they are not settled."""
        if len(trace) < max(self.least, self.settled):
            return None
        found = [gain_left(trace[: len(trace) - back]) for back in range(self.settled)]
        known = [left for left in found if left is not None]
        if len(known) < self.settled or known[0] > known[-1]:  # the latest comes first
            return None
        return max(known)

    def _level(self, fit: Climber) -> float:
        """Log-likelihood per row less what the criterion takes for parameters."""
        params, stats = _known(fit)
        mass = float(stats.total)
        price = 0.5 * float(np.log(mass)) if self.criterion == "bic" else 1.0
        return _likelihood(fit) - price * fit.model.n_parameters(params) / mass


def _ended(fit: Climber) -> bool:
    return fit.reason is not None and not fit.reason.dropped


def _likelihood(fit: Climber) -> float:
    return float(_known(fit)[1].mean_log_likelihood)


def _known(fit: Climber) -> tuple[Any, Any]:
    if fit.best is None:
        raise FitError(f"Candidate {fit.name} has taken no pass yet.", "Compare it after its first.")
    return fit.best
