"""Kernels of regressions: the reference by SciPy's densities, the compiled ones by the reference."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import logsumexp
from scipy.stats import multivariate_normal
from strategies import examples

from distem.kernels import regression_compiled, regression_reference
from distem.kernels.regression_reference import Layout, Parameters


@st.composite
def cases(draw):
    """Rows, weights, a layout and parameters; designs of their own and shared, with a place or without."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    n, k = draw(st.integers(0, 300)), draw(st.integers(1, 4))
    m, p, q = draw(st.integers(1, 4)), draw(st.integers(1, 6)), draw(st.integers(1, 3))
    s = draw(st.integers(0, min(m, 2)))
    own = k if draw(st.booleans()) else 1
    factors = rng.integers(-1, m, size=(own, p, 2))
    layout = Layout(factors, np.stack([m + rng.permutation(q)] * own), np.arange(s))
    x = rng.normal(size=(n, m + q)).astype(draw(st.sampled_from([np.float64, np.float32])))
    weights = rng.uniform(0, 2, n) if draw(st.booleans()) else None

    def triangles(size):
        return np.triu(rng.normal(size=(k, size, size))) + 2 * np.eye(size)

    at = Parameters(
        np.log(rng.dirichlet(np.ones(k))),
        rng.normal(size=(k, p, q)),
        triangles(q),
        rng.normal(size=(k, s)),
        triangles(s),
        draw(st.sampled_from([-np.inf, -3.0])),
    )
    return x, weights, layout, at


@examples(40)
@given(cases())
def test_the_reference_is_the_density(case):
    x, weights, layout, at = case
    joint = regression_reference.log_joint(x, layout, at)
    x = x.astype(np.float64)
    for c in range(len(at.coef)):
        factors = layout.factors[c % len(layout.factors)]
        phi = np.stack([np.prod(x[:, f[f >= 0]], axis=1) for f in factors], axis=1)
        e = x[:, layout.responses[c % len(layout.responses)]] - phi @ at.coef[c]
        expected = np.full(len(x), at.log_weights[c])
        if len(x):
            expected = expected + multivariate_normal.logpdf(
                e, cov=np.linalg.inv(at.noise[c] @ at.noise[c].T)
            )
            if layout.position.size:
                cov = np.linalg.inv(at.spreads[c] @ at.spreads[c].T)
                z = x[:, layout.position] - at.centres[c]
                expected = expected + multivariate_normal.logpdf(z, cov=cov)
        np.testing.assert_allclose(joint[:, c], expected, rtol=1e-9, atol=1e-9)
    total = logsumexp(joint, axis=1)
    found = regression_reference.e_step(x, weights, layout, at)
    np.testing.assert_allclose(found[0], (total if weights is None else weights * total).sum(), atol=1e-9)


@examples(80)
@given(cases())
def test_compiled_kernels_are_the_reference_ones(case):
    x, weights, layout, at = case
    joint = regression_reference.log_joint(x, layout, at)
    deep = 1.0 + np.abs(joint).max(initial=0.0)
    np.testing.assert_allclose(regression_compiled.log_joint(x, layout, at), joint, atol=1e-13 * deep)
    one = regression_compiled.e_step(x, weights, layout, at)
    two = regression_reference.e_step(x, weights, layout, at)
    for a, b in zip(one, two, strict=True):
        assert np.shape(a) == np.shape(b)
        scale = np.abs(b).max(initial=0.0) + len(x) * (1e-9 if np.ndim(b) else deep)
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-10 * scale + 1e-12)


def test_rows_beyond_all_floats_have_finite_answers():
    layout = Layout(np.array([[[-1], [0]]]), np.array([[1]]), np.zeros(0, np.int64))
    at = Parameters(
        np.log([0.5, 0.5]),
        np.ones((2, 2, 1)),
        np.ones((2, 1, 1)),
        np.zeros((2, 0)),
        np.zeros((2, 0, 0)),
        -np.inf,
    )
    x = np.array([[1e150, -1e170], [0.0, 1.0]])
    for kernels in (regression_compiled, regression_reference):
        found = kernels.e_step(x, None, layout, at)
        assert np.isfinite(found[0])
        np.testing.assert_array_equal(found[1], [1.0, 1.0])  # equally likely: exactly halves
