"""Checkpoints: named arrays and JSON, written whole under a new number, read back bit for bit.

A checkpoint is one Zarr array of bytes, holding its named arrays end to end, with their layout, other
facts and a digest in its attributes. It appears by a rename, so it is there or it is not.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray

Arrays = dict[str, NDArray[Any]]


@dataclass(frozen=True)
class CheckpointStore:
    """The checkpoints of a run.

    Parameters
    ----------
    path : Path
        The Zarr group they lie in; made by the first `save`.
    keep : int
        How many numbered checkpoints are kept.
    """

    path: Path
    keep: int = 2

    def save(self, name: str, arrays: Arrays, info: dict[str, Any]) -> None:
        """Write a checkpoint under a name and publish it by a rename.

        Parameters
        ----------
        name : str
            Names of one kind sort in the order they were written, e.g. ``pass-000012``.
        arrays : dict of ndarray
            What is kept bit for bit.
        info : dict
            JSON-able facts.
        """
        if self.path.is_file():  # whatever came to lie there, it is no checkpoint
            self.path.unlink()
        zarr.open_group(self.path, mode="a")
        layout, parts, start = {}, [], 0
        for key, value in arrays.items():
            data = np.ascontiguousarray(value)
            layout[key] = {"start": start, "shape": list(value.shape), "dtype": data.dtype.str}
            parts.append(data.tobytes())
            start += data.nbytes
        state = np.frombuffer(b"".join(parts), dtype=np.uint8)
        beside = self.path / f".{name}.partial"
        shutil.rmtree(beside, ignore_errors=True)
        digest = hashlib.sha256(state.tobytes()).hexdigest()
        attributes: dict[str, Any] = {"layout": layout, "info": info, "digest": digest}
        array = zarr.create_array(
            beside,
            shape=state.shape,
            chunks=(max(1, state.size),),
            dtype="uint8",
            attributes=attributes,
            fill_value=0,
        )
        array[:] = state
        _sync(beside)
        target = self.path / name
        shutil.rmtree(target, ignore_errors=True)
        beside.rename(target)
        _sync_folder(self.path)
        kind = name.partition("-")[0]
        for old in self._names(kind)[: -self.keep]:
            shutil.rmtree(self.path / old, ignore_errors=True)

    def _names(self, kind: str) -> list[str]:
        if not self.path.is_dir():
            return []
        return sorted(p.name for p in self.path.iterdir() if p.is_dir() and p.name.partition("-")[0] == kind)

    def latest(self, kind: str) -> tuple[Arrays, dict[str, Any]] | None:
        """Return the newest intact checkpoint of a kind, or None."""
        for name in reversed(self._names(kind)):
            found = self._read(self.path / name)
            if found is not None:
                return found
        return None

    @staticmethod
    def _read(path: Path) -> tuple[Arrays, dict[str, Any]] | None:
        try:
            array = zarr.open_array(path, mode="r")
            attributes: dict[str, Any] = dict(array.attrs)
            state = np.asarray(array[:], dtype=np.uint8)
        except Exception:  # noqa: BLE001 -- whatever a damaged store raises, an older checkpoint stands in
            return None
        if hashlib.sha256(state.tobytes()).hexdigest() != attributes.get("digest"):
            return None
        arrays: Arrays = {}
        for key, spec in attributes["layout"].items():
            dtype = np.dtype(spec["dtype"])
            count = int(np.prod(spec["shape"], dtype=np.int64))
            part = state[spec["start"] : spec["start"] + count * dtype.itemsize]
            arrays[key] = part.view(dtype).reshape(spec["shape"]).copy()
        return arrays, attributes["info"]

    def remove(self) -> None:
        """Remove all checkpoints."""
        shutil.rmtree(self.path, ignore_errors=True)


def _sync(folder: Path) -> None:
    for parent, _, files in os.walk(folder):
        for file in files:
            with (Path(parent) / file).open("rb") as opened:
                os.fsync(opened.fileno())
        _sync_folder(Path(parent))


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
