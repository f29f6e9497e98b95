"""Workers that run another version than the driver."""

import os
import shutil
from pathlib import Path

import pytest
from distributed import Client
from harness import dask_cluster, dask_process, dask_worker, end, free_port, row, until

import distem

pytestmark = [pytest.mark.cluster, pytest.mark.slow_cluster, pytest.mark.timeout(600)]


OTHER = "0.0.9"


@pytest.fixture
def packages(tmp_path):
    """A folder with a distem that calls itself another, and its compiled kernels."""
    shutil.copytree(Path(distem.__file__).parent, tmp_path / "packages" / "distem")
    text = f'__version__ = "{OTHER}"\n'
    (tmp_path / "packages" / "distem" / "_version.py").write_text(text, encoding="utf-8")
    return tmp_path / "packages"


def of_another_version(port, folder, packages):
    """A worker of that one."""
    env = os.environ | {"PYTHONPATH": str(packages)}
    return dask_process("worker", *dask_worker(port, folder), env=env, cwd=packages)


def until_both_are_there(client):
    def told():
        return set(client.run(lambda: __import__("distem").__version__).values())

    until(lambda: {distem.__version__, OTHER} <= told(), "a worker of another version", every=0.5)


def refused(code, err):
    assert code == 2, err
    assert f"distem is {OTHER} on tcp://127.0.0.1:" in err
    assert f"and {distem.__version__} here" in err
    assert err.count("tcp://127.0.0.1:") == 1, "the other worker has nothing to be told for"
    assert "cluster.allow_version_skew" in err


def test_another_version_on_one_worker(job, tmp_path, packages):
    """Refused with the list, before anything is written; done where the user will have it so."""
    tally, name, port = row("another version on one worker"), "version", free_port()
    tally.tried += 1
    cluster = {"kind": "address", "address": f"tcp://127.0.0.1:{port}", "timeout": 120}
    with (
        dask_cluster(tmp_path, port, workers=1),
        of_another_version(port, tmp_path, packages),
        Client(f"tcp://127.0.0.1:{port}", set_as_default=False, timeout=60) as client,
    ):
        until_both_are_there(client)
        refused(*job.run(job.config(name, cluster)))
        assert not (job.folder / name).exists()
        job.until_done(job.config(name, cluster | {"allow_version_skew": True}))
    job.survived(name, tally)


def test_another_version_on_a_worker_that_joins_later(job, tmp_path, packages):
    """Refused as soon as it could have had a part in a pass; what counted before goes on without it."""
    tally, name, port = row("another version on a worker that joins later"), "later", free_port()
    tally.tried += 1
    cluster = {"kind": "address", "address": f"tcp://127.0.0.1:{port}", "timeout": 120}
    hold = job.held(name, "E-step", cluster)
    with dask_cluster(tmp_path, port, workers=1):
        process = job.start(hold.path)
        hold.reached(process)
        with (
            of_another_version(port, tmp_path, packages),
            Client(f"tcp://127.0.0.1:{port}", set_as_default=False, timeout=60) as client,
        ):
            until_both_are_there(client)
            hold.release()
            refused(*end(process))
        job.until_done(hold.path)
    job.survived(name, tally)
