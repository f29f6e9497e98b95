"""Workers that run another version than the driver."""

import os
import shutil
from pathlib import Path

import pytest
from distributed import Client
from harness import dask_cluster, dask_process, dask_worker, free_port, row, until

import distem

pytestmark = [pytest.mark.cluster, pytest.mark.slow_cluster, pytest.mark.timeout(600)]


def test_another_version_on_one_worker(job, tmp_path):
    """Refused with the list, before anything is written; done where the user will have it so."""
    tally, name, port = row("another version on one worker"), "version", free_port()
    tally.tried += 1
    other, packages = "0.0.9", tmp_path / "packages"
    shutil.copytree(Path(distem.__file__).parent, packages / "distem")  # its compiled kernels with it
    (packages / "distem" / "_version.py").write_text(f'__version__ = "{other}"\n', encoding="utf-8")
    cluster = {"kind": "address", "address": f"tcp://127.0.0.1:{port}", "timeout": 120}
    worker = dask_worker(port, tmp_path)
    env = os.environ | {"PYTHONPATH": str(packages)}

    def both_are_there():
        return {distem.__version__, other} <= set(
            client.run(lambda: __import__("distem").__version__).values()
        )

    with (
        dask_cluster(tmp_path, port, workers=1),
        dask_process("worker", *worker, env=env, cwd=packages),
        Client(f"tcp://127.0.0.1:{port}", set_as_default=False, timeout=60) as client,
    ):
        until(both_are_there, "a worker of another version", every=0.5)
        code, err = job.run(job.config(name, cluster))
        assert code == 2, err
        assert f"distem is {other} on tcp://127.0.0.1:" in err
        assert f"and {distem.__version__} here" in err
        assert err.count("tcp://127.0.0.1:") == 1, "the other worker has nothing to be told for"
        assert "cluster.allow_version_skew" in err
        assert not (job.folder / name).exists()
        job.until_done(job.config(name, cluster | {"allow_version_skew": True}))
    job.survived(name, tally)
