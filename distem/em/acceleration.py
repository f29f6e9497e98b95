"""Accelerators wrap the EM map: from a point and its EM update they propose a point further on.

They work on packed, unconstrained parameters. The loop evaluates a proposal in its next pass and
takes it back when it lowers the likelihood, so an accelerator never needs a pass of its own.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import astuple, dataclass, field
from typing import Protocol

import numpy as np

from distem.types import Float64

Natural = Callable[[Float64], Float64]
"""Turns differences of packed parameters, shape (m, p), into units of the complete data's information."""


class Accelerator(Protocol):
    """Proposes parameters; None means: take the plain EM step."""

    def propose(self, here: Float64, update: Float64, *, value: float, natural: Natural) -> Float64 | None:
        """Return a point beyond `update`, the EM step from `here`, or None.

        Parameters
        ----------
        here, update : ndarray, shape (p,)
            Packed parameters, and those after their M-step.
        value : float
            Log-likelihood per row at `here`.
        natural : callable
            Differences of packed parameters in natural units at `here`.
        """

    def taken_back(self) -> None:
        """The last proposal lowered the likelihood, or was none at all: the EM step is taken instead."""

    def restart(self) -> None:
        """Forget the past: the parameters jumped, or changed shape."""

    def carried(self) -> dict[str, Float64]:
        """What a climb on more rows may begin with, for `restore`."""

    def state(self) -> dict[str, Float64]:
        """What the next proposals depend on, for checkpoints."""

    def restore(self, state: dict[str, Float64]) -> None:
        """Take up the state of a checkpoint."""


@dataclass
class Plain:
    """No acceleration: EM as it is."""

    def propose(self, here: Float64, update: Float64, *, value: float, natural: Natural) -> Float64 | None:  # noqa: ARG002
        """Nothing beyond the EM step."""
        return None

    def taken_back(self) -> None:
        """Nothing was proposed."""

    def restart(self) -> None:
        """There is no past."""

    def carried(self) -> dict[str, Float64]:
        """There is nothing."""
        return {}

    def state(self) -> dict[str, Float64]:
        """There is none."""
        return {}

    def restore(self, state: dict[str, Float64]) -> None:
        """There is none."""


@dataclass
class Anderson:
    """Anderson mixing of type I [1]_, symmetric, in natural units, within a trust region.

    In units in which the information of the complete data is the identity, an EM step is the gradient
    of the log-likelihood, and its Jacobian is symmetric. The remembered steps S and the changes Y of
    the EM step along them give the curvature h of each direction they span: 1 where EM is as good as Newton,
    near 0 where it creeps, negative near a saddle. There the step is divided by abs(h), which leads on uphill
    where mixing of type II would turn back to the saddle. A step is at most as long as the radius
    within which the last ones kept what they promised, but never shorter than EM's own.

    EM goes alone while its steps are long, for so early a leap may end in the basin of a worse
    optimum, and where they shrink fast, for there it is as good as Newton.

    Parameters
    ----------
    memory : int
        Steps remembered.
    settled : float
        Length of an EM step from which on something is proposed, in natural units: half its square is about
        the gain in log-likelihood per row.
    quick : float
        Nothing is proposed when the EM step is shorter than this times the one before.
    flattest : float
        Least curvature that is believed.
    parallel : float
        Steps are combined as far as their correlation matrix has eigenvalues above this share of the largest.

    References
    ----------
    .. [1] Fang and Saad, Two classes of multisecant methods for nonlinear acceleration, Numerical
       Linear Algebra with Applications 16 (2009). The metric: Jamshidian and Jennrich, Acceleration of the EM
       algorithm by using quasi-Newton methods, JRSS B 59 (1997).
    """

    memory: int = 5
    settled: float = 0.05
    quick: float = 0.5
    flattest: float = 1e-3
    parallel: float = 1e-6
    _steps: list[Float64] = field(default_factory=list)
    _changes: list[Float64] = field(default_factory=list)
    _known: tuple[Float64, Float64] | None = None
    _last: tuple[Float64, Float64] | None = None
    _radius: float = np.inf
    _promise: _Promise | None = None

    def propose(self, here: Float64, update: Float64, *, value: float, natural: Natural) -> Float64 | None:
        """Divide the EM step by the curvature where that is known."""
        step = update - here
        if not np.isfinite(step).all():
            self.restart()
            return None
        self._judge(value)
        before = None
        if self._last is not None:
            point, before = self._last
            self._steps = [*self._steps, here - point][-self.memory :]
            self._changes = [*self._changes, before - step][-self.memory :]
        self._last = here, step
        steps, changes = self._pairs()
        if not steps:
            return None
        vectors = np.stack([*steps, *changes, step])
        units = natural(vectors)
        products = units @ units.T
        if not np.isfinite(products).all() or products[-1, -1] <= 0.0:
            return None
        # the change and what is left of it: the EM step before
        shortest = 0.0 if before is None else self.quick * float(np.linalg.norm(units[-1] + units[-2]))
        if not shortest <= np.sqrt(products[-1, -1]) <= self.settled:
            return None
        mix = self._mix(products, len(steps))
        if mix is None:
            return None
        em, length = float(np.sqrt(products[-1, -1])), float(np.sqrt(max(float(mix @ products @ mix), 0.0)))
        if not np.isfinite(self._radius):
            # a curvature known in all directions is good for a whole step at once
            self._radius = FIRST_RADIUS * em if self._known is None else length
        limit = max(self._radius, em)
        if length > limit:
            mix = mix * (limit / length)
        self._promise = _Promise(value, products[-1] @ mix / 2.0, min(length, limit), length > limit)
        return np.asarray(here + mix @ vectors)

    def _pairs(self) -> tuple[list[Float64], list[Float64]]:
        """Steps and the changes of the EM step along them: those known from elsewhere, then its own."""
        if self._known is None:
            return self._steps, self._changes
        return [*self._known[0], *self._steps], [*self._known[1], *self._changes]

    def _mix(self, products: Float64, m: int) -> Float64 | None:
        """Coefficients of m steps, m changes and the EM step in the proposal, from their inner products."""
        sizes = np.sqrt(np.diagonal(products)[:m])
        if not (sizes > 0.0).all():
            return None
        spread, axes = np.linalg.eigh(products[:m, :m] / sizes[:, None] / sizes)
        kept = spread > self.parallel * spread[-1]
        basis = axes[:, kept] / sizes[:, None] / np.sqrt(spread[kept])  # of steps, orthonormal
        curvature = basis.T @ products[:m, m : 2 * m] @ basis
        curvatures, turn = np.linalg.eigh((curvature + curvature.T) / 2.0)
        basis = basis @ turn
        far = basis @ ((basis.T @ products[:m, -1]) / np.maximum(np.abs(curvatures), self.flattest))
        mix = np.concatenate([far, -far, [1.0]])
        if products[-1] @ mix > 0.0:
            return mix
        # what the step means for other directions misleads: leave these to EM
        mix = np.concatenate([far - basis @ (basis.T @ products[:m, -1]), np.zeros(m), [1.0]])
        return mix if products[-1] @ mix > 0.0 else None

    def _judge(self, value: float) -> None:
        """Widen or narrow the radius by what became of the last proposal."""
        if self._promise is None:
            return
        promised = self._promise
        kept = (value - promised.value) / promised.gain
        if kept > 1.2 or (kept > 0.5 and promised.limited):
            self._radius = 2.0 * max(self._radius, promised.length)
        elif kept < 0.1:
            self._radius = promised.length / 2.0
        self._promise = None

    def taken_back(self) -> None:
        """Narrow the radius; what was learnt of the curvature holds."""
        if self._promise is not None:
            self._radius = self._promise.length / 4.0
        self._promise = None

    def carried(self) -> dict[str, Float64]:
        """What other rows of the same kind may begin with: the curvature, not the place."""
        if not self._steps:
            return {}
        return {"steps": np.stack(self._steps), "changes": np.stack(self._changes)}

    def restart(self) -> None:
        """Forget the remembered steps."""
        self._steps, self._changes, self._last, self._known = [], [], None, None
        self._radius, self._promise = np.inf, None

    def state(self) -> dict[str, Float64]:
        """The remembered steps, the radius, the last promise."""
        state = self.carried()
        if self._last is not None:
            state |= {"point": self._last[0], "step": self._last[1], "radius": np.array(self._radius)}
        if self._promise is not None:
            state["promise"] = np.array(astuple(self._promise), dtype=np.float64)
        if self._known is not None:
            state |= {"known_steps": self._known[0], "known_changes": self._known[1]}
        return state

    def restore(self, state: dict[str, Float64]) -> None:
        """Take up remembered steps."""
        self.restart()
        if "point" in state:
            self._last, self._radius = (state["point"], state["step"]), float(state["radius"])
        self._steps, self._changes = list(state.get("steps", [])), list(state.get("changes", []))
        if "known_steps" in state:
            self._known = state["known_steps"], state["known_changes"]
        if "promise" in state:
            value, gain, length, limited = state["promise"].tolist()
            self._promise = _Promise(value, gain, length, bool(limited))


FIRST_RADIUS = 2.0
"""The first proposal goes at most so many EM steps far."""


@dataclass(frozen=True, slots=True)
class _Promise:
    """What a proposal was expected to bring: from `value`, a gain, over a length, cut short or not."""

    value: float
    gain: float
    length: float
    limited: bool


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

    def propose(self, here: Float64, update: Float64, *, value: float, natural: Natural) -> Float64 | None:  # noqa: ARG002
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

    def taken_back(self) -> None:
        """Begin a new cycle."""
        self.restart()

    def restart(self) -> None:
        """Begin a new cycle."""
        self._first, self._settling = None, False

    def carried(self) -> dict[str, Float64]:
        """There is nothing."""
        return {}

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
