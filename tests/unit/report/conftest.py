"""Run folders made without a run: the EM loop on rows in memory, its tables written as a run writes them."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from distem.data.results import write_group
from distem.data.transform import Transform
from distem.em.acceleration import accelerator
from distem.em.loop import Climb, climb
from distem.em.repair import Repair
from distem.em.selection import best_by, score
from distem.em.stopping import FirstOf, GainLeft, MaxPasses
from distem.events import Event
from distem.execution.serial import SerialExecutor
from distem.families.mixture import GaussianMixtures
from distem.fitted import FittedModel
from distem.models import seeding
from distem.models.gaussian import Gaussian
from distem.models.mixture import Mixture, MixtureParams
from distem.tables import model_dataset, sample_dataset, selection_dataset, trace_dataset
from distem.types import Rows

CONFIG = "version: 1\nname: test\n# <b>resolved</b> config\n"


@dataclass(frozen=True)
class InMemory:
    values: np.ndarray
    index: int = 0

    @property
    def n(self) -> int:
        return len(self.values)

    @property
    def nbytes(self) -> int:
        return self.values.nbytes

    def load(self) -> Rows:
        return Rows(self.values)


def make_run(
    folder: Path,
    values: np.ndarray,
    *,
    components: Sequence[int] = (2,),
    covariances: Sequence[str] = ("full",),
    restarts: int = 1,
    features: Sequence[str] | None = None,
    feature_attrs: Mapping[str, Mapping[str, Any]] | None = None,
    begin: tuple[Any, Any, Any] | None = None,
    max_passes: int = 60,
    tolerance: float = 1e-6,
    acceleration: str = "anderson",
    scale: bool = True,
    kernels: str = "reference",
    sample_rows: int = 5000,
    name: str = "test",
    run_warnings: Sequence[str] = (),
    sample_weights: np.ndarray | None = None,
) -> Path:
    values = np.ascontiguousarray(values, dtype=float)
    n, d = values.shape
    features = tuple(features or (f"x{j}" for j in range(d)))
    sd = values.std(axis=0)
    transform = (
        Transform(shift=values.mean(axis=0), scale=np.where(sd > 0, sd, 1.0)) if scale else Transform()
    )
    scaled = transform.rows(values, None).values
    rng = np.random.default_rng(0)
    few = rng.permutation(n)[:sample_rows]
    sample = seeding.Sample(len(few), np.linspace(0, 1, len(few)), scaled[few], np.ones(len(few)))
    models, climbs, starts, log = {}, [], {}, []
    for covariance in covariances:
        for k in components:
            for restart in range(restarts):
                key = f"{k}-{covariance}-{restart + 1}"
                model = Mixture(Gaussian(covariance, kernels=kernels))
                if begin is None:
                    init = "kmeans" if restart == 0 else "random_from_data"
                    params = seeding.start(init, model, k, sample, np.random.default_rng(restart))
                else:
                    weights, means, matrices = (np.array(p, dtype=float) for p in begin)
                    params = MixtureParams(weights, model.component.from_matrices(means, matrices, weights))
                models[key], starts[key] = model, params
                climbs.append(
                    Climb(
                        name=key,
                        model=model,
                        params=params,
                        stop=FirstOf((GainLeft(tolerance), MaxPasses(max_passes))),
                        repair=Repair(sample.values, 0, 3 * k),
                        accelerator=accelerator(acceleration),
                    )
                )

    def observe(event: Event) -> None:
        log.append({"time": "2026-01-01T00:00:00.000+00:00", "run": name, "phase": "fit"} | event.as_dict())

    with SerialExecutor().open([InMemory(scaled)], resident=True) as blocks:
        climb(climbs, blocks, observe=observe, offset=transform.log_jacobian)
    fits = {c.name: c.fit for c in climbs}
    scores = {key: score(models[key], fit, transform.log_jacobian) for key, fit in fits.items()}
    chosen = best_by("bic", scores)

    def dressed(params: MixtureParams) -> FittedModel:
        attrs = feature_attrs or {}
        return FittedModel(
            models[chosen], params, transform, features, attrs, {"kind": "array"}, kind="gaussian_mixture"
        )

    model, start = dressed(fits[chosen].params), dressed(starts[chosen])
    seconds = [0.01 * (1 + i % 3) for i in range(max(len(f.trace) for f in fits.values()))]
    groups = {
        "model": model_dataset(model, start),
        "trace": trace_dataset(fits, chosen, seconds, transform.log_jacobian, "log-likelihood"),
        "selection": selection_dataset(fits, scores, chosen, transform.log_jacobian, GaussianMixtures()),
        "sample": sample_dataset(
            model, sample.values, sample.weights if sample_weights is None else sample_weights
        ),
    }
    folder.mkdir(parents=True)
    for group, dataset in groups.items():
        write_group(str(folder / "result.zarr"), group, dataset)
    fit = fits[chosen]
    manifest = {
        "name": name,
        "status": "complete",
        "exit": 0,
        "seed": 0,
        "config_hash": "ab" * 32,
        "kernels": kernels,
        "seconds": 12.5,
        "warnings": list(run_warnings),
        "partitions": 1,
        "versions": {"distem": "0.1", "numpy": "2.0"},
        "plan": {"rows": n, "features": d, "blocks": 1, "partitions": 1, "workers": 1, "threads": 1},
        "data": {
            "kind": "zarr",
            "dims": ["row"],
            "shape": [n],
            "fingerprint": "cd" * 32,
            "usable_rows": n,
            "mass": n,
        },
        "config": {
            "name": name,
            "data": {"scale": "standard", "missing": "error"},
            "cluster": {"kind": "serial"},
            "fit": {"select": "bic", "tolerance": tolerance, "init": "kmeans", "acceleration": acceleration},
        },
        "fit": {
            "chosen": chosen,
            "components": model.k,
            "bic": scores[chosen].bic,
            "passes": len(fit.trace),
            "log_likelihood": scores[chosen].log_likelihood / scores[chosen].mass,
            "converged": fit.reason.converged,
            "reason": fit.reason.sentence,
        },
    }
    (folder / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")
    (folder / "config.yaml").write_text(CONFIG, encoding="utf-8")
    (folder / "log.jsonl").write_text("".join(json.dumps(line) + "\n" for line in log), encoding="utf-8")
    return folder


@pytest.fixture
def a_run(tmp_path: Path) -> Callable[..., Path]:
    """Makes a run folder of some rows."""

    def made(values: np.ndarray, **options: Any) -> Path:
        return make_run(tmp_path / options.pop("folder", "run"), values, **options)

    return made


@pytest.fixture(scope="module")
def a_run_once(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """The same for all tests of a module."""

    def made(values: np.ndarray, **options: Any) -> Path:
        return make_run(tmp_path_factory.mktemp("run") / "run", values, **options)

    return made
