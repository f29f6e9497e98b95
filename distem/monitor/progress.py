"""Progress for people: a live display on a terminal, a line a pass elsewhere."""

from __future__ import annotations

import sys
from dataclasses import replace
from typing import Self

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from distem._text import printable
from distem.events import (
    WITHOUT,
    CandidateBack,
    CandidateDone,
    CandidateDropped,
    ComponentCollapsed,
    Event,
    Note,
    PassDone,
    PassTimed,
    PhaseStarted,
    Planned,
    Resumed,
    Warned,
)
from distem.monitor.remaining import Remaining, duration

MOST_ROWS = 12
"""Fits that a terminal shows, the likeliest first."""


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
        self._remaining = Remaining(tolerance, max_passes)
        self._console = Console(stderr=True, highlight=False, soft_wrap=True)
        self._quiet = quiet
        self._phase = "start"
        self._step, self._objective = "pass", "log-likelihood"
        self._passes: dict[str, PassDone] = {}
        self._done: dict[str, CandidateDone] = {}
        self._dropped: set[str] = set()
        self._live = (
            Live(console=self._console, refresh_per_second=4, transient=True) if self._shows_live else None
        )

    @property
    def _shows_live(self) -> bool:
        return sys.stderr.isatty() and not self._quiet

    def __call__(self, event: Event) -> None:
        """Show an event."""
        self._remaining(event)
        match event:
            case Warned() | ComponentCollapsed():
                self._say(f"warning: {event.message}")
            case _ if self._quiet:
                return
            case Planned():
                self._step, self._objective = event.step, event.objective
            case PhaseStarted(phase):
                self._phase = phase
                self._say(phase)
            case Note(message):
                self._say(f"  {message}")
            case Resumed(passes):
                self._say(f"  going on from the checkpoint after pass {passes}")
            case CandidateDone():
                self._done[event.candidate] = event
                plural = "pairs" if self._step == "pair" else "passes"
                self._say(f"  {event.candidate}: {event.passes} {plural}. {event.reason}")
            case CandidateDropped():
                self._dropped.add(event.candidate)
                self._say(f"  {event.candidate}: {event.reason}")
            case CandidateBack():
                self._dropped.discard(event.candidate)
                self._say(f"  {event.candidate}: goes on, the fit ahead of it fell")
            case PassDone():
                self._took_in(event)
            case PassTimed():
                self._pass_line(event)
        if self._live is not None and not isinstance(event, PassDone):  # all fits of a pass at once
            self._live.update(self._table())

    def _say(self, line: str) -> None:
        self._console.print(printable(line), markup=False)

    def _took_in(self, event: PassDone) -> None:
        before = self._passes.get(event.candidate)
        if not event.accepted and before is not None:  # the step was taken back: it stands where it stood
            event = replace(event, log_likelihood=before.log_likelihood, gain_left=before.gain_left)
        self._passes[event.candidate] = event

    @property
    def _running(self) -> list[PassDone]:
        """Fits on their way, the likeliest first; those without a fold are of other rows, and come last."""
        found = [
            e for name, e in self._passes.items() if name not in self._done and name not in self._dropped
        ]
        return sorted(found, key=lambda e: (WITHOUT in e.candidate, -e.log_likelihood))

    def _pass_line(self, event: PassTimed) -> None:
        """A line about the likeliest fit."""
        if self._live is not None or not self._running:
            return
        best = self._running[0]
        gain = "" if best.gain_left is None else f", {best.gain_left:.1e} still expected"
        fits = "" if event.fits == 1 else f" ({event.fits} fits)"
        left = self._remaining.seconds
        told = "" if left is None else f", about {duration(left)} left"
        self._say(
            f"  {self._step} {event.pass_}{fits}: {best.candidate} at {self._objective} "
            f"{best.log_likelihood:.9g} per row{gain}, {best.rows_per_s:,.0f} rows/s{told}"
        )

    def _table(self) -> Group | Text:
        running = self._running
        left = self._remaining.seconds
        if not running or self._phase != "fit":
            return Text(f"{self._phase} …", style="dim")
        last = max(running, key=lambda e: e.pass_)
        head = Text()
        head.append(f"{self._step} {last.pass_}", style="bold")
        head.append(
            f"   {len(running)} of {len(self._passes)} fits running   {last.rows_per_s:,.0f} rows/s   "
            f"{last.seconds:.3g} s a {self._step}"
        )
        head.append("" if left is None else f"   about {duration(left)} left", style="bold")
        table = Table(box=None, padding=(0, 2, 0, 2), header_style="dim")
        for column in ("fit", f"{self._objective}/row", "gain left", "time left"):
            table.add_column(column, justify="left" if column == "fit" else "right", no_wrap=True)
        shown = [e for e in running if WITHOUT not in e.candidate][:MOST_ROWS]
        for number, event in enumerate(shown):
            seconds = self._remaining.seconds_of(event.candidate)
            table.add_row(
                event.candidate,
                f"{event.log_likelihood:#.9g}",
                "" if event.gain_left is None else f"{event.gain_left:.1e}",
                "" if seconds is None else f"about {duration(seconds)}",
                style="bold" if number == 0 else "",
            )
        rest = len(running) - len(shown)
        parts: list[Text | Table] = [head, table] if shown else [head]
        if rest > 0:
            folds = f"{rest} fit{'s' if rest > 1 else ''} without a fold"
            parts.append(Text(f"  and {rest} more" if shown else f"  {folds}", style="dim"))
        return Group(*parts)

    def __enter__(self) -> Self:
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(self, *exc: object) -> None:
        if self._live is not None:
            self._live.stop()
