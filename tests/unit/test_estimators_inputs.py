"""What the estimator takes and gives back: NumPy, pandas, Dask, xarray, Zarr; lazy in, lazy out."""

from __future__ import annotations

import warnings

import dask
import dask.array as da
import numpy as np
import pandas as pd
import pytest
import xarray as xr
import zarr
from distributed import Client, LocalCluster
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning, NotFittedError
from strategies import COVARIANCES

import distem
from distem.errors import DataError, DistemError, FitError

K, D = 3, 2
ANSWERS = {"predict": (), "score_samples": (), "predict_proba": (K,)}


@pytest.fixture(scope="module")
def cube() -> np.ndarray:
    """Rows on two sample dimensions, (6, 20, 2)."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(6, 20, D))
    x[:2] += 6.0
    x[2:4] -= [5.0, -5.0]
    return x


@pytest.fixture(scope="module")
def fitted(cube) -> distem.GaussianMixture:
    return distem.GaussianMixture(K, random_state=0).fit(cube.reshape(-1, D))


def raster(cube, *, lazy: bool) -> xr.DataArray:
    values = da.from_array(cube, chunks=((2, 3, 1), (20,), (1, 1))) if lazy else cube
    return xr.DataArray(
        values,
        dims=("y", "x", "band"),
        coords={
            "y": np.linspace(50, 51, 6),
            "x": np.arange(20.0),
            "band": ["red", "blue"],
            "height": (("y", "x"), np.arange(120.0).reshape(6, 20)),
            "scene": 7,
            "gain": ("band", [1.0, 2.0]),
        },
        attrs={"units": "1"},
        name="image",
    )


@pytest.mark.parametrize("method", ANSWERS)
def test_dask_in_dask_out_on_the_same_chunks(cube, fitted, method):
    x = da.from_array(cube, chunks=((2, 3, 1), (8, 8, 4), (1, 1)))
    with dask.config.set(scheduler="synchronous"):
        answer = getattr(fitted, method)(x)
        assert isinstance(answer, da.Array)
        assert answer.chunks == (*x.chunks[:2], *((n,) for n in ANSWERS[method]))
        computed = answer.compute()
    assert computed.dtype == answer.dtype
    expected = getattr(fitted, method)(cube.reshape(-1, D)).reshape(6, 20, *ANSWERS[method])
    np.testing.assert_array_equal(computed, expected)


@pytest.mark.parametrize("method", ANSWERS)
def test_a_lazy_answer_computes_nothing_before_it_is_asked(cube, fitted, method):
    def refuse(*_):
        raise AssertionError("computed too early")

    x = da.map_blocks(refuse, da.zeros((6, 20, D), chunks=2), dtype=float, meta=np.empty((0, 0, 0)))
    assert getattr(fitted, method)(x).shape == (6, 20, *ANSWERS[method])


@pytest.mark.parametrize("lazy", [False, True], ids=["in memory", "dask"])
@pytest.mark.parametrize("method", ANSWERS)
def test_xarray_in_xarray_out_on_the_same_coordinates(cube, fitted, method, lazy):
    x = raster(cube, lazy=lazy)
    answer = getattr(fitted, method)(x)
    assert isinstance(answer, xr.DataArray)
    assert answer.dims == ("y", "x", *("component" for _ in ANSWERS[method]))
    assert set(answer.coords) == {"y", "x", "height", "scene"}  # what does not stand on the feature
    for name in answer.coords:
        xr.testing.assert_identical(answer.coords[name].variable, x.coords[name].variable)
    assert (answer.chunks is not None) == lazy
    if lazy:
        assert answer.chunks[:2] == x.chunks[:2]
    expected = getattr(fitted, method)(cube.reshape(-1, D)).reshape(answer.shape)
    np.testing.assert_array_equal(answer.values, expected)


@pytest.mark.parametrize("method", ANSWERS)
def test_zarr_gives_dask_on_its_chunks(cube, fitted, method):
    x = zarr.create_array(zarr.storage.MemoryStore(), data=cube, chunks=(4, 7, 1))
    answer = getattr(fitted, method)(x)
    assert answer.chunks[:2] == ((4, 2), (7, 7, 6))
    expected = getattr(fitted, method)(cube.reshape(-1, D)).reshape(answer.shape)
    np.testing.assert_array_equal(answer.compute(), expected)


def fits(cube):
    """The same rows in every form a fit takes."""
    flat = cube.reshape(-1, D)
    yield "dask", da.from_array(cube, chunks=(2, 8, 1))
    yield "dask table", da.from_array(flat, chunks=(17, 1))
    yield "xarray", raster(cube, lazy=False)
    yield "xarray of dask", raster(cube, lazy=True)
    yield "zarr", zarr.create_array(zarr.storage.MemoryStore(), data=cube, chunks=(4, 7, 1))
    yield "data frame", pd.DataFrame(flat, columns=["a", "b"])
    yield "list", flat.tolist()
    yield "Fortran order", np.asfortranarray(flat)
    yield "strided", np.repeat(flat, 2, axis=0)[::2]
    yield "dataset", raster(cube, lazy=False).drop_vars("gain").to_dataset("band")


def test_every_form_of_the_same_rows_gives_the_same_fit(cube):
    start = {
        "weights_init": np.full(K, 1 / K),
        "means_init": [[6.0, 6.0], [-5.0, 5.0], [0.0, 0.0]],
        "precisions_init": np.stack([np.eye(D)] * K),
    }
    expected = distem.GaussianMixture(K, **start).fit(cube.reshape(-1, D))
    for kind, x in fits(cube):
        found = distem.GaussianMixture(K, **start).fit(x)
        assert found.n_features_in_ == D, kind
        for name in ("weights_", "means_", "covariances_", "lower_bounds_"):
            np.testing.assert_allclose(
                getattr(found, name),
                getattr(expected, name),
                rtol=1e-12,
                atol=1e-12,
                err_msg=f"{kind} {name}",
            )
        assert found.bic(x) == pytest.approx(expected.bic(cube.reshape(-1, D)), rel=1e-12), kind
        assert found.aic(x) == pytest.approx(expected.aic(cube.reshape(-1, D)), rel=1e-12), kind
        assert isinstance(found.score(x), float)
        assert np.asarray(found.fit_predict(x)).size == cube.size // D


def test_a_data_frame_leaves_its_column_names():
    x = pd.DataFrame(np.random.default_rng(0).normal(size=(30, 2)), columns=["a", "b"])
    model = distem.GaussianMixture().fit(x)
    assert model.feature_names_in_.tolist() == ["a", "b"]
    with pytest.raises(ValueError, match="feature names"):
        model.predict(x[["b", "a"]])


# missing values


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("form", ["numpy", "dask", "xarray", "xarray of dask", "zarr"])
def test_a_missing_value_names_its_row_in_whatever_chunk(cube, fitted, form, bad):
    x = cube.reshape(-1, D).copy()
    x[87, 1] = bad
    chunked = da.from_array(x, chunks=((30, 0, 40, 50), 1))
    data = {
        "numpy": x,
        "dask": chunked,
        "xarray": xr.DataArray(x, dims=("row", "band")),
        "xarray of dask": xr.DataArray(chunked, dims=("row", "band")),
        "zarr": zarr.create_array(zarr.storage.MemoryStore(), data=x, chunks=(25, 1)),
    }[form]
    with pytest.raises(DataError, match=r"row 87\b"):
        distem.GaussianMixture(K).fit(data)
    for method in ANSWERS:
        with pytest.raises(ValueError, match=r"row 87\b"):
            np.asarray(getattr(fitted, method)(data))
    with pytest.raises(ValueError, match=r"row 87\b"):
        fitted.score(data)


def test_a_missing_value_of_a_raster_names_its_indices(cube, fitted):
    x = cube.copy()
    x[4, 13, 0] = np.nan
    data = raster(x, lazy=True)
    with pytest.raises(DataError, match=r"y=4, x=13"):
        distem.GaussianMixture(K).fit(data)
    with pytest.raises(DataError, match=r"row \(4, 13\)"):
        fitted.predict(data).compute()


# errors


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ({"weights_init": [0.5, 0.6]}, "sum to 1"),
        ({"weights_init": [1.0]}, "shape"),
        ({"means_init": [[0.0, 0.0]]}, "means_init"),
        ({"means_init": [[0.0, np.nan], [1.0, 1.0]]}, "NaN"),
        ({"precisions_init": np.ones((2, 2))}, "precisions_init"),
        ({"precisions_init": -np.stack([np.eye(2)] * 2)}, "positive-definite"),
        ({"covariance_type": "diag", "precisions_init": -np.ones((2, 2))}, "positive"),
        ({"covariance_type": "spherical", "precisions_init": np.zeros(2)}, "positive"),
        ({"covariance_type": "round"}, "covariance_type"),
        ({"tol": -1.0}, "tol"),
        ({"n_components": 0}, "n_components"),
        ({"acceleration": "fast"}, "acceleration"),
        ({"n_components": 121}, "n_components = 121"),
    ],
)
def test_a_wrong_call_says_what_is_wrong(cube, how, message):
    with pytest.raises(ValueError, match=message):
        distem.GaussianMixture(**{"n_components": 2, **how}).fit(cube.reshape(-1, D))


def test_errors_are_value_errors_of_distems_kinds(cube, fitted):
    x = cube.reshape(-1, D)
    with pytest.raises(DistemError, match="features"):
        fitted.predict(da.zeros((10, D + 1)))
    with pytest.raises(DataError, match="weights have shape"):
        distem.GaussianMixture(K).fit(x, sample_weight=np.ones(3))
    with pytest.raises(DataError, match="weights have shape"):
        distem.GaussianMixture(K).fit(da.from_array(cube), sample_weight=np.ones(3))
    with pytest.raises(DataError, match="row 5"):
        distem.GaussianMixture(K).fit(x, sample_weight=np.where(np.arange(len(x)) == 5, -1.0, 1.0))
    with pytest.raises(DataError, match="zero"):
        distem.GaussianMixture(K).fit(x, sample_weight=np.zeros(len(x)))
    flat = da.from_array(x)
    with pytest.raises(DataError, match="chunk sizes"):
        distem.GaussianMixture(K).fit(flat[flat[:, 0] > 0])
    with pytest.raises(DataError, match="2D"):
        distem.GaussianMixture(K).fit(da.zeros(7))
    with pytest.raises(FitError, match="at least one sample"):
        fitted.sample(0)
    with pytest.raises(NotFittedError):
        distem.GaussianMixture().predict(x)


# attributes by hand


def test_the_workers_of_a_client_are_prepared_and_the_log_says_so(cube, monkeypatch, caplog):
    def warmed(kinds, dtype):
        return 3.0 if (tuple(kinds), dtype) == (("tied",), "float64") else 0.0

    monkeypatch.setattr("distem.estimators.mixture.warm_all", warmed)
    x = da.from_array(cube.reshape(-1, D), chunks=(30, D))
    with (
        LocalCluster(
            n_workers=1,
            threads_per_worker=2,
            processes=False,
            dashboard_address="127.0.0.1:0",
            silence_logs=50,
        ) as cluster,
        Client(cluster, set_as_default=False) as client,
        caplog.at_level("INFO", "distem"),
    ):
        for covariance in ("tied", "full"):
            distem.GaussianMixture(K, covariance_type=covariance, random_state=0, client=client).fit(x)
    told = [record.message for record in caplog.records if "compiled" in record.message]
    assert told == ["compiled the kernels on the cluster's workers in 3 s"]


@pytest.mark.parametrize("covariance", COVARIANCES)
def test_attributes_set_by_hand_score_predict_and_sample(cube, covariance):
    x = cube.reshape(-1, D)
    fitted = distem.GaussianMixture(K, covariance_type=covariance, random_state=0).fit(x)
    held = distem.GaussianMixture(K, covariance_type=covariance, random_state=1)
    held.weights_ = fitted.weights_.tolist()
    held.means_ = fitted.means_.tolist()
    held.precisions_cholesky_ = fitted.precisions_cholesky_.tolist()
    np.testing.assert_array_equal(held.score_samples(x), fitted.score_samples(x))
    np.testing.assert_array_equal(held.predict_proba(x), fitted.predict_proba(x))
    assert held.bic(x) == fitted.bic(x)
    drawn, labels = held.sample(3000)
    assert np.bincount(labels, minlength=K) / 3000 == pytest.approx(fitted.weights_, abs=0.05)
    for c in range(K):
        np.testing.assert_allclose(drawn[labels == c].mean(axis=0), fitted.means_[c], atol=0.3)


def test_any_square_root_of_the_precision_may_be_set_by_hand(cube):
    x = cube.reshape(-1, D)
    fitted = distem.GaussianMixture(K, random_state=0).fit(x)
    held = distem.GaussianMixture(K)
    held.weights_, held.means_ = fitted.weights_, fitted.means_
    held.precisions_cholesky_ = np.linalg.cholesky(fitted.precisions_)  # lower triangular
    np.testing.assert_allclose(held.score_samples(x), fitted.score_samples(x), rtol=1e-12)


@pytest.mark.parametrize("covariance", COVARIANCES)
def test_equally_likely_components_share_exactly(covariance):
    model = distem.GaussianMixture(2, covariance_type=covariance)
    model.weights_, model.means_ = [0.5, 0.5], [[-1.0, 0.0], [1.0, 0.0]]
    shapes = {"full": (2, 2, 2), "tied": (2, 2), "diag": (2, 2), "spherical": (2,)}
    model.precisions_cholesky_ = np.ones(shapes[covariance])
    if covariance in ("full", "tied"):
        model.precisions_cholesky_[...] = np.eye(2)
    halfway = np.array([[0.0, 0.0], [0.0, 3.7], [0.0, -1e6]])
    np.testing.assert_array_equal(model.predict_proba(halfway), np.full((3, 2), 0.5))
    np.testing.assert_array_equal(model.predict(halfway), [0, 0, 0])


# the rest of the surface


@pytest.mark.parametrize("init", ["kmeans", "k-means++", "random", "random_from_data", "kmeans||"])
@pytest.mark.parametrize("covariance", COVARIANCES)
def test_a_seed_decides_everything(cube, covariance, init):
    x = cube.reshape(-1, D)

    def fit(seed):
        model = distem.GaussianMixture(
            K, covariance_type=covariance, init_params=init, random_state=seed, n_init=2, max_iter=500
        )
        return model.fit(x)

    one, two = fit(7), fit(7)
    for name in ("weights_", "means_", "covariances_", "precisions_cholesky_", "lower_bounds_"):
        assert np.asarray(getattr(one, name)).tobytes() == np.asarray(getattr(two, name)).tobytes()
    state = np.random.RandomState(7)
    assert fit(state).means_.tobytes() == one.means_.tobytes()
    np.testing.assert_array_equal(one.sample(5)[0], two.sample(5)[0])


@pytest.mark.parametrize("init", ["kmeans", "k-means++", "kmeans||"])
def test_starts_find_well_separated_clusters(init):
    rng = np.random.default_rng(3)
    centres = np.array([[0, 0], [20, 0], [0, 20], [20, 20], [40, 40]])
    x = np.concatenate([c + rng.normal(size=(80, 2)) for c in centres])
    model = distem.GaussianMixture(5, init_params=init, random_state=0, n_init=5).fit(x)
    found = model.means_[np.lexsort(model.means_.round(0).T)]
    np.testing.assert_allclose(found, centres[np.lexsort(centres.T)], atol=0.5)


def test_warm_start_goes_on_where_the_last_fit_ended(cube):
    x = cube.reshape(-1, D)
    start = {"means_init": x[[0, 50, 110]], "weights_init": np.full(K, 1 / K), "tol": 0.0}
    start["precisions_init"] = np.stack([np.eye(D) / 9] * K)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        whole = distem.GaussianMixture(K, max_iter=12, **start).fit(x)
        part = distem.GaussianMixture(K, max_iter=5, warm_start=True, **start).fit(x)
        part.set_params(max_iter=7).fit(x)
    np.testing.assert_allclose(part.means_, whole.means_, rtol=1e-12)
    np.testing.assert_allclose(part.covariances_, whole.covariances_, rtol=1e-10, atol=1e-12)
    assert part.lower_bounds_ == pytest.approx(whole.lower_bounds_[5:], rel=1e-12)


def test_max_iter_zero_is_the_start(cube):
    x = cube.reshape(-1, D)
    model = distem.GaussianMixture(
        K,
        max_iter=0,
        means_init=x[:3],
        weights_init=[0.2, 0.3, 0.5],
        precisions_init=np.stack([np.eye(D)] * 3),
    ).fit(x)
    np.testing.assert_array_equal(model.means_, x[:3])
    np.testing.assert_array_equal(model.weights_, [0.2, 0.3, 0.5])
    assert model.n_iter_ == 0


def test_a_fit_that_does_not_converge_warns(cube):
    with pytest.warns(ConvergenceWarning, match="stopped after 2 passes"):
        model = distem.GaussianMixture(K, max_iter=2, tol=1e-12, random_state=0).fit(cube.reshape(-1, D))
    assert not model.converged_


def test_a_given_client_and_one_in_scope_are_used(cube):
    x = da.from_array(cube.reshape(-1, D), chunks=(30, D))
    expected = distem.GaussianMixture(K, random_state=0).fit(x)
    with LocalCluster(
        n_workers=2, threads_per_worker=1, processes=False, dashboard_address="127.0.0.1:0", silence_logs=50
    ) as cluster:

        def tasks() -> int:
            return cluster.scheduler.transition_counter

        with Client(cluster, set_as_default=False) as client:
            before = tasks()
            model = distem.GaussianMixture(K, random_state=0, client=client).fit(x)
            assert tasks() > before
            assert model.means_.tobytes() == expected.means_.tobytes()
            # the last use of an executor leaves the client open
            assert client.submit(int, 1).result() == 1
        with Client(cluster):
            before = tasks()
            in_scope = distem.GaussianMixture(K, random_state=0).fit(x)
            assert tasks() > before
            assert in_scope.means_.tobytes() == expected.means_.tobytes()
            persisted = x.persist()
            again = distem.GaussianMixture(K, random_state=0).fit(persisted)
            assert again.means_.tobytes() == expected.means_.tobytes()
            bad = da.from_array(
                np.where(np.arange(120)[:, None] == 77, np.nan, cube.reshape(-1, D)), chunks=(30, D)
            )
            with pytest.raises(DataError, match=r"row 77\b"):
                distem.GaussianMixture(K).fit(bad)
            with pytest.raises(DataError, match=r"row 77\b"):
                again.predict(bad).compute()


@pytest.mark.parametrize("covariance", COVARIANCES)
@pytest.mark.parametrize("acceleration", ["squarem", "anderson"])
def test_acceleration_gives_one_entry_a_pass_and_no_worse_likelihood(covariance, acceleration):
    rng = np.random.default_rng(8)
    x = np.concatenate([rng.normal(size=(300, 2)), rng.normal(size=(300, 2)) + 2.2])
    how = {
        "covariance_type": covariance,
        "random_state": 0,
        "tol": 1e-9,
        "max_iter": 3000,
        "reg_covar": 0.0,
    }
    plain = distem.GaussianMixture(2, **how).fit(x)
    none = distem.GaussianMixture(2, acceleration="none", **how).fit(x)
    quick = distem.GaussianMixture(2, acceleration=acceleration, **how).fit(x)
    assert plain.lower_bounds_ == none.lower_bounds_
    assert len(quick.lower_bounds_) == quick.n_iter_
    assert quick.converged_
    assert quick.score(x) >= plain.score(x) - 1e-8
    assert quick.n_iter_ < plain.n_iter_


def test_a_clone_shares_the_client_and_nothing_else():
    class Connection:
        def __deepcopy__(self, memo):
            raise TypeError("a connection cannot be copied")

    connection = Connection()
    means = np.zeros((K, 2))
    copy = clone(distem.GaussianMixture(K, means_init=means, client=connection))
    assert copy.client is connection
    assert copy.means_init is not means
    assert copy.n_components == K


def test_verbose_tells_the_log_of_every_so_many_passes(caplog):
    x = np.random.default_rng(0).normal(size=(200, 2))
    model = distem.GaussianMixture(2, max_iter=6, tol=0.0, verbose=1, verbose_interval=3, random_state=0)
    with caplog.at_level("INFO", logger="distem"), warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        model.fit(x)
    told = [r.getMessage() for r in caplog.records if r.name == "distem"]
    assert [message.partition(":")[0] for message in told] == ["start 0, pass 3", "start 0, pass 6"]
