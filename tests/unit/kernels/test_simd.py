"""The vector functions against many more digits."""

import mpmath
import numpy as np
import pytest

from distem.kernels import _simd
from distem.kernels._simd_math import exp, log


@_simd.inner
def _exp(x, into):
    for i in range(0, x.size, _simd.BYTES // x.itemsize):
        _simd.store(into, i, exp(_simd.load(x, i)))


@_simd.inner
def _log(x, into):
    for i in range(0, x.size, _simd.BYTES // x.itemsize):
        _simd.store(into, i, log(_simd.load(x, i)))


@pytest.mark.parametrize(
    ("dtype", "lowest", "tolerance"), [(np.float64, -345, 4e-16), (np.float32, -40, 2e-7)]
)
def test_exp(dtype, lowest, tolerance):
    rng = np.random.default_rng(0)
    x = np.concatenate([[0.0, -0.0, lowest, -1e-300], rng.uniform(lowest, 0, 1500), -rng.random(544)]).astype(
        dtype
    )
    found = np.empty_like(x)
    _exp(x, found)
    assert np.all(found[:2] == 1)
    exact = np.array([float(mpmath.exp(float(v))) for v in x])
    assert np.max(np.abs(found / exact - 1)) < tolerance


@pytest.mark.parametrize(("dtype", "lowest"), [(np.float64, -345), (np.float32, -40)])
def test_exp_far_down_is_exactly_zero(dtype, lowest):
    x = np.full(64, lowest * 1.0001, dtype)
    x[::2] = np.finfo(dtype).min
    found = np.ones_like(x)
    _exp(x, found)
    assert np.all(found == 0)


def test_log():
    rng = np.random.default_rng(0)
    x = np.concatenate(
        [[1.0, 2.0, 0.5, 3.0], 1 + rng.random(1000) * 1e-3, np.exp(rng.uniform(-600, 600, 1044))]
    )
    found = np.empty_like(x)
    _log(x, found)
    assert found[0] == 0
    exact = np.array([float(mpmath.log(v)) for v in x])
    assert np.max(np.abs(found - exact) / np.maximum(np.abs(exact), 1e-300)[...]) < 4e-16
