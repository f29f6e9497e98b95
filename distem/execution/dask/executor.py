"""Partitions on a Dask cluster, and the passes over them.

A task is a partition, many chunks, because the scheduler needs about a millisecond per task whatever
the task does. Parameters travel as task arguments: a lost worker loses nothing that cannot be redone.
"""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Self

from dask.sizeof import sizeof
from distributed import Client, Future
from distributed.client import FutureCancelledError, futures_of
from distributed.comm.core import CommClosedError
from distributed.scheduler import KilledWorker

from distem.errors import Interrupted
from distem.execution.base import (
    Capacity,
    Span,
    load,
    merge,
    middle,
    partition,
    pass_name,
    pin_blas_for_good,
    reduce_blocks,
    reduce_rows,
)
from distem.execution.dask.arrays import LazyBlock, computed
from distem.types import Block, Pass, Rows, S

PARTITIONS_PER_THREAD = 4
MERGE_FAN_IN = 16
"""Up to so many sums are added by the driver; more are first merged on the workers."""

_serial_numbers = itertools.count()


@sizeof.register(Rows)  # type: ignore[untyped-decorator]
def _size_of_rows(rows: Rows) -> int:
    """What Dask weighs when it places a task: unknown, rows would pass for small and be copied about."""
    return rows.nbytes


def _load_partition(blocks: Sequence[Block]) -> list[Rows]:
    return load(blocks)


def _run_resident(rows: Sequence[Rows], span: Span, run: Pass[S]) -> S:
    pin_blas_for_good()
    return reduce_rows(rows, span, run)


def _run_streamed(blocks: Sequence[Block], span: Span, run: Pass[S]) -> S:
    pin_blas_for_good()
    return reduce_blocks(blocks, span, run)


def _merge_sums(span: Span, parts: Sequence[Span], sums: Sequence[S]) -> S:
    return merge(span, dict(zip(parts, sums, strict=True)))


@dataclass(frozen=True)
class DaskBlocks:
    """Partitions on a cluster, resident as futures or read anew in every pass."""

    client: Client
    blocks: Sequence[Block]
    partitions: list[Span]
    resident: Mapping[Span, Future] | None

    def map_reduce(self, run: Pass[S]) -> S:
        """Run a pass on every block and add the results along the fixed tree."""
        name, number = pass_name(run), next(_serial_numbers)
        with _cluster_failures():
            futures = {
                span: self._submit(span, run, f"{name}-{number}-{span[0]}") for span in self.partitions
            }
            whole = (0, len(self.blocks))
            while len(futures) > MERGE_FAN_IN:
                futures = self._merge_level(whole, futures, f"merge-{name}-{number}")
            sums: list[S] = self.client.gather(list(futures.values()))
        return merge(whole, dict(zip(futures, sums, strict=True)))

    def _submit(self, span: Span, run: Pass[S], key: str) -> Future:
        if self.resident is not None:
            return self.client.submit(_run_resident, self.resident[span], span, run, key=key, pure=False)
        lazy = [block for block in self.blocks[slice(*span)] if isinstance(block, LazyBlock)]
        if futures_of([block.parts for block in lazy] + [block.weights for block in lazy]):
            # a task cannot compute what is already held on the cluster: the scheduler has to bring it
            return self.client.submit(
                _run_resident, computed(self.client, lazy, f"{key}-load"), span, run, key=key, pure=False
            )
        return self.client.submit(_run_streamed, self.blocks[slice(*span)], span, run, key=key, pure=False)

    def _merge_level(self, whole: Span, futures: dict[Span, Future], key: str) -> dict[Span, Future]:
        """Merge on the workers what lies below each subtree of at most MERGE_FAN_IN sums."""
        merged: dict[Span, Future] = {}

        def visit(span: Span) -> None:
            if span in futures:
                merged[span] = futures[span]
                return
            parts = [part for part in futures if span[0] <= part[0] and part[1] <= span[1]]
            if len(parts) <= MERGE_FAN_IN:
                merged[span] = self.client.submit(
                    _merge_sums,
                    span,
                    parts,
                    [futures[p] for p in parts],
                    key=f"{key}-{span[0]}-{span[1]}",
                    pure=False,
                )
                return
            cut = middle(span)
            visit((span[0], cut))
            visit((cut, span[1]))

        visit(whole)
        return merged


class DaskExecutor:
    """Runs passes on a Dask cluster.

    Parameters
    ----------
    client : distributed.Client
        A connected, synchronous client.
    owned : sequence of closable, optional
        What `close` closes: a cluster this executor started, its client.
    """

    def __init__(self, client: Client, owned: Sequence[Any] = ()) -> None:
        self.client = client
        self._owned = list(owned)

    @property
    def capacity(self) -> Capacity:
        """The workers that are there now."""
        workers = self.client.scheduler_info(n_workers=-1)["workers"].values()
        limits = [w["memory_limit"] for w in workers if w.get("memory_limit")]
        return Capacity(
            workers=len(workers),
            threads=sum(w["nthreads"] for w in workers),
            memory_per_worker=min(limits) if limits else None,
        )

    @property
    def dashboard(self) -> str | None:
        """Address of the cluster's dashboard, where there is one."""
        link = getattr(self.client, "dashboard_link", None)
        return str(link) if link else None

    @contextmanager
    def open(
        self, blocks: Sequence[Block], *, resident: bool, partitions: int | None = None
    ) -> Iterator[DaskBlocks]:
        """Cut the blocks into partitions; `resident` ones are loaded by one task each and kept."""
        count = partitions or PARTITIONS_PER_THREAD * max(1, self.capacity.threads)
        spans = partition([b.n for b in blocks], count)
        futures = None
        if resident:
            number = next(_serial_numbers)
            # no worker is named as a partition's home: with all of them lost, and others in their place,
            # a task with a home waits for ever
            with _cluster_failures():
                futures = {
                    span: self._load(blocks[slice(*span)], f"load-{number}-{span[0]}") for span in spans
                }
        yield DaskBlocks(self.client, blocks, spans, futures)

    def _load(self, blocks: Sequence[Block], key: str) -> Future:
        lazy = [block for block in blocks if isinstance(block, LazyBlock)]
        if not lazy:
            return self.client.submit(_load_partition, blocks, key=key, pure=False)
        return computed(self.client, lazy, key)

    def close(self) -> None:
        """Close what this executor started; a client that was given stays open."""
        for thing in self._owned:
            thing.close()
        self._owned.clear()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


@contextmanager
def _cluster_failures() -> Iterator[None]:
    """Turn the ways a cluster is lost into one ending the user can act on."""
    try:
        with warnings.catch_warnings():
            # rows in the caller's memory come in the graph, where they outlive a worker
            warnings.filterwarnings("ignore", message="Sending large graph", category=UserWarning)
            yield
    except KilledWorker as error:
        raise Interrupted(
            f"Workers were killed three times over while running {error.task}, "
            "most likely for want of memory.",
            "Give the workers more memory or set cluster.resident: false, then run the same command again.",
        ) from error
    except (FutureCancelledError, CommClosedError, TimeoutError, OSError) as error:
        # a number from the system comes from a task: a disk that is full, a folder that is closed
        if isinstance(error, OSError) and error.errno and not isinstance(error, ConnectionError):
            raise
        raise Interrupted(
            f"The cluster was lost: {type(error).__name__}: {error}.", "Run the same command to go on."
        ) from error
