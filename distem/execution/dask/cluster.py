"""Clusters: one started on this machine, one that runs already."""

from __future__ import annotations

import importlib.util
import logging
import os
from collections.abc import Mapping
from functools import partial
from typing import Any

import dask
from dask.utils import parse_bytes
from distributed import Client, LocalCluster, Security, get_client
from distributed.comm.core import CommClosedError
from distributed.system import MEMORY_LIMIT

from distem.errors import ClusterError
from distem.execution.base import Capacity
from distem.execution.dask.executor import DaskExecutor
from distem.execution.dask.versions import Versions

DASKS_TRIM_THRESHOLD = ("MALLOC_TRIM_THRESHOLD_", 65536)


class Silence:
    """Keeps the logs of Dask's threads from the terminal: what is lost is told by distem, in a sentence.

    Not where the logger `distem` is set to debug, as `--debug` does.
    """

    def __init__(self) -> None:
        self._levels: dict[str, int] = {}
        if logging.getLogger("distem").level == logging.DEBUG:
            return
        for name in [*logging.root.manager.loggerDict, "distributed", "tornado.application", "asyncio"]:
            if name.partition(".")[0] in ("distributed", "asyncio") or name == "tornado.application":
                logger = logging.getLogger(name)
                self._levels.setdefault(name, logger.level)
                logger.setLevel(logging.CRITICAL + 1)

    def close(self) -> None:
        """Let them speak again."""
        for name, level in self._levels.items():
            logging.getLogger(name).setLevel(level)
        self._levels.clear()


def local_capacity(workers: int | None, threads: int, memory: int | str) -> Capacity:
    """What `local` would start, without starting it."""
    workers = workers or len(os.sched_getaffinity(0))
    return Capacity(workers, workers * threads, _memory_limit(memory, threads))


def _memory_limit(memory: int | str, threads: int) -> int:
    """Bytes a worker may use; "auto" is a share of the machine's in proportion to its threads."""
    if memory == "auto":
        return int(MEMORY_LIMIT * min(1.0, threads / len(os.sched_getaffinity(0))))
    return int(parse_bytes(memory))


def local(
    workers: int | None = None,
    threads: int = 1,
    memory: int | str = "auto",
    dashboard_address: str | None = "127.0.0.1:0",
) -> DaskExecutor:
    """Start a cluster of processes on this machine, bound to loopback.

    Parameters
    ----------
    workers : int, optional
        Number of processes; default: one per core this process may use.
    threads : int
        Threads of each.
    memory : int or str
        Bytes each may use, a text such as "4GiB", or "auto" for a share of the machine.
    dashboard_address : str or None
        Where the dashboard listens; None for none.
    """
    workers = workers or len(os.sched_getaffinity(0))
    # a task that is stolen takes a copy of its rows along, and tasks are alike: none need be
    settings = {
        "distributed.worker.daemon": True,
        # a paused worker waits until memory is given back, which no task of ours does once it has ended: the
        # plan keeps what is promised below the limit, and what goes beyond is ended by the nanny, and told
        "distributed.worker.memory.pause": False,
        "distributed.scheduler.work-stealing": False,
        "distributed.nanny.pre-spawn-environ": _environment(),
    }
    with dask.config.set(settings):
        cluster = LocalCluster(
            n_workers=workers,
            threads_per_worker=threads,
            memory_limit=_memory_limit(memory, threads),
            host="127.0.0.1",
            # even without a dashboard a scheduler serves its state: not on 8787, which may be taken
            dashboard_address=dashboard_address or "127.0.0.1:0",
            scheduler_kwargs={"dashboard": _has_bokeh() and dashboard_address is not None},
            silence_logs=40,
            preload=["distem.execution.dask.worker"],
        )
    client = Client(cluster, set_as_default=False)
    return DaskExecutor(client, owned=[client, cluster, Silence()], local=True)


def _environment() -> dict[str, Any]:
    """What Dask sets before a worker starts, but for the size from which free memory is given back.

    With that, blocks are decoded into fresh pages: a third of the CPU time of a streamed pass. Without,
    the allocator follows the sizes that come and go; one arena, or each thread would hold back its own.
    """
    preset: dict[str, Any] = dask.config.get("distributed.nanny.pre-spawn-environ")
    kept = {name: value for name, value in preset.items() if (name, value) != DASKS_TRIM_THRESHOLD}
    return {"MALLOC_ARENA_MAX": 1, **kept}


def _has_bokeh() -> bool:
    """Bokeh is an extra: without it the cluster runs without a dashboard."""
    return importlib.util.find_spec("bokeh") is not None


def connect(
    address: str,
    *,
    security: Mapping[str, str] | None = None,
    timeout: float = 10.0,
    allow_version_skew: bool = False,
) -> DaskExecutor:
    """Use a running scheduler, whose workers are waited for when the executor begins.

    Parameters
    ----------
    address : str
        ``tcp://host:port`` or ``tls://host:port``.
    security : mapping, optional
        ``ca_file``, ``cert`` and ``key``: paths of PEM files.
    timeout : float
        Seconds to wait for the scheduler.
    allow_version_skew : bool
        Take workers of other versions too.

    Raises
    ------
    ClusterError
        The scheduler does not answer.
    """
    try:
        client = Client(address, timeout=timeout, security=_security(security), set_as_default=False)
    except (OSError, TimeoutError, ValueError, CommClosedError) as error:
        raise ClusterError(
            f"The Dask scheduler at {address} did not answer within {timeout:g} s ({error}).",
            "Check cluster.address, that the scheduler runs and that this machine may reach its port.",
        ) from error
    versions = None if allow_version_skew else Versions(client)
    first = partial(_await_a_worker, client, address, timeout)
    return DaskExecutor(client, owned=[client, Silence()], versions=versions, wait=first)


def _await_a_worker(client: Client, address: str, timeout: float) -> None:
    try:
        client.wait_for_workers(1, timeout=timeout)
    except TimeoutError as error:
        raise ClusterError(
            f"The Dask scheduler at {address} has no workers after {timeout:g} s.",
            "Start workers, or raise cluster.timeout.",
        ) from error


def _security(files: Mapping[str, str] | None) -> Security | None:
    if not files:
        return None
    return Security(
        tls_ca_file=files.get("ca_file"),
        tls_client_cert=files.get("cert"),
        tls_client_key=files.get("key"),
        require_encryption=True,
    )


def current_client() -> Client | None:
    """The Dask client in scope, or None."""
    try:
        return get_client()
    except ValueError:
        return None
