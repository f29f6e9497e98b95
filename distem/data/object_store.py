"""A prefix in an object store, as a place for runs: S3 and what speaks its protocol, through obstore.

A server that does not answer, or answers that it cannot now, is asked again for a while; then the run ends as
one that can go on. Address and credentials are the environment's, by the names that AWS's tools know.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import timedelta
from functools import lru_cache
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING, Any

from distem.data._names import need
from distem.data.stores import LocalStore
from distem.errors import DistemError, RunFolderError, StoreError, TooLargeError

if TYPE_CHECKING:
    from obstore.store import ObjectStore

SCHEME = "s3://"
PATIENCE = 60.0
"""Seconds for which a server that does not answer is asked again: longer than its restart takes."""
_BRIEF = 5.0
_MOST_TOLD = 300


def is_objects(path: str) -> bool:
    """Whether a path is the URL of a place that runs can be written to."""
    return path.startswith(SCHEME)


@lru_cache(maxsize=16)
def objects(url: str, *, brief: bool = False) -> ObjectStore:
    """The client for a URL, one in each process; `brief` ones ask once.

    Raises
    ------
    ConfigError
        obstore is not installed.
    """
    try:
        from obstore.store import from_url
    except ImportError as error:
        raise need("remote", f"Writing to {SCHEME} stores", error) from error
    seconds = _BRIEF if brief else PATIENCE
    with reaching(url):
        return from_url(
            url,
            # an endpoint without TLS is one that somebody wrote down as such
            client_options={"allow_http": True, "connect_timeout": "5s", "timeout": f"{seconds / 2:g}s"},
            retry_config={
                "max_retries": 0 if brief else 1000,
                "retry_timeout": timedelta(seconds=seconds),
                "backoff": {
                    "init_backoff": timedelta(seconds=0.1),
                    "max_backoff": timedelta(seconds=5),
                    "base": 3,
                },
            },
        )


@contextmanager
def reaching(where: str) -> Iterator[None]:
    """Say what an object store's client raises as the store's failure, but for what callers ask about.

    Raises
    ------
    StoreError
        It did not answer in time, or with an error.
    RunFolderError
        It refuses these credentials.
    """
    try:
        yield
    except (FileNotFoundError, DistemError):
        raise
    except Exception as error:
        if not type(error).__module__.startswith("obstore"):
            raise
        from obstore import exceptions

        if isinstance(error, exceptions.AlreadyExistsError | exceptions.PreconditionError):
            raise
        if isinstance(error, exceptions.NotFoundError):
            raise FileNotFoundError(where) from error
        said = str(error).strip().splitlines()[0][:_MOST_TOLD].rstrip(". ")
        if isinstance(error, exceptions.PermissionDeniedError | exceptions.UnauthenticatedError):
            raise RunFolderError(
                f"{where} refuses these credentials: {said}.",
                "Set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, for the workers too.",
            ) from error
        raise StoreError(
            f"{where} could not be reached: {said}.",
            "Check AWS_ENDPOINT_URL, the credentials and the server; run the same command to go on.",
        ) from error


@dataclass(frozen=True, eq=False)
class RemoteStore:
    """A prefix in an object store that has conditional puts.

    Parameters
    ----------
    store : obstore.store.ObjectStore
        Already at the prefix; asked again for a while where there is no answer.
    where : str
        The place, for messages; no secret in it.
    quick : obstore.store.ObjectStore, optional
        The same, asked once. It is used until there was a first answer, and from when there was none
        any more to when there is one again: a run is to end, not to wait for each of its last words.
    """

    store: ObjectStore
    where: str
    quick: ObjectStore | None = None
    _answered: Event = field(default_factory=Event, repr=False)

    @classmethod
    def at(cls, url: str) -> RemoteStore:
        """The store of a URL.

        Raises
        ------
        ConfigError
            obstore is not installed.
        """
        return cls(objects(url), url, objects(url, brief=True))

    @property
    def _client(self) -> ObjectStore:
        return self.store if self.quick is None or self._answered.is_set() else self.quick

    def sweep(self) -> None:
        """Leave it: what was not put whole is not there."""

    def brief(self) -> RemoteStore:
        """The same store, asked once."""
        return RemoteStore(self.quick or self.store, self.where)

    def doubt(self) -> None:
        """Ask once only, until there is an answer."""
        self._answered.clear()

    @contextmanager
    def _asking(self) -> Iterator[ObjectStore]:
        try:
            with reaching(self.where):
                yield self._client
        except StoreError:
            self._answered.clear()
            raise
        except Exception:
            self._answered.set()  # an answer, if not the one hoped for
            raise
        self._answered.set()

    def get(self, name: str, most: int | None = None) -> tuple[bytes, str] | None:
        """Get an object."""
        try:
            with self._asking() as store:
                found = store.get(name)
                size = int(found.meta["size"])
                if most is None or size <= most:
                    return bytes(found.bytes()), str(found.meta["e_tag"])
        except FileNotFoundError:
            return None
        raise TooLargeError(f"{self.where}/{name} has {size:,} bytes, more than the {most:,} it can.")

    def pieces(self, name: str) -> Iterator[bytes]:
        """An object in pieces, as they come; none where there is no object."""
        with suppress(FileNotFoundError), self._asking() as store:
            yield from map(bytes, store.get(name).stream())

    def has(self, name: str) -> bool:
        """Whether there is an object of that name."""
        try:
            with self._asking() as store:
                store.head(name)
        except FileNotFoundError:
            return False
        return True

    def put(self, name: str, data: bytes) -> str:
        """Put an object."""
        try:
            with self._asking() as store:
                return str(store.put(name, data)["e_tag"])
        except FileNotFoundError as error:
            raise self._no_bucket() from error

    def create(self, name: str, data: bytes) -> str | None:
        """Put if there is none."""
        return self._put_if(name, data, "create")

    def swap(self, name: str, data: bytes, version: str) -> str | None:
        """Put if the tag is still that one."""
        return self._put_if(name, data, {"e_tag": version})

    def _put_if(self, name: str, data: bytes, mode: Any) -> str | None:
        """Put on a condition; where no answer came it may be done all the same: look, then try again."""
        from obstore.exceptions import AlreadyExistsError, PreconditionError

        until = time.monotonic() + PATIENCE
        while True:
            hurried = self.quick is None or not self._answered.is_set()
            try:
                with self._asking() as store:
                    return str(store.put(name, data, mode=mode)["e_tag"])
            except (AlreadyExistsError, PreconditionError):
                return self._ours(name, data)
            except FileNotFoundError as error:
                if mode == "create":
                    raise self._no_bucket() from error
                return None
            except StoreError:
                if hurried or time.monotonic() > until:
                    raise
                self._answered.set()  # patience is for the whole of it
                if (version := self._ours(name, data)) is not None:
                    return version
            time.sleep(0.2)

    def _ours(self, name: str, data: bytes) -> str | None:
        """The version, if what is there is what was to be put: then only the acknowledgement was lost."""
        found = self.get(name)
        return found[1] if found is not None and found[0] == data else None

    def _no_bucket(self) -> RunFolderError:
        return RunFolderError(f"{self.where} lies in no bucket that there is.", "Make the bucket first.")

    def delete(self, name: str) -> None:
        """Delete an object and all below it."""
        with self._asking() as store:
            paths = [str(each["path"]) for each in store.list(f"{name}/").collect()]
            for path in [*paths, name]:
                with suppress(FileNotFoundError):
                    store.delete(path)

    def drop(self, name: str, version: str) -> bool:  # noqa: ARG002
        """Leave it: object stores have no conditional delete."""
        return False

    def names(self, folder: str) -> list[str]:
        """List what is right below a prefix."""
        with self._asking() as store:
            found = store.list_with_delimiter(f"{folder}/" if folder else None)
        paths = [str(each["path"]) for each in found["objects"]] + [str(p) for p in found["common_prefixes"]]
        return sorted(path.rstrip("/").rpartition("/")[2] for path in paths)


def fetch(url: str, into: Path, most: int, below: str | None = None) -> bool:
    """Bring what lies at a URL, or below a name there, to a folder; return whether there was anything.

    Raises
    ------
    TooLargeError
        It has more than `most` bytes.
    """
    store, folder = objects(url), LocalStore(into)
    with reaching(url):
        found = [(str(each["path"]), int(each["size"])) for each in store.list(below).collect()]
        if (total := sum(size for _, size in found)) > most:
            raise TooLargeError(f"{url} has {total:,} bytes, more than the {most:,} it can.")
        for name, _ in found:
            folder.put(name, bytes(store.get(name).bytes()))
    return bool(found)
