"""Workers of another version that join a run under way, on a real scheduler."""

import time
from dataclasses import dataclass

import pytest
from distributed import Client, LocalCluster
from runs import blobs, small_blocks, store

from distem.data.open import open_source
from distem.errors import ClusterError, Interrupted
from distem.execution.dask import DaskExecutor, connect, versions
from distem.execution.dask.versions import Versions

pytestmark = pytest.mark.cluster


@pytest.fixture
def cluster():
    with LocalCluster(
        n_workers=1,
        threads_per_worker=1,
        processes=False,
        protocol="tcp://",
        host="127.0.0.1",
        dashboard_address="127.0.0.1:0",
        scheduler_kwargs={"dashboard": False},
        worker_dashboard_address=None,
        silence_logs=50,
    ) as cluster:
        yield cluster


@pytest.fixture
def blocks(tmp_path):
    store(tmp_path / "data.zarr", blobs(400), chunks=100)
    with small_blocks(100):
        return open_source("zarr", str(tmp_path / "data.zarr")).blocks()


@pytest.fixture
def later(cluster, monkeypatch):
    """A second worker that tells of another NumPy: it has none, being a thread of this process."""
    first = {worker.address for worker in cluster.workers.values()}

    def asking(_):
        def told(dask_worker=None):
            known = dask_worker is None or dask_worker.address in first
            return {"numpy": "2.0" if known else "1.0"}

        return told

    monkeypatch.setattr(versions, "_asking", asking)

    def join():
        cluster.scale(2)
        until = time.monotonic() + 20
        while len(cluster.scheduler.workers) < 2 and time.monotonic() < until:
            time.sleep(0.01)

    return join


@dataclass(frozen=True)
class Count:
    """Counts rows; on one block something happens first."""

    meanwhile: object = None
    name: str = "count"

    def __call__(self, rows, block):
        if block == 2 and self.meanwhile is not None:
            MEANWHILE[self.meanwhile]()
        return rows.n


MEANWHILE = {}


def test_it_is_refused_at_the_next_pass(cluster, blocks, later):
    with Client(cluster, set_as_default=False) as client:
        executor = DaskExecutor(client, versions=Versions(client))
        with executor.open(blocks, resident=True, partitions=4) as opened:
            assert opened.map_reduce(Count()) == 400
            later()
            with pytest.raises(ClusterError, match=r"numpy is 1\.0 on tcp://127\.0\.0\.1:\d+ and 2\.0 here"):
                opened.map_reduce(Count())
        with DaskExecutor(client).open(blocks, resident=True, partitions=4) as opened:
            assert opened.map_reduce(Count()) == 400  # where it is allowed


def test_sums_it_may_have_had_a_part_in_do_not_count(cluster, blocks, later):
    MEANWHILE["join"] = later
    with Client(cluster, set_as_default=False) as client:
        executor = DaskExecutor(client, versions=Versions(client))
        with (
            executor.open(blocks, resident=False, partitions=4) as opened,
            pytest.raises(ClusterError, match="other versions"),
        ):
            opened.map_reduce(Count("join"))


def test_a_cluster_that_is_lost_as_it_is_asked_ends_with_75_and_a_closed_client(cluster, monkeypatch):
    asked = []

    def run(self, *_, **__):
        asked.append(self)
        raise OSError("Timed out trying to connect to tcp://127.0.0.1:1 after 30 s")

    monkeypatch.setattr(Client, "run", run)
    with (
        pytest.raises(Interrupted, match="The cluster was lost") as ended,
        connect(cluster.scheduler_address) as executor,
    ):
        executor.begin()
    assert ended.value.exit_code == 75
    assert [client.status for client in asked] == ["closed"]
