"""A source: what a config or a caller names as data, cut into blocks that load themselves."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from distem.data.grid import Box, Grid, box_rows
from distem.data.lost import patiently
from distem.data.neighbours import expand_box, spatial_axes
from distem.data.transform import Transform
from distem.errors import DamagedChunkError, DataError, DistemError
from distem.types import Places, Rows

if TYPE_CHECKING:
    from distem.data.sequences import Beginnings

Raw = tuple[NDArray[Any], NDArray[Any] | None]
"""Values, shape (n, d), in their native dtype (NaN where missing), and weights, shape (n,), or None."""

# what is no sign of damage: the machine or the network failed, not the bytes
_PASSING = (MemoryError, ConnectionError, TimeoutError, ImportError, DistemError)


class Reader(Protocol):
    """Reads rectangles of one store: a small picklable description that opens the store where it reads."""

    def read(self, box: Box) -> Raw:
        """Read the rows of a box in C order of the sample dimensions."""

    def locate(self, box: Box) -> DamagedChunkError | None:
        """Read the stored chunks under a box one by one; name the first that fails."""

    def coordinates(self) -> Mapping[str, Any]:
        """Return what coordinates there are on the sample dimensions, as stored (CF-encoded)."""

    def read_coordinate(self, name: str, box: Mapping[str, slice]) -> NDArray[Any]:
        """Read a part of a coordinate, as stored, in its own order of dimensions."""


@dataclass(frozen=True, eq=False)
class Source:
    """Rows of d features somewhere in storage or memory.

    Attributes
    ----------
    reader : Reader
        Reads boxes of rows.
    kind : str
        "zarr", "netcdf", ... or "array".
    grid : Grid
        The chunks over the sample dimensions.
    features : tuple of str
        Feature names, in column order.
    dtype : numpy.dtype
        In which the values are read, before the transform.
    variables : tuple of str
        The variables or columns that hold the features, as the store names them.
    feature_dim : str or None
        The dimension that holds the features of a single variable.
    weights : str or None
        The variable that weighs the rows.
    feature_attrs : mapping of str to mapping
        Per feature its "units" and "long_name", where the store has them.
    attrs : mapping
        The store's global attributes.
    sliced : bool
        Whether blocks carry their own rows (data in memory) instead of the whole reader.
    emphasis : tuple of float
        How much each feature weighs beside the others in the model's units; empty: all the same.
    stored_dtype : numpy.dtype or None
        Of the values as they are stored, where masking made floats of them.
    sequence : tuple of str
        What tells sequences of rows apart, where that is asked for.
    beginnings : Beginnings or None
        Which rows begin a sequence; see `distem.data.sequences`.
    """

    reader: Reader
    kind: str
    grid: Grid
    features: tuple[str, ...]
    dtype: np.dtype[Any]
    variables: tuple[str, ...] = ()
    feature_dim: str | None = None
    weights: str | None = None
    feature_attrs: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    attrs: Mapping[str, Any] = field(default_factory=dict)
    sliced: bool = False
    emphasis: tuple[float, ...] = ()
    stored_dtype: np.dtype[Any] | None = None
    sequence: tuple[str, ...] = ()
    beginnings: Beginnings | None = None

    @property
    def d(self) -> int:
        """Number of features."""
        return len(self.features)

    @property
    def n(self) -> int:
        """Number of stored rows, missing ones included."""
        return self.grid.n

    @property
    def dims(self) -> tuple[str, ...]:
        """The sample dimensions."""
        return self.grid.dims

    @property
    def shape(self) -> tuple[int, ...]:
        """Length of each sample dimension."""
        return self.grid.shape

    @property
    def raw_bytes(self) -> int:
        """Bytes of a row as it is read, weights included."""
        return self.d * self.dtype.itemsize + (8 if self.weights is not None else 0)

    @property
    def stored_bytes(self) -> int:
        """Bytes of a row as it is stored and decoded."""
        return self.raw_bytes

    @property
    def reading_nbytes(self) -> int:
        """Bytes that reading a block takes besides its rows."""
        return 0

    @property
    def nbytes(self) -> int:
        """Bytes of all rows as they are read."""
        return self.n * self.raw_bytes

    @property
    def chunk_nbytes(self) -> int:
        """Bytes of the largest chunk as it is read."""
        return self.grid.largest_chunk * self.raw_bytes

    def boxes(self, chunks: range, halo: int = 0) -> list[Box]:
        """Return the rectangles of a run of chunks, each with up to `halo` pixels more about it."""
        return _boxes(self.grid, chunks, halo)

    def read(self, chunks: range, halo: int = 0) -> Raw:
        """Read a run of chunks.

        Parameters
        ----------
        chunks : range
            Consecutive chunk numbers.
        halo : int
            How many pixels more on each side.

        Returns
        -------
        values : ndarray of `dtype`, shape (N, d)
            Box by box of `boxes`, each in C order; NaN where missing.
        weights : ndarray, shape (N,), or None
            Row weights.

        Raises
        ------
        DamagedChunkError
            If the bytes of a stored chunk cannot be decoded; names the chunk.
        """
        parts = [self._read(box) for box in self.boxes(chunks, halo)]
        if len(parts) == 1:
            return parts[0]
        if not parts:
            empty = np.empty((0, self.d), self.dtype)
            return empty, None if self.weights is None else np.empty(0)
        weights = [w for _, w in parts if w is not None]
        return np.concatenate([v for v, _ in parts]), np.concatenate(weights) if weights else None

    def window(self, box: Box) -> Raw:
        """Read any rectangle, whatever chunks it cuts; see `read`."""
        return self._read(box)

    def _read(self, box: Box) -> Raw:
        try:
            return patiently(lambda: self.reader.read(box))
        except _PASSING:
            raise
        except Exception as error:
            damage = None if _is_remote(error) else self.reader.locate(box)
            if damage is not None:
                raise damage from error
            try:
                return self.reader.read(box)  # each chunk can be read alone: a passing fault
            except Exception as again:
                raise DataError(
                    f"Rows {_extent(self.grid.dims, box)} could not be read: {reason(again)}.",
                    "Check that the store is complete and can be read.",
                ) from again

    def blocks(self, transform: Transform | None = None, halo: int = 0) -> list[SourceBlock]:
        """Cut the source into blocks.

        Parameters
        ----------
        transform : Transform, optional
            Applied to the rows as they are loaded; by default none, and rows with missing values dropped.
        halo : int
            Pixels about each of a block's rectangles that are loaded with it, for what looks at neighbours.

        Returns
        -------
        list of SourceBlock
            In the data's own order. They depend on the chunks and d alone.
        """
        transform = transform or Transform()
        size = self.d * np.dtype(transform.dtype).itemsize + (8 if self.weights is not None else 0)
        blocks, first = [], 0
        bare = self if self.beginnings is None else replace(self, beginnings=None)
        for index, chunks in enumerate(self.grid.blocks(self.d)):
            n = sum(map(box_rows, self.boxes(chunks, halo))) if halo else self.grid.rows(chunks)
            owner = _Slice(self.grid, *self.read(chunks, halo)) if self.sliced else bare
            begins = None if self.beginnings is None else self.beginnings.within(first, first + n)
            at = chunks.start, chunks.stop
            blocks.append(SourceBlock(index, n, n * size, owner, transform, *at, halo, begins))
            first += n
        return blocks

    def locate(self, block: int, row: int) -> tuple[int, dict[str, int]]:
        """Return the C-order number of a block's row, and its index along each sample dimension."""
        at = self.grid.coordinates(self.grid.blocks(self.d)[block], row)
        return self.grid.row_number(at), dict(zip(self.dims, at, strict=True))

    def describe(self) -> dict[str, Any]:
        """Return what the data is, JSON-able, for the fingerprint: no path and no clock."""
        grid = self.grid.describe()
        # the runs of irregular chunks may be many: their digest tells them apart as well
        if sum(len(run) for run in self.grid.runs) > 64:
            grid["chunks"] = hashlib.sha256(repr(self.grid.runs).encode()).hexdigest()
        return {
            "kind": self.kind,
            "features": list(self.features),
            "variables": list(self.variables),
            "feature_dim": self.feature_dim,
            "weights": self.weights,
            "dtype": self.dtype.str,
            **grid,
            **({"sequence": list(self.sequence)} if self.beginnings is not None else {}),
        }

    def require(self, features: Sequence[str]) -> None:
        """Refuse data whose features are not those a model was fitted to.

        Raises
        ------
        DataError
            If their number or, where both are named by the data, their names differ.
        """
        if list(features) != list(self.features):
            raise DataError(
                f"The model was fitted to {_listed(features)}, but the data has {_listed(self.features)}.",
                "Name the same features in the same order.",
            )


@dataclass(frozen=True, eq=False)
class _Slice:
    """A block's own part of data in memory: views here, and no more than the block when pickled."""

    grid: Grid
    values: NDArray[Any]
    weights: NDArray[Any] | None

    def boxes(self, chunks: range, halo: int = 0) -> list[Box]:
        return _boxes(self.grid, chunks, halo)

    def read(self, chunks: range, halo: int = 0) -> Raw:  # noqa: ARG002 -- it holds the block's rows alone
        return self.values, self.weights


@dataclass(frozen=True, slots=True, eq=False)
class SourceBlock:
    """A run of chunks of a source, with the transform its rows pass through.

    Attributes
    ----------
    index : int
        Position in the data's own order, from 0.
    n : int
        Number of stored rows, missing ones included.
    nbytes : int
        Bytes of its rows once decoded, if none is missing.
    owner : Source
        What reads it.
    transform : Transform
        Applied on loading.
    start, stop : int
        The run of chunks.
    halo : int
        Pixels about each rectangle that are loaded with it.
    beginnings : Beginnings or None
        Which of its rows begin a sequence.
    """

    index: int
    n: int
    nbytes: int
    owner: Source | _Slice
    transform: Transform
    start: int
    stop: int
    halo: int = 0
    beginnings: Beginnings | None = None

    @property
    def chunks(self) -> range:
        """The chunk numbers."""
        return range(self.start, self.stop)

    @property
    def where(self) -> str:
        """Its chunks and the arrays they are of, for messages."""
        names = ", ".join(f"'{name}'" for name in getattr(self.owner, "variables", ())[:8])
        chunks = (
            f"chunk {self.start}"
            if self.stop - self.start == 1
            else f"chunks {self.start} to {self.stop - 1}"
        )
        return f"{chunks} of {names}" if names else chunks

    def load(self) -> Rows:
        """Read, decode, scale and mask the rows.

        Raises
        ------
        DamagedChunkError
            If a stored chunk cannot be decoded.
        """
        places = Places(tuple(self.owner.boxes(self.chunks, self.halo)), self.owner.grid.shape)
        begins = None if self.beginnings is None else self.beginnings.of(places)
        rows = self.transform.rows(*self.owner.read(self.chunks, self.halo))
        return replace(rows, places=places, begins=begins)


def _boxes(grid: Grid, chunks: range, halo: int) -> list[Box]:
    boxes = grid.boxes(chunks)
    if not halo:
        return boxes
    axes = spatial_axes(grid.dims)
    return [expand_box(box, grid.shape, axes, halo) for box in boxes]


def reason(error: BaseException) -> str:
    """Return an exception as a few words: its kind and first line."""
    text = str(error).strip().splitlines()
    name = type(error).__name__
    return f"{name}: {text[0].rstrip('.')}" if text else name


def _is_remote(error: Exception) -> bool:
    """Whether an object store's client raised it: not the bytes are wrong, but the way to them."""
    return type(error).__module__.split(".")[0] in ("botocore", "aiobotocore", "aiohttp", "gcsfs", "adlfs")


def _extent(dims: Sequence[str], box: Box) -> str:
    return ", ".join(f"{dim} {s.start} to {s.stop - 1}" for dim, s in zip(dims, box, strict=True))


def _listed(names: Sequence[str]) -> str:
    shown = ", ".join(f"'{name}'" for name in names[:12])
    return shown + (f" and {len(names) - 12} more" if len(names) > 12 else "")


__all__ = ["Raw", "Reader", "Source", "SourceBlock", "box_rows", "reason"]
