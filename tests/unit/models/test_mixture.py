"""Mixtures: assignments, collapse, sampling; densities against SciPy."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import logsumexp
from scipy.stats import multivariate_normal
from strategies import COVARIANCES, KERNELS, random_params

from distem.models.gaussian import Gaussian
from distem.models.mixture import Mixture, MixtureParams
from distem.types import Rows

every = pytest.mark.parametrize("covariance", COVARIANCES)


def made(covariance: str, k: int = 3, d: int = 2, **how):
    model = Mixture(Gaussian(covariance, **how))
    return model, random_params(model, k, d, np.random.default_rng(6))


@every
@pytest.mark.parametrize("kernels", KERNELS)
def test_densities_and_responsibilities_are_scipys(covariance, kernels):
    model, params = made(covariance, kernels=kernels)
    x = np.random.default_rng(0).normal(size=(50, 2)) * 3
    matrices = model.component.shape.matrices(params.theta.covariances, 3, 2)
    joint = np.stack(
        [
            np.log(w) + multivariate_normal(m, c).logpdf(x)
            for w, m, c in zip(params.weights, params.theta.means, matrices, strict=True)
        ],
        axis=1,
    )
    found = model.assign(Rows(x), params)
    total = logsumexp(joint, axis=1)
    np.testing.assert_allclose(found.log_density, total, rtol=1e-11)
    np.testing.assert_allclose(found.probability, np.exp(joint - total[:, None]), atol=1e-12)
    np.testing.assert_array_equal(found.label, joint.argmax(axis=1))


def test_the_uncertainty_keeps_its_digits_where_the_label_is_nearly_sure():
    model, _ = made("full")
    weights = np.array([0.5, 0.5])
    theta = model.component.from_matrices(np.array([[0.0, 0], [12.0, 0]]), np.stack([np.eye(2)] * 2), weights)
    found = model.assign(Rows(np.zeros((1, 2))), MixtureParams(weights, theta))
    assert found.uncertainty[0] == pytest.approx(np.exp(-72.0), rel=1e-10)


@every
@pytest.mark.parametrize("cut", [1, 255, 256, 333, 999])
def test_tiles_do_not_show(covariance, cut):
    model, params = made(covariance)
    x = np.random.default_rng(0).normal(size=(1000, 2))
    whole = model.assign(Rows(x), params)
    parts = [model.assign(Rows(x[part]), params) for part in (slice(0, cut), slice(cut, None))]
    for name in ("label", "log_density", "uncertainty", "probability"):
        joined = np.concatenate([getattr(part, name) for part in parts])
        np.testing.assert_array_equal(getattr(whole, name), joined)
    assert model.assign(Rows(x[:5]), params, probability=False).probability is None


@every
@pytest.mark.parametrize("kernels", KERNELS)
def test_an_empty_block_adds_nothing(covariance, kernels):
    model, params = made(covariance, kernels=kernels)
    x = np.random.default_rng(0).normal(size=(40, 2))
    whole, none = model.e_step(Rows(x), params), model.e_step(Rows(np.empty((0, 2))), params)
    assert (none.n, none.total, none.log_likelihood) == (0, 0.0, 0.0)
    both = whole + none
    for name, value in whole.to_arrays().items():
        np.testing.assert_array_equal(both.to_arrays()[name], value)
    assert len(model.assign(Rows(np.empty((0, 2))), params).label) == 0


@every
def test_samples_have_the_mixtures_weights_means_and_covariances(covariance):
    model, params = made(covariance)
    x, labels = model.sample(params, 60_000, np.random.default_rng(1))
    assert (np.diff(labels) >= 0).all()
    matrices = model.component.shape.matrices(params.theta.covariances, 3, 2)
    for c in range(3):
        own = x[labels == c]
        assert len(own) / len(x) == pytest.approx(params.weights[c], abs=0.01)
        np.testing.assert_allclose(own.mean(axis=0), params.theta.means[c], atol=0.06)
        np.testing.assert_allclose(np.cov(own.T), matrices[c], atol=0.06)


def test_a_component_of_no_weight_takes_nothing():
    model, params = made("full")
    params = MixtureParams(np.array([0.4, 0.0, 0.6]), params.theta)
    found = model.assign(Rows(np.random.default_rng(0).normal(size=(30, 2))), params)
    assert (found.probability[:, 1] == 0.0).all()
    np.testing.assert_allclose(found.probability.sum(axis=1), 1.0)
    assert np.isfinite(found.log_density).all()


@every
def test_the_m_step_does_not_depend_on_the_unit_of_the_weights(covariance):
    model, params = made(covariance)
    x = np.random.default_rng(0).normal(size=(90, 2))
    mass = np.random.default_rng(1).uniform(0.5, 2, 90)
    plain = model.m_step(model.e_step(Rows(x, mass), params), params)
    for unit in (2.0**-90, 2.0**60):
        found = model.m_step(model.e_step(Rows(x, mass * unit), params), params)
        np.testing.assert_allclose(found.weights, plain.weights, rtol=1e-13)
        np.testing.assert_allclose(found.theta.means, plain.theta.means, rtol=1e-13)
        np.testing.assert_allclose(found.theta.covariances, plain.theta.covariances, rtol=1e-12)


@every
def test_what_has_collapsed(covariance):
    model, _ = made(covariance, reg_covar=0.0)
    x = np.concatenate([np.random.default_rng(0).normal(size=(60, 2)), [[90.0, 90.0]]])
    means = np.array([[0.0, 0.0], [90.0, 90.0], [-1e6, 0.0]])
    even = np.full(3, 1 / 3)
    start = MixtureParams(even, model.component.from_matrices(means, np.stack([np.eye(2)] * 3), even))
    stats = model.e_step(Rows(x), start)
    update = model.m_step(stats, start)
    lone = () if covariance == "tied" else (1,)
    assert model.collapsed(stats, update) == (*lone, 2)
    kept = model.drop(update, 2)
    assert kept.k == 2
    placed = model.relocate(update, 2, np.array([3.0, 4.0]))
    assert placed.theta.means[2].tolist() == [3.0, 4.0]
    assert placed.weights[2] == pytest.approx(1 / 3)
    assert placed.weights.sum() == pytest.approx(1.0)
