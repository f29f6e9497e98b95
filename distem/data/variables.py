"""Named variables on named dimensions: which are the features, and how a box of them is read.

Zarr, NetCDF and xarray objects all come down to this.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from itertools import product
from typing import Any, Protocol

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from distem.data.files import Held
from distem.data.grid import Box, box_rows
from distem.data.source import Raw, reason
from distem.errors import DamagedChunkError

MAPS = ("grid_mapping_name", "crs_wkt", "spatial_ref")
"""Attributes of a variable that holds a coordinate reference system."""
_CF = ("_FillValue", "missing_value", "scale_factor", "add_offset", "_Unsigned", "dtype")


@dataclass(frozen=True, eq=False)
class Stored:
    """A variable as it is stored: packed, with its attributes.

    Attributes
    ----------
    dims : tuple of str
        Dimension names.
    shape : tuple of int
        Length of each.
    dtype : numpy.dtype
        Before decoding.
    attrs : mapping
        Attributes, CF ones included.
    """

    dims: tuple[str, ...]
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    attrs: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, variable: xr.Variable) -> Stored:
        """Describe an xarray variable."""
        dims = tuple(str(dim) for dim in variable.dims)
        return cls(dims, tuple(variable.shape), variable.dtype, dict(variable.attrs))

    @property
    def sizes(self) -> dict[str, int]:
        """Length by dimension."""
        return dict(zip(self.dims, self.shape, strict=True))

    @property
    def packing(self) -> dict[str, Any]:
        """The attributes; what GDAL's tools call `nodata` is CF's `_FillValue`."""
        attrs = dict(self.attrs)
        nodata = attrs.pop("nodata", None)
        plain = isinstance(nodata, int | float | np.number) and not isinstance(nodata, bool)
        if plain and self.dtype.kind in "iuf" and "_FillValue" not in attrs:
            # a value the dtype cannot hold (-9999 in bytes) stands for nothing
            held = np.isnan(nodata) if self.dtype.kind == "f" and nodata != nodata else False
            with np.errstate(over="ignore", invalid="ignore"):
                cast = np.asarray(nodata, np.float64).astype(self.dtype)
            if held or float(cast) == float(nodata):
                attrs["_FillValue"] = cast[()]
        return attrs

    @property
    def is_packed(self) -> bool:
        """Whether CF attributes change the values."""
        attrs = self.packing
        found = [name for name in _CF if name in attrs]
        if found == ["_FillValue"] and self.dtype.kind == "f":
            fill = attrs["_FillValue"]
            return not (np.ndim(fill) == 0 and np.isnan(fill))
        return bool(found)

    @property
    def is_time(self) -> bool:
        """Whether the values are dates or durations."""
        return self.dtype.kind in "Mm" or " since " in str(self.attrs.get("units", ""))

    @property
    def decoded_dtype(self) -> np.dtype[Any]:
        """The dtype of the values after decoding."""
        return (
            self.decode(np.empty((0,) * len(self.dims), self.dtype)).dtype if self.is_packed else self.dtype
        )

    def decode(self, values: NDArray[Any]) -> NDArray[Any]:
        """Decode values by the CF conventions: mask to NaN, scale, shift; times stay numbers."""
        # a name no dimension has, or xarray would build an index
        packed = xr.Dataset({"\0": xr.Variable(self.dims, values, self.packing)})
        held = xr.decode_cf(packed, decode_times=False, decode_timedelta=False, decode_coords=False)
        return np.asarray(held["\0"].values)


@dataclass(frozen=True, eq=False)
class Opened:
    """An open store.

    Attributes
    ----------
    variables : mapping of str to Stored
        What there is.
    arrays : mapping of str to an object sliced with ``[...]`` that gives an ndarray
        What to read from.
    chunks : mapping of str to tuple of int
        The chunk (or shard) shape of each array; absent for contiguous ones.
    attrs : mapping
        Global attributes.
    key : callable
        Names a chunk, from the variable and the chunk's position.
    close : callable
        Closes its files; they are opened again if they are read again.
    """

    variables: Mapping[str, Stored]
    arrays: Mapping[str, Any]
    chunks: Mapping[str, tuple[int, ...]]
    attrs: Mapping[str, Any] = field(default_factory=dict)
    key: Callable[[str, tuple[int, ...]], str] = lambda _, at: "/".join(map(str, at))
    close: Callable[[], None] = lambda: None


class Store(Protocol):
    """A frozen, picklable description of a store of variables."""

    @property
    def kind(self) -> str:
        """What the config calls it: "zarr", "netcdf", "array"."""

    @property
    def keeps(self) -> bool:
        """Whether it holds itself open, and is not to be held here."""

    @property
    def where(self) -> str:
        """The store's name in errors."""

    def open(self) -> Opened:
        """Open it in this process."""


_OPEN: Held[Opened] = Held(16)


def opened(store: Store) -> Opened:
    """Return a store opened in this process."""
    return store.open() if store.keeps else _OPEN.get(store, store.open)


def opened_anew(store: Store) -> Opened:
    """Open a store even if it is held open: it may have been written since."""
    return store.open() if store.keeps else _OPEN.get(store, store.open, fresh=True)


@dataclass(frozen=True)
class VariablesReader:
    """Reads the features of a store of variables.

    Attributes
    ----------
    store : Store
        Where they are.
    variables : tuple of str
        One a feature, or one that holds all along `feature_dim`.
    sample_dims : tuple of str
        In the order of the rows.
    feature_dim : str or None
        Of a single variable.
    weights : str or None
        The variable of weights.
    dtype : str
        In which the values are handed on.
    """

    store: Store
    variables: tuple[str, ...]
    sample_dims: tuple[str, ...]
    feature_dim: str | None
    weights: str | None
    dtype: str

    def read(self, box: Box) -> Raw:
        """Read the rows of a box in C order of the sample dimensions."""
        held = opened(self.store)
        n = box_rows(box)
        weights = None
        if self.weights is not None:
            weights = self._array(held, self.weights, box, None).reshape(n)
        if self.feature_dim is not None:
            values = self._array(held, self.variables[0], box, self.feature_dim)
            return values.reshape(n, -1).astype(self.dtype, copy=False), weights
        out = np.empty((n, len(self.variables)), self.dtype)
        for j, name in enumerate(self.variables):
            out[:, j] = self._array(held, name, box, None).reshape(n)
        return out, weights

    def _array(self, held: Opened, name: str, box: Box, feature_dim: str | None) -> NDArray[Any]:
        variable = held.variables[name]
        slices = dict(zip(self.sample_dims, box, strict=True))
        dims = variable.dims
        values = np.asarray(held.arrays[name][tuple(slices.get(dim, slice(None)) for dim in dims)])
        if variable.is_packed:
            values = variable.decode(values)
        order = [dims.index(dim) for dim in (*self.sample_dims, *([feature_dim] if feature_dim else []))]
        return values.transpose(order)

    def locate(self, box: Box) -> DamagedChunkError | None:
        """Read the stored chunks under a box one by one; name the first that fails."""
        held = opened(self.store)
        slices = dict(zip(self.sample_dims, box, strict=True))
        for name in (*self.variables, *([self.weights] if self.weights else [])):
            variable = held.variables[name]
            sizes = held.chunks.get(name, variable.shape)
            spans = []
            for dim, length, size in zip(variable.dims, variable.shape, sizes, strict=True):
                s = slices.get(dim, slice(0, length))
                spans.append(range(s.start // max(1, size), -(-s.stop // max(1, size))))
            for at in product(*spans):
                region = tuple(
                    slice(i * size, min(length, (i + 1) * size))
                    for i, size, length in zip(at, sizes, variable.shape, strict=True)
                )
                try:
                    held.arrays[name][region]
                except Exception as error:  # noqa: BLE001 -- a codec may raise anything
                    return DamagedChunkError(
                        f"Chunk {held.key(name, at)} (index {at}) of '{name}' in {self.store.where} "
                        f"cannot be decoded: {reason(error)}.",
                        "Restore it from a copy, or write that part of the array again.",
                    )
        return None

    def coordinates(self) -> dict[str, Stored]:
        """Return the coordinates on the sample dimensions, as they are stored."""
        held = opened(self.store)
        mine = set(self.sample_dims)
        used = {*self.variables, self.weights}
        return {
            name: held.variables[name]
            for name in sorted(coordinate_names(held))
            if name not in used and set(held.variables[name].dims) <= mine
        }

    def read_coordinate(self, name: str, box: Mapping[str, slice]) -> NDArray[Any]:
        """Read a part of a coordinate, encoded, in its own order of dimensions."""
        held = opened(self.store)
        dims = held.variables[name].dims
        return np.asarray(held.arrays[name][tuple(box.get(dim, slice(None)) for dim in dims)])


def coordinate_names(opened: Opened) -> set[str]:
    """Return the names of the variables that are coordinates by the conventions."""
    variables = opened.variables
    dims = {dim for v in variables.values() for dim in v.dims}
    found = {name for name in variables if name in dims}
    # a scalar that holds a reference system is one, though nothing may refer to it
    found |= {name for name, v in variables.items() if not v.dims and set(MAPS) & set(v.attrs)}
    for attrs in (opened.attrs, *(v.attrs for v in variables.values())):
        for role in ("coordinates", "grid_mapping"):
            found.update(str(attrs.get(role, "")).replace(":", " ").split())
    return found & set(variables)
