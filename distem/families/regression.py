"""Mixtures of linear regressions as a run knows them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from distem.data.transform import Transform
from distem.em.loop import Fit
from distem.em.selection import Score, score
from distem.families.base import Beginning, Facts, Variables
from distem.kernels.regression_reference import Layout
from distem.models.design import Design, to_data_units, to_model_units
from distem.models.regression import RegressionMixture, RegressionParams, RegressionStats, solve
from distem.models.regression_start import OUTLIERS, start
from distem.types import Float64, Ints

Units = tuple[Float64, Float64]
"""Shift and scale."""


class RegressionMixtures:
    """Mixtures of linear regressions."""

    kind = "regression_mixture"
    title = "regression mixture"
    part = "component"
    variant = "noise"
    objective = "log-likelihood"
    step = "pass"
    answers = ("label", "probability", "log_density", "uncertainty")

    def start(self, model: RegressionMixture, begin: Beginning) -> RegressionParams:
        """Through a few rows each, whatever the start is called; see `regression_start`."""
        return start(model, begin.k, begin.sample, begin.rng)

    def given(
        self, model: RegressionMixture, values: Mapping[str, Float64], transform: Transform
    ) -> RegressionParams:
        """From coefficients, noise and weights, and positions where there are any."""
        design = _design(model.layout)
        k = int(np.isfinite(values["coefficients"][:, 0, 0]).sum())
        weights = values["weights"]
        if len(weights) != k + model.outliers:  # the layer of outliers comes, or goes
            weights = weights[:k] / weights[:k].sum()
            weights = np.append((1 - OUTLIERS) * weights, OUTLIERS) if model.outliers else weights
        x, y, z = _units(model, transform)
        coef = to_model_units(design, np.swapaxes(values["coefficients"][:k], 1, 2), x, y)
        noise = values["noise"][:k] / (y[1] ** 2 if model.noise == "diag" else y[1][:, None] * y[1])
        s = model.layout.position.size
        centres, spreads = np.zeros((k, s)), np.zeros((k, s, s))
        if s:
            centres = (values["positions"][:k] - z[0]) / z[1]
            spreads = values["position_covariances"][:k] / (z[1][:, None] * z[1])
        gram = np.stack([np.eye(design.p)] * k)
        return RegressionParams(weights, coef, noise, gram, centres, spreads)

    def facts(self, model: RegressionMixture, stats: RegressionStats) -> Facts:  # noqa: ARG002
        """Row weight of each component."""
        return {"mass": stats.mass}

    def variables(
        self, model: RegressionMixture, params: RegressionParams, facts: Facts, transform: Transform
    ) -> Variables:
        """Weights, coefficients with errors, noise, positions; of an outlier layer only the weight."""
        design, k = _design(model.layout), params.regressions
        x, y, z = _units(model, transform)
        coef = np.swapaxes(to_data_units(design, params.coef, x, y), 1, 2)
        noise = params.noise * (y[1] ** 2 if model.noise == "diag" else y[1][:, None] * y[1])
        out: Variables = {
            "weights": (("component",), params.weights, {"long_name": "share of each component"}),
            "coefficients": (
                ("component", "response", "term"),
                _padded(coef, params.k),
                {"long_name": "coefficient of each term"},
            ),
            "noise": (
                ("component", "response", "response_other")[: noise.ndim],
                _padded(noise, params.k),
                {"long_name": f"{'variance' if model.noise == 'diag' else 'covariance'} of the noise"},
            ),
        }
        if facts:
            mass = np.maximum(facts["mass"][:k], 1e-300)
            variances = model.shape.variances(params.noise, k, coef.shape[1])
            errors = _errors(design, params, mass, variances, x) * y[1]
            out["errors"] = (
                ("component", "response", "term"),
                _padded(np.swapaxes(errors, 1, 2), params.k),
                {"long_name": "standard error of the coefficient, were the rows' components known"},
            )
        if model.layout.position.size:
            dims = ("component", "place", "place_other")
            out["positions"] = (
                dims[:2], _padded(params.centres * z[1] + z[0], params.k), {"long_name": "mean position"}
            )  # fmt: skip
            spreads = params.spreads * (z[1][:, None] * z[1])
            out["position_covariances"] = (
                dims, _padded(spreads, params.k), {"long_name": "covariance of the position"}
            )  # fmt: skip
        return out

    def attributes(self, model: RegressionMixture) -> dict[str, Any]:
        """The layout, the noise and the outliers."""
        layout = model.layout
        return {
            "noise": model.noise,
            "floor": model.floor,
            "log_outlier": None if not model.outliers else model.log_outlier,
            "factors": layout.factors.ravel().tolist(),
            "terms": int(layout.factors.shape[1]),
            "responses": layout.responses[0].tolist(),
            "position": layout.position.tolist(),
            "kernels": model.kernels,
        }

    def model(self, attributes: Mapping[str, Any]) -> RegressionMixture:
        """The mixture of `attributes`."""

        def ints(name: str) -> Ints:
            return np.atleast_1d(np.asarray(attributes[name], dtype=np.int64))

        outlier = attributes.get("log_outlier")
        layout = Layout(
            ints("factors").reshape(1, int(attributes["terms"]), -1),
            ints("responses")[None],
            ints("position"),
        )
        return RegressionMixture(
            layout,
            attributes["noise"],
            float(attributes["floor"]),
            log_outlier=-np.inf if outlier is None else float(outlier),
            kernels=attributes["kernels"],
        )

    def offset(self, model: RegressionMixture, transform: Transform) -> float:
        """Of the responses and positions alone: predictors have no density."""
        _, y, z = _units(model, transform)
        return -float(np.log(y[1]).sum() + np.log(z[1]).sum())

    def score(self, model: RegressionMixture, fit: Fit, transform: Transform) -> Score:
        """Likelihood, parameters, entropy."""
        return score(model, fit, self.offset(model, transform))


def _design(layout: Layout) -> Design:
    """The design over columns of the rows."""
    factors = layout.factors[0]
    used = [int(j) for j in np.unique(factors[factors >= 0])]
    terms = tuple(tuple(int((row == j).sum()) for j in used) for row in factors)
    return Design(tuple(str(j) for j in used), terms)


def _units(model: RegressionMixture, transform: Transform) -> tuple[Units, Units, Units]:
    """Shift and scale of predictors, responses and positions."""
    design, layout = _design(model.layout), model.layout
    d = 1 + max([int(layout.responses.max()), *map(int, design.names), *layout.position.tolist()])
    shift = np.zeros(d) if transform.shift is None else np.asarray(transform.shift)
    scale = np.ones(d) if transform.scale is None else np.asarray(transform.scale)
    columns = [int(name) for name in design.names]
    return (
        (shift[columns], scale[columns]),
        (shift[layout.responses[0]], scale[layout.responses[0]]),
        (shift[layout.position], scale[layout.position]),
    )


def _errors(design: Design, params: RegressionParams, mass: Float64, variances: Float64, x: Units) -> Float64:
    """Standard errors of the coefficients for terms in the data's units, but for those of the responses."""
    matrix, eye = design.in_units(*x), np.eye(design.p)
    inverses = [np.diagonal(matrix.T @ solve(gram, eye) @ matrix) for gram in params.gram]
    inverse = np.maximum(np.stack(inverses), 0.0)
    return np.sqrt(inverse[:, :, None] * variances[:, None, :] / mass[:, None, None])


def _padded(values: Float64, k: int) -> Float64:
    """With rows of NaN up to k."""
    out = np.full((k, *values.shape[1:]), np.nan)
    out[: len(values)] = values
    return out
