"""Features made of a raster's bands as they are read: colour space, texture, coordinates.

A box is read with the halo its texture looks into, across the edges of chunks, and worked on in strips; what
a pixel's features are does not depend on the box it is read with.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from distem.data.colours import RGB, SPACES, colours
from distem.data.grid import Box, box_rows, box_shape
from distem.data.neighbours import as_pictures, expand_box, from_pictures, spatial_axes, strips, within
from distem.data.source import Raw, Reader, Source
from distem.data.texture import MEASURES, reach, texture
from distem.data.variables import VariablesReader, opened
from distem.errors import ConfigError, DamagedChunkError, DataError
from distem.types import Float64

_PIXELS = 1 << 15
_BESIDE = 24 * 1024**2
"""Bytes that the strips of one thread, and scikit-image, take."""
_NAMES = {"mean": "local_mean", "deviation": "local_deviation", "gradient": "gradient"}


@dataclass(frozen=True)
class Texture:
    """Which local texture is a feature.

    Attributes
    ----------
    window : int
        Odd, at least 3: the side of the square about each pixel.
    measures : tuple of {"mean", "deviation", "gradient"}
        What is measured in it, of the brightness.
    """

    window: int = 5
    measures: tuple[str, ...] = ("deviation",)

    def __post_init__(self) -> None:
        if self.window < 3 or self.window % 2 == 0:
            raise ConfigError(
                f"The window of a texture is {self.window} pixels.", "It must be odd and at least 3."
            )
        for name in self.measures:
            if name not in MEASURES:
                raise ConfigError(f"There is no texture '{name}'.", f"It can be {', '.join(MEASURES)}.")


@dataclass(frozen=True)
class Derive:
    """What is made of a raster's bands.

    Attributes
    ----------
    colour : str
        "rgb" keeps the bands; or a colour space of `SPACES`, which takes the place of red, green, blue.
    texture : Texture or None
        Adds local texture.
    coordinates : float or None
        Adds each pixel's row and column, weighing so much beside the other features.
    white : float or None
        The value of full brightness; None: the largest the stored integers can hold, 1 for floats.
    nodata : float or None
        The value that means no data, besides what the store itself says.
    """

    colour: str = "rgb"
    texture: Texture | None = None
    coordinates: float | None = None
    white: float | None = None
    nodata: float | None = None

    def __post_init__(self) -> None:
        if self.colour != "rgb":
            colours(self.colour)
        for name in ("coordinates", "white"):
            value = getattr(self, name)
            if value is not None and not (np.isfinite(value) and value > 0):
                raise ConfigError(f"{name} is {value}.", "It must be positive and finite.")

    @property
    def halo(self) -> int:
        """How many pixels beyond a box its features look."""
        return 0 if self.texture is None else reach(self.texture.window, self.texture.measures)

    def describe(self) -> dict[str, Any]:
        """Return it as JSON-able values; `from_description` makes it again."""
        found = asdict(self)
        if self.texture is not None:
            found["texture"]["measures"] = list(self.texture.measures)
        return found

    @classmethod
    def from_description(cls, described: Mapping[str, Any]) -> Derive:
        """Make what `describe` described."""
        held = described.get("texture")
        made = None if held is None else Texture(held["window"], tuple(held["measures"]))
        known = {name: described.get(name) for name in ("coordinates", "white", "nodata")}
        return cls(colour=described.get("colour", "rgb"), texture=made, **known)


@dataclass(frozen=True)
class DerivedReader:
    """Reads boxes of derived features.

    Attributes
    ----------
    base : Reader
        Of the bands.
    derive : Derive
        What is made of them.
    shape : tuple of int
        Of the sample dimensions.
    axes : tuple of int
        Which of them are a picture's rows and columns.
    bands : int
        How many the base reads.
    rgb : tuple of int
        Where among them red, green and blue are, if a colour space takes their place.
    white : float
        The value of full brightness.
    """

    base: Reader
    derive: Derive
    shape: tuple[int, ...]
    axes: tuple[int, int]
    bands: int
    rgb: tuple[int, ...]
    white: float

    @cached_property
    def _kept(self) -> list[int]:
        return [j for j in range(self.bands) if j not in self.rgb]

    @property
    def d(self) -> int:
        """Number of features."""
        of = self.derive
        return self.bands + (len(of.texture.measures) if of.texture else 0) + (2 if of.coordinates else 0)

    def read(self, box: Box) -> Raw:
        """Read the rows of a box in C order of the sample dimensions."""
        wide = expand_box(box, self.shape, self.axes, self.derive.halo)
        values, weights = self.base.read(wide)
        inner = within(box, wide)
        if weights is not None and wide != box:
            weights = np.ascontiguousarray(weights.reshape(box_shape(wide))[inner]).reshape(-1)
        pictures = as_pictures(values.reshape(*box_shape(wide), self.bands), self.axes)
        down, across = (inner[axis] for axis in self.axes)
        rows, columns = down.stop - down.start, across.stop - across.start
        out = np.empty((len(pictures), rows, columns, self.d))
        halo = self.derive.halo
        for made, picture in zip(out, pictures, strict=True):
            for strip in strips(rows, columns, _PIXELS):
                top = max(0, down.start + strip.start - halo)
                seen = self._features(picture[top : down.start + strip.stop + halo])
                first = down.start + strip.start - top
                mine = seen[first : first + strip.stop - strip.start, across]
                made[strip, :, : mine.shape[-1]] = mine
        if self.derive.coordinates:
            for position, axis in zip((-2, -1), self.axes, strict=True):
                at = np.arange(box[axis].start, box[axis].stop, dtype=np.float64)
                out[..., position] = at[:, None] if position == -2 else at
        return from_pictures(out, box_shape(box), self.axes).reshape(box_rows(box), self.d), weights

    def _features(self, bands: NDArray[Any]) -> Float64:
        """Colours and texture of a strip, shape (y, x, bands); NaN where a band is missing."""
        values = bands.astype(np.float64)
        if self.derive.nodata is not None:
            values[values == self.derive.nodata] = np.nan
        brightness = None
        if self.rgb:
            space = SPACES[self.derive.colour]
            made = space.forward(values[..., list(self.rgb)] / self.white)
            brightness = made[..., space.lightness]
            values = np.concatenate([made, values[..., self._kept]], axis=-1)
        kind = self.derive.texture
        if kind is None:
            return values
        missing = ~np.isfinite(values).all(axis=-1)
        # band by band: a sum along the last dimension may be taken in another order for other shapes
        if brightness is None:
            brightness = sum((values[..., j] for j in range(self.bands)), np.zeros(())) / self.bands
        brightness = np.where(missing, np.nan, brightness)
        return np.concatenate([values, texture(brightness, kind.window, kind.measures)], axis=-1)

    def locate(self, box: Box) -> DamagedChunkError | None:
        """Read the stored chunks under a box one by one; name the first that fails."""
        return self.base.locate(expand_box(box, self.shape, self.axes, self.derive.halo))

    def coordinates(self) -> Mapping[str, Any]:
        """Return the coordinates of the bands."""
        return self.base.coordinates()

    def read_coordinate(self, name: str, box: Mapping[str, slice]) -> NDArray[Any]:
        """Read a part of a coordinate."""
        return self.base.read_coordinate(name, box)


@dataclass(frozen=True, eq=False)
class DerivedSource(Source):
    """A source of derived features.

    Attributes
    ----------
    base : Source
        Of the bands.
    derive : Derive
        What is made of them.
    """

    base: Source = field(kw_only=True)
    derive: Derive = field(kw_only=True)

    @property
    def stored_bytes(self) -> int:
        """Bytes of a row as it is stored and decoded."""
        return self.base.stored_bytes

    @property
    def reading_nbytes(self) -> int:
        """Bytes that reading takes besides the rows: bands of the chunks about a block, and strips."""
        chunks = 9 if self.derive.halo else 1
        return self.base.reading_nbytes + chunks * self.base.chunk_nbytes + _BESIDE

    def describe(self) -> dict[str, Any]:
        """Return what the data is, JSON-able, for the fingerprint: no path and no clock."""
        made = self.derive.describe() | {"bands": list(self.base.features)}
        return super().describe() | {"derive": made, "dtype": self.base.dtype.str}


def derived(source: Source, derive: Derive) -> DerivedSource:
    """Make features of a raster's bands.

    Parameters
    ----------
    source : Source
        Of the bands; its sample dimensions hold a picture's rows and columns.
    derive : Derive
        What to make.

    Raises
    ------
    ConfigError
        The rows are no picture, or a feature would have a band's name.
    DataError
        A colour space is asked for, and there is no red, green and blue.
    """
    axes = spatial_axes(source.dims)
    rgb = _rgb(source, derive.colour)
    kept = [name for j, name in enumerate(source.features) if j not in rgb]
    made: dict[str, dict[str, Any]] = {}
    if rgb:
        names = SPACES[derive.colour].features
        made |= {name: {"long_name": f"{name} of {derive.colour}"} for name in names}
    made |= {name: dict(source.feature_attrs.get(name, {})) for name in kept}
    if derive.texture is not None:
        window = derive.texture.window
        words = {"mean": "mean", "deviation": "standard deviation", "gradient": "root mean square slope"}
        for name in derive.texture.measures:
            made[_NAMES[name]] = {
                "long_name": f"{words[name]} of brightness within {window} × {window} pixels"
            }
    dims = [source.dims[axis] for axis in axes]
    if derive.coordinates:
        made |= {dim: {"units": "pixel", "long_name": f"position along {dim}"} for dim in dims}
    reader = DerivedReader(
        source.reader, derive, source.shape, axes, source.d, rgb, derive.white or full_brightness(source)
    )
    if len(made) != reader.d:
        raise ConfigError(
            f"The bands {', '.join(source.features)} and what is made of them share a name.",
            "Choose the bands with data.features.",
        )
    maps = {a["grid_mapping"] for a in source.feature_attrs.values() if "grid_mapping" in a}
    if len(maps) == 1:
        made = {name: {**attrs, "grid_mapping": next(iter(maps))} for name, attrs in made.items()}
    plain = 1.0 if derive.coordinates is None else derive.coordinates
    held = {name: getattr(source, name) for name in ("kind", "grid", "variables", "feature_dim", "attrs")}
    return DerivedSource(
        reader=reader,
        features=tuple(made),
        dtype=np.dtype(np.float64),
        weights=source.weights,
        feature_attrs=made,
        emphasis=tuple(plain if derive.coordinates and name in dims else 1.0 for name in made),
        base=source,
        derive=derive,
        **held,
    )


def _rgb(source: Source, colour: str) -> tuple[int, ...]:
    """Return which bands are red, green and blue, where a colour space takes their place."""
    if colour == "rgb":
        return ()
    lower = [name.lower() for name in source.features]
    if set(RGB) <= set(lower):
        return tuple(lower.index(name) for name in RGB)
    if source.d == 3 and not set(RGB) & set(lower):
        return (0, 1, 2)  # three bands without such names: in this order
    raise DataError(
        f"data.derive.colour is {colour}, which is made of red, green and blue; the bands are "
        f"{', '.join(source.features)}.",
        "Name three bands in this order in data.features, or leave the colour space out.",
    )


def full_brightness(source: Source) -> float:
    """Return the largest value that stored integers can hold, 1 for floats."""
    dtype = source.dtype
    if isinstance(source.reader, VariablesReader):  # masking has made floats of integers
        stored = opened(source.reader.store).variables[source.reader.variables[0]]
        if not {"scale_factor", "add_offset"} & set(stored.attrs):
            dtype = stored.dtype
    elif source.stored_dtype is not None:
        dtype = source.stored_dtype
    return float(np.iinfo(dtype).max) if dtype.kind in "iu" else 1.0


__all__ = ["Derive", "DerivedReader", "DerivedSource", "Texture", "derived", "full_brightness"]
