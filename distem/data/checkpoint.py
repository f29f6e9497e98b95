"""Checkpoints: named arrays and JSON, written once under a new number, read back bit for bit.

A checkpoint is one Zarr array of bytes, holding its named arrays end to end, with their layout, other
facts and a digest of all of it in its attributes. It is never changed. It counts once the *head*, one small
file that names those that count, newest first, has been replaced; before that it may be half there.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from numpy.typing import NDArray

from distem.data.stores import LocalStore, Store
from distem.errors import AlreadyRunning, TooLargeError

Arrays = dict[str, NDArray[Any]]

HEAD = "head.json"
MOST_FACTS = 1 << 26
"""Bytes of JSON that are read: facts grow with the passes, not with the parameters."""
_KINDS = "biufc"
_GROUP = b'{"zarr_format": 3, "node_type": "group", "attributes": {}}'


def no_fence() -> int:
    """The token where nobody else can be."""
    return 0


def unheard(_: str) -> None:
    """Tell nobody."""


def silently() -> None:
    """Do nothing more."""


@dataclass(frozen=True)
class _Head:
    """What counts. `serial` numbers all checkpoints ever begun; `token` is of the last writer's lease."""

    token: int = 0
    serial: int = 0
    kept: dict[str, list[str]] = field(default_factory=dict)

    def encoded(self) -> bytes:
        facts = {"format": 1, "token": self.token, "serial": self.serial, "kept": self.kept}
        return json.dumps({**facts, "digest": _digest(_canonical(facts))}).encode()

    @classmethod
    def decoded(cls, data: bytes) -> _Head | None:
        try:
            facts = json.loads(data)
            digest = facts.pop("digest")
            if digest != _digest(_canonical(facts)) or facts["format"] != 1:
                return None
            return cls(facts["token"], facts["serial"], facts["kept"])
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            return None


@dataclass(frozen=True)
class CheckpointStore:
    """The checkpoints of a run.

    Parameters
    ----------
    store : Store or Path
        Where they lie; the first `save` makes it a Zarr group.
    keep : int
        How many of each kind are kept.
    fence : callable
        Shows, right before the head is replaced, that the run is still ours; returns the lease's token.
    warn : callable
        Is told of a damaged checkpoint that is passed over.
    prefix : str
        The folder in the store, with its slash.
    saved : callable
        Is called when a checkpoint counts.
    """

    store: Store | Path
    keep: int = 2
    fence: Callable[[], int] = no_fence
    warn: Callable[[str], None] = unheard
    prefix: str = ""
    saved: Callable[[], None] = silently

    @property
    def _store(self) -> Store:
        return LocalStore(self.store) if isinstance(self.store, Path) else self.store

    def save(self, name: str, arrays: Arrays, info: dict[str, Any]) -> None:
        """Write a checkpoint and let it count.

        Parameters
        ----------
        name : str
            Kind and number, e.g. ``pass-000012``.
        arrays : dict of ndarray
            What is kept bit for bit.
        info : dict
            JSON-able facts.

        Raises
        ------
        AlreadyRunning
            The run belongs to another process by now.
        """
        if isinstance(self.store, Path) and self.store.is_file():
            self.store.unlink()  # whatever came to lie there, it is no checkpoint
        store = self._store
        head, version = self._head()
        if version is None:
            store.create(f"{self.prefix}zarr.json", _GROUP)
        layout, data = _packed(arrays)
        facts = json.loads(json.dumps({"layout": layout, "info": info}))  # as they will be read
        digest = _digest(_canonical(facts), data)
        metadata = json.dumps(_metadata(len(data), {**facts, "digest": digest})).encode()
        serial = head.serial
        while True:  # what another writer left under a number stays as it is
            serial += 1
            full = f"{name}.{serial:06d}"
            if store.create(f"{self.prefix}{full}/zarr.json", metadata) is not None:
                break
        if data:
            store.put(f"{self.prefix}{full}/c/0", data)
        token = self.fence()
        kind = name.partition("-")[0]
        before = head.kept.get(kind, [])
        after = _Head(token, serial, head.kept | {kind: [full, *before][: self.keep]})
        done = None
        if token >= head.token:
            encoded = after.encoded()
            at = f"{self.prefix}{HEAD}"
            done = store.create(at, encoded) if version is None else store.swap(at, encoded, version)
        if done is None:
            raise AlreadyRunning(
                f"The checkpoint {full} in {store.where} was not published: another process wrote meanwhile.",
                "That one goes on.",
            )
        for old in before[self.keep - 1 :]:
            store.delete(f"{self.prefix}{old}")
        self.saved()

    @property
    def token(self) -> int:
        """That of the last writer's lease; the next one's is higher."""
        return self._head()[0].token

    def latest(self, kind: str) -> tuple[Arrays, dict[str, Any]] | None:
        """Return the newest intact checkpoint of a kind, or None."""
        head, _ = self._head()
        for name in head.kept.get(kind, []):
            found = self._read(name)
            if not isinstance(found, str):
                return found
            self.warn(f"The checkpoint {name} is damaged and was passed over: {found}.")
        return None

    def _head(self) -> tuple[_Head, str | None]:
        """What counts, and the version of the file that says so; from the folder, where it is damaged."""
        try:
            found = self._store.get(f"{self.prefix}{HEAD}", MOST_FACTS)
        except TooLargeError:
            self._store.delete(f"{self.prefix}{HEAD}")
            return self._listed(), None
        if found is None:
            return _Head(), None
        head = _Head.decoded(found[0])
        if head is None:
            head = self._listed()
            self.warn(f"The list of checkpoints in {self._store.where} is damaged: {HEAD}; looked for them.")
        return head, found[1]

    def _listed(self) -> _Head:
        """All that is there, newest first: whether each is whole is seen when it is read."""
        kept: dict[str, list[str]] = {}
        serial = 0
        for name in self._store.names(self.prefix.rstrip("/")):
            left, _, number = name.rpartition(".")
            if number.isdigit() and "-" in left:
                kept.setdefault(left.partition("-")[0], []).append(name)
                serial = max(serial, int(number))
        return _Head(0, serial, {k: sorted(v, key=_serial, reverse=True) for k, v in kept.items()})

    def _read(self, name: str) -> tuple[Arrays, dict[str, Any]] | str:
        """A checkpoint, or what is wrong with it; no more memory than its own honest size."""
        store = self._store
        try:
            found = store.get(f"{self.prefix}{name}/zarr.json", MOST_FACTS)
            if found is None:
                return "it is not there"
            attributes = json.loads(found[0])["attributes"]
            facts = {"layout": attributes["layout"], "info": attributes["info"]}
            size = sum(_nbytes(spec) for spec in facts["layout"].values())
            if size > psutil.virtual_memory().available // 2:
                return f"it claims to hold {size:,} bytes"
            part = store.get(f"{self.prefix}{name}/c/0", size) if size else (b"", "")
            if part is None:
                return "its bytes are not there"
            if len(part[0]) != size:
                return f"it has {len(part[0]):,} of {size:,} bytes"
            if _digest(_canonical(facts), part[0]) != attributes["digest"]:
                return "its digest is another"
            return _unpacked(facts["layout"], part[0]), facts["info"]
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError, TooLargeError) as error:
            return f"{type(error).__name__}: {error}".rstrip(".")

    def remove(self) -> None:
        """Remove all checkpoints."""
        if isinstance(self.store, Path):
            LocalStore(self.store.parent).delete(self.store.name)
        else:
            self.store.delete(self.prefix.rstrip("/"))


def _serial(name: str) -> int:
    return int(name.rpartition(".")[2])


def _canonical(facts: Any) -> bytes:
    return json.dumps(facts, sort_keys=True, separators=(",", ":")).encode()


def _digest(*parts: bytes) -> str:
    total = hashlib.sha256()
    for part in parts:
        total.update(part)
    return total.hexdigest()


def _packed(arrays: Arrays) -> tuple[dict[str, Any], bytes]:
    layout, parts, start = {}, [], 0
    for key, value in arrays.items():
        data = np.ascontiguousarray(value)
        if data.dtype.kind not in _KINDS:
            raise TypeError(f"{key} has dtype {data.dtype}: checkpoints hold numbers only")
        layout[key] = {"start": start, "shape": list(value.shape), "dtype": data.dtype.str}
        parts.append(data.tobytes())
        start += data.nbytes
    return layout, b"".join(parts)


def _nbytes(spec: dict[str, Any]) -> int:
    """Bytes of an array by its layout, which may lie: nothing is made of it before that is clear."""
    shape: Sequence[Any] = spec["shape"]
    text = spec["dtype"]
    if not isinstance(text, str) or len(text) > 8:
        raise ValueError("a dtype that is none")
    dtype = np.dtype(text)
    if dtype.kind not in _KINDS or dtype.hasobject:
        raise ValueError(f"dtype {dtype}")
    if len(shape) > 32 or not all(type(n) is int and n >= 0 for n in [*shape, spec["start"]]):
        raise ValueError("a shape that is none")
    return int(math.prod(shape)) * dtype.itemsize


def _unpacked(layout: dict[str, Any], data: bytes) -> Arrays:
    arrays: Arrays = {}
    state = memoryview(data)
    for key, spec in layout.items():
        dtype = np.dtype(spec["dtype"])
        part = state[spec["start"] : spec["start"] + _nbytes(spec)]
        arrays[key] = np.frombuffer(part, dtype=dtype).reshape(spec["shape"]).copy()
    return arrays


def _metadata(size: int, attributes: dict[str, Any]) -> dict[str, Any]:
    """A Zarr v3 array of so many bytes in one chunk, as it is: its digest is in the attributes."""
    return {
        "zarr_format": 3,
        "node_type": "array",
        "shape": [size],
        "data_type": "uint8",
        "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": [max(1, size)]}},
        "chunk_key_encoding": {"name": "default", "configuration": {"separator": "/"}},
        "fill_value": 0,
        "codecs": [{"name": "bytes"}],
        "attributes": attributes,
    }
