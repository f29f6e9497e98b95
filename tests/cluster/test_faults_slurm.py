"""The driver as a job of a real Slurm with one node: the time limit, preemption, a node that is lost."""

import re
import socket
import sys
from pathlib import Path

import pytest
from harness import THREADS, at_pass, log_of, row, said, until
from runs import manifest

pytestmark = [pytest.mark.cluster, pytest.mark.slow_cluster, pytest.mark.timeout(900)]
SCRIPT = Path(__file__).parents[2] / "configs" / "clusters" / "slurm-driver.sbatch"


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
