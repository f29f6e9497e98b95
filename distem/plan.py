"""What a run would cost, in numbers, before any work starts; and what cannot fit, refused."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Protocol

from distem.errors import ConfigError
from distem.execution.base import Capacity, partition
from distem.types import Block

STARTUP_BYTES = 330 * 1024**2
"""A worker that has imported everything and compiled nothing yet, with the allocator's slack."""
RESIDENT_SHARE = 0.6
"""Share of the cluster's memory that decoded rows may take."""
USABLE_SHARE = 0.8
"""Share of a worker's limit that a plan may fill: Dask pauses a worker beyond it."""
MIB = 1024**2


class Described(Protocol):
    """What a plan needs to know of a source."""

    @property
    def n(self) -> int:
        """Stored rows."""

    @property
    def d(self) -> int:
        """Features."""

    @property
    def raw_bytes(self) -> int:
        """Bytes of a row as stored and decoded."""

    @property
    def chunk_nbytes(self) -> int:
        """Bytes of the largest chunk."""


@dataclass(frozen=True, slots=True)
class Plan:
    """The promise of a run.

    Attributes
    ----------
    rows, features, blocks, partitions, candidates : int
        Sizes of the job.
    workers, threads : int
        Processes, and threads over all of them.
    resident : bool
        Whether decoded rows stay in memory between passes.
    memory_per_worker_bytes : int
        Peak of a whole worker process, its start-up included.
    memory_limit_bytes : int or None
        What a worker may use.
    bytes_read_per_pass : int
        Decoded bytes read from storage in each pass; 0 when resident, after the first.
    bytes_per_task : int
        Decoded bytes of the largest partition.
    output_bytes : int
        Of the assignment, uncompressed.
    """

    rows: int
    features: int
    blocks: int
    partitions: int
    candidates: int
    workers: int
    threads: int
    resident: bool
    memory_per_worker_bytes: int
    memory_limit_bytes: int | None
    bytes_read_per_pass: int
    bytes_per_task: int
    output_bytes: int

    def as_dict(self) -> dict[str, Any]:
        """The plan as plain values."""
        return asdict(self)

    def lines(self) -> list[str]:
        """The plan in words."""
        limit = "no limit" if self.memory_limit_bytes is None else f"limit {_size(self.memory_limit_bytes)}"
        how = (
            f"resident: the decoded rows stay in memory, {_size(self.rows * self.features * 8)} in all"
            if self.resident
            else f"streamed: each pass reads {_size(self.bytes_read_per_pass)}"
        )
        return [
            f"rows         {self.rows:,} with {self.features} features",
            f"blocks       {self.blocks:,} in {self.partitions} partitions",
            f"task         up to {_size(self.bytes_per_task)}",
            f"cluster      {self.workers} workers, {self.threads} threads",
            f"candidates   {self.candidates}, all fitted in one read of the data",
            f"data         {how}",
            f"memory       up to {_size(self.memory_per_worker_bytes)} a worker ({limit})",
            f"output       {_size(self.output_bytes)} before compression",
        ]


def make_plan(
    source: Described,
    blocks: Sequence[Block],
    capacity: Capacity,
    *,
    components: Sequence[int],
    full: bool,
    variables: Sequence[str],
    partitions: int | None,
    partitions_per_thread: int = 4,
    resident: bool | None,
    machine_bytes: int,
) -> Plan:
    """Work out what a run needs.

    Parameters
    ----------
    source : Source
        The data.
    blocks : sequence of Block
        Its blocks.
    capacity : Capacity
        The cluster.
    components : sequence of int
        Components of every candidate, restarts included.
    full : bool
        Whether a candidate holds a matrix per component.
    variables : sequence of str
        What is written for each row.
    partitions : int or None
        Partitions asked for.
    resident : bool or None
        Resident or streamed, if the config says so.
    machine_bytes : int
        Memory that workers without a limit share.

    Raises
    ------
    ConfigError
        A worker would need more than its limit.
    """
    spans = partition([b.n for b in blocks], partitions or partitions_per_thread * max(1, capacity.threads))
    threads = max(1, -(-capacity.threads // max(1, capacity.workers)))
    decoded = sum(b.nbytes for b in blocks)
    room = (capacity.memory_per_worker or machine_bytes // max(1, capacity.workers)) * capacity.workers
    wanted = decoded <= RESIDENT_SHARE * room if resident is None else resident

    def memory(kept: bool) -> int:
        return _memory(source, blocks, spans, capacity, threads, components, full, variables, kept)

    if resident is None and wanted and memory(True) > USABLE_SHARE * room / capacity.workers:
        wanted = False
    row_bytes = sum(
        8 * max(components) if v == "probability" else 4 if v == "label" else 8 for v in variables
    )
    plan = Plan(
        rows=source.n,
        features=source.d,
        blocks=len(blocks),
        partitions=len(spans),
        candidates=len(components),
        workers=capacity.workers,
        threads=capacity.threads,
        resident=wanted,
        memory_per_worker_bytes=memory(wanted),
        memory_limit_bytes=capacity.memory_per_worker,
        bytes_read_per_pass=0 if wanted else source.n * source.raw_bytes,
        bytes_per_task=max(sum(blocks[i].nbytes for i in range(*span)) for span in spans),
        output_bytes=source.n * row_bytes,
    )
    _refuse(plan, source)
    return plan


def _memory(
    source: Described,
    blocks: Sequence[Block],
    spans: Sequence[tuple[int, int]],
    capacity: Capacity,
    threads: int,
    components: Sequence[int],
    full: bool,
    variables: Sequence[str],
    resident: bool,
) -> int:
    """Peak bytes of a worker process."""
    largest = max(b.nbytes for b in blocks)
    rows = max(b.n for b in blocks)
    raw = rows * source.raw_bytes
    # a thread holds one block, decodes the next from its stored bytes, and stacks its variables
    in_flight = 2 * largest + 2 * raw + source.chunk_nbytes
    # what is written for a block stands in memory twice: as computed, and in the shape of its chunk
    written = sum(max(components) if v == "probability" else 1 for v in variables)
    writing = 2 * 8 * rows * written
    statistics = sum(8 * k * (source.d * (source.d if full else 1) + source.d + 1) for k in components)
    depth = max(1, max(stop - start for start, stop in spans).bit_length())
    need = STARTUP_BYTES + threads * (in_flight + writing + (depth + 3) * statistics)
    if resident:
        share = -(-len(spans) // max(1, capacity.workers))
        heaviest = sorted((sum(blocks[i].nbytes for i in range(*span)) for span in spans), reverse=True)
        need += sum(heaviest[:share])
    return need


def _refuse(plan: Plan, source: Described) -> None:
    limit = plan.memory_limit_bytes
    if limit is None or plan.memory_per_worker_bytes <= USABLE_SHARE * limit:
        return
    needed = plan.memory_per_worker_bytes / USABLE_SHARE
    remedy = f"Give each worker {_size(needed)} or more"
    if plan.resident:
        remedy += ", or set cluster.resident: false"
    else:
        remedy += (
            f", fewer threads each, or store the data in chunks smaller than {_size(source.chunk_nbytes)}"
        )
    raise ConfigError(
        f"A worker would need {_size(plan.memory_per_worker_bytes)} and may use {USABLE_SHARE:.0%} "
        f"of its {_size(limit)}: start-up takes {_size(STARTUP_BYTES)}, "
        f"the largest task {_size(plan.bytes_per_task)}.",
        remedy + ".",
    )


def _size(count: float) -> str:
    unit = "B"
    for larger in ("KiB", "MiB", "GiB", "TiB"):
        if count < 1024:
            break
        count, unit = count / 1024, larger
    return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
