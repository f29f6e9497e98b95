"""The log: one JSON object a line, appended as events happen."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self

from distem.events import Event, PhaseStarted


class JsonLog:
    """Appends every event to a file, with the time, the phase and the run's name.

    Parameters
    ----------
    path : Path
        The file; a resumed run appends to it.
    run : str
        Name of the run.
    redact : callable
        Takes secrets out of a line.
    """

    def __init__(self, path: Path, run: str, redact: Callable[[str], str]) -> None:
        self._file = path.open("a", encoding="utf-8")
        self._run = run
        self._phase: str | None = None
        self._redact = redact

    def __call__(self, event: Event) -> None:
        """Write one line, unless the event is for pictures only."""
        if not event.logged:
            return
        if isinstance(event, PhaseStarted):
            self._phase = event.phase
        line: dict[str, Any] = {
            "time": datetime.now(UTC).isoformat(timespec="milliseconds"),
            "run": self._run,
            "phase": self._phase,
        }
        facts = {key: self._redact(v) if isinstance(v, str) else v for key, v in event.as_dict().items()}
        self._file.write(json.dumps(line | facts) + "\n")
        self._file.flush()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self._file.close()
