"""Many tiny chunks of a local Zarr array, read without the machinery that large ones are worth.

Zarr spends some 0.1 ms and more on a chunk whatever its size. Here a chunk is a file that is read and
decoded: a tenth of that. Anything out of the ordinary, damage included, is left to Zarr.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import product
from math import prod
from typing import Any

import numcodecs  # type: ignore[import-untyped]
import numpy as np
import zarr
from numpy.typing import NDArray
from zarr.codecs import BloscCodec, BytesCodec, Crc32cCodec, GzipCodec, ZstdCodec
from zarr.storage import LocalStore

_SMALL = 1 << 17  # bytes of a decoded chunk below which Zarr's overhead is more than the work
_MANY = 4

Decoder = Callable[[bytes], Any]


@dataclass(frozen=True, eq=False)
class QuickArray:
    """A Zarr array whose tiny chunks are plain files.

    Attributes
    ----------
    array : zarr.Array
        Reads whatever is not read here.
    folder : str
        Where its chunks are.
    chunks : tuple of int
        Shape of a chunk.
    dtype : numpy.dtype
        As stored.
    decoders : tuple of callable
        From a file's bytes to those of a C-ordered chunk.
    """

    array: zarr.Array[Any]
    folder: str
    chunks: tuple[int, ...]
    dtype: np.dtype[Any]
    decoders: tuple[Decoder, ...]

    def __getitem__(self, key: Any) -> NDArray[Any]:
        """Read a region given by slices, one a dimension."""
        shape = self.array.shape
        slices = key if isinstance(key, tuple) and all(isinstance(s, slice) for s in key) else ()
        if len(slices) != len(shape) or any(s.step not in (None, 1) for s in slices):
            return np.asarray(self.array[key])
        bounds = [s.indices(length)[:2] for s, length in zip(slices, shape, strict=True)]
        spans = [range(a // c, -(-b // c)) for (a, b), c in zip(bounds, self.chunks, strict=True)]
        if prod(map(len, spans)) < _MANY or any(b <= a for a, b in bounds):
            return np.asarray(self.array[key])
        try:
            return self._read(bounds, spans)
        except Exception:  # noqa: BLE001 -- whatever it is, Zarr has the words for it
            return np.asarray(self.array[key])

    def _read(self, bounds: Sequence[tuple[int, int]], spans: Sequence[range]) -> NDArray[Any]:
        out = np.empty([b - a for a, b in bounds], self.dtype)
        name = self.array.metadata.encode_chunk_key
        for at in product(*spans):
            target, part = [], []
            for i, size, (a, b) in zip(at, self.chunks, bounds, strict=True):
                low, high = max(a, i * size), min(b, (i + 1) * size)
                target.append(slice(low - a, high - a))
                part.append(slice(low - i * size, high - i * size))
            try:
                with open(os.path.join(self.folder, name(at)), "rb", buffering=0) as file:
                    content: Any = file.read()
            except FileNotFoundError:
                out[tuple(target)] = self.array.fill_value
                continue
            for decoder in self.decoders:
                content = decoder(content)
            chunk = np.frombuffer(content, self.dtype).reshape(self.chunks)
            out[tuple(target)] = chunk[tuple(part)]
        return out


def quick(array: zarr.Array[Any]) -> zarr.Array[Any] | QuickArray:
    """Return a quicker reader of an array, if its chunks are tiny local files in a plain encoding."""
    if array.shards is not None or array.ndim == 0 or array.fill_value is None:
        return array
    dtype = np.dtype(array.dtype)
    tiny = dtype.kind in "biuf" and prod(array.chunks) * dtype.itemsize < _SMALL
    if not tiny or not isinstance(array.store, LocalStore) or getattr(array.metadata, "order", "C") != "C":
        return array
    found = _v2(array) if array.metadata.zarr_format == 2 else _v3(array)
    if found is None:
        return array
    stored, decoders = found
    folder = os.path.join(str(array.store.root), array.path)
    return QuickArray(array, folder, tuple(array.chunks), stored, decoders)


def _v2(array: zarr.Array[Any]) -> tuple[np.dtype[Any], tuple[Decoder, ...]] | None:
    metadata: Any = array.metadata
    if metadata.filters:
        return None
    codec = metadata.compressor
    return np.dtype(array.dtype), () if codec is None else (codec.decode,)


def _v3(array: zarr.Array[Any]) -> tuple[np.dtype[Any], tuple[Decoder, ...]] | None:
    metadata: Any = array.metadata
    first, *rest = metadata.codecs
    if not isinstance(first, BytesCodec):
        return None
    dtype = np.dtype(array.dtype)
    if first.endian is not None:
        dtype = dtype.newbyteorder("<" if getattr(first.endian, "value", first.endian) == "little" else ">")
    decoders: list[Decoder] = []
    for codec in reversed(rest):
        decoder = _decoder(codec)
        if decoder is None:
            return None
        decoders.append(decoder)
    return dtype, tuple(decoders)


def _decoder(codec: Any) -> Decoder | None:
    if isinstance(codec, Crc32cCodec):
        return _checked()
    for kind, make in (
        (ZstdCodec, numcodecs.Zstd),
        (BloscCodec, numcodecs.Blosc),
        (GzipCodec, numcodecs.GZip),
    ):
        if isinstance(codec, kind):
            decoder: Decoder = make().decode
            return decoder
    return None


def _checked() -> Decoder | None:
    try:
        import google_crc32c
    except ImportError:
        return None

    def check(content: bytes) -> bytes:
        body, mark = content[:-4], content[-4:]
        if google_crc32c.value(body).to_bytes(4, "little") != mark:
            raise ValueError
        return body

    return check
