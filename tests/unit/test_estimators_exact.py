"""From the same start, the parameters after m steps are scikit-learn's: on five real data sets."""

from __future__ import annotations

import warnings

import datasets
import numpy as np
import pytest
from sklearn.exceptions import ConvergenceWarning
from sklearn.mixture import GaussianMixture as Peer
from strategies import COVARIANCES

import distem

RELATIVE = 1e-9


def both(name: str, covariance: str, **how):
    """The two libraries fitted from one start."""
    x, k = datasets.load(name), datasets.COMPONENTS[name]
    begun = datasets.start(name, covariance)
    fitted = []
    for kind in (distem.GaussianMixture, Peer):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # stopping after m steps is the point
            fitted.append(kind(k, covariance_type=covariance, **begun, **how).fit(x))
    return x, *fitted


def spreads(peer: Peer) -> np.ndarray:
    """Standard deviations, (k, d): the scale that differences of means and covariances are held to."""
    k, d = peer.means_.shape
    variances = {
        "full": lambda c: np.diagonal(c, axis1=1, axis2=2),
        "tied": lambda c: np.broadcast_to(np.diagonal(c), (k, d)),
        "diag": lambda c: c,
        "spherical": lambda c: np.repeat(c[:, None], d, axis=1),
    }[peer.covariance_type](peer.covariances_)
    return np.sqrt(variances)


def differences(x, ours: distem.GaussianMixture, peer: Peer) -> dict[str, float]:
    """Largest difference of each result, relative to its own scale."""
    sd = spreads(peer)
    scale = {
        "full": lambda: sd[:, :, None] * sd[:, None, :],
        "tied": lambda: sd[0][:, None] * sd[0][None, :],
        "diag": lambda: sd**2,
        "spherical": lambda: sd[:, 0] ** 2,
    }[peer.covariance_type]()
    factors = np.abs(peer.precisions_cholesky_)
    slope = factors.max(axis=-1, keepdims=True) if factors.ndim > 1 else factors
    density = peer.score_samples(x)

    def worst(a, b, by) -> float:
        return float(np.max(np.abs(np.asarray(a) - np.asarray(b)) / by))

    return {
        "weights_": worst(ours.weights_, peer.weights_, peer.weights_),
        "means_": worst(ours.means_, peer.means_, np.maximum(np.abs(peer.means_), sd)),
        "covariances_": worst(ours.covariances_, peer.covariances_, scale),
        "precisions_cholesky_": worst(ours.precisions_cholesky_, peer.precisions_cholesky_, slope),
        # an absolute difference of log densities is a relative one of densities
        "score_samples": worst(ours.score_samples(x), density, np.maximum(1.0, np.abs(density))),
        "lower_bounds_": worst(
            ours.lower_bounds_, peer.lower_bounds_, np.maximum(1.0, np.abs(peer.lower_bounds_))
        ),
    }


@pytest.mark.parametrize("steps", [1, 2, 5, 50])
@pytest.mark.parametrize("covariance", COVARIANCES)
@pytest.mark.parametrize("name", datasets.NAMES)
def test_parameters_and_row_likelihoods_after_m_steps_are_scikit_learns(name, covariance, steps):
    x, ours, peer = both(name, covariance, max_iter=steps, tol=0.0)
    assert ours.n_iter_ == peer.n_iter_ == steps
    found = differences(x, ours, peer)
    assert max(found.values()) <= RELATIVE, found


@pytest.mark.parametrize("covariance", COVARIANCES)
@pytest.mark.parametrize("name", datasets.NAMES)
def test_at_default_tolerance_the_fit_ends_where_scikit_learns_does(name, covariance):
    x, ours, peer = both(name, covariance)
    assert (ours.n_iter_, ours.converged_) == (peer.n_iter_, peer.converged_)
    assert ours.lower_bound_ == pytest.approx(peer.lower_bound_, rel=RELATIVE)
    assert len(ours.lower_bounds_) == len(peer.lower_bounds_) == ours.n_iter_
    np.testing.assert_array_equal(ours.predict(x), peer.predict(x))
    np.testing.assert_allclose(ours.predict_proba(x), peer.predict_proba(x), rtol=0, atol=RELATIVE)
    for method in ("score", "bic", "aic"):
        assert getattr(ours, method)(x) == pytest.approx(getattr(peer, method)(x), rel=RELATIVE)
    np.testing.assert_allclose(
        ours.precisions_, peer.precisions_, rtol=1e-8, atol=1e-8 * np.abs(peer.precisions_).max()
    )


@pytest.mark.parametrize("covariance", COVARIANCES)
def test_scikit_learns_parameters_set_by_hand_give_its_answers(covariance):
    x, _, peer = both("wine", covariance)
    held = distem.GaussianMixture(peer.n_components, covariance_type=covariance)
    for attribute in ("weights_", "means_", "covariances_", "precisions_cholesky_"):
        setattr(held, attribute, getattr(peer, attribute))
    np.testing.assert_allclose(held.score_samples(x), peer.score_samples(x), rtol=1e-12)
    np.testing.assert_array_equal(held.predict(x), peer.predict(x))
    np.testing.assert_allclose(held.predict_proba(x), peer.predict_proba(x), rtol=0, atol=1e-12)
    drawn, labels = held.sample(50)
    assert drawn.shape == (50, x.shape[1])
    assert labels.shape == (50,)
    assert np.isfinite(drawn).all()


@pytest.mark.slow
@pytest.mark.parametrize("covariance", COVARIANCES)
def test_all_the_flights_agree_after_two_steps(covariance):
    x = datasets.flights()[::4]  # more rows than fit one tile or one thread's share
    begun = datasets.start("flights", covariance)
    fitted = []
    for kind in (distem.GaussianMixture, Peer):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            fitted.append(kind(4, covariance_type=covariance, max_iter=2, tol=0.0, **begun).fit(x))
    found = differences(x, *fitted)
    assert max(found.values()) <= RELATIVE, found
