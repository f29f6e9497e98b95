"""The compiled sweep that scales rows has NumPy's bits."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from strategies import examples

from distem.data.transform import Transform
from distem.kernels import scaling

TYPES = ("float64", "float32")


def by_numpy(x, shift, by, dtype):
    z = x.astype(np.float64)
    z = z if shift is None else z - shift
    return (z if by is None else z / by).astype(dtype)


@pytest.mark.parametrize("wanted", TYPES)
@pytest.mark.parametrize("stored", TYPES)
@examples(40)
@given(data=st.data())
def test_same_bits_as_numpy(stored, wanted, data):
    n, d = data.draw(st.integers(0, 700)), data.draw(st.integers(1, 300))
    n = min(n, 20_000 // d)
    rng = np.random.default_rng(data.draw(st.integers(0, 9)))
    values = st.floats(-1e6, 1e6, width=32)
    x = rng.choice(data.draw(hnp.arrays(np.float64, 20, elements=values)), (n, d)).astype(stored)
    shift = data.draw(st.none() | st.just(rng.normal(size=d) * 1e3))
    by = data.draw(st.none() | st.just(rng.uniform(1e-3, 1e3, size=d)))
    out = np.full((n, d), np.nan, wanted)
    assert scaling.scale(x, shift, by, out, 1e17)
    assert out.tobytes() == by_numpy(x, shift, by, wanted).tobytes()


@pytest.mark.parametrize("odd", [np.nan, np.inf, -np.inf, 2e17, -2e17])
def test_a_value_beyond_the_limit_is_told(odd):
    x = np.zeros((500, 3))
    x[437, 1] = odd
    assert not scaling.scale(x, None, None, np.empty_like(x), 1e17)
    x[437, 1] = 1e17
    assert scaling.scale(x, None, None, np.empty_like(x), 1e17)


@pytest.mark.parametrize("dtype", TYPES)
def test_rows_with_odd_values_come_out_as_before(dtype):
    """Missing rows are left out and huge values held, as where NumPy does all of it."""
    x = np.random.default_rng(0).normal(size=(400, 3)) * 3.0
    x[7, 1], x[8, 2], x[9, 0] = np.nan, np.inf, 1e200
    transform = Transform("drop", np.array([1.0, 2.0, 3.0]), np.array([2.0, 0.5, 1.0]), None, dtype)
    found = transform.rows(x, None)
    assert found.kept is not None
    assert np.flatnonzero(~found.kept).tolist() == [7, 8]
    limit = 1e140 if dtype == "float64" else 1e17
    expected = np.clip((np.delete(x, [7, 8], axis=0) - transform.shift) / transform.scale, -limit, limit)
    assert found.values.tobytes() == expected.astype(dtype).tobytes()


@pytest.mark.parametrize("x", [np.zeros((0, 3)), np.arange(12)[::2].reshape(2, 3)], ids=str)
def test_what_the_sweep_does_not_take(x):
    found = Transform("drop", np.ones(x.shape[1]), np.ones(x.shape[1])).rows(x, None)
    np.testing.assert_array_equal(found.values, x - 1.0)
