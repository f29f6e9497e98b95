"""Hosts that are cut off: a scheduler's, a driver's and two workers', in network namespaces of their own."""

import os
import shutil
import subprocess
import time
from contextlib import ExitStack

import pytest
from harness import end, row
from warm import Warm

pytestmark = [pytest.mark.cluster, pytest.mark.slow_cluster, pytest.mark.timeout(600)]

HOSTS = {"scheduler": 1, "driver": 2, "w1": 3, "w2": 4}
ADDRESS = "tcp://10.78.0.1:8786"
QUICK = {"COMM__TIMEOUTS__TCP": "12s", "COMM__TIMEOUTS__CONNECT": "12s", "SCHEDULER__WORKER_TTL": "10s"}
"""Dask notices a cut after 39 s; with these after half of that, which is as quick as it can be."""
CUT = 15.0
"""Seconds of a cut: longer than those."""


def ip(*words):
    """Whether a command of iproute2 went well."""
    return subprocess.run(["ip", *words], check=False, capture_output=True).returncode == 0


class Net:
    """A switch, and hosts with a link each to it."""

    def __init__(self, tag):
        self.tag = tag

    def up(self):
        """Make them; whether that was possible."""
        switch = self.name("switch")
        made = (
            ip("netns", "add", switch)
            and ip("-n", switch, "link", "add", "br0", "type", "bridge")
            and ip("-n", switch, "link", "set", "br0", "up")
        )
        for host, number in HOSTS.items():
            inside = self.name(host)
            link = ("type", "veth", "peer", "name", "eth0", "netns", inside)
            made = (
                made
                and ip("netns", "add", inside)
                and ip("-n", inside, "link", "set", "lo", "up")
                and ip("-n", switch, "link", "add", host, *link)
                and ip("-n", switch, "link", "set", host, "master", "br0", "up")
                and ip("-n", inside, "addr", "add", f"10.78.0.{number}/24", "dev", "eth0")
                and ip("-n", inside, "link", "set", "eth0", "up")
            )
        return made

    def down(self):
        """Take them away."""
        for host in ("switch", *HOSTS):
            ip("netns", "del", self.name(host))

    def name(self, host):
        """The namespace of a host."""
        return f"{self.tag}-{host}"

    def link(self, host, state):
        """Cut a host off, or connect it again."""
        assert ip("-n", self.name("switch"), "link", "set", host, state)


@pytest.fixture
def net():
    """Hosts of our own, on no network but theirs."""
    made = Net(f"distem{os.getpid()}")
    try:
        if os.geteuid() or shutil.which("ip") is None or not made.up():
            reason = "needs root, ip (iproute2) and network namespaces"
            row("links cut").skipped = reason
            pytest.skip(reason)
        yield made
    finally:
        made.down()


@pytest.mark.parametrize("whose", ["w1", "driver"], ids=["worker", "driver"])
def test_a_link_cut_and_restored(job, net, tmp_path, whose):
    """A worker that is away for long is done without; a driver that is, ends with 75 and can go on."""
    tally = row(f"the link of {'a worker' if whose == 'w1' else 'the driver'} cut and restored")
    tally.tried += 1
    name, env = f"link-{whose}", os.environ | {f"DASK_DISTRIBUTED__{key}": v for key, v in QUICK.items()}
    cluster = {"kind": "address", "address": ADDRESS, "timeout": 60, "insecure": True}
    hold = job.held(name, "E-step", cluster, fit__stall_timeout=60)

    with ExitStack() as stack:

        def on(host, module, *words):
            process = Warm(module, *words, env=env, net=net.name(host))
            stack.callback(process.kill)
            return process

        scheduler = ("--host", "10.78.0.1", "--port", "8786", "--no-dashboard", "--no-show")
        on("scheduler", "distributed.cli.dask_scheduler", *scheduler)
        for host in ("w1", "w2"):
            worker = (ADDRESS, "--nthreads", "1", "--no-dashboard", "--no-nanny", "--memory-limit", "1GiB")
            on(host, "distributed.cli.dask_worker", *worker, "--local-directory", tmp_path)
        process = on("driver", "distem.cli", "run", hold.path)
        hold.reached(process)
        net.link(whose, "down")
        hold.release()
        time.sleep(CUT)  # the fault itself, not a wait for something
        net.link(whose, "up")
        code, err = end(process)
        assert code == (0 if whose == "w1" else 75), err
        assert "Traceback" not in err, err
        if code:
            assert "The cluster was lost" in err
            code, err = end(on("driver", "distem.cli", "run", hold.path))
            assert code == 0, err
    job.survived(name, tally)
