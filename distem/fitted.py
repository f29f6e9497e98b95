"""A fitted model: parameters with the transform they live behind, as plain arrays on disk."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import xarray as xr

from distem._version import __version__
from distem.data.object_store import fetch, is_objects
from distem.data.safety import MOST_GROUP_BYTES, require_harmless_group
from distem.data.transform import Transform
from distem.errors import ConfigError, DataError
from distem.families.base import Described, Facts, Family, Variables, family
from distem.models.base import Model
from distem.types import Assignment, Float64, Rows

SCALED, FACT = "scaled_", "fact_"
"""Prefixes of the parameters in the model's own, scaled units (the exact ones), and of a fit's facts."""


@dataclass(frozen=True, eq=False)
class FittedModel:
    """A model that can be asked about data in its own units.

    Attributes
    ----------
    model : Model
        Of its family.
    params : object
        In the units of `transform`.
    transform : Transform
        From the data's units to the model's.
    features : tuple of str
        Names of the features, in column order.
    feature_attrs : mapping
        Units and long names of the features, where the data has them.
    source : mapping
        Description of the data it was fitted to.
    kind : str
        Of its family.
    facts : mapping
        Sums under the parameters that the family's tables need; empty where they are not known.
    """

    model: Model
    params: Any
    transform: Transform
    features: tuple[str, ...]
    feature_attrs: Mapping[str, Mapping[str, Any]]
    source: Mapping[str, Any]
    kind: str = field(kw_only=True)
    facts: Facts = field(default_factory=dict, kw_only=True)

    @property
    def family(self) -> Family:
        """What a run knows of this kind of model."""
        return family(self.kind)

    @property
    def k(self) -> int:
        """Number of components."""
        return int(self.params.k)

    @cached_property
    def variables(self) -> Variables:
        """The parameters in the data's units, as the family names them."""
        return self.family.variables(self.model, self.params, self.facts, self.transform)

    @property
    def described(self) -> Described:
        """The parameters in the data's units, without the model."""
        return Described(self.transform, self.features, self.variables)

    @property
    def weights(self) -> Float64:
        """Shares of the components, shape (k,)."""
        return self.described.values("weights")

    @property
    def means(self) -> Float64:
        """Means in the data's units, shape (k, d)."""
        return self.described.values("means")

    @property
    def covariances(self) -> Float64:
        """Covariance matrices in the data's units, shape (k, d, d); finite at any magnitude."""
        return self.described.values("covariances")

    @property
    def offset(self) -> float:
        """What brings the log-likelihood of a row to the data's units."""
        return self.family.offset(self.model, self.transform)

    def assign(self, rows: Rows, *, probability: bool = True, message: Any = None) -> Assignment:
        """Assign rows that `transform` has been applied to; log densities are in the data's units.

        `message` is what reaches a block of a chain from outside.
        """
        if rows.begins is None:
            alone = self.model.assign(rows, self.params, probability=probability)
            return replace(alone, log_density=alone.log_density + self.offset)
        chain: Any = self.model
        found: Assignment = chain.assign(rows, self.params, probability=probability, boundary=message)
        offset = np.where(np.isfinite(rows.values).all(axis=1), self.offset, 0.0)
        return replace(found, log_density=found.log_density + offset)

    def dataset(self) -> xr.Dataset:
        """The model as a dataset: parameters in the data's units, and the exact ones behind `scaled_`."""
        names = np.array(self.features, dtype=str)
        units = {
            name: attrs["units"]
            for name, attrs in self.feature_attrs.items()
            if attrs.get("units") is not None
        }
        exact = {SCALED + name: value for name, value in self.model.arrays(self.params).items()}
        exact |= {FACT + name: value for name, value in self.facts.items()}
        plain = {
            name: (tuple(f"{name}_{i}" for i in range(np.ndim(value))), value)
            for name, value in exact.items()
        }
        dims = {dim for of, _, _ in self.variables.values() for dim in of}
        places = {"component": np.arange(self.k), "feature": names, "feature_other": names}
        return xr.Dataset(
            {**self.variables, **plain},
            coords={name: place for name, place in places.items() if name in {*dims, "component", "feature"}},
            attrs={
                "kind": self.kind,
                **self.family.attributes(self.model),
                "units": json.dumps(units),
                "feature_attrs": json.dumps({k: dict(v) for k, v in self.feature_attrs.items()}, default=str),
                "transform": json.dumps(self.transform.describe()),
                "log_density_offset": self.offset,
                "source": json.dumps(dict(self.source)),
                "distem_version": __version__,
            },
        )

    @classmethod
    def from_dataset(cls, dataset: xr.Dataset) -> FittedModel:
        """The model of `dataset()`, bit for bit.

        Raises
        ------
        ConfigError
            The dataset holds no model of a kind this version knows.
        DataError
            What it says of its data cannot be read.
        """
        attrs = dataset.attrs
        kind = str(attrs.get("kind"))
        model = family(kind).model(attrs)
        try:
            said = {name: json.loads(attrs[name]) for name in ("transform", "feature_attrs", "source")}
        except (KeyError, TypeError, ValueError, RecursionError) as error:
            raise DataError(
                f"What the model says of its data cannot be read: {type(error).__name__}: {error}.",
                "Use a run folder you trust.",
            ) from error

        def behind(prefix: str) -> dict[str, Float64]:
            return {
                name.removeprefix(prefix): np.asarray(dataset[name].values, dtype=np.float64)
                for name in (str(v) for v in dataset.data_vars)
                if name.startswith(prefix)
            }

        return cls(
            model=model,
            params=model.from_arrays(behind(SCALED)),
            transform=Transform.from_description(said["transform"]),
            features=tuple(str(f) for f in dataset["feature"].values),
            feature_attrs=said["feature_attrs"],
            source=said["source"],
            kind=kind,
            facts=behind(FACT),
        )

    @classmethod
    def load(cls, path: str | Path) -> FittedModel:
        """Read a model from a run folder, its result.zarr, or the model group in it; the folder may be a URL.

        Raises
        ------
        ConfigError
            There is no model at `path`.
        """
        if is_objects(str(path)):
            with TemporaryDirectory(prefix="distem-") as scratch:
                if fetch(f"{path}/result.zarr", Path(scratch), MOST_GROUP_BYTES, "model"):
                    return cls.load(scratch)
            raise ConfigError(f"{path} holds no fitted model.", "Give the folder of a complete run.")
        path = Path(path)
        for store in (path / "result.zarr" / "model", path / "model", path):
            if (store / "zarr.json").exists():
                require_harmless_group(store)
                with xr.open_zarr(store, consolidated=False) as dataset:
                    return cls.from_dataset(dataset.load())
        raise ConfigError(
            f"{path} holds no fitted model.", "Give the folder of a complete run, or the result.zarr in it."
        )
