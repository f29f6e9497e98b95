"""Results: ``result.zarr``, its groups, and whether it is complete.

A Zarr v3 store that `xarray.open_datatree` opens. Every chunk is written with its checksum, empty ones
too, so that counting chunks tells whether all is there; the root's ``status`` says so.
"""

from __future__ import annotations

import ctypes
import errno
import os
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal

import numpy as np
import xarray as xr
import zarr

from distem.data._encoding import codecs, target_values
from distem.data._names import plain_attrs
from distem.data.files import is_url
from distem.data.object_store import RemoteStore, fetch, is_objects, objects, reaching
from distem.data.safety import MOST_GROUP_BYTES, doubtful_indexes, require_group_name, require_harmless_group
from distem.data.source import reason
from distem.errors import DataError, Interrupted, TooLargeError

GROUP = "assignment"


def create_result(
    path: str,
    attrs: Mapping[str, Any] | None = None,
    storage_options: Mapping[str, Any] | None = None,
) -> None:
    """Make an empty result store, marked incomplete; what was there is deleted.

    Parameters
    ----------
    path : str
        Local path or URL.
    attrs : mapping, optional
        Attributes of the root, JSON-able.
    storage_options : mapping, optional
        For URLs.
    """
    about = {"Conventions": "CF-1.11", **plain_attrs(attrs or {}), "status": "incomplete"}
    with writing(path):
        opened(path, "w", storage_options, zarr_format=3, attributes=about)


def write_group(
    path: str, name: str, dataset: xr.Dataset, storage_options: Mapping[str, Any] | None = None
) -> None:
    """Write a small dataset as a group of the result; what the group held is replaced.

    Parameters
    ----------
    path : str
        The result store; made if there is none.
    name : str
        "model", "trace", "selection" ...
    dataset : xarray.Dataset
        In memory; attributes JSON-able.
    storage_options : mapping, optional
        For URLs.

    Raises
    ------
    Interrupted
        If the disk is full.
    """
    require_group_name(name)
    texts = {
        key: v.copy(data=target_values(np.asarray(v.values)))
        for key, v in dataset.variables.items()
        if v.dtype.kind in "OSU"
    }
    if texts:
        dataset = dataset.assign_coords({k: v for k, v in texts.items() if k in dataset.coords})
        dataset = dataset.assign({k: v for k, v in texts.items() if k not in dataset.coords})
    encoding: dict[Any, dict[str, Any]] = {}
    for key, variable in dataset.variables.items():
        encoding[key] = {"compressors": codecs()}
        if variable.dtype.kind == "f":
            encoding[key]["_FillValue"] = None
    with writing(path):
        root = open_root(path, storage_options)  # drops consolidated metadata, which would go stale
        complete = root.attrs.get("status") == "complete"
        dataset.drop_encoding().to_zarr(
            place(path, storage_options),
            group=name,
            mode="w",
            zarr_format=3,
            consolidated=False,
            encoding=encoding,
            write_empty_chunks=True,
            storage_options=dict(storage_options) if storage_options else None,
        )
        if complete:
            _consolidate(path, storage_options)


def finalise(path: str, storage_options: Mapping[str, Any] | None = None) -> None:
    """Check that every chunk of the assignment is there, then mark the result complete.

    Raises
    ------
    DataError
        If chunks are missing; names the arrays and how many.
    Interrupted
        If the disk is full.
    """
    with writing(path):
        root = open_root(path, storage_options)
        lacking = []
        if GROUP in root:
            group = root[GROUP]
            arrays = dict(group.arrays()) if isinstance(group, zarr.Group) else {}
            for name, array in sorted(arrays.items()):
                there, all_of_them = array.nchunks_initialized, array.nchunks
                if there != all_of_them and array.size:
                    lacking.append(f"'{name}' has {there:,} of {all_of_them:,} chunks")
        if lacking:
            raise DataError(
                f"The assignment in {path} is not complete: {'; '.join(lacking)}.",
                "Run the same command again: it writes what is missing.",
            )
        _sync(path)
        about = {**root.attrs, "status": "complete"}
        about.pop("attempt", None)
        root.attrs.put(about)
        # without it xarray warns that opening is slow
        _consolidate(path, storage_options)
        _sync(path)  # the mark as well: what the run could go on from is removed next


def status(path: str, storage_options: Mapping[str, Any] | None = None) -> str | None:
    """Return "complete" or "incomplete", or None if there is no result store."""
    try:
        root = opened(path, "r", storage_options)
    except (FileNotFoundError, ValueError, KeyError):
        return None
    found = root.attrs.get("status")
    return found if isinstance(found, str) else None


def attempt(path: str) -> str | None:
    """Return what tells an unfinished result from others that lay there, or None."""
    try:
        root = opened(path)
    except (FileNotFoundError, ValueError, KeyError):
        return None
    found = root.attrs.get("attempt")
    return found if root.attrs.get("status") == "incomplete" and isinstance(found, str) else None


def _sync(path: str) -> None:
    """Have all that was written on the disk."""
    if not is_url(path):
        handle = os.open(path, os.O_RDONLY)
        try:
            libc = ctypes.CDLL(None, use_errno=True)
            if not hasattr(libc, "syncfs"):
                os.sync()
            elif libc.syncfs(handle) != 0:  # what was written may not be there
                code = ctypes.get_errno()
                raise OSError(code, os.strerror(code), path)
        finally:
            os.close(handle)


def assigned(path: str, name: str) -> zarr.Array[Any]:
    """A variable of the assignment, to be sliced."""
    array = opened(path)[f"{GROUP}/{name}"]
    if not isinstance(array, zarr.Array):
        raise DataError(f"'{name}' in {path} is no array.", "Write the assignment first.")
    return array


def place(path: str, storage_options: Mapping[str, Any] | None = None) -> Any:
    """What zarr and xarray take for a result's path: for a URL of S3 its store, by obstore."""
    if not is_objects(path) or storage_options:
        return path
    from zarr.storage import ObjectStore

    return ObjectStore(objects(path))


def opened(
    path: str,
    mode: Literal["r", "r+", "w"] = "r",
    storage_options: Mapping[str, Any] | None = None,
    **more: Any,
) -> zarr.Group:
    """Open a result's root, without consolidated metadata."""
    with reaching(path):
        return zarr.open_group(
            place(path, storage_options),
            mode=mode,
            use_consolidated=False,
            storage_options=dict(storage_options) if storage_options else None,
            **more,
        )


def holds(path: str, name: str) -> bool:
    """Whether a file or object is there, below a result's path."""
    if is_objects(path):
        return RemoteStore(objects(path), path).has(name)
    return os.path.exists(os.path.join(path, name))


def group(path: str, name: str, **more: Any) -> xr.Dataset | None:
    """Open a group as a dataset, to be read as needed and closed; None where there is none.

    In a folder, coordinates of dimensions that are not as distem writes them are left out.
    """
    with reaching(path):
        if not holds(path, f"{name}/zarr.json"):
            return None
        left_out = [] if is_objects(path) else doubtful_indexes(Path(path) / name)
        held: xr.Dataset = xr.open_zarr(
            place(path), group=name, consolidated=False, chunks=None, drop_variables=left_out, **more
        )
        return held


def loaded(path: str, name: str) -> xr.Dataset | None:
    """Return a small group in memory, after a look at what it says it holds; None where there is none.

    Raises
    ------
    DataError
        It is larger or other than distem writes them.
    """
    if is_objects(path):
        with TemporaryDirectory(prefix="distem-") as scratch:
            try:
                fetch(path, Path(scratch), MOST_GROUP_BYTES, name)
            except TooLargeError as error:
                raise DataError(error.fact, "Use a run folder you trust.") from error
            return loaded(scratch, name)
    if not holds(path, f"{name}/zarr.json"):
        return None
    require_harmless_group(Path(path) / name)
    with xr.open_zarr(path, group=name, consolidated=False, chunks=None, decode_times=False) as held:
        small: xr.Dataset = held.load()
    return small


def open_root(path: str, storage_options: Mapping[str, Any] | None) -> zarr.Group:
    """Open the root for writing, without consolidated metadata."""
    if status(path, storage_options) is None:
        create_result(path, storage_options=storage_options)
    root = opened(path, "r+", storage_options)
    root.update_attributes({})
    return root


def _consolidate(path: str, storage_options: Mapping[str, Any] | None) -> None:
    root = opened(path, "r+", storage_options)
    with warnings.catch_warnings():
        # Zarr v3 has not written consolidated metadata into its specification yet
        warnings.simplefilter("ignore")
        zarr.consolidate_metadata(root.store)


@contextmanager
def writing(path: str) -> Iterator[None]:
    """Say a full disk, or a store that is gone, in a sentence: running again is all there is to do."""
    try:
        with reaching(path):
            yield
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise Interrupted(
            f"The disk is full: {path} could not be written ({reason(error)}).",
            "Free some space and run the same command to go on.",
        ) from error
