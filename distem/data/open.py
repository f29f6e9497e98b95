"""Open what a config names as data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from distem.data.source import Source
from distem.errors import ConfigError

KINDS = ("zarr", "netcdf", "parquet", "npy", "csv", "image")


def open_source(
    kind: str,
    path: str,
    features: Sequence[str] | None = None,
    sample_dims: Sequence[str] | None = None,
    feature_dim: str | None = None,
    weights: str | None = None,
    group: str | None = None,
    storage_options: Mapping[str, Any] | None = None,
    block_rows: int | None = None,
) -> Source:
    """Open data by its kind and path.

    Parameters
    ----------
    kind : {"zarr", "netcdf", "parquet", "npy", "csv", "image"}
        The format.
    path : str
        Local path or URL; for parquet, csv and image also a folder or a glob.
    features : sequence of str, optional
        Variables, columns or bands; by default all numeric ones.
    sample_dims : sequence of str, optional
        The dimensions of the samples, in row order; by default all but the feature dimension.
    feature_dim : str, optional
        The feature dimension of a single variable.
    weights : str, optional
        The variable or column of row weights.
    group : str, optional
        A group inside a Zarr store or NetCDF file.
    storage_options : mapping, optional
        For fsspec, where `path` is a URL.
    block_rows : int, optional
        Rows read at once, for formats that have no chunks of their own.

    Returns
    -------
    Source
        The same for the same data, whoever opens it.

    Raises
    ------
    ConfigError
        If the kind is unknown, an option does not apply to it, or an optional dependency is missing.
    DataError
        If a file, variable or dimension does not exist, or cannot be what it is named for.
    """
    if kind not in KINDS:
        raise ConfigError(f"data.kind is '{kind}'.", f"It can be {', '.join(KINDS)}.")
    if block_rows is not None and block_rows < 1:
        raise ConfigError(f"block_rows is {block_rows}.", "It must be at least 1.")
    if group is not None and kind not in ("zarr", "netcdf"):
        raise ConfigError(f"group is '{group}', but {kind} has no groups.", "Leave data.group out.")
    path = str(path)
    if kind == "zarr":
        from distem.data.resolve import resolve
        from distem.data.zarr_store import ZarrStore

        return resolve(
            ZarrStore.at(path, group, storage_options), features, sample_dims, feature_dim, weights
        )
    raise ConfigError(f"data.kind '{kind}' cannot be read yet.")


def open_like(described: Mapping[str, Any], kind: str, path: str, **options: Any) -> Source:
    """Open other data for a model fitted to a described source.

    Parameters
    ----------
    described : mapping
        `Source.describe()` of the data the model was fitted to.
    kind, path : str
        Format and place of the new data.
    **options
        More of `open_source`'s arguments; `features` and `feature_dim` are those of the model
        where the new data is of the same kind.

    Raises
    ------
    DataError
        If the features differ.
    """
    features = list(described["features"])
    if kind == described["kind"]:
        options.setdefault("features", list(described["variables"]))
        options.setdefault("feature_dim", described["feature_dim"])
    elif kind != "npy":
        options.setdefault("features", features)
    source = open_source(kind, path, **options)
    source.require(features)
    return source
