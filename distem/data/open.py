"""Open what a config names as data."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from distem.data.safety import require_scheme
from distem.data.source import Source
from distem.errors import ConfigError

if TYPE_CHECKING:
    from distem.data.derive import Derive
    from distem.data.variables import Store

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
    decoder: str = "zarr",
    derive: Derive | None = None,
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
    decoder : {"zarr", "zarrs"}, optional
        What decodes a Zarr store: Zarr's own codecs, or those of the zarrs package.
    derive : Derive, optional
        Features to make of a raster's bands.

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
    require_scheme(path, "data.path")
    if derive is not None:
        from distem.data.derive import derived

        keywords = (features, sample_dims, feature_dim, weights, group, storage_options, block_rows, decoder)
        return derived(open_source(kind, path, *keywords), derive)
    if kind in ("zarr", "netcdf"):
        store: Store
        if kind == "zarr":
            from distem.data.zarr_store import ZarrStore

            store = ZarrStore.at(path, group, storage_options, decoder)
        else:
            from distem.data.netcdf import NetcdfStore

            store = NetcdfStore.at(path, group, storage_options)
        from distem.data.resolve import resolve

        return resolve(store, features, sample_dims, feature_dim, weights, block_rows)
    return _opener(kind)(path, features, sample_dims, feature_dim, weights, storage_options, block_rows)


def _opener(kind: str) -> Callable[..., Source]:
    if kind == "parquet":
        from distem.data.parquet import open_parquet

        return open_parquet
    if kind == "npy":
        from distem.data.npy import open_npy

        return open_npy
    if kind == "csv":
        from distem.data.csv_files import open_csv

        return open_csv
    from distem.data.images import open_image

    return open_image


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
    bands = features
    if "derive" in described:
        from distem.data.derive import Derive

        options.setdefault("derive", Derive.from_description(described["derive"]))
        bands = list(described["derive"]["bands"])
    if kind == described["kind"]:
        options.setdefault("features", list(described["variables"]))
        options.setdefault("feature_dim", described["feature_dim"])
    elif kind != "npy":
        options.setdefault("features", bands)
    source = open_source(kind, path, **options)
    source.require(features)
    return source
