"""Where small files of a run lie: whole or not there, durable, replaced only by who saw the last version.

The same few operations on a folder and on an object store, so that locks and checkpoints are written once.
A *version* tells one content of a name from another: a digest here, the store's own tag there.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import re
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, Self

from distem.errors import RunFolderError, TooLargeError

_PART = re.compile(r"[A-Za-z0-9_.-]+")
_NO_LINKS = (errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK, errno.EXDEV)


class Store(Protocol):
    """Named contents. Names are relative, with slashes.

    What several processes may `create` or `swap` differs by its writer: a store that lost an acknowledgement
    finds its own content there, and takes that for done.
    """

    @property
    def where(self) -> str:
        """The place, for messages."""

    def get(self, name: str, most: int | None = None) -> tuple[bytes, str] | None:
        """Return a content and its version, or None where there is none.

        Raises
        ------
        TooLargeError
            It has more than `most` bytes.
        """

    def put(self, name: str, data: bytes) -> str:
        """Write a content, whatever was there; return its version."""

    def create(self, name: str, data: bytes) -> str | None:
        """Write a content where there is none; return its version, or None where there is one."""

    def swap(self, name: str, data: bytes, version: str) -> str | None:
        """Replace a content if it still has that version; return the new version, or None if it has not."""

    def delete(self, name: str) -> None:
        """Remove a name and all below it, if it is there."""

    def drop(self, name: str, version: str) -> bool:
        """Remove a name if it still has that version; return False where the store cannot in one step."""

    def names(self, folder: str) -> list[str]:
        """Return what lies right below a folder, sorted; scraps of unfinished writes left out."""

    def sweep(self) -> None:
        """Remove scraps of writes that were killed; by who holds the lease, as their writers are gone."""

    def brief(self) -> Self:
        """The same store, asked once and not for long: for what may fail."""


def write_atomically(path: Path, text: str) -> None:
    """Write a file so that a reader, or a crash, meets the old text or the new one."""
    _write(path, text.encode(), lambda beside: beside.replace(path))


def _write(path: Path, data: bytes, publish: Any) -> None:
    beside = path.with_name(f".{path.name}.{secrets.token_hex(4)}.partial")
    try:
        with beside.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        publish(beside)
    except BaseException:
        beside.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Have a folder's entries on the disk, where the file system can be asked to."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP, errno.EBADF):
            raise
    finally:
        os.close(handle)


@dataclass(frozen=True)
class LocalStore:
    """A folder.

    Parameters
    ----------
    path : Path
        The folder; made by the first write.
    """

    path: Path

    @property
    def where(self) -> str:
        """The folder."""
        return str(self.path)

    def _at(self, name: str) -> Path:
        parts = name.split("/")
        if not all(_PART.fullmatch(part) and part not in (".", "..") for part in parts):
            raise RunFolderError(f"{name!r} is no name below {self.path}.", "Leave the run folder as it is.")
        at = self.path
        for part in parts:
            at = at / part
            if at.is_symlink():  # whoever put it there, nothing is written through it
                raise RunFolderError(
                    f"{at} is a symbolic link.", "Put the run folder itself elsewhere, not its parts."
                )
        return at

    def get(self, name: str, most: int | None = None) -> tuple[bytes, str] | None:
        """Read a file."""
        try:
            with self._at(name).open("rb") as file:
                size = os.fstat(file.fileno()).st_size
                if most is not None and size > most:
                    raise TooLargeError(
                        f"{self.path / name} has {size:,} bytes, more than the {most:,} it can."
                    )
                data = file.read()
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
            return None
        return data, hashlib.sha256(data).hexdigest()

    def put(self, name: str, data: bytes) -> str:
        """Write beside, sync, rename, sync the folder."""
        path = self._folder_of(name)
        _write(path, data, lambda beside: beside.replace(path))
        return hashlib.sha256(data).hexdigest()

    def create(self, name: str, data: bytes) -> str | None:
        """Write beside and link: a link to a name that is taken fails, on network file systems too."""
        path = self._folder_of(name)

        def publish(beside: Path) -> None:
            try:
                os.link(beside, path)
            except OSError as error:
                if error.errno not in _NO_LINKS:
                    raise
                with self._alone():
                    if path.exists():
                        raise FileExistsError(path) from None
                    beside.replace(path)
            beside.unlink(missing_ok=True)

        try:
            _write(path, data, publish)
        except (FileExistsError, FileNotFoundError):  # the second: who has the lease swept it away
            return None
        return hashlib.sha256(data).hexdigest()

    def swap(self, name: str, data: bytes, version: str) -> str | None:
        """Compare and replace, alone in the folder meanwhile."""
        with self._alone():
            found = self.get(name)
            if found is None or found[1] != version:
                return None
            return self.put(name, data)

    def delete(self, name: str) -> None:
        """Remove a file or folder."""
        import shutil

        path = self._at(name)
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            with suppress(NotADirectoryError):
                path.unlink(missing_ok=True)

    def names(self, folder: str) -> list[str]:
        """List a folder."""
        path = self._at(folder) if folder else self.path
        if not path.is_dir():
            return []
        return sorted(p.name for p in path.iterdir() if not p.name.endswith(".partial"))

    def _folder_of(self, name: str) -> Path:
        path = self._at(name)
        missing = []
        parent = path.parent
        while not parent.exists():
            missing.append(parent)
            parent = parent.parent
        for folder in reversed(missing):
            folder.mkdir(exist_ok=True)
            sync_folder(folder.parent)
        return path

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Hold the folder against other processes for a moment; the system lets go when this one ends."""
        path = self._folder_of(".lock")
        while True:
            handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
            try:
                self._flock(handle)
                if not path.exists() or path.stat().st_ino != os.fstat(handle).st_ino:
                    continue  # a run that came to nothing took the file away meanwhile
                yield
                return
            finally:
                os.close(handle)

    def _flock(self, handle: int) -> None:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX)
        except OSError as error:
            if error.errno not in (errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP):
                raise
            raise RunFolderError(
                f"The file system of {self.path} has no locks ({error.strerror}).",
                "Choose an output.path on one that has.",
            ) from error

    def drop(self, name: str, version: str) -> bool:
        """Compare and remove, alone in the folder meanwhile."""
        with self._alone():
            found = self.get(name)
            if found is not None and found[1] == version:
                self.delete(name)
        return True

    def sweep(self) -> None:
        """Remove scraps right in the folder; who compares and replaces there meanwhile is waited for."""
        with self._alone():
            for path in self.path.glob(".*.partial"):
                if path.is_file() and not path.is_symlink():
                    path.unlink(missing_ok=True)

    def brief(self) -> Self:
        """Itself: a folder answers at once."""
        return self

    def vacate(self) -> None:
        """Remove the lock of a folder that comes to nothing, and the folder, if nothing else is there."""
        if not self.path.is_dir() or any(p.name != ".lock" for p in self.path.iterdir()):
            return
        with self._alone():
            if [p.name for p in self.path.iterdir()] == [".lock"]:
                self.delete(".lock")
                self.path.rmdir()
