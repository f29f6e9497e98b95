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
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from distem.data._names import need
from distem.errors import RunFolderError, StoreError, TooLargeError

if TYPE_CHECKING:
    from obstore.store import ObjectStore

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
        except FileExistsError:
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

    def vacate(self) -> None:
        """Remove the lock of a folder that comes to nothing, and the folder, if nothing else is there."""
        if not self.path.is_dir() or any(p.name != ".lock" for p in self.path.iterdir()):
            return
        with self._alone():
            if [p.name for p in self.path.iterdir()] == [".lock"]:
                self.delete(".lock")
                self.path.rmdir()


@dataclass(frozen=True)
class RemoteStore:
    """A prefix in an object store that has conditional puts: S3 and the like, through obstore.

    Parameters
    ----------
    store : obstore.store.ObjectStore
        Already at the prefix.
    where : str
        The place, for messages; no secret in it.
    """

    store: ObjectStore
    where: str

    @classmethod
    def at(cls, url: str, options: Mapping[str, Any] | None = None) -> RemoteStore:
        """Open the store of a URL.

        Raises
        ------
        ConfigError
            obstore is not installed, or does not know the URL.
        """
        try:
            from obstore.store import from_url
        except ImportError as error:
            raise need("remote", f"Writing to {url.partition('://')[0]}:// stores", error) from error
        with _remote(url):
            return cls(from_url(url, **dict(options or {})), url)

    def get(self, name: str, most: int | None = None) -> tuple[bytes, str] | None:
        """Get an object."""
        try:
            with _remote(self.where):
                found = self.store.get(name)
                size = int(found.meta["size"])
                if most is not None and size > most:
                    raise TooLargeError(
                        f"{self.where}/{name} has {size:,} bytes, more than the {most:,} it can."
                    )
                return bytes(found.bytes()), str(found.meta["e_tag"])
        except FileNotFoundError:
            return None

    def put(self, name: str, data: bytes) -> str:
        """Put an object."""
        with _remote(self.where):
            return str(self.store.put(name, data)["e_tag"])

    def create(self, name: str, data: bytes) -> str | None:
        """Put if there is none."""
        from obstore.exceptions import AlreadyExistsError, PreconditionError

        try:
            with _remote(self.where):
                return str(self.store.put(name, data, mode="create")["e_tag"])
        except (AlreadyExistsError, PreconditionError):
            return self._ours(name, data)

    def swap(self, name: str, data: bytes, version: str) -> str | None:
        """Put if the tag is still that one."""
        from obstore.exceptions import AlreadyExistsError, PreconditionError

        try:
            with _remote(self.where):
                return str(self.store.put(name, data, mode={"e_tag": version})["e_tag"])
        except (AlreadyExistsError, PreconditionError, FileNotFoundError):
            return self._ours(name, data)

    def _ours(self, name: str, data: bytes) -> str | None:
        """The version, if what is there is what was to be put: then only the acknowledgement was lost."""
        found = self.get(name)
        return found[1] if found is not None and found[0] == data else None

    def delete(self, name: str) -> None:
        """Delete an object and all below it."""
        with _remote(self.where):
            below = [str(each["path"]) for each in self.store.list(f"{name}/").collect()]
            for path in [*below, name]:
                with suppress(FileNotFoundError):
                    self.store.delete(path)

    def drop(self, name: str, version: str) -> bool:  # noqa: ARG002
        """Leave it: object stores have no conditional delete."""
        return False

    def names(self, folder: str) -> list[str]:
        """List what is right below a prefix."""
        with _remote(self.where):
            found = self.store.list_with_delimiter(f"{folder}/" if folder else None)
        paths = [str(each["path"]) for each in found["objects"]] + [str(p) for p in found["common_prefixes"]]
        return sorted(path.rstrip("/").rpartition("/")[2] for path in paths)


@contextmanager
def _remote(where: str) -> Iterator[None]:
    """Say what an object store's client raises as the store's failure, but for what callers ask about."""
    try:
        yield
    except (FileNotFoundError, StoreError):
        raise
    except Exception as error:
        from obstore import exceptions

        if isinstance(error, exceptions.AlreadyExistsError | exceptions.PreconditionError):
            raise
        if isinstance(error, exceptions.NotFoundError):
            raise FileNotFoundError(where) from error
        if type(error).__module__.startswith("obstore") or isinstance(error, OSError | ValueError):
            raise StoreError(
                f"{where} could not be reached: {type(error).__name__}: {str(error).splitlines()[0]}.",
                "Check the address and its credentials; run the same command to go on.",
            ) from error
        raise
