"""Workers that want more memory than there is: for the nanny, for the kernel, for the disk they spill to."""

import os
import subprocess
from contextlib import contextmanager
from pathlib import Path

import pytest
from distributed import Client
from harness import LOCAL, Job, dask_cluster, dask_process, dask_worker, end, free_port, listens, row, until

pytestmark = [pytest.mark.cluster, pytest.mark.slow_cluster, pytest.mark.timeout(600)]

LIMIT = 600 * 2**20
HOG = """
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from distem.pipelines import cluster
from distem.stages import scan


def few(dask_scheduler=None):
    dask_scheduler.allowed_failures = 1


@dataclass(frozen=True)
class Hog:
    name: str = "hog"

    def __call__(self, rows, block):
        kept = np.ones({limit} // 8)
        time.sleep(20)
        return kept.sum()


def run(session):
    if not Path({cured!r}).exists():
        scanned = scan(session)
        session.executor.client.run_on_scheduler(few)
        scanned.blocks.map_reduce(Hog())
    return cluster.run(session)
"""


def hog(job: Job, name: str, cluster: dict[str, object]) -> tuple[Path, Path]:
    """A config whose tasks want more than `LIMIT` each, until a file says that they are cured."""
    cured = job.folder / f"{name}-cured"
    (job.folder / f"{name}.py").write_text(HOG.format(limit=LIMIT, cured=str(cured)), encoding="utf-8")
    return job.config(name, cluster, pipeline=f"{name}.py"), cured


def says_what_to_do(code, err):
    """It ends in order, names the partition and the settings to change."""
    assert code == 75, err
    assert "the partition that begins with block 0" in err
    assert "cluster.memory" in err
    assert "cluster.partitions" in err
    assert "Traceback" not in err


def test_a_worker_over_its_limit_is_ended_by_the_nanny(job):
    """As often as a task's workers may die."""
    tally, name = row("a worker over its memory limit (nanny)"), "hog-nanny"
    tally.tried += 1
    path, cured = hog(job, name, LOCAL | {"workers": 1, "memory": "600MiB"})
    says_what_to_do(*job.run(path))
    cured.touch()
    job.until_done(path)
    job.survived(name, tally)


@contextmanager
def cgroup(limit, tally):
    """A control group with so many bytes of memory; what a command begins with that is to run in it."""
    v1, v2 = Path("/sys/fs/cgroup/memory"), Path("/sys/fs/cgroup")
    old = (v1 / "memory.limit_in_bytes").exists()
    group = (v1 if old else v2) / f"distem-{os.getpid()}"
    try:
        try:
            if not old:
                (v2 / "cgroup.subtree_control").write_text("+memory")
            group.mkdir()
            for name in ("memory.limit_in_bytes", "memory.memsw.limit_in_bytes") if old else ("memory.max",):
                if (group / name).exists():
                    (group / name).write_text(str(limit))
            if (group / "memory.swap.max").exists():
                (group / "memory.swap.max").write_text("0")
        except OSError as error:
            tally.skipped = f"no control group with a memory limit can be made here ({error.strerror})"
            pytest.skip(tally.skipped)
        yield "sh", "-c", 'echo $$ > "$0" && exec "$@"', str(group / "cgroup.procs")
    finally:
        if group.is_dir():
            until(lambda: not (group / "cgroup.procs").read_text(), "an empty control group", every=0.05)
            group.rmdir()


def test_a_worker_over_its_limit_is_ended_by_the_kernel(job, tmp_path):
    """Its control group has less than Dask was told: it is killed without a word."""
    tally, name, port = row("a worker over its memory limit (cgroup)"), "hog-cgroup", free_port()
    path, cured = hog(job, name, {"kind": "address", "address": f"tcp://127.0.0.1:{port}", "timeout": 120})
    worker = (*dask_worker(port, tmp_path, nanny=True), "--memory-limit", "4GiB")
    with cgroup(LIMIT, tally) as within, dask_cluster(tmp_path, port, workers=0):
        tally.tried += 1
        with dask_process("worker", *worker, under=within) as nanny:
            says_what_to_do(*job.run(path))
            cured.touch()
            job.until_done(path)
            nanny.terminate()
            nanny.wait()
    job.survived(name, tally)


@contextmanager
def small_disk(folder, kibibytes, tally):
    """A tmpfs."""
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={kibibytes}k", "tmpfs", str(folder)]
    if os.geteuid() or subprocess.run(mount, check=False, capture_output=True).returncode:
        tally.skipped = "a tmpfs can be mounted by root only"
        pytest.skip(tally.skipped)
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=False)


def fill(port):
    """Take what a worker has of memory, but for a little: Dask spills what it holds, and pauses it."""

    def take(dask_worker):
        import psutil

        room = 0.87 * dask_worker.memory_manager.memory_limit - psutil.Process().memory_info().rss
        dask_worker.ballast = b"\x01" * int(room)

    with Client(f"tcp://127.0.0.1:{port}", set_as_default=False, timeout=60) as client:
        client.run(take)


def test_a_full_spill_folder(job, tmp_path):
    """A worker that cannot spill is paused by Dask, for ever: 75 and the cause; then other workers."""
    tally, name, port = row("disk full under the spill folder"), "spill", free_port()
    cluster = {"kind": "address", "address": f"tcp://127.0.0.1:{port}", "timeout": 120, "resident": True}
    hold = job.held(name, "E-step", cluster, fit__stall_timeout=8)
    with small_disk(tmp_path / "disk", 256, tally):
        tally.tried += 1
        with dask_cluster(tmp_path / "disk", port, workers=1):
            process = job.start(hold.path)
            hold.reached(process)
            fill(port)
            hold.release()
            code, err = end(process)
        assert code == 75, err
        assert f"is paused and the disk it spills to, {tmp_path / 'disk'}" in err
        assert "is full" in err
        assert "Traceback" not in err
    until(lambda: not listens(port), "the end of the scheduler")
    with dask_cluster(tmp_path, port, workers=1):
        job.until_done(hold.path)
    job.survived(name, tally)
