"""The k-means kernels: twins agree, labels are exact, bounds change nothing."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies import examples

from distem.kernels import compiled_centres as compiled
from distem.kernels import reference_centres as reference

SHAPES = [(1, 1, 1), (5, 3, 2), (33, 2, 7), (1025, 3, 16), (700, 5, 9), (2100, 16, 64), (300, 17, 33)]


@pytest.fixture(autouse=True)
def _bounds_everywhere(monkeypatch):
    """Keep bounds for the smallest problems too."""
    monkeypatch.setattr(compiled, "WORTH", 0)


def same_sums(one, two) -> bool:
    return one.inertia == two.inertia and all(
        a.tobytes() == b.tobytes()
        for a, b in ((one.mass, two.mass), (one.first, two.first), (one.label, two.label))
    )


def close_sums(one, two, x, centres) -> None:
    reach = max(float(np.abs(x[:, None] - centres).max()), 1e-300)
    total = max(float(two.mass.sum()), 1e-300)
    np.testing.assert_array_equal(one.label, two.label)
    np.testing.assert_allclose(one.mass, two.mass, rtol=1e-12, atol=1e-12 * total)
    np.testing.assert_allclose(one.first, two.first, rtol=1e-12, atol=1e-12 * total * reach)
    np.testing.assert_allclose(one.inertia, two.inertia, rtol=1e-12)


def holds(bounds, x) -> None:
    """Every bound is one, beyond any rounding of the distances."""
    distances = np.sqrt(((x[:, None].astype(np.float64) - bounds.centres) ** 2).sum(axis=2))
    own = distances[np.arange(len(x)), bounds.label]
    distances[np.arange(len(x)), bounds.label] = np.inf
    assert (bounds.upper >= own).all()
    assert (bounds.lower <= distances.min(axis=1)).all()


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("offset", [0.0, 1e6])
@pytest.mark.parametrize(("n", "d", "k"), SHAPES)
def test_every_pass_of_a_fit_is_the_reference_s_with_and_without_bounds(n, d, k, offset, dtype):
    rng = np.random.default_rng(n + d)
    x = (rng.normal(size=(n, d)) + offset).astype(dtype)
    w = rng.random(n)
    centres = x[rng.integers(n, size=k)].astype(np.float64) + 1e-3 * rng.normal(size=(k, d))
    bounds = None
    for _ in range(10):
        plain = compiled.lloyd(x, w, centres)
        with_bounds = compiled.lloyd(x, w, centres, bounds, keep=True)
        assert plain.bounds is None
        assert same_sums(plain, with_bounds)
        close_sums(plain, reference.lloyd(x, w, centres), x, centres)
        bounds = with_bounds.bounds
        if len(bounds.upper):
            holds(bounds, x)
        mass = np.where(plain.mass > 0, plain.mass, 1.0)
        centres = centres + plain.first / mass[:, None]


def test_bounds_spare_most_of_the_work_on_clusters_and_wait_where_they_do_not():
    rng = np.random.default_rng(0)
    means = 20 * rng.normal(size=(64, 8))
    x = means[rng.integers(64, size=4096)] + rng.normal(size=(4096, 8))
    first = compiled.lloyd(x, None, means, keep=True).bounds
    assert first.worked == 4096
    bounds = compiled.lloyd(x, None, means + 0.1, keep=True).bounds
    bounds = compiled.lloyd(x, None, means, bounds, keep=True).bounds
    while bounds.wait:
        bounds = compiled.lloyd(x, None, means, bounds, keep=True).bounds
    assert compiled.lloyd(x, None, means + 0.05, bounds, keep=True).bounds.worked < 100
    # another set of centres altogether: the bounds say nothing, and after that they wait
    found = compiled.lloyd(x, None, rng.permutation(means), bounds, keep=True).bounds
    assert found.worked > 2000
    assert found.wait > 0


@pytest.mark.parametrize("where", ["other k", "other rows", "nothing"])
def test_a_memory_of_something_else_is_not_used(where):
    rng = np.random.default_rng(1)
    x, centres = rng.normal(size=(200, 6)), rng.normal(size=(40, 6))
    other = {"other k": (x, centres[:-1]), "other rows": (x[:-1], centres), "nothing": (x, centres)}[where]
    bounds = compiled.lloyd(*other[:1], None, *other[1:], keep=True).bounds
    assert same_sums(compiled.lloyd(x, None, centres, bounds, keep=True), compiled.lloyd(x, None, centres))


@examples(150)
@given(
    st.integers(1, 200), st.integers(1, 9), st.integers(1, 20), st.integers(-160, 160),
    st.sampled_from(["normal", "grid", "equal", "offset"]), st.integers(0, 2**32 - 1),
)  # fmt: skip
def test_labels_and_bounds_are_exact_whatever_the_rows_and_the_way_of_the_centres(n, d, k, power, kind, seed):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, d))
    if kind == "grid":
        x = np.round(2 * x)
    if kind == "equal":
        x[:] = x[0]
    if kind == "offset":
        x += 1e8
    x *= 10.0**power
    centres = x[rng.integers(n, size=k)]  # with ties: rows drawn twice, and rows halfway
    bounds = None
    for step in range(6):
        found = compiled.lloyd(x, None, centres, bounds, keep=True)
        label, square = reference.nearest(x, centres)
        np.testing.assert_array_equal(found.label, label)
        assert same_sums(found, compiled.lloyd(x, None, centres))
        label_again, square_again = compiled.nearest(x, centres)
        np.testing.assert_array_equal(label_again, label)
        np.testing.assert_allclose(square_again, square, rtol=1e-12, atol=0)
        bounds = found.bounds
        if kind == "grid" and step % 2:
            centres = np.round(centres + rng.normal(size=(k, d)) * 10.0**power)
        else:
            mass = np.where(found.mass > 0, found.mass, 1.0)
            centres = centres + found.first / mass[:, None]


@pytest.mark.parametrize("size", [1e160, 1e300])
def test_numbers_whose_squares_overflow_have_the_reference_s_labels(size):
    rng = np.random.default_rng(2)
    x, centres = size * rng.normal(size=(40, 3)), size * rng.normal(size=(6, 3))
    np.testing.assert_array_equal(compiled.nearest(x, centres)[0], reference.nearest(x, centres)[0])
    bounds = compiled.lloyd(x, None, centres, keep=True).bounds
    again = compiled.lloyd(x, None, centres, bounds, keep=True)
    np.testing.assert_array_equal(again.label, reference.nearest(x, centres)[0])
    x[0] = 1.0  # beside rows that overflow, one that does not
    np.testing.assert_array_equal(compiled.nearest(x, centres)[0], reference.nearest(x, centres)[0])


def test_no_rows_and_rows_that_may_only_be_read():
    empty = compiled.lloyd(np.empty((0, 3)), None, np.zeros((2, 3)), keep=True)
    assert (empty.inertia, empty.mass.tolist()) == (0.0, [0.0, 0.0])
    x = np.random.default_rng(0).normal(size=(50, 3))
    x.flags.writeable = False
    np.testing.assert_array_equal(compiled.lloyd(x, None, x[:4].copy()).label, reference.nearest(x, x[:4])[0])


def test_warming_says_how_long_it_took():
    assert compiled.warm(np.float32) > 0
