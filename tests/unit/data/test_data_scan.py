import functools
import operator
import pickle
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal

from distem.data.arrays import from_array
from distem.data.prepare import check, remarks, transform_for
from distem.data.scan import ScanPass, digest
from distem.data.transform import Transform
from distem.errors import ConfigError, DataError

rng = np.random.default_rng(3)
KEEP = Transform(missing="keep")


def scan_of(x, weights=None, cuts=(), scatter=False):
    parts = []
    for index, rows in enumerate(np.split(np.arange(len(x)), cuts)):
        w = None if weights is None else weights[rows]
        parts.append(ScanPass(scatter)(KEEP.rows(x[rows], w), index))
    return functools.reduce(operator.add, parts)


def exactly(column, weights=None):
    """Mean and standard deviation in rational arithmetic."""
    xs = [Fraction(float(v)) for v in column]
    ws = [Fraction(1)] * len(xs) if weights is None else [Fraction(float(w)) for w in weights]
    mean = sum(w * x for w, x in zip(ws, xs, strict=True)) / sum(ws)
    variance = sum(w * (x - mean) ** 2 for w, x in zip(ws, xs, strict=True)) / sum(ws)
    scale = max(abs(x) for x in xs) or 1
    return float(mean / scale), float(variance / scale**2) ** 0.5, float(scale)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(0, 700), max_size=6), st.booleans(), st.integers(0, 9))
def test_any_chunks_give_one_answer(cuts, weighted, seed):
    gen = np.random.default_rng(seed)
    x = gen.normal(size=(700, 3)) * [1, 1e-3, 1e5] + [0, 1e3, -1e8]
    w = gen.random(700) if weighted else None
    scan, whole = scan_of(x, w, sorted(cuts), True), scan_of(x, w, scatter=True)
    assert_allclose(scan.mean, whole.mean, rtol=1e-14, atol=1e-13)
    assert_allclose(scan.std, whole.std, rtol=1e-12)
    assert_allclose(scan.covariance, whole.covariance, rtol=1e-11, atol=1e-12)
    assert_array_equal(scan.minimum, x.min(0))
    assert_array_equal(scan.maximum, x.max(0))
    assert scan.rows == scan.usable == 700
    assert_allclose(whole.mean, np.average(x, axis=0, weights=w), rtol=1e-13, atol=1e-13)
    assert_allclose(whole.covariance, np.cov(x.T, bias=True, aweights=w), rtol=1e-7, atol=1e-9)
    assert_allclose(np.diag(whole.covariance), whole.variance, rtol=1e-12)


@pytest.mark.parametrize("scale", [1e-300, 1e-200, 1e-160, 1.0, 1e150, 1e160, 1e300, 1e307])
@pytest.mark.parametrize("offset", [0.0, 10.0])
def test_magnitudes(scale, offset):
    column = (rng.normal(size=300) / 4 + offset / 4) * scale
    scan = scan_of(column[:, None], cuts=[50, 51, 200])
    mean, sd, unit = exactly(column)
    assert_allclose(scan.mean, mean * unit, rtol=1e-12)
    assert_allclose(scan.std, sd * unit, rtol=1e-12)


def test_parts_of_unlike_magnitudes():
    column = np.concatenate([rng.normal(size=50) * s for s in (1e-300, 1, 1e200, 1e308 / 8)])
    scan = scan_of(column[:, None], cuts=[50, 100, 150])
    mean, sd, unit = exactly(column)
    assert_allclose(scan.mean, mean * unit, rtol=1e-12)
    assert_allclose(scan.std, sd * unit, rtol=1e-12)


def test_an_offset_costs_no_digits():
    column = 1e7 + 1e-2 * rng.normal(size=50_000)
    scan = scan_of(column[:, None], cuts=range(1000, 50_000, 1000))
    mean, sd, unit = exactly(column)
    assert_allclose(scan.mean, mean * unit, rtol=1e-15)
    assert_allclose(scan.std, sd * unit, rtol=1e-10)
    assert_allclose(scan.variance, (sd * unit) ** 2, rtol=1e-9)


def test_weights():
    x = rng.normal(size=(400, 2)) + 1e4
    w = rng.random(400) * 1e300
    w[:10] = 0
    scan = scan_of(x, w, [3, 100])
    for j in range(2):
        mean, sd, unit = exactly(x[:, j], w)
        assert_allclose(scan.mean[j], mean * unit, rtol=1e-14)
        assert_allclose(scan.std[j], sd * unit, rtol=1e-9)
    assert_allclose(scan.mass, w.sum())


def test_bad_values_are_counted_and_found():
    x = rng.normal(size=(100, 3))
    x[[20, 70], 1] = np.nan
    x[[60, 61, 62], 2] = [np.inf, np.nan, -np.inf]
    w = np.ones(100)
    w[[90, 95]] = [-1, np.nan]
    scan = scan_of(x, w, [15, 65])
    assert_array_equal(scan.nan, [0, 2, 1])
    assert_array_equal(scan.infinite, [0, 0, 2])
    assert scan.first_bad(0) is None
    assert scan.first_bad(1) == (1, 5)
    assert scan.first_bad(2) == (1, 45)
    assert (scan.bad_weights, scan.bad_weight_at) == (2, (2, 25))
    good = np.isfinite(x).all(1) & (w >= 0)
    assert (scan.rows, scan.usable, scan.missing) == (100, good.sum(), (~good).sum())
    assert_allclose(scan.mean, x[good].mean(0))


def test_the_order_of_two_parts_is_free():
    one, two = (ScanPass()(KEEP.rows(rng.normal(size=(50, 2)), None), i) for i in range(2))
    assert digest(one + two) != digest(one)
    assert_allclose((one + two).mean, (two + one).mean, rtol=1e-14, atol=1e-16)
    assert (one + two).rows == 100


def test_digest_is_of_the_bits():
    x = rng.normal(size=(1000, 2))
    assert digest(scan_of(x, cuts=[10])) == digest(scan_of(x.copy(), cuts=[10], scatter=True))
    assert len(digest(scan_of(x))) == 64
    again = pickle.loads(pickle.dumps(scan_of(x)))
    assert digest(again) == digest(scan_of(x))
    x[7, 1] = np.nextafter(x[7, 1], 9)
    assert digest(scan_of(x)) != digest(again)


def test_no_rows():
    empty = scan_of(np.empty((0, 2)))
    some = scan_of(np.ones((3, 2)) * 1e200)
    for scan in (empty + some, some + empty):
        assert_allclose(scan.mean, 1e200)
        assert_array_equal(scan.std, 0)
        assert scan.constant.all()
    with pytest.raises(DataError, match="no rows"):
        check(empty, ["a", "b"], "drop")


def test_check_says_what_where_and_how_many():
    x = np.zeros((20, 2000, 2))
    x[3, 7, 1] = np.nan
    x[4, 7, 1] = np.inf
    source = from_array(x)
    scan = ScanPass()(source.blocks(KEEP)[0].load(), 0)
    with pytest.raises(
        DataError,
        match=r"2 rows are not usable, of 40,000. 'dry' has 1 NaN and 1 infinite, the first at row 6007 "
        r"\(dim_0=3, dim_1=7\).*data.missing to drop",
    ):
        check(scan, ["wet", "dry"], "error", source.locate)
    check(scan, ["wet", "dry"], "drop", source.locate)
    assert remarks(scan, ["wet", "dry"])[0].startswith("2 of 40,000 rows (0.01%) have missing values")
    flat = from_array(np.array([[0.0], [np.nan], [1]]))
    with pytest.raises(DataError, match=r"1 row is not usable, of 3. 'a' has 1 NaN, the first at row 1"):
        check(ScanPass()(flat.blocks(KEEP)[0].load(), 0), ["a"], "error", flat.locate)


@pytest.mark.parametrize(
    ("x", "w", "message"),
    [
        (np.full((4, 1), np.nan), None, "None of the 4 rows is usable.*'a' has 4 NaN"),
        (np.ones((4, 1)), [1, -1, 1, np.nan], "2 weights are negative or not finite, the first at row 1"),
        (np.ones((4, 1)), [0, 0, 0, 0], "All weights are zero"),
        (np.ones((4, 1)), [1e308] * 4, "weights sum to more"),
    ],
)
def test_data_that_cannot_be_fitted(x, w, message):
    source = from_array(x, None if w is None else np.array(w, float))
    scan = ScanPass()(source.blocks(KEEP)[0].load(), 0)
    with pytest.raises(DataError, match=message):
        check(scan, ["a"], "drop", source.locate)


def test_standard():
    x = rng.normal(size=(500, 3)) * [1, 1e-200, 1e200] + [1e6, 0, 0]
    x = np.column_stack([x, np.full(500, 0.1)])
    z = transform_for(scan_of(x, cuts=[100]), "standard").forward(x)
    assert_allclose(z.mean(0), 0, atol=1e-9)
    assert_allclose(z.std(0), [1, 1, 1, 0], atol=1e-9)


def test_whiten():
    x = rng.normal(size=(2000, 3)) @ rng.normal(size=(3, 3)) * [1, 1e-3, 1e4] + 100
    t = transform_for(scan_of(x, cuts=[900], scatter=True), "whiten")
    assert_allclose(np.cov(t.forward(x).T, bias=True), np.eye(3), atol=1e-9)
    assert_allclose(t.backward_means(t.forward(x)), x, rtol=1e-9)
    copies = np.column_stack([x, x[:, 0], np.ones(len(x))])
    t = transform_for(scan_of(copies, scatter=True), "whiten")
    assert np.isfinite(t.log_jacobian)
    assert np.isfinite(t.forward(copies)).all()
    with pytest.raises(ConfigError, match="Scan with scatter"):
        transform_for(scan_of(x), "whiten")
    with pytest.raises(ConfigError, match="none, standard, whiten"):
        transform_for(scan_of(x), "robust")


def test_none_keeps_units_unless_digits_are_at_stake():
    x = rng.normal(size=(500, 2)) + 5
    assert transform_for(scan_of(x), "none").is_identity
    t = transform_for(scan_of(x + np.array([0, 1e5])), "none")
    assert t.scale is None
    assert t.shift[0] == 0
    assert t.shift[1] == pytest.approx(1e5 + 5, abs=1)
    assert t.log_jacobian == 0
    wild = x * [1e150, 1]
    t = transform_for(scan_of(wild), "none")
    assert np.log2(t.scale)[0] % 1 == 0
    assert t.scale[1] == 1
    z = t.forward(wild)
    assert 0.4 < z[:, 0].std() < 1.1
    assert_array_equal(z[:, 1], wild[:, 1])


def test_remarks():
    x = rng.normal(size=(1000, 4))
    x[:, 1] = 3.5
    x[:, 3] = 2 * x[:, 0] + 1
    x[17, 2] = 1e6
    said = " ".join(remarks(scan_of(x, scatter=True), list("abcd")))
    assert "'b' is constant (3.5)" in said
    assert "'d' is a copy of 'a'" in said
    assert "'c' has an outlier 31.6 standard deviations" in said
    assert remarks(scan_of(rng.normal(size=(1000, 3)), scatter=True), list("abc")) == []
