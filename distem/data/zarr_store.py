"""Zarr v2 and v3: groups by xarray's conventions, groups without dimension names, plain arrays."""

from __future__ import annotations

import importlib
import inspect
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import xarray as xr
import zarr
from zarr.errors import GroupNotFoundError

from distem.data._names import need, no_such
from distem.data.files import frozen, is_url, stamp, thawed
from distem.data.lost import is_lost, store_lost
from distem.data.safety import refuse_code
from distem.data.source import reason
from distem.data.variables import Opened, Stored
from distem.errors import ConfigError, DataError

# indexes of dimension coordinates would be loaded whole: a coordinate may be as long as the data
NO_INDEXES: dict[str, Any] = (
    {"create_default_indexes": False}
    if "create_default_indexes" in inspect.signature(xr.open_dataset).parameters
    else {}
)


@dataclass(frozen=True)
class ZarrStore:
    """A Zarr store by its path.

    Attributes
    ----------
    path : str
        Local path or URL.
    group : str
        Path of the group inside it; "" for the root.
    options : str
        Storage options as JSON; they may hold secrets and are not shown.
    decoder : {"zarr", "zarrs"}
        Zarr's own codecs, or those of the zarrs package, in Rust: the same values.
    version : tuple of int
        Tells a rewritten store from the one that is held open.
    """

    path: str
    group: str = ""
    options: str = field(default="{}", repr=False)
    version: tuple[int, ...] = ()
    decoder: str = "zarr"

    kind = "zarr"
    keeps = False

    @classmethod
    def at(
        cls,
        path: str,
        group: str | None = None,
        options: Mapping[str, Any] | None = None,
        decoder: str = "zarr",
    ) -> ZarrStore:
        """Describe the store at a path.

        Raises
        ------
        ConfigError
            The decoder is none, or cannot read from a URL.
        """
        if decoder not in ("zarr", "zarrs"):
            raise ConfigError(f"There is no decoder {decoder}.", "data.decoder can be zarr or zarrs.")
        if is_url(path):
            if decoder == "zarrs":
                raise ConfigError(
                    "data.decoder is zarrs, which reads local stores.", "Leave it out for URLs."
                )
            return cls(path, group or "", frozen(options))
        path = os.path.abspath(path)
        names = ("zarr.json", ".zgroup", ".zarray", ".zattrs", ".zmetadata")
        version = stamp(*(os.path.join(path, name) for name in names))
        return cls(path, group or "", frozen(options), version, decoder)

    @property
    def where(self) -> str:
        """The store's name in errors."""
        return f"{self.path}/{self.group}" if self.group else self.path

    @property
    def _keywords(self) -> dict[str, Any]:
        options = thawed(self.options)
        return {"storage_options": options} if options else {}

    def open(self) -> Opened:
        """Open it.

        Raises
        ------
        DataError
            If there is no Zarr store, or no such group.
        ConfigError
            If what decodes it is not installed.
        """
        with _decoding(self.decoder):
            return self._open()

    def _open(self) -> Opened:
        if not is_url(self.path) and not os.path.exists(self.path):
            raise DataError(f"There is no Zarr store at {self.path}.", "Check data.path.")
        try:
            held = zarr.open(self.path, path=self.group or None, mode="r", **self._keywords)
        except ImportError as error:
            raise need("remote", f"Reading {self.path.split('://')[0]}:// stores", error) from error
        except (FileNotFoundError, GroupNotFoundError) as error:
            raise self._missing() from error
        except Exception as error:  # object stores raise errors of their own
            if is_lost(error):
                raise store_lost(error) from error
            raise DataError(
                f"{self.where} cannot be opened as Zarr: {reason(error)}.",
                "Check data.path, data.kind and, for a URL, its credentials.",
            ) from error
        if isinstance(held, zarr.Array):
            return open_array(held)
        return self._open_group(held)

    def _missing(self) -> DataError:
        if self.group:
            try:
                root = zarr.open_group(self.path, mode="r", **self._keywords)
                groups = [name for name, node in root.members(max_depth=None) if isinstance(node, zarr.Group)]
            except (OSError, ValueError, KeyError):
                groups = []
            if groups:
                return no_such("group", self.group, groups, self.path)
        return DataError(f"There is no Zarr store at {self.where}.", "Check data.path and data.group.")

    def _open_group(self, group: zarr.Group) -> Opened:
        # a store lists its arrays in whatever order the answers come in
        try:
            arrays = dict(sorted(group.arrays()))
        except (ValueError, TypeError, KeyError, RecursionError) as error:
            raise DataError(
                f"An array in {self.where} cannot be read: {reason(error)}.", "Have it written as numbers."
            ) from error
        for name, array in arrays.items():
            refuse_code(name, array.metadata, self.where)
        named = all(_dims(array) is not None for array in arrays.values())
        if not named:
            variables = {name: _variable(array) for name, array in arrays.items()}
            return Opened(variables, arrays, _chunks(arrays), dict(group.attrs), _key(arrays))
        dataset = xr.open_dataset(
            self.path,
            engine="zarr",
            group=self.group or None,
            chunks=None,
            decode_cf=False,
            consolidated=False,
            **({"storage_options": self._keywords["storage_options"]} if self._keywords else {}),
            **NO_INDEXES,
        )
        found = sorted((str(name), variable) for name, variable in dataset.variables.items())
        variables = {name: Stored.of(variable) for name, variable in found}
        return Opened(variables, arrays, _chunks(arrays), dict(dataset.attrs), _key(arrays))


@contextmanager
def _decoding(decoder: str) -> Iterator[None]:
    """Choose what decodes the arrays that are opened meanwhile."""
    if decoder == "zarr":
        yield
        return
    try:
        importlib.import_module("zarrs")
    except ImportError as error:
        raise need("zarrs", "data.decoder: zarrs", error) from error
    with zarr.config.set({"codec_pipeline.path": "zarrs.ZarrsCodecPipeline"}):
        yield


@dataclass(frozen=True, eq=False)
class HeldZarr:
    """A `zarr.Array` that the caller holds."""

    array: zarr.Array[Any]

    kind = "zarr"
    keeps = True

    @property
    def where(self) -> str:
        """The array's name in errors."""
        return f"the Zarr array at {self.array.store_path}"

    def open(self) -> Opened:
        """Return it, opened."""
        return open_array(self.array)


def open_array(array: zarr.Array[Any]) -> Opened:
    """Open a plain array: one variable, named by its path, its last dimension the features."""
    name = array.basename or "x"
    refuse_code(name, array.metadata, str(array.store_path))
    variable = _variable(array)
    arrays = {name: array}
    return Opened({name: variable}, arrays, _chunks(arrays), dict(array.attrs), _key(arrays))


def _dims(array: zarr.Array[Any]) -> tuple[str, ...] | None:
    names = getattr(array.metadata, "dimension_names", None) or array.attrs.get("_ARRAY_DIMENSIONS")
    if names is None and array.ndim == 0:
        return ()
    if not isinstance(names, tuple | list) or any(name is None for name in names):
        return None
    return tuple(str(name) for name in names)


def _variable(array: zarr.Array[Any]) -> Stored:
    dims = _dims(array) or tuple(f"dim_{axis}" for axis in range(array.ndim))
    attrs = {k: v for k, v in array.attrs.items() if k != "_ARRAY_DIMENSIONS"}
    return Stored(dims, tuple(array.shape), np.dtype(array.dtype), attrs)


def _chunks(arrays: Mapping[str, zarr.Array[Any]]) -> dict[str, tuple[int, ...]]:
    return {name: tuple(array.shards or array.chunks) for name, array in arrays.items()}


def _key(arrays: Mapping[str, zarr.Array[Any]]) -> Any:
    return lambda name, at: arrays[name].metadata.encode_chunk_key(at)
