"""What the scheduler remembers of runs: a fold over events, bounded whatever happens.

Everything the page and the metrics show is in here. The module knows no cluster and imports nothing of
distem, so that it can be sent to a scheduler where distem is not installed.
"""

from __future__ import annotations

import re
import statistics
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

MOST_RUNS = 8
MOST_POINTS = 600
"""Points of a line; beyond, every other one goes."""
MOST_CANDIDATES = 120
MOST_WORKERS = 200
STRAGGLES = 1.5
"""A worker straggles when its tasks take so many times the median worker's."""

WITHOUT = " without fold "
"""What names of fits say that never see a share of the rows: their likelihoods are of other rows."""

PARTS = ("reading", "computing", "reducing", "waiting")
_KEY = re.compile(r"^([a-z][a-z-]*?)-([0-9a-f]{8})-(\d+)(?:-|$)")


def task_of(key: object) -> tuple[str, str, int] | None:
    """What a task does, the token of its driver and the number of its pass; None for other tasks."""
    found = _KEY.match(key) if isinstance(key, str) else None
    return None if found is None else (found[1], found[2], int(found[3]))


def thinned(points: list[Any]) -> None:
    """Halve a line that is too long, its first and last points kept."""
    if len(points) > MOST_POINTS:
        points[:] = [*points[:-1:2], points[-1]]


@dataclass
class Candidate:
    """A fit: its line, and how it stands."""

    passes: list[int] = field(default_factory=list)
    log_likelihood: list[float] = field(default_factory=list)
    gain_left: list[float | None] = field(default_factory=list)
    status: str = "running"
    reason: str = ""

    def add(self, number: int, value: float, gain: float | None) -> None:
        """Take in a pass; one that was seen before begins again there."""
        while self.passes and self.passes[-1] >= number:
            self.status, self.reason = "running", ""
            for line in (self.passes, self.log_likelihood, self.gain_left):
                line.pop()
        self.passes.append(number)
        self.log_likelihood.append(value)
        self.gain_left.append(gain)
        for points in (self.passes, self.log_likelihood, self.gain_left):
            thinned(points)


@dataclass
class Tasks:
    """Tasks of one pass: how many there are, who did how many, and in how many seconds."""

    name: str
    number: int
    total: int = 0
    done: dict[str, int] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)

    @property
    def finished(self) -> int:
        """Tasks that are done."""
        return sum(self.done.values())


@dataclass
class Totals:
    """What was counted in one phase of a run."""

    passes: int = 0
    rows: float = 0.0
    bytes: float = 0.0
    tasks: int = 0
    warnings: int = 0
    told: float = 0.0
    seconds: dict[str, float] = field(default_factory=lambda: dict.fromkeys(PARTS, 0.0))


@dataclass
class Run:
    """One run as the scheduler knows it."""

    id: str
    name: str
    token: str = ""
    client: str = ""
    status: str = "running"
    phase: str = "start"
    began: float = 0.0
    heard: float = 0.0
    plan: dict[str, Any] = field(default_factory=dict)
    candidates: dict[str, Candidate] = field(default_factory=dict)
    leading: str = ""
    shares: dict[str, list[tuple[int, list[float]]]] = field(default_factory=dict)
    picture: dict[str, Any] | None = None
    image: dict[str, Any] | None = None
    timings: list[dict[str, float]] = field(default_factory=list)
    passes: int = 0
    totals: dict[str, Totals] = field(default_factory=dict)
    said: deque[str] = field(default_factory=lambda: deque(maxlen=6))
    seconds_left: float | None = None
    spent: float = 0.0
    tasks: Tasks | None = None
    before: Tasks | None = None
    version: int = 0
    _since: dict[str, float] = field(default_factory=dict)
    _untold: float = 0.0

    @property
    def counted(self) -> Totals:
        """What is counted in this phase: it begins at nothing, and goes on where the phase comes again."""
        return self.totals.setdefault(self.phase, Totals())

    def take(self, events: Sequence[Mapping[str, Any]]) -> None:
        """Take in the events of a message: what tasks did since the last one is shared among its passes."""
        self._untold = sum(float(event["seconds"]) for event in events if event["event"] == "passes")
        for event in events:
            self.fold(event)

    def fold(self, event: Mapping[str, Any]) -> None:
        """Take in an event, as the driver's observer sends it."""
        take = getattr(self, f"_{event['event']}", None)
        if take is not None:
            take(event)
        self.version += 1

    def _phase(self, event: Mapping[str, Any]) -> None:
        self.phase = str(event["phase"])
        self.totals.setdefault(self.phase, Totals())
        self._since = {}

    def _plan(self, event: Mapping[str, Any]) -> None:
        self.plan = dict(event)

    def _passes(self, event: Mapping[str, Any]) -> None:
        for number, fits in event["passes"]:
            for name, (value, gain) in fits.items():
                if name not in self.candidates and len(self.candidates) >= MOST_CANDIDATES:
                    continue
                self.candidates.setdefault(name, Candidate()).add(number, value, gain)
            self.passes = number
        count, seconds = max(1, int(event["count"])), float(event["seconds"])
        rows = float(event["rows"])
        self.counted.passes += count
        self.counted.rows += rows * count
        self.seconds_left = event.get("seconds_left")
        self._time(count, seconds, float(event["step_seconds"]), rows)

    def _time(self, count: int, seconds: float, step: float, rows: float) -> None:
        threads = max(1, int(self.plan.get("threads", 1)))
        part = min(1.0, seconds / self._untold) if self._untold > 0.0 else 1.0
        since = {key: part * value for key, value in self._since.items()}
        self._since = {key: (1.0 - part) * value for key, value in self._since.items()}
        self._untold -= seconds
        read = min(seconds, since.get("reading", 0.0) / threads)
        compute = min(seconds - read, max(0.0, since.get("computing", 0.0)) / threads)
        reduce = min(seconds - read - compute, since.get("reducing", 0.0) / threads + step)
        spent = dict(
            zip(PARTS, (read, compute, reduce, max(0.0, seconds - read - compute - reduce)), strict=True)
        )
        for name, value in spent.items():
            self.counted.seconds[name] += value
        size = since.get("bytes", 0.0)
        self.counted.bytes += size
        while self.timings and self.timings[-1]["pass"] >= self.passes:
            self.timings.pop()
        self.timings.append(
            {"pass": float(self.passes), "seconds": seconds / count}
            | {name: value / count for name, value in spent.items()}
            | {
                "rows_per_s": rows * count / seconds if seconds else 0.0,
                "bytes_per_s": size / seconds if seconds else 0.0,
            }
        )
        thinned(self.timings)

    def _shares(self, event: Mapping[str, Any]) -> None:
        self.leading = str(event["leading"])
        for name, weights in event["weights"].items():
            if name not in self.shares and len(self.shares) >= MOST_CANDIDATES:
                continue
            line = self.shares.setdefault(name, [])
            while line and line[-1][0] >= event["pass"]:
                line.pop()
            line.append((int(event["pass"]), list(weights)))
            thinned(line)

    def _picture(self, event: Mapping[str, Any]) -> None:
        self.picture = dict(event)
        if event["image"] is not None:
            self.image = dict(event["image"])

    def _candidate(self, event: Mapping[str, Any]) -> None:
        self._stands(event, "converged" if event["converged"] else "stopped")

    def _dropped(self, event: Mapping[str, Any]) -> None:
        self._stands(event, "dropped")

    def _back(self, event: Mapping[str, Any]) -> None:
        self._stands(event, "running")

    def _stands(self, event: Mapping[str, Any], status: str) -> None:
        name = str(event["candidate"])
        if name in self.candidates or len(self.candidates) < MOST_CANDIDATES:
            found = self.candidates.setdefault(name, Candidate())
            found.status, found.reason = status, str(event.get("reason", ""))

    def _warning(self, event: Mapping[str, Any]) -> None:
        self.counted.warnings += 1
        self.said.append(str(event["message"])[:300])

    def _resumed(self, event: Mapping[str, Any]) -> None:
        self.said.append(f"Goes on from the checkpoint after pass {event['passes']}.")

    def _end(self, event: Mapping[str, Any]) -> None:
        self.status = str(event["status"])
        self.seconds_left = None

    @property
    def best(self) -> str | None:
        """The candidate with the highest log-likelihood, of those that see all rows."""
        seen = {
            name: c.log_likelihood[-1]
            for name, c in self.candidates.items()
            if c.log_likelihood and WITHOUT not in name
        }
        return max(seen, key=lambda name: seen[name]) if seen else None

    @property
    def step(self) -> str:
        """What one point of the lines is of: a pass, or a pair of frames."""
        return str(self.plan.get("step", "pass"))

    @property
    def objective(self) -> str:
        """What the fit climbs on."""
        return str(self.plan.get("objective", "log-likelihood"))

    def task_expected(self, name: str, number: int, count: int) -> None:
        """Tasks of a pass have come."""
        if name in ("merge", "prepare"):
            return
        if self.tasks is None or (self.tasks.name, self.tasks.number) != (name, number):
            if self.tasks is not None and self.tasks.finished:
                self.before = self.tasks
            self.tasks = Tasks(name, number)
        self.tasks.total += count

    def task_done(self, name: str, number: int, worker: str, seconds: float, moving: float) -> None:
        """A task is done: its seconds of work, and those of moving data to it."""
        self.counted.tasks += 1
        part = {"load": "reading", "merge": "reducing"}.get(name, "computing")
        self._since[part] = self._since.get(part, 0.0) + seconds
        self._since["reducing"] = self._since.get("reducing", 0.0) + moving
        of = self.tasks
        if of is not None and (of.name, of.number) == (name, number) and len(of.done) < MOST_WORKERS:
            of.done[worker] = of.done.get(worker, 0) + 1
            of.seconds[worker] = of.seconds.get(worker, 0.0) + seconds
        self.version += 1

    def task_read(self, seconds: float, size: float) -> None:
        """A task waited for its data so long: seconds that are not of its work."""
        self._since["reading"] = self._since.get("reading", 0.0) + seconds
        self._since["computing"] = self._since.get("computing", 0.0) - seconds
        self._since["bytes"] = self._since.get("bytes", 0.0) + size

    def pace(self) -> dict[str, float]:
        """By worker: seconds a task takes it, against the median worker's; of this pass and one like it."""
        done: dict[str, int] = {}
        seconds: dict[str, float] = {}
        for of in (self.before, self.tasks):
            if of is None or self.tasks is None or of.name != self.tasks.name:
                continue  # other tasks take another time
            for worker, count in of.done.items():
                done[worker] = done.get(worker, 0) + count
                seconds[worker] = seconds.get(worker, 0.0) + of.seconds[worker]
        each = {worker: seconds[worker] / count for worker, count in done.items() if count}
        middle = statistics.median_low(list(each.values())) if each else 0.0
        return {worker: value / middle if middle > 0.0 else 1.0 for worker, value in each.items()}

    def stragglers(self) -> list[str]:
        """Workers whose tasks take much longer than the others'."""
        return sorted(worker for worker, pace in self.pace().items() if pace > STRAGGLES)


@dataclass
class Runs:
    """The last runs, by id."""

    by_id: dict[str, Run] = field(default_factory=dict)

    def take(self, at: float, message: Mapping[str, Any]) -> None:
        """Take in a message of a driver's observer."""
        run = self.by_id.get(str(message["run"]))
        begins = message.get("begin")
        if run is None or (begins and begins.get("fresh")):
            self.by_id.pop(str(message["run"]), None)
            run = Run(str(message["run"]), str(message["name"]), began=at)
            self.by_id[run.id] = run
            self._make_room(run)
        if begins:
            run.token, run.client, run.status = str(begins["token"]), str(begins["client"]), "running"
            run.spent = 0.0  # a driver counts from its own start
        run.heard = at
        spent = float(message.get("spent", run.spent))
        run.counted.told += max(0.0, spent - run.spent)
        run.spent = spent
        run.take(message["events"])

    def _make_room(self, new: Run) -> None:
        """Forget the run that was not heard for longest, of those that are over before any other."""
        while len(self.by_id) > MOST_RUNS:
            others = [run for run in self.by_id.values() if run is not new]
            del self.by_id[min(others, key=lambda run: (run.status == "running", run.heard)).id]

    def of_token(self, token: str) -> Run | None:
        """The last run of a driver."""
        return next((run for run in reversed(self.by_id.values()) if run.token == token), None)

    def client_gone(self, client: str) -> None:
        """A driver has left; what it did not end is not running any more."""
        for run in self.by_id.values():
            if run.client == client and run.status == "running":
                run.status = "driver gone"
                run.version += 1

    def replay(self, events: Iterable[tuple[float, Any]]) -> None:
        """Read the scheduler's event log again."""
        for at, message in events:
            if isinstance(message, Mapping) and "run" in message:
                self.take(at, message)
