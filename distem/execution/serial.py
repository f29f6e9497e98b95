"""The executable specification: one thread, one block after the other."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Self

from distem.execution.base import Capacity, Span, load, narrowed, one_blas_thread, reduce_blocks, reduce_rows
from distem.types import Block, Pass, Rows, S


@dataclass(frozen=True)
class SerialBlocks:
    """All blocks as one partition."""

    blocks: Sequence[Block]
    rows: Sequence[Rows] | None

    @property
    def partitions(self) -> list[Span]:
        """One: the whole tree."""
        return [(0, len(self.blocks))]

    def map_reduce(self, run: Pass[S]) -> S:
        """Run a pass on every block and add the results along the fixed tree."""
        (span,) = self.partitions
        run = narrowed(run, span)
        if self.rows is not None:
            return reduce_rows(self.rows, span, run)
        return reduce_blocks(self.blocks, span, run)


class SerialExecutor:
    """Runs passes in the calling thread."""

    @property
    def capacity(self) -> Capacity:
        """One thread."""
        return Capacity(workers=1, threads=1, memory_per_worker=None)

    @property
    def may_read_again(self) -> bool:
        """Never: rows are lost with this process."""
        return False

    @contextmanager
    def open(
        self,
        blocks: Sequence[Block],
        *,
        resident: bool,
        partitions: int | None = None,  # noqa: ARG002 -- the protocol's; one serves as well as any
    ) -> Iterator[SerialBlocks]:
        """Make the blocks ready; `resident` ones are read once and kept."""
        with one_blas_thread():
            yield SerialBlocks(blocks, load(blocks) if resident else None)

    def begin(self) -> None:
        """Nothing has to come first."""

    def guard(self, patience: float | None) -> None:
        """Nothing: the one thread that there is cannot watch itself."""

    def prepare(self, work: Callable[[], float]) -> float:  # noqa: ARG002
        """Nothing: this process is the caller's."""
        return 0.0

    def close(self) -> None:
        """Nothing is held."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()
