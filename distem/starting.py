"""Where the candidates of a run start: by name, by given parameters, or from an earlier run."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import product
from typing import Any

import numpy as np

from distem._random import generator
from distem.config import Config, GivenParameters
from distem.data.scan import Scan
from distem.data.transform import Transform
from distem.em.acceleration import accelerator
from distem.em.folds import Folds
from distem.em.loop import Climb
from distem.em.repair import Repair
from distem.em.stopping import FirstOf, GainLeft, MaxPasses, Settled
from distem.errors import DataError
from distem.events import WITHOUT
from distem.execution.base import BlockSet
from distem.families.base import Beginning, Family
from distem.families.base import family as family_of
from distem.fitted import FittedModel
from distem.models import seeding
from distem.models.base import Model
from distem.models.covariance import COVARIANCES
from distem.types import Float64

Candidates = dict[str, tuple[Model, int, int]]
"""By name: the model, its number of components, its restart."""
TRIED_KINDS = ("gaussian_mixture", "kmeans")
"""Kinds of models that a few rows drawn at random say something about."""


def candidates(config: Config, variance: Float64, scale: Float64 | None) -> Candidates:
    """All that a config asks for: variants times numbers of components times restarts.

    Parameters
    ----------
    variance : ndarray, shape (d,)
        Of the data, in the model's units.
    scale : ndarray, shape (d,), or None
        The model's units.
    """
    # scaled features have reg_covar in their own units; with `none` it is in the data's
    units = scale if config.data.scale == "none" else None
    found: Candidates = {}
    for variant, k in product(config.model.variants, config.model.n_components):
        model = config.model.build(variant, variance, config.fit.kernels, units)
        for restart in range(config.fit.restarts):
            found[f"{k}-{variant}-{restart + 1}"] = (model, k, restart)
    return found


def folds_of(config: Config) -> Folds | None:
    """How the rows are cut for cross-validation, where that is asked for."""
    return Folds(config.fit.folds, config.seed) if config.fit.select == "cv" else None


def samples_first(config: Config, n: int, d: int) -> tuple[int, ...]:
    """Rows of the samples to climb on before all n rows of d features; none where that is of no use.

    Given parameters, or those of an earlier run, may be nearer to the optimum than a sample's optimum is.
    Samples of rows with weights say less than their size, and take more memory to draw.
    """
    named = isinstance(config.fit.init, str) and config.fit.init in seeding.NAMES
    asked = config.fit.sample_first
    alone = config.data.weights is None and not config.model.chained
    return asked.sizes(n, d) if asked and named and alone else ()


def tries(config: Config) -> int:
    """How many starts of each fit are tried on the sample.

    One where the start is given or looks at all rows, and for kinds whose rows are not independent.
    """
    init = config.fit.init
    sampled = isinstance(init, str) and init in seeding.NAMES and init != "kmeans||"
    return config.fit.init_tries if sampled and config.model.kind in TRIED_KINDS else 1


def family(name: str) -> str:
    """The candidate that a fit is a restart of, or a restart without a fold."""
    return name.rpartition("-")[0]


def without(name: str, fold: int) -> str:
    """Name of the fit of a candidate on all rows but those of a fold."""
    return f"{name}{WITHOUT}{fold + 1}"


def rest_of(sample: seeding.Sample, folds: Folds, fold: int, least: int) -> seeding.Sample:
    """The rows of the sample that are not held out.

    Raises
    ------
    DataError
        They are fewer than `least`, or none is held out.
    """
    if sample.addresses is None:
        raise DataError("Rows that do not know where they lie cannot be held out.", "Select by bic.")
    seen = folds.of(sample.addresses) != fold
    if seen.all() or seen.sum() < least:
        raise DataError(
            f"Of the {len(seen)} rows of the sample, fold {fold + 1} of {folds.count} holds out "
            f"{len(seen) - seen.sum()}: one at least is needed, and {least} to start from.",
            "Set fit.folds lower, raise fit.sample_rows, or select by bic.",
        )
    return sample.where(seen)


def at_the_foot(
    config: Config,
    name: str,
    model: Model,
    start: Any,
    sample: seeding.Sample,
    held: int | None = None,
) -> Climb:
    """A fit that has not taken a step yet."""
    moves = 3 * start.k if config.model.on_collapse == "reseed" else 0
    return Climb(
        name=name,
        model=model,
        params=start,
        stop=FirstOf((Settled(), GainLeft(config.fit.tolerance), MaxPasses(config.fit.max_passes))),
        repair=Repair(sample.values, config.seed, moves),
        accelerator=accelerator(config.fit.acceleration),
        family=family(name) if held is None else without(family(name), held),
        held=held,
    )


def starting_parameters(
    config: Config,
    models: Candidates,
    features: tuple[str, ...],
    scan: Scan,
    transform: Transform,
    blocks: BlockSet,
    sample: seeding.Sample,
    fold: int | None = None,
    attempt: int = 0,
) -> dict[str, Any]:
    """Where every candidate starts; each start depends on its own components and restart alone.

    Parameters
    ----------
    features : tuple of str
        Names of the data's features.
    scan : Scan
        Of the data.
    transform : Transform
        From the data's units to the model's.
    blocks : BlockSet
        The data, for starts that look at all of it.
    sample : Sample
        Rows of it, in the model's units.
    fold : int, optional
        Whose rows `sample` is without. Nothing else is looked at then: kmeans on the sample stands in
        for kmeans||.
    attempt : int
        Of several starts by name which one; see `tries`.

    Raises
    ------
    DataError
        Given parameters, or those of an earlier run, do not fit the data.
    """
    init, its = config.fit.init, family_of(config.model.kind)
    if isinstance(init, GivenParameters):
        variant = config.model.variants[0]  # one, for the shapes of what is given depend on it
        return {
            name: _given(init, its, model, variant, scan, transform) for name, (model, _, _) in models.items()
        }
    if init not in seeding.NAMES:
        earlier = FittedModel.load(config.locate(init))
        _refuse_others(earlier, its, features)
        return {name: _earlier(earlier, its, model, k, transform) for name, (model, k, _) in models.items()}
    without_fold = () if fold is None else (fold,)
    if fold is not None and init == "kmeans||":
        init = "kmeans"
    keys = {name: (k, restart) for name, (_, k, restart) in models.items()}
    matrix = seeding.whitening(sample) if config.fit.init_scale == "whiten" else None
    centres: Mapping[str, Float64] = {}
    if init == "kmeans||":
        shared = {key: key[0] for key in keys.values()}
        found = seeding.kmeans_parallel(blocks, shared, sample, config.seed, matrix)
        centres = {name: found[key] for name, key in keys.items()}
    starts = {}
    purpose = f"start {init}" if attempt == 0 else f"start {init}, attempt {attempt}"
    for name, (model, k, restart) in models.items():
        rng = generator(config.seed, purpose, k, restart, *without_fold)
        begin = Beginning(init, k, sample, rng, centres.get(name), matrix)
        starts[name] = its.start(model, begin)
    return starts


def _given(
    init: GivenParameters, its: Family, model: Model, variant: str, scan: Scan, transform: Transform
) -> Any:
    means = np.array(init.means, dtype=np.float64)
    k, d = means.shape
    if d != scan.d:
        raise DataError(f"fit.init gives means of {d} features; the data has {scan.d}.", "Give one for each.")
    if init.covariances is None:
        covariances = np.broadcast_to(np.diag(scan.variance), (k, d, d))
    else:
        covariances = COVARIANCES[variant.split()[0]].matrices(np.array(init.covariances, dtype=float), k, d)
    weights = np.full(k, 1.0 / k) if init.weights is None else np.array(init.weights)
    values = {"weights": weights, "means": means, "covariances": covariances}
    return its.given(model, values, transform)


def _refuse_others(earlier: FittedModel, its: Family, features: tuple[str, ...]) -> None:
    if earlier.features != features:
        raise DataError(
            f"The run in fit.init is over {', '.join(earlier.features)}; "
            f"this one over {', '.join(features)}.",
            "Start from a run over the same features.",
        )
    if earlier.kind != its.kind:
        raise DataError(
            f"The run in fit.init is of kind {earlier.kind}; this one of kind {its.kind}.",
            "Start from a run of the same kind.",
        )


def _earlier(earlier: FittedModel, its: Family, model: Model, k: int, transform: Transform) -> Any:
    has = getattr(earlier.params, "regressions", earlier.k)  # a layer of outliers is not counted
    if has != k:
        raise DataError(
            f"The run in fit.init has {has} {its.part}s; this one asks for {k}.",
            f"Start from a run with as many {its.part}s.",
        )
    values = {name: earlier.described.values(name) for name in earlier.variables}
    return its.given(model, values, transform)
