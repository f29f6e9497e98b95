"""A scheduler that somebody else has started, as docs/clusters.md has it."""

import os
import shutil
import time

import pytest
from following import block, configs, follow
from harness import PATIENCE, dask_process, end, free_port, listens, row, until
from runs import manifest

pytestmark = [pytest.mark.cluster, pytest.mark.slow_cluster, pytest.mark.timeout(300)]


def test_the_docs_can_be_followed(tmp_path):
    """In a network of its own, where the ports of the docs are free."""
    tally = row("address: the docs' commands")
    if os.geteuid() or shutil.which("unshare") is None or shutil.which("ip") is None:
        tally.skipped = "needs root, unshare and iproute2"
        pytest.skip(tally.skipped)
    tally.tried += 1
    text = "ip link set lo up\n" + block("clusters.md", "clusters/address.yaml")
    follow(text, configs(tmp_path), os.environ, "unshare", "--net")
    assert manifest(tmp_path / "configs" / "runs" / "flights-address")["status"] == "complete"
    tally.survived += 1


def test_a_signal_ends_a_run_that_waits_for_workers(job):
    tally, port = row("SIGTERM while workers are waited for"), free_port()
    tally.tried += 1
    address = {"kind": "address", "address": f"tcp://127.0.0.1:{port}", "timeout": 900, "grace": 600}
    where = ("--host", "127.0.0.1", "--port", str(port), "--dashboard-address", "127.0.0.1:0", "--no-show")
    with dask_process("scheduler", *where):
        until(lambda: listens(port), "the scheduler", every=0.05)
        process = job.start(job.config("waits", address))
        until(lambda: (job.folder / "waits" / ".lease").exists(), "a run that waits")
        time.sleep(2.0)  # it is connected by then
        process.terminate()
        began = time.monotonic()
        code, err = end(process)
    assert code == 75, err
    assert "ended by SIGTERM" in err
    assert time.monotonic() - began < PATIENCE / 4
    tally.survived += 1
