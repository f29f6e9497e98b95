"""The driver as a job of a real Slurm with one node: the time limit, preemption, a node that is lost."""

import contextlib
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from harness import THREADS, at_pass, log_of, row, until
from runs import manifest

pytestmark = [pytest.mark.cluster, pytest.mark.slow_cluster, pytest.mark.timeout(900)]
SCRIPT = Path(__file__).parents[2] / "configs" / "clusters" / "slurm-driver.sbatch"


@pytest.fixture(scope="module")
def slurm():
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
PartitionName=main Nodes={host} Default=YES MaxTime=60 PriorityTier=1 PreemptMode=REQUEUE GraceTime=30
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


def said(env, *words):
    return subprocess.run(words, check=False, capture_output=True, text=True, env=env).stdout


@pytest.mark.parametrize("fault", ["the walltime's signal", "preemption", "node lost"])
def test_a_job_is_queued_again_and_goes_on(job, slurm, tmp_path, fault):
    tally, name = row(f"Slurm: {fault}"), f"slurm-{fault.split()[-1]}"
    path = job.config(name, THREADS | {"grace": 10}, output__path=str(tmp_path / "run"))
    text = SCRIPT.read_text(encoding="utf-8").replace("08:00:00", "30")
    text = text.replace("distem run tonight.yaml", f"{sys.executable} -m distem run {path}")
    (tmp_path / "job.sbatch").write_text(text, encoding="utf-8")
    out = said(slurm, "sbatch", f"--chdir={tmp_path}", str(tmp_path / "job.sbatch"))
    number = re.search(r"\d+", out).group()
    tally.tried += 1
    until(lambda: any(map(at_pass(2), log_of(tmp_path / "run"))), "the second pass")
    host = socket.gethostname().partition(".")[0]
    if fault == "preemption":
        said(slurm, "sbatch", "-p", "urgent", "--exclusive", "--output=/dev/null", "--wrap", "true")
    elif fault == "node lost":
        said(slurm, "scontrol", "update", f"NodeName={host}", "State=DOWN", "Reason=test")
        until(
            lambda: "PENDING" in said(slurm, "squeue", "-h", "-j", number, "-o", "%T"), "a job queued again"
        )
    else:
        said(slurm, "scancel", "-b", "-s", "USR1", number)

    def complete():
        if fault == "node lost":  # it may be tried on the node before that has cleared up, and held
            said(slurm, "scontrol", "update", f"NodeName={host}", "State=RESUME")
            said(slurm, "scontrol", "release", number)
        said(slurm, "scontrol", "update", f"JobId={number}", "StartTime=now")  # else it rests for two minutes
        run = tmp_path / "run"
        return (run / "manifest.json").exists() and manifest(run)["status"] == "complete"

    until(complete, "the end of the run", every=0.5)
    until(lambda: not said(slurm, "squeue", "-h", "-j", number, "-t", "R"), "the end of the job", every=0.2)
    job.survived("", tally, tmp_path / "run")
