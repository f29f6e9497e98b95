"""The driver's side: events are sent to the scheduler's log in small, few messages."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from typing import Any

from distem.dashboard.state import MOST_CANDIDATES
from distem.events import Ended, Event, Note, PassDone, PassTimed, PhaseStarted, Picture, Planned, Shares
from distem.monitor.remaining import Remaining

TOPIC = "distem"
EVERY = 1.0
"""Seconds between messages."""
SHARE = 0.003
"""Of the time since the run began, what messages may take; those that tell of a phase go all the same."""
MOST_PASSES = 40
"""Passes that a message tells of; of more in a second only so many are worth drawing."""
MOST_POINTS = 800
"""Of all fits in these passes together: with many fits there are fewer passes."""
MOST_BYTES = 64_000
"""Of a message: one that would be larger goes without its weights, then with fewer passes."""
AWAITED = 3.0
"""Seconds for which a run that ends waits for the scheduler to hear of it."""

Send = Callable[[dict[str, Any]], None]


class ToScheduler:
    """An observer that keeps the scheduler up to date. It never fails and never waits, but at the end.

    Parameters
    ----------
    send : callable
        Takes a message; does not wait for anybody.
    run, name : str
        What the run is told apart by, and what people call it.
    begin : dict
        What the first message says besides.
    redact : callable
        Takes secrets out of a text.
    """

    def __init__(
        self, send: Send, run: str, name: str, begin: dict[str, Any], redact: Callable[[str], str]
    ) -> None:
        self._send, self._run, self._name, self._redact = send, run, name, redact
        self._begin: dict[str, Any] | None = begin
        self._waiting: list[dict[str, Any]] = []
        self._named: set[str] = set()
        self._fits: dict[str, tuple[float, float | None]] = {}
        self._passes: list[tuple[int, dict[str, tuple[float, float | None]]]] = []
        self._count, self._seconds, self._step, self._rows = 0, 0.0, 0.0, 0.0
        self._shares: Shares | None = None
        self._picture: Picture | None = None
        self._remaining = Remaining()
        self._began = self._sent = time.monotonic()
        self.spent = 0.0
        """Seconds spent in here so far."""
        self.messages = 0

    def __call__(self, event: Event) -> None:
        """Take in an event; send what has come together if it is time."""
        began = time.thread_time()  # what others take of a busy machine is not spent in here
        self._remaining(event)
        match event:
            case PassDone():
                # a step that was taken back is no point of the climb, and so many lines are drawn
                if event.accepted and self._knows(event.candidate):
                    self._fits[event.candidate] = (event.log_likelihood, event.gain_left)
                self._rows = event.rows_per_s * event.seconds
            case PassTimed():
                self._count += 1
                self._seconds += event.seconds
                self._step += event.step_seconds
                self._passes.append((event.pass_, self._fits))
                self._fits = {}
            case Shares():
                self._shares = event
            case Picture():  # an image that has not gone yet goes with the next picture
                held = None if self._picture is None else self._picture.image
                self._picture = event if event.image is not None else replace(event, image=held)
            case Note():
                pass
            case _:
                self._gather()
                self._waiting.append(self._clean(event.as_dict()))
        due = isinstance(event, PhaseStarted | Planned | Ended)
        if due or (isinstance(event, PassTimed) and self._may()):
            self._flush()
        self.spent += time.thread_time() - began

    def _may(self) -> bool:
        """Whether it is time for a message, and what was spent so far allows it."""
        now = time.monotonic()
        return now - self._sent >= EVERY and self.spent <= SHARE * (now - self._began)

    def _knows(self, candidate: str) -> bool:
        if len(self._named) < MOST_CANDIDATES:
            self._named.add(candidate)
        return candidate in self._named

    def _clean(self, facts: dict[str, Any]) -> dict[str, Any]:
        return {key: self._redact(v) if isinstance(v, str) else v for key, v in facts.items()}

    def _gather(self) -> None:
        """Put passes, weights and picture that have come together in the order things happened."""
        if self._passes:
            points = sum(len(fits) for _, fits in self._passes)
            most = min(MOST_PASSES, max(1, MOST_POINTS * len(self._passes) // max(1, points)))
            step = -(-len(self._passes) // most)
            kept = self._passes[::-1][::step][::-1]
            self._waiting.append(
                {
                    "event": "passes",
                    "passes": [[number, {k: list(v) for k, v in fits.items()}] for number, fits in kept],
                    "count": self._count,
                    "seconds": self._seconds,
                    "step_seconds": self._step,
                    "rows": self._rows,
                    "seconds_left": self._remaining.seconds,
                }
            )
        if self._shares is not None:
            self._waiting.append(self._shares.as_dict())
        if self._picture is not None:
            self._waiting.append(self._picture.as_dict())
        self._passes, self._shares, self._picture = [], None, None
        self._count, self._seconds, self._step = 0, 0.0, 0.0

    def _flush(self) -> None:
        self._gather()
        message: dict[str, Any] = {"run": self._run, "name": self._name, "spent": self.spent}
        if self._begin is not None:
            message["begin"], self._begin = self._begin, None
        message["events"], self._waiting = self._waiting, []
        if _size(message) > MOST_BYTES:
            message["events"] = _lighter(message["events"])
        self._sent = time.monotonic()
        self.messages += 1
        self._send(message)


def _lighter(events: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The same without weights and pictures, and with every other pass left out as often as need be."""
    events = [e for e in events if e["event"] not in ("shares", "picture")]
    told = [e for e in events if e["event"] == "passes"]
    while _size(events) > MOST_BYTES and any(len(e["passes"]) > 1 for e in told):
        for e in told:
            e["passes"] = e["passes"][::-2][::-1]  # the last stays
    for e in told[:-1]:  # many fits that ended one by one
        if _size(events) > MOST_BYTES:
            e["passes"] = [[number, {}] for number, _ in e["passes"]]
    return events


def _size(value: Any) -> int:
    """About how many bytes a message takes."""
    if isinstance(value, dict):
        return sum(len(str(key)) + _size(v) for key, v in value.items())
    if isinstance(value, list | tuple):
        return sum(map(_size, value))
    return len(value) if isinstance(value, str | bytes) else 9


class Mail:
    """Sends messages over a Dask client without waiting; what cannot be sent is lost.

    Parameters
    ----------
    client : distributed.Client
        Connected to the scheduler.
    """

    def __init__(self, client: Any) -> None:
        self._client = client
        self._under_way = 0

    def __call__(self, message: dict[str, Any]) -> None:
        """Send a message, unless many are under way already."""
        if self._under_way < 8:
            self._under_way += 1
            self._client.loop.add_callback(self._deliver, message)

    async def _deliver(self, message: dict[str, Any]) -> None:
        try:
            with suppress(Exception):  # nobody need watch: a run goes on without
                await self._client.scheduler.log_event(topic=TOPIC, msg=message)
        finally:
            self._under_way -= 1

    def settle(self) -> None:
        """Wait a little until all that was sent has arrived."""

        async def arrived() -> None:
            while self._under_way:
                await asyncio.sleep(0.01)

        with suppress(Exception):
            self._client.sync(arrived, callback_timeout=AWAITED)
