"""Offsets, magnitudes and dimensions that cost digits, against EM in extended precision."""

from __future__ import annotations

import warnings
from functools import cache

import numpy as np
import pytest
from blocks import blocks_of, fit_blocks
from extended import Parameters, em
from sklearn.exceptions import ConvergenceWarning
from strategies import COVARIANCES

import distem
from distem.data.prepare import model_variance, transform_for
from distem.data.scan import ScanPass
from distem.data.transform import Transform
from distem.fitted import FittedModel
from distem.models.gaussian import Gaussian
from distem.models.mixture import Mixture, MixtureParams

RIGHT = 1e-6
FLOAT32 = 1e-3
"""What is left of it where float32 arithmetic was asked for: rounding, and what 20 steps make of it."""
STEPS = 20
PROBLEMS = ("means at 1e7", "scales of 1e-8 and 1e8", "d = 200", "float32 at 1e6")


@cache
def problem(name: str) -> tuple[np.ndarray, Parameters, int]:
    """Rows, a start, and the number of steps."""
    rng = np.random.default_rng(1)
    steps = STEPS
    if name == "means at 1e7":  # with spreads of 1e-2
        mixed = np.array([[1, 0.5, 0], [0, 1, 0.3], [0, 0, 0.6]])
        x = np.concatenate([rng.normal(size=(500, 3)), rng.normal(size=(500, 3)) @ mixed + [3, 1, -2]])
        x = x * 1e-2 + 1e7 * np.array([1, -1.3, 0.7])
        means = x[[0, 500, 999]]
    elif name == "scales of 1e-8 and 1e8":
        x = rng.normal(size=(800, 4))
        x[:300] += [2, -1, 1, 2]
        x[:300, 1] += x[:300, 0]
        x = x * [1e-8, 1e8, 1e-8, 1.0]
        means = x[[0, 799]]
    elif name == "d = 200":
        x = rng.normal(size=(900, 200))
        x[:450] += 0.2 * rng.normal(size=200)
        x = x @ (np.eye(200) + 0.05 * rng.normal(size=(200, 200)))
        means, steps = np.stack([x[:450].mean(axis=0), x[450:].mean(axis=0)]), 2
    else:
        x = rng.normal(size=(1000, 3))
        x[:400] = x[:400] * [1, 2, 0.5] + [4, -3, 2]
        x = (3.0 * x + 1e6).astype(np.float32)
        means = x[[0, 999]].astype(np.float64)
    k, exact = len(means), x.astype(np.float64)
    covariance = np.diag(((exact - exact.mean(axis=0)) ** 2).mean(axis=0))
    x.flags.writeable = False
    return x, Parameters(np.full(k, 1 / k), means, np.stack([covariance] * k)), steps


def begun(name: str, kind: str) -> Parameters:
    """The start as a kind of covariance holds it."""
    start = problem(name)[1]
    if kind != "spherical":
        return start
    k, d = start.means.shape
    one = np.trace(start.covariances[0]) / d
    return Parameters(start.weights, start.means, np.broadcast_to(one * np.eye(d), (k, d, d)))


@cache
def reference(name: str, kind: str) -> tuple[Parameters, np.ndarray]:
    x, _, steps = problem(name)
    return em(x, begun(name, kind), steps, kind)


def worst(found: Parameters, density: np.ndarray, name: str, kind: str) -> dict[str, float]:
    """Largest errors: of means in standard deviations, of covariances as correlations are."""
    right, right_density = reference(name, kind)
    sd = right.spreads
    errors = {
        "weights": (found.weights - right.weights) / right.weights,
        "means": (found.means - right.means) / sd,
        "covariances": (found.covariances - right.covariances) / (sd[:, :, None] * sd[:, None, :]),
        "log density": (density - right_density) / np.maximum(1.0, np.abs(right_density)),
    }
    return {what: float(np.abs(error).max()) for what, error in errors.items()}


def precisions(start: Parameters, kind: str) -> np.ndarray:
    inverse = 1.0 / np.diagonal(start.covariances, axis1=1, axis2=2)
    matrices = inverse[:, :, None] * np.eye(inverse.shape[1])
    return {"full": matrices, "tied": matrices[0], "diag": inverse, "spherical": inverse[:, 0]}[kind]


pairs = pytest.mark.parametrize(
    ("name", "kind"),
    [(n, k) for n in PROBLEMS for k in COVARIANCES if n != "d = 200" or k in ("full", "tied")],
)


@pairs
def test_the_estimator_is_right_to_1e_6(name, kind):
    x, _, steps = problem(name)
    start = begun(name, kind)
    model = distem.GaussianMixture(
        len(start.weights),
        covariance_type=kind,
        reg_covar=0.0,
        tol=0.0,
        max_iter=steps,
        weights_init=start.weights,
        means_init=start.means,
        precisions_init=precisions(start, kind),
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        model.fit(x)
    matrices = Gaussian(kind).shape.matrices(model.covariances_, *model.means_.shape)
    errors = worst(Parameters(model.weights_, model.means_, matrices), model.score_samples(x), name, kind)
    assert max(errors.values()) <= RIGHT, errors


@pytest.mark.parametrize("precision", ["float64", "float32"])
@pytest.mark.parametrize("scale", ["none", "standard"])
@pairs
def test_a_run_is_right_to_1e_6(name, kind, scale, precision):
    """Scan, transform, passes over blocks, and parameters back in the data's units: as a run does it."""
    if kind == "spherical" and (scale == "standard" or name.startswith("scales")):
        return  # a sphere in scaled units is none in the data's: there is nothing to compare with
    x, _, steps = problem(name)
    start = begun(name, kind)
    keep = Transform.identity("keep")
    scan = ScanPass()(keep.rows(x[:301], None), 0) + ScanPass()(keep.rows(x[301:], None), 1)
    transform = transform_for(scan, scale, precision)
    model = Mixture(Gaussian(kind, 0.0, data_variance=model_variance(scan, transform)))
    theta = model.component.from_matrices(
        transform.forward_means(start.means),
        transform.forward_covariances(start.covariances),
        start.weights,
    )
    rows = transform.rows(x, None)
    blocks = blocks_of(rows.values, (1, 0, 300, len(x) - 301))
    _, params, _ = fit_blocks(model, MixtureParams(start.weights, theta), blocks, passes=steps)
    done = FittedModel(model, params, transform, ("x",), {}, {}, kind="gaussian_mixture")
    density = done.assign(rows, probability=False).log_density
    errors = worst(Parameters(done.weights, done.means, done.covariances), density, name, kind)
    exact = precision == "float64" or x.dtype == np.float32
    assert max(errors.values()) <= (RIGHT if exact else FLOAT32), errors


@pytest.mark.parametrize("power", [-900, -500, 400, 1000])
@pytest.mark.parametrize("kind", COVARIANCES)
def test_powers_of_two_change_units_only(kind, power):
    rng = np.random.default_rng(0)
    x = np.concatenate([rng.normal(size=(60, 2)), rng.normal(size=(60, 2)) * 0.5 + 3])
    scaled = np.ldexp(x, power)
    how = {"covariance_type": kind, "reg_covar": 0.0, "random_state": 0, "max_iter": 200}
    one, two = (distem.GaussianMixture(2, **how).fit(data) for data in (x, scaled))
    np.testing.assert_allclose(np.ldexp(two.means_, -power), one.means_, rtol=1e-9)
    np.testing.assert_allclose(two.predict_proba(scaled), one.predict_proba(x), atol=1e-9)
    np.testing.assert_allclose(
        two.score_samples(scaled) + 2 * power * np.log(2.0), one.score_samples(x), rtol=1e-9, atol=1e-9
    )
    drawn = two.sample(200)[0]
    assert np.isfinite(drawn).all()
    assert np.abs(np.ldexp(drawn, -power)).max() < 8
    for attribute in ("covariances_", "precisions_cholesky_", "precisions_"):
        assert np.isfinite(getattr(two, attribute)).all()
