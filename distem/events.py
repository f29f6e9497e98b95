"""What happens during a run, as values: observers turn them into logs, progress and metrics."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any, ClassVar


@dataclass(frozen=True, slots=True)
class Event:
    """Base of all events."""

    event: ClassVar[str]

    def as_dict(self) -> dict[str, Any]:
        """The event as plain values, for one JSON line."""
        fields = {name.rstrip("_"): value for name, value in asdict(self).items()}
        return {"event": self.event, **fields}


@dataclass(frozen=True, slots=True)
class PhaseStarted(Event):
    """A phase begins: scan, seed, fit, assign or finalise."""

    event: ClassVar[str] = "phase"
    phase: str


@dataclass(frozen=True, slots=True)
class PassDone(Event):
    """One candidate after one pass over the data.

    Attributes
    ----------
    pass_ : int
        Number of the pass, from 1.
    candidate : str
        Name of the candidate.
    log_likelihood : float
        Mean per row, of the parameters the pass started from, in the data's own units.
    gain_left : float or None
        Estimated gain per row still to come; None while nothing can be said.
    accepted : bool
        False when an accelerated step lowered the likelihood and was taken back.
    seconds : float
        Duration of the whole pass, all candidates together.
    rows_per_s : float
        Rows of the data per second of the pass.
    """

    event: ClassVar[str] = "pass"
    pass_: int
    candidate: str
    log_likelihood: float
    gain_left: float | None
    accepted: bool
    seconds: float
    rows_per_s: float


@dataclass(frozen=True, slots=True)
class ComponentCollapsed(Event):
    """A component lost its rows or its spread, and was put elsewhere or dropped."""

    event: ClassVar[str] = "collapsed"
    pass_: int
    candidate: str
    component: int
    action: str

    @property
    def message(self) -> str:
        """What happened, in a sentence."""
        return (
            f"Component {self.component} of candidate {self.candidate} collapsed in pass {self.pass_} "
            f"and was {self.action}."
        )


@dataclass(frozen=True, slots=True)
class CandidateDone(Event):
    """A candidate stopped, and why."""

    event: ClassVar[str] = "candidate"
    candidate: str
    passes: int
    converged: bool
    reason: str


@dataclass(frozen=True, slots=True)
class CandidateDropped(Event):
    """A candidate cannot win any more and leaves the sweep, and why."""

    event: ClassVar[str] = "dropped"
    candidate: str
    passes: int
    reason: str


@dataclass(frozen=True, slots=True)
class CandidateBack(Event):
    """A candidate that was dropped goes on, for the one ahead of it fell."""

    event: ClassVar[str] = "back"
    candidate: str


@dataclass(frozen=True, slots=True)
class Resumed(Event):
    """The run goes on from a checkpoint."""

    event: ClassVar[str] = "resumed"
    passes: int


@dataclass(frozen=True, slots=True)
class Warned(Event):
    """Something legal but worth a look."""

    event: ClassVar[str] = "warning"
    message: str


@dataclass(frozen=True, slots=True)
class Note(Event):
    """A fact for the log."""

    event: ClassVar[str] = "note"
    message: str


Observer = Callable[[Event], None]


def silent(_: Event) -> None:
    """Observe nothing."""
