"""Workers that are jobs of a real Slurm with one node."""

import pytest
from following import block, configs, follow
from harness import at_pass, end, row, said, until
from runs import command, manifest

pytest.importorskip("dask_jobqueue", reason="needs the extra slurm")
pytestmark = [pytest.mark.cluster, pytest.mark.slow_cluster, pytest.mark.timeout(900)]


def workers(folder, **changes):
    return {
        "kind": "slurm",
        "adapt": {"minimum": 2, "maximum": 2},
        "memory": "1GiB",
        "walltime": "00:10:00",
        "host": "127.0.0.1",
        "shared_folder": str(folder),
        "log_folder": str(folder),
        "prologue": [f"export NUMBA_CACHE_DIR={folder}/numba"],
        "timeout": 60,
    } | changes


@pytest.fixture
def folder(tmp_path):
    tmp_path.chmod(0o755)
    return tmp_path


def jobs(slurm):
    return said(slurm, "squeue", "-h", "-n", "dask-worker", "-t", "R", "-o", "%i").split()


@pytest.mark.parametrize("tls", [True, False])
def test_it_gives_the_bits_of_a_serial_run(job, slurm, folder, tls):
    tally = row(f"Slurm's jobs as workers, {'TLS' if tls else 'plain'}")
    tally.tried += 1
    name = f"jobs-{tls}"
    done = command("run", job.config(name, workers(folder, tls=tls)), timeout=240, env=slurm)
    assert done.returncode == 0, done.stderr
    job.survived(name, tally)
    assert not list(folder.glob(".distem-*")), "certificates are left"
    until(lambda: not jobs(slurm), "the end of the workers' jobs", every=0.2)


def test_jobs_that_are_cancelled_are_submitted_anew(job, slurm, folder):
    """All of them: without others in their place the run could not end."""
    tally = row("Slurm's jobs as workers: all cancelled")
    tally.tried += 1
    process = job.start(job.config("jobs-cancelled", workers(folder)), env=slurm)
    job.wait("jobs-cancelled", process, at_pass(2))
    first = jobs(slurm)
    assert len(first) == 2
    said(slurm, "scancel", *first)
    code, err = end(process)
    assert code == 0, err
    job.survived("jobs-cancelled", tally)


def test_what_slurm_refuses_and_a_queue_that_is_full_are_said(job, slurm, folder):
    refused = command(
        "run", job.config("jobs-refused", workers(folder, memory="1TiB")), timeout=240, env=slurm
    )
    assert refused.returncode == 2, refused.stderr
    assert "Requested node configuration is not available" in refused.stderr
    assert "cluster.queue" in refused.stderr
    path = job.config("jobs-waiting", workers(folder, memory="10GiB", timeout=15))  # room for one only
    waited = command("run", path, timeout=240, env=slurm)
    assert waited.returncode == 75, waited.stderr
    assert "of the 2 workers of cluster.adapt.minimum after 15 s" in waited.stderr
    until(lambda: not said(slurm, "squeue", "-h", "-t", "R,PD"), "an empty queue", every=0.2)


def test_a_signal_while_jobs_wait_leaves_nothing_behind(job, slurm, folder):
    """Neither jobs nor certificates."""
    tally = row("Slurm's jobs as workers: SIGTERM while they wait")
    tally.tried += 1
    path = job.config(
        "jobs-wait", workers(folder, memory="10GiB", timeout=900, grace=600)
    )  # room for one only
    process = job.start(path, env=slurm)
    until(lambda: jobs(slurm), "the one job", every=0.1)
    process.terminate()
    code, err = end(process)
    assert code == 75, err
    assert "ended by SIGTERM" in err
    assert not list(folder.glob(".distem-*")), "certificates are left"
    until(lambda: not said(slurm, "squeue", "-h", "-t", "R,PD"), "an empty queue", every=0.2)
    tally.survived += 1


def test_the_docs_can_be_followed(slurm, folder):
    tally = row("Slurm's jobs as workers: the docs' commands")
    tally.tried += 1
    follow(block("clusters.md", "clusters/slurm.yaml"), configs(folder), slurm)
    assert manifest(folder / "configs" / "runs" / "flights-slurm")["status"] == "complete"
    tally.survived += 1
    until(lambda: not jobs(slurm), "the end of the workers' jobs", every=0.2)
