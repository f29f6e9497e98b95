"""Faults at the command line: one small job, what happens to it, and the oracle that all share."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import xarray as xr
from runs import assert_same_bits, blobs, command, config_file, manifest, start, store

PATIENCE = 240.0
"""Seconds that anything is waited for: a machine may be busy."""
JOB: dict[str, Any] = {
    "model__components": 3,
    "fit__max_passes": 12,
    "fit__acceleration": "none",
    "fit__tolerance": 1e-14,
    "output__variables": ["label", "probability"],
}
THREADS = {"kind": "threads", "workers": 2}
LOCAL = {"kind": "local", "workers": 2, "dashboard_address": None}


@dataclass
class Row:
    """A line of the table: a fault, how often it was tried and survived, passes done twice."""

    fault: str
    tried: int = 0
    survived: int = 0
    repeated: int = 0
    skipped: str = ""


TABLE: dict[str, Row] = {}


def row(fault: str) -> Row:
    """The line of a fault; made when it is first asked for."""
    return TABLE.setdefault(fault, Row(fault))


def table() -> list[str]:
    """What `make test-cluster` and `make soak` print at the end."""
    width = max((len(fault) for fault in TABLE), default=5)
    lines = [f"{'fault':{width}}  tried  survived  passes repeated"]
    for r in TABLE.values():
        if r.skipped:
            lines.append(f"{r.fault:{width}}  SKIPPED: {r.skipped}")
        else:
            lines.append(f"{r.fault:{width}}  {r.tried:5}  {r.survived:8}  {r.repeated:15}")
    return lines


def log_of(run: Path) -> list[dict[str, Any]]:
    """The events so far; a line that is being written is left out."""
    try:
        text = (run / "log.jsonl").read_text(encoding="utf-8")
    except FileNotFoundError:
        return []
    found = []
    for line in text.splitlines():
        with suppress(json.JSONDecodeError):
            found.append(json.loads(line))
    return found


def at_phase(phase: str) -> Callable[[dict[str, Any]], bool]:
    """Whether an event is the beginning of a phase."""
    return lambda event: event.get("event") == "phase" and event.get("phase") == phase


def at_pass(number: int) -> Callable[[dict[str, Any]], bool]:
    """Whether an event is the end of a pass."""
    return lambda event: event.get("pass", 0) >= number


def until(condition: Callable[[], bool], what: str, every: float = 0.005) -> None:
    """Wait for a condition, never for a time."""
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, f"waited in vain: {what}"
        time.sleep(every)


def said(env: dict[str, str], *words: str) -> str:
    """What a command prints, whatever its exit code."""
    return subprocess.run(words, check=False, capture_output=True, text=True, env=env).stdout


def workers_of(process: subprocess.Popen[str]) -> list[psutil.Process]:
    """The worker processes of a local cluster."""
    found = []
    for child in psutil.Process(process.pid).children(recursive=True):
        with suppress(psutil.Error):
            if "spawn_main" in " ".join(child.cmdline()):
                found.append(child)
    return sorted(found, key=lambda p: p.pid)


def end(process: subprocess.Popen[str], *, kill: bool = False) -> tuple[int, str]:
    """Wait for a run to end; its exit code and what it said."""
    if kill:
        process.kill()
    _, err = process.communicate(timeout=PATIENCE)
    return process.returncode, err


class Job:
    """One job's data, its undisturbed result, and as many disturbed ones as are wanted."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        store(folder / "data.zarr", np.tile(blobs(20_000, spread=3.0), (5, 1)), chunks=10_000)
        done = command("run", self.config("whole", THREADS), timeout=PATIENCE)
        assert done.returncode == 0, done.stderr
        self.whole = folder / "whole"
        with xr.open_datatree(self.whole / "result.zarr", engine="zarr") as tree:
            trace = tree["trace"]["log_likelihood"]
            steps = np.diff(trace.values, axis=trace.get_axis_num("pass"))
        assert np.nanmin(steps) > -1e-12, "the likelihood fell"

    def config(self, name: str, cluster: dict[str, Any], **changes: Any) -> Path:
        """A config of the job with a run folder of its own."""
        options: dict[str, Any] = JOB | {"output__path": str(self.folder / name)} | changes
        return config_file(self.folder, f"{name}.yaml", **options, cluster=cluster)

    def survived(self, name: str, r: Row, run: Path | None = None) -> None:
        """The oracle: the bits of the undisturbed run, one result published, nothing left beside it."""
        run = run or self.folder / name
        found = manifest(run)
        assert (found["status"], found["exit"]) == ("complete", 0)
        assert_same_bits(run, self.whole)
        assert not (run / "checkpoint.zarr").exists()
        left = {p.name for p in run.iterdir()} - {"result.zarr", "manifest.json", "config.yaml", "log.jsonl"}
        assert left <= {".lock", ".lease"}, left
        passes = [(e["candidate"], e["pass"]) for e in log_of(run) if e.get("event") == "pass"]
        r.repeated += len(passes) - len(set(passes))
        r.survived += 1

    def until_done(self, path: Path, most: int = 3) -> None:
        """Give the same command until it is done; it may end with 75 on the way, and with nothing else."""
        for _ in range(most):
            done = command("run", path, timeout=PATIENCE)
            assert done.returncode in (0, 75), done.stderr
            if done.returncode == 0:
                return
        raise AssertionError(f"not done after {most} times: {done.stderr}")

    def wait(
        self, name: str, process: subprocess.Popen[str], wanted: Callable[[dict[str, Any]], bool]
    ) -> None:
        """Until an event is logged; the run may be over before."""
        until(
            lambda: process.poll() is not None or any(map(wanted, log_of(self.folder / name))),
            f"an event of {name}",
        )

    def start(self, path: Path, **more: Any) -> subprocess.Popen[str]:
        """Start the job as a process."""
        return start("run", path, **{"preexec_fn": die_with_parent} | more)


def die_with_parent() -> None:
    """Before the program of a child starts: it shall be killed when its parent ends, however that ends."""
    import ctypes

    pr_set_pdeathsig = 1
    ctypes.CDLL(None).prctl(pr_set_pdeathsig, signal.SIGKILL)


@contextmanager
def dask_process(
    kind: str, *arguments: str, under: tuple[str, ...] = (), **more: Any
) -> Iterator[subprocess.Popen[bytes]]:
    """A `dask scheduler` or `dask worker`."""
    with subprocess.Popen(
        [*under, sys.executable, "-m", f"distributed.cli.dask_{kind}", *arguments],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        preexec_fn=die_with_parent,
        **more,
    ) as process:
        try:
            yield process
        finally:
            with suppress(ProcessLookupError):
                process.send_signal(signal.SIGCONT)
            process.kill()


@contextmanager
def dask_cluster(
    folder: Path, port: int, workers: int = 2, *, nanny: bool = False, **more: Any
) -> Iterator[tuple[subprocess.Popen[bytes], list[subprocess.Popen[bytes]]]]:
    """A scheduler and workers, each a process that a test may do things to."""
    from contextlib import ExitStack

    with ExitStack() as stack:
        scheduler = stack.enter_context(
            dask_process(
                "scheduler",
                *("--host", "127.0.0.1", "--port", str(port), "--no-dashboard"),
                *("--dashboard-address", "127.0.0.1:0", "--no-show"),
            )
        )
        until(lambda: listens(port), "the scheduler", every=0.05)
        yield (
            scheduler,
            [
                stack.enter_context(
                    dask_process(
                        "worker",
                        *(f"tcp://127.0.0.1:{port}", "--nthreads", "1", "--no-dashboard"),
                        *("--host", "127.0.0.1", "--local-directory", str(folder), "--memory-limit", "1GiB"),
                        "--nanny" if nanny else "--no-nanny",
                        **more,
                    )
                )
                for _ in range(workers)
            ],
        )


def listens(port: int) -> bool:
    """Whether something answers on a port of this machine."""
    import socket

    with socket.socket() as s:
        return s.connect_ex(("127.0.0.1", port)) == 0


def free_port() -> int:
    """A port that nothing listens on."""
    import socket

    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        number: int = s.getsockname()[1]
    return number
