"""Workers that are jobs of Slurm, beside a scheduler in this process."""

from __future__ import annotations

import shlex
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import dask
from distributed import Client, Security

from distem.errors import ClusterError, ConfigError, DistemError
from distem.execution.dask.executor import DaskExecutor
from distem.execution.dask.managed import first_workers, needed, refused

LEAVE_AT, STAGGER = 0.9, 0.05
"""Shares of the walltime: when workers hand on what they hold and leave, and by how much they differ."""

LATEST = "300s"
"""How long a worker that has lost the scheduler stays in its allocation."""


class _Folder:
    """The certificates of a run, for the time of the run."""

    def __init__(self, parent: str) -> None:
        self.path = Path(tempfile.mkdtemp(prefix=".distem-", dir=Path(parent).expanduser()))

    def close(self) -> None:
        """Remove them."""
        shutil.rmtree(self.path, ignore_errors=True)


def slurm(
    *,
    minimum: int,
    maximum: int,
    cores: int,
    memory: int,
    walltime: str,
    seconds: int,
    queue: str | None,
    account: str | None,
    directives: Sequence[str],
    prologue: Sequence[str],
    interface: str | None,
    host: str | None,
    tls: bool,
    shared_folder: str,
    log_folder: str | None,
    local_folder: str | None,
    timeout: float,
    allow_version_skew: bool,
) -> DaskExecutor:
    """Submit jobs, and keep their number. The executor waits for the smallest number of workers.

    Raises
    ------
    ConfigError
        A package or Slurm's commands are not there.
    ClusterError
        The scheduler or the jobs cannot be started.
    """
    jobqueue = needed("dask_jobqueue", "slurm")
    if shutil.which("sbatch") is None:
        raise ConfigError(
            "cluster.kind: slurm needs Slurm's command sbatch, which is not on the PATH.",
            "Run this on a login node or within a job.",
        )
    owned: list[Any] = []
    listening = {"host": host} if host else {}
    stay = ["--lifetime", f"{int(seconds * LEAVE_AT)}s", "--lifetime-stagger", f"{int(seconds * STAGGER)}s"]
    try:
        owned.append(folder := _Folder(shared_folder))
        # stolen tasks would take a copy of their rows along; a daemonic nanny ends with its job
        with dask.config.set({"distributed.scheduler.work-stealing": False}):
            cluster = jobqueue.SLURMCluster(
                queue=queue,
                account=account,
                cores=cores,
                processes=1,
                memory=f"{memory}B",
                walltime=walltime,
                job_extra_directives=list(directives),
                job_script_prologue=["export MALLOC_ARENA_MAX=1", *prologue],
                interface=interface,
                # without a password as Dask's dashboard is, it stays on this node: ssh -L reaches it
                scheduler_options=listening | {"dashboard_address": "127.0.0.1:0"},
                security=_certificates(folder.path) if tls else None,
                log_directory=log_folder,
                local_directory=shlex.quote(local_folder) if local_folder else None,
                death_timeout=LATEST,
                worker_extra_args=[*stay, *(["--host", host] if host else []), "--no-dashboard"],
            )
        owned.insert(0, cluster)
        _can_run(cluster.job_script())
        # not scale: it does not replace a job that died
        cluster.adapt(minimum=minimum, maximum=maximum)
        client = Client(cluster, set_as_default=False)
    except (
        OSError,
        ValueError,
        RuntimeError,
        subprocess.SubprocessError,
    ) as error:  # ConfigErrors are ValueErrors
        for thing in owned:
            with suppress(OSError, RuntimeError):
                thing.close()
        if isinstance(error, DistemError):
            raise
        raise refused("Slurm", error, "Check the section cluster: interface, host, folders.") from error
    return first_workers(
        client,
        [client, *owned],
        minimum,
        timeout,
        allow_version_skew=allow_version_skew,
        where="Slurm's queue",
    )


def _can_run(script: str) -> None:
    """Ask Slurm about a job: one that is refused when it is submitted would be waited for in vain.

    Raises
    ------
    ClusterError
        It says no.
    """
    asked = subprocess.run(
        ["sbatch", "--test-only"], input=script, capture_output=True, text=True, check=False, timeout=60
    )
    if asked.returncode:
        raise ClusterError(
            f"Slurm refuses the workers' jobs: {' '.join(asked.stderr.split())}",
            "Change cluster.queue, account, cores, memory, walltime or job_extra.",
        )


def _certificates(folder: Path) -> Security:
    """Certificates of this run, in files that the jobs can read and nobody else.

    Dask's own, which exist in memory, would be written by dask-jobqueue, and outlive what it is told.
    """
    needed("cryptography", "slurm")
    made = Security.temporary()
    texts = {"ca_file": made.tls_ca_file, "cert": made.tls_worker_cert, "key": made.tls_worker_key}
    files = {name: folder / f"{name}.pem" for name in texts}
    for name, path in files.items():
        path.touch(mode=0o600)
        path.write_text(texts[name], encoding="ascii")
    ca, cert, key = (str(files[name]) for name in ("ca_file", "cert", "key"))
    return Security(
        require_encryption=True,
        tls_ca_file=ca,
        **{f"tls_{role}_cert": cert for role in ("client", "scheduler", "worker")},
        **{f"tls_{role}_key": key for role in ("client", "scheduler", "worker")},
    )
