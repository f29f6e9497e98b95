import json
import pickle

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from distem.data.transform import Transform

rng = np.random.default_rng(0)
A = rng.normal(size=(3, 3)) + 3 * np.eye(3)


@pytest.mark.parametrize("dtype", [">f8", ">i2", "f2", "f4", "u1", "?", "i8", "f8"])
def test_any_real_dtype(dtype):
    raw = rng.integers(0, 2, (50, 3)).astype(dtype)
    shift, scale = np.array([1.0, 0, 2]), np.array([2.0, 1, 4])
    rows = Transform(shift=shift, scale=scale).rows(raw, None)
    assert rows.values.dtype == np.float64
    assert rows.values.flags.c_contiguous
    assert_array_equal(rows.values, (raw.astype(float) - shift) / scale)
    assert_array_equal(Transform().rows(raw, None).values, raw.astype(float))
    assert Transform(dtype="float32").rows(raw, None).values.dtype == np.float32


def test_nothing_to_do_copies_nothing():
    raw = rng.normal(size=(1000, 4))
    rows = Transform().rows(raw[100:900], None)
    assert np.shares_memory(rows.values, raw)
    assert rows.kept is None


def test_drop_leaves_out_rows_and_says_which():
    raw = rng.normal(size=(40_000, 3))
    raw[5, 1], raw[30_000, 0], raw[7, 2] = np.nan, np.inf, -np.inf
    weights = np.ones(len(raw))
    weights[11] = np.nan
    rows = Transform(shift=np.ones(3)).rows(raw, weights)
    kept = np.ones(len(raw), bool)
    kept[[5, 7, 11, 30_000]] = False
    assert_array_equal(rows.kept, kept)
    assert_array_equal(rows.values, raw[kept] - 1)
    assert_array_equal(rows.weights, weights[kept])
    all_rows = Transform(missing="keep").rows(raw, weights)
    assert_array_equal(all_rows.values, raw)
    assert all_rows.kept is None


def test_shift_comes_first_and_in_float64():
    raw = 1e8 + rng.normal(size=(100, 1))
    z = Transform(shift=np.array([1e8]), dtype="float32").rows(raw, None).values
    assert_allclose(z, raw - 1e8, rtol=1e-6)


@pytest.mark.parametrize("big", [1e150, 1e300, 1.7e308])
@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("matrix", [None, A])
def test_finite_stays_finite(big, dtype, matrix):
    raw = np.array([[big, -big, 0.0], [-big, big, 1.0], [0, 0, 0]])
    for shift, scale in [(None, None), (np.array([big, big, 1]), np.array([1e-3, big, 1]))]:
        rows = Transform(shift=shift, scale=scale, matrix=matrix, dtype=dtype).rows(raw, None)
        assert rows.kept is None
        assert np.isfinite(rows.values.astype(float) ** 2).all()
    kept = raw.copy()
    assert_array_equal(raw, kept)


def test_back_and_forth():
    t = Transform(shift=np.array([1.0, -2, 3]), scale=np.array([2.0, 0.5, 10]), matrix=A)
    x = rng.normal(size=(500, 3))
    z = t.forward(x)
    assert_allclose(t.backward_means(z), x, atol=1e-12)
    assert_allclose(t.forward_means(x), z)
    cov = np.cov(x.T)
    assert_allclose(t.forward_covariances(cov), np.cov(z.T), atol=1e-12)
    assert_allclose(t.backward_covariances(np.cov(z.T)), cov, atol=1e-10)
    jacobian = np.diag(1 / t.scale) @ A
    assert t.log_jacobian == pytest.approx(np.log(abs(np.linalg.det(jacobian))))
    assert Transform().log_jacobian == 0
    for same in (
        pickle.loads(pickle.dumps(t)),
        Transform.from_description(json.loads(json.dumps(t.describe()))),
    ):
        assert_array_equal(same.forward(x), z)


def test_no_rows():
    rows = Transform(shift=np.zeros(2)).rows(np.empty((0, 2), "f4"), np.empty(0))
    assert rows.values.shape == (0, 2)
    assert rows.kept is None
