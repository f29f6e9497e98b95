"""The four shapes of covariance."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies import COVARIANCES, examples, random_params

from distem.models.covariance import COVARIANCES as SHAPES
from distem.models.gaussian import Gaussian
from distem.models.mixture import Mixture

K, D = 3, 4
ARRAY_SHAPES = {"full": (K, D, D), "tied": (D, D), "diag": (K, D), "spherical": (K,)}
every = pytest.mark.parametrize("kind", COVARIANCES)


def theta(kind: str, seed: int = 0):
    return random_params(Mixture(Gaussian(kind)), K, D, np.random.default_rng(seed)).theta


@every
def test_arrays_have_scikit_learns_shapes(kind):
    found = theta(kind)
    assert found.covariances.shape == found.precisions_cholesky.shape == ARRAY_SHAPES[kind]


@every
def test_factors_are_those_of_the_inverse_and_upper_triangular(kind):
    shape, found = SHAPES[kind], theta(kind)
    matrices = shape.matrices(found.covariances, K, D)
    factors = found.precisions_cholesky
    if kind in ("full", "tied"):
        np.testing.assert_array_equal(factors, np.triu(factors))
        roots = np.broadcast_to(factors, (K, D, D))
    else:
        roots = shape.matrices(factors, K, D)
    for matrix, root in zip(matrices, roots, strict=True):
        np.testing.assert_allclose(root @ root.T @ matrix, np.eye(D), atol=1e-10)
    expected = [-0.5 * np.linalg.slogdet(m)[1] for m in matrices]
    np.testing.assert_allclose(shape.log_det(factors, K, D), expected, rtol=1e-10)


@every
def test_variances_and_matrices_agree(kind):
    shape, found = SHAPES[kind], theta(kind)
    matrices = shape.matrices(found.covariances, K, D)
    np.testing.assert_array_equal(
        shape.variances(found.covariances, K, D), np.diagonal(matrices, axis1=1, axis2=2)
    )
    weights = np.array([0.2, 0.3, 0.5])
    back = shape.from_matrices(matrices, weights)
    np.testing.assert_allclose(back, found.covariances, rtol=1e-14)


@every
def test_an_m_step_about_any_point_gives_the_covariances_about_the_mean(kind):
    rng = np.random.default_rng(4)
    x = rng.normal(size=(300, D)) @ rng.normal(size=(D, D))
    resp = rng.dirichlet(np.ones(K), 300)
    gaussian = Gaussian(kind, 0.0, kernels="reference")
    means = resp.T @ x / resp.sum(axis=0)[:, None]
    matrices = np.stack(
        [(resp[:, c, None] * (x - m)).T @ (x - m) / resp[:, c].sum() for c, m in enumerate(means)]
    )
    if kind == "tied":
        expected = np.tensordot(resp.sum(axis=0) / 300, matrices, axes=1)
    else:
        expected = SHAPES[kind].from_matrices(matrices, np.full(K, 1 / K))
    from distem.types import Rows

    for reference in (means, means + rng.normal(size=(K, D)), np.zeros((K, D))):
        at = gaussian.theta(reference, theta(kind).covariances)
        found = gaussian.maximise(gaussian.accumulate(Rows(x), resp, at), at, 0.0)
        np.testing.assert_allclose(found.means, means, rtol=1e-10, atol=1e-12)
        np.testing.assert_allclose(found.covariances, expected, rtol=1e-9, atol=1e-10)


@every
def test_the_floor_lifts_what_lies_below_it_and_nothing_else(kind):
    shape = SHAPES[kind]
    least = np.array([1e-3, 1e-3, 1e-3, 1e-3])
    tiny = np.zeros(ARRAY_SHAPES[kind])
    lifted = shape.regularise(tiny, 0.0, least)
    np.testing.assert_allclose(shape.variances(lifted, K, D), 1e-3)
    untouched = theta(kind).covariances
    np.testing.assert_array_equal(shape.regularise(untouched, 0.0, least * 1e-9), untouched)
    added = shape.regularise(untouched, 0.5, least)
    np.testing.assert_allclose(
        shape.variances(added, K, D), shape.variances(untouched, K, D) + 0.5, rtol=1e-14
    )


@pytest.mark.parametrize("kind", ["full", "tied"])
@pytest.mark.parametrize("scales", [[1, 1, 1, 1], [1e-8, 1e8, 1e-8, 1], [1e-100, 1e100, 1, 1]])
def test_a_singular_matrix_is_made_regular_in_any_units(kind, scales):
    base = np.random.default_rng(0).normal(size=(50, 3))
    x = np.column_stack([base, base[:, 0] + base[:, 1]]) * scales
    scale = np.array(scales)
    matrix = (x / scale).T @ (x / scale) / 50 * np.outer(scale, scale)
    covariances = np.stack([matrix] * K) if kind == "full" else matrix
    factors, kept = SHAPES[kind].factor(covariances)
    assert np.isfinite(factors).all()
    sd = np.sqrt(np.diagonal(matrix))
    np.testing.assert_allclose(kept / np.outer(sd, sd), covariances / np.outer(sd, sd), atol=1e-12)


@every
def test_dropping_and_relocating(kind):
    shape, found = SHAPES[kind], theta(kind)
    weights = np.array([0.25, 0.0, 0.75])
    before = shape.matrices(found.covariances, K, D)
    moved = shape.matrices(shape.relocate(found.covariances, weights, 1), K, D)
    if kind != "tied":
        np.testing.assert_allclose(moved[1], 0.25 * before[0] + 0.75 * before[2], rtol=1e-12)
    np.testing.assert_array_equal(moved[[0, 2]], before[[0, 2]])
    left = shape.matrices(shape.drop(found.covariances, 1), K - 1, D)
    np.testing.assert_array_equal(left, before[[0, 2]])


@every
def test_the_number_of_parameters_is_that_of_free_entries(kind):
    counts = {"full": K * D * (D + 1) // 2, "tied": D * (D + 1) // 2, "diag": K * D, "spherical": K}
    assert SHAPES[kind].n_parameters(K, D) == counts[kind] == SHAPES[kind].pack(theta(kind).covariances).size


@every
def test_any_vector_unpacks_to_valid_covariances(kind):
    shape = SHAPES[kind]
    size = shape.n_parameters(K, D)

    @examples(40)
    @given(st.lists(st.floats(-5, 5), min_size=size, max_size=size))
    def check(values):
        matrices = shape.matrices(shape.unpack(np.array(values), K, D), K, D)
        for matrix in matrices:
            np.testing.assert_array_equal(matrix, matrix.T)
            assert np.linalg.eigvalsh(matrix).min() > -1e-9 * np.abs(matrix).max()

    check()


@every
def test_the_expected_log_density_is_the_sum_over_rows(kind):
    from distem.types import Rows

    rng = np.random.default_rng(0)
    rows, found = Rows(rng.normal(size=(80, D))), theta(kind)
    gaussian = Gaussian(kind, kernels="reference")
    resp = rng.dirichlet(np.ones(K), 80)
    moments = gaussian.accumulate(rows, resp, found)
    direct = float((resp * gaussian.log_density(rows, found)).sum())
    assert gaussian.expected_log_density(moments, found) == pytest.approx(direct, rel=1e-11)


@every
def test_a_mean_that_went_very_far_leaves_no_spike(kind):
    """Moments about a point 1e12 away say nothing of a spread of one: it is not taken for none."""
    from distem.types import Rows

    x = np.random.default_rng(0).normal(size=(50, D))
    gaussian = Gaussian(kind, 0.0)
    far = gaussian.theta(np.full((1, D), 1e12), Gaussian(kind).shape.drop(theta(kind).covariances, [1, 2]))
    rows, resp = Rows(x), np.ones((50, 1))
    first = gaussian.maximise(gaussian.accumulate(rows, resp, far), far, 0.0)
    least = gaussian.shape.variances(first.covariances, 1, D).min()
    assert least >= np.finfo(float).eps * 1e24
    second = gaussian.maximise(gaussian.accumulate(rows, resp, first), first, 0.0)
    third = gaussian.maximise(gaussian.accumulate(rows, resp, second), second, 0.0)
    np.testing.assert_allclose(third.means[0], x.mean(axis=0), atol=1e-12)
    expected = gaussian.shape.from_matrices(np.cov(x.T, ddof=0)[None], np.ones(1))
    np.testing.assert_allclose(third.covariances, expected, atol=1e-9)


def test_correlations_beyond_one_are_rounding():
    noise = np.array([[1.0, 1e8, 0.0], [1e8, 1.0, 1e9], [0.0, 1e9, 1.0]])
    factors, kept = SHAPES["full"].factor(noise[None])
    assert np.isfinite(factors).all()
    assert np.abs(kept).max() < 10
