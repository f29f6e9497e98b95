"""Partitions on a Dask cluster, and the passes over them.

A task is a partition, many chunks, because the scheduler needs about a millisecond per task whatever
the task does. Parameters travel as task arguments: a lost worker loses nothing that cannot be redone.
"""

from __future__ import annotations

import hashlib
import itertools
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Self

import dask
from dask.sizeof import sizeof
from distributed import Client, Future, get_worker, wait
from distributed.client import futures_of
from distributed.scheduler import KilledWorker

from distem.errors import ConfigError, Interrupted
from distem.execution.base import (
    Capacity,
    Span,
    load,
    merge,
    merge_groups,
    narrowed,
    partition,
    pass_name,
    pin_blas_for_good,
    reduce_blocks,
    reduce_rows,
    share_out,
)
from distem.execution.dask.arrays import LazyBlock, computed
from distem.execution.dask.failures import TRIES, cluster_failures, give_up
from distem.execution.dask.versions import Versions
from distem.execution.dask.vigil import Vigil, failed_on, raise_allowed_failures, workers_now
from distem.types import Block, Pass, Rows, S

PARTITIONS_PER_THREAD = 4
MERGE_FAN_IN = 16
"""Up to so many sums are added by the driver; more are first merged on the workers."""

HOME_SECONDS = 1.0
"""How often, while partitions are loaded, it is looked whether their workers are still there."""

ALLOWED_FAILURES = 10
"""How many workers may die under a task before it is given up: 3, Dask's own, are few for a night."""

TASK_TOPIC = "distem-tasks"
"""Events of the scheduler's log: for how many seconds a task waited for data, and bytes of its rows."""

_serial_numbers = itertools.count()


@lru_cache(maxsize=64)
def token_of(client_id: str) -> str:
    """What the keys of a client's tasks share: on a common scheduler others count from 0 as well."""
    return hashlib.blake2b(client_id.encode(), digest_size=4).hexdigest()


def _key(client: Client, name: str) -> str:
    """The beginning of a key. Task stream and progress bars show its first word, and colour by it."""
    return f"{name}-{token_of(client.id)}-{next(_serial_numbers)}"


@sizeof.register(Rows)  # type: ignore[untyped-decorator]
def _size_of_rows(rows: Rows) -> int:
    """What Dask weighs when it places a task: unknown, rows would pass for small and be copied about."""
    return rows.nbytes


def _run_resident(rows: Sequence[Rows], span: Span, run: Pass[S]) -> S:
    pin_blas_for_good()
    return reduce_rows(rows, span, run)


def _run_streamed(blocks: Sequence[Block], span: Span, run: Pass[S]) -> S:
    pin_blas_for_good()
    waited: list[float] = []
    sums = reduce_blocks(blocks, span, run, waited.append)
    with suppress(ValueError):  # no worker: called by hand
        worker = get_worker()
        about = {
            "key": worker.get_current_task(),
            "read": sum(waited),
            "bytes": sum(b.nbytes for b in blocks),
        }
        worker.log_event(TASK_TOPIC, about)
    return sums


def _merge_sums(span: Span, parts: Sequence[Span], sums: Sequence[S]) -> S:
    return merge(span, dict(zip(parts, sums, strict=True)))


@dataclass(frozen=True)
class DaskBlocks:
    """Partitions on a cluster, resident as futures or read anew in every pass."""

    client: Client
    blocks: Sequence[Block]
    partitions: list[Span]
    resident: Mapping[Span, Future] | None
    vigil: Vigil
    versions: Versions | None = None

    def map_reduce(self, run: Pass[S]) -> S:
        """Run a pass on every block and add the results along the fixed tree.

        Raises
        ------
        ClusterError
            A worker that came since runs other versions.
        """
        self._refuse_version_skew()
        name = pass_name(run)
        about = dask.annotate(distem={"pass": name, "partitions": len(self.partitions)})
        with cluster_failures(self.blocks), about:
            futures = self._submit(run, _key(self.client, name))
            whole = (0, len(self.blocks))
            self._finish(futures, run)
            while len(futures) > MERGE_FAN_IN:
                futures = self._merge_level(whole, futures, _key(self.client, "merge"))
            self.vigil.over(list(futures.values()))
            sums: list[S] = self.client.gather(list(futures.values()))
        self._refuse_version_skew()  # who came meanwhile may have had a part in the sums
        return merge(whole, dict(zip(futures, sums, strict=True)))

    def _refuse_version_skew(self) -> None:
        if self.versions is not None:
            self.versions.refuse_others()

    def _finish(self, futures: dict[Span, Future], run: Pass[S]) -> None:
        """Wait for the tasks; one that fails is tried again elsewhere, then refused."""
        tries: dict[Span, int] = {}
        where: dict[Span, list[str]] = {}
        while failed := self.vigil.over(list(futures.values())):
            for span in [span for span, future in futures.items() if future in failed]:
                future, error = futures[span], futures[span].exception()
                tries[span] = tries.get(span, 0) + 1
                if tries[span] >= TRIES or isinstance(error, KilledWorker | ConfigError | Interrupted):
                    give_up(error, run, self.blocks[slice(*span)], where.get(span, []))
                where[span] = sorted({*where.get(span, []), *failed_on(self.client, future.key)})
                key = f"{str(future.key).partition('-again')[0]}-again{tries[span]}"
                futures[span] = self._again(run, span, key, where[span])

    def _again(self, run: Pass[S], span: Span, key: str, but: Sequence[str]) -> Future:
        """Submit one partition's task once more, on other workers where there are any."""
        others = [address for address in workers_now(self.client) if address not in but]
        data: Any = self.blocks[slice(*span)]
        task: Callable[..., S] = _run_streamed
        if self.resident is not None:
            task, data = _run_resident, self.resident[span]
        elif any(isinstance(block, LazyBlock) for block in data):
            task, data = (
                _run_resident,
                computed(self.client, list(data), f"{_key(self.client, 'load')}-{span[0]}"),
            )
        place = {"workers": others, "allow_other_workers": True} if others else {}
        return self.client.submit(task, data, span, narrowed(run, span), key=key, pure=False, **place)

    def _submit(self, run: Pass[S], key: str) -> dict[Span, Future]:
        """One task a partition, in one message: the scheduler handles each graph by itself."""
        spans = self.partitions
        keys = [f"{key}-{span[0]}" for span in spans]
        lazy = [block for block in self.blocks if isinstance(block, LazyBlock)]
        task: Callable[..., S] = _run_resident
        data: list[Any]
        if self.resident is not None:
            data = [self.resident[span] for span in spans]
        elif futures_of([block.parts for block in lazy] + [block.weights for block in lazy]):
            # a task cannot compute what is already held on the cluster: the scheduler has to bring it
            load_key = _key(self.client, "load")
            data = [computed(self.client, lazy[slice(*span)], f"{load_key}-{span[0]}") for span in spans]
        else:
            task, data = _run_streamed, [self.blocks[slice(*span)] for span in spans]
        own = [narrowed(run, span) for span in spans]
        if all(part is run for part in own):  # one for all: sent once
            tasks = self.client.map(task, data, spans, run=run, key=keys, pure=False)
        else:
            tasks = self.client.map(task, data, spans, own, key=keys, pure=False)
        return dict(zip(spans, tasks, strict=True))

    def _merge_level(self, whole: Span, futures: dict[Span, Future], key: str) -> dict[Span, Future]:
        """Merge on the workers what lies below each subtree of at most MERGE_FAN_IN sums."""
        groups = merge_groups(whole, list(futures), MERGE_FAN_IN)
        spans, parts = zip(*((span, group) for span, group in groups if span not in futures), strict=True)
        merged = self.client.map(
            _merge_sums,
            spans,
            parts,
            [[futures[part] for part in group] for group in parts],
            key=[f"{key}-{span[0]}-{span[1]}" for span in spans],
            pure=False,
        )
        known = futures | dict(zip(spans, merged, strict=True))
        return {span: known[span] for span, _ in groups}


class DaskExecutor:
    """Runs passes on a Dask cluster.

    Parameters
    ----------
    client : distributed.Client
        A connected, synchronous client.
    owned : sequence of closable, optional
        What `close` closes: a cluster this executor started, its client.
    local : bool
        Whether the workers share this machine's caches.
    versions : Versions, optional
        What workers are asked about, those that come later too; None takes them as they are.
    wait : callable, optional
        Waits for the first workers, where they are not there yet.
    """

    def __init__(
        self,
        client: Client,
        owned: Sequence[Any] = (),
        *,
        local: bool = False,
        versions: Versions | None = None,
        wait: Callable[[], None] | None = None,
    ) -> None:
        self.client = client
        self.local = local
        self.versions = versions
        self.vigil = Vigil(client)
        self._owned = list(owned)
        self._wait = wait

    @property
    def capacity(self) -> Capacity:
        """The workers that are there now."""
        with cluster_failures():
            workers = workers_now(self.client).values()
        limits = [w["memory_limit"] for w in workers if w.get("memory_limit")]
        return Capacity(
            workers=len(workers),
            threads=sum(w["nthreads"] for w in workers),
            memory_per_worker=min(limits) if limits else None,
        )

    @property
    def may_read_again(self) -> bool:
        """Always: with a worker its rows are lost, and Dask has another load them."""
        return True

    @property
    def dashboard(self) -> str | None:
        """Address of the cluster's dashboard, where there is one."""
        link = getattr(self.client, "dashboard_link", None)
        return str(link) if link else None

    def begin(self) -> None:
        """Wait for the first workers.

        Raises
        ------
        Interrupted
            Too few came in time, or the cluster was lost.
        ClusterError
            There are none, or they run other versions.
        """
        with cluster_failures():
            if self._wait is not None:
                self._wait()
            self.refuse_version_skew()

    def guard(self, patience: float | None) -> None:
        """End passes in which no task is done for so many seconds, and let tasks outlive more workers."""
        self.vigil = Vigil(self.client, patience)
        with cluster_failures():
            raise_allowed_failures(self.client, ALLOWED_FAILURES)

    @contextmanager
    def open(
        self, blocks: Sequence[Block], *, resident: bool, partitions: int | None = None
    ) -> Iterator[DaskBlocks]:
        """Cut the blocks into partitions; `resident` ones are loaded by one task each and kept."""
        count = partitions or PARTITIONS_PER_THREAD * max(1, self.capacity.threads)
        spans = partition([b.n for b in blocks], count)
        futures = self._load(blocks, spans) if resident else None
        yield DaskBlocks(self.client, blocks, spans, futures, self.vigil, self.versions)

    def refuse_version_skew(self) -> None:
        """Raise if a worker that was not asked before runs other versions of what decides the bits.

        Raises
        ------
        ClusterError
            With the list of packages, versions and workers.
        Interrupted
            The cluster was lost meanwhile.
        """
        if self.versions is not None:
            self.versions.refuse_others()

    def _load(self, blocks: Sequence[Block], spans: Sequence[Span]) -> dict[Span, Future]:
        """Read every partition once, on workers that then hold equal shares of the rows."""
        name = _key(self.client, "load")
        with cluster_failures(blocks), dask.annotate(distem={"pass": "load", "partitions": len(spans)}):
            if any(isinstance(block, LazyBlock) for block in blocks):
                lazy = [block for block in blocks if isinstance(block, LazyBlock)]
                return {
                    span: computed(self.client, lazy[slice(*span)], f"{name}-{span[0]}") for span in spans
                }
            futures: dict[Span, Future] = {}
            homes: dict[Span, str] = {}
            workers = workers_now(self.client)
            rows = {span: sum(block.n for block in blocks[slice(*span)]) for span in spans}
            shares: Mapping[str, Sequence[Span]] = {"": spans}  # all have just gone: whoever comes
            if workers:
                shares = share_out(rows, {w: about["nthreads"] for w, about in workers.items()})
            for home, mine in shares.items():
                tasks = self.client.map(
                    load,
                    [blocks[slice(*span)] for span in mine],
                    key=[f"{name}-{span[0]}" for span in mine],
                    pure=False,
                    **({"workers": [home], "allow_other_workers": True} if home else {}),
                )
                futures |= zip(mine, tasks, strict=True)
                homes |= dict.fromkeys(mine, home) if home else {}
            self._settle(blocks, futures, homes)
        return futures

    def _settle(self, blocks: Sequence[Block], futures: dict[Span, Future], homes: dict[Span, str]) -> None:
        """Wait until all is loaded, and let it be loaded again anywhere, should a worker go.

        With all workers lost and others in their place, a task that has a home waits for ever, even if the
        home is taken from it then: it is asked for anew, without one.
        """
        done, since = -1, time.monotonic()
        tries: dict[Span, int] = {}
        while True:
            with suppress(TimeoutError), self.client.as_current():
                wait(list(futures.values()), timeout=HOME_SECONDS)
                if not self._load_again(blocks, futures, homes, tries):
                    break
            counted = sum(future.done() for future in futures.values())
            if counted != done:
                done, since = counted, time.monotonic()
            self.vigil.look(list(futures.values()), since)
            there = workers_now(self.client)
            for span, home in list(homes.items()):
                if home not in there and not futures[span].done():
                    futures[span].cancel()
                    key = f"{_key(self.client, 'load')}-{span[0]}"
                    futures[span] = self.client.submit(load, blocks[slice(*span)], key=key, pure=False)
                    del homes[span]
        kept: dict[Any, list[str]] = {futures[span].key: [] for span in homes}
        self.client.sync(self.client.scheduler.set_restrictions, worker=kept)

    def _load_again(
        self,
        blocks: Sequence[Block],
        futures: dict[Span, Future],
        homes: dict[Span, str],
        tries: dict[Span, int],
    ) -> bool:
        """Submit what failed to load once more, anywhere; whether there was any."""
        failed = [span for span, future in futures.items() if future.status == "error"]
        for span in failed:
            error, mine = futures[span].exception(), blocks[slice(*span)]
            tries[span] = tries.get(span, 0) + 1
            if tries[span] >= TRIES or isinstance(error, KilledWorker | ConfigError | Interrupted):
                give_up(error, load, mine, [])
            key = f"{_key(self.client, 'load')}-{span[0]}"
            others = [
                w for w in workers_now(self.client) if w not in failed_on(self.client, futures[span].key)
            ]
            place = {"workers": others, "allow_other_workers": True} if others else {}
            futures[span] = self.client.submit(load, mine, key=key, pure=False, **place)
            homes.pop(span, None)
        return bool(failed)

    def prepare(self, work: Callable[[], float]) -> float:
        """Do some work on the workers of a cluster that was not started here; return the longest time.

        Once for each of their threads, wherever the scheduler puts it: a task that is meant for one worker
        would wait for ever if that left.
        """
        if self.local:
            return 0.0
        key = _key(self.client, "prepare")
        with cluster_failures():
            tasks = [
                self.client.submit(work, key=f"{key}-{i}", pure=False) for i in range(self.capacity.threads)
            ]
            seconds: list[float] = self.client.gather(tasks)
        return max(seconds, default=0.0)

    def close(self) -> None:
        """Close what this executor started; a client that was given stays open."""
        for thing in self._owned:
            thing.close()
        self._owned.clear()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()
