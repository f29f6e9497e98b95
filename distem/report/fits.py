"""Fits that are no run folder, as the report knows them: opened results, and estimators."""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr

from distem.errors import ConfigError
from distem.report.reading import GROUPS, Found
from distem.types import Float64, Ints

MOST_ROWS = 5000
"""Rows of a sample."""


def of_tree(tree: xr.DataTree) -> Found:
    """An opened result.

    Raises
    ------
    ConfigError
        It is none.
    """
    missing = [name for name in GROUPS if name not in tree.children]
    if missing:
        raise ConfigError(
            f"The data tree holds no {', '.join(missing)}.", "Open the result.zarr of a complete run."
        )
    groups = {name: tree[name].to_dataset().load() for name in GROUPS}
    chosen = {"chosen": groups["selection"].attrs.get("chosen")}
    model, trace, selection, sample = groups.values()
    return Found({"fit": chosen}, "", (), model, trace, selection, sample, "", tree)


def of_estimator(estimator: Any, X: Any = None) -> Found:
    """A fitted estimator, with rows `X` to show, or rows drawn from it.

    Of those whose parts have no means (chains of symbols or counts, curves) the trace and the transitions.

    Raises
    ------
    ConfigError
        It is not fitted, or none of distem's kinds.
    """
    if (bare := _without_means(estimator)) is not None:
        return bare
    kind, weights, means, covariances, more = _parameters(estimator)
    rows, labels, unsure = _rows(estimator, X)
    if weights is None:  # hard clusters: their shares and spreads are those of the rows
        weights, covariances = _within(rows, labels, means)
    d = means.shape[1]
    names = getattr(estimator, "feature_names_in_", None)
    names = _names(X, d) if names is None else tuple(str(name) for name in names)
    model = xr.Dataset(
        {
            "weights": ("component", weights),
            "means": (("component", "feature"), means),
            "covariances": (("component", "feature", "feature_other"), covariances),
            **more,
        },
        coords={"component": np.arange(len(means)), "feature": np.array(names, dtype=str)},
        attrs={"kind": kind},
    )
    sample = xr.Dataset(
        {
            "values": (("row", "feature"), rows),
            "label": ("row", labels),
            "uncertainty": ("row", unsure),
        }
    )
    return Found(
        manifest={},
        config="",
        events=(),
        model=model,
        trace=_trace(estimator),
        selection=xr.Dataset(),
        sample=sample,
        folder="",
    )


def _without_means(estimator: Any) -> Found | None:
    """What is known of a fit whose parts have no means; None of others."""
    if hasattr(estimator, "lambdas_") or hasattr(estimator, "emissionprob_"):
        transition = np.asarray(estimator.transmat_, dtype=np.float64)
        known: dict[str, Any] = {"transition": (("component", "component_next"), transition)}
        kind, k = "hidden_markov", len(transition)
    elif hasattr(estimator, "coef_") and hasattr(estimator, "noise_"):
        known = {"weights": ("component", np.asarray(estimator.weights_, dtype=np.float64))}
        kind, k = "regression_mixture", len(estimator.weights_)
    else:
        return None
    model = xr.Dataset(known, coords={"component": np.arange(k)}, attrs={"kind": kind})
    return Found({}, "", (), model, _trace(estimator), xr.Dataset(), xr.Dataset(), "")


def _parameters(estimator: Any) -> tuple[str, Float64 | None, Float64, Float64, dict[str, Any]]:
    """Kind, shares, means, covariance matrices and what else the model has."""
    if hasattr(estimator, "cluster_centers_"):
        centres = np.asarray(estimator.cluster_centers_, dtype=np.float64)
        return "kmeans", None, centres, np.zeros((*centres.shape, centres.shape[1])), {}
    if hasattr(estimator, "transmat_") and hasattr(estimator, "means_"):
        transition = np.asarray(estimator.transmat_, dtype=np.float64)
        means = np.asarray(estimator.means_, dtype=np.float64)
        if means.ndim == 2:
            covariances = np.asarray(estimator.covars_, dtype=np.float64)
            matrices = _matrices(covariances, str(estimator.covariance_type), *means.shape)
            more = {"transition": (("component", "component_next"), transition)}
            return "hidden_markov", _in_the_long_run(transition), means, matrices, more
    if hasattr(estimator, "covariances_") and hasattr(estimator, "weights_"):
        means = np.asarray(estimator.means_, dtype=np.float64)
        covariances = np.asarray(estimator.covariances_, dtype=np.float64)
        matrices = _matrices(covariances, str(estimator.covariance_type), *means.shape)
        return "gaussian_mixture", np.asarray(estimator.weights_, dtype=np.float64), means, matrices, {}
    if hasattr(estimator, "fit"):
        raise ConfigError(f"This {type(estimator).__name__} is not fitted.", "Call fit first.")
    raise ConfigError(
        f"A {type(estimator).__name__} is no fit.",
        "Give an estimator of distem, a run folder's path, or an opened result.",
    )


def _matrices(covariances: Float64, kind: str, k: int, d: int) -> Float64:
    """Covariances of whatever shape as matrices (k, d, d)."""
    if covariances.shape == (k, d, d):
        return covariances
    if kind == "tied":
        return np.broadcast_to(covariances, (k, d, d)).copy()
    variances = covariances[:, None] if covariances.ndim == 1 else covariances
    return np.asarray(np.broadcast_to(variances, (k, d))[:, :, None] * np.eye(d))


def _in_the_long_run(transition: Float64) -> Float64:
    """The stationary law of a chain, by least squares."""
    k = len(transition)
    system = np.vstack([transition.T - np.eye(k), np.ones(k)])
    found = np.linalg.lstsq(system, np.append(np.zeros(k), 1.0), rcond=None)[0]
    return np.asarray(np.maximum(found, 0.0) / np.maximum(found, 0.0).sum())


def _rows(estimator: Any, X: Any) -> tuple[Float64, Ints, Float64]:
    """Some rows, their labels, and how unsure these are."""
    if X is None:
        if not hasattr(estimator, "sample"):
            raise ConfigError(
                f"Rows cannot be drawn from a {type(estimator).__name__}.", "Give X, the rows to show."
            )
        rows = np.asarray(estimator.sample(MOST_ROWS)[0], dtype=np.float64)
    else:
        rows = np.asarray(X, dtype=np.float64)
        rows = rows.reshape(-1, rows.shape[-1])
        if len(rows) > MOST_ROWS:
            rows = rows[np.sort(np.random.default_rng(0).choice(len(rows), MOST_ROWS, replace=False))]
    labels = np.asarray(estimator.predict(rows), dtype=np.int64)
    unsure = np.zeros(len(rows))
    if hasattr(estimator, "predict_proba"):
        unsure = 1.0 - np.asarray(estimator.predict_proba(rows), dtype=np.float64).max(axis=1)
    return rows, labels, unsure


def _within(rows: Float64, labels: Ints, centres: Float64) -> tuple[Float64, Float64]:
    """Shares of clusters, and the round covariance that they have in common."""
    k, d = centres.shape
    shares = np.bincount(labels, minlength=k) / len(labels)
    variance = float(((rows - centres[labels]) ** 2).mean())
    return shares, np.broadcast_to(variance * np.eye(d), (k, d, d)).copy()


def _names(X: Any, d: int) -> tuple[str, ...]:
    if isinstance(X, xr.DataArray) and X.dims[-1] in X.coords:
        return tuple(str(name) for name in X[X.dims[-1]].values)
    return tuple(f"x{j}" for j in range(d))


def _trace(estimator: Any) -> xr.Dataset:
    """The log-likelihood before each step; nothing where it was not kept."""
    history = getattr(getattr(estimator, "monitor_", None), "history", None)
    kept = getattr(estimator, "lower_bounds_", None)
    values = np.asarray(history if kept is None else kept, dtype=np.float64).ravel()
    if kept is None and history is None:
        values = np.empty(0)
    # which steps were taken back is not told; a fall shows it
    accepted = values >= np.maximum.accumulate(values) if len(values) else np.empty(0, dtype=bool)
    return xr.Dataset(
        {
            "log_likelihood": ("pass", values),
            "gain_left": ("pass", np.full(len(values), np.nan)),
            "accepted": ("pass", accepted),
            "seconds": ("pass", np.full(len(values), np.nan)),
            "candidate_log_likelihood": (("candidate", "candidate_pass"), values[None]),
        },
        coords={"candidate": ["fit"]},
        attrs={"chosen": "fit"},
    )
