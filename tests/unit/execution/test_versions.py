"""Workers are asked for their versions, each once; those that die meanwhile have nothing to say."""

import asyncio

import pytest
from distributed.comm.core import CommClosedError

from distem.errors import ClusterError, Interrupted
from distem.execution.dask import managed
from distem.execution.dask.versions import COMPARED_PACKAGES, Versions, _asking

OURS = _asking(COMPARED_PACKAGES)()


class Cluster:
    """A client of workers that answer with what is in `says`, or do not."""

    def __init__(self, **says):
        self.says, self.asked, self.scheduler, self.closed = says, [], object(), False

    def nthreads(self):
        return dict.fromkeys(self.says, 1)

    def sync(self, ask):
        return asyncio.run(ask())

    async def run(self, _, workers, on_error):
        assert on_error == "return"
        self.asked += workers
        told = {address: self.says[address] for address in workers}
        for address, said in told.items():
            if said == "dies":
                told[address] = CommClosedError("in <TCP>: Stream is closed")
                del self.says[address]
        return told

    def wait_for_workers(self, minimum, timeout):
        pass

    def close(self):
        self.closed = True


def test_each_worker_is_asked_once():
    cluster = Cluster(a=OURS, b=OURS)
    versions = Versions(cluster)
    versions.refuse_others()
    cluster.says["c"] = OURS
    versions.refuse_others()
    assert cluster.asked == ["a", "b", "c"]


def test_one_that_comes_later_with_other_versions_is_refused_each_time():
    cluster = Cluster(a=OURS)
    versions = Versions(cluster)
    versions.refuse_others()
    cluster.says["b"] = OURS | {"numpy": "1.0"}
    for _ in range(2):
        with pytest.raises(ClusterError, match=r"numpy is 1\.0 on b and .* here") as refused:
            versions.refuse_others()
    assert refused.value.exit_code == 2
    assert "cluster.allow_version_skew" in str(refused.value)


def test_one_that_was_away_is_asked_again():
    cluster = Cluster(a=OURS, b=OURS)
    versions = Versions(cluster)
    versions.refuse_others()
    del cluster.says["b"]
    versions.refuse_others()
    cluster.says["b"] = OURS | {"numba": None}
    with pytest.raises(ClusterError, match="numba is missing on b"):
        versions.refuse_others()


def test_one_that_dies_as_it_is_asked_is_no_part_of_the_cluster_any_more():
    cluster = Cluster(a=OURS, b="dies")
    Versions(cluster).refuse_others()
    assert set(cluster.says) == {"a"}


def test_one_that_is_there_and_does_not_answer_is_a_cluster_that_was_lost():
    with pytest.raises(Interrupted, match="The cluster was lost: CommClosedError") as ended:
        Versions(Cluster(a=CommClosedError("gone"))).refuse_others()
    assert ended.value.exit_code == 75


def test_a_run_that_cannot_begin_for_it_closes_its_client():
    cluster = Cluster(a=OSError("Timed out trying to connect"))
    executor = managed.first_workers(cluster, [cluster], 1, 1.0, allow_version_skew=False, where="The queue")
    with pytest.raises(Interrupted, match="Run the same command to go on"), executor:
        executor.begin()
    assert cluster.closed


def test_where_skew_is_allowed_nobody_is_asked():
    cluster = Cluster(a=OURS | {"numpy": "1.0"})
    executor = managed.first_workers(cluster, [cluster], 1, 1.0, allow_version_skew=True, where="The queue")
    executor.begin()
    assert not cluster.asked
