"""Passes on the threads of this process: the kernels release the interpreter's lock."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Self, TypeVar

from distem.errors import Stalled
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
T = TypeVar("T")


@dataclass
class Watch:
    """Waits for tasks, as long as blocks get done.

    Parameters
    ----------
    patience : float or None
        Seconds in which at least one block must be done; None for ever.
    """

    patience: float | None = None
    _last: float = field(default=0.0, repr=False)

    def done(self) -> None:
        """Take note that a block is done."""
        self._last = time.monotonic()

    def results(self, tasks: Sequence[Future[T]]) -> list[T]:
        """What the tasks return, in order; those that have not begun are dropped if one fails.

        Raises
        ------
        Stalled
            No block was done for as long as that.
        """
        self.done()
        try:
            return [self._result(task, tasks) for task in tasks]
        finally:
            for task in tasks:
                task.cancel()

    def _result(self, task: Future[T], tasks: Sequence[Future[T]]) -> T:
        while not wait([task], timeout=self._left).done:
            if self._left == 0.0:
                left = sum(not each.done() for each in tasks)
                raise Stalled(
                    f"No block was done for {self.patience:g} s (fit.stall_timeout), {left} of "
                    f"{len(tasks)} partitions are left: what the threads read does not come, or what they "
                    "compute does not end.",
                    "See to it, then run the same command to go on.",
                )
        return task.result()

    @property
    def _left(self) -> float | None:
        """Seconds until patience is over."""
        return None if self.patience is None else max(0.0, self._last + self.patience - time.monotonic())


@dataclass(frozen=True)
class ThreadBlocks:
    """Partitions shared out among threads."""

    pool: ThreadPoolExecutor
    blocks: Sequence[Block]
    partitions: list[Span]
    rows: dict[Span, list[Rows]] | None
    watch: Watch = field(default_factory=Watch)

    def map_reduce(self, run: Pass[S]) -> S:
        """Run a pass on every block and add the results along the fixed tree."""
        left = threading.Event()

        def part(span: Span) -> S:
            own = narrowed(run, span)

            def unless_left(rows: Rows, block: int) -> S:
                if left.is_set():
                    raise CancelledError
                sums = own(rows, block)
                self.watch.done()
                return sums

            if self.rows is not None:
                return reduce_rows(self.rows[span], span, unless_left)
            return reduce_blocks(self.blocks[slice(*span)], span, unless_left)

        try:
            tasks = [self.pool.submit(part, span) for span in self.partitions]
            sums = dict(zip(self.partitions, self.watch.results(tasks), strict=True))
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
        self._watch = Watch()

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
                tasks = [self._pool.submit(self._load, blocks[slice(*span)]) for span in spans]
                rows = dict(zip(spans, self._watch.results(tasks), strict=True))
            yield ThreadBlocks(self._pool, blocks, spans, rows, self._watch)

    def _load(self, blocks: Sequence[Block]) -> list[Rows]:
        held = []
        for block in blocks:
            held += load([block])
            self._watch.done()
        return held

    def begin(self) -> None:
        """Nothing has to come first."""

    def guard(self, patience: float | None) -> None:
        """End passes in which no block is done for so many seconds."""
        self._watch = Watch(patience)

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
