"""Whether the data stays as it was while it is read, and whether all of it is there.

A pass reads what lies there now. A file that is rewritten or removed between two passes would make a fit of
neither the old data nor the new; a chunk of a Zarr store that is not there reads as its fill value, in
silence. Both are looked for where they can be named: in sizes and times of files, and in lists of chunks.
"""

from __future__ import annotations

import glob
import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import zarr

from distem.data.files import is_url
from distem.data.source import Source
from distem.data.variables import VariablesReader, opened
from distem.errors import DataError

_Seen = dict[str, tuple[int, int]]


@dataclass(frozen=True)
class Unchanged:
    """Files of the data as they were when they were first looked at.

    Attributes
    ----------
    path : str
        What the config names.
    seen : mapping of str to (int, int)
        Time and size of each file.
    but : str
        A folder whose files are not the data's: that of the run.
    """

    path: str
    seen: Mapping[str, tuple[int, int]]
    but: str

    @classmethod
    def now(cls, path: str, but: str) -> Unchanged:
        """Look at the files of a path, folder or pattern; those behind a URL are not looked at."""
        return cls(path, _look(path, but), but)

    @property
    def stamp(self) -> str | None:
        """What tells these files from others, or later ones; None where none are looked at."""
        told = sorted((os.path.relpath(name, self.path), *was) for name, was in self.seen.items())
        return hashlib.sha256(json.dumps(told).encode()).hexdigest() if told else None

    def require(self) -> None:
        """Look again.

        Raises
        ------
        DataError
            A file was changed or removed meanwhile; names the array and the chunk.
        """
        if not self.seen:
            return
        now = _look(self.path, self.but)
        changed = [name for name, was in self.seen.items() if now.get(name) != was]
        if changed:
            first = changed[0]
            how = "was changed" if first in now else "is gone"
            what = f"{_named(self.path, first)} {how}"
            more = f", and {len(changed) - 1} more" if len(changed) > 1 else ""
            raise DataError(
                f"The data changed while it was being read: {what} ({first}{more}).",
                "Restore it and run the same command to go on, or begin again with --fresh.",
            )


def _look(path: str, but: str) -> _Seen:
    if is_url(path):
        return {}
    paths = glob.glob(path, recursive=True) if glob.has_magic(path) and not os.path.exists(path) else [path]
    found: _Seen = {}
    for each in paths:
        for entry in _files(each):
            if not entry.startswith(but + os.sep):
                try:
                    about = os.stat(entry)
                except FileNotFoundError:
                    continue
                found[entry] = about.st_mtime_ns, about.st_size
    return found


def _files(path: str) -> Iterator[str]:
    if not os.path.isdir(path):
        yield path
    for folder, _, names in os.walk(path):
        for name in names:
            if not name.endswith(".partial"):
                yield os.path.join(folder, name)


def _named(path: str, file: str) -> str:
    """What a file is: a chunk of an array, by the ways in which Zarr names them, or a file."""
    inside = os.path.relpath(file, path).replace(os.sep, "/") if os.path.isdir(path) else ""
    array, c, chunk = inside.partition("/c/")
    if c:
        return f"chunk {chunk} of '{array}'"
    array, _, chunk = inside.rpartition("/")
    if array and chunk.replace(".", "").isdigit():
        return f"chunk {chunk} of '{array}'"
    return "a file"


def absent_chunks(source: Source) -> list[tuple[str, bool]]:
    """Sentences on arrays of a Zarr store that lack chunks, and whether those read as missing values.

    Where they read as missing values they are counted as such; elsewhere they pass for data.
    """
    reader: Any = source.reader
    reader = getattr(reader, "reader", reader)  # behind derived features
    if not isinstance(reader, VariablesReader) or reader.store.kind != "zarr":
        return []
    held = opened(reader.store)
    said = []
    for name in dict.fromkeys([*source.variables, *([source.weights] if source.weights else [])]):
        array = held.arrays.get(name)
        if not isinstance(array, zarr.Array) or not array.size:
            continue
        there, whole = array.nchunks_initialized, array.nchunks
        if there >= whole:
            continue
        fill = array.fill_value
        missing = held.variables[name].attrs.get("_FillValue")
        is_missing = (np.dtype(array.dtype).kind == "f" and bool(np.isnan(fill))) or (
            missing is not None and np.ndim(missing) == 0 and str(missing) == str(fill)
        )
        first = _first_absent(reader.store.where, array, held.key, name)
        sentence = (
            f"{whole - there:,} of {whole:,} chunks of '{name}' in {reader.store.where} are not there"
            f"{first} and read as the fill value {fill}"
        )
        said.append((sentence, is_missing))
    return said


def _first_absent(where: str, array: zarr.Array[Any], key: Any, name: str) -> str:
    if is_url(where):
        return ""
    for at in np.ndindex(*array.cdata_shape):
        found = key(name, at)
        if not os.path.exists(os.path.join(where, array.basename or "", found)):
            return f", the first {found},"
    return ""
