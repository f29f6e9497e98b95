"""What the page on the dashboard costs: the same passes with it, looked at, and without it."""

from __future__ import annotations

import contextlib
import json
import os
import re
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import yaml
import zarr

from benchmarks.harness import Goal, Section, Table, take_turns
from benchmarks.paths import FEATURES

LIMIT = 1.01
SIZES = {"short": (200_000, 400), "longer": (3_000_000, 40)}
"""Rows and passes."""
WITHOUT = (
    "import contextlib; from distem.dashboard import attach; "
    "attach.watched = lambda *a, **k: contextlib.nullcontext(); from distem.cli import main; main()"
)
"""A driver that brings no page."""


class Cluster:
    """A scheduler with its dashboard, and two workers of one thread."""

    def __init__(self, until: ExitStack, folder: Path) -> None:
        port, self.http = _free_port(), _free_port()
        self.address = f"tcp://127.0.0.1:{port}"
        at = ("--host", "127.0.0.1", "--port", str(port), "--dashboard-address", f"127.0.0.1:{self.http}")
        self.processes = [until.enter_context(_dask("scheduler", *at))]
        for _ in range(2):
            words = ("--nthreads", "1", "--no-nanny", "--no-dashboard", "--local-directory", str(folder))
            self.processes.append(until.enter_context(_dask("worker", self.address, *words)))

    def cpu(self) -> float:
        """User and system seconds of its processes so far."""
        return sum(sum(psutil.Process(p.pid).cpu_times()[:2]) for p in self.processes)


def _free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return int(s.getsockname()[1])


@contextmanager
def _dask(kind: str, *words: str) -> Iterator[subprocess.Popen[bytes]]:
    null = subprocess.DEVNULL
    with subprocess.Popen(
        [sys.executable, "-m", f"distributed.cli.dask_{kind}", *words], stdout=null, stderr=null
    ) as started:
        try:
            yield started
        finally:
            started.kill()


@contextmanager
def looked_at(cluster: Cluster) -> Iterator[None]:
    """Have the page open, as a browser has it."""
    from bokeh.client import pull_session

    over = threading.Event()

    def look() -> None:
        session: Any = None
        while not over.wait(0.2):
            with contextlib.suppress(Exception):  # there is no page before the first run
                session = session or pull_session(url=f"http://127.0.0.1:{cluster.http}/distem")
                session.force_roundtrip()
        if session is not None:
            session.close()

    looking = threading.Thread(target=look)
    looking.start()
    try:
        yield
    finally:
        over.set()
        looking.join()


def run(quick: bool) -> Section:
    """Run the same fit with the page and without it, in turns, on clusters of their own."""
    table = Table(
        "A pass on two workers, five candidates in it",
        (
            "passes",
            "ms without",
            "with the page",
            "×",
            "CPU ms without",
            "with the page",
            "×",
            "driver's share",
        ),
    )
    with tempfile.TemporaryDirectory() as name, ExitStack() as until:
        folder = Path(name)
        clusters = {page: Cluster(until, folder) for page in (True, False)}
        until.enter_context(looked_at(clusters[True]))
        for size, (rows, passes) in SIZES.items():
            measure(table, folder, clusters, size, rows, passes // (4 if quick else 1), 3 if quick else 9)
    return Section("The page", ABOUT, [table], TRIED)


def measure(
    table: Table, folder: Path, clusters: dict[bool, Cluster], size: str, rows: int, passes: int, repeats: int
) -> None:
    x = np.random.default_rng(0).normal(size=(rows, FEATURES))  # one cluster: more of them do not converge
    zarr.open_group(folder / f"{size}.zarr", mode="w").create_array(
        "x", data=x, chunks=(rows // 20, FEATURES), dimension_names=("row", "feature")
    )
    cpu: dict[bool, list[float]] = {True: [], False: []}
    spent: list[float] = []

    def fit(page: bool) -> float:
        config = folder / f"{size}-{page}.yaml"
        config.write_text(yaml.safe_dump(job(size, clusters[page].address, passes, f"run-{size}-{page}")))
        words = ["-m", "distem"] if page else ["-c", WITHOUT]
        before = clusters[page].cpu() + _children()
        subprocess.run(
            [sys.executable, *words, "run", str(config), "--fresh", "--quiet"],
            check=True,
            stdout=subprocess.DEVNULL,
        )
        cpu[page].append(clusters[page].cpu() + _children() - before)
        log = (folder / f"run-{size}-{page}" / "log.jsonl").read_text().splitlines()
        took = [e["seconds"] for e in map(json.loads, log) if e["event"] == "timing"]
        assert len(took) == passes, len(took)
        if page:
            spent.append(driver_share(clusters[True]))
        return sum(took) / passes

    turns = take_turns({str(page): lambda page=page: fit(page) for page in clusters}, repeats)  # type: ignore[misc]
    wall = {page: statistics.median(turns[str(page)]) for page in clusters}
    work = {page: statistics.median(cpu[page][1:]) / passes for page in clusters}
    table.add(
        f"{passes} of {rows:,} rows",
        *(f"{1e3 * wall[page]:.1f}" for page in (False, True)),
        Goal(wall[True] / wall[False], LIMIT, form=".3f"),
        *(f"{1e3 * work[page]:.1f}" for page in (False, True)),
        f"{work[True] / work[False]:.3f}",
        f"{statistics.median(spent):.2%}",
    )


def job(size: str, address: str, passes: int, name: str) -> dict[str, Any]:
    """A config whose fits go on until their passes are used up."""
    return {
        "version": 1,
        "name": name,
        "data": {"kind": "zarr", "path": f"{size}.zarr", "features": ["x"]},
        "model": {"kind": "gaussian_mixture", "components": [3, 4, 5, 6, 7]},
        "fit": {"acceleration": "none", "tolerance": 1e-300, "max_passes": passes, "init_tries": 1},
        "cluster": {"kind": "address", "address": address},
        "output": {"path": name, "report": False, "variables": ["label"]},
    }


def driver_share(cluster: Cluster) -> float:
    """Of the seconds of the last run's passes, what telling the page took the driver."""
    from urllib.request import urlopen

    with urlopen(f"http://127.0.0.1:{cluster.http}/metrics", timeout=10) as answer:
        lines = [line.rsplit(" ", 1) for line in answer.read().decode().splitlines()]
    told = {key: float(value) for key, value in lines if key.startswith("distem_") and "{" in key}
    name = re.search(r'run="[^"]*"', [key for key in told if key.startswith("distem_run_active{")][-1])[0]

    def last(metric: str) -> float:
        return sum(v for key, v in told.items() if key.startswith(f"distem_{metric}{{") and name in key)

    parts = ("reading", "computing", "reducing", "waiting")
    return last("observer_seconds_total") / sum(last(f"{part}_seconds_total") for part in parts)


def _children() -> float:
    """User and system seconds of the drivers that have ended."""
    found = os.times()
    return found.children_user + found.children_system


ABOUT = (
    "Two schedulers, each with its dashboard and two workers of one thread; on one of them a client has the "
    "page open. The same fits run on them in turns, with as many passes: on the other by a driver that "
    "brings no page. Seconds are of the passes alone; CPU seconds are of driver, scheduler and workers, from "
    "the start of the driver to its end, over the number of passes."
)
TRIED = ""
