"""Ugly but legal data: always an answer, never NaN, never a crash, with a warning where one is due."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import dask.array as da
import numpy as np
import pytest
from sklearn.exceptions import ConvergenceWarning
from strategies import COVARIANCES
from ugly import legal, rows, with_rows

import distem

INITS = ("kmeans", "k-means++", "random", "random_from_data", "kmeans||")
FITS = (
    ("kmeans", None),
    ("kmeans", "squarem"),
    ("k-means++", None),
    ("random", "anderson"),
    ("random_from_data", None),
    ("kmeans||", None),
)
"""Every way to start and every acceleration, not each with each."""


@contextmanager
def only_convergence_warnings() -> Iterator[list[warnings.WarningMessage]]:
    """Collapsed components and fits that did not converge may be warned of, and nothing else."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        yield caught
    assert {w.category for w in caught} <= {ConvergenceWarning}, [str(w.message) for w in caught]


def assert_answers(model: distem.GaussianMixture, x: Any, n: int) -> None:
    """All a fitted model says is finite and makes sense."""
    k = len(model.weights_)
    assert 1 <= k <= model.n_components
    for name in ("weights_", "means_", "covariances_", "precisions_", "precisions_cholesky_"):
        assert np.isfinite(getattr(model, name)).all(), name
    assert np.isfinite(model.lower_bounds_).all()
    assert model.weights_.sum() == pytest.approx(1.0)
    assert (model.weights_ >= 0).all()
    shares = np.asarray(model.predict_proba(x))
    assert np.isfinite(shares).all()
    np.testing.assert_allclose(shares.sum(axis=-1), 1.0)
    density = np.asarray(model.score_samples(x))
    assert np.isfinite(density).all()
    labels = np.asarray(model.predict(x))
    assert labels.size == density.size == n
    assert np.isin(labels, np.arange(k)).all()
    for value in (model.score(x), model.bic(x), model.aic(x)):
        assert np.isfinite(value)
    assert np.isfinite(model.sample(4)[0]).all()


@pytest.mark.parametrize("reg_covar", [1e-6, 0.0])
@pytest.mark.parametrize("covariance", COVARIANCES)
@pytest.mark.parametrize("what", legal())
def test_any_legal_data_has_an_answer(what, covariance, reg_covar):
    x, k = legal()[what]
    for init, acceleration in FITS:
        model = distem.GaussianMixture(
            k,
            covariance_type=covariance,
            reg_covar=reg_covar,
            init_params=init,
            acceleration=acceleration,
            random_state=1,
            max_iter=15,
        )
        with only_convergence_warnings():
            model.fit(x)
            assert_answers(model, x, len(x))


@pytest.mark.parametrize("covariance", COVARIANCES)
@pytest.mark.parametrize(
    "what", ["a constant column", "an outlier at 1e12", "float16", "booleans", "big-endian"]
)
def test_ugly_data_in_ugly_chunks(what, covariance):
    x, k = legal()[what]
    n = len(x)
    chunked = da.from_array(x, chunks=((0, 1, n - 21, 0, 19, 1, 0), x.shape[1]))
    model = distem.GaussianMixture(k, covariance_type=covariance, random_state=1, max_iter=15)
    with only_convergence_warnings():
        assert_answers(model.fit(chunked), chunked, n)


@pytest.mark.parametrize("covariance", COVARIANCES)
def test_zero_weights_and_very_unequal_ones(covariance):
    x = rows()
    n = len(x)
    for mass in (
        np.r_[np.zeros(n - 1), 1.0],
        np.r_[np.zeros(n - 3), 1.0, 1.0, 1e-300],
        10.0 ** np.linspace(-300, 300, n),
        np.r_[np.zeros(n // 2), np.ones(n // 2)],
    ):
        for init in INITS:
            k = min(2, int((mass > 0).sum()))
            model = distem.GaussianMixture(
                k, covariance_type=covariance, init_params=init, random_state=0, max_iter=15
            )
            with only_convergence_warnings():
                model.fit(x, sample_weight=mass)
                assert_answers(model, x, n)


@pytest.mark.parametrize("reg_covar", [1e-6, 0.0])
@pytest.mark.parametrize("covariance", ["full", "diag", "spherical"])
def test_a_component_on_one_row_is_put_elsewhere_or_dropped(covariance, reg_covar):
    """Started as a spike on a lone row, it would win an unbounded likelihood."""
    x = np.concatenate([rows(80, 2), [[40.0, 40.0]]])
    start = {
        "weights_init": [0.9, 0.1],
        "means_init": [[0.0, 0.0], [40.0, 40.0]],
        "precisions_init": {
            "full": np.stack([np.eye(2), 1e4 * np.eye(2)]),
            "diag": np.array([[1.0, 1.0], [1e4, 1e4]]),
            "spherical": np.array([1.0, 1e4]),
        }[covariance],
    }
    model = distem.GaussianMixture(
        2, covariance_type=covariance, reg_covar=reg_covar, max_iter=50, random_state=0, **start
    )
    with only_convergence_warnings() as caught:
        model.fit(x)
        assert_answers(model, x, len(x))
    collapsed = [str(w.message) for w in caught if "collapsed" in str(w.message)]
    if reg_covar == 0.0:
        assert collapsed
        assert all("reseeded" in text or "dropped" in text for text in collapsed)
    else:  # reg_covar is the spread it keeps: scikit-learn's answer
        assert not collapsed
        variances = model.covariances_[1] if covariance != "full" else np.diagonal(model.covariances_[1])
        np.testing.assert_allclose(variances, reg_covar, rtol=1e-6)


def test_far_from_all_rows_the_density_stays_finite():
    model = distem.GaussianMixture(2, random_state=0).fit(rows())
    far = np.array([[1e150, 0, 0], [-1e300, 1e300, 1e300], [1.7e308] * 3])
    assert np.isfinite(model.score_samples(far)).all()
    np.testing.assert_allclose(model.predict_proba(far).sum(axis=1), 1.0)


def test_an_outlier_does_not_cost_the_others_their_digits():
    x = with_rows(1e12, 7)
    model = distem.GaussianMixture(2, random_state=0, max_iter=200).fit(x)
    bulk = np.delete(x, 7, axis=0)
    near = int(np.abs(model.means_).max(axis=1).argmin())
    np.testing.assert_allclose(model.means_[near], bulk.mean(axis=0), atol=1e-9)
    np.testing.assert_allclose(
        model.covariances_[near], np.cov(bulk.T, ddof=0) + 1e-6 * np.eye(3), rtol=1e-8, atol=1e-9
    )
