"""Passes over rows that the workers keep in memory, beside the bare kernel on as many threads."""

from __future__ import annotations

import tempfile
from contextlib import ExitStack
from functools import partial
from pathlib import Path

from benchmarks.harness import Goal, Section, Table, medians, seconds
from benchmarks.paths import FEATURES, THREADS, bare, blocks, em_pass, problem, store
from distem.execution.dask import local
from distem.execution.threads import ThreadsExecutor

CUTS = (10, 10_000)
COMPONENTS = 8
ABOVE, BESIDE = 1.15, 0.030
"""A pass may take so many times the kernel, and so many seconds more."""


def run(quick: bool) -> Section:
    rows = 1_000_000 if quick else 6_000_000
    table = Table(
        f"Seconds a pass, {rows:,} rows of {FEATURES} features, {COMPONENTS} full covariances, "
        f"{THREADS} threads in all",
        (
            "precision",
            "chunks",
            "bare kernel",
            "threads",
            f"Dask, {THREADS} workers",
            "less 30 ms, × kernel",
        ),
    )
    with tempfile.TemporaryDirectory() as folder:
        sources = {cut: store(Path(folder) / f"{cut}.zarr", rows, cut) for cut in CUTS}
        for dtype in ("float64", "float32"):
            for cut, source in sources.items():
                measure(table, dtype, cut, blocks(source, dtype), 3 if quick else 9)
    return Section(
        "Resident rows",
        "The rows stay in the workers' memory; a pass sends parameters, runs the E-step, adds up and takes "
        "the M-step. The bare kernel is the same E-step over the same blocks on as many threads of one "
        "process, nothing else. The goal is 1.15 times the kernel and 30 ms.",
        [table],
        tried=TRIED,
    )


def measure(table: Table, dtype: str, cut: int, data: object, repeats: int) -> None:
    model, params = problem(COMPONENTS)
    with ExitStack() as stack:
        candidates = {"bare": bare(data, model, params)}
        for name, executor in (
            ("threads", ThreadsExecutor(THREADS)),
            ("dask", local(THREADS, dashboard_address=None)),
        ):
            stack.enter_context(executor)
            opened = stack.enter_context(executor.open(data, resident=True))
            candidates[name] = em_pass(opened, model, params)
        took = medians({name: partial(seconds, run) for name, run in candidates.items()}, repeats)
    ratio = (took["dask"] - BESIDE) / took["bare"]
    table.add(dtype, f"{cut:,}", *(f"{took[name]:.3f}" for name in candidates), Goal(ratio, ABOVE))


TRIED = (
    "Partitions used to lie where a worker was free first: at ten chunks one worker of two held 3.6 of "
    "6 million rows. They now get equal shares. One message for all tasks of a pass instead of one each "
    "took eight tasks from 32 to 24 ms and sixteen from 67 to 35. What is left is the scheduler's 1.3 "
    "ms a task and its polling."
)
