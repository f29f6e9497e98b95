"""Which of a store's variables are the features, and along which dimensions the samples lie."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from distem.data._names import NUMERIC, no_such, not_numeric, plain_attrs
from distem.data.grid import Grid, leading_sizes, rows_per_chunk
from distem.data.source import Source
from distem.data.transform import native
from distem.data.variables import Opened, Store, Stored, VariablesReader, coordinate_names, opened_anew
from distem.errors import ConfigError, DataError

_AXES = {"time", "t", "z", "y", "x", "lat", "lon", "latitude", "longitude", "level", "lev", "depth", "height"}
_FEATURE_DIMS = ("feature", "features", "band", "bands", "channel", "channels", "variable")


def resolve(
    store: Store,
    features: Sequence[str] | str | None = None,
    sample_dims: Sequence[str] | None = None,
    feature_dim: str | None = None,
    weights: str | None = None,
    block_rows: int | None = None,
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
    block_rows : int, optional
        Rows of a chunk, where the store has none of its own.

    Raises
    ------
    DataError
        If a variable or dimension does not exist, or cannot be a feature.
    """
    opened = opened_anew(store)
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
    shape = tuple(sizes[dim] for dim in sample)
    dtype = native([variables[name].decoded_dtype for name in names])
    columns = _columns(opened, names[0], feature_dim, sizes) if feature_dim else names
    if not columns:
        raise DataError(f"'{names[0]}' in {where} has no features: '{feature_dim}' has length 0.")
    stored = opened.chunks.get(names[0])
    if stored is None:  # contiguous: cut along the leading dimensions, as the bytes lie
        cuts = leading_sizes([sizes[dim] for dim in shared], block_rows or rows_per_chunk(len(columns)))
        chunk = dict(zip(shared, cuts, strict=True))
    else:
        chunk = dict(zip(dims, stored, strict=True))
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
    kept = {
        name: variable.attrs[name]
        for name in ("units", "long_name", "grid_mapping")
        if name in variable.attrs
    }
    return plain_attrs(kept)


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names) or "none"


def _shape(sizes: Mapping[str, int]) -> str:
    return "(" + ", ".join(f"{dim}: {size}" for dim, size in sizes.items()) + ")"
