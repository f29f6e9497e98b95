"""What a caller hands to an estimator, as blocks: NumPy, data frames, xarray, Zarr, Dask."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import xarray as xr

from distem.data.arrays import from_array
from distem.data.grid import Grid
from distem.data.sequences import Beginnings
from distem.data.transform import Transform
from distem.errors import DataError
from distem.types import Block


class Input(Protocol):
    """Rows of d features, cut into blocks."""

    @property
    def n(self) -> int:
        """Number of rows."""

    @property
    def d(self) -> int:
        """Number of features."""

    @property
    def features(self) -> tuple[str, ...]:
        """Their names."""

    def blocks(self, transform: Transform | None = None) -> Sequence[Block]:
        """The blocks, their rows transformed as they are loaded."""

    def locate(self, block: int, row: int) -> tuple[int, dict[str, int]]:
        """C-order number and indices of a block's row."""


@dataclass(frozen=True, eq=False)
class DaskInput:
    """A Dask array, whose features stand in its last dimension."""

    x: Any
    weights: Any
    features: tuple[str, ...]
    grid: Grid
    beginnings: Beginnings | None = None

    @property
    def n(self) -> int:
        """Number of rows."""
        return self.grid.n

    @property
    def d(self) -> int:
        """Number of features."""
        return int(self.x.shape[-1])

    def blocks(self, transform: Transform | None = None) -> Sequence[Block]:
        """The blocks: runs of the array's own chunks."""
        from distem.execution.dask import lazy_blocks

        transform = transform or Transform()
        boxes = [self.grid.boxes(chunks) for chunks in self.grid.blocks(self.d)]
        full = [block for block in boxes if block]
        itemsize = np.dtype(transform.dtype).itemsize
        return lazy_blocks(self.x, self.weights, full, transform, itemsize, self.beginnings)

    def locate(self, block: int, row: int) -> tuple[int, dict[str, int]]:
        """C-order number and indices of a block's row."""
        full = [chunks for chunks in self.grid.blocks(self.d) if self.grid.rows(chunks)]
        at = self.grid.coordinates(full[block], row)
        return self.grid.row_number(at), dict(zip(self.grid.dims, at, strict=True))


def uses_dask(x: Any) -> bool:
    """Whether `x` is a Dask array or an xarray object backed by one; does not import Dask for others."""
    if "dask.array" not in sys.modules:
        return False
    from distem.execution.dask import is_dask

    return is_dask(x)


def features_last(x: Any) -> Any:
    """A dataset as one array, its variables along the last dimension; anything else as it is."""
    if isinstance(x, xr.Dataset):
        return x.to_dataarray("feature").transpose(..., "feature")
    return x


def as_input(x: Any, weights: Any = None) -> Input:
    """Make blocks of what a caller has.

    Parameters
    ----------
    x : array-like, shape (..., d)
        NumPy array, data frame, xarray.DataArray, zarr.Array or Dask array; features last.
    weights : array-like, optional
        One for each row.

    Raises
    ------
    DataError
        It is not an array of numbers with a feature dimension, or the weights do not fit it.
    """
    x = features_last(x)
    return _from_dask(x, weights) if uses_dask(x) else from_array(x, weights)


def _from_dask(x: Any, weights: Any) -> DaskInput:
    from distem.execution.dask import chunked, lazy_weights

    dims = tuple(str(dim) for dim in x.dims[:-1]) if isinstance(x, xr.DataArray) else None
    array = x.data if isinstance(x, xr.DataArray) else x
    if array.ndim < 2:
        raise DataError(
            f"Expected 2D array, got {array.ndim}D array instead.", "Reshape your data: array.reshape(-1, 1)."
        )
    if array.dtype.kind not in "fiub":
        raise DataError(f"The array holds {array.dtype}, not numbers.", "Convert it to numbers.")
    array = chunked(array)
    if isinstance(weights, xr.DataArray):
        if isinstance(x, xr.DataArray) and set(weights.dims) == set(x.dims[:-1]):
            weights = weights.transpose(*x.dims[:-1])
        weights = weights.data
    if weights is not None:
        weights = lazy_weights(weights, array)
    dims = dims or (("row",) if array.ndim == 2 else tuple(f"dim_{i}" for i in range(array.ndim - 1)))
    names = tuple(f"x{j}" for j in range(array.shape[-1]))
    return DaskInput(array, weights, names, Grid.of(dims, array.chunks[:-1]))
