"""Full passes after short climbs on a growing sample, and without them: 10 million rows in memory.

Both climb from the same start to a tolerance of 1e-9, so that the optimum is known. What counts is
the passes over all rows until within 1e-7 per row of the optimum; those over samples are shown beside it.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from benchmarks.harness import Goal, Section, Table
from distem._random import generator
from distem.config import Config
from distem.em.loop import Climb, climb
from distem.em.stopping import FirstOf, GainLeft, MaxPasses
from distem.execution.base import BlockSet
from distem.execution.threads import ThreadsExecutor
from distem.models import seeding
from distem.models.mixture import MixtureParams
from distem.starting import Candidates, at_the_foot, candidates, climb_on_sample, sample_blocks
from distem.types import Float64, Rows

NEAR = 1e-7
BLOCK = 250_000
NAME = "4-full-1"
D, K = 2, 4


@dataclass(frozen=True, eq=False)
class Held:
    """A block of rows in memory."""

    index: int
    rows: Rows

    @property
    def n(self) -> int:
        """Rows."""
        return self.rows.n

    @property
    def nbytes(self) -> int:
        """Bytes."""
        return self.rows.nbytes

    def load(self) -> Rows:
        """The rows, at hand."""
        return self.rows


def data(n: int, apart: float) -> list[Held]:
    """Rows of four overlapping normals, float32, in blocks."""
    means = np.random.default_rng(0).normal(size=(K, D)) * apart
    blocks = []
    for index in range(-(-n // BLOCK)):
        rng = np.random.default_rng((1, index))
        rows = means[rng.integers(K, size=BLOCK)] + rng.normal(size=(BLOCK, D))
        blocks.append(Held(index, Rows(rows)))
    return blocks


def full(
    config: Config,
    models: Candidates,
    start: MixtureParams,
    sample: seeding.Sample,
    blocks: BlockSet,
    most: int,
    learnt: dict[str, Float64] | None = None,
) -> Climb:
    """Climb on all rows."""
    fit = at_the_foot(config, NAME, models[NAME][0], start, sample)
    fit.accelerator.restore(learnt or {})
    fit.stop = FirstOf((GainLeft(1e-9), MaxPasses(most)))
    climb([fit], blocks)
    return fit


def configured(method: str) -> Config:
    content: Mapping[str, object] = {
        "version": 1,
        "name": "sample-first",
        "data": {"kind": "zarr", "path": "unused.zarr", "features": ["x", "y"], "scale": "none"},
        "model": {"kind": "gaussian_mixture", "components": K},
        "fit": {"acceleration": method, "tolerance": 1e-9, "max_passes": 5000},
        "output": {"path": "unused"},
    }
    return Config.model_validate(content)


def run(quick: bool) -> Section:
    """Count full passes."""
    n = 1_000_000 if quick else 10_000_000
    most = 400
    table = Table(
        f"Passes over all {n:,} rows to within 1e-7 per row of the optimum",
        ["overlap", "climb", "without", "with", "ratio", "passes over samples", "optimum against without"],
    )
    for label, apart in (("some", 3.0), ("much", 2.0)):
        with ThreadsExecutor().open(data(n, apart), resident=True) as blocks:
            for method in ("none", "anderson") if quick else ("anderson",):
                config = configured(method)
                sizes = config.fit.sample_first.sizes(n)
                models = candidates(config, np.ones(D), None)
                drawn = blocks.map_reduce(seeding.DrawSample(max(sizes), n, 0))
                sample = drawn.first(config.fit.sample_rows)
                rng = generator(0, "start")
                start = seeding.start("kmeans", models[NAME][0], K, sample, rng)
                begin = time.perf_counter()
                plain = full(config, models, start, sample, blocks, most)
                starts, learnt, told = {NAME: start}, {}, []
                for size in sizes:
                    part = drawn.first(size)
                    with ThreadsExecutor().open(sample_blocks(part), resident=True) as held:
                        starts, learnt, passes = climb_on_sample(config, models, starts, learnt, part, held)
                    told.append(f"{passes} of {size:,}")
                after = full(config, models, starts[NAME], sample, blocks, most, learnt.get(NAME))
                optimum = max(plain.fit.log_likelihood, after.fit.log_likelihood)
                without, with_ = reached(plain, plain.fit.log_likelihood), reached(after, optimum)
                table.add(
                    label,
                    method,
                    without,
                    with_,
                    Goal(with_ / without, 0.4),
                    ", ".join(told),
                    Goal(plain.fit.log_likelihood - after.fit.log_likelihood, NEAR, form=".1e"),
                )
                print(f"{time.perf_counter() - begin:.0f} s", flush=True)
    about = (
        f"{D} features, {K} components, full covariances, start by kmeans on the seeding sample; "
        f"{n:,} float64 rows in memory. Samples are drawn in the pass that draws the seeding's, and climbed in the driver."
    )
    return Section("Sample first", about, [table])


def reached(fit: Climb, optimum: float) -> int:
    """Passes to within `NEAR` of the optimum."""
    values = [p.log_likelihood for p in fit.trace]
    return next((i for i, value in enumerate(values, 1) if value >= optimum - NEAR), len(values))
