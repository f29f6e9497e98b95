"""Many fits in one read of the data: restarts and candidates that share passes, against separate runs."""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from zarr.codecs import BloscCodec

from benchmarks.harness import Goal, Section, Table, medians
from distem._random import generator
from distem.data.open import open_source
from distem.data.transform import Transform
from distem.em.acceleration import accelerator
from distem.em.dropping import Hopeless
from distem.em.loop import Climb, EStep, climb
from distem.em.repair import Repair
from distem.em.selection import best_by, score
from distem.em.stopping import FirstOf, GainLeft, MaxPasses
from distem.execution.base import BlockSet, one_blas_thread
from distem.execution.serial import SerialExecutor
from distem.execution.threads import ThreadsExecutor
from distem.models import seeding
from distem.models.gaussian import Gaussian
from distem.models.mixture import Mixture, MixtureParams
from distem.types import Floats, Rows

D, K, RESTARTS, PASSES, THREADS = 8, 24, 8, 4, 2


class Decode:
    """A pass that does nothing: what is left is reading."""

    name = "decode"

    def __call__(self, rows: Rows, block: int) -> int:  # noqa: ARG002
        """Count."""
        return rows.n


def overlapping(n: int, k: int, d: int, seed: int, apart: float = 2.0) -> Floats:
    """Rows of k Gaussians whose centres lie about `apart` standard deviations from each other, a feature."""
    rng = np.random.default_rng(seed)
    return rng.normal(scale=apart, size=(k, d))[rng.integers(k, size=n)] + rng.normal(size=(n, d))


def write(path: Path, values: Floats) -> Path:
    """Keep rows in a Zarr array whose decoding costs about as much as one E-step."""
    array = zarr.open_group(path, mode="w").create_array(
        "x",
        shape=values.shape,
        chunks=(50_000, values.shape[1]),
        dtype="float64",
        dimension_names=("row", "feature"),
        compressors=BloscCodec(cname="zstd", clevel=3, shuffle="shuffle"),
    )
    array[:] = np.round(values, 2)
    return path


def starts(values: Floats, ks: Sequence[int], restarts: int) -> list[MixtureParams]:
    """A start for each number of components and each restart, from a sample."""
    m = min(len(values), 5_000)
    sample = seeding.Sample(m, np.arange(m) / m, values[:m].astype(np.float64), np.ones(m))
    with one_blas_thread():
        return [
            seeding.start("random_from_data", model(), k, sample, generator(0, "many", k, r))
            for k in ks
            for r in range(restarts)
        ]


def model() -> Mixture:
    """What is fitted."""
    return Mixture(Gaussian("full", 1e-6))


def fitted(blocks: BlockSet, begun: Sequence[MixtureParams], passes: int = PASSES) -> list[Climb]:
    """Fits from these starts, in shared passes; exactly `passes` of them."""
    stop = FirstOf((GainLeft(1e-300), MaxPasses(passes)))
    climbs = [
        Climb(str(i), model(), p, stop, Repair(np.empty((0, D)), 0, 0), accelerator("none"))
        for i, p in enumerate(begun)
    ]
    climb(climbs, blocks)
    return climbs


def bits(c: Climb) -> list[bytes]:
    """The fitted parameters and the trace, as bytes."""
    trace = np.array([point.log_likelihood for point in c.trace])
    return [np.asarray(a).tobytes() for a in (*c.model.arrays(c.fit.params).values(), trace)]


def timed(call: Callable[[], Any]) -> Callable[[], float]:
    def run() -> float:
        begin = time.perf_counter()
        call()
        return time.perf_counter() - begin

    return run


def sharing(blocks: BlockSet, held: BlockSet, values: Floats, repeats: int) -> list[Table]:
    """Restarts, then numbers of components, in one sweep and one by one."""
    eight, ks = starts(values, [K], RESTARTS), starts(values, range(2, 10), 1)
    for begun in (eight, ks):
        together = [bits(c) for c in fitted(blocks, begun)]
        alone = [bits(fitted(blocks, [p])[0]) for p in begun]
        assert together == alone, "fits that share passes differ from fits alone"

    def e_step(on: BlockSet, begun: Sequence[MixtureParams]) -> Callable[[], float]:
        return timed(lambda: on.map_reduce(EStep(tuple((model(), p) for p in begun))))

    took = medians(
        {
            "decode": timed(lambda: blocks.map_reduce(Decode())),
            "resident 1": e_step(held, eight[:1]),
            "resident 8": e_step(held, eight),
            "streamed 1": timed(lambda: fitted(blocks, eight[:1])),
            "streamed 8": timed(lambda: fitted(blocks, eight)),
            "ks together": timed(lambda: fitted(blocks, ks)),
            "ks alone": timed(lambda: [fitted(blocks, [p]) for p in ks]),
        },
        repeats,
    )
    one = Table("One pass", ["rows are", "decoding, ms", "1 fit, ms", "8 fits, ms", "8 fits / 1"])
    one.add(
        "kept", "0", f"{took['resident 1'] * 1e3:.0f}", f"{took['resident 8'] * 1e3:.0f}",
        f"{took['resident 8'] / took['resident 1']:.2f}",
    )  # fmt: skip
    one.add(
        "streamed", f"{took['decode'] * 1e3:.0f}", f"{took['streamed 1'] / PASSES * 1e3:.0f}",
        f"{took['streamed 8'] / PASSES * 1e3:.0f}", Goal(took["streamed 8"] / took["streamed 1"], 5.0),
    )  # fmt: skip
    many = Table("k = 2 to 9, streamed", ["passes", "one sweep, s", "separate runs, s", "sweep / separate"])
    many.add(
        str(PASSES), f"{took['ks together']:.2f}", f"{took['ks alone']:.2f}",
        f"{took['ks together'] / took['ks alone']:.2f}",
    )  # fmt: skip
    return [one, many]


def problems(count: int) -> list[Floats]:
    """Rows of 2 to 6 Gaussians in 2 to 6 features, from well apart to all in one heap."""
    return [
        overlapping(3_000, 2 + i % 5, 2 + i // 5 % 5, i, apart=(4.0, 2.5, 1.5, 0.8)[i % 4])
        for i in range(count)
    ]


@dataclass(frozen=True)
class Kept:
    """A block whose rows are at hand."""

    rows: Rows
    index: int = 0

    @property
    def n(self) -> int:
        """Number of rows."""
        return self.rows.n

    @property
    def nbytes(self) -> int:
        """Bytes of them."""
        return self.rows.nbytes

    def load(self) -> Rows:
        """Hand them out."""
        return self.rows


def chosen(values: Floats, drop: Hopeless | None) -> tuple[str, list[bytes], int, int]:
    """The winner by BIC of k = 2 to 7 and three restarts, its bits, E-steps done, and fits dropped."""
    stop = FirstOf((GainLeft(1e-6), MaxPasses(300)))
    ks = range(2, 8)
    names = [f"{k}-full-{r}" for k in ks for r in range(3)]
    climbs = [
        Climb(name, model(), p, stop, Repair(values[:1000], 0, 9), family=name.rpartition("-")[0])
        for name, p in zip(names, starts(values, ks, 3), strict=True)
    ]
    with SerialExecutor() as serial, serial.open([Kept(Rows(values))], resident=True) as blocks:
        climb(climbs, blocks, drop=drop)
    families: dict[str, Climb] = {}
    for c in climbs:
        if c.family not in families or c.fit.log_likelihood > families[c.family].fit.log_likelihood:
            families[c.family] = c
    best = families[best_by("bic", {f: score(c.model, c.fit) for f, c in families.items()})]
    gone = sum(c.reason is not None and c.reason.dropped for c in climbs)
    return best.name, bits(best), sum(len(c.trace) for c in climbs), gone


def dropping(count: int) -> Table:
    """What dropping saves, and how often the winner is another."""
    same, shares, gone = 0, [], 0
    for values in problems(count):
        whole, less = chosen(values, None), chosen(values, Hopeless("bic"))
        same += whole[:2] == less[:2]
        shares.append(less[2] / whole[2])
        gone += less[3]
    table = Table(
        "Dropping the hopeless: k = 2 to 7, three restarts, by BIC",
        ["problems", "same winner, bit for bit", "fits dropped", "E-steps with / without, median", "least"],
    )
    table.add(
        str(count), f"{same} of {count}", f"{gone} of {18 * count}",
        f"{statistics.median(shares):.2f}", f"{min(shares):.2f}",
    )  # fmt: skip
    return table


def run(quick: bool) -> Section:
    """Measure."""
    n, repeats = (300_000, 3) if quick else (1_000_000, 5)
    values = overlapping(n, K, D, 0)
    with tempfile.TemporaryDirectory() as folder, ThreadsExecutor(THREADS) as threads:
        source = open_source("zarr", str(write(Path(folder) / "x.zarr", values)), ["x"])
        ready = source.blocks(Transform())
        with (
            threads.open(ready, resident=False) as blocks,
            threads.open(ready, resident=True) as held,
        ):
            tables = sharing(blocks, held, values, repeats)
    tables.append(dropping(8 if quick else 24))
    return Section(
        "Many fits, one read",
        f"{n:,} rows of {D} float64 features in Zarr (Zstd, shuffled), full covariance, {THREADS} threads, "
        f"{PASSES} passes a fit. Each fit of a sweep has the bits of a run of its own; asserted before "
        "anything is timed.",
        tables,
    )
