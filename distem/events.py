"""What happens during a run, as values: observers turn them into logs, progress and metrics."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any, ClassVar

WITHOUT = " without fold "
"""What names of fits say that never see a share of the rows: their likelihoods are of other rows."""


@dataclass(frozen=True, slots=True)
class Event:
    """Base of all events."""

    event: ClassVar[str]
    logged: ClassVar[bool] = True
    """Whether it goes into the log; what is for pictures only does not."""

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
class Planned(Event):
    """What the run is going to do.

    Attributes
    ----------
    model : str
        Kind of the model.
    rows, features, blocks, partitions, candidates : int
        Sizes of the job.
    workers, threads : int
        Processes, and threads over all of them.
    resident : bool
        Whether rows stay in memory between passes.
    bytes_read_per_pass : int
        Decoded bytes; 0 when resident, after the first.
    tolerance : float
        Expected gain per row at which a fit stops.
    max_passes : int
        Passes after which it stops at the latest.
    title, part, objective, step : str
        What people call the model, one of its k, what its fit climbs on, and one point of its trace.
    """

    event: ClassVar[str] = "plan"
    model: str
    rows: int
    features: int
    blocks: int
    partitions: int
    candidates: int
    workers: int
    threads: int
    resident: bool
    bytes_read_per_pass: int
    tolerance: float
    max_passes: int
    title: str = ""
    part: str = "component"
    objective: str = "log-likelihood"
    step: str = "pass"


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
        Rows of the data per second of the pass, whichever of them the candidate sees.
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
class PassTimed(Event):
    """A pass is over, for all candidates that shared it.

    Attributes
    ----------
    pass_ : int
        Number of the pass, from 1.
    fits : int
        How many shared it.
    seconds : float
        Duration of the whole pass.
    step_seconds : float
        Of these, what the M-steps took.
    """

    event: ClassVar[str] = "timing"
    pass_: int
    fits: int
    seconds: float
    step_seconds: float


@dataclass(frozen=True, slots=True)
class Shares(Event):
    """Weights of the components of each candidate after a pass; not logged.

    Attributes
    ----------
    pass_ : int
        Number of the pass.
    leading : str
        The candidate with the highest log-likelihood so far.
    weights : dict
        By candidate.
    """

    event: ClassVar[str] = "shares"
    logged: ClassVar[bool] = False
    pass_: int
    leading: str
    weights: dict[str, list[float]]


@dataclass(frozen=True, slots=True)
class Picture(Event):
    """The leading mixture on the two features that tell most, in the data's own units; not logged.

    Attributes
    ----------
    candidate : str
    pass_ : int
    axes : list of str
        Labels of the two features, with units.
    means : list, shape (k, 2)
    covariances : list, shape (k, 2, 2)
    weights : list, shape (k,)
    image : dict or None
        Density of a sample: `counts` (bytes, row by row from below), `side`, and where it lies, `x` and
        `y`. None where the last one still holds.
    """

    event: ClassVar[str] = "picture"
    logged: ClassVar[bool] = False
    candidate: str
    pass_: int
    axes: list[str]
    means: list[list[float]]
    covariances: list[list[list[float]]]
    weights: list[float]
    image: dict[str, Any] | None


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


@dataclass(frozen=True, slots=True)
class Ended(Event):
    """The last event of an attempt.

    Attributes
    ----------
    status : str
        complete, interrupted or failed.
    seconds : float
        All attempts together.
    error : str
        What ended it, as the manifest and the terminal have it; empty where it completed.
    """

    event: ClassVar[str] = "end"
    status: str
    seconds: float
    error: str = ""


Observer = Callable[[Event], None]


def silent(_: Event) -> None:
    """Observe nothing."""
