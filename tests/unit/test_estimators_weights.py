"""Row weights: an integer weight is so many rows, a weight of zero is none."""

from __future__ import annotations

import warnings

import dask.array as da
import datasets
import numpy as np
import pytest
import xarray as xr
import zarr
from hypothesis import given
from hypothesis import strategies as st
from sklearn.exceptions import ConvergenceWarning
from strategies import COVARIANCES, examples

import distem

ATTRIBUTES = ("weights_", "means_", "covariances_", "lower_bounds_")


def fit(x, covariance, sample_weight=None, **how):
    how = {"tol": 0.0, "max_iter": 8} | how
    model = distem.GaussianMixture(3, covariance_type=covariance, **datasets.start("iris", covariance), **how)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return model.fit(x, sample_weight=sample_weight)


def assert_same(one, two, tolerance=1e-10):
    for name in ATTRIBUTES:
        np.testing.assert_allclose(
            getattr(one, name), getattr(two, name), rtol=tolerance, atol=tolerance, err_msg=name
        )


@pytest.mark.parametrize("covariance", COVARIANCES)
def test_integer_weights_are_repeated_rows_and_zero_weights_removed_ones(covariance):
    x = datasets.load("iris")

    @examples(10)
    @given(st.integers(0, 2**32 - 1), st.integers(1, 4))
    def check(seed, most):
        counts = np.random.default_rng(seed).integers(0, most + 1, len(x))
        counts[::10] += 1
        assert_same(fit(x, covariance, counts), fit(np.repeat(x, counts, axis=0), covariance))

    check()


@pytest.mark.parametrize("covariance", COVARIANCES)
def test_a_row_of_weight_zero_may_hold_anything_finite(covariance):
    x = datasets.load("iris")
    far = np.concatenate([x[:70], np.full((3, 4), 1e6), x[70:]])
    mass = np.r_[np.ones(70), np.zeros(3), np.ones(80)]
    assert_same(fit(far, covariance, mass), fit(x, covariance), 1e-9)


def test_a_common_factor_of_the_weights_changes_nothing():
    x = datasets.load("iris")
    mass = np.random.default_rng(0).uniform(0.1, 2, len(x))
    for factor in (1e-30, 1e-3, 7.0, 1e30):
        assert_same(fit(x, "full", factor * mass), fit(x, "full", mass))
    assert_same(fit(x, "full", 3.0), fit(x, "full"))  # one for all


def test_weights_come_in_every_form():
    x = datasets.load("iris")
    mass = np.random.default_rng(0).integers(0, 3, len(x)).astype(float)
    expected = fit(x, "full", mass)
    cut = da.from_array(x, chunks=(40, 2))
    assert_same(fit(x.tolist(), "full", mass.tolist()), expected)
    assert_same(fit(x, "full", mass.astype(np.int8)), expected)
    assert_same(fit(cut, "full", mass), expected)
    assert_same(fit(cut, "full", da.from_array(mass, chunks=30)), expected)
    labelled = xr.DataArray(x, dims=("row", "feature"))
    assert_same(fit(labelled, "full", xr.DataArray(mass, dims="row")), expected)
    assert_same(fit(labelled.chunk(row=50), "full", xr.DataArray(mass, dims="row").chunk(row=20)), expected)
    stored = zarr.create_array(zarr.storage.MemoryStore(), data=x, chunks=(40, 2))
    assert_same(fit(stored, "full", mass), expected)
    plane = xr.DataArray(x.reshape(10, 15, 4), dims=("y", "x", "feature"))
    turned = xr.DataArray(mass.reshape(10, 15), dims=("y", "x")).transpose("x", "y")
    assert_same(fit(plane, "full", turned), expected)
    assert_same(fit(plane.chunk(y=3), "full", turned), expected)


@pytest.mark.parametrize("init", ["kmeans", "k-means++", "random", "random_from_data", "kmeans||"])
def test_rows_of_weight_zero_start_nothing(init):
    rng = np.random.default_rng(0)
    x = np.concatenate([rng.normal(size=(50, 2)), rng.normal(size=(50, 2)) + 10, np.full((40, 2), 1e4)])
    mass = np.r_[np.ones(100), np.zeros(40)]
    model = distem.GaussianMixture(2, init_params=init, random_state=0, max_iter=500).fit(
        x, sample_weight=mass
    )
    assert np.abs(model.means_).max() < 15
