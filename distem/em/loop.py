"""The EM loop: E-step, reduce, stop?, M-step, observe. Any number of fits share each pass.

A `Climb` is one fit on its way up. It is advanced by the statistics of a pass and holds all that
the next pass depends on, so a checkpoint of it resumes with the same bits.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Self

import numpy as np

from distem.em.acceleration import Accelerator, Plain
from distem.em.dropping import Hopeless
from distem.em.folds import Folds
from distem.em.links import Linked, Linker, Messages
from distem.em.repair import Repair
from distem.em.stopping import Reason, StopRule, TracePoint, gain_left
from distem.errors import FitError
from distem.events import (
    CandidateBack,
    CandidateDone,
    CandidateDropped,
    ComponentCollapsed,
    Event,
    Observer,
    PassDone,
    PassTimed,
    silent,
)
from distem.execution.base import BlockSet, Span, one_blas_thread
from distem.models.base import Model
from distem.types import Float64, Rows

ROUNDING = 1e-12
"""An accelerated step is taken back when the likelihood falls by more than this share of itself."""


@dataclass(frozen=True, slots=True)
class SweepStats:
    """Statistics of several fits over the same rows."""

    each: tuple[Any, ...]

    def __add__(self, other: Self) -> Self:
        return type(self)(tuple(a + b for a, b in zip(self.each, other.each, strict=True)))


@dataclass(frozen=True)
class EStep:
    """The pass: the E-steps of several fits on each block, while it is in cache.

    Attributes
    ----------
    fits : tuple of (Model, parameters)
        What shares the pass.
    names : tuple of str
        Under which each fit finds what its last pass left beside a block; nothing is kept without.
    held : tuple of (int or None)
        For each fit the fold it works without; None: it works on all rows. Empty: all do.
    folds : Folds or None
        Which rows belong to which fold.
    messages : Messages or None
        What reaches the blocks from outside, for models of chains.
    """

    fits: tuple[tuple[Model, Any], ...]
    names: tuple[str, ...] = ()
    held: tuple[int | None, ...] = ()
    folds: Folds | None = None
    messages: Messages | None = None
    name: ClassVar[str] = "e-step"

    def within(self, span: Span) -> EStep:
        """The same with the messages of a span of blocks only."""
        return self if self.messages is None else replace(self, messages=self.messages.within(span))

    def __call__(self, rows: Rows, block: int) -> SweepStats:
        """Statistics of each fit on this block."""
        slots = self._slots(rows)
        if self.messages is not None:
            said = self.messages.at(block)
            return SweepStats(
                tuple(
                    model.e_step(slot, params, *([] if message is None else [message]))
                    for slot, (model, params), message in zip(slots, self.fits, said, strict=True)
                )
            )
        if self.folds is None:
            each = zip(slots, self.fits, strict=True)
            return SweepStats(tuple(model.e_step(slot, params) for slot, (model, params) in each))
        parted = self.folds.parted(rows)  # without memory: what is beside a block is about all its rows
        return SweepStats(
            tuple(
                model.e_step(slot, params) if fold is None else parted.e_step(model, params, fold)
                for slot, (model, params), fold in zip(slots, self.fits, self.held, strict=True)
            )
        )

    def _slots(self, rows: Rows) -> list[Rows]:
        """The rows once for each fit, with what that fit keeps beside them."""
        if rows.memory is None or not self.names:
            return [replace(rows, memory=None)] * len(self.fits)
        for ended in set(rows.memory).difference(self.names):
            del rows.memory[ended]
        return [rows.slot(name) for name in self.names]


@dataclass(frozen=True, slots=True)
class Fit:
    """How a fit ended.

    Attributes
    ----------
    params : object
        The best parameters whose likelihood is known.
    stats : object
        Statistics under `params`: one more M-step costs no pass.
    trace : tuple of TracePoint
        One entry a pass.
    reason : Reason
        Why it stopped, and whether it converged.
    """

    params: Any
    stats: Any
    trace: tuple[TracePoint, ...]
    reason: Reason

    @property
    def log_likelihood(self) -> float:
        """Mean per row under `params`."""
        return float(self.stats.mean_log_likelihood)


def fell(before: Any, value: float) -> bool:
    """Whether a log-likelihood per row is below that of earlier statistics, beyond rounding."""
    level = float(before.mean_log_likelihood)
    return value < level - ROUNDING * max(1.0, abs(level))


@dataclass
class Climb:
    """One fit on its way: advanced once a pass until it has a reason to stop.

    Restarts of one candidate on the same rows have a `family` in common; `held` is the fold whose rows a
    fit never sees.
    """

    name: str
    model: Model
    params: Any
    stop: StopRule
    repair: Repair
    accelerator: Accelerator = field(default_factory=Plain)
    trace: list[TracePoint] = field(default_factory=list)
    reason: Reason | None = None
    repairs: int = 0
    fresh: bool = False
    fallback: Any = None
    best: tuple[Any, Any] | None = None
    family: str = ""
    held: int | None = None

    def advance(self, stats: Any) -> list[Event]:
        """Take in the statistics of `params` and move on; return what is worth telling."""
        value = float(stats.mean_log_likelihood)
        if not np.isfinite(value):
            raise FitError(
                f"The log-likelihood of candidate {self.name} is {value} in pass {len(self.trace) + 1}.",
                "Check the data for extreme values, or set data.scale: standard.",
            )
        accepted = self.fallback is None or self.best is None or not fell(self.best[1], value)
        shift = self.model.shift(stats, self.params)
        self.trace.append(TracePoint(value, accepted, self.fresh, shift))
        self.fresh = False
        if accepted:
            self.best = (self.params, stats)
        self.reason = self.stop(self.trace)
        if self.reason is not None:
            return [CandidateDone(self.name, len(self.trace), self.reason.converged, self.reason.sentence)]
        if not accepted:
            self.params, self.fallback = self.fallback, None
            self.accelerator.taken_back()
            return []
        return self._step(stats)

    def _step(self, stats: Any) -> list[Event]:
        update = self.model.m_step(stats, self.params)
        collapsed = self.model.collapsed(stats, update)
        if collapsed:
            self.params, events = self._mend(update, collapsed)
            self.fallback, self.fresh = None, True
            self.accelerator.restart()
            return events
        proposal = self._proposal(update, float(stats.mean_log_likelihood))
        self.params, self.fallback = (update, None) if proposal is None else (proposal, update)
        return []

    def _mend(self, params: Any, collapsed: Sequence[int]) -> tuple[Any, list[Event]]:
        events: list[Event] = []
        ill = sorted(collapsed)[-max(params.k - 1, 0) :]  # one stays, where all have collapsed
        for component in reversed(ill):  # from the last, so that dropping shifts none to come
            key = (len(self.trace), component)
            params, action = self.repair.mend(self.model, params, component, key=key, done=self.repairs)
            self.repairs += 1
            events.append(ComponentCollapsed(len(self.trace), self.name, component, action))
        return params, events

    def _proposal(self, update: Any, value: float) -> Any:
        if isinstance(self.accelerator, Plain):
            return None
        vector = self.accelerator.propose(
            self.model.pack(self.params),
            self.model.pack(update),
            value=value,
            natural=lambda differences: self.model.natural(differences, self.params),
        )
        if vector is None:
            return None
        proposal = self._unpacked(vector, update)
        if proposal is None:
            self.accelerator.taken_back()
        return proposal

    def _unpacked(self, vector: Float64, update: Any) -> Any:
        """The parameters of a proposal; None where there are no such."""
        if not np.isfinite(vector).all():
            return None
        with np.errstate(over="ignore", invalid="ignore"):
            try:
                proposal = self.model.unpack(vector, update)
            except (np.linalg.LinAlgError, ValueError, FloatingPointError):
                return None
        finite = all(np.isfinite(a).all() for a in self.model.arrays(proposal).values())
        return proposal if finite else None

    @property
    def fit(self) -> Fit:
        """The ended fit."""
        if self.reason is None or self.best is None:
            raise FitError(f"Candidate {self.name} has not ended.", "Run the loop first.")
        return Fit(*self.best, tuple(self.trace), self.reason)


def _drop(climbs: Sequence[Climb], rule: Hopeless) -> list[Event]:
    """Let go of hopeless fits, and take back those that are not any more."""
    events: list[Event] = []
    found = rule(climbs)
    for fit in climbs:
        dropped = fit.reason is not None and fit.reason.dropped
        if fit.name in found and not dropped:
            fit.reason = found[fit.name]
            events.append(CandidateDropped(fit.name, len(fit.trace), fit.reason.sentence))
        elif dropped and fit.name not in found:
            fit.reason = None
            events.append(CandidateBack(fit.name))
    return events


def _e_step(live: Sequence[Climb], folds: Folds | None, linker: Linker) -> EStep:
    fits, held = tuple((c.model, c.params) for c in live), tuple(c.held for c in live)
    names = tuple(c.name for c in live)
    if all(fold is None for fold in held):
        return EStep(fits, names, messages=linker.messages(fits))
    if folds is None:
        raise FitError("A fit is to work without a fold, but there are no folds.", "Give climb the folds.")
    if any(isinstance(model, Linked) for model, _ in fits):
        raise FitError(
            "Rows of a chain cannot be held out one by one: those beside them tell of them.",
            "Select by bic, aic or icl.",
        )
    return EStep(fits, names, held, folds)


def climb(
    climbs: Sequence[Climb],
    blocks: BlockSet,
    *,
    observe: Observer = silent,
    after_pass: Callable[[], None] | None = None,
    offset: float = 0.0,
    drop: Hopeless | None = None,
    folds: Folds | None = None,
) -> None:
    """Advance all fits, sharing each pass over the data, until every one has a reason to stop.

    Where chains of rows reach over blocks, an iteration reads the rows twice: what reaches each block is
    found out first.

    Parameters
    ----------
    climbs : sequence of Climb
        Fits that begin, or go on from a checkpoint.
    blocks : BlockSet
        The data.
    observe : callable
        Is told each event.
    after_pass : callable, optional
        Called when all fits are ready for their next pass: the place for checkpoints. May raise.
    offset : float
        Added to reported log-likelihoods, so that they are in the data's own units.
    drop : Hopeless, optional
        Which fits to go on without, after each pass.
    folds : Folds, optional
        Which rows the fits with `held` work without.
    """
    linker = Linker(blocks)
    rows = 0
    while live := [c for c in climbs if c.reason is None]:
        started = time.perf_counter()
        stats = blocks.map_reduce(_e_step(live, folds, linker))
        told: list[Event] = []
        reduced = time.perf_counter()
        with one_blas_thread():
            for fit, part in zip(live, stats.each, strict=True):
                told += fit.advance(part)
            if drop is not None:
                told += _drop(climbs, drop)
        ended = time.perf_counter()
        seconds = ended - started
        rows = max(
            rows, *(part.n for part in stats.each)
        )  # a fit without a fold sees fewer than are gone over
        for fit in live:
            point = fit.trace[-1]
            observe(
                PassDone(
                    pass_=len(fit.trace),
                    candidate=fit.name,
                    log_likelihood=point.log_likelihood + offset,
                    gain_left=gain_left(fit.trace),
                    accepted=point.accepted,
                    seconds=seconds,
                    rows_per_s=rows / seconds,
                )
            )
        for event in told:
            observe(event)
        number = max(len(fit.trace) for fit in live)
        observe(PassTimed(number, len(live), seconds, ended - reduced))
        if after_pass is not None:
            after_pass()
