"""Accelerators wrap the EM map: from a point and its EM update they propose a point further on.

They work on packed, unconstrained parameters. The loop evaluates a proposal in its next pass and
takes it back when it lowers the likelihood, so an accelerator never needs a pass of its own.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from distem.types import Float64


class Accelerator(Protocol):
    """Proposes parameters; None means: take the plain EM step."""

    def propose(self, here: Float64, update: Float64) -> Float64 | None:
        """Return a point beyond `update`, the EM step from `here`, or None."""

    def restart(self) -> None:
        """Forget the past: the last proposal was taken back, or the parameters changed shape."""

    def state(self) -> dict[str, Float64]:
        """What the next proposals depend on, for checkpoints."""

    def restore(self, state: dict[str, Float64]) -> None:
        """Take up the state of a checkpoint."""


@dataclass
class Plain:
    """No acceleration: EM as it is."""

    def propose(self, here: Float64, update: Float64) -> Float64 | None:  # noqa: ARG002
        """Nothing beyond the EM step."""
        return None

    def restart(self) -> None:
        """There is no past."""

    def state(self) -> dict[str, Float64]:
        """There is none."""
        return {}

    def restore(self, state: dict[str, Float64]) -> None:
        """There is none."""


@dataclass
class Anderson:
    """Anderson mixing of the last few EM steps [1]_.

    Parameters
    ----------
    memory : int
        Steps remembered.
    ridge : float
        Tikhonov term of the least-squares problem, relative to its scale.

    References
    ----------
    .. [1] Henderson and Varadhan, Damped Anderson acceleration with restarts and monotonicity
       control for accelerating EM and EM-like algorithms, JCGS 28 (2019).
    """

    memory: int = 8
    ridge: float = 1e-8
    _points: list[Float64] = field(default_factory=list)
    _updates: list[Float64] = field(default_factory=list)

    def propose(self, here: Float64, update: Float64) -> Float64 | None:
        """Combine the remembered updates so that the combined residual is least."""
        self._points = [*self._points, here][-self.memory - 1 :]
        self._updates = [*self._updates, update][-self.memory - 1 :]
        if len(self._points) < 2:
            return None
        residuals = np.stack(self._updates) - np.stack(self._points)
        d_residual, d_update = np.diff(residuals, axis=0), np.diff(np.stack(self._updates), axis=0)
        gram = d_residual @ d_residual.T
        # with the trace as its scale the ridge means the same in any units
        gram[np.diag_indices_from(gram)] += self.ridge * np.trace(gram) + np.finfo(np.float64).tiny
        mix = np.linalg.solve(gram, d_residual @ residuals[-1])
        return np.asarray(update - mix @ d_update)

    def restart(self) -> None:
        """Forget the remembered steps."""
        self._points, self._updates = [], []

    def state(self) -> dict[str, Float64]:
        """The remembered steps."""
        if not self._points:
            return {}
        return {"points": np.stack(self._points), "updates": np.stack(self._updates)}

    def restore(self, state: dict[str, Float64]) -> None:
        """Take up remembered steps."""
        self._points, self._updates = list(state.get("points", [])), list(state.get("updates", []))


@dataclass
class Squarem:
    """Squared extrapolation from two EM steps, scheme S3 [1]_.

    References
    ----------
    .. [1] Varadhan and Roland, Simple and globally convergent methods for accelerating the
       convergence of any EM algorithm, Scandinavian Journal of Statistics 35 (2008).
    """

    _first: Float64 | None = None
    _settling: bool = False

    def propose(self, here: Float64, update: Float64) -> Float64 | None:
        """Every second step, extrapolate along both; then settle with a plain step."""
        if self._settling:
            self._settling = False
            return None
        if self._first is None:
            self._first = here
            return None
        step, bend = here - self._first, (update - here) - (here - self._first)
        bend_norm = float(np.linalg.norm(bend))
        if bend_norm == 0.0:
            self.restart()
            return None
        alpha = min(-1.0, -float(np.linalg.norm(step)) / bend_norm)
        proposal = self._first - 2.0 * alpha * step + alpha**2 * bend
        self._first, self._settling = None, True
        return np.asarray(proposal)

    def restart(self) -> None:
        """Begin a new cycle."""
        self._first, self._settling = None, False

    def state(self) -> dict[str, Float64]:
        """Where in the cycle it stands."""
        state = {"settling": np.array(float(self._settling))}
        return state if self._first is None else state | {"first": self._first}

    def restore(self, state: dict[str, Float64]) -> None:
        """Take up a cycle."""
        self._first = state.get("first")
        self._settling = bool(state.get("settling", np.array(0.0)))


def accelerator(name: str | None) -> Accelerator:
    """The accelerator of a name: none, squarem or anderson."""
    kinds: dict[str, type[Plain] | type[Squarem] | type[Anderson]] = {
        "none": Plain,
        "squarem": Squarem,
        "anderson": Anderson,
    }
    made: Accelerator = kinds[name or "none"]()
    return made
