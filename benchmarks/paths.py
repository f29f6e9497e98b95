"""What the sections on the data path share: stores of mixed rows, the E-step, CPU seconds of workers."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import zarr
from zarr.codecs import BloscCodec

from distem.data.open import open_source
from distem.data.source import Source
from distem.data.transform import Transform
from distem.em.loop import EStep
from distem.execution.base import BlockSet
from distem.models.gaussian import Gaussian
from distem.models.mixture import Mixture, MixtureParams
from distem.types import Block, Rows

FEATURES = 8
THREADS = 2


class Decode:
    """A pass that does nothing: what is left is reading."""

    name = "decode"

    def __call__(self, rows: Rows, block: int) -> int:  # noqa: ARG002
        """Count."""
        return rows.n


CODECS: dict[str, Any] = {
    "Zstd": "auto",
    "Blosc-LZ4": BloscCodec(cname="lz4", clevel=5, shuffle="shuffle"),
    "uncompressed": None,
}
"""How a store is compressed: Zarr's own default, its quickest usual choice, not at all."""


def store(
    path: Path, rows: int, chunks: int, dtype: str = "float64", decimals: int = 3, codec: str = "Zstd"
) -> Source:
    """Write rows of a mixture as measurements are kept: rounded, in chunks; see `CODECS`."""
    array = zarr.open_group(path, mode="w").create_array(
        "x",
        shape=(rows, FEATURES),
        chunks=(-(-rows // chunks), FEATURES),
        dtype=dtype,
        dimension_names=("row", "feature"),
        compressors=CODECS[codec],
    )
    rng = np.random.default_rng(0)
    means = 3 * rng.normal(size=(8, FEATURES))
    per = -(-250_000 // array.chunks[0]) * array.chunks[0]
    for at in range(0, rows, per):
        n = min(per, rows - at)
        array[at : at + n] = np.round(
            means[rng.integers(8, size=n)] + rng.normal(size=(n, FEATURES)), decimals
        )
    return opened(path)


def opened(path: Path, decoder: str = "zarr") -> Source:
    """A store that was written."""
    return open_source("zarr", str(path), ["x"], decoder=decoder)


def problem(k: int) -> tuple[Mixture, MixtureParams]:
    """A mixture of k full covariances, and parameters to start from."""
    means = 3 * np.random.default_rng(0).normal(size=(max(8, k), FEATURES))[:k]
    covariances = np.broadcast_to(np.eye(FEATURES), (k, FEATURES, FEATURES))
    weights = np.full(k, 1.0 / k)
    component = Gaussian("full", 1e-6, 1e-24, np.ones(FEATURES), "compiled")
    return Mixture(component), MixtureParams(weights, component.from_matrices(means, covariances, weights))


def em_pass(blocks: BlockSet, model: Mixture, params: MixtureParams) -> Callable[[], Any]:
    """A whole pass: parameters out, statistics back, the M-step."""

    def run() -> Any:
        stats = blocks.map_reduce(EStep(((model, params),))).each[0]
        return model.m_step(stats, params)

    return run


def bare(
    blocks: Sequence[Block], model: Mixture, params: MixtureParams, threads: int = THREADS
) -> Callable[[], Any]:
    """The kernel alone: the E-steps of the same blocks on as many threads of one process."""
    rows = [block.load() for block in blocks]
    pool = ThreadPoolExecutor(threads)
    # neighbours side by side, as the partitions have them
    shares = np.array_split(np.arange(len(rows)), 4 * threads)

    def share(mine: Iterable[int]) -> Any:
        total = None
        for i in mine:
            part = model.e_step(rows[i], params)
            total = part if total is None else total + part
        return total

    return lambda: list(pool.map(share, shares))


def blocks(source: Source, dtype: Any = "float64") -> Sequence[Block]:
    """The source's blocks, standardised as a run would."""
    return source.blocks(Transform(shift=np.zeros(FEATURES), scale=np.full(FEATURES, 2.0), dtype=dtype))


def cpu_seconds(pids: Iterable[int]) -> float:
    """User and system time that processes have taken so far."""
    return sum(t.user + t.system for t in (psutil.Process(pid).cpu_times() for pid in pids))


def cpu_of(call: Callable[[], Any], pids: Sequence[int]) -> float:
    """CPU seconds of worker processes and of this one during a call."""
    everyone = [os.getpid(), *pids]
    before = cpu_seconds(everyone)
    call()
    return cpu_seconds(everyone) - before
