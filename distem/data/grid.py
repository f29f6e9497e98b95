"""Where the rows lie: the storage's chunk grid over the sample dimensions, and the blocks cut from it.

A *chunk* is one cell of that grid: what is read and written whole. A *block* is a run of consecutive
chunks, long enough to be worth a task's while: the leaf of the engine's reduction tree. A block's rows
are those of its *boxes*, the few rectangles that a run of chunks falls into, each in C order.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from itertools import groupby
from math import prod
from typing import Any

import numpy as np

from distem.errors import DataError
from distem.types import Ints

BLOCK_BYTES = 2 * 1024**2
"""A block holds at least this many bytes of decoded float64 rows, where the data has as many."""

Box = tuple[slice, ...]
"""A rectangle of the sample dimensions."""


@dataclass(frozen=True)
class Grid:
    """A grid of chunks over named dimensions; sizes may be irregular or zero.

    Small and picklable however many chunks there are: sizes are kept as runs of equal ones.

    Attributes
    ----------
    dims : tuple of str
        The sample dimensions, in the order that gives rows their C order.
    runs : tuple of tuple of (int, int)
        For each dimension, (size, how many chunks in a row have it).
    """

    dims: tuple[str, ...]
    runs: tuple[tuple[tuple[int, int], ...], ...]

    @classmethod
    def of(cls, dims: Sequence[str], chunks: Sequence[Sequence[int]]) -> Grid:
        """Make a grid from chunk sizes as Dask writes them.

        Parameters
        ----------
        dims : sequence of str
            Dimension names.
        chunks : sequence of sequence of int
            Chunk sizes along each dimension.

        Raises
        ------
        DataError
            If the numbers of dimensions differ or a size is negative.
        """
        if len(dims) != len(chunks) or not dims:
            raise DataError(f"A grid over {tuple(dims)} cannot have chunks along {len(chunks)} dimensions.")
        if any(int(size) < 0 for sizes in chunks for size in sizes):
            raise DataError("A chunk size is negative.")
        runs = tuple(
            tuple((size, sum(1 for _ in same)) for size, same in groupby(int(s) for s in sizes)) or ((0, 1),)
            for sizes in chunks
        )
        return cls(tuple(str(dim) for dim in dims), runs)

    @classmethod
    def regular(cls, dims: Sequence[str], shape: Sequence[int], sizes: Sequence[int]) -> Grid:
        """Make a grid whose chunks all have one shape, but for what is cut off at the end.

        Parameters
        ----------
        dims : sequence of str
            Dimension names.
        shape : sequence of int
            Length of each dimension.
        sizes : sequence of int
            Chunk size along each; at least 1.
        """
        runs = []
        for length, size in zip(shape, sizes, strict=True):
            whole, rest = divmod(int(length), max(1, int(size)))
            run = [(int(size), whole)] if whole else []
            if rest or not whole:
                run.append((rest, 1))
            runs.append(tuple(run))
        return cls(tuple(str(dim) for dim in dims), tuple(runs))

    def __reduce__(self) -> tuple[Any, ...]:
        # the cached arrays below stay behind
        return Grid, (self.dims, self.runs)

    @cached_property
    def shape(self) -> tuple[int, ...]:
        """Length of each dimension."""
        return tuple(sum(size * count for size, count in run) for run in self.runs)

    @cached_property
    def n(self) -> int:
        """Number of stored rows."""
        return prod(self.shape)

    @cached_property
    def counts(self) -> tuple[int, ...]:
        """Number of chunks along each dimension."""
        return tuple(sum(count for _, count in run) for run in self.runs)

    @property
    def n_chunks(self) -> int:
        """Number of chunks."""
        return prod(self.counts)

    @cached_property
    def _sizes(self) -> tuple[Ints, ...]:
        return tuple(
            np.repeat(np.array([s for s, _ in run], np.int64), [c for _, c in run]) for run in self.runs
        )

    @cached_property
    def _edges(self) -> tuple[Ints, ...]:
        return tuple(np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64) for sizes in self._sizes)

    @property
    def chunks(self) -> tuple[tuple[int, ...], ...]:
        """Chunk sizes along each dimension, as Dask writes them."""
        return tuple(tuple(int(s) for s in sizes) for sizes in self._sizes)

    @property
    def is_regular(self) -> bool:
        """Whether every chunk but the last along each dimension has one size, and the last no more."""
        for run in self.runs:
            filled = run[:-1] if run[-1][0] == 0 else run  # empty chunks at the end change nothing
            if len(filled) > 2 or any(size == 0 for size, _ in filled):
                return False
            if len(filled) == 2 and (filled[1][0] > filled[0][0] or filled[1][1] > 1):
                return False
        return True

    @property
    def regular_sizes(self) -> tuple[int, ...]:
        """The chunk size along each dimension of a regular grid (at least 1)."""
        return tuple(max(1, max(size for size, _ in run)) for run in self.runs)

    def position(self, chunk: int) -> tuple[int, ...]:
        """Return a chunk's place along each dimension; chunks are numbered in C order."""
        return tuple(int(i) for i in np.unravel_index(chunk, self.counts))

    def region(self, chunk: int) -> Box:
        """Return the slices of a chunk."""
        return tuple(
            slice(int(edges[i]), int(edges[i + 1]))
            for edges, i in zip(self._edges, self.position(chunk), strict=True)
        )

    def chunk_shape(self, chunk: int) -> tuple[int, ...]:
        """Return a chunk's length along each dimension."""
        return box_shape(self.region(chunk))

    def chunk_rows(self, chunk: int) -> int:
        """Return the number of rows in a chunk."""
        return prod(self.chunk_shape(chunk))

    @cached_property
    def _first_rows(self) -> Ints:
        """Rows before each chunk, and the total at the end, counting chunk by chunk."""
        rows = np.ones(1, np.int64)
        for sizes in self._sizes:
            rows = np.multiply.outer(rows, sizes).ravel()
        return np.concatenate([[0], np.cumsum(rows)]).astype(np.int64)

    def rows(self, chunks: range) -> int:
        """Return the number of rows in a run of chunks."""
        first = self._first_rows
        return int(first[chunks.stop] - first[chunks.start])

    @property
    def largest_chunk(self) -> int:
        """Rows of the largest chunk."""
        return prod(max(size for size, _ in run) for run in self.runs)

    def blocks(self, d: int) -> list[range]:
        """Cut the chunks into blocks: runs that hold at least `BLOCK_BYTES`.

        A function of the chunk sizes and d alone, so that every executor sums the same tree.

        Parameters
        ----------
        d : int
            Number of features.

        Returns
        -------
        list of range
            Runs of chunk numbers; together all chunks, in order.
        """
        return list(_blocks(self, d))

    def boxes(self, chunks: range) -> list[Box]:
        """Return the rectangles a run of consecutive chunks falls into, in order.

        Empty ones are left out. There are at most ``2 * ndim - 1``.
        """
        boxes = []
        for corner in _runs(chunks.start, chunks.stop, self.counts):
            box = tuple(
                slice(int(edges[low]), int(edges[high]))
                for edges, (low, high) in zip(self._edges, corner, strict=True)
            )
            if box_rows(box):
                boxes.append(box)
        return boxes

    def coordinates(self, chunks: range, row: int) -> tuple[int, ...]:
        """Return where a block's row lies along each dimension.

        Parameters
        ----------
        chunks : range
            The block's chunks.
        row : int
            Position among the block's stored rows.
        """
        for box in self.boxes(chunks):
            if row < box_rows(box):
                within = np.unravel_index(row, box_shape(box))
                return tuple(s.start + int(i) for s, i in zip(box, within, strict=True))
            row -= box_rows(box)
        raise IndexError(row)

    def row_number(self, coordinates: Sequence[int]) -> int:
        """Return the C-order number of the row at these coordinates."""
        return int(np.ravel_multi_index(tuple(coordinates), self.shape))

    def describe(self) -> dict[str, Any]:
        """Return the grid as JSON-able values: dimensions, shape and runs of chunk sizes."""
        return {
            "dims": list(self.dims),
            "shape": list(self.shape),
            "chunks": [[list(pair) for pair in run] for run in self.runs],
        }


def box_shape(box: Box) -> tuple[int, ...]:
    """Return the lengths of a box."""
    return tuple(s.stop - s.start for s in box)


def box_rows(box: Box) -> int:
    """Return the number of rows in a box."""
    return prod(box_shape(box))


def rows_per_chunk(d: int, target: int = BLOCK_BYTES) -> int:
    """Return how many rows of d float64 features make `target` bytes, rounded up."""
    return max(1, -(-target // (8 * max(1, d))))


def leading_sizes(shape: Sequence[int], rows: int) -> tuple[int, ...]:
    """Return chunk sizes that cut an array only along its leading dimensions.

    Each chunk is then one contiguous run of C order, of `rows` rows or somewhat more.
    """
    sizes = [1] * len(shape)
    room = max(1, rows)
    for axis in reversed(range(len(shape))):
        length = max(1, int(shape[axis]))
        sizes[axis] = min(length, room)
        room = -(-room // length)
        if room == 1:
            break
    return tuple(sizes)


@lru_cache(maxsize=32)
def _blocks(grid: Grid, d: int) -> tuple[range, ...]:
    first = grid._first_rows
    want = rows_per_chunk(d)
    last = grid.n_chunks
    blocks = []
    start = 0
    while start < last:
        stop = min(int(np.searchsorted(first, first[start] + want)), last)
        if first[stop] == first[last]:
            stop = last  # empty chunks at the end are not worth a block
        blocks.append(range(start, stop))
        start = stop
    return tuple(blocks)


def _runs(start: int, stop: int, counts: Sequence[int]) -> Iterator[list[tuple[int, int]]]:
    """Split the C-order run [start, stop) of a grid into rectangles, in order."""
    if start >= stop:
        return
    if len(counts) == 1:
        yield [(start, stop)]
        return
    inner = prod(counts[1:])
    first, last = start // inner, (stop - 1) // inner
    if start - first * inner:
        head = min(stop, (first + 1) * inner)
        for rest in _runs(start - first * inner, head - first * inner, counts[1:]):
            yield [(first, first + 1), *rest]
        start, first = head, first + 1
    whole = stop // inner
    if whole > first:
        yield [(first, whole), *((0, count) for count in counts[1:])]
        start, first = whole * inner, whole
    if start < stop and first <= last:
        for rest in _runs(start - first * inner, stop - first * inner, counts[1:]):
            yield [(first, first + 1), *rest]
