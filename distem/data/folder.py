"""A run folder on disk: what lies where, who may write, and files that are whole or not there."""

from __future__ import annotations

import errno
import json
import os
import shutil
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from distem.errors import AlreadyRunning, RunFolderError

CONTENTS = (
    "manifest.json",
    "config.yaml",
    "log.jsonl",
    "report.html",
    "result.zarr",
    "checkpoint.zarr",
    "label_images",
    ".lock",
    ".writer",
)


def write_atomically(path: Path, text: str) -> None:
    """Write a file so that a reader, or a crash, meets the old text or the new one."""
    beside = path.with_name(f".{path.name}.partial")
    try:
        with beside.open("w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        beside.replace(path)
    except BaseException:
        beside.unlink(missing_ok=True)
        raise


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
    def manifest(self) -> Path:
        """What the run is and how it stands."""
        return self.path / "manifest.json"

    @property
    def config(self) -> Path:
        """The resolved config."""
        return self.path / "config.yaml"

    @property
    def log(self) -> Path:
        """The events, one JSON object a line."""
        return self.path / "log.jsonl"

    @property
    def result(self) -> Path:
        """The result, a Zarr store that opens as a data tree."""
        return self.path / "result.zarr"

    @property
    def checkpoint(self) -> Path:
        """Parameters and trace of an unfinished run."""
        return self.path / "checkpoint.zarr"

    @property
    def images(self) -> Path:
        """The folder of label images."""
        return self.path / "label_images"

    @property
    def report(self) -> Path:
        """The report."""
        return self.path / "report.html"

    def read_manifest(self) -> dict[str, Any] | None:
        """Return the manifest, or None where there is none.

        Raises
        ------
        RunFolderError
            There is a file, but it is no manifest.
        """
        try:
            text = self.manifest.read_text(encoding="utf-8")
        except (FileNotFoundError, NotADirectoryError):
            return None
        try:
            manifest = json.loads(text)
        except json.JSONDecodeError as error:
            raise RunFolderError(
                f"{self.manifest} is not a manifest: {error}.",
                "Move the folder away or choose another output.path.",
            ) from error
        if not isinstance(manifest, dict):
            raise RunFolderError(f"{self.manifest} is not a manifest.", "Choose another output.path.")
        return manifest

    def write_manifest(self, manifest: dict[str, Any]) -> None:
        """Replace the manifest."""
        write_atomically(
            self.manifest, json.dumps(manifest, indent=2, sort_keys=True, allow_nan=False) + "\n"
        )

    def claim(self) -> None:
        """Make the folder, or see that it may be written to.

        Raises
        ------
        RunFolderError
            It holds other things than a run, is no folder, or cannot be made.
        """
        if self.path.exists() and not self.path.is_dir():
            raise RunFolderError(f"{self.path} is not a folder.", "Choose another output.path.")
        if self.path.is_dir() and not self.manifest.exists():
            strangers = sorted(p.name for p in self.path.iterdir() if not self._ours(p.name))
            if strangers:
                raise RunFolderError(
                    f"{self.path} exists and is not a run folder: it holds {', '.join(strangers[:5])}.",
                    "Choose another output.path, or move these files away.",
                )
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

    @staticmethod
    def _ours(name: str) -> bool:
        return name in CONTENTS or (name.startswith(".") and name.endswith(".partial"))

    def clear(self) -> None:
        """Remove what a run wrote, and nothing else; the lock stays with its holder."""
        if not self.path.is_dir():
            return
        for name in CONTENTS:
            if name == ".lock":
                continue
            path = self.path / name
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Hold the folder against other processes; the system lets go when this one ends.

        Raises
        ------
        AlreadyRunning
            Another live process holds it.
        """
        lock, writer = FileLock(self.path / ".lock"), self.path / ".writer"
        try:
            lock.acquire(timeout=0)
        except Timeout as error:
            by = writer.read_text(encoding="utf-8").strip() if writer.exists() else "another process"
            raise AlreadyRunning(
                f"{self.path} is already being written to by {by}.",
                "Wait for it to end, or choose another output.path.",
            ) from error
        try:
            now = datetime.now(UTC).isoformat(timespec="seconds")
            write_atomically(writer, f"process {os.getpid()} on {socket.gethostname()}, since {now}\n")
            yield
        finally:
            writer.unlink(missing_ok=True)
            lock.release()
