"""The workers' peak memory as the data grows."""

from __future__ import annotations

import tempfile
from pathlib import Path

from benchmarks.harness import Goal, Section, Table
from benchmarks.paths import FEATURES, THREADS, blocks, em_pass, problem, store
from distem.execution.dask import local

COMPONENTS = 8
GROWTH = (1, 4, 16)
WITHIN = 0.05
MEBI = 2**20


def run(quick: bool) -> Section:
    rows = 250_000 if quick else 1_000_000
    chunk = 50_000
    table = Table(
        f"Peak memory of {THREADS} workers over streamed passes, {FEATURES} float64 features in chunks of "
        f"{chunk:,} rows, {COMPONENTS} full covariances",
        ("rows", "decoded", "peak of each worker, MiB", "largest against that of n"),
    )
    with tempfile.TemporaryDirectory() as folder:
        largest = rows * GROWTH[-1]
        data = blocks(store(Path(folder) / "x.zarr", largest, largest // chunk))
        first = 0.0
        for times in GROWTH:
            found = peaks(data[: len(data) * times // GROWTH[-1]])
            first = first or max(found)
            change = abs(max(found) / first - 1)
            table.add(
                f"{rows * times:,}",
                f"{rows * times * FEATURES * 8 / MEBI:,.0f} MiB",
                ", ".join(f"{peak / MEBI:.0f}" for peak in found),
                "1" if times == 1 else Goal(change, WITHIN, form=".1%"),
            )
    return Section(
        "Memory",
        "The high-water mark of each worker process (VmHWM, start-up and libraries included) after three "
        "streamed EM passes over the first n, 4n and 16n rows of one store, each in workers of their own.",
        [table],
        tried=TRIED,
    )


def peaks(data: object) -> list[float]:
    """Bytes at the high-water mark of each worker."""
    model, params = problem(COMPONENTS)
    with local(THREADS, dashboard_address=None) as executor, executor.open(data, resident=False) as opened:
        step = em_pass(opened, model, params)
        for _ in range(3):
            step()
        return sorted(executor.client.run(_high_water).values())


def _high_water() -> float:
    with open("/proc/self/status") as status:
        return next(float(line.split()[1]) * 1024 for line in status if line.startswith("VmHWM"))


TRIED = (
    "The allocator's own thresholds instead of Dask's, with an arena per thread, held back 30 MiB a "
    "worker, and paused workers of 430 MiB; with one arena it is 10 MiB."
)
