"""What a pass costs the driver: the real loop and executor against a real scheduler with up to 256 workers.

The blocks are of four rows, so that nothing is measured but messages, tasks and sums. All workers are
threads of this process, on its cores and under its interpreter lock, together with scheduler and driver:
what they cost is an upper bound for a cluster, where each has a core of its own.
"""

from __future__ import annotations

import pickle
import statistics
import tempfile
import time
import tracemalloc
from collections.abc import Sequence
from dataclasses import dataclass

import dask
import numpy as np
import zarr
from distributed import Client, LocalCluster
from scipy.optimize import nnls

from benchmarks.harness import Section, Table, seconds
from distem.data.open import open_source
from distem.data.transform import Transform
from distem.em.loop import Climb, EStep, climb
from distem.em.repair import Repair
from distem.em.stopping import MaxPasses
from distem.events import Event, PassDone
from distem.execution.base import merge_groups, partition
from distem.execution.dask import MERGE_FAN_IN, DaskExecutor
from distem.execution.serial import SerialExecutor
from distem.models.gaussian import Gaussian
from distem.models.mixture import Mixture, MixtureParams
from distem.types import Rows

QUIET = {
    "distributed.worker.profile.enabled": False,
    "distributed.admin.system-monitor.interval": "1h",
    "distributed.scheduler.work-stealing": False,
    "distributed.worker.memory.target": False,
    "distributed.worker.memory.spill": False,
    "distributed.worker.memory.pause": False,
}
"""What every worker does beside its tasks: in 256 of them in one process that would be all there is."""


LONG = 10_000
"""More chunks than this take half a minute a pass: three passes are measured, not five."""


@dataclass(frozen=True)
class Small:
    """A block of four rows, made where it is loaded."""

    index: int
    n: int = 4
    nbytes: int = 64

    def load(self) -> Rows:
        """Make the rows."""
        return Rows(np.random.default_rng(self.index).normal(size=(self.n, 2)))


@dataclass(frozen=True)
class Run:
    """A pass as it was measured."""

    workers: int
    chunks: int
    partitions: int
    depth: int
    seconds: float


def fit() -> Climb:
    """A mixture of two in two dimensions, about to climb for ever."""
    weights, means = np.full(2, 0.5), np.array([[-1.0, 0.0], [1.0, 0.0]])
    component = Gaussian("full", 1e-6, 1e-24, np.ones(2), "compiled")
    params = MixtureParams(weights, component.from_matrices(means, np.stack([np.eye(2)] * 2), weights))
    return Climb("one", Mixture(component), params, MaxPasses(1), Repair(np.empty((0, 2)), 0, 1))


def depth(chunks: int, partitions: int) -> int:
    """Rounds in which sums are merged: those on workers, and the driver's own at the end."""
    spans, rounds = partition([1] * chunks, partitions), 1
    while len(spans) > MERGE_FAN_IN:
        spans = [span for span, _ in merge_groups((0, chunks), spans, MERGE_FAN_IN)]
        rounds += 1
    return rounds


def passes(executor: DaskExecutor | SerialExecutor, chunks: int, partitions: int, count: int) -> float:
    """Median seconds of a pass of the loop over streamed blocks, after one that is not counted."""
    told: list[float] = []

    def hear(event: Event) -> None:
        if isinstance(event, PassDone):
            told.append(event.seconds)

    one = fit()
    one.stop = MaxPasses(count + 1)
    with executor.open([Small(i) for i in range(chunks)], resident=False, partitions=partitions) as blocks:
        climb([one], blocks, observe=hear)
    return statistics.median(told[1:])


def measured(workers: int, cases: Sequence[tuple[int, int]], count: int) -> list[Run]:
    """Passes on so many workers in this process, for chunks and partitions."""
    with (
        dask.config.set(QUIET),
        LocalCluster(
            n_workers=workers,
            threads_per_worker=1,
            processes=False,
            memory_limit=0,
            dashboard_address=None,
            silence_logs=40,
        ) as cluster,
        Client(cluster, set_as_default=False) as client,
    ):
        client.wait_for_workers(workers, timeout=120)
        executor, runs = DaskExecutor(client), []
        for chunks, parts in cases:
            took = passes(executor, chunks, parts, min(count, 3) if chunks > LONG else count)
            runs.append(Run(workers, chunks, parts, depth(chunks, parts), took))
            print(runs[-1], flush=True)
        return runs


def model(runs: Sequence[Run]) -> tuple[list[float], list[float]]:
    """Coefficients of 1, partitions, depth and chunks, none negative, and the fitted seconds.

    Relative errors are what is least squared: a pass of 20 ms counts as much as one of 2 s. Chunks that
    never change are part of the first coefficient.
    """
    same = len({r.chunks for r in runs}) == 1
    columns = np.array([[1.0, r.partitions, r.depth, 0.0 if same else r.chunks] for r in runs])
    found = np.array([r.seconds for r in runs])
    coefficients, _ = nnls(columns / found[:, None], np.ones(len(runs)))
    return coefficients.tolist(), (columns @ coefficients).tolist()


def opened(chunks: int) -> Table:
    """What it takes the driver to know 100,000 chunks of a real store of which no chunk is written."""
    table = Table(
        f"The driver's own: {chunks:,} chunks of 2 MiB ({chunks * 2 / 1024:,.0f} GiB) of a Zarr array",
        ["what", "seconds", "MiB"],
    )
    with tempfile.TemporaryDirectory() as folder:
        zarr.open_group(folder, mode="w").create_array(
            "x",
            shape=(4096 * chunks, 64),
            chunks=(4096, 64),
            dtype="float64",
            dimension_names=("row", "feature"),
        )
        tracemalloc.start()
        begin = time.perf_counter()
        blocks = open_source("zarr", folder, ["x"]).blocks(Transform.identity("keep"))
        took, held = time.perf_counter() - begin, tracemalloc.get_traced_memory()[0]
        tracemalloc.stop()
        table.add(f"list {len(blocks):,} blocks (traced)", f"{took:.2f}", f"{held / 2**20:.1f}")
        spans = partition([b.n for b in blocks], 4000)
        took = seconds(lambda: partition([b.n for b in blocks], 4000))
        table.add("cut them into 4,000 partitions", f"{took:.2f}", "")
        whole = (0, len(blocks))
        took = seconds(lambda: merge_groups(whole, spans, MERGE_FAN_IN))
        table.add("plan the merging of 4,000 sums", f"{took:.3f}", "")
        begin = time.perf_counter()
        size = sum(len(pickle.dumps(blocks[slice(*span)])) for span in spans)
        took = time.perf_counter() - begin
        table.add("pickle them for a streamed pass, by partition", f"{took:.2f}", f"{size / 2**20:.1f}")
        e_step = statistics_bytes(64, 64)
        table.add("statistics of one partition, full covariances, d = k = 64", "", f"{e_step / 2**20:.2f}")
    return table


def statistics_bytes(d: int, k: int) -> int:
    """Bytes that a partition's statistics take in a message."""
    rng = np.random.default_rng(0)
    weights, means = np.full(k, 1 / k), rng.normal(size=(k, d))
    component = Gaussian("full", 1e-6, 1e-24, np.ones(d), "compiled")
    params = MixtureParams(weights, component.from_matrices(means, np.stack([np.eye(d)] * k), weights))
    run = EStep(((Mixture(component), params),))
    return len(pickle.dumps(run(Rows(rng.normal(size=(8, d))), 0), protocol=5))


def run(quick: bool) -> Section:
    """Measure, and fit the model."""
    clusters, count = ((8, 64), 3) if quick else ((8, 64, 256), 5)
    cases = {workers: [(1_000, parts) for parts in (16, 64, 256, 1_000)] for workers in clusters}
    cases[64] += [(10_000, parts) for parts in (64, 256, 1_000)]
    if not quick:
        cases[64] += [(100_000, parts) for parts in (256, 1_000)]
    runs = [r for workers, asked in cases.items() for r in measured(workers, asked, count)]
    models = {workers: model([r for r in runs if r.workers == workers]) for workers in clusters}
    fitted = [guess for _, guesses in models.values() for guess in guesses]
    table = Table(
        "Seconds a pass", ["workers", "chunks", "partitions", "depth", "measured", "model", "off by"]
    )
    for r, guess in zip(runs, fitted, strict=True):
        table.add(
            r.workers, f"{r.chunks:,}", f"{r.partitions:,}", r.depth, f"{r.seconds:.3f}", f"{guess:.3f}",
            f"{guess / r.seconds - 1:+.0%}",
        )  # fmt: skip
    off = [abs(guess / r.seconds - 1) for r, guess in zip(runs, fitted, strict=True)]
    serial = passes(SerialExecutor(), 1_000, 1, count) / 1_000
    terms = Table(
        "The model: a + b · partitions + c · depth + e · chunks, in milliseconds",
        ["workers", "a, a pass", "b, a partition", "c, a round of merging", "e, a chunk of four rows"],
    )
    for workers, (found, _) in models.items():
        terms.add(f"{workers}", *(f"{1e3 * each:.3g}" for each in found))
    terms.add("none: serial", "", "", "", f"{serial * 1e3:.3g}")
    about = (
        f"{__doc__.split(chr(10) * 2, 1)[1].strip()} Depth counts the rounds of merging: those on workers, "
        f"{MERGE_FAN_IN} sums at a time, and the driver's own. The last term of the model is the chunk's own "
        f"reading and arithmetic. Each number of workers has a fit of "
        f"its own; they are off by {statistics.median(off):.0%} in the median and "
        f"{max(off):.0%} at most."
    )
    return Section("Scaling: the driver and the scheduler", about, [table, terms, opened(100_000)])
