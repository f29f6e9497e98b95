"""The reference against scikit-learn, SciPy and arithmetic in more digits."""

import numpy as np
import pytest
from scipy.special import logsumexp
from scipy.stats import multivariate_normal
from sklearn.mixture._gaussian_mixture import _estimate_log_gaussian_prob

from distem.kernels import reference

KINDS = ("full", "tied", "diag", "spherical")


def case(kind, n=50, d=3, k=4, seed=0):
    rng = np.random.default_rng(seed)
    upper = np.triu(rng.normal(size=(k, d, d))) * 0.3 + np.eye(d)
    factor = {
        "full": upper,
        "tied": upper[0],
        "diag": rng.uniform(0.5, 2.0, (k, d)),
        "spherical": rng.uniform(0.5, 2.0, k),
    }[kind]
    return rng.normal(size=(n, d)), rng.normal(size=(k, d)), factor


@pytest.mark.parametrize("kind", KINDS)
def test_log_density_is_that_of_scikit_learn(kind):
    x, means, factor = case(kind)
    density = getattr(reference, f"log_density_{kind}")(x, means, factor)
    assert np.allclose(density, _estimate_log_gaussian_prob(x, means, factor, kind), rtol=1e-12)


def test_log_density_is_that_of_scipy():
    x, means, factor = case("full")
    density = reference.log_density_full(x, means, factor)
    for c in range(len(means)):
        covariance = np.linalg.inv(factor[c] @ factor[c].T)
        assert np.allclose(density[:, c], multivariate_normal(means[c], covariance).logpdf(x), rtol=1e-10)


def test_moments_are_their_definition():
    x, means, _ = case("full", n=20)
    resp = np.random.default_rng(1).random((20, 4))
    mass, first, second = reference.moments_full(x, resp, means)
    for c in range(4):
        z = x - means[c]
        assert np.isclose(mass[c], sum(resp[:, c]))
        assert np.allclose(first[c], sum(r * v for r, v in zip(resp[:, c], z, strict=True)))
        assert np.allclose(second[c], sum(r * np.outer(v, v) for r, v in zip(resp[:, c], z, strict=True)))


def test_the_kinds_second_moments_are_parts_of_the_full_ones():
    x, means, _ = case("full")
    resp = np.random.default_rng(1).random((50, 4))
    full = reference.moments_full(x, resp, means)[2]
    diag = reference.moments_diag(x, resp, means)[2]
    assert np.allclose(reference.moments_tied(x, resp, means)[2], full.sum(axis=0))
    assert np.allclose(diag, np.diagonal(full, axis1=1, axis2=2))
    assert np.allclose(reference.moments_spherical(x, resp, means)[2], diag.sum(axis=1))


def test_normalise_is_logsumexp():
    joint = np.random.default_rng(0).normal(size=(30, 5)) * 100
    log_norm, resp = reference.normalise(joint)
    assert np.allclose(log_norm, logsumexp(joint, axis=1), rtol=1e-14)
    assert np.allclose(resp, np.exp(joint - log_norm[:, None]))


def test_normalise_shares_equally_where_there_is_nothing():
    log_norm, resp = reference.normalise(np.array([[-np.inf, -np.inf], [-np.inf, 0.0]]))
    assert np.array_equal(resp, [[0.5, 0.5], [0.0, 1.0]])
    assert np.isfinite(log_norm).all()


def test_nearest_takes_the_lower_index_of_equals():
    label, square = reference.nearest(np.array([[1.0], [3.0]]), np.array([[0.0], [2.0], [2.0]]))
    assert np.array_equal(label, [0, 1])
    assert np.array_equal(square, [1.0, 1.0])


@pytest.mark.parametrize("kind", KINDS)
def test_moments_of_weightless_rows_are_zero(kind):
    x, means, factor = case(kind)
    e_step = getattr(reference, f"e_step_{kind}")
    assert all(np.all(part == 0) for part in e_step(x, np.zeros(50), np.zeros(4), means, factor))
