"""A function of rows applied to whatever a caller has: lazy in, lazy out, on the same coordinates."""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Protocol

import numpy as np
import xarray as xr
import zarr
from numpy.typing import DTypeLike, NDArray

from distem.errors import DataError
from distem.inputs import uses_dask

ROWS_AT_ONCE = 65536


class RowFunction(Protocol):
    """Answers for rows (..., d); `start` is where they lie along each dimension but the last."""

    def __call__(self, values: NDArray[Any], start: Sequence[int], /) -> NDArray[Any]:
        """Return an answer for each row, shape (..., *trailing)."""


def refuse_missing(values: NDArray[Any], start: Sequence[int]) -> None:
    """Raise where a row holds NaN or infinity.

    Raises
    ------
    DataError
        Names the first such row.
    """
    if values.dtype.kind != "f" or np.isfinite(values).all():
        return
    first = np.argwhere(~np.isfinite(values))[0]
    at = [int(low + i) for low, i in zip(start, first[:-1], strict=True)]
    where = f"row {at[0]}" if len(at) == 1 else f"row {tuple(at)}"
    raise DataError(
        f"Input contains NaN or infinity: {where}, feature {int(first[-1])} is {values[tuple(first)]}.",
        "Leave such rows out, or fill them in.",
    )


def map_rows(
    x: Any,
    function: RowFunction,
    trailing: tuple[tuple[str, int], ...],
    dtype: DTypeLike,
    d: int,
    name: str,
    whose: str,
) -> Any:
    """Apply a function to the rows of `x`.

    Parameters
    ----------
    x : ndarray, dask.array.Array, xarray.DataArray or zarr.Array, shape (..., d)
        Dask and Zarr arrays give Dask arrays; xarray gives xarray on the same coordinates, lazy
        where its values are.
    function : callable
        Of a chunk and its start.
    trailing : tuple of (str, int)
        Name and length of the dimensions that take the features' place.
    dtype : dtype
        Of the answers.
    d : int
        Number of features expected.
    name : str
        Of an xarray answer.
    whose : str
        Name of the estimator that is asked.

    Raises
    ------
    DataError
        `x` has another number of features.
    """
    if x.shape[-1] != d:
        raise DataError(
            f"X has {x.shape[-1]} features, but {whose} is expecting {d} features as input.",
            "Give the features the model was fitted to, in the last dimension.",
        )
    if isinstance(x, xr.DataArray):
        return _map_xarray(x, function, trailing, dtype, d, name, whose)
    sizes = tuple(size for _, size in trailing)
    if isinstance(x, zarr.Array) or uses_dask(x):
        from distem.execution.dask import chunked, from_zarr, map_rows

        return map_rows(chunked(from_zarr(x) if isinstance(x, zarr.Array) else x), function, sizes, dtype)
    return _map_memory(np.asarray(x), function, sizes, dtype)


def _map_xarray(
    x: xr.DataArray,
    function: RowFunction,
    trailing: tuple[tuple[str, int], ...],
    dtype: DTypeLike,
    d: int,
    name: str,
    whose: str,
) -> xr.DataArray:
    if x.chunks is None and not x.variable._in_memory:
        x = x.chunk()
    answer = map_rows(x.data if uses_dask(x) else x.values, function, trailing, dtype, d, name, whose)
    coords = {key: c for key, c in x.coords.items() if x.dims[-1] not in c.dims}
    dims = [*x.dims[:-1], *(dim for dim, _ in trailing)]
    return xr.DataArray(answer, dims=dims, coords=coords, name=name)


def _map_memory(
    x: NDArray[Any], function: RowFunction, sizes: tuple[int, ...], dtype: DTypeLike
) -> NDArray[Any]:
    out = np.empty((*x.shape[:-1], *sizes), dtype=dtype)
    if x.ndim != 2 or len(x) <= ROWS_AT_ONCE:
        out[...] = function(x, [0] * (x.ndim - 1))
        return out

    def part(start: int) -> None:
        rows = slice(start, start + ROWS_AT_ONCE)
        out[rows] = function(x[rows], [start])

    with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        list(pool.map(part, range(0, len(x), ROWS_AT_ONCE)))
    return out
