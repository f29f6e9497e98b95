"""Files by path, folder, glob or URL, and what is held of them in a process."""

from __future__ import annotations

import gc
import glob
import json
import os
import threading
import weakref
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO, Generic, TypeVar, cast

from distem.data._names import need
from distem.data.lost import is_lost, store_lost
from distem.errors import DataError

T = TypeVar("T")


def is_url(path: str) -> bool:
    """Whether a path names an object store rather than a local file."""
    return "://" in path


def frozen(options: Mapping[str, Any] | None) -> str:
    """Return options as one hashable value."""
    return json.dumps(dict(options or {}), sort_keys=True)


def thawed(options: str) -> dict[str, Any]:
    """Return options that were frozen."""
    return dict(json.loads(options))


def stamp(*paths: str | Path) -> tuple[int, ...]:
    """Return sizes and times of local files: a rewritten one must not be taken for the one held open."""
    found = []
    for path in map(Path, paths):
        if path.is_file():
            stat = path.stat()
            found += [stat.st_mtime_ns, stat.st_size]
    return tuple(found)


def expand(path: str, suffixes: Sequence[str], options: str = "{}") -> tuple[str, ...]:
    """Return the files that a path, folder, glob or URL names, sorted.

    Parameters
    ----------
    path : str
        A file, a folder (all its files with one of the suffixes), or a glob pattern.
    suffixes : sequence of str
        With the dot, lower case.
    options : str
        Frozen storage options.

    Raises
    ------
    DataError
        If there is no such file, or the folder or pattern holds none.
    """
    if is_url(path):
        return _expand_url(path, suffixes, options)
    path = os.path.abspath(path)
    if os.path.isfile(path):
        return (path,)
    if os.path.isdir(path):
        found = [
            os.path.join(folder, name)
            for folder, _, names in os.walk(path)
            for name in names
            if not name.startswith(("_", "."))
        ]
    elif glob.has_magic(path):
        found = glob.glob(path, recursive=True)
        found = [name for name in found if os.path.isfile(name)]
        if found:
            return tuple(sorted(found))
    else:
        raise DataError(f"There is no file {path}.", "Check data.path.")
    return _chosen(path, found, suffixes)


def _chosen(path: str, found: Sequence[str], suffixes: Sequence[str]) -> tuple[str, ...]:
    files = tuple(sorted(name for name in found if os.path.splitext(name)[1].lower() in suffixes))
    if not files:
        raise DataError(f"{path} holds no {' or '.join(suffixes)} files.", "Check data.path.")
    return files


def _expand_url(path: str, suffixes: Sequence[str], options: str) -> tuple[str, ...]:
    try:
        import fsspec

        system, inner = fsspec.core.url_to_fs(path, **thawed(options))
        is_file, is_folder = system.isfile(inner), system.isdir(inner)
    except ImportError as error:
        raise need("remote", f"Reading {path.split('://')[0]}:// files", error) from error
    except Exception as error:  # object stores raise errors of their own
        if is_lost(error):
            raise store_lost(error) from error
        raise DataError(
            f"{path} cannot be reached: {type(error).__name__}: {error}.",
            "Check data.path and its credentials.",
        ) from error
    protocol = path.split("://")[0]
    if glob.has_magic(inner):
        found = sorted(f"{protocol}://{name}" for name in system.glob(inner))
        if not found:
            raise DataError(f"{path} holds no files.", "Check data.path.")
        return tuple(found)
    if is_file:
        return (path,)
    if is_folder:
        return _chosen(path, [f"{protocol}://{name}" for name in system.ls(inner, detail=False)], suffixes)
    raise DataError(f"There is no file {path}.", "Check data.path and its credentials.")


def open_binary(path: str, options: str = "{}") -> BinaryIO:
    """Open a local file or URL for reading bytes."""
    if not is_url(path):
        return open(path, "rb")
    try:
        import fsspec
    except ImportError as error:
        raise need("remote", f"Reading {path.split('://')[0]}:// files", error) from error
    return cast("BinaryIO", fsspec.open(path, "rb", **thawed(options)).open())


_ALL: weakref.WeakSet[Held[Any]] = weakref.WeakSet()


def release() -> None:
    """Close what this process holds open or decoded, so that files may be written again."""
    for held in list(_ALL):
        held.clear()
    gc.collect()  # xarray's objects refer to one another: what was let go earlier may still hold its file


class Held(Generic[T]):
    """A few costly things this process holds, by (hashable) key; each is made once, whoever asks first.

    Parameters
    ----------
    size : int
        How many are held; the least recently used goes.
    """

    def __init__(self, size: int) -> None:
        self._held: OrderedDict[object, tuple[threading.Lock, list[T]]] = OrderedDict()
        self._lock = threading.Lock()
        self._size = size
        _ALL.add(self)

    def clear(self) -> None:
        """Let go of everything, and close what can be closed."""
        with self._lock:
            gone = [kept for _, kept in self._held.values()]
            self._held.clear()
        for kept in gone:
            for each in kept:
                close = getattr(each, "close", None)
                if close is not None:
                    close()

    def get(self, key: object, make: Callable[[], T], fresh: bool = False) -> T:
        """Return what is held under a key, making it first if need be."""
        with self._lock:
            if fresh:
                self._held.pop(key, None)
            lock, kept = self._held.setdefault(key, (threading.Lock(), []))
            self._held.move_to_end(key)
            while len(self._held) > self._size:
                self._held.popitem(last=False)
        with lock:  # others may make other things meanwhile
            if not kept:
                kept.append(make())
            return kept[0]
