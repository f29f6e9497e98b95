"""The table of faults, printed when the tests are over."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import harness
import pytest
import warm
from harness import row, said, until


@pytest.fixture(scope="session")
def job(tmp_path_factory: pytest.TempPathFactory) -> Iterator[harness.Job]:
    """The job that faults happen to, and its undisturbed result."""
    yield harness.Job(tmp_path_factory.mktemp("faults"))
    warm.none_is_left()


@pytest.fixture(scope="module")
def slurm() -> Iterator[dict[str, str]]:
    """Munge, a controller and a node of our own; the environment its commands need."""
    needed = ("munged", "slurmctld", "slurmd", "sbatch")
    if os.geteuid() or any(shutil.which(name) is None for name in needed):
        reason = "needs root, and the packages slurm-wlm and munge"
        row("Slurm").skipped = reason
        pytest.skip(reason)
    folder, host = Path(tempfile.mkdtemp(prefix="slurm-")), socket.gethostname().partition(".")[0]
    folder.chmod(0o755)
    for name in ("state", "spool", "munge", "run"):
        (folder / name).mkdir(mode=0o700 if name == "munge" else 0o755)
    (folder / "munge" / "key").write_bytes(os.urandom(1024))
    (folder / "munge" / "key").chmod(0o600)
    ports = []
    with contextlib.ExitStack() as stack:
        for _ in range(2):
            held = stack.enter_context(socket.socket())
            held.bind(("127.0.0.1", 0))
            ports.append(held.getsockname()[1])
    conf = folder / "slurm.conf"
    conf.write_text(
        f"""ClusterName=distemtest
SlurmctldHost={host}(127.0.0.1)
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/run/s
CredType=cred/munge
MpiDefault=none
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
SlurmdParameters=config_overrides
ReturnToService=2
KillWait=5
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
JobRequeue=1
SlurmctldPort={ports[0]}
SlurmdPort={ports[1]}
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
NodeName={host} NodeAddr=127.0.0.1 CPUs=8 Boards=1 SocketsPerBoard=1 CoresPerSocket=8 RealMemory=16000
PartitionName=main Nodes={host} Default=YES MaxTime=60 PriorityTier=1 PreemptMode=REQUEUE GraceTime=5
PartitionName=urgent Nodes={host} MaxTime=60 PriorityTier=10 PreemptMode=OFF
""",
        encoding="utf-8",
    )
    env = os.environ | {"SLURM_CONF": str(conf)}
    munge = [f"--{name}-file={folder}/{at}" for name, at in [("key", "munge/key"), ("pid", "run/pid")]]
    munge += [f"--log-file={folder}/munge/log", f"--seed-file={folder}/munge/seed"]
    try:
        subprocess.run(["munged", *munge, f"--socket={folder}/run/s"], check=True)
        subprocess.run(["slurmctld", "-c", "-f", str(conf)], check=True, env=env)
        subprocess.run(["slurmd", "-f", str(conf)], check=True, env=env)
        until(lambda: "idle" in said(env, "sinfo", "-h", "-o", "%T"), "an idle node", every=0.2)
        yield env
    finally:
        for pid in ("slurmd.pid", "slurmctld.pid", "run/pid"):
            with contextlib.suppress(OSError, ValueError):
                os.kill(int((folder / pid).read_text()), signal.SIGTERM)
        shutil.rmtree(folder, ignore_errors=True)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print the table, where there is one."""
    if harness.TABLE:
        terminalreporter.section("faults")
        for line in harness.table():
            terminalreporter.write_line(line)
