"""The driver as a job of a real Slurm with one node: time limit, preemption, a node lost, eight at once."""

import re
import socket
import sys
import time
from pathlib import Path

import pytest
from harness import THREADS, Hold, log_of, row, said, until
from runs import manifest

pytestmark = [pytest.mark.cluster, pytest.mark.slow_cluster, pytest.mark.timeout(900)]
SCRIPT = Path(__file__).parents[2] / "configs" / "clusters" / "slurm-driver.sbatch"
HOST = socket.gethostname().partition(".")[0]


def submit(slurm, folder, text, *words):
    """Give a script to Slurm; the job's number."""
    (folder / "job.sbatch").write_text(text, encoding="utf-8")
    out = said(slurm, "sbatch", f"--chdir={folder}", *words, str(folder / "job.sbatch"))
    return re.search(r"\d+", out).group()


def script(hold: Hold) -> str:
    """The script of the docs; signals also let a run go on that waits for them."""
    text = SCRIPT.read_text(encoding="utf-8").replace("08:00:00", "30")
    text = text.replace("trap 'kill -TERM $job'", f"trap 'kill -TERM $job; touch {hold.on}'")
    text = text.replace("trap : TERM", f"trap 'touch {hold.on}' TERM")
    return text.replace("distem run tonight.yaml", f"{sys.executable} -m distem run {hold.path}")


def state(slurm, number):
    """Of a job."""
    return said(slurm, "squeue", "-h", "-j", number, "-o", "%T").strip()


def node(slurm, what):
    """Change the state of the node."""
    said(slurm, "scontrol", "update", f"NodeName={HOST}", f"State={what}", "Reason=test")


@pytest.mark.parametrize("fault", ["the walltime's signal", "preemption", "node lost", "node drained"])
def test_a_job_is_queued_again_and_goes_on(job, slurm, tmp_path, fault):
    """It waits in a pass until that has happened to it."""
    tally, run = row(f"Slurm: {fault}"), tmp_path / "run"
    tally.tried += 1
    hold = job.held(f"slurm-{fault.split()[-1]}", "M-step", THREADS | {"grace": 10}, output__path=str(run))
    text = script(hold)
    if "walltime" in fault:  # Slurm looks every 30 s
        text = text.replace("--time=30", "--time=1").replace("USR1@120", "USR1@30")
    number = submit(slurm, tmp_path, text)
    hold.reached()
    if fault == "preemption":
        said(slurm, "sbatch", "-p", "urgent", "--exclusive", "--output=/dev/null", "--wrap", "true")
    elif fault == "node lost":
        node(slurm, "DOWN")
    elif fault == "node drained":  # what runs there may end; here it is sent away, and nothing is let in
        node(slurm, "DRAIN")
        said(slurm, "scontrol", "requeue", number)
    until(lambda: hold.on.exists() or state(slurm, number) != "RUNNING", "what ends the job")
    hold.release()
    until(lambda: state(slurm, number) == "PENDING", "a job queued again", every=0.1)
    # what a node ended it does not start again in the same second (credential revoked: the job fails)
    over = time.time() + 2.0
    until(lambda: time.time() > over, "two seconds", every=0.1)
    if fault == "node drained":
        said(slurm, "scontrol", "update", f"JobId={number}", "StartTime=now")
        until(lambda: "drained" in said(slurm, "sinfo", "-h", "-o", "%T"), "a node without jobs", every=0.1)
        assert state(slurm, number) == "PENDING"

    def complete():
        if fault.startswith("node"):  # it may be tried on the node before that has cleared up, and held
            node(slurm, "RESUME")
            said(slurm, "scontrol", "release", number)
        said(slurm, "scontrol", "update", f"JobId={number}", "StartTime=now")  # else it rests for two minutes
        return (run / "manifest.json").exists() and manifest(run)["status"] == "complete"

    until(complete, "the end of the run", every=0.5)
    until(lambda: state(slurm, number) not in ("RUNNING", "COMPLETING"), "the end of the job", every=0.2)
    assert sum(event["event"] == "resumed" for event in log_of(run)) == 1
    job.survived("", tally, run)


def test_eight_submissions_at_once(job, slurm, tmp_path):
    """One runs; the others see that, and say by whom; one result."""
    tally, run = row("Slurm: the run submitted 8 times at once"), tmp_path / "run"
    tally.tried += 1
    hold = job.held("slurm-eight", "M-step", THREADS, output__path=str(run))
    text = f"#!/bin/sh\n{sys.executable} -m distem run {hold.path}\necho $? >code-$SLURM_JOB_ID\n"
    submit(slurm, tmp_path, text, "--array=1-8", "--mem=1G", "--output=said-%A-%a")

    def codes():
        return sorted(p.read_text(encoding="utf-8").strip() for p in tmp_path.glob("code-*"))

    until(lambda: len(codes()) >= 7, "the end of seven", every=0.2)
    assert codes() == ["75"] * 7
    hold.release()
    until(lambda: len(codes()) == 8 and "" not in codes(), "the end of the eighth", every=0.2)
    assert codes() == ["0"] + ["75"] * 7
    told = [p.read_text(encoding="utf-8") for p in tmp_path.glob("said-*")]
    assert sum("is already running, by process" in text for text in told) == 7
    until(lambda: not said(slurm, "squeue", "-h"), "an empty queue", every=0.2)
    job.survived("", tally, run)
