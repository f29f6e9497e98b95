"""Passes on the threads of this process: the kernels release the interpreter's lock."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import CancelledError, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Self

from distem.execution.base import (
    Capacity,
    Span,
    load,
    merge,
    narrowed,
    one_blas_thread,
    partition,
    reduce_blocks,
    reduce_rows,
)
from distem.types import Block, Pass, Rows, S

PARTITIONS_PER_THREAD = 4


@dataclass(frozen=True)
class ThreadBlocks:
    """Partitions shared out among threads."""

    pool: ThreadPoolExecutor
    blocks: Sequence[Block]
    partitions: list[Span]
    rows: dict[Span, list[Rows]] | None

    def map_reduce(self, run: Pass[S]) -> S:
        """Run a pass on every block and add the results along the fixed tree."""
        left = threading.Event()

        def part(span: Span) -> S:
            own = narrowed(run, span)

            def unless_left(rows: Rows, block: int) -> S:
                if left.is_set():
                    raise CancelledError
                return own(rows, block)

            if self.rows is not None:
                return reduce_rows(self.rows[span], span, unless_left)
            return reduce_blocks(self.blocks[slice(*span)], span, unless_left)

        try:
            sums = dict(zip(self.partitions, self.pool.map(part, self.partitions), strict=True))
        except BaseException:
            left.set()  # an error or a signal: the other threads stop at their next block
            raise
        return merge((0, len(self.blocks)), sums)


class ThreadsExecutor:
    """Runs passes on a pool of threads.

    Parameters
    ----------
    workers : int, optional
        Number of threads; default: the cores this process may use.
    """

    def __init__(self, workers: int | None = None) -> None:
        self.workers = workers or len(os.sched_getaffinity(0))
        self._pool = ThreadPoolExecutor(self.workers, thread_name_prefix="distem")

    @property
    def capacity(self) -> Capacity:
        """The threads of one process."""
        # each thread has its heap, and so has the one that reads ahead for it, and the one they all come from
        heaps = 2 * self.workers + 1
        return Capacity(workers=1, threads=self.workers, memory_per_worker=None, heaps=heaps)

    @property
    def may_read_again(self) -> bool:
        """Never: rows are lost with this process."""
        return False

    @contextmanager
    def open(
        self, blocks: Sequence[Block], *, resident: bool, partitions: int | None = None
    ) -> Iterator[ThreadBlocks]:
        """Cut the blocks into partitions; `resident` ones are read once and kept."""
        spans = partition([b.n for b in blocks], partitions or PARTITIONS_PER_THREAD * self.workers)
        with one_blas_thread():
            rows = None
            if resident:
                loaded = self._pool.map(lambda span: load(blocks[slice(*span)]), spans)
                rows = dict(zip(spans, loaded, strict=True))
            yield ThreadBlocks(self._pool, blocks, spans, rows)

    def guard(self, patience: float | None) -> None:
        """Nothing stands between this process and its work."""

    def prepare(self, work: Callable[[], float]) -> float:  # noqa: ARG002
        """Nothing: this process is the caller's."""
        return 0.0

    def close(self) -> None:
        """End the threads."""
        self._pool.shutdown(cancel_futures=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()
