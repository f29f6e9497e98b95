"""Progress for people: a live display on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import math
import sys
import time
from typing import Self

from rich.console import Console
from rich.live import Live
from rich.table import Table

from distem._text import printable
from distem.events import (
    CandidateBack,
    CandidateDone,
    CandidateDropped,
    ComponentCollapsed,
    Event,
    Note,
    PassDone,
    PhaseStarted,
    Resumed,
    Warned,
)

LINES_EVERY = 5.0
"""Seconds between lines where there is no terminal."""


class Progress:
    """Shows a run on standard error.

    Parameters
    ----------
    quiet : bool
        Show warnings only.
    tolerance : float, optional
        Expected gain at which a fit stops, for the time left.
    max_passes : int, optional
        Passes after which it stops at the latest.
    """

    def __init__(
        self, *, quiet: bool = False, tolerance: float | None = None, max_passes: int | None = None
    ) -> None:
        self._tolerance = tolerance
        self._max_passes = max_passes
        self._gains: dict[str, list[float]] = {}
        self._console = Console(stderr=True, highlight=False, soft_wrap=True)
        self._quiet = quiet
        self._phase = "start"
        self._passes: dict[str, PassDone] = {}
        self._done: dict[str, CandidateDone] = {}
        self._dropped: set[str] = set()
        self._last_line = 0.0
        self._live = (
            Live(console=self._console, refresh_per_second=4, transient=True) if self._shows_live else None
        )

    @property
    def _shows_live(self) -> bool:
        return sys.stderr.isatty() and not self._quiet

    def __call__(self, event: Event) -> None:
        """Show an event."""
        match event:
            case Warned() | ComponentCollapsed():
                self._say(f"warning: {event.message}")
            case _ if self._quiet:
                return
            case PhaseStarted(phase):
                self._phase = phase
                self._say(phase)
            case Note(message):
                self._say(f"  {message}")
            case Resumed(passes):
                self._say(f"  going on from the checkpoint after pass {passes}")
            case CandidateDone():
                self._done[event.candidate] = event
                self._say(f"  {event.candidate}: {event.passes} passes. {event.reason}")
            case CandidateDropped():
                self._dropped.add(event.candidate)
                self._say(f"  {event.candidate}: {event.reason}")
            case CandidateBack():
                self._dropped.discard(event.candidate)
                self._say(f"  {event.candidate}: goes on, the fit ahead of it fell")
            case PassDone():
                self._passes[event.candidate] = event
                if event.gain_left is not None:
                    self._gains[event.candidate] = [
                        *self._gains.get(event.candidate, [])[-4:],
                        event.gain_left,
                    ]
                self._pass_line(event)
        if self._live is not None:
            self._live.update(self._table())

    def _say(self, line: str) -> None:
        self._console.print(printable(line), markup=False)

    def _pass_line(self, event: PassDone) -> None:
        if self._live is not None or time.monotonic() - self._last_line < LINES_EVERY:
            return
        self._last_line = time.monotonic()
        gain = "" if event.gain_left is None else f", {event.gain_left:.1e} still expected"
        left = self.time_left(event)  # before gains are known it is a bound, which nobody is helped by
        time_left = f", {left} left" if left.startswith("about") else ""
        self._say(
            f"  pass {event.pass_} {event.candidate}: log-likelihood {event.log_likelihood:.9g} per row"
            f"{gain}, {event.rows_per_s:,.0f} rows/s{time_left}"
        )

    def time_left(self, event: PassDone) -> str:
        """How long a fit will take, if what it still gains goes on shrinking as it did."""
        passes = None if self._max_passes is None else max(0, self._max_passes - event.pass_)
        bound = "at most "
        gains = self._gains.get(event.candidate, [])
        if self._tolerance and len(gains) > 1 and 0.0 < gains[-1] < gains[0]:
            a_pass = math.log(gains[0] / gains[-1]) / (len(gains) - 1)
            needed = max(0, math.ceil(math.log(gains[-1] / self._tolerance) / a_pass))
            if passes is None or needed < passes:
                passes, bound = needed, "about "
        return "?" if passes is None else bound + _duration(passes * event.seconds)

    def _table(self) -> Table:
        table = Table(title=f"distem: {self._phase}", title_justify="left", box=None)
        for column in (
            "candidate",
            "pass",
            "log-likelihood/row",
            "gain left",
            "rows/s",
            "s/pass",
            "time left",
        ):
            table.add_column(column, justify="left" if column == "candidate" else "right")
        running = [
            e for name, e in self._passes.items() if name not in self._done and name not in self._dropped
        ]
        for event in running[:20]:
            gain = "" if event.gain_left is None else f"{event.gain_left:.1e}"
            table.add_row(
                event.candidate,
                str(event.pass_),
                f"{event.log_likelihood:.9g}",
                gain,
                f"{event.rows_per_s:,.0f}",
                f"{event.seconds:.3g}",
                self.time_left(event),
            )
        return table

    def __enter__(self) -> Self:
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(self, *exc: object) -> None:
        if self._live is not None:
            self._live.stop()


def _duration(seconds: float) -> str:
    for unit, size in (("h", 3600.0), ("min", 60.0)):
        if seconds >= 1.5 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"
