"""What a run would cost, in numbers, before any work starts; and what cannot fit, refused."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Protocol

from distem.errors import ConfigError
from distem.execution.base import Capacity, partition
from distem.types import Block

STARTUP_BYTES = 310 * 1024**2
"""A worker that has imported everything: 290 MiB measured, compiling included, and what the allocator
holds back."""
HEAP_BLOCK = 32 * 1024**2
"""The largest block that glibc takes from its heap; larger ones come from the system and go back to it."""
HELD_BACK = 16 * 1024**2
"""Free memory of a heap that is part of what a worker takes to start."""
RESIDENT_SHARE = 0.7
"""Share of a worker's limit up to which a plan keeps rows in memory unasked: beyond it Dask spills them."""
USABLE_SHARE = 0.8
"""Share of a worker's limit that a plan may fill: beyond it Dask, left as it is, pauses the worker."""
SMOOTHING_BYTES = 24 * 1024**2
"""What the strips take that are smoothed at a time."""
MERGED_AT_ONCE = 16
"""Sums a worker may hold to add them up."""


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
    def stored_bytes(self) -> int:
        """Bytes of a row before features are made of it."""

    @property
    def reading_nbytes(self) -> int:
        """Bytes that reading a block takes besides its rows."""

    @property
    def chunk_nbytes(self) -> int:
        """Bytes of the largest chunk."""


@dataclass(frozen=True, slots=True)
class Work:
    """What is done with the rows, as far as it takes memory.

    Attributes
    ----------
    components : sequence of int
        Components of every candidate, restarts included.
    sums : sequence of int
        Numbers in the statistics of every candidate.
    variables : sequence of str
        What is written for each row.
    sample_rows : int
        Rows drawn for the start.
    drops : bool
        Whether rows may be left out: what is kept is then a copy.
    weighted : bool
        Whether rows have weights.
    probability_bytes : int
        Bytes of a probability as it is written.
    beside_row : int
        Bytes that passes leave beside each row that stays in memory, all candidates together.
    working_bytes : int
        Bytes that a thread works with beside a block and its sums.
    working_row_bytes : int
        The same for each row of the block.
    folds : int
        Folds of cross-validation: each candidate is fitted once more without the rows of each.
    sample_first : tuple of int
        Rows of the samples that are climbed on before all rows are.
    halo_rows : int
        Rows of the largest block with its halo, where answers are smoothed; else 0.
    """

    components: Sequence[int]
    sums: Sequence[int]
    variables: Sequence[str]
    sample_rows: int
    drops: bool
    weighted: bool
    probability_bytes: int = 8
    beside_row: int = 0
    working_bytes: int = 0
    working_row_bytes: int = 0
    folds: int = 0
    sample_first: tuple[int, ...] = ()
    halo_rows: int = 0


@dataclass(frozen=True, slots=True)
class Plan:
    """The promise of a run.

    Attributes
    ----------
    rows, features, blocks, partitions, candidates, folds : int
        Sizes of the job; each candidate is fitted once to all rows and once without each fold.
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
    sample_first : tuple of int
        Rows of the samples that are climbed on before all rows are.
    """

    rows: int
    features: int
    blocks: int
    partitions: int
    candidates: int
    folds: int
    workers: int
    threads: int
    resident: bool
    memory_per_worker_bytes: int
    memory_limit_bytes: int | None
    bytes_read_per_pass: int
    bytes_per_task: int
    output_bytes: int
    sample_first: tuple[int, ...] = ()

    @property
    def fits(self) -> int:
        """Fits that share each pass."""
        return self.candidates * (1 + self.folds)

    def as_dict(self) -> dict[str, Any]:
        """The plan as plain values."""
        return asdict(self) | {"sample_first": list(self.sample_first)}

    def lines(self) -> list[str]:
        """The plan in words."""
        samples = ", ".join(f"{rows:,}" for rows in self.sample_first)
        first = f"{samples} random rows before all of them" if samples else "all rows from the first pass on"
        limit = "no limit" if self.memory_limit_bytes is None else f"limit {_size(self.memory_limit_bytes)}"
        how = (
            f"resident: the decoded rows stay in memory, {_size(self.rows * self.features * 8)} in all"
            if self.resident
            else f"streamed: each pass reads {_size(self.bytes_read_per_pass)}"
        )
        folds = f" and {self.folds} folds of each: {self.fits} fits" if self.folds else ""
        return [
            f"rows         {self.rows:,} with {self.features} features",
            f"blocks       {self.blocks:,} in {self.partitions} partitions",
            f"task         up to {_size(self.bytes_per_task)}",
            f"cluster      {self.workers} workers, {self.threads} threads",
            f"candidates   {self.candidates}{folds}, all fitted in one read of the data",
            f"climbs on    {first}",
            f"data         {how}",
            f"memory       up to {_size(self.memory_per_worker_bytes)} a worker ({limit})",
            f"output       {_size(self.output_bytes)} before compression",
        ]


def make_plan(
    source: Described,
    blocks: Sequence[Block],
    capacity: Capacity,
    work: Work,
    *,
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
    work : Work
        What is done with them.
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
    limit = capacity.memory_per_worker or machine_bytes // max(1, capacity.workers)
    if resident is None:
        resident = _memory(source, blocks, spans, capacity, work, resident=True) <= RESIDENT_SHARE * limit
    row_bytes = sum(
        work.probability_bytes * max(work.components) if v == "probability" else 4 if v == "label" else 8
        for v in work.variables
    )
    plan = Plan(
        rows=source.n,
        features=source.d,
        blocks=len(blocks),
        partitions=len(spans),
        candidates=len(work.components),
        folds=work.folds,
        workers=capacity.workers,
        threads=capacity.threads,
        resident=resident,
        memory_per_worker_bytes=_memory(source, blocks, spans, capacity, work, resident=resident),
        memory_limit_bytes=capacity.memory_per_worker,
        bytes_read_per_pass=0 if resident else source.n * source.stored_bytes,
        bytes_per_task=max(sum(blocks[i].nbytes for i in range(*span)) for span in spans),
        output_bytes=source.n * row_bytes,
        sample_first=work.sample_first,
    )
    _refuse(plan, source)
    return plan


def _memory(
    source: Described,
    blocks: Sequence[Block],
    spans: Sequence[tuple[int, int]],
    capacity: Capacity,
    work: Work,
    *,
    resident: bool,
) -> int:
    """Peak bytes of a worker process: each part was measured, and their sum is what could come together."""
    decoded = max(b.nbytes for b in blocks)
    rows = max(b.n for b in blocks)
    stored = rows * source.raw_bytes
    longest = max(stop - start for start, stop in spans)
    # a block as it is read: chunks as they are decoded beside what they are put together in, then that
    # beside the rows made of it; and the block before it, which the pass is working on
    reading = stored + max(stored, decoded * (2 if work.drops or work.weighted else 1))
    reading += source.reading_nbytes
    working = (
        work.working_bytes + work.working_row_bytes * rows + (decoded if longest > 1 and not resident else 0)
    )
    if work.folds:  # a block in the order of its folds, with its addresses, folds and that order
        working += decoded + 32 * rows
    # what each row is given, once more among the missing rows, and the widest of it encoded and compressed
    widths = [max(work.components) if v == "probability" else 1 for v in work.variables]
    given = 3 + sum(w for w in widths if w > 1)
    writing = 8 * rows * (given * (2 if work.drops else 1) + 2 * max(widths, default=0)) if widths else 0
    if work.halo_rows:  # the same with what lies about the block, and what smoothing makes of it
        larger = work.halo_rows / rows
        around = 9 * source.chunk_nbytes * source.stored_bytes // source.raw_bytes + SMOOTHING_BYTES
        more = int((larger - 1.0) * (reading + working))
        writing = int(larger * (writing + 8 * rows * 3 * max(work.components))) + more + around
    # sums wait on every level of the tree; samples grow as they are added, but for weighted ones
    waiting = longest.bit_length() + 3 + (MERGED_AT_ONCE if len(spans) > MERGED_AT_ONCE else 0)
    statistics = 8 * (1 + work.folds) * sum(work.sums)
    drawn = max(work.sample_rows, *work.sample_first, 0)
    # a sample grows as it is added, and each fold has its part of it
    copies = (waiting if work.weighted else 3) + work.folds
    sample = 8 * min(drawn, source.n) * (source.d + 2) * copies
    threads = max(1, -(-capacity.threads // max(1, capacity.workers)))
    need = STARTUP_BYTES + threads * (reading + working + max(writing, waiting * statistics, sample))
    need += capacity.heaps * _held_back(decoded)
    if resident:
        # a worker that is quicker while the rows are loaded comes to hold one partition more than its share
        share = -(-len(spans) // max(1, capacity.workers)) + 1
        kept = [block.nbytes + work.beside_row * block.n for block in blocks]
        heaviest = sorted((sum(kept[slice(*span)]) for span in spans), reverse=True)
        need += sum(heaviest[:share])
    return need


def _held_back(block: int) -> int:
    """Free memory that a heap keeps: glibc trims it beyond twice the largest block that was freed."""
    return max(0, 2 * block - HELD_BACK) if block <= HEAP_BLOCK else 0


def _refuse(plan: Plan, source: Described) -> None:
    limit = plan.memory_limit_bytes
    if limit is None or plan.memory_per_worker_bytes <= USABLE_SHARE * limit:
        return
    needed = plan.memory_per_worker_bytes / USABLE_SHARE
    remedy = f"Give each worker {_size(needed)} or more"
    if plan.resident:
        remedy += ", or set cluster.resident: false"
    else:
        remedy += f", or store the data in chunks smaller than {_size(source.chunk_nbytes)}"
        if plan.threads > plan.workers:
            remedy += ", or give each fewer threads"
    raise ConfigError(
        f"A worker would need {_size(plan.memory_per_worker_bytes)} and may use {USABLE_SHARE:.0%} "
        f"of its {_size(limit)}: {_size(STARTUP_BYTES)} to start, the rest for rows that are read, worked on "
        f"and written{' or kept' if plan.resident else ''}.",
        remedy + ".",
    )


def _size(count: float) -> str:
    unit = "B"
    for larger in ("KiB", "MiB", "GiB", "TiB"):
        if count < 1024:
            break
        count, unit = count / 1024, larger
    return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
