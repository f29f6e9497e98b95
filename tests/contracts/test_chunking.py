"""How rows are cut into chunks changes results by rounding only; the cut itself changes none of them."""

from __future__ import annotations

import warnings

import dask.array as da
import datasets
import numpy as np
import pytest
import xarray as xr
import zarr
from blocks import blocks_of, fit_blocks
from hypothesis import given
from hypothesis import strategies as st
from sklearn.exceptions import ConvergenceWarning
from strategies import COVARIANCES, chunkings, examples, random_params, weights

import distem
from distem.execution.serial import SerialExecutor
from distem.models.gaussian import Gaussian
from distem.models.mixture import Mixture

TOLERANCE = {1: 1e-12, 20: 1e-10}
"""After so many passes."""
ROWS = 240


def rows() -> np.ndarray:
    x = datasets.load("flights")[:ROWS]
    return np.ascontiguousarray((x - x.mean(axis=0)) / x.std(axis=0))


def differ(a, b) -> float:
    """Largest difference of two sets of parameters in data of unit variance."""
    pairs = [
        (a.weights, b.weights),
        (a.theta.means, b.theta.means),
        (a.theta.covariances, b.theta.covariances),
    ]
    return max(float(np.abs(one - two).max()) for one, two in pairs)


@pytest.mark.parametrize("passes", TOLERANCE)
@pytest.mark.parametrize("covariance", COVARIANCES)
def test_any_chunking_agrees(covariance, passes):
    x = rows()
    model = Mixture(Gaussian(covariance, 1e-6))
    start = random_params(model, 3, x.shape[1], np.random.default_rng(2))

    @examples(25)
    @given(sizes=chunkings(ROWS, 24), partitions=st.integers(1, 30), mass=weights(ROWS))
    def check(sizes, partitions, mass):
        whole, after, labels = fit_blocks(model, start, blocks_of(x, None, mass), passes=passes)
        cut, cut_after, cut_labels = fit_blocks(
            model, start, blocks_of(x, sizes, mass), passes=passes, partitions=partitions
        )
        assert differ(cut_after, after) <= TOLERANCE[passes]
        values = [[p.log_likelihood for p in fit.trace] for fit in (whole, cut)]
        np.testing.assert_allclose(values[1], values[0], rtol=TOLERANCE[passes], atol=TOLERANCE[passes])
        assert (labels == cut_labels).mean() > 0.99  # a row halfway between two may go either way

    check()


def inputs(x: np.ndarray, sizes: tuple[int, ...]):
    """The same rows as every kind of input, cut into chunks where there are chunks."""
    yield "dask", da.from_array(x, chunks=(sizes, x.shape[1]))
    yield "dask, features cut", da.from_array(x, chunks=(sizes, (1, x.shape[1] - 1)))
    yield "xarray", xr.DataArray(x, dims=("row", "feature"))
    yield (
        "xarray of dask",
        xr.DataArray(da.from_array(x, chunks=(sizes, x.shape[1])), dims=("row", "feature")),
    )
    store = zarr.create_array(zarr.storage.MemoryStore(), data=x, chunks=(max(1, max(sizes) // 2), 3))
    yield "zarr", store
    plane = x.reshape(20, -1, x.shape[1])
    yield "planes", da.from_array(plane, chunks=(7, 5, 2))


@pytest.mark.parametrize("passes", TOLERANCE)
@pytest.mark.parametrize("covariance", COVARIANCES)
def test_the_estimator_agrees_on_any_input_in_any_chunks(covariance, passes):
    x = rows()

    def fitted(data):
        begun = datasets.start("flights", covariance)
        begun["means_init"] = x[:4] * 1.0
        begun["precisions_init"] = np.ones_like(begun["precisions_init"])
        if covariance in ("full", "tied"):
            begun["precisions_init"][:] = np.eye(x.shape[1])
        model = distem.GaussianMixture(4, covariance_type=covariance, max_iter=passes, tol=0.0, **begun)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            return model.fit(data)

    expected = fitted(x)

    @examples(3)
    @given(sizes=chunkings(ROWS))
    def check(sizes):
        for kind, data in inputs(x, sizes):
            found = fitted(data)
            for name in ("weights_", "means_", "covariances_"):
                difference = np.abs(getattr(found, name) - getattr(expected, name)).max()
                assert difference <= TOLERANCE[passes], (kind, name)
            answers = np.asarray(found.score_samples(data)).ravel()
            np.testing.assert_allclose(answers, expected.score_samples(x), rtol=1e-9, atol=1e-9)

    check()


@examples(40)
@given(sizes=chunkings(60), partitions=st.integers(1, 80))
def test_partitions_and_residence_change_no_bit_for_any_chunking(sizes, partitions):
    x = rows()[:60]
    model = Mixture(Gaussian("full"))
    start = random_params(model, 2, x.shape[1], np.random.default_rng(0))
    blocks = blocks_of(x, sizes)

    def traced(**how):
        fit, after, labels = fit_blocks(model, start, blocks, passes=3, **how)
        trace = [p.log_likelihood for p in fit.trace]
        return trace, {k: v.tobytes() for k, v in model.arrays(after).items()}, labels.tobytes()

    from distem.execution.threads import ThreadsExecutor

    expected = traced(executor=SerialExecutor())
    with ThreadsExecutor(2) as threads:
        for resident in (True, False):
            assert traced(executor=threads, resident=resident, partitions=partitions) == expected
