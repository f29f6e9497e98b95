"""What the kernels say of rows: compiled against the reference, ties, shapes of the shares, hard numbers."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from distem.kernels import compiled, reference

each_kind = pytest.mark.parametrize("kind", compiled.KINDS)


def made(kind, n, d, k, dtype=np.float64, seed=0):
    """Return rows, log weights, means and factors of one kind."""
    rng = np.random.default_rng(seed)
    means = rng.normal(size=(k, d)) * 2
    x = (means[rng.integers(k, size=n)] + rng.normal(size=(n, d))).astype(dtype)
    upper = np.triu(rng.uniform(-1, 1, (k, d, d)), 1) * 0.3 / d + np.eye(d) * rng.uniform(0.5, 1.5, (k, 1, d))
    factor = {
        "full": upper,
        "tied": upper[0],
        "diag": rng.uniform(0.5, 1.5, (k, d)),
        "spherical": rng.uniform(0.5, 1.5, k),
    }[kind]
    return x, np.log(rng.dirichlet(np.full(k, 5.0))), means, factor


def answers(kernels, kind, *arguments, shares=True):
    return getattr(kernels, f"answers_{kind}")(*arguments, shares)


@settings(max_examples=200, deadline=None)
@given(
    st.sampled_from(compiled.KINDS),
    st.integers(0, 600),
    st.integers(1, 9),
    st.integers(1, 13),
    st.sampled_from([np.float64, np.float32]),
    st.integers(0, 2**32 - 1),
)
def test_answers_are_the_references(kind, n, d, k, dtype, seed):
    case = made(kind, n, d, k, dtype, seed)
    label, density, uncertainty, resp = answers(compiled, kind, *case)
    _, true_density, true_uncertainty, true_resp = answers(reference, kind, *case)
    assert (label.dtype, label.shape, resp.shape) == (np.int64, (n,), (n, k))
    np.testing.assert_allclose(density, true_density, rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(resp, true_resp, rtol=1e-9, atol=1e-300)
    np.testing.assert_allclose(uncertainty, true_uncertainty, rtol=1e-9, atol=1e-300)
    np.testing.assert_array_equal(label, resp.argmax(axis=1))


@each_kind
@pytest.mark.parametrize("k", [1, 2, 3, 4, 5, 7, 8])
@pytest.mark.parametrize("n", [1, 31, 32, 33, 255, 256, 257])
def test_the_other_answers_do_not_depend_on_whether_shares_are_asked_for(kind, k, n):
    case = made(kind, n, 3, k)
    *alone, none = answers(compiled, kind, *case, shares=False)
    *beside, resp = answers(compiled, kind, *case)
    assert none is None
    np.testing.assert_allclose(resp.sum(axis=1), 1.0, rtol=1e-14)
    for one, other in zip(alone, beside, strict=True):
        np.testing.assert_array_equal(one, other)


@each_kind
def test_two_equal_components_share_exactly_and_the_first_has_the_label(kind):
    x, log_weights, means, factor = made(kind, 100, 3, 2)
    means[1] = means[0]
    if kind != "tied":
        factor[1] = factor[0]
    log_weights[:] = math.log(0.5)
    label, _, uncertainty, resp = answers(compiled, kind, x, log_weights, means, factor)
    assert (resp == 0.5).all()
    assert (uncertainty == 0.5).all()
    assert (label == 0).all()


@each_kind
def test_a_component_without_weight_has_no_row(kind):
    x, log_weights, means, factor = made(kind, 100, 3, 3)
    log_weights[1] = -np.inf
    label, _, _, resp = answers(compiled, kind, x, log_weights, means, factor)
    assert (resp[:, 1] == 0).all()
    assert (label != 1).all()


@each_kind
@pytest.mark.parametrize(("dtype", "size"), [(np.float64, 1e150), (np.float32, 1e38)])
def test_huge_rows_have_finite_answers(kind, dtype, size):
    x, *params = made(kind, 70, 3, 3, dtype)
    x[5:9] *= dtype(size) / np.abs(x[5:9]).max()
    label, density, uncertainty, resp = answers(compiled, kind, x, *params)
    assert np.isfinite(density).all()
    assert np.isfinite(uncertainty).all()
    np.testing.assert_allclose(resp.sum(axis=1), 1.0, rtol=1e-14)
    assert ((label >= 0) & (label < 3)).all()


@each_kind
def test_an_unasked_empty_block_has_no_shares(kind):
    case = made(kind, 0, 3, 2)
    for kernels in (compiled, reference):
        assert answers(kernels, kind, *case, shares=False)[3] is None
        assert answers(kernels, kind, *case)[3].shape == (0, 2)
