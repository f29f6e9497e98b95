"""Passes that read their rows anew from Zarr, beside pure decoding and a resident pass."""

from __future__ import annotations

import shutil
import statistics
import tempfile
from contextlib import ExitStack
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

from benchmarks.harness import Goal, Section, Table, medians, seconds, take_turns
from benchmarks.paths import (
    CODECS,
    FEATURES,
    THREADS,
    Decode,
    blocks,
    cpu_of,
    em_pass,
    opened,
    problem,
    store,
)
from distem.execution.dask import local

COMPONENTS = (8, 64)
COSTS = 1.15
SPEED = 0.9


def run(quick: bool) -> Section:
    rows = 1_000_000 if quick else 4_000_000
    chunks = rows // 50_000
    cpu = Table(
        f"CPU seconds a pass, workers and driver, {rows:,} × {FEATURES} in {chunks} chunks",
        ("stored", "type", "k", "decoding", "resident", "streamed", "× their sum"),
    )
    wall = Table(
        "Seconds a pass", ("stored", "type", "k", "decoding", "resident", "streamed", "× resident speed")
    )
    rust = Table(
        f"CPU seconds to decode {rows // 4:,} × {FEATURES} float64",
        ("rows a chunk", "zarr", "data.decoder: zarrs", "zarrs / zarr"),
    )
    with tempfile.TemporaryDirectory() as folder:
        for codec, dtype in product(CODECS, ("float64", "float32")):
            path = Path(folder) / f"{codec}-{dtype}.zarr"
            source = store(path, rows, chunks, dtype, codec=codec)
            measure(cpu, wall, codec, dtype, blocks(source, dtype), 3 if quick else 5)
            shutil.rmtree(path)
        for cut in (20, 2_000):
            path = Path(folder) / f"{cut}.zarr"
            store(path, rows // 4, cut)
            decode(rust, path, f"{rows // 4 // cut:,}", 3 if quick else 5)
    return Section(
        "Streamed rows",
        "Every pass reads and decodes every chunk again (Zarr 3; Zstd is its default), scales it, runs the "
        f"E-step; {THREADS} workers of one thread. Decoding is the same without the E-step. CPU seconds are "
        "user and system time of the workers and the driver.",
        [cpu, wall, rust],
        tried=TRIED,
    )


def measure(cpu: Table, wall: Table, codec: str, dtype: str, data: Any, repeats: int) -> None:
    with ExitStack() as stack:
        executor = stack.enter_context(local(THREADS, dashboard_address=None))
        pids = [int(pid) for pid in executor.client.run(_pid).values()]
        streamed = stack.enter_context(executor.open(data, resident=False))
        resident = stack.enter_context(executor.open(data, resident=True))
        passes: dict[tuple[str, int], Any] = {("decoding", 0): partial(streamed.map_reduce, Decode())}
        for k in COMPONENTS:
            passes["resident", k] = em_pass(resident, *problem(k))
            passes["streamed", k] = em_pass(streamed, *problem(k))
        spent: dict[Any, list[float]] = {what: [] for what in passes}

        def timed(what: tuple[str, int]) -> float:
            took = 0.0

            def call() -> None:
                nonlocal took
                took = seconds(passes[what])

            spent[what].append(cpu_of(call, pids))
            return took

        turns = take_turns({what: partial(timed, what) for what in passes}, repeats)  # type: ignore[misc]
    took = {what: statistics.median(times) for what, times in turns.items()}
    cost = {what: statistics.median(times[1:]) for what, times in spent.items()}  # the first warms up
    for k in COMPONENTS:
        three = (("decoding", 0), ("resident", k), ("streamed", k))
        decoding, kept, read = (cost[what] for what in three)
        cpu.add(
            codec, dtype, k, *(f"{cost[what]:.3f}" for what in three), Goal(read / (decoding + kept), COSTS)
        )
        speed = took["resident", k] / took["streamed", k]
        # the goal on speed is for k = 64: at few components reading is most of the work
        shown = Goal(speed, SPEED, at_least=True) if k == max(COMPONENTS) else f"{speed:.2f}"
        wall.add(codec, dtype, k, *(f"{took[what]:.3f}" for what in three), shown)


def decode(table: Table, path: Path, size: str, repeats: int) -> None:
    """Time a decoding pass with each of the decoders."""
    with local(THREADS, dashboard_address=None) as executor, ExitStack() as stack:
        pids = [int(pid) for pid in executor.client.run(_pid).values()]
        candidates = {}
        for decoder in ("zarr", "zarrs"):
            data = stack.enter_context(executor.open(blocks(opened(path, decoder)), resident=False))
            candidates[decoder] = partial(cpu_of, partial(data.map_reduce, Decode()), pids)
        cost = medians(candidates, repeats)
    table.add(size, f"{cost['zarr']:.3f}", f"{cost['zarrs']:.3f}", f"{cost['zarrs'] / cost['zarr']:.2f}")


def _pid() -> int:
    import os

    return os.getpid()


TRIED = (
    "The cores that compute also decode, so at k = 64 the share of the resident speed is bound by "
    "their sum: resident seconds / (resident + decoding seconds), which is what is measured, or a "
    "little more. With Zstd that is decompression (some 500 MB/s a core); with Blosc-LZ4 and without "
    "compression what is left is Zarr's bookkeeping, copying into place and scaling. Tried: (1) "
    "scaling in one compiled sweep instead of four of NumPy's (0.05 s of a core's time for a million "
    "rows before, a quarter of it now); (2) the allocator: Dask tells its workers to give back every "
    "64 KiB of free memory, so each block was decoded into fresh pages, 52,000 faults for a million "
    "rows, a third of the CPU time. The allocator's own thresholds and one arena (MALLOC_ARENA_MAX=1)"
    " take that away and hold back 10 MiB a worker; (3) the Rust codecs (zarrs): about as much where "
    "chunks are large and a quarter where they are small, for there the time is Zarr's own "
    "bookkeeping per chunk; they are offered as data.decoder; (4) one thread for Zarr's codecs and "
    "requests instead of its pool, which made no difference; (5) other codecs, in the table. More "
    "features than 8 make the E-step longer and reading not."
)
