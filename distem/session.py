"""What a pipeline works with, and what its stages hand on to one another."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, field
from typing import Any

from distem._version import __version__
from distem.config import Config
from distem.data.checkpoint import CheckpointStore
from distem.data.folder import RunFolder
from distem.data.lease import Lease
from distem.data.scan import Scan
from distem.data.source import Source
from distem.data.transform import Transform
from distem.data.unchanged import Unchanged
from distem.em.loop import Climb, Fit
from distem.em.selection import Score
from distem.events import ComponentCollapsed, Event, Observer, PassDone, Warned
from distem.execution.base import BlockSet, Executor
from distem.fitted import FittedModel
from distem.matching import Numbered
from distem.models import seeding
from distem.models.base import Model
from distem.plan import Plan
from distem.types import Pass, S


@dataclass
class Session:
    """What a pipeline works with: a config, a cluster, a run folder, observers.

    Attributes
    ----------
    config : Config
        The resolved config.
    executor : Executor
        Where passes run.
    folder : RunFolder
        Where the results go; locked for this process.
    source : Source
        The data.
    plan : Plan
        What the run promised.
    observer : callable
        Is told every event.
    interruptible : callable
        A context in which a signal ends the run at once; outside it waits for the context to come.
    lease : Lease
        The right to write to the folder, shown again before anything is published.
    warnings : list of str
        What was worth a look, for manifest and report.
    facts : dict
        What the scan found out about the data, for the manifest.
    pass_seconds : list of float
        Duration of each pass of the fit, those before an interruption included.
    sampled : list of dict
        Rows of the samples that were climbed on first, and the passes over each.
    unchanged : Unchanged or None
        The data's files as the scan found them.
    resources : ExitStack
        What is closed when the run ends.
    watched : bool
        Whether observers want to see what the fits look like on their way.
    """

    config: Config
    executor: Executor
    folder: RunFolder
    source: Source
    plan: Plan
    observer: Observer
    interruptible: Callable[[], AbstractContextManager[None]]
    lease: Lease
    warnings: list[str] = field(default_factory=list)
    facts: dict[str, Any] = field(default_factory=dict)
    pass_seconds: list[float] = field(default_factory=list)
    sampled: list[dict[str, int]] = field(default_factory=list)
    unchanged: Unchanged | None = None
    resources: ExitStack = field(default_factory=ExitStack)
    watched: bool = False

    @property
    def checkpoints(self) -> CheckpointStore:
        """Where the run's state is kept while it is unfinished."""
        return self.folder.checkpoints(self.lease.confirm, lambda message: self.observe(Warned(message)))

    @property
    def identity(self) -> str:
        """SHA-256 of what decides the result: config, data, version; known once the data was scanned."""
        about = [self.config.hash(), self.facts["fingerprint"], __version__]
        return hashlib.sha256("\n".join(about).encode()).hexdigest()

    def observe(self, event: Event) -> None:
        """Tell the observers; keep what the result needs of it."""
        if isinstance(event, Warned | ComponentCollapsed) and event.message not in self.warnings:
            self.warnings.append(event.message)
        if isinstance(event, PassDone) and event.pass_ > len(self.pass_seconds):
            self.pass_seconds.append(event.seconds)
        self.observer(event)

    def still_the_same(self) -> None:
        """Refuse data whose files changed since the scan, if passes may have read them since.

        Raises
        ------
        DataError
            Names the array and the chunk.
        """
        read_again = not self.plan.resident or self.executor.may_read_again
        if self.unchanged is not None and read_again:
            self.unchanged.require()

    def passes(self, blocks: BlockSet) -> BlockSet:
        """Blocks whose passes a signal may drop."""
        return _Interruptible(blocks, self.interruptible, self.lease)


@dataclass(frozen=True)
class _Interruptible:
    blocks: BlockSet
    interruptible: Callable[[], AbstractContextManager[None]]
    lease: Lease

    @property
    def partitions(self) -> list[tuple[int, int]]:
        return self.blocks.partitions

    def map_reduce(self, run: Pass[S]) -> S:
        self.lease.check()
        with self.interruptible():
            return self.blocks.map_reduce(run)


@dataclass(frozen=True, eq=False)
class Scanned:
    """The data after one look at all of it.

    Attributes
    ----------
    scan : Scan
        Counts, means, variances, extremes.
    transform : Transform
        From the data's units to the model's.
    blocks : BlockSet
        Transformed rows, resident or streamed.
    fingerprint : str
        SHA-256 of what the data is and holds; no path and no clock in it.
    """

    scan: Scan
    transform: Transform
    blocks: BlockSet
    fingerprint: str


@dataclass(frozen=True, eq=False)
class Seeded:
    """Fits that are ready to climb, and the sample they started from."""

    climbs: list[Climb]
    models: dict[str, Model]
    starts: dict[str, Any]
    sample: seeding.Sample


@dataclass(frozen=True, eq=False)
class Fitted:
    """All fits, the one that was chosen, and why others were dropped, fits without a fold among them."""

    fits: dict[str, Fit]
    scores: dict[str, Score]
    chosen: str
    model: FittedModel
    start: FittedModel
    dropped: dict[str, str]
    numbered: Numbered | None = None
    """How components were numbered after those of `output.match`."""

    @property
    def fit(self) -> Fit:
        """The chosen fit."""
        return self.fits[self.chosen]
