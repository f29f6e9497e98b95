"""Tasks that fail or stand still: tried elsewhere, given up with a name, or ended with the cause."""

import threading
import time
from dataclasses import dataclass
from types import SimpleNamespace

import numpy as np
import pytest
from distributed import Client, LocalCluster, get_worker
from distributed.scheduler import KilledWorker
from runs import blobs, small_blocks, store

from distem.data.open import open_source
from distem.errors import DamagedChunkError, FitError, Interrupted
from distem.execution.dask import DaskExecutor
from distem.execution.dask.failures import cluster_failures
from distem.execution.dask.vigil import Vigil

pytestmark = pytest.mark.cluster


@pytest.fixture(scope="module")
def client():
    """Two workers that are threads of this process: real scheduling, no start-up."""
    with (
        LocalCluster(
            n_workers=2,
            threads_per_worker=1,
            processes=False,
            protocol="tcp://",
            host="127.0.0.1",
            dashboard_address="127.0.0.1:0",
            scheduler_kwargs={"dashboard": False},
            worker_dashboard_address=None,
            silence_logs=50,
        ) as cluster,
        Client(cluster, set_as_default=False) as client,
    ):
        yield client


@pytest.fixture(scope="module")
def blocks(tmp_path_factory):
    path = tmp_path_factory.mktemp("vigil") / "data.zarr"
    store(path, blobs(400), chunks=100)
    with small_blocks(100):
        return open_source("zarr", str(path)).blocks()


CALLS: list[tuple[int, str]] = []


@dataclass(frozen=True)
class Sum:
    value: float

    def __add__(self, other):
        return Sum(self.value + other.value)


@dataclass(frozen=True)
class Failing:
    """Adds up rows, but fails on one block as often as it is told, wherever `on` says."""

    error: type[Exception] = ValueError
    times: int = 10
    name: str = "failing"

    def __call__(self, rows, block):
        if block == 2:
            CALLS.append((block, get_worker().address))
            if len(CALLS) <= self.times:
                raise self.error("one bad node")
        return Sum(float(rows.values.sum()))


def summed(client, blocks, run, resident=False):
    CALLS.clear()
    executor = DaskExecutor(client)
    executor.guard(60.0)
    with executor.open(blocks, resident=resident, partitions=4) as opened:
        return opened.map_reduce(run).value


@pytest.mark.parametrize("resident", [False, True], ids=["streamed", "resident"])
@pytest.mark.parametrize("times", [1, 2])
def test_a_task_that_fails_is_tried_on_another_worker(client, blocks, times, resident):
    whole = sum(float(block.load().values.sum()) for block in blocks)
    assert summed(client, blocks, Failing(times=times), resident) == pytest.approx(whole, rel=1e-12)
    assert len(CALLS) == times + 1
    assert CALLS[0][1] != CALLS[1][1]


def test_one_that_fails_everywhere_names_block_array_and_chunk(client, blocks):
    with pytest.raises(FitError) as failed:
        summed(client, blocks, Failing())
    text = str(failed.value)
    assert "The pass failing failed on block 2 (chunk 2 of 'a', 'b', 'c')" in text
    assert "tried 3 times on tcp://127.0.0.1:" in text
    assert text.count("tcp://") == 2
    assert "ValueError: one bad node" in text
    assert len(CALLS) == 3


def test_distems_own_errors_stay_what_they_are(client, blocks):
    with pytest.raises(DamagedChunkError, match="one bad node"):
        summed(client, blocks, Failing(DamagedChunkError))
    with pytest.raises(Interrupted, match="one bad node"):
        summed(client, blocks, Failing(Interrupted))
    assert len(CALLS) == 1  # nothing to try again


def test_more_workers_may_die_under_a_task_than_dask_allows(client, blocks):
    summed(client, blocks, Failing(times=0))
    assert client.run_on_scheduler(lambda dask_scheduler: dask_scheduler.allowed_failures) == 10


GATE = threading.Event()


def stand():
    GATE.wait(20)


def test_what_stands_still_is_ended_with_its_name(client, monkeypatch):
    monkeypatch.setattr("distem.execution.dask.vigil.SILENT", 1.2)  # heartbeats come twice a second
    GATE.clear()
    try:
        with pytest.raises(Interrupted) as ended:
            Vigil(client, 0.6).over([client.submit(stand, pure=False)])
    finally:
        GATE.set()
    assert ended.value.exit_code == 75
    assert "No task was done for 0.6 s (fit.stall_timeout), 1 of 1 are left" in str(ended.value)
    assert "tcp://127.0.0.1:" in str(ended.value)
    assert "do not get done" in str(ended.value)


def test_what_moves_is_waited_for(client):
    tasks = client.map(time.sleep, np.full(8, 0.4), pure=False)  # 1.6 s, each 0.4
    assert Vigil(client, 1.0).over(tasks) == []


@pytest.mark.parametrize(
    ("before", "after", "words"),
    [
        ({}, {}, "has no workers"),
        ({"last_seen": 1.0}, {"last_seen": 1.0}, "is silent: it was stopped, or cannot be reached"),
        ({"last_seen": 1.0}, None, "has just left"),
        ({"last_seen": 1.0}, {"last_seen": 2.0, "status": "paused"}, "is paused: it uses 900 MiB of 1,000"),
        ({"last_seen": 1.0}, {"last_seen": 2.0, "status": "running"}, "no worker has taken them"),
    ],
    ids=["none", "silent", "gone", "paused", "idle"],
)
def test_causes(monkeypatch, before, after, words):
    about = {"host": "node7", "local_directory": "/none", "memory_limit": 1000 * 2**20}
    about["metrics"] = {"memory": 900 * 2**20}
    answers = [{"tcp://1:1": about | before}] if before else [{}]
    answers.append({} if after is None else {"tcp://1:1": about | after})
    client = SimpleNamespace(processing=dict, sync=None)
    monkeypatch.setattr("distem.execution.dask.vigil.workers_now", lambda _: answers.pop(0))
    monkeypatch.setattr("distem.execution.dask.vigil.SILENT", 0.0)
    assert words in Vigil(client)._cause({"x"})


def test_a_full_disk_is_seen(client, monkeypatch):
    monkeypatch.setattr("distem.execution.dask.vigil._FULL", 0.0)
    monkeypatch.setattr("distem.execution.dask.vigil.SILENT", 1.2)
    GATE.clear()
    try:
        with pytest.raises(Interrupted, match=r"the disk that worker .* spills to, .*, is full"):
            Vigil(client, 0.6).over([client.submit(stand, pure=False)])
    finally:
        GATE.set()


def test_killed_workers_name_the_partition_and_the_setting(blocks):
    killed = KilledWorker("e-step-12-2", SimpleNamespace(address="tcp://node7:1"), 10)
    with pytest.raises(Interrupted) as ended, cluster_failures(blocks):
        raise killed
    text = str(ended.value)
    assert "11 workers died while running e-step-12-2" in text
    assert "block 2 (chunk 2 of 'a', 'b', 'c')" in text
    for setting in ("cluster.memory", "cluster.partitions", "cluster.resident"):
        assert setting in text
