"""A run folder on disk: what lies where, who may write, and files that are whole or not there.

`remote_folder` has the same in an object store.
"""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from distem.data.checkpoint import CheckpointStore, no_fence, unheard
from distem.data.lease import Lease
from distem.data.stores import LocalStore, Store, write_atomically
from distem.errors import RunFolderError

MANIFEST = "manifest.json"
RESULT = "result.zarr"
CHECKPOINT = "checkpoint.zarr"
"""Parameters and trace of an unfinished run."""
CONTENTS = (
    MANIFEST,
    "config.yaml",
    "log.jsonl",
    "report.html",
    "dask-report.html",
    RESULT,
    CHECKPOINT,
    "label_images",
    ".lock",
    ".lease",
)
LOCKS = (".lock", ".lease")
MOST_TEXT = 1 << 26
"""Bytes of a file that is read whole; the log is not."""
MOST_LINE = 1 << 20
"""Bytes of a line of the log."""
_PIECE = 1 << 16


@dataclass(frozen=True)
class RunFolder:
    """The folder a run writes to.

    Parameters
    ----------
    path : Path
        The folder; it need not exist yet.
    """

    path: Path

    @property
    def where(self) -> str:
        """The place, for messages and for opening it again."""
        return str(self.path)

    @property
    def known_by(self) -> str:
        """The place, the same by whatever way it is reached."""
        return str(self.path.resolve())

    @property
    def store(self) -> Store:
        """The folder, for what must be written by one process only."""
        return LocalStore(self.path)

    @property
    def manifest(self) -> Path:
        """What the run is and how it stands."""
        return self.path / "manifest.json"

    @property
    def log(self) -> Path:
        """The events, one JSON object a line."""
        return self.path / "log.jsonl"

    @property
    def result(self) -> str:
        """The result, a Zarr store that opens as a data tree: a path, or a URL."""
        return f"{self.where}/{RESULT}"

    @property
    def images(self) -> Path:
        """The folder of label images."""
        return self.path / "label_images"

    @property
    def dask_report(self) -> Path:
        """Dask's own, where it was asked for."""
        return self.path / "dask-report.html"

    @property
    def has_manifest(self) -> bool:
        """Whether a run was begun here."""
        return self.manifest.exists()

    @property
    def is_begun(self) -> bool:
        """Whether there is something to go on with."""
        return any((self.path / name).exists() for name in (CHECKPOINT, RESULT))

    def read(self, name: str) -> str | None:
        """Return the text of a file, or None where there is none.

        Raises
        ------
        RunFolderError
            It has more than `MOST_TEXT` bytes.
        """
        try:
            with (self.path / name).open("rb") as file:
                size = os.fstat(file.fileno()).st_size
                if size > MOST_TEXT:
                    raise self._too_large(name)
                return file.read(size).decode("utf-8", "replace")
        except (FileNotFoundError, NotADirectoryError):
            return None

    def lines(self, name: str) -> Iterator[str]:
        """The lines of a file of any length, one by one; none where there is none."""
        try:
            with (self.path / name).open("rb") as file:
                yield from lines_of(iter(partial(file.read, _PIECE), b""))
        except (FileNotFoundError, NotADirectoryError):
            return

    def _too_large(self, name: str) -> RunFolderError:
        return RunFolderError(
            f"{self.where}/{name} has more than the {MOST_TEXT:,} bytes it can.",
            "Use a run folder you trust, or choose another output.path.",
        )

    def write(self, name: str, text: str) -> str:
        """Replace a file; return where it is."""
        write_atomically(self.path / name, text)
        return f"{self.where}/{name}"

    def take_up(self) -> None:
        """Have what an earlier process began beside the store at hand: it is there."""

    def send(self) -> None:
        """Have what was written beside the store in its place: it is there."""

    def hurry(self) -> None:
        """Wait for nothing from now on."""

    def read_manifest(self) -> dict[str, Any] | None:
        """Return the manifest, or None where there is none.

        Raises
        ------
        RunFolderError
            There is a file, but it is no manifest.
        """
        text = self.read(MANIFEST)
        if text is None:
            return None
        try:
            manifest = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise RunFolderError(
                f"{self.where}/{MANIFEST} is not a manifest: {error}.",
                "Move the folder away or choose another output.path.",
            ) from error
        if not isinstance(manifest, dict):
            raise RunFolderError(f"{self.where}/{MANIFEST} is not a manifest.", "Choose another output.path.")
        return manifest

    def write_manifest(self, manifest: dict[str, Any]) -> None:
        """Replace the manifest."""
        self.write(MANIFEST, json.dumps(manifest, indent=2, sort_keys=True, allow_nan=False) + "\n")

    def remove_result(self) -> None:
        """Remove the result, to make room."""
        shutil.rmtree(self.path / RESULT, ignore_errors=True)

    def claim(self) -> None:
        """Make the folder, or see that it may be written to.

        Raises
        ------
        RunFolderError
            It holds other things than a run, is no folder, or cannot be made.
        """
        if self.path.exists() and not self.path.is_dir():
            raise RunFolderError(f"{self.path} is not a folder.", "Choose another output.path.")
        for name in CONTENTS:
            if (self.path / name).is_symlink():  # what is removed or written there lies elsewhere
                raise RunFolderError(
                    f"{self.path / name} is a symbolic link.",
                    "Make the run folder itself a link if it is to lie elsewhere, not its parts.",
                )
        if self.path.is_dir() and not self.has_manifest:
            self._refuse_strangers(p.name for p in self.path.iterdir())
        try:
            self.path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise
            raise RunFolderError(
                f"{self.path} cannot be made: {error.strerror}.", "Check output.path."
            ) from error
        if not os.access(self.path, os.W_OK | os.X_OK):
            raise RunFolderError(f"{self.path} may not be written to.", "Check output.path and its rights.")

    def _refuse_strangers(self, names: Iterable[str]) -> None:
        scrap = re.compile(r"\..*\.partial")
        strangers = sorted(name for name in names if name not in CONTENTS and not scrap.fullmatch(name))
        if strangers:
            raise RunFolderError(
                f"{self.where} exists and is not a run folder: it holds {', '.join(strangers[:5])}.",
                "Choose another output.path, or move these files away.",
            )

    def clear(self) -> None:
        """Remove what a run wrote, and nothing else; the lock stays with its holder."""
        if not self.path.is_dir():
            return
        for name in CONTENTS:
            if name in LOCKS:
                continue
            path = self.path / name
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)

    def vacate(self) -> None:
        """Leave no trace of a folder that comes to nothing."""
        LocalStore(self.path).vacate()

    def lock(self, say: Callable[[str], None] = lambda _: None) -> Lease:
        """The lease on the folder, to be entered: one process writes to it at a time.

        Parameters
        ----------
        say : callable
            Is told when it has to be waited for, to see whether the other process still lives.
        """
        return Lease(self.store, after=lambda: self.checkpoints().token, say=say)

    def checkpoints(
        self, fence: Callable[[], int] = no_fence, warn: Callable[[str], None] = unheard
    ) -> CheckpointStore:
        """The run's state while it is unfinished; see `CheckpointStore`."""
        return CheckpointStore(self.store, fence=fence, warn=warn, prefix=f"{CHECKPOINT}/")


def lines_of(pieces: Iterable[bytes]) -> Iterator[str]:
    """Lines of a text that comes in pieces; those of more than `MOST_LINE` bytes are left out."""
    held, skipped = b"", False
    for piece in pieces:
        *whole, held = (held + piece).split(b"\n")
        for line in whole:
            if not skipped and len(line) <= MOST_LINE:
                yield line.decode("utf-8", "replace")
            skipped = False
        if len(held) > MOST_LINE:
            held, skipped = b"", True
    if held and not skipped:
        yield held.decode("utf-8", "replace")


__all__ = ["LOCKS", "RunFolder", "write_atomically"]
