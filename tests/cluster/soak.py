"""`make soak`: drivers and workers killed at random, KILLS times (default 200); none may be lost."""

import os
import random
import shutil
import subprocess
import time

import pytest
from harness import LOCAL, THREADS, dask_worker, end, free_port, listens, row, until, workers_of
from warm import Warm

KILLS = int(os.environ.get("KILLS", "200"))
SEED = int(os.environ.get("SEED", "0"))
SERIAL = {"kind": "serial"}
EVERY = 5
"""Kills of one run, after which it is left to end and is compared."""


class Workers:
    """A scheduler that outlives all drivers, and two workers of it: one that is killed is replaced."""

    def __init__(self, folder):
        self.port, self.folder = free_port(), folder
        self.scheduler = Warm(
            "distributed.cli.dask_scheduler",
            *("--host", "127.0.0.1", "--port", self.port, "--no-dashboard", "--no-show"),
            *("--dashboard-address", "127.0.0.1:0"),
        )
        until(lambda: listens(self.port), "the scheduler", every=0.05)
        self.there = [self.another() for _ in range(2)]

    @property
    def cluster(self):
        return {"kind": "address", "address": f"tcp://127.0.0.1:{self.port}", "timeout": 60}

    def another(self):
        return Warm("distributed.cli.dask_worker", *dask_worker(self.port, self.folder))

    def kill_one(self, dice):
        at = dice.randrange(2)
        self.there[at].kill()
        self.there[at].wait()
        self.there[at] = self.another()


@pytest.mark.timeout(0)
def test_soak(job, tmp_path):
    """Kill the driver or a worker, give the same command again; after every fifth the result is compared."""
    dice, workers = random.Random(SEED), Workers(tmp_path)
    kinds = [SERIAL, THREADS, workers.cluster, LOCAL]
    lengths = [undisturbed(job, cluster) for cluster in kinds]
    kills, number, begun = 0, 0, time.monotonic()
    while kills < KILLS:
        at = dice.choices(range(len(kinds)), [3, 3, 4, 2])[0]
        path, hits = job.config(f"soak-{number}", kinds[at]), []
        while len(hits) < EVERY and kills + len(hits) < KILLS:
            process = job.start(path)
            try:
                # one that goes on takes less than a whole one
                process.wait(timeout=dice.uniform(0.0, 0.8 if hits else 1.1) * lengths[at])
                assert process.returncode == 0, end(process)[1]
                break  # it was done before the blow fell
            except subprocess.TimeoutExpired:
                hits.append(hit(process, kinds[at], workers, dice))
            if process.poll() == 0:
                break
        for line in hits:
            line.tried += 1
        job.until_done(path)
        compared = row("runs that were hit and compared" if hits else "runs that were done before a blow")
        compared.tried += 1
        job.survived(f"soak-{number}", compared)
        for line in hits:
            line.survived += 1  # all of them led to the result that was just compared
        shutil.rmtree(job.folder / f"soak-{number}")
        kills, number = kills + len(hits), number + 1
    every = row(f"all kills, seed {SEED}, {time.monotonic() - begun:.0f} s")
    every.tried = every.survived = kills


def undisturbed(job, cluster):
    """Seconds of a run that nothing happens to."""
    begun = time.monotonic()
    job.until_done(job.config("timed", cluster, output__path=str(job.folder / f"timed-{cluster['kind']}")), 1)
    return time.monotonic() - begun


def hit(process, cluster, workers, dice):
    """Kill the driver or a worker; the line of the table that this belongs to."""
    kind, theirs = cluster["kind"], workers_of(process)
    if (kind == "address" or theirs) and dice.random() < 0.5:
        if kind == "address":
            workers.kill_one(dice)
        else:
            dice.choice(theirs).kill()
        code, err = end(process)
        assert code in (0, 75), err
        return row(f"kill -9 of a worker, {kind}")
    process.kill()
    end(process)
    return row(f"kill -9 of the driver, {kind}")
