"""What a pass costs beside the arithmetic: the same rows in 10, 100, 1,000 and 10,000 chunks.

Prints, for each executor, the median seconds of a pass over the same data cut ever finer. Streamed passes
decode every chunk again: what that alone takes is measured next to each of them, and taken off. What is
left, the last column, is in units of the coarsest pass over rows kept in memory: 1 is no overhead at all,
and less than 1 means that decoding and arithmetic overlap. Writes nothing but temporary files.

    python benchmarks/overhead.py [--quick]
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import numpy as np
import zarr

from distem.data.open import open_source
from distem.data.transform import Transform
from distem.em.loop import EStep
from distem.execution.base import BlockSet, Executor
from distem.execution.dask import local
from distem.execution.serial import SerialExecutor
from distem.execution.threads import ThreadsExecutor
from distem.models.gaussian import Gaussian
from distem.models.mixture import Mixture, MixtureParams
from distem.types import Rows

FEATURES, COMPONENTS = 8, 8
ALLOWED = 1.5


class Decode:
    """A pass that does nothing: what is left is reading."""

    name = "decode"

    def __call__(self, rows: Rows, block: int) -> int:  # noqa: ARG002
        """Count."""
        return rows.n


def write(path: Path, rows: int, chunks: int) -> Path:
    values = np.round(np.random.default_rng(0).normal(size=(rows, FEATURES)), 2)
    array = zarr.open_group(path, mode="w").create_array(
        "x",
        shape=values.shape,
        chunks=(-(-rows // chunks), FEATURES),
        dtype="float64",
        dimension_names=("row", "feature"),
    )
    array[:] = values
    return path


def e_step() -> EStep:
    rng = np.random.default_rng(1)
    means = rng.normal(size=(COMPONENTS, FEATURES))
    covariances = np.broadcast_to(np.eye(FEATURES), (COMPONENTS, FEATURES, FEATURES))
    weights = np.full(COMPONENTS, 1.0 / COMPONENTS)
    component = Gaussian("full", 1e-6, 1e-24, np.ones(FEATURES), "compiled")
    params = MixtureParams(weights, component.from_matrices(means, covariances, weights))
    return EStep(((Mixture(component), params),))


@contextmanager
def executors() -> Iterator[dict[str, Executor]]:
    with SerialExecutor() as serial, ThreadsExecutor(2) as threads, local(2, dashboard_address=None) as dask:
        yield {"serial": serial, "threads 2": threads, "local 2": dask}


def seconds(blocks: BlockSet, run: object) -> float:
    started = time.perf_counter()
    blocks.map_reduce(run)  # type: ignore[arg-type,misc]  # any pass will do
    return time.perf_counter() - started


def measure(rows: int, cuts: list[int], repeats: int) -> bool:
    held = True
    with tempfile.TemporaryDirectory() as folder, executors() as found:
        sources = {
            cut: open_source("zarr", str(write(Path(folder) / f"{cut}.zarr", rows, cut)), ["x"])
            for cut in cuts
        }
        print(f"{rows:,} rows of {FEATURES} float64, {COMPONENTS} components; medians of {repeats}")
        print(
            f"{'executor':<10} {'rows are':<9} {'chunks':>7} {'blocks':>7} {'pass s':>8} "
            f"{'decode s':>9} {'beyond':>7}"
        )
        arithmetic = 1.0
        for name, executor in found.items():
            for resident in (True, False):
                with ExitStack() as stack:
                    opened = {
                        cut: stack.enter_context(executor.open(source.blocks(Transform()), resident=resident))
                        for cut, source in sources.items()
                    }
                    passes: dict[int, list[float]] = {cut: [] for cut in cuts}
                    decodes: dict[int, list[float]] = {cut: [] for cut in cuts}
                    run = e_step()
                    for number in range(repeats + 1):  # interleaved; the first of each warms up
                        for cut, blocks in opened.items():
                            passed = seconds(blocks, run)
                            decoded = 0.0 if resident else seconds(blocks, Decode())
                            if number:
                                passes[cut].append(passed)
                                decodes[cut].append(decoded)
                beyond = {
                    cut: statistics.median(p - d for p, d in zip(passes[cut], decodes[cut], strict=True))
                    for cut in cuts
                }
                if resident:
                    arithmetic = beyond[cuts[0]]
                for cut in cuts:
                    ratio = beyond[cut] / arithmetic
                    held &= ratio <= ALLOWED
                    print(
                        f"{name:<10} {'kept' if resident else 'streamed':<9} {cut:>7,} "
                        f"{len(sources[cut].blocks()):>7,} {statistics.median(passes[cut]):>8.3f} "
                        f"{statistics.median(decodes[cut]):>9.3f} {ratio:>7.2f}"
                    )
    print(
        f"beyond decoding, every cut costs at most {ALLOWED} times the arithmetic: {'yes' if held else 'NO'}"
    )
    return held


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="fewer rows: a look, not a measurement")
    quick = parser.parse_args().quick
    cuts = [10, 100, 1000, 10_000]
    measure(rows=1_000_000 if quick else 4_000_000, cuts=cuts, repeats=5)


if __name__ == "__main__":
    main()
