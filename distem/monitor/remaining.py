"""How long a fit will take, if what it still gains goes on shrinking as it did."""

from __future__ import annotations

import math

from distem.events import CandidateBack, CandidateDone, CandidateDropped, Event, PassDone, Planned

RECENT = 8
"""Passes that tell how fast the expected gain shrinks."""
LEAST = 3
"""With fewer nothing is said."""


class Remaining:
    """Listens to events and estimates the passes that are left to each fit.

    Parameters
    ----------
    tolerance : float, optional
        Expected gain at which a fit stops; the plan says it too.
    max_passes : int, optional
        Passes after which it stops at the latest; likewise.
    """

    def __init__(self, tolerance: float | None = None, max_passes: int | None = None) -> None:
        self.tolerance = tolerance
        self._max_passes = max_passes
        self._gains: dict[str, list[tuple[int, float]]] = {}
        self._at: dict[str, int] = {}
        self._pace: list[float] = []
        self._all_of_them = False

    def __call__(self, event: Event) -> None:
        """Take in an event."""
        match event:
            case Planned():
                self.tolerance, self._max_passes = event.tolerance, event.max_passes
                self._all_of_them = event.step == "pair"
            case PassDone():
                if self._at.get(event.candidate) is None or event.pass_ > max(self._at.values()):
                    self._pace = [*self._pace[-(RECENT - 1) :], event.seconds]
                self._at[event.candidate] = event.pass_
                gains = self._gains.setdefault(event.candidate, [])
                if event.gain_left is not None and event.gain_left > 0.0:
                    gains.append((event.pass_, event.gain_left))
                    del gains[:-RECENT]
            case CandidateDone() | CandidateDropped():
                self._at.pop(event.candidate, None)
            case CandidateBack():
                self._gains.pop(event.candidate, None)

    def passes_of(self, candidate: str) -> int | None:
        """Passes still to come; None while nothing can be said."""
        gains, at = self._gains.get(candidate, []), self._at.get(candidate)
        if self._all_of_them and at is not None and self._max_passes is not None:
            return max(0, self._max_passes - at)
        if at is None or len(gains) < LEAST or not self.tolerance:
            return None
        middle = sum(number for number, _ in gains) / len(gains)
        logs = [math.log(gain) for _, gain in gains]
        mean = sum(logs) / len(logs)
        spread = sum((number - middle) ** 2 for number, _ in gains)
        if spread == 0.0:
            return None
        slope = sum((n - middle) * (v - mean) for (n, _), v in zip(gains, logs, strict=True)) / spread
        if slope >= -1e-9:
            return None
        expected = mean + slope * (at - middle)
        needed = max(1, math.ceil((math.log(self.tolerance) - expected) / slope - 1e-6))
        return needed if self._max_passes is None else min(needed, max(0, self._max_passes - at))

    def seconds_of(self, candidate: str) -> float | None:
        """Seconds until a fit stops; None while nothing can be said."""
        passes = self.passes_of(candidate)
        return None if passes is None or not self._pace else passes * sum(self._pace) / len(self._pace)

    @property
    def seconds(self) -> float | None:
        """Until the last fit stops: None while one of them cannot be told."""
        each = [self.seconds_of(name) for name in self._at]
        known = [seconds for seconds in each if seconds is not None]
        return max(known) if known and len(known) == len(each) else None


def duration(seconds: float) -> str:
    """A time span as people say it."""
    for unit, size in (("d", 86400.0), ("h", 3600.0), ("min", 60.0)):
        if seconds >= 1.5 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"
