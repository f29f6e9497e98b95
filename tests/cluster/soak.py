"""`make soak`: drivers and workers killed at random, KILLS times (default 200); none may be lost."""

import os
import random
import shutil
import subprocess
import time

import pytest
from harness import LOCAL, PATIENCE, THREADS, end, row, workers_of
from runs import command

KILLS = int(os.environ.get("KILLS", "200"))
SEED = int(os.environ.get("SEED", "0"))


@pytest.mark.timeout(0)
def test_soak(job):
    """Kill the driver or a worker, give the same command again; every fifth kill the result is compared."""
    dice = random.Random(SEED)
    begun = time.monotonic()
    assert command("run", job.config("timed", LOCAL), timeout=PATIENCE).returncode == 0
    whole, kills, number = time.monotonic() - begun, 0, 0
    while kills < KILLS:
        cluster = dice.choice([THREADS, LOCAL])
        name, hit = f"soak-{number}", 0
        drivers, workers = row(f"driver, {cluster['kind']}"), row("worker, local")
        path = job.config(name, cluster)
        while hit < 5 and kills < KILLS:
            process = job.start(path)
            try:
                process.wait(timeout=dice.uniform(0.1, 1.0) * whole)
                break  # it was done before the blow fell
            except subprocess.TimeoutExpired:
                theirs = workers_of(process)
                if theirs and dice.random() < 0.5:
                    dice.choice(theirs).kill()
                    workers.tried += 1
                    kills, hit = kills + 1, hit + 1
                    code, err = end(process)
                    assert code in (0, 75), err
                    if code == 0:
                        break
                    continue
                drivers.tried += 1
                kills, hit = kills + 1, hit + 1
                process.kill()
            finally:
                end(process, kill=process.poll() is None)
        job.until_done(path)
        scratch = row("runs that were hit and compared")
        scratch.tried += 1
        job.survived(name, scratch)
        for line in (row("driver, threads"), row("driver, local"), workers):
            line.survived = line.tried  # all of them led to the result that was just compared
        shutil.rmtree(job.folder / name)
        number += 1
