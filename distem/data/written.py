"""What of an interrupted assignment is whole: those blocks need no second writing, nor reading."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any, ClassVar

import numpy as np

from distem.data.assignment import AssignmentWriter, held_arrays
from distem.data.files import is_url
from distem.data.grid import Box
from distem.data.object_store import is_objects
from distem.data.results import GROUP, holds
from distem.types import Block, Rows


@dataclass(frozen=True)
class Whole:
    """Numbers of blocks whose chunks are all there and decode. Adds."""

    blocks: tuple[int, ...]

    def __add__(self, other: Whole) -> Whole:
        return Whole(self.blocks + other.blocks)


@dataclass(frozen=True, eq=False)
class LookAtWritten:
    """The pass that looks at what was written of each block; it needs no rows."""

    writer: AssignmentWriter
    name: ClassVar[str] = "look-at-written"

    def __call__(self, rows: Rows, block: int) -> Whole:  # noqa: ARG002
        """Whether one block is whole."""
        return Whole((block,) if is_whole(self.writer, block) else ())


def is_whole(writer: AssignmentWriter, block: int) -> bool:
    """Whether all that is written of a block is there, and as it was written."""
    if is_url(writer.path) and not is_objects(writer.path):
        return False
    arrays = held_arrays(writer)
    for name in (*writer.variables, *writer.coordinates):
        array = arrays.get(name)
        if array is None:
            return False
        for box in writer.grid.boxes(writer.chunks(block)):
            region = _region(writer, array, box)
            # a missing chunk reads as its fill value, in silence
            if not all(holds(writer.path, file) for file in _files(name, array, region)):
                return False
            try:
                array[region]
            except Exception:  # noqa: BLE001 -- whatever damage raises, the block is written again
                return False
    return True


def _region(writer: AssignmentWriter, array: Any, box: Box) -> tuple[slice, ...]:
    by_dim = dict(zip(writer.grid.dims, box, strict=True))
    dims = array.metadata.dimension_names
    return tuple(by_dim.get(str(dim), slice(0, n)) for dim, n in zip(dims, array.shape, strict=True))


def _files(name: str, array: Any, region: tuple[slice, ...]) -> list[str]:
    ranges = [
        range(part.start // size, -(-part.stop // size))
        for part, size in zip(region, array.chunks, strict=True)
    ]
    return [f"{GROUP}/{name}/{array.metadata.encode_chunk_key(at)}" for at in product(*ranges)]


@dataclass(frozen=True)
class Unread:
    """A block in whose place nothing is read: it weighs nothing, and its rows are none."""

    index: int
    d: int
    n: int = 0
    nbytes: int = 0

    def load(self) -> Rows:
        """No rows."""
        return Rows(np.empty((0, self.d)))


def without(blocks: Sequence[Block], done: frozenset[int], d: int) -> list[Block]:
    """The blocks, with nothing read in the place of those that are done."""
    return [Unread(i, d) if i in done else block for i, block in enumerate(blocks)]
