"""What a pass costs beyond decoding when the same rows lie in 10 to 10,000 chunks.

    python benchmarks/overhead.py [--quick]

One E-step (8 features, 8 components, full) over the same rows, on threads and on a local Dask cluster,
resident and streamed; chunk counts take turns in each round, medians are shown. "decode" is a streamed
pass that reads every block and computes nothing; "beyond" is the pass less that, round by round. The
goal: beyond decoding, 10,000 chunks cost at most 1.5 times what 10 do.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import ClassVar, Self

import numpy as np
import zarr

from distem.data.open import open_source
from distem.em.loop import EStep
from distem.execution.base import BlockSet, Executor
from distem.execution.dask import local
from distem.execution.threads import ThreadsExecutor
from distem.models.gaussian import Gaussian
from distem.models.mixture import Mixture, MixtureParams
from distem.types import Rows

D, K, GOAL = 8, 8, 1.5
CHUNKS = (10, 100, 1_000, 10_000)


@dataclass(frozen=True)
class Count:
    """Rows, adding up."""

    rows: int

    def __add__(self, other: Self) -> Self:
        return type(self)(self.rows + other.rows)


@dataclass(frozen=True)
class Decode:
    """Reads, and computes nothing."""

    name: ClassVar[str] = "decode"

    def __call__(self, rows: Rows, block: int) -> Count:  # noqa: ARG002
        """Count the rows."""
        return Count(rows.n)


def e_step() -> EStep:
    rng = np.random.default_rng(1)
    model = Mixture(Gaussian("full"))
    theta = model.component.theta(rng.normal(size=(K, D)), np.stack([np.eye(D)] * K))
    return EStep(((model, MixtureParams(np.full(K, 1 / K), theta)),))


def write(folder: Path, rows: int) -> dict[int, str]:
    x = np.random.default_rng(0).normal(size=(rows, D))
    paths = {}
    for chunks in CHUNKS:
        path = folder / f"{chunks}.zarr"
        group = zarr.open_group(path, mode="w")
        array = group.create_array(
            "x", shape=x.shape, chunks=(rows // chunks, D), dtype="f8", dimension_names=("row", "feature")
        )
        array[:] = x
        paths[chunks] = str(path)
    return paths


@contextmanager
def opened(executor: Executor, paths: dict[int, str], *, resident: bool) -> Iterator[dict[int, BlockSet]]:
    with ExitStack() as stack:
        yield {
            chunks: stack.enter_context(executor.open(open_source("zarr", path).blocks(), resident=resident))
            for chunks, path in paths.items()
        }


def timed(blocks: BlockSet, run: EStep | Decode) -> float:
    started = time.perf_counter()
    blocks.map_reduce(run)
    return time.perf_counter() - started


def table(name: str, sets: dict[int, BlockSet], rounds: int, *, resident: bool) -> None:
    step = e_step()
    times: dict[tuple[int, str], list[float]] = {}
    for number in range(rounds + 1):
        for chunks, blocks in sets.items():
            for what, run in (("pass", step), ("decode", Decode())):
                # resident rows were decoded once, before: all of a pass is beyond decoding
                seconds = 0.0 if resident and what == "decode" else timed(blocks, run)
                if number:  # the first round warms up
                    times.setdefault((chunks, what), []).append(seconds)
    print(f"\n{name}, {'resident' if resident else 'streamed'}")
    print(f"{'chunks':>8}{'pass ms':>11}{'decode ms':>11}{'beyond ms':>11}{'against 10 chunks':>19}")
    beyond = {
        c: median(p - d for p, d in zip(times[c, "pass"], times[c, "decode"], strict=True)) for c in sets
    }
    for chunks in sets:
        shown = (median(times[chunks, "pass"]), median(times[chunks, "decode"]), beyond[chunks])
        ratio = beyond[chunks] / beyond[CHUNKS[0]]
        verdict = "" if ratio <= GOAL else f"  above the goal of {GOAL}"
        columns = "".join(f"{1e3 * seconds:>11.1f}" for seconds in shown)
        print(f"{chunks:>8}{columns}{ratio:>18.2f}x{verdict}")


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="fewer rows and rounds")
    quick = parser.parse_args(arguments).quick
    rows, rounds = (200_000, 5) if quick else (1_000_000, 7)
    print(f"{rows:,} rows, {D} features, {K} components, full; medians of {rounds} rounds")
    with tempfile.TemporaryDirectory() as folder:
        paths = write(Path(folder), rows)
        for name, executor in (("threads", ThreadsExecutor(2)), ("local Dask cluster, 2 workers", local(2))):
            with executor:
                for resident in (True, False):
                    with opened(executor, paths, resident=resident) as sets:
                        table(name, sets, rounds, resident=resident)


if __name__ == "__main__":
    main()
