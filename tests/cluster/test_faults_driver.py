"""Drivers that are killed, signalled, doubled, on full disks and with damaged input."""

import os
import random
import shutil
import signal
import subprocess
import sys
import time

import pytest
from harness import (
    LOCAL,
    PATIENCE,
    THREADS,
    at_pass,
    at_phase,
    end,
    log_of,
    row,
    run,
)
from runs import assert_same_bits, blobs, checked_store, config_file

pytestmark = [pytest.mark.cluster, pytest.mark.slow_cluster, pytest.mark.timeout(900)]


def test_the_driver_killed_at_twenty_moments(job):
    """A kill, then the same command, until twenty have hit; a run that completes makes way for another."""
    tally, dice = row("kill -9 of the driver at random moments"), random.Random(5)
    begun = time.monotonic()
    assert run(job.config("timed", THREADS)).returncode == 0
    whole = time.monotonic() - begun
    number, hit = 0, 0
    while tally.tried < 20:
        path = job.config(
            f"driver-{number}", LOCAL if number == 1 else THREADS
        )  # as it takes seconds to start
        process = job.start(path)
        try:
            process.wait(timeout=dice.uniform(0.05, 1.0) * whole)
        except subprocess.TimeoutExpired:
            process.kill()
            tally.tried += 1
            hit += 1
        end(process)
        if process.returncode == 0 or tally.tried == 20 or hit == 5:
            job.until_done(path)
            tally.survived += hit - 1  # `survived` counts one
            job.survived(f"driver-{number}", tally)
            number, hit = number + 1, 0


WAYS = ["SIGTERM", "SIGKILL within the grace time"]


@pytest.mark.parametrize(
    ("cluster", "way", "moment"),
    [(THREADS, way, moment) for way in WAYS for moment in ("pass", "assign")]
    + [(LOCAL, way, "pass") for way in WAYS],
)
def test_signals(job, cluster, way, moment):
    tally, name = row(way), f"{way}-{cluster['kind']}-{moment}".replace(" ", "-")
    tally.tried += 1
    path = job.config(name, cluster)
    process = job.start(path)
    job.wait(name, process, at_pass(3) if moment == "pass" else at_phase("assign"))
    process.terminate()
    if way != "SIGTERM":
        process.kill()
    code, err = end(process)
    # in the last moment a run may complete all the same
    assert code in (0, 75, -signal.SIGTERM, -signal.SIGKILL), err
    if way == "SIGTERM":
        assert code in (0, 75), err
    job.until_done(path)
    job.survived(name, tally)


@pytest.mark.parametrize("cluster", [THREADS, LOCAL], ids=["threads", "local"])
def test_a_second_signal_ends_it_at_once(job, cluster):
    """It waits in an M-step, where the first does nothing until the grace time is over."""
    tally, name = row("SIGTERM twice"), f"twice-{cluster['kind']}"
    tally.tried += 1
    hold = job.held(name, "M-step", cluster | {"grace": 600})
    process = job.start(hold.path)
    hold.reached(process)
    process.terminate()
    time.sleep(0.5)  # two at once would be one
    assert process.poll() is None
    process.terminate()
    code, err = end(process)
    assert code == 75, err
    assert "ended at once by a second signal" in err
    job.until_done(hold.path)
    job.survived(name, tally)


def test_the_same_run_submitted_eight_times(job):
    tally, name = row("the same run submitted 8 times at once"), "eight"
    tally.tried += 1
    path = job.config(name, THREADS)
    processes = [job.start(path) for _ in range(8)]
    ends = [end(process) for process in processes]
    assert {code for code, _ in ends} <= {0, 75}, ends
    assert 0 in {code for code, _ in ends}
    assert all("already" in err for code, err in ends if code == 75), ends
    begun = [event for event in log_of(job.folder / name) if at_phase("scan")(event)]
    assert len(begun) == 1
    job.survived(name, tally)


def test_a_stale_lock(job):
    tally, name = row("a lock whose holder was killed"), "stale"
    tally.tried += 1
    path = job.config(name, THREADS)
    process = job.start(path)
    job.wait(name, process, at_pass(2))
    end(process, kill=True)
    job.until_done(path, most=1)
    job.survived(name, tally)


@pytest.mark.parametrize("ahead", ["+1h", "-1h"])
def test_clocks_an_hour_apart(job, ahead):
    tally, name = row("clocks one hour apart"), f"clock{ahead}"
    if shutil.which("faketime") is None:
        tally.skipped = "faketime is not installed"
        pytest.skip(tally.skipped)
    tally.tried += 1
    path = job.config(name, THREADS)
    process = job.start(path)
    job.wait(name, process, at_pass(2))
    os.kill(process.pid, signal.SIGSTOP)
    words = ["faketime", "-f", ahead, sys.executable, "-m", "distem", "run", str(path)]
    other = subprocess.run(words, check=False, capture_output=True, text=True, timeout=PATIENCE)
    assert other.returncode == 75, other.stderr
    assert "already" in other.stderr
    end(process, kill=True)
    other = subprocess.run(words, check=False, capture_output=True, text=True, timeout=PATIENCE)
    assert other.returncode == 0, other.stderr
    job.survived(name, tally)


@pytest.mark.parametrize("kibibytes", [64, 256, 700])
def test_a_full_disk_under_the_run_folder(job, tmp_path, kibibytes):
    tally = row("disk full under checkpoint and output")
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={kibibytes}k", "tmpfs", str(disk)]
    if os.geteuid() or subprocess.run(mount, check=False, capture_output=True).returncode:
        tally.skipped = "a tmpfs can be mounted by root only"
        pytest.skip(tally.skipped)
    try:
        tally.tried += 1
        path = job.config(f"disk-{kibibytes}", THREADS, output__path=str(disk / "run"))
        done = run(path)
        assert done.returncode == 75, done.stderr
        assert "disk is full" in done.stderr.lower()
        assert "Traceback" not in done.stderr
        subprocess.run(["mount", "-o", "remount,size=64m", str(disk)], check=True)
        job.until_done(path)
        job.survived("", tally, disk / "run")
    finally:
        subprocess.run(["umount", "-l", str(disk)], check=False)


@pytest.mark.parametrize("damage", ["truncated", "deleted", "flipped"])
def test_damaged_input(tmp_path, damage):
    """Code 3 and one sentence; once the data is mended, the result."""
    tally = row(f"a chunk of the input {damage}")
    tally.tried += 1
    checked_store(tmp_path / "data.zarr", blobs(2000), 500)
    chunk = next(p for p in sorted((tmp_path / "data.zarr" / "b" / "c").rglob("*")) if p.is_file())
    whole = chunk.read_bytes()
    options = {"model__components": 3, "fit__max_passes": 10, "cluster": THREADS}
    good = run(config_file(tmp_path, "good.yaml", **options, output__path="good"))
    assert good.returncode == 0, good.stderr
    if damage == "deleted":
        chunk.unlink()
    elif damage == "truncated":
        chunk.write_bytes(whole[: len(whole) // 2])
    else:
        chunk.write_bytes(bytes([whole[0] ^ 1 if i == len(whole) // 2 else b for i, b in enumerate(whole)]))
    path = config_file(tmp_path, "bad.yaml", **options, output__path="bad")
    bad = run(path)
    assert bad.returncode == 3, bad.stderr
    assert "'b'" in bad.stderr
    assert "chunk" in bad.stderr.lower()
    assert "Traceback" not in bad.stderr
    chunk.write_bytes(whole)
    again = run(path)
    assert again.returncode == 0, again.stderr

    assert_same_bits(tmp_path / "bad", tmp_path / "good")
    tally.survived += 1
