"""A run folder on disk: what lies where, who may write, and files that are whole or not there."""

from __future__ import annotations

import errno
import json
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from distem.data.checkpoint import CheckpointStore, no_fence, unheard
from distem.data.lease import Lease
from distem.data.stores import LocalStore, write_atomically
from distem.errors import RunFolderError

CONTENTS = (
    "manifest.json",
    "config.yaml",
    "log.jsonl",
    "report.html",
    "dask-report.html",
    "result.zarr",
    "checkpoint.zarr",
    "label_images",
    ".lock",
    ".lease",
)
LOCKS = (".lock", ".lease")


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
    def store(self) -> LocalStore:
        """The folder, for what must be written by one process only."""
        return LocalStore(self.path)

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

    @property
    def dask_report(self) -> Path:
        """Dask's own, where it was asked for."""
        return self.path / "dask-report.html"

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
        for name in CONTENTS:
            if (self.path / name).is_symlink():  # what is removed or written there lies elsewhere
                raise RunFolderError(
                    f"{self.path / name} is a symbolic link.",
                    "Make the run folder itself a link if it is to lie elsewhere, not its parts.",
                )
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
            if name in LOCKS:
                continue
            path = self.path / name
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)

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
        return CheckpointStore(self.store, fence=fence, warn=warn, prefix=f"{self.checkpoint.name}/")


__all__ = ["LOCKS", "RunFolder", "write_atomically"]
