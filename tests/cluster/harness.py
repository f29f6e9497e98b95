"""Faults at the command line: one small job, what happens to it, and the oracle that all share."""

from __future__ import annotations

import json
import random
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import warm
import xarray as xr
from runs import assert_same_bits, blobs, config_file, manifest, start, store
from warm import Warm, die_with_parent

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


Process = subprocess.Popen[Any] | Warm
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


def workers_of(process: Process) -> list[psutil.Process]:
    """The worker processes of a local cluster: whoever is connected with the scheduler within the driver."""
    found: list[psutil.Process] = []
    with suppress(psutil.Error):  # it is over
        driver = psutil.Process(process.pid)
        ports = {c.laddr.port for c in driver.net_connections("tcp") if c.status == psutil.CONN_LISTEN}
        for other in [*driver.children(recursive=True), *warm.forked()]:
            with suppress(psutil.Error):
                theirs = {c.raddr.port for c in other.net_connections("tcp") if c.raddr}
                if other != driver and ports & theirs:
                    found.append(other)
    return sorted(found, key=lambda p: p.pid)


def run(path: Path) -> subprocess.CompletedProcess[str]:
    """Do `distem run` to its end, in a process that begins at once."""
    process = Warm("distem.cli", "run", path)
    out, err = process.communicate(timeout=PATIENCE)
    return subprocess.CompletedProcess(process.args, process.returncode or 0, out, err)


def end(process: Process, *, kill: bool = False) -> tuple[int, str]:
    """Wait for a run to end; its exit code and what it said."""
    if kill:
        process.kill()
    _, err = process.communicate(timeout=PATIENCE)
    return process.returncode, err


HELD = """
import time
from pathlib import Path

from distem.assignment import AssignRows
from distem.em.loop import Climb
from distem.events import PhaseStarted
from distem.execution.dask import DaskBlocks
from distem.pipelines import cluster

AT, ON, PHASE, CALL = Path({at!r}), Path({on!r}), {phase!r}, {call!r}


def hold():
    if not AT.exists():
        AT.touch()
        while not ON.exists():
            time.sleep(0.002)


def run(session):
    phases, calls, told = [], [], session.observer

    def hear(event):
        told(event)
        if isinstance(event, PhaseStarted):
            phases.append(event.phase)
            if event.phase == PHASE and CALL is None:
                hold()

    session.observer = hear
    if CALL is not None:
        owner, name, number = CALL
        owner = {{"AssignRows": AssignRows, "Climb": Climb, "DaskBlocks": DaskBlocks}}[owner]
        real = getattr(owner, name)

        def held(*arguments):
            calls.extend(phases[-1:])
            if phases[-1:] == [PHASE] and calls.count(PHASE) >= number:
                hold()
            return real(*arguments)

        setattr(owner, name, held)
    return cluster.run(session)
"""
"""A pipeline that waits in one place of a run, once, until it is told to go on."""

PARTS: dict[str, tuple[str, tuple[str, str, int] | None]] = {
    "reading": ("scan", ("DaskBlocks", "_finish", 1)),
    "seeding": ("seed", None),
    "E-step": ("fit", ("DaskBlocks", "_finish", 3)),
    "reduction": ("fit", ("DaskBlocks", "_merge_level", 3)),
    "M-step": ("fit", ("Climb", "_step", 3)),
    "assignment": ("assign", ("DaskBlocks", "_finish", 1)),
    "second block": ("assign", ("AssignRows", "__call__", 2)),
    "finalising": ("finalise", None),
}
"""Where: a phase, and of which call; where there is none, at its beginning. Tasks are under way by then."""


@dataclass
class Hold:
    """A run that waits in one part of it."""

    path: Path
    at: Path
    on: Path

    @classmethod
    def of(cls, path: Path, part: str) -> Hold:
        """Write the pipeline of a config to be, `NAME.py` beside `NAME.yaml`."""
        at, on = path.with_suffix(".at"), path.with_suffix(".on")
        phase, call = PARTS[part]
        text = HELD.format(at=str(at), on=str(on), phase=phase, call=call)
        path.with_suffix(".py").write_text(text, encoding="utf-8")
        return cls(path, at, on)

    def reached(self, process: Process | None = None) -> None:
        """Wait until it waits."""
        over = [] if process is None else [process]
        until(lambda: self.at.exists() or any(p.poll() is not None for p in over), "a run that waits")
        assert process is None or process.poll() is None, end(process)

    def release(self) -> None:
        """Let it go on."""
        self.on.touch()


class Job:
    """One job's data, its undisturbed result, and as many disturbed ones as are wanted."""

    def __init__(
        self, folder: Path, copies: int = 5, rows: int = 20_000, chunks: int = 10_000, **options: Any
    ):
        self.folder, self.options = folder, JOB | options
        store(folder / "data.zarr", np.tile(blobs(rows, spread=3.0), (copies, 1)), chunks=chunks)
        code, err = self.run(self.config("whole", THREADS))
        assert code == 0, err
        self.whole = folder / "whole"
        with xr.open_datatree(self.whole / "result.zarr", engine="zarr") as tree:
            trace = tree["trace"]["log_likelihood"]
            steps = np.diff(trace.values, axis=trace.get_axis_num("pass"))
        assert np.nanmin(steps) > -1e-12, "the likelihood fell"

    def config(self, name: str, cluster: dict[str, Any], **changes: Any) -> Path:
        """A config of the job with a run folder of its own."""
        options: dict[str, Any] = self.options | {"output__path": str(self.folder / name)} | changes
        return config_file(self.folder, f"{name}.yaml", **options, cluster=cluster)

    def held(self, name: str, part: str, cluster: dict[str, Any], **changes: Any) -> Hold:
        """A config whose run waits in a part of it."""
        hold = Hold.of(self.folder / f"{name}.yaml", part)
        self.config(name, cluster, pipeline=f"{name}.py", **changes)
        return hold

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

    def released(self, name: str, r: Row, hold: Hold, process: Process) -> None:
        """Let a run go on that was held; it is done, if need be by the same command again."""
        hold.release()
        code, err = end(process)
        assert code in (0, 75), err
        if code:
            self.until_done(hold.path)
        self.survived(name, r)

    def until_done(self, path: Path, most: int = 3) -> None:
        """Give the same command until it is done; it may end with 75 on the way, and with nothing else."""
        for _ in range(most):
            code, err = self.run(path)
            assert code in (0, 75), err
            if code == 0:
                return
        raise AssertionError(f"not done after {most} times: {err}")

    def wait(self, name: str, process: Process, wanted: Callable[[dict[str, Any]], bool]) -> None:
        """Until an event is logged; the run may be over before."""
        until(
            lambda: process.poll() is not None or any(map(wanted, log_of(self.folder / name))),
            f"an event of {name}",
        )

    def start(self, path: Path, **more: Any) -> Process:
        """Start the job as a process; from nothing, where it is to have an environment of its own."""
        if more:
            return start("run", path, **{"preexec_fn": die_with_parent} | more)
        return Warm("distem.cli", "run", path)

    def run(self, path: Path, **more: Any) -> tuple[int, str]:
        """Start the job and wait for its end; its exit code and what it said."""
        return end(self.start(path, **more))


@contextmanager
def dask_process(kind: str, *arguments: str, under: tuple[str, ...] = (), **more: Any) -> Iterator[Process]:
    """A `dask scheduler` or `dask worker`; from nothing, where it stands under something or is told more."""
    module = f"distributed.cli.dask_{kind}"
    process: Any = (
        subprocess.Popen(
            [*under, sys.executable, "-m", module, *arguments],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            preexec_fn=die_with_parent,
            **more,
        )
        if under or more
        else Warm(module, *arguments)
    )
    with process:
        try:
            yield process
        finally:
            with suppress(ProcessLookupError):
                process.send_signal(signal.SIGCONT)
            process.kill()


def dask_worker(port: int, folder: Path, *, nanny: bool = False) -> tuple[str, ...]:
    """Arguments of a `dask worker` on this machine."""
    return (
        *(f"tcp://127.0.0.1:{port}", "--nthreads", "1", "--no-dashboard"),
        *("--host", "127.0.0.1", "--local-directory", str(folder), "--memory-limit", "1GiB"),
        "--nanny" if nanny else "--no-nanny",
    )


@contextmanager
def dask_cluster(
    folder: Path, port: int, workers: int = 2, *, nanny: bool = False, **more: Any
) -> Iterator[tuple[Process, list[Process]]]:
    """A scheduler and workers, each a process that a test may do things to."""
    with ExitStack() as stack:
        scheduler = stack.enter_context(
            dask_process(
                "scheduler",
                *("--host", "127.0.0.1", "--port", str(port), "--no-dashboard"),
                *("--dashboard-address", "127.0.0.1:0", "--no-show"),
            )
        )
        until(lambda: scheduler.poll() is not None or listens(port), "the scheduler", every=0.05)
        assert scheduler.poll() is None, "the scheduler did not start"
        yield (
            scheduler,
            [
                stack.enter_context(
                    dask_process(
                        "worker",
                        *dask_worker(port, folder, nanny=nanny),
                        **more,
                    )
                )
                for _ in range(workers)
            ],
        )


def listens(port: int) -> bool:
    """Whether something answers on a port of this machine."""
    with socket.socket() as s:
        return s.connect_ex(("127.0.0.1", port)) == 0


def free_port() -> int:
    """A port that nothing listens on, and below those that connections take for themselves meanwhile."""
    while True:
        number = random.randrange(20_000, 32_000)
        with socket.socket() as s, suppress(OSError):
            s.bind(("127.0.0.1", number))
            return number
