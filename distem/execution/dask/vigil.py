"""Waiting for tasks: a pass that stands still ends with what can be seen of why, a task that fails is told.

Dask waits for ever: for workers that do not come back, for one that was stopped, for one that was paused
because its disk is full. What is looked at here is looked at from the driver, and only once it is quiet.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from distributed import Client, Future, wait
from distributed.comm.core import CommClosedError

from distem.errors import Stalled

POLL = 0.5
"""Seconds between looks at how many tasks are done."""
SILENT = 3.0
"""Seconds without a heartbeat after which a worker is called silent, once nothing moves."""
_FULL = 0.98


def workers_now(client: Client) -> Mapping[str, Any]:
    """What the scheduler knows of its workers, by address.

    Not `Client.scheduler_info`: every two seconds the client's own thread asks for the state without the
    workers, and puts it in the place of what that is about to return.
    """
    if client.scheduler is None:
        raise CommClosedError("The client is closed")
    found: Mapping[str, Any] = client.sync(client.scheduler.identity, n_workers=-1)["workers"]
    return found


def addresses_now(client: Client) -> set[str]:
    """Where the scheduler's workers are, which is less to send than all that it knows of them."""
    if client.scheduler is None:
        raise CommClosedError("The client is closed")
    return set(client.nthreads())


@dataclass
class Vigil:
    """Waits for futures.

    Parameters
    ----------
    client : distributed.Client
        Whose futures they are.
    patience : float or None
        Seconds in which at least one task must be done; None for ever.
    """

    client: Client
    patience: float | None = None

    def over(self, futures: Sequence[Future]) -> list[Future]:
        """Wait until all are done, or some failed; return those that failed.

        Raises
        ------
        Stalled
            No task was done for as long as that, with the cause that can be seen.
        """
        done, since = -1, time.monotonic()
        while True:
            with suppress(TimeoutError), self.client.as_current():
                wait(list(futures), timeout=POLL)
                return [future for future in futures if future.status == "error"]
            failed = [future for future in futures if future.status == "error"]
            if failed:
                return failed
            counted = sum(future.done() for future in futures)
            if counted != done:
                done, since = counted, time.monotonic()
            self.look(futures, since)

    def look(self, futures: Sequence[Future], since: float) -> None:
        """Refuse to wait any longer if nothing has been done for too long.

        Raises
        ------
        Stalled
            With the cause that can be seen.
        """
        if self.patience is None or time.monotonic() - since < self.patience:
            return
        left = {future.key for future in futures if not future.done()}
        raise Stalled(
            f"No task was done for {self.patience:g} s (fit.stall_timeout), {len(left)} of "
            f"{len(futures)} are left: {self._cause(left)}.",
            "See to it, then run the same command to go on.",
        )

    def _cause(self, left: set[Any]) -> str:
        """What can be seen of why nothing moves, as a part of a sentence."""
        with suppress(Exception):
            before = workers_now(self.client)
            if not before:
                return "the cluster has no workers"
            busy = self._busy(left)
            time.sleep(max(SILENT, len(before) / 50))
            after = workers_now(self.client)
            causes = [
                said
                for address, about in before.items()
                if (said := self._of_worker(address, about, after.get(address), address in busy))
            ]
            if causes:
                return "; ".join(causes[:5])
            if busy:
                return f"{', '.join(sorted(map(str, busy))[:5])} answer, but do not get done with their tasks"
            return "no worker has taken them"
        return "the scheduler does not answer"

    def _busy(self, left: set[Any]) -> set[str]:
        """Workers that were given tasks that are not done."""
        return {address for address, keys in self.client.processing().items() if left & set(keys)}

    def _of_worker(
        self, address: str, before: Mapping[str, Any], after: Mapping[str, Any] | None, is_busy: bool
    ) -> str:
        name = f"worker {address} on {before.get('host', 'an unknown host')}"
        if after is None:
            return f"{name} has just left"
        if after["last_seen"] == before["last_seen"]:
            return f"{name} is silent: it was stopped, or cannot be reached"
        if after.get("status") == "paused":
            spill = self._ask(address, _disk_of(str(after.get("local_directory", ""))))
            if isinstance(spill, float) and spill >= _FULL:
                return f"{name} is paused and the disk it spills to, {after['local_directory']}, is full"
            used = after.get("metrics", {}).get("memory", 0)
            return (
                f"{name} is paused: it uses {used / 2**20:,.0f} MiB of {after['memory_limit'] / 2**20:,.0f}"
            )
        spill = self._ask(address, _disk_of(str(after.get("local_directory", "")))) if is_busy else None
        if isinstance(spill, float) and spill >= _FULL:
            return f"the disk that {name} spills to, {after['local_directory']}, is full"
        return ""

    def _ask(self, address: str, question: Callable[[], Any]) -> Any:
        """Ask one worker, which may not answer."""

        async def ask() -> Any:
            found = await asyncio.wait_for(
                self.client.run(question, workers=[address], on_error="ignore"), timeout=SILENT
            )
            return found.get(address)

        with suppress(Exception):
            return self.client.sync(ask)
        return None


def _disk_of(folder: str) -> Callable[[], float]:
    """A question a worker can answer without this package: how full the disk under a folder is."""

    def ask() -> float:
        import shutil

        usage = shutil.disk_usage(folder)
        return usage.used / (usage.used + usage.free)

    return ask


def raise_allowed_failures(client: Client, least: int) -> None:
    """Let a task outlive more of its workers than Dask would, for as long as the scheduler runs."""

    def raise_to(dask_scheduler: Any = None) -> None:
        dask_scheduler.allowed_failures = max(dask_scheduler.allowed_failures, least)

    with suppress(Exception):  # a scheduler that runs nothing for clients keeps its own limit
        client.run_on_scheduler(raise_to)


def failed_on(client: Client, key: Any) -> list[str]:
    """The workers a task failed on, where the scheduler tells."""

    def ask(dask_scheduler: Any = None) -> list[str]:
        task = dask_scheduler.tasks.get(key)
        return [] if task is None else sorted(str(address) for address in task.erred_on or ())

    with suppress(Exception):
        found: list[str] = client.run_on_scheduler(ask)
        return found
    return []
