"""The section `data`: where the rows come from."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Discriminator, Field

from distem.config.env import expand_all
from distem.config.fields import Count, Location, StorageOptions, Text, TextOrTexts, Texts
from distem.config.section import Section

if TYPE_CHECKING:
    from distem.data.source import Source


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
    missing: Literal["error", "drop"] = Field(
        default="error", description="What a row with a missing feature is: an error, or left out of the fit."
    )
    weights: Text | None = Field(default=None, description="The variable that holds a weight per row.")

    def build(self, locate: Callable[[str], str]) -> Source:
        """Open the data; `locate` is that of the whole config."""
        from distem.data.open import open_source

        features = (self.features,) if isinstance(self.features, str) else self.features
        own = {
            name: getattr(self, name) for name in ("group", "block_rows", "decoder") if hasattr(self, name)
        }
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


class ZarrDataConfig(DataConfig):
    """A Zarr store."""

    kind: Literal["zarr"] = Field(description="A Zarr store.")
    group: Text | None = Field(default=None, description="The group within the store; null: its root.")
    storage_options: StorageOptions = Field(
        default_factory=dict,
        description="What the URL's filesystem (fsspec) is opened with. May hold ${env:NAME}.",
    )
    decoder: Literal["zarr", "zarrs"] = Field(
        default="zarr",
        description="What decodes the chunks. zarrs, a package in Rust that reads local stores, needs a "
        "third of the CPU time where chunks are small, under 100 KB, and about as much where they are large.",
    )


class NetcdfDataConfig(DataConfig):
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


class NpyDataConfig(_RowBlocks):
    """A NumPy .npy file."""

    kind: Literal["npy"] = Field(description="A NumPy .npy file.")


class CsvDataConfig(_RowBlocks):
    """CSV files."""

    kind: Literal["csv"] = Field(description="CSV files.")
    storage_options: StorageOptions = Field(
        default_factory=dict,
        description="What the URL's filesystem (fsspec) is opened with. May hold ${env:NAME}.",
    )


class ImageDataConfig(_RowBlocks):
    """Images; each pixel is a row."""

    kind: Literal["image"] = Field(description="Images; each pixel is a row.")


AnyData = Annotated[
    ZarrDataConfig | NetcdfDataConfig | ParquetDataConfig | NpyDataConfig | CsvDataConfig | ImageDataConfig,
    Discriminator("kind"),
]
