"""Workers and schedulers that are killed, stopped and replaced while a job runs."""

import os
import re
import signal

import psutil
import pytest
from harness import LOCAL, at_pass, dask_cluster, end, free_port, log_of, row, workers_of

pytestmark = [pytest.mark.cluster, pytest.mark.slow_cluster, pytest.mark.timeout(600)]


def test_two_workers_killed_at_once(job):
    tally, name = row("kill -9 of both workers at once (nanny)"), "both"
    tally.tried += 1
    hold = job.held(name, "E-step", LOCAL)
    process = job.start(hold.path)
    hold.reached(process)
    both = workers_of(process)
    assert len(both) == 2
    for worker in both:
        worker.kill()
    job.released(name, tally, hold, process)


def test_the_scheduler_killed_and_restarted(job, tmp_path):
    tally, name = row("kill -9 of the scheduler, then another"), "scheduler"
    tally.tried += 1
    port = free_port()
    path = job.config(name, {"kind": "address", "address": f"tcp://127.0.0.1:{port}", "timeout": 120})
    with dask_cluster(tmp_path, port) as (scheduler, _):
        process = job.start(path)
        job.wait(name, process, at_pass(3))
        scheduler.kill()
        code, err = end(process)
    assert code in (0, 75), err
    assert code == 0 or "Run the same command to go on." in err.splitlines()[-1], err
    assert "Traceback" not in err, err
    with dask_cluster(tmp_path, port):
        job.until_done(path)
    job.survived(name, tally)


def test_a_stopped_worker(job, tmp_path):
    """It holds rows, and is no longer heard of: the run ends and names it, also in its log."""
    tally, name = row("SIGSTOP of a worker"), "stopped"
    tally.tried += 1
    port = free_port()
    cluster = {"kind": "address", "address": f"tcp://127.0.0.1:{port}", "timeout": 120}
    hold = job.held(name, "E-step", cluster, fit__stall_timeout=8)
    with dask_cluster(tmp_path, port) as (_, workers):
        process = job.start(hold.path)
        hold.reached(process)
        os.kill(workers[0].pid, signal.SIGSTOP)
        hold.release()
        code, err = end(process)
        assert code == 75, err
        stopped, other = (re.compile(rf"127\.0\.0\.1:({'|'.join(map(str, ports(w)))}) ") for w in workers)
        ended = log_of(job.folder / name)[-1]
        for told in (err, ended["error"]):
            assert stopped.search(told), (told, stopped)
            assert not other.search(told), (told, other)
            assert "is silent: it was stopped" in told
        os.kill(workers[0].pid, signal.SIGCONT)
        job.until_done(hold.path)
    job.survived(name, tally)


def ports(process):
    """What a process listens on."""
    found = psutil.Process(process.pid).net_connections("tcp")
    return {c.laddr.port for c in found if c.status == psutil.CONN_LISTEN}
