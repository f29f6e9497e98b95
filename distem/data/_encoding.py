"""How variables are written: codecs, and coordinates of any dtype as Zarr v3 and CF can hold them."""

from __future__ import annotations

import base64
import struct
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from zarr.abc.codec import BytesBytesCodec

from distem.data._names import NUMERIC, plain_attrs
from distem.data.encoding import Encoding
from distem.data.variables import Stored


def codecs() -> list[BytesBytesCodec]:
    """Return the compressors of all else that is written."""
    return Encoding().codecs()


def target_dtype(stored: Stored) -> str | None:
    """Return the dtype a coordinate is written in, or None if it cannot be written."""
    kind = stored.dtype.kind
    if kind in NUMERIC and stored.dtype.itemsize <= 8:
        return stored.dtype.newbyteorder("=").name
    if kind in "mM":
        return "int64"
    return "string" if kind in "OSTU" else None


def target_attrs(stored: Stored) -> dict[str, Any]:
    """Return a coordinate's attributes, so that it decodes as the original does."""
    kind = stored.dtype.kind
    attrs = plain_attrs({k: v for k, v in stored.attrs.items() if k not in ("_FillValue", "coordinates")})
    if kind in "mM":
        attrs.pop("units", None)
        times = {"units": "nanoseconds since 1970-01-01", "calendar": "proleptic_gregorian"}
        return attrs | (times if kind == "M" else {"units": "nanoseconds", "dtype": "timedelta64[ns]"})
    fill = stored.attrs.get("_FillValue")
    if fill is not None and kind in NUMERIC and np.ndim(fill) == 0:
        # xarray's own way of writing it in Zarr v3
        attrs["_FillValue"] = (
            base64.standard_b64encode(struct.pack("<d", float(fill))).decode() if kind == "f" else int(fill)
        )
    return attrs


def target_values(values: NDArray[Any]) -> NDArray[Any]:
    """Return a coordinate's values in the dtype they are written in."""
    kind = values.dtype.kind
    if kind in "mM":
        return values.astype(f"{kind}8[ns]").view(np.int64)
    if kind in "OSU":
        plain = [v.decode("utf-8", "replace") if isinstance(v, bytes) else str(v) for v in values.ravel()]
        return np.array(plain, np.dtypes.StringDType()).reshape(values.shape)
    return values


def coordinates_to_write(
    found: Mapping[str, Stored], taken: set[str]
) -> dict[str, tuple[Stored, str, dict[str, Any]]]:
    """Return the coordinates that can be written, with dtype and attributes; names taken are left out."""
    chosen = {}
    for name, stored in found.items():
        dtype = target_dtype(stored)
        if dtype is not None and name not in taken:
            chosen[name] = (stored, dtype, target_attrs(stored))
    return chosen
