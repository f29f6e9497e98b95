"""NetCDF 4 and plain HDF5 through h5netcdf, NetCDF 3 through SciPy."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from distem.data._names import need, no_such
from distem.data.files import expand, frozen, is_url, open_binary, stamp
from distem.data.source import reason
from distem.data.variables import Opened, Stored
from distem.data.zarr_store import NO_INDEXES
from distem.errors import DataError

_SMALL = 8 * 1024  # values: below it a chunk is too little to be a file of the result


@dataclass(frozen=True)
class NetcdfStore:
    """A NetCDF or HDF5 file.

    Attributes
    ----------
    path : str
        Local path or URL.
    group : str
        Path of the group inside it; "" for the root.
    options : str
        Storage options; they may hold secrets and are not shown.
    version : tuple of int
        Tells a rewritten file from the one that is held open.
    """

    path: str
    group: str = ""
    options: str = field(default="{}", repr=False)
    version: tuple[int, ...] = ()

    kind = "netcdf"
    keeps = False

    @classmethod
    def at(cls, path: str, group: str | None = None, options: Mapping[str, Any] | None = None) -> NetcdfStore:
        """Describe the file at a path."""
        kept = frozen(options)
        found, *more = expand(path, (".nc", ".nc4", ".h5", ".hdf5", ".cdf"), kept)
        if more:
            raise DataError(f"{path} holds {len(more) + 1} files, and one is read.", "Combine them into one.")
        return cls(found, (group or "").strip("/"), kept, stamp(found))

    @property
    def where(self) -> str:
        """The file's name in errors."""
        return f"{self.path}/{self.group}" if self.group else self.path

    def open(self) -> Opened:
        """Open it.

        Raises
        ------
        ConfigError
            If the library that reads it is not installed.
        DataError
            If it is no such file, or has no such group.
        """
        with open_binary(self.path, self.options) as file:
            magic = file.read(8)
        if magic.startswith(b"CDF"):
            return self._open("scipy")
        if not magic.startswith(b"\x89HDF"):
            raise DataError(f"{self.path} is neither NetCDF nor HDF5.", "Check data.path and data.kind.")
        try:
            importlib.import_module("h5netcdf")
        except ImportError as error:
            raise need("netcdf", "Reading NetCDF", error) from error
        return self._open("h5netcdf", phony_dims="access")

    def _open(self, engine: str, **options: Any) -> Opened:
        try:
            dataset = xr.open_dataset(
                open_binary(self.path, self.options) if is_url(self.path) else self.path,
                engine=engine,
                group=self.group or None,
                decode_cf=False,
                **options,
                **NO_INDEXES,
            )
        except (OSError, KeyError, ValueError, TypeError) as error:
            groups = self._groups() if engine == "h5netcdf" else []
            if self.group and self.group not in groups:
                raise no_such("group", self.group, groups, self.path) from error
            raise DataError(
                f"{self.where} cannot be opened: {reason(error)}.", "The file is damaged."
            ) from error
        variables = {str(name): Stored.of(v) for name, v in dataset.variables.items()}
        arrays = {str(name): _Slicer(v) for name, v in dataset.variables.items()}
        chunks = {}
        for name, variable in dataset.variables.items():
            sizes = variable.encoding.get("chunksizes")
            if sizes is not None and not variable.encoding.get("contiguous"):
                chunks[str(name)] = _coarse(tuple(map(int, sizes)), tuple(variable.shape))
        return Opened(variables, arrays, chunks, dict(dataset.attrs), close=dataset.close)

    def _groups(self) -> list[str]:
        import h5py

        found: list[str] = []
        try:
            with open_binary(self.path, self.options) as raw, h5py.File(raw, "r") as file:
                file.visititems(
                    lambda name, node: found.append(name) if isinstance(node, h5py.Group) else None
                )
        except OSError:
            return []
        return found


def _coarse(sizes: tuple[int, ...], shape: tuple[int, ...]) -> tuple[int, ...]:
    """Join tiny chunks, last dimension first: inside one file they cost little, as files of a result much."""
    joined = [max(1, min(size, length)) for size, length in zip(sizes, shape, strict=True)]
    for axis in reversed(range(len(shape))):
        held = int(np.prod(joined))
        if held >= _SMALL:
            break
        joined[axis] = min(max(1, shape[axis]), joined[axis] * -(-_SMALL // held))
    return tuple(joined)


@dataclass(frozen=True, eq=False)
class _Slicer:
    """Reads slices of a lazy variable; xarray holds the HDF5 lock meanwhile."""

    variable: xr.Variable

    def __getitem__(self, key: tuple[slice, ...]) -> NDArray[Any]:
        return np.asarray(self.variable[key].values)
