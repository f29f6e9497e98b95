"""The section `data`: where the rows come from."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Discriminator, Field, field_validator, model_validator

from distem.config.env import expand_all
from distem.config.fields import Count, Location, StorageOptions, Text, TextOrTexts, Texts, wrong
from distem.config.section import Section

if TYPE_CHECKING:
    from distem.data.derive import Derive
    from distem.data.source import Source


class TextureConfig(Section):
    """Local texture of the brightness, as features."""

    window: Annotated[int, Field(ge=3, le=101)] = Field(
        default=5, description="The side of the square about each pixel, odd."
    )
    measures: Annotated[
        tuple[Literal["mean", "deviation", "gradient"], ...], Field(strict=False, min_length=1)
    ] = Field(
        default=("deviation",),
        description="mean; deviation: the standard deviation; gradient: the root mean square slope.",
    )

    @model_validator(mode="after")
    def _is_odd(self) -> TextureConfig:
        if self.window % 2 == 0:
            raise wrong(f"is {self.window}; a window about a pixel has an odd side", "window")
        return self


class DeriveConfig(Section):
    """Features made of a raster's bands as they are read."""

    colour: Literal["rgb", "lab", "luv", "ycbcr", "hsv"] = Field(
        default="rgb",
        description="rgb keeps the bands; the others take the place of red, green and blue. hsv has hue and "
        "chroma as a point of the plane, for hue is an angle.",
    )
    texture: TextureConfig | None = Field(
        default=None, description="Adds local texture; a number is the window's side."
    )
    coordinates: Annotated[float, Field(gt=0)] | None = Field(
        default=None,
        description="Adds a pixel's row and column, weighing so much beside the other features: with "
        "data.scale standard, their standard deviation where the others have 1.",
    )
    white: Annotated[float, Field(gt=0)] | None = Field(
        default=None,
        description="The value of full brightness; null: the largest of the stored integers, 1 for floats.",
    )
    nodata: float | None = Field(
        default=None, description="The value that means no data, besides what the store itself says."
    )

    @field_validator("texture", mode="before")
    @classmethod
    def _window(cls, value: Any) -> Any:
        return {"window": value} if isinstance(value, int) and not isinstance(value, bool) else value

    def build(self) -> Derive:
        """Return it as the data's side takes it."""
        from distem.data.derive import Derive, Texture

        texture = None if self.texture is None else Texture(self.texture.window, self.texture.measures)
        return Derive(self.colour, texture, self.coordinates, self.white, self.nodata)


class DataConfig(Section):
    """Where the rows come from, whatever they are stored in."""

    kind: str = Field(description="What the data is stored in.")
    path: Location = Field(
        description="A local path, relative to the config's folder, or a URL; "
        "a pattern such as parts/*.csv for csv, parquet and image. May hold ${env:NAME}."
    )
    features: TextOrTexts | None = Field(
        default=None,
        description="The variables that are the features, or one variable that holds a feature dimension; "
        "null: all numeric variables, or the only one.",
    )
    sample_dims: Texts | None = Field(
        default=None,
        description="The dimensions whose every combination is a row; "
        "null: every dimension the features share, the feature dimension aside.",
    )
    feature_dim: Text | None = Field(
        default=None,
        description="The feature dimension, where `features` is one variable; null: its last dimension.",
    )
    scale: Literal["none", "standard", "whiten"] = Field(
        default="standard",
        description="standard: each feature to mean 0 and variance 1; whiten: decorrelate them as well. "
        "Results are in the data's own units all the same.",
    )
    missing: Literal["error", "drop", "marginalise"] = Field(
        default="error",
        description="What a row with a missing feature is: an error, or left out of the fit; marginalise, "
        "for sequences of rows: not observed, in its place.",
    )
    weights: Text | None = Field(default=None, description="The variable that holds a weight per row.")

    def build(self, locate: Callable[[str], str]) -> Source:
        """Open the data; `locate` is that of the whole config."""
        from distem.data.open import open_source

        features = (self.features,) if isinstance(self.features, str) else self.features
        own: dict[str, Any] = {
            name: getattr(self, name) for name in ("group", "block_rows", "decoder") if hasattr(self, name)
        }
        derive: DeriveConfig | None = getattr(self, "derive", None)
        if derive is not None:
            own["derive"] = derive.build()
        options = expand_all(getattr(self, "storage_options", {}))
        return open_source(
            self.kind,
            locate(self.path),
            features=features,
            sample_dims=self.sample_dims,
            feature_dim=self.feature_dim,
            weights=self.weights,
            storage_options=options or None,
            **own,
        )


class _Raster(DataConfig):
    """What may be a picture: rows have neighbours."""

    derive: DeriveConfig | None = Field(
        default=None, description="Features made of a raster's bands: colour, texture, coordinates."
    )


class ZarrDataConfig(_Raster):
    """A Zarr store."""

    kind: Literal["zarr"] = Field(description="A Zarr store.")
    group: Text | None = Field(default=None, description="The group within the store; null: its root.")
    storage_options: StorageOptions = Field(
        default_factory=dict,
        description="What the URL's filesystem (fsspec) is opened with. May hold ${env:NAME}.",
    )
    absent_chunks: Literal["error", "fill"] = Field(
        default="error",
        description="What a chunk is that is not in the store and would read as a fill value that is no "
        "missing value: an error, or so many rows of it.",
    )
    decoder: Literal["zarr", "zarrs"] = Field(
        default="zarr",
        description="What decodes the chunks. zarrs, a package in Rust that reads local stores, needs a "
        "third of the CPU time where chunks are small, under 100 KB, and about as much where they are large.",
    )


class NetcdfDataConfig(_Raster):
    """A netCDF-4 file."""

    kind: Literal["netcdf"] = Field(description="A netCDF-4 file.")
    group: Text | None = Field(default=None, description="The group within the file; null: its root.")


class _RowBlocks(DataConfig):
    """Storage whose chunks, if any, are not the blocks."""

    block_rows: Count | None = Field(
        default=None,
        description="Rows per block, where the storage has no chunks of its own; null: chosen for you.",
    )


class ParquetDataConfig(_RowBlocks):
    """Parquet files."""

    kind: Literal["parquet"] = Field(description="Parquet files.")
    storage_options: StorageOptions = Field(
        default_factory=dict,
        description="What the URL's filesystem (fsspec) is opened with. May hold ${env:NAME}.",
    )


class NpyDataConfig(_RowBlocks, _Raster):
    """A NumPy .npy file."""

    kind: Literal["npy"] = Field(description="A NumPy .npy file.")


class CsvDataConfig(_RowBlocks):
    """CSV files."""

    kind: Literal["csv"] = Field(description="CSV files.")
    storage_options: StorageOptions = Field(
        default_factory=dict,
        description="What the URL's filesystem (fsspec) is opened with. May hold ${env:NAME}.",
    )


class ImageDataConfig(_RowBlocks, _Raster):
    """Images; each pixel is a row."""

    kind: Literal["image"] = Field(description="Images; each pixel is a row.")


AnyData = Annotated[
    ZarrDataConfig | NetcdfDataConfig | ParquetDataConfig | NpyDataConfig | CsvDataConfig | ImageDataConfig,
    Discriminator("kind"),
]
