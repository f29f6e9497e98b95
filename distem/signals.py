"""SIGTERM and SIGINT as an ordinary ending: the pass in hand is dropped, the checkpoint stands.

The first signal raises `Interrupted` where nothing can be left half done. What cannot be interrupted, a
compiler at work or a cluster that does not close, is given a grace time; then the process ends as it is,
which loses no more than a kill would: nothing, since the checkpoint. A second signal ends it at once.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Self

from distem._text import printable
from distem.errors import Interrupted, Stalled

ENDING = (signal.SIGTERM, signal.SIGINT)
LAST_WORDS = 3.0
"""Seconds for what is said when the grace time is over."""


def nothing() -> None:
    """Say nothing more."""


class Interrupts:
    """Turns the first signal into `Interrupted`, in places where nothing can be left half done.

    Parameters
    ----------
    grace : float
        Seconds from the first signal, or another interruption, after which the process ends wherever it is.
    leave : callable
        Ends the process at once.
    redact : callable
        Takes secrets out of what is said.

    Attributes
    ----------
    why : str
        What ended the run, where it was no signal.
    """

    def __init__(
        self,
        grace: float = 20.0,
        leave: Callable[[int], None] = os._exit,
        redact: Callable[[str], str] = str,
    ) -> None:
        self.last_words: Callable[[], None] = nothing
        self.why = ""
        self._grace, self._leave, self._redact = grace, leave, redact
        self._hurried = False
        self._received: str | None = None
        self._open = False
        self._before: dict[signal.Signals, object] = {}
        self._over = threading.Event()
        self._wake: tuple[int, int] | None = None
        self._woken = -1

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            for number in ENDING:
                self._before[number] = signal.signal(number, self._handle)
            # bytes arrive here even while the main thread is in code that does not look for signals
            read, write = os.pipe()
            os.set_blocking(write, False)
            self._wake = read, write
            self._woken = signal.set_wakeup_fd(write, warn_on_full_buffer=False)
            threading.Thread(target=self._watch, args=(read,), name="distem-signals", daemon=True).start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._over.set()
        for number, before in self._before.items():
            signal.signal(number, before)  # type: ignore[arg-type]  # what signal.signal returned it takes back
        if self._wake is not None:
            signal.set_wakeup_fd(self._woken)
            os.close(self._wake[1])  # the watching thread reads the end, and closes its own
            self._wake = None
        self._before.clear()

    def _watch(self, read: int) -> None:
        """Count the signals; end the process at the second, or when the grace time of the first is over."""
        seen = 0
        try:
            while numbers := os.read(read, 64):
                seen += sum(number in ENDING for number in numbers)
                if self._over.is_set():
                    return
                if seen == 1:
                    self.hurry()
                elif seen > 1:
                    self._end("ended at once by a second signal; the last checkpoint stands")
        finally:
            os.close(read)

    def hurry(self, why: str = "") -> None:
        """Begin the grace time: from here on the process ends, one way or the other."""
        if self._hurried:
            return
        self._hurried, self.why = True, "" if self._received else why
        threading.Thread(target=self._wait, name="distem-grace", daemon=True).start()

    def _wait(self) -> None:
        if self._over.wait(self._grace):
            return
        # what it says may hang where the process does
        speaker = threading.Thread(target=self._speak, daemon=True)
        speaker.start()
        speaker.join(LAST_WORDS)
        if not self._over.is_set():
            self._end(f"ended after {self._grace:g} s of grace (cluster.grace); the last checkpoint stands")

    def _speak(self) -> None:
        with suppress(Exception):  # it is not for this to fail
            self.last_words()

    def _end(self, how: str) -> None:
        with suppress(OSError, ValueError):
            show_cursor = "\x1b[?25h" if sys.stderr.isatty() else ""
            why = f"{printable(self._redact(self.why))} " if self.why else ""
            said = f"{show_cursor}error: {why}The run was {how}. Run the same command to go on.\n"
            os.write(2, said.encode())
        self._leave(Interrupted.exit_code)

    def _handle(self, number: int, frame: FrameType | None) -> None:  # noqa: ARG002
        if self._received is not None:
            return  # the watching thread ends the process
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
            if isinstance(error, Stalled):
                self.hurry(error.fact)  # storage that does not answer may take no checkpoint either
            if isinstance(error, Interrupted):
                raise
            self._check(error)
            raise
        finally:
            self._open = False
