"""Rectangles of a raster and what surrounds them: which dimensions are space, and how far a halo reaches."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from distem.data.grid import Box
from distem.errors import ConfigError

_PAIRS = (
    ("y", "x"),
    ("lat", "lon"),
    ("latitude", "longitude"),
    ("northing", "easting"),
    ("row", "column"),
)


def spatial_axes(dims: Sequence[str]) -> tuple[int, int]:
    """Return where, among the sample dimensions, a picture's rows and columns are.

    Parameters
    ----------
    dims : sequence of str
        Sample dimensions; (y, x), (lat, lon) and the like are known by name, else it is the last two.

    Raises
    ------
    ConfigError
        There are fewer than two dimensions: rows have no neighbours.
    """
    names = [dim.lower() for dim in dims]
    for down, across in _PAIRS:
        if down in names and across in names:
            return names.index(down), names.index(across)
    if len(dims) < 2:
        raise ConfigError(
            f"The rows lie along {', '.join(dims) or 'no dimension'}: they are no picture and have no "
            "neighbours.",
            "Colours, coordinates, texture, smoothing and pictures need two sample dimensions, such as "
            "(y, x).",
        )
    return len(dims) - 2, len(dims) - 1


def expand_box(box: Box, shape: Sequence[int], axes: tuple[int, int], halo: int) -> Box:
    """Return a box with `halo` pixels more on each side of the spatial axes, where the data has them."""
    return tuple(
        slice(max(0, s.start - halo), min(length, s.stop + halo)) if axis in axes else s
        for axis, (s, length) in enumerate(zip(box, shape, strict=True))
    )


def within(inner: Box, outer: Box) -> Box:
    """Return where a box lies in one that holds it."""
    return tuple(slice(i.start - o.start, i.stop - o.start) for i, o in zip(inner, outer, strict=True))


def as_pictures(values: NDArray[Any], axes: tuple[int, int]) -> NDArray[Any]:
    """Return values on sample dimensions as (pictures, rows, columns, ...); `axes` are the spatial ones.

    The array's dimensions behind the sample dimensions stay behind; those before become one.
    """
    moved = np.moveaxis(values, axes, (-3, -2))
    return moved.reshape(-1, *moved.shape[-3:])


def from_pictures(pictures: NDArray[Any], shape: Sequence[int], axes: tuple[int, int]) -> NDArray[Any]:
    """Return values on sample dimensions of this shape from what `as_pictures` made."""
    others = [length for axis, length in enumerate(shape) if axis not in axes]
    moved = pictures.reshape(*others, *pictures.shape[1:])
    return np.moveaxis(moved, (-3, -2), axes)


def strips(rows: int, columns: int, pixels: int) -> list[slice]:
    """Cut rows into runs of about so many pixels: what is worked on stays in cache."""
    step = max(1, pixels // max(1, columns))
    return [slice(start, min(rows, start + step)) for start in range(0, rows, step)]
