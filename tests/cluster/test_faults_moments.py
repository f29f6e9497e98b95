"""A worker killed in each part of a run, with a nanny and without; the driver waits until the blow falls."""

import pytest
from harness import LOCAL, Job, dask_cluster, free_port, row, workers_of

pytestmark = [pytest.mark.cluster, pytest.mark.slow_cluster, pytest.mark.timeout(600)]
PARTS = ["reading", "seeding", "E-step", "reduction", "M-step", "assignment", "finalising"]


@pytest.fixture(scope="module")
def wide(tmp_path_factory):
    """A job on so many blocks that their sums are merged on the workers: 20."""
    options = {"fit__max_passes": 5, "output__variables": ["label"]}
    return Job(tmp_path_factory.mktemp("wide"), 20, 90_000, 90_000, **options)


@pytest.mark.parametrize("part", PARTS)
def test_a_worker_with_a_nanny(wide, part):
    tally, name = row(f"kill -9 of a worker in {part} (nanny)"), f"nanny-{part}"
    tally.tried += 1
    cluster = LOCAL | {"partitions": 20, "resident": part in ("reading", "reduction", "M-step")}
    hold = wide.held(name, part, cluster)
    process = wide.start(hold.path)
    hold.reached(process)
    workers_of(process)[0].kill()
    wide.released(name, tally, hold, process)


@pytest.mark.parametrize("part", PARTS)
def test_a_worker_without_a_nanny(wide, tmp_path, part):
    tally, name, port = row(f"kill -9 of a worker in {part} (no nanny)"), f"bare-{part}", free_port()
    tally.tried += 1
    cluster = {"kind": "address", "address": f"tcp://127.0.0.1:{port}", "timeout": 120}
    hold = wide.held(name, part, cluster | {"partitions": 20, "resident": part != "assignment"})
    with dask_cluster(tmp_path, port) as (_, workers):
        process = wide.start(hold.path)
        hold.reached(process)
        workers[0].kill()
        wide.released(name, tally, hold, process)
