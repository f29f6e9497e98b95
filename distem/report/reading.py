"""What a run folder holds, read for the report: nothing else is looked at."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from distem.data import results
from distem.data.folder import RESULT, RunFolder
from distem.data.remote_folder import run_folder
from distem.errors import ConfigError
from distem.families.base import Family, family
from distem.types import Float64, Ints

GROUPS = ("model", "trace", "selection", "sample")
TOLD = ("phase", "collapsed", "candidate", "dropped")
"""Events that are told of: a log has many more, one for each pass."""
UNSURE = 0.2
"""A row with more uncertainty than this counts as unsure."""


@dataclass(frozen=True, eq=False)
class Found:
    """A complete run.

    Attributes
    ----------
    manifest : mapping
        What the run was and how it ended.
    config : str
        The resolved config, as YAML.
    events : tuple of mapping
        Those of the log that are told of; lines that cannot be read are left out.
    model, trace, selection, sample : Dataset
        The groups of the result, in memory.
    folder : str
        The run folder: a path or URL; empty where it came from none.
    tree : DataTree, optional
        The opened result, where it did not come from a folder.
    """

    manifest: Mapping[str, Any]
    config: str
    events: tuple[Mapping[str, Any], ...]
    model: xr.Dataset
    trace: xr.Dataset
    selection: xr.Dataset
    sample: xr.Dataset
    folder: str
    tree: xr.DataTree | None = None

    @cached_property
    def family(self) -> Family:
        """The kind of model."""
        return family(str(self.model.attrs.get("kind")))

    @property
    def part(self) -> str:
        """What one of the k is called."""
        return self.family.part

    @property
    def objective(self) -> str:
        """What the fit climbed on."""
        return self.family.objective

    @property
    def measured(self) -> str:
        """The same with its unit, for axes; a row's inertia has none that has a name."""
        return self.objective if self.objective.startswith("minus") else f"{self.objective}, nats"

    @property
    def step(self) -> str:
        """What one point of the trace is of."""
        return {"pass": "pass over the data", "pair": "pair of frames"}[self.family.step]

    @property
    def variants(self) -> list[str]:
        """What besides k tells the candidates apart, one for each."""
        return [str(v) for v in self.selection[self.family.variant].values]

    @property
    def has_moments(self) -> bool:
        """Whether each part has a share, a mean and a covariance over the features."""
        return {"weights", "means", "covariances"} <= {str(v) for v in self.model.data_vars}

    @property
    def name(self) -> str:
        """Name of the run."""
        return str(self.manifest.get("name") or "run")

    @property
    def k(self) -> int:
        """Number of components."""
        return int(self.model.sizes["component"])

    @property
    def d(self) -> int:
        """Number of features."""
        return len(self.features)

    @cached_property
    def features(self) -> tuple[str, ...]:
        """Names of the features."""
        return tuple(str(name) for name in self.model["feature"].values)

    @cached_property
    def feature_attrs(self) -> Mapping[str, Mapping[str, Any]]:
        """Units and long names, by feature."""
        attrs = {name: dict(given) for name, given in _json(self.model.attrs.get("feature_attrs")).items()}
        for name, unit in _json(self.model.attrs.get("units")).items():
            attrs.setdefault(name, {}).setdefault("units", unit)
        return attrs

    @cached_property
    def weights(self) -> Float64:
        """Share of each component, shape (k,)."""
        return _floats(self.model["weights"])

    @cached_property
    def means(self) -> Float64:
        """In the data's units, shape (k, d)."""
        return _floats(self.model["means"])

    @cached_property
    def covariances(self) -> Float64:
        """In the data's units, shape (k, d, d)."""
        return _floats(self.model["covariances"])

    @cached_property
    def sds(self) -> Float64:
        """Standard deviations in the data's units, shape (k, d)."""
        return deviations(self.covariances)

    @cached_property
    def start(self) -> tuple[Float64, Float64, Float64] | None:
        """Weights, means and covariances the chosen fit started from; None where it had no shares yet."""
        if "start_weights" not in self.model:
            return None
        return (
            _floats(self.model["start_weights"]),
            _floats(self.model["start_means"]),
            _floats(self.model["start_covariances"]),
        )

    @cached_property
    def values(self) -> Float64:
        """Sample rows in the data's units, shape (m, d)."""
        return _floats(self.sample["values"])

    @cached_property
    def labels(self) -> Ints:
        """Component of each sample row, shape (m,)."""
        return np.asarray(self.sample["label"].values, dtype=np.int64)

    @cached_property
    def uncertainty(self) -> Float64:
        """Probability that the label is wrong, shape (m,)."""
        return _floats(self.sample["uncertainty"])

    @cached_property
    def row_weights(self) -> Float64:
        """What each sample row counts, shape (m,): one, unless the data is weighted."""
        if "weights" in self.sample:
            return _floats(self.sample["weights"])
        return np.ones(len(self.labels))

    @cached_property
    def centre(self) -> Float64:
        """Mean of each feature, the outermost hundredth at either end pulled in, shape (d,)."""
        return np.asarray(self._winsorised.mean(axis=0))

    @cached_property
    def spread(self) -> Float64:
        """Standard deviation likewise; one where a feature does not vary, shape (d,)."""
        with np.errstate(over="ignore", invalid="ignore"):
            sd = self._winsorised.std(axis=0)
        return np.where((sd > 0.0) & np.isfinite(sd), sd, 1.0)

    @cached_property
    def _winsorised(self) -> Float64:
        low, high = np.percentile(self.values, [1.0, 99.0], axis=0)
        return np.clip(self.values, low, high)

    @cached_property
    def telling(self) -> list[int]:
        """Features, those first in which the components lie furthest apart for their spread."""
        with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
            # a component far outside the data is as far as can be, and no further
            at = np.clip((self.means - self.centre) / self.spread, -6.0, 6.0)
            within = np.minimum(self.sds / self.spread, 6.0) ** 2
            between = self.weights @ (at - self.weights @ at) ** 2
            ratio = np.nan_to_num(between / (between + self.weights @ within))
        return [int(j) for j in np.argsort(-ratio, kind="stable")]

    def group(self, name: str) -> xr.Dataset | None:
        """A further group of the result, in memory; None where there is none."""
        if self.tree is not None:
            return self.tree[name].to_dataset().load() if name in self.tree.children else None
        return results.loaded(f"{self.folder}/{RESULT}", name)

    def opened(self, name: str, **more: Any) -> xr.Dataset | None:
        """A group of the result in the folder, to be read in part and closed; None where there is none."""
        return results.group(f"{self.folder}/{RESULT}", name, **more)

    def holds(self, name: str) -> bool:
        """Whether the result in the folder has a group of that name."""
        return results.holds(f"{self.folder}/{RESULT}", f"{name}/zarr.json")

    def say(self, *keys: str, otherwise: Any = None) -> Any:
        """A value deep in the manifest."""
        here: Any = self.manifest
        for key in keys:
            if not isinstance(here, Mapping) or key not in here:
                return otherwise
            here = here[key]
        return here


def read(folder: str | Path | RunFolder) -> Found:
    """Read a run folder, by its path or URL.

    Raises
    ------
    ConfigError
        It is not the folder of a complete run.
    """
    if not isinstance(folder, RunFolder):
        with run_folder(str(folder)) as run:
            return read(run)
    run = folder
    manifest = run.read_manifest()
    if manifest is None:
        raise ConfigError(
            f"{run.where} holds no run: there is no manifest.json in it.",
            "Give the folder that a run has written.",
        )
    status = manifest.get("status")
    if status != "complete":
        raise ConfigError(
            f"The run in {run.where} is not complete: its status is {status}.",
            "Finish it with distem run, then try again.",
        )
    groups = {name: _group(run, name) for name in GROUPS}
    config = run.read("config.yaml")
    if config is None:  # the manifest holds the same
        config = json.dumps(manifest.get("config", {}), indent=2, sort_keys=True, ensure_ascii=False)
    model, trace, selection, sample = groups.values()
    events = _events(run.lines(run.log.name))
    return Found(manifest, config, events, model, trace, selection, sample, run.where)


def deviations(covariances: Float64) -> Float64:
    """Square roots of the diagonals, shape (k, d)."""
    return np.sqrt(np.maximum(np.diagonal(covariances, axis1=1, axis2=2), 0.0))


def _group(run: RunFolder, name: str) -> xr.Dataset:
    held = results.loaded(run.result, name)
    if held is None:
        raise ConfigError(
            f"The result in {run.where} is not whole: {name} is missing in {RESULT}.",
            "Run it again with distem run --fresh.",
        )
    return held


def _events(lines: Iterable[str]) -> tuple[Mapping[str, Any], ...]:
    events = []
    for line in lines:
        try:
            event = json.loads(line)
        except (ValueError, RecursionError):  # the line a crash cut short
            continue
        if isinstance(event, dict) and event.get("event") in TOLD:
            events.append(event)
    return tuple(events)


def _floats(array: xr.DataArray) -> Float64:
    return np.asarray(array.values, dtype=np.float64)


def _json(text: object) -> dict[str, Any]:
    try:
        found = json.loads(text) if isinstance(text, str) and text else {}
    except (ValueError, RecursionError):  # it only tells how features are called
        return {}
    return found if isinstance(found, dict) else {}
