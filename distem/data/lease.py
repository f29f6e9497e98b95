"""One writer: a lease on a run folder, taken if there is none, renewed while its holder lives.

No clock of two hosts is compared. A lease is renewed by replacing it, which gives it a new version; who
finds one looks whether its version changes within the time that the holder promised, by its own clock.
On the holder's machine there is nothing to wait for: the process is there, or it is not. Every holder has
a higher number, the fencing token, than the one before; whoever publishes shows that the lease is still
its own, so that a holder who slept through its time changes nothing any more.
"""

from __future__ import annotations

import json
import os
import secrets
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from typing import Self

from distem.data.stores import Store
from distem.errors import AlreadyRunning, DistemError

NAME = ".lease"
BEAT = 5.0
"""Seconds between renewals."""
TTL = 20.0
"""Seconds without a renewal after which a lease is dead."""
MOST_BYTES = 1 << 16
_LOOK = 0.25


@dataclass(frozen=True)
class _Held:
    """What a lease says. `beat` makes every renewal another version; `since` is for people only."""

    token: int
    holder: str
    process: int
    started: str
    machine: str
    host: str
    since: str
    ttl: float
    beat: int = 0
    released: bool = False

    def encoded(self) -> bytes:
        return json.dumps(asdict(self), sort_keys=True).encode()

    @classmethod
    def decoded(cls, data: bytes) -> _Held | None:
        """What a file says, or None if it is no lease: it is then only looked at whether it changes."""
        try:
            found = cls(**json.loads(data))
            types = {name: type(getattr(cls.sample(), name)) for name in cls.__dataclass_fields__}
            whole = all(
                isinstance(getattr(found, name), (int, float) if kind is float else kind)
                for name, kind in types.items()
            )
        except (TypeError, ValueError, RecursionError):
            return None
        return found if whole and 0 < found.ttl < 3600 else None

    @classmethod
    def sample(cls) -> _Held:
        return cls(1, "", 1, "", "", "", "", TTL)

    @property
    def by(self) -> str:
        return f"process {self.process} on {self.host}, since {self.since}"


class Lease:
    """The right to write to a run folder.

    Parameters
    ----------
    store : Store
        Where it lies.
    ttl, beat : float
        Seconds after which it is dead, and between renewals.
    after : callable
        A token that this holder's must be higher than, from what was published before.
    say : callable
        Is told what is waited for.
    """

    def __init__(
        self,
        store: Store,
        ttl: float = TTL,
        beat: float = BEAT,
        after: Callable[[], int] = lambda: 0,
        say: Callable[[str], None] = lambda _: None,
    ) -> None:
        self._store, self._ttl, self._beat = store, ttl, beat
        self._after, self._say = after, say
        self._held: _Held | None = None
        self._version = ""
        self._lost: str | None = None
        self._lock = threading.Lock()
        self._ended = threading.Event()
        self._thread: threading.Thread | None = None

    @property
    def token(self) -> int:
        """The number of this holder, higher than that of any before."""
        return 0 if self._held is None else self._held.token

    def acquire(self) -> None:
        """Take the lease.

        Raises
        ------
        AlreadyRunning
            Another live process holds it.
        """
        while True:
            found = self._store.get(NAME, MOST_BYTES)
            if found is None:
                mine = self._mine(0)
                version = self._store.create(NAME, mine.encoded())
            else:
                theirs = _Held.decoded(found[0])
                if theirs is not None and not theirs.released and not self._is_dead(theirs, found[1]):
                    raise AlreadyRunning(
                        f"{self._store.where} is already running, by {theirs.by}.",
                        "Wait for it to end, or choose another output.path.",
                    )
                if theirs is None:
                    self._watch(found[1], self._ttl, "a process that cannot be made out")
                mine = self._mine(0 if theirs is None else theirs.token)
                version = self._store.swap(NAME, mine.encoded(), found[1])
            if version is not None:  # otherwise another one was quicker: look again
                break
        self._held, self._version = mine, version
        self._store.sweep()
        self._thread = threading.Thread(target=self._renew, name="distem-lease", daemon=True)
        self._thread.start()

    def sweep(self) -> None:
        """Remove what killed writers left, where there can be none now; waits for nobody."""
        found = self._store.get(NAME, MOST_BYTES)
        theirs = None if found is None else _Held.decoded(found[0])
        if found is not None:
            if theirs is None or not (theirs.released or theirs.machine == _machine()):
                return
            if not theirs.released and _started(theirs.process) == theirs.started:
                return
        self._store.sweep()

    def _mine(self, before: int) -> _Held:
        return _Held(
            token=1 + max(before, self._after()),
            holder=secrets.token_hex(16),
            process=os.getpid(),
            started=_started(os.getpid()) or "",
            machine=_machine(),
            host=socket.gethostname(),
            since=datetime.now(UTC).isoformat(timespec="seconds"),
            ttl=self._ttl,
        )

    def _is_dead(self, theirs: _Held, version: str) -> bool:
        if theirs.machine == _machine():
            return _started(theirs.process) != theirs.started
        return self._watch(version, theirs.ttl, theirs.by)

    def _watch(self, version: str, ttl: float, whom: str) -> bool:
        """Whether a lease stays as it is for as long as its holder may be silent."""
        self._say(f"waiting up to {ttl:.0f} s to see whether the run is still held by {whom}")
        until = time.monotonic() + ttl
        while time.monotonic() < until:
            time.sleep(_LOOK)
            found = self._store.get(NAME, MOST_BYTES)
            if found is None:
                return True
            if found[1] != version:
                theirs = _Held.decoded(found[0])
                return theirs is not None and theirs.released
        return True

    def _renew(self) -> None:
        brief = self._store.brief()  # the next one comes soon
        while not self._ended.wait(self._beat):
            try:
                self._put(brief, released=False)
            except (DistemError, OSError):
                continue  # it cannot be reached: who publishes will see whether it is still ours

    def _put(self, store: Store, *, released: bool) -> None:
        with self._lock:
            if self._held is None or self._lost is not None:
                return
            after = replace(self._held, beat=self._held.beat + 1, released=released)
            version = store.swap(NAME, after.encoded(), self._version)
            if version is None:
                found = store.get(NAME, MOST_BYTES)
                theirs = None if found is None else _Held.decoded(found[0])
                if theirs is not None and theirs.holder == after.holder:
                    # a renewal that was not acknowledged, and another after it
                    self._held, self._version = theirs, found[1] if found else ""
                    return
                self._lost = "it is gone" if theirs is None else f"it went to {theirs.by}"
                return
            self._held, self._version = after, version

    def check(self) -> None:
        """Refuse to go on when the lease is known to be lost; asks nobody.

        Raises
        ------
        AlreadyRunning
            It is.
        """
        if self._lost is not None:
            raise AlreadyRunning(
                f"The lease on {self._store.where} was lost: {self._lost}.",
                "This process was silent for too long; the other one goes on.",
            )

    def confirm(self) -> int:
        """Show that the lease is still ours, right before something is published; return its token.

        Raises
        ------
        AlreadyRunning
            It is not.
        """
        self._put(self._store, released=False)
        self.check()
        return self.token

    def release(self) -> None:
        """Give it back."""
        self._ended.set()
        if self._thread is not None:
            self._thread.join(timeout=self._ttl)
        try:
            # removed, not replaced, where that can be done: a full disk takes nothing more
            if self._held is not None and not self._store.drop(NAME, self._version):
                self._put(self._store.brief(), released=True)
        except (DistemError, OSError):
            return  # it dies by itself

    def __enter__(self) -> Self:
        self.acquire()
        return self

    def __exit__(self, *exc: object) -> None:
        self.release()


@lru_cache(maxsize=1)
def _machine() -> str:
    """What tells machines, boots and containers apart, whatever their names and clocks."""
    parts = [socket.gethostname()]
    try:
        parts.append(Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip())
        parts.append(os.readlink("/proc/self/ns/pid"))
    except OSError:
        import uuid

        parts.append(str(uuid.getnode()))
    return "/".join(parts)


def _started(process: int) -> str | None:
    """When a process began, in what its system counts; None if there is none, or only its remains."""
    try:
        text = Path(f"/proc/{process}/stat").read_text(encoding="utf-8", errors="replace")
        fields = text.rpartition(")")[2].split()
        return None if fields[0] in "ZX" else fields[19]
    except (OSError, IndexError):
        pass
    if Path("/proc/self/stat").exists():
        return None
    import psutil

    try:
        found = psutil.Process(process)
        return None if found.status() == psutil.STATUS_ZOMBIE else repr(found.create_time())
    except psutil.Error:
        return None
