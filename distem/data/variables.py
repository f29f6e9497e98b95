"""Named variables on named dimensions: which are the features, and how a box of them is read.

Zarr, NetCDF and xarray objects all come down to this.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product
from typing import Any, Protocol

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from distem.data._names import NUMERIC, no_such, not_numeric, plain_attrs
from distem.data.grid import Box, Grid, box_rows
from distem.data.source import Raw, Source, reason
from distem.data.transform import native
from distem.errors import ConfigError, DamagedChunkError, DataError

_CF = ("_FillValue", "missing_value", "scale_factor", "add_offset", "_Unsigned", "dtype")
_AXES = {"time", "t", "z", "y", "x", "lat", "lon", "latitude", "longitude", "level", "lev", "depth", "height"}
_FEATURE_DIMS = ("feature", "features", "band", "bands", "channel", "channels", "variable")


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
    def is_packed(self) -> bool:
        """Whether CF attributes change the values."""
        found = [name for name in _CF if name in self.attrs]
        if found == ["_FillValue"] and self.dtype.kind == "f":
            fill = self.attrs["_FillValue"]
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
        packed = xr.Dataset({"\0": xr.Variable(self.dims, values, dict(self.attrs))})
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
    """

    variables: Mapping[str, Stored]
    arrays: Mapping[str, Any]
    chunks: Mapping[str, tuple[int, ...]]
    attrs: Mapping[str, Any] = field(default_factory=dict)
    key: Callable[[str, tuple[int, ...]], str] = lambda _, at: "/".join(map(str, at))


class Store(Protocol):
    """A frozen, picklable description of a store of variables."""

    @property
    def kind(self) -> str:
        """What the config calls it: "zarr", "netcdf", "array"."""

    @property
    def where(self) -> str:
        """The store's name in errors."""

    def open(self) -> Opened:
        """Open it in this process."""


class _Cache:
    """The stores this process has open: a few, by description."""

    def __init__(self, size: int = 16) -> None:
        self._held: OrderedDict[Store, Opened] = OrderedDict()
        self._lock = threading.RLock()
        self._size = size

    def get(self, store: Store, fresh: bool = False) -> Opened:
        with self._lock:
            if fresh or store not in self._held:
                self._held[store] = store.open()
            self._held.move_to_end(store)
            while len(self._held) > self._size:
                self._held.popitem(last=False)
            return self._held[store]


_CACHE = _Cache()


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
        opened = _CACHE.get(self.store)
        n = box_rows(box)
        weights = None
        if self.weights is not None:
            weights = self._array(opened, self.weights, box, None).reshape(n)
        if self.feature_dim is not None:
            values = self._array(opened, self.variables[0], box, self.feature_dim)
            return values.reshape(n, -1).astype(self.dtype, copy=False), weights
        out = np.empty((n, len(self.variables)), self.dtype)
        for j, name in enumerate(self.variables):
            out[:, j] = self._array(opened, name, box, None).reshape(n)
        return out, weights

    def _array(self, opened: Opened, name: str, box: Box, feature_dim: str | None) -> NDArray[Any]:
        variable = opened.variables[name]
        slices = dict(zip(self.sample_dims, box, strict=True))
        dims = variable.dims
        values = np.asarray(opened.arrays[name][tuple(slices.get(dim, slice(None)) for dim in dims)])
        if variable.is_packed:
            values = variable.decode(values)
        order = [dims.index(dim) for dim in (*self.sample_dims, *([feature_dim] if feature_dim else []))]
        return values.transpose(order)

    def locate(self, box: Box) -> DamagedChunkError | None:
        """Read the stored chunks under a box one by one; name the first that fails."""
        opened = _CACHE.get(self.store, fresh=True)
        slices = dict(zip(self.sample_dims, box, strict=True))
        for name in (*self.variables, *([self.weights] if self.weights else [])):
            variable = opened.variables[name]
            sizes = opened.chunks.get(name, variable.shape)
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
                    opened.arrays[name][region]
                except Exception as error:  # noqa: BLE001 -- a codec may raise anything
                    return DamagedChunkError(
                        f"Chunk {opened.key(name, at)} (index {at}) of '{name}' in {self.store.where} "
                        f"cannot be decoded: {reason(error)}.",
                        "Restore it from a copy, or write that part of the array again.",
                    )
        return None

    def coordinates(self) -> dict[str, Stored]:
        """Return the coordinates on the sample dimensions, as they are stored."""
        opened = _CACHE.get(self.store)
        mine = set(self.sample_dims)
        used = {*self.variables, self.weights}
        return {
            name: opened.variables[name]
            for name in sorted(coordinate_names(opened))
            if name not in used and set(opened.variables[name].dims) <= mine
        }

    def read_coordinate(self, name: str, box: Mapping[str, slice]) -> NDArray[Any]:
        """Read a part of a coordinate, encoded, in its own order of dimensions."""
        opened = _CACHE.get(self.store)
        dims = opened.variables[name].dims
        return np.asarray(opened.arrays[name][tuple(box.get(dim, slice(None)) for dim in dims)])


def coordinate_names(opened: Opened) -> set[str]:
    """Return the names of the variables that are coordinates by the conventions."""
    variables = opened.variables
    dims = {dim for v in variables.values() for dim in v.dims}
    found = {name for name in variables if name in dims}
    for attrs in (opened.attrs, *(v.attrs for v in variables.values())):
        for role in ("coordinates", "grid_mapping"):
            found.update(str(attrs.get(role, "")).replace(":", " ").split())
    return found & set(variables)


def resolve(
    store: Store,
    features: Sequence[str] | str | None = None,
    sample_dims: Sequence[str] | None = None,
    feature_dim: str | None = None,
    weights: str | None = None,
) -> Source:
    """Find the features among a store's variables.

    Parameters
    ----------
    store : Store
        Where they are.
    features : sequence of str, str or None
        Variables on equal dimensions; or one variable with a feature dimension; None: all numeric
        data variables, which must share their dimensions.
    sample_dims : sequence of str, optional
        All dimensions the features share but the feature dimension; their order is that of the rows.
    feature_dim : str, optional
        Of a single variable. By default, if `sample_dims` leaves it open, one that is called
        feature, band, channel or variable; else the last. A variable whose dimensions are all
        axes of time and space (time, y, x, lat, lon ...) is one feature.
    weights : str, optional
        A variable on the sample dimensions.

    Raises
    ------
    DataError
        If a variable or dimension does not exist, or cannot be a feature.
    """
    opened = _CACHE.get(store, fresh=True)
    variables, where = opened.variables, store.where
    if isinstance(features, str):
        features = [features]
    if features is not None and not features:
        raise DataError("No features are named.", f"{where} has: {', '.join(sorted(variables))}.")
    names = tuple(features) if features is not None else _numeric(opened, where, weights)
    for name in names:
        _check(variables, name, where, "variable")
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise DataError(f"The feature '{twice}' is named twice.", "Name each feature once.")
    dims = variables[names[0]].dims
    for name in (*(sample_dims or ()), *([feature_dim] if feature_dim else [])):
        if name not in dims:
            raise no_such("dimension", name, dims, f"'{names[0]}' of {where}")
    if len(names) > 1:
        if feature_dim is not None:
            raise ConfigError(
                f"feature_dim is '{feature_dim}', but {len(names)} variables are named as features.",
                "Name one variable that has this dimension, or leave feature_dim out.",
            )
        for name in names[1:]:
            _same_shape(variables, names[0], name)
    else:
        feature_dim = _feature_dim(dims, sample_dims, feature_dim)
    shared = tuple(dim for dim in dims if dim != feature_dim)
    sample = tuple(sample_dims) if sample_dims else shared
    if sorted(sample) != sorted(shared):
        raise DataError(
            f"sample_dims are {_listed(sample)}, but the features share {_listed(shared)}.",
            "Name all of them, in the order the rows shall have, or leave sample_dims out.",
        )
    if not sample:
        raise DataError(f"'{names[0]}' in {where} has no dimension to take samples along.")
    sizes = variables[names[0]].sizes
    if weights is not None:
        _check(variables, weights, where, "weights variable")
        held = variables[weights]
        if held.sizes != {dim: sizes[dim] for dim in sample}:
            raise DataError(
                f"The weights '{weights}' are {_shape(held.sizes)}, the samples "
                f"{_shape({dim: sizes[dim] for dim in sample})}.",
                "Weights need one value for each row.",
            )
    stored = opened.chunks.get(names[0])
    shape = tuple(sizes[dim] for dim in sample)
    if stored is None:
        raise DataError(f"'{names[0]}' in {where} has no chunks.")
    chunk = dict(zip(dims, stored, strict=True))
    dtype = native([variables[name].decoded_dtype for name in names])
    columns = _columns(opened, names[0], feature_dim, sizes) if feature_dim else names
    if not columns:
        raise DataError(f"'{names[0]}' in {where} has no features: '{feature_dim}' has length 0.")
    reader = VariablesReader(store, names, sample, feature_dim, weights, dtype.str)
    return Source(
        reader=reader,
        kind=store.kind,
        grid=Grid.regular(sample, shape, tuple(chunk[dim] for dim in sample)),
        features=columns,
        dtype=dtype,
        variables=names,
        feature_dim=feature_dim,
        weights=weights,
        feature_attrs={column: _labels(variables[names[0] if feature_dim else column]) for column in columns},
        attrs=plain_attrs(opened.attrs),
    )


def _numeric(opened: Opened, where: str, weights: str | None) -> tuple[str, ...]:
    """Return all numeric data variables; refuse to guess if their dimensions differ."""
    helpers = coordinate_names(opened) | {str(v.attrs.get("bounds", "")) for v in opened.variables.values()}
    found = {
        name: v
        for name, v in opened.variables.items()
        if name not in helpers and name != weights and v.dims and v.dtype.kind in NUMERIC and not v.is_time
    }
    if not found:
        raise DataError(
            f"{where} has no numeric data variables to be features.",
            f"It has: {', '.join(sorted(opened.variables)) or 'no variables at all'}.",
        )
    layouts = {frozenset(v.dims) for v in found.values()}
    if len(layouts) > 1:
        shown = "; ".join(f"{name} ({', '.join(v.dims)})" for name, v in found.items())
        raise DataError(
            f"The numeric variables of {where} do not share their dimensions: {shown}.",
            "Name the features.",
        )
    return tuple(found)


def _check(variables: Mapping[str, Stored], name: str, where: str, what: str) -> None:
    if name not in variables:
        raise no_such(what, name, variables, where)
    variable = variables[name]
    if variable.is_time:
        raise not_numeric(f"'{name}' in {where}", np.dtype("M8[ns]"))
    if variable.dtype.kind not in NUMERIC:
        raise not_numeric(f"'{name}' in {where}", variable.dtype)


def _same_shape(variables: Mapping[str, Stored], first: str, name: str) -> None:
    one, other = variables[first].sizes, variables[name].sizes
    if one != other:
        raise DataError(
            f"The features do not share their dimensions: '{first}' is {_shape(one)}, "
            f"'{name}' is {_shape(other)}.",
            "Features must have equal dimensions and lengths.",
        )


def _feature_dim(dims: tuple[str, ...], sample_dims: Sequence[str] | None, named: str | None) -> str | None:
    if named is not None:
        return named
    if sample_dims:
        left = [dim for dim in dims if dim not in sample_dims]
        return left[0] if len(left) == 1 else None
    if len(dims) < 2:
        return None
    for dim in dims:
        if dim.lower() in _FEATURE_DIMS:
            return dim
    return None if all(dim.lower() in _AXES for dim in dims) else dims[-1]


def _columns(opened: Opened, name: str, feature_dim: str, sizes: Mapping[str, int]) -> tuple[str, ...]:
    """Name the features of one variable by the feature dimension's coordinate, else by number."""
    d = sizes[feature_dim]
    held = opened.variables.get(feature_dim)
    if held is not None and held.shape == (d,):
        values = held.decode(np.asarray(opened.arrays[feature_dim][:])).tolist()
        named = [v.decode("utf-8", "replace") if isinstance(v, bytes) else v for v in values]
        names = [v if isinstance(v, str) else f"{feature_dim}_{v}" for v in named]
        if len(set(names)) == d:
            return tuple(names)
    return tuple(f"{name}_{i}" for i in range(d))


def _labels(variable: Stored) -> dict[str, Any]:
    kept = {name: variable.attrs[name] for name in ("units", "long_name") if name in variable.attrs}
    return plain_attrs(kept)


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names) or "none"


def _shape(sizes: Mapping[str, int]) -> str:
    return "(" + ", ".join(f"{dim}: {size}" for dim, size in sizes.items()) + ")"
