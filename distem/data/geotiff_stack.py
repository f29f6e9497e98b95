"""Several GeoTIFFs of one place, as a stack: the same pixels at other times, say."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from distem.data.geotiff import GeotiffReader, GeotiffSource, is_geotiff, open_geotiff
from distem.data.grid import Box, Grid
from distem.data.source import Raw, Source
from distem.data.variables import Stored
from distem.errors import DamagedChunkError, DataError

_OFF = 1e-3
"""Of a pixel: files whose corners are no further apart lie in one place."""


@dataclass(frozen=True)
class GeotiffStackReader:
    """Reads windows of the files of a stack.

    Attributes
    ----------
    pages : tuple of GeotiffReader
        One for each file, in order.
    """

    pages: tuple[GeotiffReader, ...]

    def read(self, box: Box) -> Raw:
        """Read the pixels of a box."""
        found = [self.pages[i].read(box[1:])[0] for i in range(box[0].start, box[0].stop)]
        return found[0] if len(found) == 1 else np.concatenate(found), None

    def locate(self, box: Box) -> DamagedChunkError | None:
        """Read the tiles or strips under a box one by one; name the first that fails."""
        for page in self.pages[box[0]]:
            damaged = page.locate(box[1:])
            if damaged is not None:
                return damaged
        return None

    def coordinates(self) -> dict[str, Stored]:
        """Return the coordinates that all files share."""
        return self.pages[0].coordinates()

    def read_coordinate(self, name: str, box: Mapping[str, slice]) -> NDArray[Any]:
        """Read a part of a coordinate."""
        return self.pages[0].read_coordinate(name, box)


def are_geotiffs(files: Sequence[str]) -> bool:
    """Whether files are GeoTIFFs, all of them.

    Raises
    ------
    DataError
        Some are and some are not.
    """
    found = [is_geotiff(file) for file in files]
    if any(found) and not all(found):
        raise DataError(
            f"{files[found.index(True)]} is a GeoTIFF, and {files[found.index(False)]} is none.",
            "Name files of one sort with a pattern, such as scenes/*.tif.",
        )
    return all(found)


def open_geotiffs(
    files: Sequence[str], features: Sequence[str] | None = None, block_rows: int | None = None
) -> Source:
    """Open GeoTIFFs of one place as (image, y, x); see `open_geotiff`.

    Raises
    ------
    DataError
        Their sizes, bands, types or places differ.
    """
    opened = [open_geotiff(file, features, block_rows) for file in files]
    readers = [source.reader for source in opened if isinstance(source.reader, GeotiffReader)]
    first = opened[0]
    for source, reader in zip(opened[1:], readers[1:], strict=True):
        _same(first, source, readers[0], reader)
    masked = any(reader.masked for reader in readers)
    stored = first.dtype if first.stored_dtype is None else first.stored_dtype
    dtype = np.result_type(stored, np.float32) if masked else stored
    pages = tuple(replace(reader, masked=masked, dtype=dtype.str) for reader in readers)
    sizes = (1, *first.grid.regular_sizes)
    if not isinstance(first, GeotiffSource):
        raise TypeError(f"A GeoTIFF was opened as {type(first).__name__}.")
    return replace(
        first,
        reader=GeotiffStackReader(pages),
        grid=Grid.regular(("image", *first.dims), (len(files), *first.shape), sizes),
        dtype=dtype,
        stored_dtype=stored,
    )


def _same(first: Source, other: Source, one: GeotiffReader, two: GeotiffReader) -> None:
    """Refuse two files that are no stack."""
    for what, here, there in (
        ("shape", one.shape, two.shape),
        ("bands", first.features, other.features),
        ("type", str(first.stored_dtype), str(other.stored_dtype)),
    ):
        if here != there:
            raise DataError(
                f"{two.path} has the {what} {there}, {one.path} {here}.",
                "Images of a stack need equal shapes, bands and types; of tiles make one raster, with "
                "gdalbuildvrt and gdal_translate, say.",
            )
    if one.crs != two.crs or not _close(one.transform, two.transform):
        raise DataError(
            f"{two.path} and {one.path} do not lie in the same place: {_words(two)} against {_words(one)}. "
            "Files of a folder are one place at several times.",
            "Of tiles that lie side by side make one raster, with gdalbuildvrt and gdal_translate; bring "
            "others to one grid first, with gdalwarp.",
        )


def _close(one: tuple[float, ...] | None, two: tuple[float, ...] | None) -> bool:
    if one is None or two is None:
        return one is two
    pixel = max(map(abs, (one[1], one[2], one[4], one[5])))
    return max(abs(a - b) for a, b in zip(one, two, strict=True)) <= _OFF * pixel


def _words(reader: GeotiffReader) -> str:
    if reader.transform is None:
        return "no place"
    left, across, _, top, _, down = reader.transform
    name = reader.crs.split('"')[1] if '"' in reader.crs else "no reference system"
    return f"corner ({left:g}, {top:g}), pixels of {across:g} × {down:g}, {name}"
