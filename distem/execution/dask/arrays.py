"""Dask arrays as data: lazy blocks of rows, and lazy answers on their chunks.

Imports of dask.array are late: a run on stored data never needs it, and each of its workers would import it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Protocol

import dask
import numpy as np
from distributed import Client, Future
from numpy.typing import DTypeLike, NDArray

from distem.errors import DataError
from distem.types import Bools, Places, Rows

if TYPE_CHECKING:
    import dask.array as da


class Transformer(Protocol):
    """Makes the rows a model sees from what is stored."""

    def rows(self, values: NDArray[Any], weights: NDArray[Any] | None) -> Rows:
        """Scale, mask and cast."""


class Beginner(Protocol):
    """Knows which rows begin a sequence."""

    def of(self, places: Places) -> Bools:
        """For each row of a block."""

    def within(self, start: int, stop: int) -> Any:
        """The same for some rows alone."""


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
    places : Places
        The rectangles themselves.
    beginnings : Beginner or None
        Which rows begin a sequence.
    """

    index: int
    n: int
    nbytes: int
    parts: tuple[Any, ...]
    weights: tuple[Any, ...] | None
    transform: Transformer
    places: Places
    beginnings: Beginner | None = None

    def load(self) -> Rows:
        """Compute the rows."""
        wanted = [*self.parts, *(self.weights or ())]
        arrays = dask.compute(*wanted, scheduler="synchronous")
        return _stack(arrays, self.places, self.transform, self.beginnings)


def _stack(
    arrays: Sequence[Any], places: Places, transform: Transformer, beginnings: Beginner | None
) -> Rows:
    """Rows of rectangles: first the values of each, then their weights if there are any."""
    parts = len(places.boxes)
    values = [np.asarray(a).reshape(-1, a.shape[-1]) for a in arrays[:parts]]
    weights = [np.asarray(a, dtype=np.float64).ravel() for a in arrays[parts:]]
    rows = transform.rows(_joined(values), _joined(weights) if weights else None)
    return replace(rows, places=places, begins=None if beginnings is None else beginnings.of(places))


def _joined(parts: Sequence[NDArray[Any]]) -> NDArray[Any]:
    return parts[0] if len(parts) == 1 else np.concatenate(parts)


def computed(client: Client, blocks: Sequence[LazyBlock], key: str) -> Future:
    """Rows of blocks whose graphs the cluster computes: what it already holds stays where it is."""
    arrays = [client.compute([*block.parts, *(block.weights or ())]) for block in blocks]
    places = [(block.places, block.beginnings) for block in blocks]
    return client.submit(_load_computed, arrays, places, blocks[0].transform, key=key, pure=False)


def _load_computed(
    blocks: Sequence[Sequence[Any]],
    places: Sequence[tuple[Places, Beginner | None]],
    transform: Transformer,
) -> list[Rows]:
    return [
        _stack(arrays, where, transform, beginnings).remembering()
        for arrays, (where, beginnings) in zip(blocks, places, strict=True)
    ]


def is_dask(x: Any) -> bool:
    """Whether `x` is a Dask array, or an xarray object backed by one."""
    import dask.array as da

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
    import dask.array as da

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
    beginnings: Beginner | None = None,
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
    beginnings : Beginner, optional
        Which rows begin a sequence.
    """
    blocks, first = [], 0
    for index, block in enumerate(boxes):
        n = sum(math.prod(s.stop - s.start for s in box) for box in block)
        parts = tuple(x[box] for box in block)
        weighed = None if weights is None else tuple(weights[box] for box in block)
        places = Places(tuple(block), x.shape[:-1])
        begins = None if beginnings is None else beginnings.within(first, first + n)
        size = n * x.shape[-1] * itemsize
        blocks.append(LazyBlock(index, n, size, parts, weighed, transform, places, begins))
        first += n
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
    import dask.array as da

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
    import dask.array as da

    return da.from_zarr(x)
