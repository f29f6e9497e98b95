"""Passes on a Dask cluster: the only module that imports dask or distributed.

A task is a partition, many chunks, because the scheduler needs about a millisecond per task whatever
the task does. Parameters travel as task arguments: a lost worker loses nothing that cannot be redone.
"""

from __future__ import annotations

import importlib.util
import itertools
import math
import os
import signal
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol, Self

import dask
import dask.array as da
import numpy as np
from dask.sizeof import sizeof
from dask.utils import parse_bytes
from distributed import Client, Future, LocalCluster, Security, get_client
from distributed.client import FutureCancelledError, futures_of
from distributed.comm.core import CommClosedError
from distributed.scheduler import KilledWorker
from distributed.system import MEMORY_LIMIT
from numpy.typing import DTypeLike, NDArray

from distem.errors import ClusterError, DataError, Interrupted
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
from distem.types import Block, Pass, Rows, S

PARTITIONS_PER_THREAD = 4
MERGE_FAN_IN = 16
"""Up to so many sums are added by the driver; more are first merged on the workers."""

COMPARED_PACKAGES = ("distem", "numpy", "numba")

_serial_numbers = itertools.count()


@sizeof.register(Rows)  # type: ignore[untyped-decorator]
def _size_of_rows(rows: Rows) -> int:
    """What Dask weighs when it places a task: unknown, rows would pass for small and be copied about."""
    return rows.nbytes


class Transformer(Protocol):
    """Makes the rows a model sees from what is stored."""

    def rows(self, values: NDArray[Any], weights: NDArray[Any] | None) -> Rows:
        """Scale, mask and cast."""


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
                _run_resident, _computed(self.client, lazy, f"{key}-load"), span, run, key=key, pure=False
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
        return _computed(self.client, lazy, key)

    def refuse_version_skew(self) -> None:
        """Raise if a worker runs another version of what decides the bits.

        Raises
        ------
        ClusterError
            With the list of packages, versions and workers.
        """
        ask = _asking_versions(COMPARED_PACKAGES)
        ours = ask()
        differences = [
            f"{package} is {theirs.get(package) or 'missing'} on {address} and {version} here"
            for address, theirs in self.client.run(ask).items()
            for package, version in ours.items()
            if theirs.get(package) != version
        ]
        if differences:
            raise ClusterError(
                f"The workers run other versions than this process: {'; '.join(differences[:8])}.",
                "Install the same versions on every worker.",
            )

    def close(self) -> None:
        """Close what this executor started; a client that was given stays open."""
        for thing in self._owned:
            thing.close()
        self._owned.clear()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


def _asking_versions(packages: Sequence[str]) -> Callable[[], dict[str, str | None]]:
    """A function that tells the versions of what is imported where it runs.

    Dask's own reads the metadata of what is installed, which another copy of a package on the path
    does not change. Local, so that it travels whole: a worker may not have this module.
    """

    def versions() -> dict[str, str | None]:
        import importlib
        import sys

        found: dict[str, str | None] = {"python": ".".join(map(str, sys.version_info[:2]))}
        for package in packages:
            try:
                found[package] = str(importlib.import_module(package).__version__)
            except ImportError:
                found[package] = None
        return found

    return versions


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


def local_capacity(workers: int | None, threads: int, memory: int | str) -> Capacity:
    """What `local` would start, without starting it."""
    workers = workers or len(os.sched_getaffinity(0))
    return Capacity(workers, workers * threads, _memory_limit(memory, threads))


def _memory_limit(memory: int | str, threads: int) -> int:
    """Bytes a worker may use; "auto" is a share of the machine's in proportion to its threads."""
    if memory == "auto":
        return int(MEMORY_LIMIT * min(1.0, threads / len(os.sched_getaffinity(0))))
    return int(parse_bytes(memory))


def local(
    workers: int | None = None,
    threads: int = 1,
    memory: int | str = "auto",
    dashboard_address: str | None = "127.0.0.1:0",
) -> DaskExecutor:
    """Start a cluster of processes on this machine, bound to loopback.

    Parameters
    ----------
    workers : int, optional
        Number of processes; default: one per core this process may use.
    threads : int
        Threads of each.
    memory : int or str
        Bytes each may use, a text such as "4GiB", or "auto" for a share of the machine.
    dashboard_address : str or None
        Where the dashboard listens; None for none.
    """
    workers = workers or len(os.sched_getaffinity(0))
    # a task that is stolen takes a copy of its rows along, and tasks are alike: none need be
    settings = {"distributed.worker.daemon": True, "distributed.scheduler.work-stealing": False}
    with dask.config.set(settings):
        cluster = LocalCluster(
            n_workers=workers,
            threads_per_worker=threads,
            memory_limit=_memory_limit(memory, threads),
            host="127.0.0.1",
            # even without a dashboard a scheduler serves its state: not on 8787, which may be taken
            dashboard_address=dashboard_address or "127.0.0.1:0",
            scheduler_kwargs={"dashboard": _has_bokeh() and dashboard_address is not None},
            silence_logs=40,
            preload=[__name__],
        )
    client = Client(cluster, set_as_default=False)
    return DaskExecutor(client, owned=[client, cluster])


def dask_setup(_: Any) -> None:
    """Prepare a worker process: Dask calls this in each that `local` starts.

    A Ctrl-C at the terminal reaches the workers too, and is for the driver to answer.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _has_bokeh() -> bool:
    """Bokeh is an extra: without it the cluster runs without a dashboard."""
    return importlib.util.find_spec("bokeh") is not None


def connect(
    address: str, *, security: Mapping[str, str] | None = None, timeout: float = 10.0
) -> DaskExecutor:
    """Use a running scheduler.

    Parameters
    ----------
    address : str
        ``tcp://host:port`` or ``tls://host:port``.
    security : mapping, optional
        ``ca_file``, ``cert`` and ``key``: paths of PEM files.
    timeout : float
        Seconds to wait for the scheduler.

    Raises
    ------
    ClusterError
        The scheduler does not answer, has no workers, or they run other versions.
    """
    try:
        client = Client(address, timeout=timeout, security=_security(security), set_as_default=False)
    except (OSError, TimeoutError, ValueError, CommClosedError) as error:
        raise ClusterError(
            f"The Dask scheduler at {address} did not answer within {timeout:g} s ({error}).",
            "Check cluster.address, that the scheduler runs and that this machine may reach its port.",
        ) from error
    executor = DaskExecutor(client, owned=[client])
    try:
        executor.client.wait_for_workers(1, timeout=timeout)
        executor.refuse_version_skew()
    except TimeoutError as error:
        executor.close()
        raise ClusterError(
            f"The Dask scheduler at {address} has no workers after {timeout:g} s.",
            "Start workers, or raise cluster.timeout.",
        ) from error
    except ClusterError:
        executor.close()
        raise
    return executor


def _security(files: Mapping[str, str] | None) -> Security | None:
    if not files:
        return None
    return Security(
        tls_ca_file=files.get("ca_file"),
        tls_client_cert=files.get("cert"),
        tls_client_key=files.get("key"),
        require_encryption=True,
    )


def current_client() -> Client | None:
    """The Dask client in scope, or None."""
    try:
        return get_client()
    except ValueError:
        return None


@dataclass(frozen=True, eq=False)
class LazyBlock:
    """A block of a Dask array: computed by whoever loads it, on one thread.

    Attributes
    ----------
    index, n, nbytes : int
        As of any block.
    parts : tuple of dask.array.Array
        Rectangles of rows, features last.
    weights : tuple of dask.array.Array, or None
        Of the same rectangles.
    transform : Transformer
        From stored rows to the model's.
    """

    index: int
    n: int
    nbytes: int
    parts: tuple[Any, ...]
    weights: tuple[Any, ...] | None
    transform: Transformer

    def load(self) -> Rows:
        """Compute the rows."""
        wanted = [*self.parts, *(self.weights or ())]
        return _stack(dask.compute(*wanted, scheduler="synchronous"), len(self.parts), self.transform)


def _stack(arrays: Sequence[Any], parts: int, transform: Transformer) -> Rows:
    """Rows of rectangles, the first `parts` of them values and the others their weights."""
    values = [np.asarray(a).reshape(-1, a.shape[-1]) for a in arrays[:parts]]
    weights = [np.asarray(a, dtype=np.float64).ravel() for a in arrays[parts:]]
    return transform.rows(_joined(values), _joined(weights) if weights else None)


def _joined(parts: Sequence[NDArray[Any]]) -> NDArray[Any]:
    return parts[0] if len(parts) == 1 else np.concatenate(parts)


def _computed(client: Client, blocks: Sequence[LazyBlock], key: str) -> Future:
    """Rows of blocks whose graphs the cluster computes: what it already holds stays where it is."""
    arrays = [client.compute([*block.parts, *(block.weights or ())]) for block in blocks]
    parts = [len(block.parts) for block in blocks]
    return client.submit(_load_computed, arrays, parts, blocks[0].transform, key=key, pure=False)


def _load_computed(
    blocks: Sequence[Sequence[Any]], parts: Sequence[int], transform: Transformer
) -> list[Rows]:
    return [_stack(arrays, count, transform) for arrays, count in zip(blocks, parts, strict=True)]


def is_dask(x: Any) -> bool:
    """Whether `x` is a Dask array, or an xarray object backed by one."""
    return isinstance(getattr(x, "data", x), da.Array) or isinstance(x, da.Array)


def chunked(x: Any) -> da.Array:
    """A Dask array with all features in one chunk and known chunk sizes.

    Raises
    ------
    DataError
        The chunk sizes are not known.
    """
    if any(np.isnan(size) for sizes in x.chunks for size in sizes):
        raise DataError(
            "The chunk sizes of the Dask array are not known.", "Call x.compute_chunk_sizes() before fitting."
        )
    return x.rechunk({x.ndim - 1: -1})


def lazy_weights(weights: Any, x: da.Array) -> da.Array:
    """Row weights on the chunks of `x`.

    Raises
    ------
    DataError
        Their shape is not that of the rows.
    """
    weights = weights if isinstance(weights, da.Array) else da.from_array(np.asarray(weights))
    if weights.shape != x.shape[:-1]:
        raise DataError(
            f"The weights have shape {weights.shape}, the samples {x.shape[:-1]}.", "Give one a row."
        )
    return weights.rechunk(x.chunks[:-1])


def lazy_blocks(
    x: da.Array,
    weights: da.Array | None,
    boxes: Sequence[Sequence[tuple[slice, ...]]],
    transform: Transformer,
    itemsize: int,
) -> list[LazyBlock]:
    """Blocks of a Dask array.

    Parameters
    ----------
    x : dask.array.Array, shape (..., d)
        Features in one chunk.
    weights : dask.array.Array or None
        On the dimensions of `x` but the last.
    boxes : sequence of sequence of tuple of slice
        The rectangles of each block.
    transform : Transformer
        Applied on loading.
    itemsize : int
        Bytes of a value once decoded.
    """
    blocks = []
    for index, block in enumerate(boxes):
        n = sum(math.prod(s.stop - s.start for s in box) for box in block)
        parts = tuple(x[box] for box in block)
        weighed = None if weights is None else tuple(weights[box] for box in block)
        blocks.append(LazyBlock(index, n, n * x.shape[-1] * itemsize, parts, weighed, transform))
    return blocks


def map_rows(
    x: da.Array, function: Callable[..., NDArray[Any]], trailing: tuple[int, ...], dtype: DTypeLike
) -> da.Array:
    """Apply a function of rows to each chunk, lazily.

    Parameters
    ----------
    x : dask.array.Array, shape (..., d)
        Features in one chunk.
    function : callable
        Of a chunk (..., d) and, as `start`, the index of its first element along each dimension.
    trailing : tuple of int
        Shape the function puts in the features' place.
    """

    def apply(chunk: NDArray[Any], block_info: Any = None) -> NDArray[Any]:
        start = [low for low, _ in block_info[0]["array-location"]] if block_info else [0] * chunk.ndim
        return function(chunk, start=start[:-1])

    sample_axes = tuple(range(x.ndim - 1))
    return da.map_blocks(
        apply,
        x,
        dtype=dtype,
        chunks=(*x.chunks[:-1], *((size,) for size in trailing)),
        drop_axis=x.ndim - 1,
        new_axis=[len(sample_axes) + i for i in range(len(trailing))] or None,
        meta=np.empty((0,) * (x.ndim - 1 + len(trailing)), dtype=dtype),
    )


def from_zarr(x: Any) -> da.Array:
    """A Zarr array as a Dask array on its own chunks."""
    return da.from_zarr(x)
