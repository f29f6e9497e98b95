"""Arrays the caller holds: NumPy, data frames, xarray without Dask, Zarr."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import xarray as xr
import zarr
from numpy.typing import NDArray

from distem.data._names import NUMERIC, not_numeric, plain_attrs
from distem.data.grid import BLOCK_BYTES, Box, Grid, leading_sizes, rows_per_chunk
from distem.data.resolve import resolve
from distem.data.source import Raw, Source
from distem.data.variables import Opened, Stored
from distem.data.zarr_store import HeldZarr
from distem.errors import DamagedChunkError, DataError


@dataclass(frozen=True, eq=False)
class MemoryReader:
    """Rows in this process's memory.

    Attributes
    ----------
    values : ndarray, shape (..., d)
        The sample dimensions, then the features.
    weights : ndarray, shape (...,), or None
        On the sample dimensions.
    held : mapping of str to xarray.Variable
        Encoded coordinates on the sample dimensions.
    """

    values: NDArray[Any]
    weights: NDArray[Any] | None = None
    held: Mapping[str, xr.Variable] = field(default_factory=dict)

    def read(self, box: Box) -> Raw:
        """Return the rows of a box: a view where they lie one behind the other."""
        weights = None if self.weights is None else self.weights[box].reshape(-1)
        return self.values[box].reshape(-1, self.values.shape[-1]), weights

    def locate(self, box: Box) -> DamagedChunkError | None:  # noqa: ARG002 -- memory has no chunks to damage
        """Return None."""
        return None

    def coordinates(self) -> dict[str, Stored]:
        """Return the coordinates."""
        return {name: Stored.of(variable) for name, variable in self.held.items()}

    def read_coordinate(self, name: str, box: Mapping[str, slice]) -> NDArray[Any]:
        """Read a part of a coordinate."""
        held = self.held[name]
        return np.asarray(held[tuple(box.get(str(dim), slice(None)) for dim in held.dims)].values)


def from_array(x: Any, weights: Any = None) -> Source:
    """Make a source of an array.

    Parameters
    ----------
    x : array-like, pandas.DataFrame, xarray.DataArray or zarr.Array, shape (..., d)
        The last dimension is the features. An xarray object that is not in memory is read lazily
        by the chunks of its file. Not a Dask array.
    weights : array-like, optional
        One for each row.

    Returns
    -------
    Source
        Blocks of data in memory depend on its shape alone.

    Raises
    ------
    DataError
        If there is no feature dimension, the values are no real numbers, or the weights' shape differs.
    """
    if isinstance(x, zarr.Array):
        if weights is None:
            return resolve(HeldZarr(x))
        x = x[...]  # weights beside a bare array have no store of their own
    if isinstance(x, xr.DataArray):
        return _from_xarray(x, weights)
    names: tuple[str, ...] = ()
    if hasattr(x, "columns") and hasattr(x, "to_numpy"):
        for name, dtype in zip(x.columns, x.dtypes, strict=True):
            if getattr(dtype, "kind", "O") not in NUMERIC:
                raise not_numeric(f"Column '{name}'", str(dtype))
        names = tuple(str(name) for name in x.columns)
        x = x.to_numpy(dtype=np.result_type(*(getattr(t, "numpy_dtype", t) for t in x.dtypes)))
    values = np.asarray(x)
    _check(values.shape, values.dtype, "The array")
    dims = ("row",) if values.ndim == 2 else tuple(f"dim_{axis}" for axis in range(values.ndim - 1))
    names = names or tuple(f"x{j}" for j in range(values.shape[-1]))
    return _in_memory(values, _weights(weights, values.shape[:-1]), dims, names)


def _in_memory(
    values: NDArray[Any],
    weights: NDArray[Any] | None,
    dims: tuple[str, ...],
    names: tuple[str, ...],
    **about: Any,
) -> Source:
    shape = values.shape[:-1]
    sizes = leading_sizes(shape, rows_per_chunk(len(names), BLOCK_BYTES))
    return Source(
        reader=MemoryReader(values, weights, about.pop("coordinates", {})),
        kind="array",
        grid=Grid.regular(dims, shape, sizes),
        features=names,
        dtype=values.dtype.newbyteorder("="),
        variables=names,
        weights=None if weights is None else "weights",
        sliced=True,
        **about,
    )


def _check(shape: tuple[int, ...], dtype: Any, what: str) -> None:
    if len(shape) < 2:
        raise DataError(
            f"{what} has {len(shape)} dimension(s): Expected 2D array, got {len(shape)}D array instead.",
            "Reshape your data: array.reshape(-1, 1) has one feature, array.reshape(1, -1) one row.",
        )
    if shape[-1] == 0:
        raise DataError(f"{what} has 0 feature(s) (shape={shape}) while a minimum of 1 is required.")
    if np.dtype(dtype).kind not in NUMERIC:
        raise not_numeric(what, dtype)


def _weights(weights: Any, shape: tuple[int, ...]) -> NDArray[Any] | None:
    if weights is None:
        return None
    held = np.asarray(weights)
    if held.dtype.kind not in NUMERIC:
        raise not_numeric("The array of weights", held.dtype)
    if held.shape != shape:
        raise DataError(
            f"The weights have shape {held.shape}, the samples {shape}.",
            "Weights need one value for each row.",
        )
    return held


def _from_xarray(x: xr.DataArray, weights: Any) -> Source:
    if x.chunks is not None:
        raise DataError(
            "The array is backed by Dask.", "Pass it to an estimator, which reads it by its chunks."
        )
    name = "data" if x.name is None else str(x.name)
    _check(x.shape, x.dtype, f"'{name}'")
    dims = tuple(str(dim) for dim in x.dims)
    if not _loaded(x):
        if weights is None:
            return resolve(HeldDataArray(x), features=[name], feature_dim=dims[-1])
        x = x.load()
    if isinstance(weights, xr.DataArray):
        if set(weights.dims) != set(x.dims[:-1]):
            raise DataError(
                f"The weights have dimensions {tuple(weights.dims)}, the samples {tuple(x.dims[:-1])}.",
                "Weights need one value for each row.",
            )
        weights = weights.transpose(*x.dims[:-1]).values
    names = tuple(f"{name}_{j}" for j in range(x.shape[-1])) if x.name is not None else ()
    names = names or tuple(f"x{j}" for j in range(x.shape[-1]))
    if dims[-1] in x.coords and x.coords[dims[-1]].dims == (dims[-1],):
        labels = [v if isinstance(v, str) else f"{dims[-1]}_{v}" for v in x.coords[dims[-1]].values.tolist()]
        names = tuple(labels) if len(set(labels)) == len(labels) else names
    return _in_memory(
        x.values,
        _weights(weights, x.shape[:-1]),
        dims[:-1],
        names,
        coordinates=_coordinates(x),
        attrs=plain_attrs(x.attrs),
    )


def _loaded(x: xr.DataArray) -> bool:
    return bool(x.variable._in_memory)


def _coordinates(x: xr.DataArray) -> dict[str, xr.Variable]:
    """Return the coordinates on the sample dimensions; dates encoded as CF numbers."""
    found = {}
    for name, coordinate in x.coords.items():
        if set(coordinate.dims) <= set(x.dims[:-1]):
            held = coordinate.variable.to_base_variable()
            found[str(name)] = xr.conventions.encode_cf_variable(held) if held.dtype.kind in "mM" else held
    return found


@dataclass(frozen=True, eq=False)
class HeldDataArray:
    """A lazily read `xarray.DataArray` that the caller holds: decoded by whoever opened it."""

    array: xr.DataArray

    kind = "array"
    keeps = True

    def __reduce__(self) -> tuple[Any, ...]:
        return HeldDataArray, (self.array,)

    @property
    def where(self) -> str:
        """The array's name in errors."""
        return "the DataArray"

    def open(self) -> Opened:
        """Describe it; the chunks are those of its file."""
        return self._opened

    @cached_property
    def _opened(self) -> Opened:
        x = self.array
        name = "data" if x.name is None else str(x.name)
        variable = x.variable
        held = _coordinates(x)
        if x.dims[-1] in x.coords:
            held[str(x.dims[-1])] = x.coords[x.dims[-1]].variable.to_base_variable()
        variables = {key: Stored.of(v) for key, v in held.items()}
        # its values are decoded: none of its attributes may be applied again
        labels = {k: v for k, v in x.attrs.items() if k in ("units", "long_name")}
        shown = tuple(str(dim) for dim in x.dims)
        variables[name] = Stored(shown, tuple(x.shape), x.dtype, labels)
        arrays = {key: _Slicer(v) for key, v in {**held, name: variable}.items()}
        preferred = variable.encoding.get("preferred_chunks") or {}
        chunks = {name: _sizes(variable, preferred)} if preferred else {}
        return Opened(variables, arrays, chunks, plain_attrs(x.attrs))


def _sizes(variable: xr.Variable, preferred: Mapping[Any, Any]) -> tuple[int, ...]:
    """Return the chunk sizes a variable's file has, for what of it is left."""
    found = []
    for dim, length in zip(variable.dims, variable.shape, strict=True):
        size = preferred.get(dim, length)
        found.append(max(1, min(max(size) if isinstance(size, tuple) else int(size), length)))
    return tuple(found)


@dataclass(frozen=True, eq=False)
class _Slicer:
    """Reads slices of a lazy variable without loading the rest."""

    variable: xr.Variable

    def __getitem__(self, key: tuple[slice, ...]) -> NDArray[Any]:
        return np.asarray(self.variable[key].values)
