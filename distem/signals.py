"""SIGTERM and SIGINT as an ordinary ending: the pass in hand is dropped, the checkpoint stands."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Self

from distem.errors import Interrupted

ENDING = (signal.SIGTERM, signal.SIGINT)


class Interrupts:
    """Turns the first signal into `Interrupted`, in places where nothing can be left half done.

    A second signal ends the process as it would have without this.
    """

    def __init__(self) -> None:
        self._received: str | None = None
        self._open = False
        self._before: dict[signal.Signals, object] = {}

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            for number in ENDING:
                self._before[number] = signal.signal(number, self._handle)
        return self

    def __exit__(self, *exc: object) -> None:
        for number, before in self._before.items():
            signal.signal(number, before)  # type: ignore[arg-type]  # what signal.signal returned it takes back
        self._before.clear()

    def _handle(self, number: int, frame: FrameType | None) -> None:  # noqa: ARG002
        if self._received is not None:
            signal.signal(number, signal.SIG_DFL)
            signal.raise_signal(number)
            return
        self._received = signal.Signals(number).name
        if self._open:
            self._check()

    def _check(self, cause: BaseException | None = None) -> None:
        if self._received is not None:
            raise Interrupted(
                f"The run was ended by {self._received}.", "Run the same command to go on."
            ) from cause

    @contextmanager
    def here(self) -> Iterator[None]:
        """A place where a signal ends the run at once; one that came before ends it on entry."""
        self._check()
        self._open = True
        try:
            yield
        except Exception as error:
            # what is raised in the midst of compiled code may come out as something else
            if isinstance(error, Interrupted):
                raise
            self._check(error)
            raise
        finally:
            self._open = False
