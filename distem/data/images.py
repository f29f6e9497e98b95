"""Images: one, or a stack of equal shape, through Pillow; the bands are the features."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from distem.data._names import need, no_such
from distem.data.files import Held, expand, frozen, is_url, open_binary, stamp
from distem.data.geotiff import PLACE_TAGS, is_geotiff, open_geotiff
from distem.data.geotiff_stack import are_geotiffs, open_geotiffs
from distem.data.grid import Box, Grid, leading_sizes, rows_per_chunk
from distem.data.rows import NoCoordinates, choose
from distem.data.source import Raw, Source, reason
from distem.errors import ConfigError, DamagedChunkError, DataError, DistemError

SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".gif", ".webp", ".ppm", ".pgm", ".jp2")
_BANDS = {
    "R": "red",
    "G": "green",
    "B": "blue",
    "A": "alpha",
    "L": "gray",
    "1": "gray",
    "I": "gray",
    "F": "gray",
}
NODATA_TAG = 42113
"""GDAL's tag of a TIFF for the value that means no data."""
_HELD: Held[NDArray[Any]] = Held(4)


@dataclass(frozen=True)
class ImageReader(NoCoordinates):
    """Reads pixels; keeps the last decoded images.

    Attributes
    ----------
    files : tuple of str
        In order.
    stacked : bool
        Whether the first dimension counts the files.
    bands : tuple of int
        Which bands are the features.
    shape : tuple of int
        (y, x, bands) of each image.
    alpha : int or None
        The band that tells transparent pixels, which are missing.
    nodata : float or None
        The value that means no data, where the file says so.
    options : str
        Storage options; they may hold secrets and are not shown.
    version : tuple of int
        Tells rewritten files from those held.
    """

    files: tuple[str, ...]
    stacked: bool
    bands: tuple[int, ...]
    shape: tuple[int, ...]
    options: str = field(default="{}", repr=False)
    version: tuple[int, ...] = ()
    alpha: int | None = None
    nodata: float | None = None

    def read(self, box: Box) -> Raw:
        """Read the pixels of a box."""
        if not self.stacked:
            values = self._image(0)[box]
        else:
            values = np.stack([self._image(i)[box[1:]] for i in range(box[0].start, box[0].stop)])
        chosen = values[..., list(self.bands)]
        if self.nodata is not None:
            none = chosen == self.nodata
            chosen = chosen.astype(_masked(chosen.dtype))
            chosen[none] = np.nan
        if self.alpha is not None:
            chosen = chosen.astype(_masked(chosen.dtype))
            chosen[values[..., self.alpha] == 0] = np.nan
        return chosen.reshape(-1, len(self.bands)), None

    def _image(self, i: int) -> NDArray[Any]:
        return _HELD.get((self, i), lambda: self._decode(i))

    def _decode(self, i: int) -> NDArray[Any]:
        pixels, _ = _pixels(self.files[i], self.options)
        if pixels.shape != self.shape:
            raise DataError(
                f"{self.files[i]} has shape {pixels.shape}, {self.files[0]} {self.shape}.",
                "Images of a stack need equal shapes and bands.",
            )
        return pixels

    def locate(self, box: Box) -> DamagedChunkError | None:
        """Decode the images under a box one by one; name the first that fails."""
        for i in range(box[0].start, box[0].stop) if self.stacked else (0,):
            try:
                self._decode(i)
            except Exception as error:  # noqa: BLE001 -- a codec may raise anything
                return DamagedChunkError(
                    f"The image {self.files[i]} (index {i}) cannot be decoded: {reason(error)}.",
                    "Restore it from a copy.",
                )
        return None


def open_image(
    path: str,
    features: Sequence[str] | None = None,
    sample_dims: Sequence[str] | None = None,
    feature_dim: str | None = None,
    weights: str | None = None,
    storage_options: Mapping[str, Any] | None = None,
    block_rows: int | None = None,
) -> Source:
    """Open an image, or a folder or glob of them; see `open_source`.

    The dimensions are (y, x), of a stack (image, y, x). The features are red, green, blue, gray, or
    band_0 ...; alpha only if it is named. Where it is not, pixels without any opacity are missing.
    A GeoTIFF is read by `open_geotiff`, several of one place by `open_geotiffs`.
    """
    if weights is not None:
        raise ConfigError(f"weights is '{weights}', but images have none.", "Leave data.weights out.")
    if feature_dim not in (None, "band"):
        raise ConfigError(f"feature_dim is '{feature_dim}', but of images it is the band.", "Leave it out.")
    options = frozen(storage_options)
    files = expand(path, SUFFIXES, options)
    stacked = not (len(files) == 1 and path.endswith(files[0].rsplit("/", 1)[-1]))
    dims = ("image", "y", "x") if stacked else ("y", "x")
    for name in sample_dims or ():
        if name not in dims:
            raise no_such("dimension", name, dims, path)
    if sample_dims and tuple(sample_dims) != dims:
        raise DataError(
            f"sample_dims are {', '.join(sample_dims)}, but images have {', '.join(dims)}.",
            "Leave sample_dims out.",
        )
    if not stacked and is_geotiff(files[0]):
        return open_geotiff(files[0], features, block_rows)
    if stacked and are_geotiffs(files):
        return open_geotiffs(files, features, block_rows)
    first, names = _pixels(files[0], options)
    for file in files[1:]:
        size, bands = _size(file, options)
        if (*size, bands) != first.shape:
            raise DataError(
                f"{file} has shape {(*size, bands)}, {files[0]} {first.shape}.",
                "Images of a stack need equal shapes and bands.",
            )
    visible = [name for name in names if name != "alpha"]
    chosen = choose(features, visible, names, None, files[0])
    shape = ((len(files),) if stacked else ()) + first.shape[:2]
    alpha = names.index("alpha") if "alpha" in names and "alpha" not in chosen else None
    nodata = _nodata(files[0], options)
    reader = ImageReader(
        files,
        stacked,
        tuple(names.index(name) for name in chosen),
        first.shape,
        options,
        stamp(*files),
        alpha,
        nodata,
    )
    masked = alpha is not None or nodata is not None
    dtype = first.dtype.newbyteorder("=")
    rows = block_rows or rows_per_chunk(len(chosen))
    # an image is decoded whole: the chunks of a stack do not cut it
    sizes = (1, *shape[1:]) if stacked else leading_sizes(shape, rows)
    return Source(
        reader=reader,
        kind="image",
        grid=Grid.regular(dims, shape, sizes),
        features=chosen,
        dtype=_masked(dtype) if masked else dtype,
        stored_dtype=dtype,
        variables=chosen,
        feature_dim=feature_dim,
    )


def _masked(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """The floats that hold an image's values and NaN."""
    return np.result_type(dtype, np.float32)


def _opened(path: str, options: str) -> Any:
    try:
        from PIL import Image, UnidentifiedImageError
    except ImportError as error:
        raise need("image", "Reading images", error) from error
    with open_binary(path, options) as file:
        try:
            image: Any = Image.open(file)
            frames = getattr(image, "n_frames", 1)
            if frames > 1 and image.format in ("GIF", "TIFF", "WEBP"):
                raise DataError(f"{path} holds {frames} images.", "Save each to a file of its own.")
            if image.mode in ("RGB", "RGBA", "LA") and any(";16" in str(tile[-1]) for tile in image.tile):
                raise DataError(
                    f"{path} holds 16 bits for each of its bands, of which 8 would be read.",
                    "Store it as Zarr or NetCDF, whose values are read as they are.",
                )
            if is_url(path) and PLACE_TAGS & set(getattr(image, "tag_v2", ())):
                raise DataError(
                    f"{path} is a GeoTIFF behind a URL: its pixels would be read without their place.",
                    "Copy it to a local path, or store it as Zarr, which is read from a URL chunk by chunk.",
                )
            image.load()
            if (mode := _read_as(image)) != image.mode:
                image = image.convert(mode)
        except Image.DecompressionBombError as error:
            raise DataError(
                f"{path} is too large to be decoded at once: {reason(error)}.",
                "Store it as Zarr or NetCDF in chunks, which are read one by one.",
            ) from error
        except UnidentifiedImageError as error:
            remedy = "Check data.path."
            if path.lower().endswith((".tif", ".tiff")):
                remedy += " Of a raster of many or deep bands one local file is read, or Zarr or NetCDF."
            raise DataError(f"{path} cannot be opened as an image: {reason(error)}.", remedy) from error
    return image


def _read_as(image: Any) -> str:
    """The mode in which an image is read: palettes as colours, a transparent colour as a band."""
    clear = "transparency" in image.info
    if image.mode in ("P", "RGB"):
        return "RGBA" if clear else "RGB"
    return "LA" if clear and image.mode in ("1", "L") else str(image.mode)


def _pixels(path: str, options: str) -> tuple[NDArray[Any], list[str]]:
    """Return pixels, shape (y, x, bands), and the bands' names."""
    try:
        image = _opened(path, options)
    except DistemError:
        raise
    except (OSError, SyntaxError, ValueError) as error:
        raise DamagedChunkError(
            f"The image {path} cannot be decoded: {reason(error)}.", "Restore it from a copy."
        ) from error
    values = np.asarray(image)
    values = values[..., None] if values.ndim == 2 else values
    bands = image.getbands()
    known = image.mode in ("RGB", "RGBA", "L", "LA", "1", "I", "F") or image.mode.startswith("I;16")
    return values, [_BANDS.get(b, "gray") if known else f"band_{i}" for i, b in enumerate(bands)]


def _nodata(path: str, options: str) -> float | None:
    """The value that means no data: of a TIFF that GDAL has written, of a PNG with one band of 16 bits."""
    from PIL import Image

    with open_binary(path, options) as file, Image.open(file) as image:
        said = getattr(image, "tag_v2", {}).get(NODATA_TAG)
        if image.mode.startswith("I"):
            said = image.info.get("transparency", said)
    try:
        return None if said is None else float(str(said).strip("\x00 "))
    except ValueError:
        return None


def _size(path: str, options: str) -> tuple[tuple[int, int], int]:
    """Return (y, x) and the number of bands without decoding, where that is known."""
    from PIL import Image, UnidentifiedImageError

    try:
        with open_binary(path, options) as file, Image.open(file) as image:
            mode = _read_as(image)
            bands = len(image.getbands()) if mode == image.mode else len(mode)
            return (image.height, image.width), bands
    except (UnidentifiedImageError, OSError) as error:
        raise DataError(
            f"{path} cannot be opened as an image: {reason(error)}.", "Check data.path."
        ) from error
