"""A run folder in an object store.

What must be whole or not there, and written by one process only, is put there as objects: lease,
checkpoints, manifest, config, report. The result is a Zarr store there, which workers write to. What grows or
is written by other libraries, the log and pictures, lies in a folder of this process meanwhile and is put
there with every checkpoint and at the end.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from distem.data.checkpoint import CheckpointStore, no_fence, unheard
from distem.data.files import is_url
from distem.data.folder import CHECKPOINT, CONTENTS, LOCKS, MANIFEST, MOST_TEXT, RunFolder, lines_of
from distem.data.object_store import SCHEME, RemoteStore, is_objects
from distem.data.results import holds
from distem.errors import ConfigError, TooLargeError


@dataclass(frozen=True)
class RemoteFolder(RunFolder):
    """The prefix a run writes to.

    Parameters
    ----------
    path : Path
        A folder of this process, for what is put to the store later.
    remote : RemoteStore
        At the prefix.
    """

    remote: RemoteStore
    _sent: dict[Path, tuple[int, int]] = field(default_factory=dict, repr=False)

    @property
    def store(self) -> RemoteStore:
        """The prefix."""
        return self.remote

    @property
    def where(self) -> str:
        """The URL."""
        return self.store.where

    @property
    def known_by(self) -> str:
        """The URL."""
        return self.where

    @property
    def has_manifest(self) -> bool:
        """Whether a run was begun here."""
        return self.store.has(MANIFEST)

    @property
    def is_begun(self) -> bool:
        """Whether there is something to go on with."""
        return self.store.has(f"{CHECKPOINT}/zarr.json") or holds(self.result, "zarr.json")

    def read(self, name: str) -> str | None:
        """Return the text of an object, or None where there is none.

        Raises
        ------
        RunFolderError
            It has more than `MOST_TEXT` bytes.
        """
        try:
            found = self.store.get(name, MOST_TEXT)
        except TooLargeError as error:
            raise self._too_large(name) from error
        return None if found is None else found[0].decode("utf-8", "replace")

    def lines(self, name: str) -> Iterator[str]:
        """The lines of an object of any length, one by one; none where there is none."""
        return lines_of(self.store.pieces(name))

    def write(self, name: str, text: str) -> str:
        """Replace an object; return where it is."""
        self.store.put(name, text.encode())
        return f"{self.where}/{name}"

    def send(self) -> None:
        """Put what was written to this process's folder since the last time."""
        for file in sorted(p for p in self.path.rglob("*") if p.is_file()):
            about = file.stat()
            seen = about.st_mtime_ns, about.st_size
            if self._sent.get(file) != seen:
                self.store.put(file.relative_to(self.path).as_posix(), file.read_bytes())
                self._sent[file] = seen

    def hurry(self) -> None:
        """Ask once only, until there is an answer."""
        self.store.doubt()

    def remove_result(self) -> None:
        """Leave it: nothing here is full."""

    def claim(self) -> None:
        """See that it may be written to.

        Raises
        ------
        RunFolderError
            It holds other things than a run.
        """
        names = self.store.names("")
        if MANIFEST not in names:
            self._refuse_strangers(names)

    def take_up(self) -> None:
        """Go on with the log where an earlier process left it."""
        found = self.store.get(self.log.name)
        if found is not None:
            self.log.write_bytes(found[0])

    def clear(self) -> None:
        """Remove what a run wrote, and nothing else; the lease stays with its holder."""
        for name in set(CONTENTS) - set(LOCKS):
            self.store.delete(name)
        self.log.unlink(missing_ok=True)
        self._sent.clear()

    def vacate(self) -> None:
        """Leave the lease, which says that it was given back: it cannot be removed in one step."""

    def checkpoints(
        self, fence: Callable[[], int] = no_fence, warn: Callable[[str], None] = unheard
    ) -> CheckpointStore:
        """The run's state while it is unfinished; the log is sent along."""
        return CheckpointStore(self.store, fence=fence, warn=warn, prefix=f"{CHECKPOINT}/", saved=self.send)


@contextmanager
def run_folder(place: str) -> Iterator[RunFolder]:
    """The run folder at a path or URL, for as long as a process works with it.

    Raises
    ------
    ConfigError
        Runs cannot be written to such a URL.
    """
    if not is_url(place):
        yield RunFolder(Path(place))
        return
    place = place.rstrip("/")
    parts = place.removeprefix(SCHEME).split("/")
    if not is_objects(place) or any(part in ("", ".", "..") for part in parts):
        raise ConfigError(
            f"A run folder cannot be at {place.partition('://')[0]}://…"
            + ("." if not is_objects(place) else f", with {'/'.join(parts)!r} as bucket and name."),
            f"Give a local path, or {SCHEME}bucket/name.",
        )
    with tempfile.TemporaryDirectory(prefix="distem-", ignore_cleanup_errors=True) as scratch:
        yield RemoteFolder(Path(scratch), RemoteStore.at(place))
