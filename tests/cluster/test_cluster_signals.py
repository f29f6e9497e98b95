"""Signals, and no warning at all: the same command, run again, ends with the bits of an undisturbed run."""

import json
import os
import signal
import time

import numpy as np
import psutil
import pytest
import yaml
from runs import assert_same_bits, blobs, command, config_file, events, manifest, start, store

pytestmark = [pytest.mark.cluster, pytest.mark.slow, pytest.mark.timeout(300)]

OPTIONS = {
    # so many rows that a pass takes long enough to be hit
    "model__components": [3, 5],
    "fit__max_passes": 30,
    "fit__acceleration": "anderson",
    "fit__tolerance": 1e-14,
    "output__variables": ["label"],
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("signals")
    store(folder / "data.zarr", np.tile(blobs(20_000, spread=3.0), (25, 1)), chunks=100_000)
    whole = command("run", config_file(folder, "whole.yaml", **OPTIONS, output__path="whole"))
    assert whole.returncode == 0
    return folder


def wait_for(run, wanted, process):
    """Until a line of the log is the one."""
    log = run / "log.jsonl"
    while process.poll() is None:
        lines = log.read_text(encoding="utf-8").splitlines() if log.exists() else []
        for line in lines:
            try:
                if wanted(json.loads(line)):
                    return
            except json.JSONDecodeError:  # not yet written to its end
                continue
        time.sleep(0.005)


def at_pass(number):
    return lambda line: line.get("pass", 0) >= number


def at_phase(phase):
    return lambda line: line.get("phase") == phase


CLUSTERS = {
    "serial": {"kind": "serial"},
    "threads": {"kind": "threads", "workers": 2},
    "local": {"kind": "local", "workers": 2, "dashboard_address": None},
}


@pytest.mark.parametrize(
    ("cluster", "number", "group"),
    [
        ("serial", signal.SIGTERM, False),
        pytest.param("threads", signal.SIGINT, False, marks=pytest.mark.slow_cluster),
        ("local", signal.SIGTERM, False),
        # Ctrl-C at a terminal reaches the workers too
        pytest.param("local", signal.SIGINT, True, marks=pytest.mark.slow_cluster),
    ],
)
def test_a_signal_ends_a_run_in_order(folder, cluster, number, group):
    run = folder / f"{cluster}-{number.name}-{group}"
    path = config_file(
        folder, f"{run.name}.yaml", **OPTIONS, cluster=CLUSTERS[cluster], output__path=str(run)
    )
    process = start("run", path, start_new_session=True)
    wait_for(run, at_pass(3), process)
    (os.killpg if group else os.kill)(process.pid, number)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 75, err
    assert out == ""
    assert f"The run was ended by {number.name}. Run the same command to go on." in err
    assert "Traceback" not in err
    found = manifest(run)
    assert (found["status"], found["exit"]) == ("interrupted", 75)
    assert any(p.name.startswith("pass-") for p in (run / "checkpoint.zarr").iterdir())
    again = command("run", path)
    assert again.returncode == 0, again.stderr
    assert "going on from the checkpoint after pass" in again.stderr
    assert again.stdout.splitlines()[-1] == str(run)
    assert_same_bits(run, folder / "whole")
    assert not (run / "checkpoint.zarr").exists()


@pytest.mark.parametrize("moment", ["scan", pytest.param("pass 7", marks=pytest.mark.slow_cluster), "assign"])
def test_a_killed_run_goes_on(folder, moment):
    kind, _, number = moment.partition(" ")
    run = folder / f"killed-{kind}{number}"
    path = config_file(
        folder, f"{run.name}.yaml", **OPTIONS, cluster=CLUSTERS["threads"], output__path=str(run)
    )
    process = start("run", path)
    wait_for(run, at_pass(int(number)) if number else at_phase(kind), process)
    process.kill()
    process.communicate(timeout=60)
    assert process.returncode == -signal.SIGKILL
    assert manifest(run)["status"] == "running"
    again = command("run", path)
    assert again.returncode == 0, again.stderr
    assert_same_bits(run, folder / "whole")


@pytest.mark.slow_cluster
def test_killed_again_and_again(folder):
    run = folder / "often"
    path = config_file(folder, "often.yaml", **OPTIONS, cluster=CLUSTERS["serial"], output__path=str(run))
    for _ in range(4):
        process = start("run", path)
        before = len(events(run)) if run.exists() else 0
        while process.poll() is None and not (run.exists() and len(events_so_far(run)) > before + 8):
            time.sleep(0.02)
        process.kill()
        process.communicate(timeout=60)
    assert command("run", path).returncode == 0
    assert_same_bits(run, folder / "whole")


def events_so_far(run):
    log = run / "log.jsonl"
    return log.read_text(encoding="utf-8").splitlines() if log.exists() else []


def test_the_workers_of_a_killed_run_end_with_it(folder):
    run = folder / "orphans"
    path = config_file(folder, "orphans.yaml", **OPTIONS, cluster=CLUSTERS["local"], output__path=str(run))
    process = start("run", path)
    wait_for(run, at_pass(1), process)
    children = psutil.Process(process.pid).children(recursive=True)
    assert len(children) >= 2
    process.kill()
    process.communicate(timeout=60)
    _, alive = psutil.wait_procs(children, timeout=30)
    assert not alive


@pytest.mark.slow_cluster
def test_a_second_run_of_the_same_config_waits_for_no_one(folder):
    run = folder / "twice"
    path = config_file(
        folder,
        "twice.yaml",
        **OPTIONS | {"fit__max_passes": 200},
        cluster=CLUSTERS["serial"],
        output__path=str(run),
    )
    process = start("run", path)
    wait_for(run, at_pass(1), process)
    process.send_signal(signal.SIGSTOP)  # it lives, and holds the folder, for as long as this takes
    second = command("run", path)
    assert second.returncode == 75
    assert f"is already running, by process {process.pid}" in second.stderr
    third = command("run", path, "--fresh")
    assert third.returncode == 75
    other = config_file(folder, "other.yaml", **OPTIONS, output__path=str(run), seed=9)
    fourth = command("run", other, "--fresh")
    assert fourth.returncode == 75
    process.terminate()
    process.send_signal(signal.SIGCONT)
    process.communicate(timeout=60)
    assert process.returncode == 75
    assert manifest(run)["status"] == "interrupted"
    assert yaml.safe_load((run / "config.yaml").read_text(encoding="utf-8"))["seed"] == 0
