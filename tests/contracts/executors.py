"""Places where passes run, by name; the same bits are asked of all of them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from distributed import Client, LocalCluster

from distem.execution.base import Executor
from distem.execution.dask import DaskExecutor
from distem.execution.serial import SerialExecutor
from distem.execution.threads import ThreadsExecutor

NAMES = ("serial", "threads-1", "threads-4", "dask-1", "dask-2", "dask-4")


@contextmanager
def dask_client(workers: int, *, processes: bool = False) -> Iterator[Client]:
    """A client of a small cluster, by default of threads in this process."""
    with (
        LocalCluster(
            n_workers=workers,
            threads_per_worker=1,
            processes=processes,
            host="127.0.0.1" if processes else None,
            dashboard_address="127.0.0.1:0",
            silence_logs=50,
        ) as cluster,
        Client(cluster, set_as_default=False) as client,
    ):
        yield client


@contextmanager
def executor(name: str) -> Iterator[Executor]:
    """The executor of a name."""
    kind, _, workers = name.partition("-")
    if kind == "serial":
        with SerialExecutor() as found:
            yield found
    elif kind == "threads":
        with ThreadsExecutor(int(workers)) as found:
            yield found
    else:
        with dask_client(int(workers)) as client:
            yield DaskExecutor(client)
