"""A fitted model: parameters with the transform they live behind, as plain arrays on disk."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from distem._version import __version__
from distem.data.transform import Transform
from distem.errors import ConfigError
from distem.models.gaussian import Gaussian
from distem.models.mixture import Mixture, MixtureParams
from distem.types import Assignment, Float64, Rows

KIND = "gaussian_mixture"
SCALED = "scaled_"
"""Prefix of the parameters in the model's own, scaled units: these are the exact ones."""


@dataclass(frozen=True, eq=False)
class FittedModel:
    """A model that can be asked about data in its own units.

    Attributes
    ----------
    model : Mixture
        The family.
    params : MixtureParams
        In the units of `transform`.
    transform : Transform
        From the data's units to the model's.
    features : tuple of str
        Names of the features, in column order.
    feature_attrs : mapping
        Units and long names of the features, where the data has them.
    source : mapping
        Description of the data it was fitted to.
    """

    model: Mixture
    params: MixtureParams
    transform: Transform
    features: tuple[str, ...]
    feature_attrs: Mapping[str, Mapping[str, Any]]
    source: Mapping[str, Any]

    @property
    def k(self) -> int:
        """Number of components."""
        return self.params.k

    @property
    def weights(self) -> Float64:
        """Mixing weights, shape (k,)."""
        return self.params.weights

    @property
    def means(self) -> Float64:
        """Means in the data's units, shape (k, d)."""
        return self.transform.backward_means(self.params.theta.means)

    @property
    def covariances(self) -> Float64:
        """Covariance matrices in the data's units, shape (k, d, d); finite at any magnitude."""
        theta = self.params.theta
        matrices = self.model.component.shape.matrices(theta.covariances, *theta.means.shape)
        largest = float(np.finfo(np.float64).max)  # what float64 cannot hold is held there
        return np.clip(self.transform.backward_covariances(matrices), -largest, largest)

    def assign(self, rows: Rows, *, probability: bool = True) -> Assignment:
        """Assign rows that `transform` has been applied to; log densities are in the data's units."""
        found = self.model.assign(rows, self.params, probability=probability)
        return replace(found, log_density=found.log_density + self.transform.log_jacobian)

    def dataset(self) -> xr.Dataset:
        """The model as a dataset: parameters in the data's units, and the exact ones behind `scaled_`."""
        component = self.model.component
        names = list(self.features)
        units = {
            name: attrs["units"]
            for name, attrs in self.feature_attrs.items()
            if attrs.get("units") is not None
        }
        scaled = {
            f"{SCALED}{name}": (tuple(f"{SCALED}{name}_{i}" for i in range(value.ndim)), value)
            for name, value in self.model.arrays(self.params).items()
        }
        return xr.Dataset(
            {
                "weights": ("component", self.weights, {"long_name": "share of each component"}),
                "means": (("component", "feature"), self.means, {"long_name": "mean of each component"}),
                "covariances": (
                    ("component", "feature", "feature_other"),
                    self.covariances,
                    {"long_name": "covariance matrix of each component"},
                ),
                **scaled,
            },
            coords={
                "component": np.arange(self.k),
                "feature": np.array(names, dtype=str),
                "feature_other": np.array(names, dtype=str),
            },
            attrs={
                "kind": KIND,
                "covariance": component.covariance,
                "reg_covar": np.asarray(component.reg_covar).tolist(),
                "floor": component.floor,
                "kernels": component.kernels,
                "units": json.dumps(units),
                "feature_attrs": json.dumps({k: dict(v) for k, v in self.feature_attrs.items()}, default=str),
                "transform": json.dumps(self.transform.describe()),
                "log_density_offset": self.transform.log_jacobian,
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
        """
        attrs = dataset.attrs
        if attrs.get("kind") != KIND:
            raise ConfigError(
                f"This holds a model of kind {attrs.get('kind')!r}, not {KIND!r}.",
                "Give a run folder of distem.",
            )
        model = Mixture(
            Gaussian(
                attrs["covariance"],
                _number_or_array(attrs["reg_covar"]),
                float(attrs["floor"]),
                kernels=attrs["kernels"],
            )
        )
        arrays = {
            name.removeprefix(SCALED): np.asarray(dataset[name].values, dtype=np.float64)
            for name in (str(v) for v in dataset.data_vars)
            if name.startswith(SCALED)
        }
        return cls(
            model=model,
            params=model.from_arrays(arrays),
            transform=Transform.from_description(json.loads(attrs["transform"])),
            features=tuple(str(f) for f in dataset["feature"].values),
            feature_attrs=json.loads(attrs["feature_attrs"]),
            source=json.loads(attrs["source"]),
        )

    @classmethod
    def load(cls, path: str | Path) -> FittedModel:
        """Read a model from a run folder, its result.zarr, or the model group in it.

        Raises
        ------
        ConfigError
            There is no model at `path`.
        """
        path = Path(path)
        for store in (path / "result.zarr" / "model", path / "model", path):
            if (store / "zarr.json").exists():
                with xr.open_zarr(store, consolidated=False) as dataset:
                    return cls.from_dataset(dataset.load())
        raise ConfigError(
            f"{path} holds no fitted model.", "Give the folder of a complete run, or the result.zarr in it."
        )


def _number_or_array(value: Any) -> float | Float64:
    return float(value) if np.ndim(value) == 0 else np.asarray(value, dtype=np.float64)
