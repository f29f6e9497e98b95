"""GeoTIFF through rasterio: any number of bands, read window by window, with their place on Earth."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from distem.data._names import NUMERIC, need, not_numeric
from distem.data.files import is_url, open_binary
from distem.data.grid import Box, Grid, box_rows, rows_per_chunk
from distem.data.rows import choose
from distem.data.source import Raw, Source, reason
from distem.data.variables import Stored
from distem.errors import DamagedChunkError, DataError

MAP = "spatial_ref"
"""The coordinate that holds the reference system, as rioxarray calls it."""
PLACE_TAGS = {33550, 33922, 34264, 34735}
"""TIFF's tags of a pixel's size, tie points, a transform, and the reference system."""
_MAGIC = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_COLOURS = ("red", "green", "blue", "alpha")


def is_geotiff(path: str) -> bool:
    """Whether a file is a TIFF for rasterio: with a place on Earth, or with bands that Pillow cannot read.

    Tables of colours are left to Pillow, which knows the colours, and so is what is not a local file.
    """
    if is_url(path):
        return False
    with open_binary(path) as file:
        if file.read(4) not in _MAGIC:
            return False
    try:
        from PIL import Image, UnidentifiedImageError
    except ImportError:
        return True
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            with Image.open(path) as image:
                deep = image.mode in ("RGB", "RGBA", "LA") and any(";16" in str(t[-1]) for t in image.tile)
                tags = set(getattr(image, "tag_v2", ()))
                return image.mode != "P" and (deep or bool(PLACE_TAGS & tags))
    except (UnidentifiedImageError, Image.DecompressionBombError):
        return True
    except (OSError, SyntaxError, ValueError):
        return False  # damaged: Pillow's reader says how


@dataclass(frozen=True)
class GeotiffReader:
    """Reads windows of a GeoTIFF. The file is opened for each: GDAL's handles are not for several threads.

    Attributes
    ----------
    path : str
        A local file.
    bands : tuple of int
        Which bands are the features, from 0.
    shape : tuple of int
        (y, x).
    blocks : tuple of int
        Rows and columns of a tile or strip.
    masked : bool
        Whether pixels may be missing: by a value, an alpha band or a mask.
    dtype : str
        In which the values are handed on.
    transform : tuple of float or None
        GDAL's, where the file has one.
    crs : str
        As WKT, or "".
    """

    path: str
    bands: tuple[int, ...]
    shape: tuple[int, int]
    blocks: tuple[int, int]
    masked: bool
    dtype: str
    transform: tuple[float, ...] | None = None
    crs: str = ""

    def read(self, box: Box) -> Raw:
        """Read the pixels of a box."""
        out = np.empty((box_rows(box), len(self.bands)), self.dtype)
        values = self._window(box)
        for j, band in enumerate(values):
            out[:, j] = band.reshape(-1)
            if self.masked:
                out[np.ma.getmaskarray(band).reshape(-1), j] = np.nan
        return out, None

    def _window(self, box: Box) -> NDArray[Any]:
        from rasterio.windows import Window

        rows, columns = box
        window = Window(columns.start, rows.start, columns.stop - columns.start, rows.stop - rows.start)
        with _opened(self.path) as file:
            found: NDArray[Any] = file.read([j + 1 for j in self.bands], window=window, masked=self.masked)
        return found

    def locate(self, box: Box) -> DamagedChunkError | None:
        """Read the tiles or strips under a box one by one; name the first that fails."""
        spans = [
            range(s.start // size * size, s.stop, size) for s, size in zip(box, self.blocks, strict=True)
        ]
        for top in spans[0]:
            for left in spans[1]:
                corner = zip((top, left), self.blocks, self.shape, strict=True)
                tile = tuple(slice(at, min(length, at + size)) for at, size, length in corner)
                try:
                    self._window(tile)
                except Exception as error:  # noqa: BLE001 -- a codec may raise anything
                    return DamagedChunkError(
                        f"The tile of {self.path} at row {top}, column {left} cannot be decoded: "
                        f"{reason(error)}.",
                        "Restore the file from a copy.",
                    )
        return None

    def coordinates(self) -> dict[str, Stored]:
        """Return the pixels' centres, where rows and columns run along the axes, and the reference system."""
        found = {}
        if self.transform is not None:
            left, across, skew, top, skewed, down = self.transform
            written = " ".join(map(repr, (left, across, skew, top, skewed, down)))
            attrs = {"GeoTransform": written}
            if self.crs:
                attrs |= {"crs_wkt": self.crs, MAP: self.crs}
            found[MAP] = Stored((), (), np.dtype(np.int64), attrs)
            if skew == skewed == 0.0:
                for dim, n in zip(("y", "x"), self.shape, strict=True):
                    about = {"axis": dim.upper(), "long_name": f"{dim} coordinate of the pixel's centre"}
                    found[dim] = Stored((dim,), (n,), np.dtype(np.float64), about)
        return found

    def read_coordinate(self, name: str, box: Mapping[str, slice]) -> NDArray[Any]:
        """Read a part of a coordinate."""
        if name == MAP:
            return np.asarray(0, np.int64)
        if self.transform is None or name not in ("y", "x"):
            raise KeyError(name)
        first, step = (self.transform[3], self.transform[5]) if name == "y" else self.transform[:2]
        n = self.shape[name == "x"]
        return first + step * (np.arange(n)[box.get(name, slice(None))] + 0.5)


@dataclass(frozen=True, eq=False)
class GeotiffSource(Source):
    """A GeoTIFF as rows.

    Attributes
    ----------
    beside : int
        Bytes that reading a block takes besides its rows.
    """

    beside: int = field(kw_only=True)

    @property
    def reading_nbytes(self) -> int:
        """Bytes of the tiles that GDAL holds decoded, with all bands, and of the window with its mask."""
        return self.beside


def open_geotiff(path: str, features: Sequence[str] | None = None, block_rows: int | None = None) -> Source:
    """Open a GeoTIFF; its dimensions are (y, x), its bands the features.

    They are named by their descriptions where each has one, else red, green, blue, gray, or band_0 ...

    Parameters
    ----------
    path : str
        A local file.
    features : sequence of str, optional
        Bands; by default all but alpha, without which a pixel is missing.
    block_rows : int, optional
        Pixels read at once, rounded up to whole tiles or strips.

    Raises
    ------
    ConfigError
        rasterio is not installed.
    DataError
        The file cannot be opened, or a band holds no real numbers.
    """
    with _opened(path) as file:
        names = _names(file)
        visible = [name for name in names if name != "alpha"]
        chosen = choose(features, visible, names, None, path)
        bands = tuple(names.index(name) for name in chosen)
        for j in bands:
            if np.dtype(file.dtypes[j]).kind not in NUMERIC:
                raise not_numeric(f"The band '{names[j]}' of {path}", file.dtypes[j])
        stored = np.result_type(*(np.dtype(file.dtypes[j]) for j in bands))
        flags = file.mask_flag_enums
        masked = "alpha" not in chosen and any("all_valid" not in {f.name for f in flags[j]} for j in bands)
        shape = (file.height, file.width)
        tile = tuple(int(size) for size in file.block_shapes[bands[0]])
        placed = not file.transform.is_identity or file.crs is not None
        transform = file.transform.to_gdal() if placed else None
        crs = file.crs.to_wkt() if file.crs else ""
        widest = sum(np.dtype(t).itemsize for t in file.dtypes)
    dtype = np.result_type(stored, np.float32) if masked else stored
    sizes = _whole_tiles(tile, shape, block_rows or rows_per_chunk(len(chosen)))
    grid = Grid.regular(("y", "x"), shape, sizes)
    pixels = max(sizes[0] * sizes[1], 2 * rows_per_chunk(len(chosen)))
    return GeotiffSource(
        reader=GeotiffReader(path, bands, shape, (tile[0], tile[1]), masked, dtype.str, transform, crs),
        kind="image",
        grid=grid,
        features=chosen,
        dtype=dtype,
        stored_dtype=stored,
        variables=chosen,
        feature_attrs={name: {"grid_mapping": MAP} for name in chosen} if placed else {},
        beside=min(pixels, shape[0] * shape[1]) * (widest + len(chosen) * (stored.itemsize + masked)),
    )


def _whole_tiles(tile: Sequence[int], shape: tuple[int, int], pixels: int) -> tuple[int, int]:
    """Return a chunk's size: tiles joined to a square, strips to a band, until they have so many pixels."""
    height, width = (min(size, length) for size, length in zip(tile, shape, strict=True))
    while height * width < pixels and (height < shape[0] or width < shape[1]):
        if width < shape[1] and (width <= height or height >= shape[0]):
            width = min(shape[1], width + tile[1])
        else:
            height = min(shape[0], height + tile[0])
    return height, width


def _names(file: Any) -> list[str]:
    said = [str(name).strip() for name in file.descriptions if name]
    if len(said) == file.count == len(set(said)):
        return said
    shown = [kind.name for kind in file.colorinterp]
    if file.count - ("alpha" in shown) == 1:
        return ["alpha" if name == "alpha" else "gray" for name in shown]
    names = [name if name in _COLOURS else f"band_{j}" for j, name in enumerate(shown)]
    return names if len(set(names)) == len(names) else [f"band_{j}" for j in range(file.count)]


def _opened(path: str) -> Any:
    try:
        import rasterio
        from rasterio.errors import NotGeoreferencedWarning, RasterioIOError
    except ImportError as error:
        raise need("geotiff", f"Reading {path}, a GeoTIFF,", error) from error
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", NotGeoreferencedWarning)
            return rasterio.open(path, driver="GTiff")
    except RasterioIOError as error:
        raise DataError(
            f"{path} cannot be opened as an image: {reason(error)}.", "Check data.path."
        ) from error
