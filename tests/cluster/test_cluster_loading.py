"""Resident rows on workers that come and go while they are loaded."""

from __future__ import annotations

import os
import signal
import time
from dataclasses import dataclass
from threading import Timer

import numpy as np
import pytest
from distributed import Client, LocalCluster

from distem.execution.dask import DaskExecutor
from distem.types import Rows


@dataclass(frozen=True)
class Slow:
    """A block that takes its time."""

    index: int
    n: int = 4
    nbytes: int = 64

    def load(self):
        time.sleep(2.0)
        return Rows(np.full((self.n, 2), float(self.index)))


class Total:
    name = "total"

    def __call__(self, rows, block):
        return rows.values.sum()


@pytest.mark.parametrize("workers", [pytest.param(1, marks=pytest.mark.slow_cluster), 2])
def test_all_workers_killed_while_rows_are_loaded_are_replaced(workers):
    with (
        LocalCluster(
            n_workers=workers,
            threads_per_worker=1,
            memory_limit=0,
            host="127.0.0.1",
            dashboard_address="127.0.0.1:0",
            scheduler_kwargs={"dashboard": False},
            silence_logs=50,
        ) as cluster,
        Client(cluster, set_as_default=False) as client,
    ):
        pids = list(client.run(os.getpid).values())
        killer = Timer(0.7, lambda: [os.kill(pid, signal.SIGKILL) for pid in pids])
        killer.start()
        blocks = [Slow(i) for i in range(3)]
        with DaskExecutor(client).open(blocks, resident=True, partitions=3) as opened:
            assert opened.map_reduce(Total()) == 8.0 * (0 + 1 + 2)
        killer.join()
        assert not set(pids) & set(client.run(os.getpid).values())
