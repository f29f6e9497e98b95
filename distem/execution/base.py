"""Where passes run: the executor protocol, and the one fixed tree every executor reduces along.

The tree over blocks ``[start, stop)`` splits at the middle, down to single blocks. It depends on the
number of blocks alone, so whoever adds whichever part of it, the sums are taken in the same order
and have the same bits. A *partition* is a subtree: a run of blocks between two cuts of the tree.
"""

from __future__ import annotations

import heapq
import time
from bisect import bisect_left
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import lru_cache
from typing import Protocol, Self

from threadpoolctl import ThreadpoolController

from distem.types import Block, Pass, Rows, S

Span = tuple[int, int]
"""A node of the tree: the blocks from start up to, not including, stop."""


def middle(span: Span) -> int:
    """Where the tree cuts a span of two or more blocks."""
    return (span[0] + span[1]) // 2


def fold(span: Span, leaf: Callable[[int], S], done: Mapping[Span, S] | None = None) -> S:
    """Add up a span of blocks in the tree's own order.

    Parameters
    ----------
    span : (int, int)
        A node of the tree.
    leaf : callable
        The value of one block.
    done : mapping, optional
        Sums already known for some nodes, e.g. those of the partitions.
    """
    if done is not None and span in done:
        return done[span]
    start, stop = span
    if stop - start == 1:
        return leaf(start)
    cut = middle(span)
    return fold((start, cut), leaf, done) + fold((cut, stop), leaf, done)


def merge(span: Span, done: Mapping[Span, S]) -> S:
    """Add up the sums of partitions that together cover `span`."""

    def missing(block: int) -> S:
        raise KeyError(f"block {block} of {span} is in no partition")

    return fold(span, missing, done)


def merge_groups(whole: Span, parts: Sequence[Span], most: int) -> list[tuple[Span, Sequence[Span]]]:
    """Group partitions below the highest nodes of the tree that hold at most so many of them.

    Parameters
    ----------
    whole : (int, int)
        The root.
    parts : sequence of span
        Nodes that together cover it, in order.
    most : int
        How many of them a group may have.
    """
    found: list[tuple[Span, Sequence[Span]]] = []

    def visit(span: Span, first: int, last: int) -> None:
        if last - first <= most:
            found.append((span, parts[first:last]))
            return
        cut = middle(span)
        between = bisect_left(parts, cut, first, last, key=lambda part: part[0])
        visit((span[0], cut), first, between)
        visit((cut, span[1]), between, last)

    visit(whole, 0, len(parts))
    return found


def partition(sizes: Sequence[int], count: int) -> list[Span]:
    """Cut the tree into `count` subtrees of about equal size, in order.

    The heaviest node is cut until there are enough, or until only single blocks are left.

    Parameters
    ----------
    sizes : sequence of int
        Rows of each block.
    count : int
        How many partitions are wanted.
    """
    total = [0]
    for size in sizes:
        total.append(total[-1] + size)
    # nodes are cut heaviest first; of equals the one with most blocks, then the first
    heap = [(-total[-1], -len(sizes), (0, len(sizes)))]
    leaves: list[Span] = []
    while heap and len(heap) + len(leaves) < count:
        _, _, span = heapq.heappop(heap)
        if span[1] - span[0] == 1:
            leaves.append(span)
            continue
        cut = middle(span)
        for part in ((span[0], cut), (cut, span[1])):
            heapq.heappush(heap, (total[part[0]] - total[part[1]], part[0] - part[1], part))
    return sorted(leaves + [span for _, _, span in heap])


def share_out(sizes: Mapping[Span, int], threads: Mapping[str, int]) -> dict[str, list[Span]]:
    """Give every worker its share of the partitions: the heaviest first, to whoever has least to do.

    Parameters
    ----------
    sizes : mapping of span to int
        Rows of each partition.
    threads : mapping of str to int
        Threads of each worker; there is one at least.
    """
    shares: dict[str, list[Span]] = {worker: [] for worker in threads}
    heap = [(0.0, number, worker) for number, worker in enumerate(threads)]
    for span in sorted(sizes, key=lambda span: (-sizes[span], span)):
        held, number, worker = heap[0]
        heapq.heapreplace(heap, (held + sizes[span] / threads[worker], number, worker))
        shares[worker].append(span)
    return {worker: sorted(spans) for worker, spans in shares.items() if spans}


def reduce_blocks(
    blocks: Sequence[Block], span: Span, run: Pass[S], waited: Callable[[float], object] | None = None
) -> S:
    """Load the blocks of a span one by one and add up what the pass makes of them.

    The next block is decoded on a second thread while the pass works on this one, so at most
    two blocks are in memory. `waited` is told the seconds for which each block let the pass wait.
    """
    with ThreadPoolExecutor(1, thread_name_prefix="distem-read") as reader:
        ahead = reader.submit(blocks[0].load)

        def leaf(block: int) -> S:
            nonlocal ahead
            began = time.perf_counter()
            rows = ahead.result()
            if waited is not None:
                waited(time.perf_counter() - began)
            if block + 1 < span[1]:
                ahead = reader.submit(blocks[block + 1 - span[0]].load)
            return run(rows, block)

        return fold(span, leaf)


def reduce_rows(rows: Sequence[Rows], span: Span, run: Pass[S]) -> S:
    """Add up what the pass makes of blocks that are already in memory."""
    return fold(span, lambda block: run(rows[block - span[0]], block))


def narrowed(run: Pass[S], span: Span) -> Pass[S]:
    """The pass as a task on a span needs it: without what it carries for other blocks.

    A pass with an input per block has a method `within` that cuts it down.
    """
    within: Callable[[Span], Pass[S]] | None = getattr(run, "within", None)
    return run if within is None else within(span)


def load(blocks: Sequence[Block]) -> list[Rows]:
    """Read a partition's blocks into memory, where passes may leave something beside them."""
    return [block.load().remembering() for block in blocks]


def pass_name(run: Pass[S]) -> str:
    """What a pass is called in task streams and logs."""
    name = getattr(run, "name", type(run).__name__)
    return str(name)


@dataclass(frozen=True, slots=True)
class Capacity:
    """What an executor has to work with.

    Attributes
    ----------
    workers : int
        Processes that hold memory of their own.
    threads : int
        Threads over all workers.
    memory_per_worker : int or None
        Bytes a worker may use; None when nothing limits it but the machine.
    heaps : int
        Of one process: each keeps free memory of its own. Workers are started with one.
    """

    workers: int
    threads: int
    memory_per_worker: int | None
    heaps: int = 1


class BlockSet(Protocol):
    """The blocks of a data set, cut into partitions and ready for passes."""

    @property
    def partitions(self) -> list[Span]:
        """The subtrees, in order."""

    def map_reduce(self, run: Pass[S]) -> S:
        """Run a pass on every block and add the results along the fixed tree."""


class Executor(Protocol):
    """A place where passes run."""

    @property
    def capacity(self) -> Capacity:
        """Workers, threads and memory."""

    @property
    def may_read_again(self) -> bool:
        """Whether rows that are kept may have to be read once more: who held them may be lost."""

    def open(
        self, blocks: Sequence[Block], *, resident: bool, partitions: int | None = None
    ) -> AbstractContextManager[BlockSet]:
        """Cut the blocks into partitions; `resident` ones are read once and kept in memory."""

    def begin(self) -> None:
        """Wait until passes can run; it may be interrupted, and closed then."""

    def guard(self, patience: float | None) -> None:
        """End passes in which nothing gets done for so many seconds, where that can happen."""

    def prepare(self, work: Callable[[], float]) -> float:
        """Do some work once in each process with a cache of its own; return the longest time in seconds."""

    def close(self) -> None:
        """Give back what the executor holds."""

    def __enter__(self) -> Self: ...

    def __exit__(self, *exc: object) -> None: ...


@lru_cache(maxsize=1)
def _pools() -> ThreadpoolController:
    return ThreadpoolController()


@contextmanager
def one_blas_thread() -> Iterator[None]:
    """Keep BLAS and OpenMP to one thread: their sums otherwise depend on how many there are."""
    with _pools().limit(limits=1):
        yield


def pin_blas_for_good() -> None:
    """Keep this process's BLAS to one thread from now on: for workers that run our tasks."""
    _pools().limit(limits=1)
