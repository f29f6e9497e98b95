"""`distem.KMeans` beside scikit-learn's, iteration by iteration, and on input of every kind."""

from __future__ import annotations

import dask.array as da
import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.cluster import KMeans as Peer
from sklearn.datasets import load_digits, load_iris, load_wine
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils.estimator_checks import parametrize_with_checks

import distem

SETS = {"iris": (load_iris, 3), "wine": (load_wine, 4), "digits": (load_digits, 10)}


def real(name: str):
    make, k = SETS[name]
    x = make().data.astype(float)
    rng = np.random.default_rng(1)
    # not on rows: between whole numbers rows can be equally far from two, and scikit-learn then rounds
    return x, x[rng.choice(len(x), k, replace=False)] + rng.uniform(0.01, 0.1, (k, x.shape[1]))


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize("steps", [1, 2, 3, 7, 300])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("name", SETS)
def test_every_iteration_is_scikit_learns(name, steps, weighted):
    x, start = real(name)
    weights = np.random.default_rng(0).uniform(0.5, 2.0, len(x)) if weighted else None
    k = len(start)
    mine = distem.KMeans(k, init=start, max_iter=steps, tol=0.0).fit(x, sample_weight=weights)
    peer = Peer(k, init=start, n_init=1, max_iter=steps, tol=0.0, algorithm="lloyd")
    peer.fit(x, sample_weight=weights)
    assert_allclose(mine.cluster_centers_, peer.cluster_centers_, rtol=1e-10, atol=1e-12)
    assert_array_equal(mine.labels_, peer.labels_)
    assert mine.inertia_ == pytest.approx(peer.inertia_, rel=1e-11)
    assert mine.n_iter_ == peer.n_iter_
    assert (np.diff(mine.inertias_) <= 1e-9 * mine.inertias_[0]).all()


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_the_tolerance_is_scikit_learns():
    x, start = real("digits")
    mine = distem.KMeans(10, init=start, tol=1e-3).fit(x)
    assert mine.n_iter_ == Peer(10, init=start, n_init=1, tol=1e-3, algorithm="lloyd").fit(x).n_iter_


@settings(max_examples=15, deadline=None)
@given(st.data())
def test_chunks_have_no_say(data):
    x, start = real("wine")
    sizes = data.draw(st.lists(st.integers(1, 60), min_size=1, max_size=6))
    cuts = [*sizes, max(1, len(x) - sum(sizes))] if sum(sizes) < len(x) else [len(x)]
    lazy = da.from_array(x, chunks=(tuple(cuts), (5, 8)))
    whole = distem.KMeans(4, init=start, tol=0.0).fit(x)
    cut = distem.KMeans(4, init=start, tol=0.0).fit(lazy)
    assert_allclose(cut.cluster_centers_, whole.cluster_centers_, rtol=1e-12)
    assert_array_equal(cut.labels_.compute(), whole.labels_)


def test_lazy_in_lazy_out():
    x, _ = real("iris")
    cube = xr.DataArray(x.reshape(10, 15, 4), dims=("y", "x", "band"), coords={"y": np.arange(10)})
    km = distem.KMeans(3, random_state=0).fit(cube.chunk({"y": 5}))
    assert km.labels_.dims == ("y", "x")
    assert km.labels_.chunks is not None
    distance = km.transform(cube)
    assert distance.dims == ("y", "x", "cluster")
    assert_array_equal(distance.values.argmin(axis=-1), km.labels_.values)
    assert km.score(cube) == pytest.approx(-km.inertia_)


@pytest.mark.parametrize("init", ["k-means||", "k-means++", "random"])
def test_starts_find_separate_clusters(init):
    rng = np.random.default_rng(3)
    centres = np.array([[0.0, 0.0], [20.0, 0.0], [0.0, 20.0]])
    x = np.concatenate([c + rng.normal(size=(400, 2)) for c in centres])
    km = distem.KMeans(3, init=init, n_init=10, random_state=0).fit(x)
    order = np.argsort(km.cluster_centers_ @ [1.0, 2.0])
    assert_allclose(km.cluster_centers_[order], centres, atol=0.3)


def test_an_empty_cluster_is_put_on_a_row():
    x = np.concatenate([np.zeros((50, 1)), np.ones((50, 1)), np.full((50, 1), 5.0)])
    with pytest.warns(ConvergenceWarning, match="reseeded"):
        km = distem.KMeans(3, init=[[0.0], [0.9], [1e6]], random_state=0).fit(x)
    assert_allclose(np.sort(km.cluster_centers_.ravel()), [0.0, 1.0, 5.0])


def test_offsets_and_magnitudes_cost_no_digits():
    x, start = real("iris")
    plain = distem.KMeans(3, init=start, tol=0.0).fit(x)
    far = distem.KMeans(3, init=start + 2.0**30, tol=0.0).fit(x + 2.0**30)
    assert_array_equal(far.labels_, plain.labels_)
    assert far.inertia_ == pytest.approx(plain.inertia_, rel=1e-6)
    vast = distem.KMeans(3, init=start * 2.0**500, tol=0.0).fit(x * 2.0**500)
    assert_array_equal(vast.labels_, plain.labels_)
    assert_allclose(vast.cluster_centers_ * 2.0**-500, plain.cluster_centers_, rtol=1e-12)


@pytest.mark.parametrize(
    ("how", "words"),
    [
        ({"n_clusters": 200}, "n_clusters = 200"),
        ({"init": [[1.0, 2.0]]}, "shape"),
        ({"init": np.full((3, 4), np.nan)}, "NaN"),
        ({"tol": -1.0}, "tol"),
        ({"init": "kmeans"}, "init"),
    ],
)
def test_wrong_arguments_are_refused(how, words):
    x, _ = real("iris")
    with pytest.raises(ValueError, match=words):
        distem.KMeans(**{"n_clusters": 3, **how}).fit(x)


def test_a_nan_is_named_by_its_row():
    x, _ = real("iris")
    x[77, 2] = np.nan
    with pytest.raises(ValueError, match="row 77"):
        distem.KMeans(3).fit(x)


RANDOM_START = "A row given twice is drawn for the start otherwise than one of weight two."


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@parametrize_with_checks(
    [distem.KMeans(3, init="k-means++"), distem.KMeans(2)],
    expected_failed_checks=lambda _: {"check_sample_weight_equivalence_on_dense_data": RANDOM_START},
)
def test_scikit_learns_checks(estimator, check):
    check(estimator)


def test_distances_have_names():
    x = np.random.default_rng(0).normal(size=(60, 2))
    model = distem.KMeans(3, random_state=0).set_output(transform="pandas").fit(x)
    assert list(model.transform(x).columns) == ["kmeans0", "kmeans1", "kmeans2"]


def test_the_other_arguments_of_scikit_learn():
    x, start = real("iris")
    seen = {}

    def first(rows, k, random_state):
        seen["rows"], seen["random"] = len(rows), random_state.uniform()
        return start[:k]

    mine = distem.KMeans(3, init=first, n_init=2, algorithm="elkan", copy_x=False, random_state=0).fit(x)
    peer = Peer(3, init=start, n_init=1, algorithm="elkan").fit(x)
    assert_allclose(mine.cluster_centers_, peer.cluster_centers_, rtol=1e-10)
    assert seen["rows"] == len(x)
    for init, starts in (("random", 10), ("k-means++", 1), ("k-means||", 1), (first, 10)):
        assert distem.KMeans(3, init=init, n_init="auto")._starts() == starts
    assert distem.KMeans(3, n_init="auto", random_state=0).fit(x).inertia_ > 0
    with pytest.raises(ValueError, match=r"'algorithm' parameter .* must be a str among .*elkan"):
        distem.KMeans(3, algorithm="full").fit(x)
    with pytest.raises(distem.errors.FitError, match=r"should have the shape \(3, 4\), but have \(2, 4\)"):
        distem.KMeans(3, init=lambda rows, k, random_state: start[:2]).fit(x)
