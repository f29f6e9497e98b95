"""Labels as image files: PNG with a palette, GeoTIFF with the raster's place on Earth."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from distem.data._names import need
from distem.data.rendering import Bytes
from distem.data.source import Reader
from distem.errors import ConfigError

PNG_PIXELS = 1 << 26
"""A PNG has at most so many: it is made in memory."""
MOST = 255
"""Labels a palette has room for."""
_MODULES = {"png": ("PIL.Image", "image"), "geotiff": ("rasterio", "geotiff")}

LabelRows = Callable[[slice], NDArray[np.integer[Any]]]
"""The labels of some rows of the picture, shape (rows, columns)."""


@dataclass(frozen=True)
class Place:
    """Where a raster lies.

    Attributes
    ----------
    transform : tuple of float or None
        GDAL's: x of the corner, x per column, x per row, y of the corner, y per column, y per row.
    crs : str
        As WKT, or "" where it is not known.
    """

    transform: tuple[float, ...] | None = None
    crs: str = ""


def require(kind: str) -> None:
    """Refuse a kind of image that what is installed cannot write.

    Raises
    ------
    ConfigError
        A package is missing.
    """
    module, extra = _MODULES[kind]
    try:
        import_module(module)
    except ImportError as error:
        raise need(extra, f"Writing a label image as {kind}", error) from error


def place_of(reader: Reader, dims: tuple[str, str], grid_mapping: str | None = None) -> Place:
    """Return where a raster lies, by its grid mapping (CF, rioxarray) and its coordinates.

    Parameters
    ----------
    reader : Reader
        Whose coordinates are looked at.
    dims : (str, str)
        The dimensions of rows and columns.
    grid_mapping : str, optional
        Name of the variable that holds the CRS, where the features name one.
    """
    held = reader.coordinates()
    attrs: Mapping[str, Any] = {}
    for name in (grid_mapping, "spatial_ref", "crs"):
        if name is not None and name in held:
            attrs = held[name].attrs
            break
    crs = str(attrs.get("crs_wkt") or attrs.get("spatial_ref") or "")
    written = str(attrs.get("GeoTransform", "")).split()
    if len(written) == 6:
        return Place(tuple(float(part) for part in written), crs)
    axes = []
    for dim in dims:
        if dim not in held or held[dim].dims != (dim,) or held[dim].dtype.kind not in "iuf":
            return Place(None, crs)
        values = np.asarray(reader.read_coordinate(dim, {}), np.float64)
        steps = np.diff(values)
        # pixels of one size, or there is no transform
        if len(values) < 2 or not np.allclose(steps, steps[0], rtol=1e-3):
            return Place(None, crs)
        step = (values[-1] - values[0]) / (len(values) - 1)
        axes.append((float(values[0] - step / 2), float(step)))
    (top, down), (left, across) = axes
    return Place((left, across, 0.0, top, 0.0, down), crs)


def write_png(path: Path, rows: LabelRows, shape: tuple[int, int], step: int, palette: Bytes) -> int:
    """Write labels as a PNG with a palette; where a label is missing it is transparent.

    Parameters
    ----------
    path : Path
        The file.
    rows : callable
        Gives the labels.
    shape : (int, int)
        Of the picture.
    step : int
        Rows to ask for at a time.
    palette : ndarray of uint8, shape (k, 3)
        Colour of each label.

    Returns
    -------
    int
        Of so many rows and columns one is there: 1, but for pictures above `PNG_PIXELS`.
    """
    from PIL import Image

    stride = max(1, int(np.ceil(np.sqrt(shape[0] * shape[1] / PNG_PIXELS))))
    k = len(palette)
    out = np.empty((-(-shape[0] // stride), -(-shape[1] // stride)), np.uint8)
    for start in range(0, shape[0], step):
        stop = min(shape[0], start + step)
        first = -(-start // stride)
        mine = range(first * stride, stop, stride)
        if len(mine):
            values = rows(slice(start, stop))[mine.start - start :: stride, ::stride]
            out[first : first + len(mine)] = np.where(values < 0, k, values)
    image = Image.fromarray(out).convert("P") if out.size == 0 else _paletted(out, palette)
    partial = path.with_name(f".{path.name}.partial")
    image.save(partial, format="PNG", transparency=k)
    partial.replace(path)
    return stride


def _paletted(labels: Bytes, palette: Bytes) -> Any:
    from PIL import Image

    image = Image.fromarray(labels, mode="L")
    image.putpalette([*palette.ravel().tolist(), 255, 255, 255])
    return image


def write_geotiff(
    path: Path, rows: LabelRows, shape: tuple[int, int], step: int, palette: Bytes, place: Place
) -> None:
    """Write labels as a tiled, compressed GeoTIFF of bytes with a colour table; 255 is no data.

    Parameters
    ----------
    path : Path
        The file.
    rows, shape, step, palette
        As for `write_png`.
    place : Place
        Where the raster lies.

    Raises
    ------
    ConfigError
        The coordinate reference system cannot be understood.
    """
    import rasterio
    from rasterio.errors import CRSError, NotGeoreferencedWarning
    from rasterio.windows import Window

    profile: dict[str, Any] = {
        "driver": "GTiff",
        "height": shape[0],
        "width": shape[1],
        "count": 1,
        "dtype": "uint8",
        "nodata": MOST,
        "compress": "deflate",
        "BIGTIFF": "IF_SAFER",
    }
    if min(shape) >= 256:
        profile |= {"tiled": True, "blockxsize": 256, "blockysize": 256}
    if place.transform is not None:
        profile["transform"] = rasterio.Affine.from_gdal(*place.transform)
    if place.crs:
        try:
            profile["crs"] = rasterio.CRS.from_user_input(place.crs)
        except CRSError as error:
            raise ConfigError(
                f"The raster's coordinate reference system cannot be understood: {error}.",
                "Mend the attribute crs_wkt of its grid mapping, or leave geotiff out of output.images.",
            ) from error
    partial = path.with_name(f".{path.name}.partial")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)  # a photograph lies nowhere
        with rasterio.open(partial, "w", **profile) as file:
            colours = {i: (*(int(c) for c in colour), 255) for i, colour in enumerate(palette)}
            file.write_colormap(1, colours | {MOST: (255, 255, 255, 0)})
            for start in range(0, shape[0], step):
                stop = min(shape[0], start + step)
                values = rows(slice(start, stop))
                out = np.where(values < 0, MOST, values).astype(np.uint8)
                file.write(out, 1, window=Window(0, start, shape[1], stop - start))
    partial.replace(path)
