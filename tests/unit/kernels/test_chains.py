"""Kernels of hidden Markov chains: the reference by enumeration, the compiled ones by the reference."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import logsumexp
from strategies import examples

from distem.kernels import chains_compiled, chains_reference

KERNELS = {"reference": chains_reference, "compiled": chains_compiled}
every = pytest.mark.parametrize("kernels", KERNELS.values(), ids=KERNELS)


def logs(p):
    with np.errstate(divide="ignore"):
        return np.log(p)


@st.composite
def runs(draw, most=40, reach=(0.1, 3.0, 30.0, 900.0)):
    """Log densities, beginnings, a chain and messages; chains with ways that do not exist among them."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    k, n = draw(st.integers(1, 4)), draw(st.integers(1, most))
    emission = rng.normal(size=(n, k)) * draw(st.sampled_from(reach))
    begins = rng.random(n) < draw(st.sampled_from([0.0, 0.1, 0.5, 1.0]))
    transition = rng.dirichlet(np.ones(k) * draw(st.sampled_from([0.05, 1.0])), size=k)
    if draw(st.booleans()):  # from left to right
        transition = np.triu(transition + 1e-3)
        transition /= transition.sum(axis=1, keepdims=True)
    before, after = rng.dirichlet(np.ones(k)), rng.dirichlet(np.ones(k))
    return emission, begins, logs(rng.dirichlet(np.ones(k))), logs(transition), logs(before), logs(after)


def paths(emission, begins, log_start, log_transition, log_before, log_after):
    """Every path through a run, the state before it included, and its log probability."""
    n, k = emission.shape
    for path in itertools.product(range(k), repeat=n + 1):
        total = log_before[path[0]] if not begins[0] else (0.0 if path[0] == 0 else -np.inf)
        for t in range(n):
            total += log_start[path[t + 1]] if begins[t] else log_transition[path[t], path[t + 1]]
            total += emission[t, path[t + 1]]
        yield path, total + log_after[path[n]]


@every
def test_by_enumeration_of_all_paths(kernels):
    @examples(40)
    @given(runs(most=5, reach=(0.1, 3.0)))
    def check(run):
        emission, begins, *_, log_after = run
        n, k = emission.shape
        found = list(paths(*run))
        weights = np.array([total for _, total in found])
        norm = logsumexp(weights)
        resp, pairs, first = np.zeros((n, k)), np.zeros((k, k)), np.zeros(k)
        for (path, _), p in zip(found, np.exp(weights - norm), strict=True):
            for t in range(n):
                resp[t, path[t + 1]] += p
                if begins[t]:
                    first[path[t + 1]] += p
                else:
                    pairs[path[t], path[t + 1]] += p
        last, each = kernels.forward(*run[:5])
        got = kernels.smooth(*run)
        for one, two in zip(got[:3], (resp, pairs, first), strict=True):
            np.testing.assert_allclose(one, two, rtol=0, atol=1e-10)
        assert logsumexp(last + log_after) + each.sum() == pytest.approx(norm, abs=1e-10)

    check()


def held(values):
    """Logs of probabilities less than e**-550 of the largest beside them as none: scaling may lose them."""
    values = np.array(values, dtype=np.float64)
    if values.ndim and values.size:
        top = values.max(axis=-1, keepdims=True)
        values[values < np.where(np.isfinite(top), top, 0.0) - 550.0] = -np.inf
    return values


@examples(150)
@given(runs())
def test_compiled_is_reference(run):
    k = len(run[2])
    calls = {
        "forward": run[:5],
        "smooth": run,
        "transfer": run[:4],
        "best_transfer": run[:4],
        "best_path": (*run[:4], k - 1, 0),
    }
    for verb, arguments in calls.items():
        with np.errstate(all="ignore"):
            expected = getattr(chains_reference, verb)(*arguments)
        for one, two in zip(getattr(chains_compiled, verb)(*arguments), expected, strict=True):
            np.testing.assert_allclose(held(one), held(two), rtol=1e-9, atol=1e-9, err_msg=verb)


@every
def test_what_a_state_said_long_ago_is_not_forgotten_where_no_way_leads_back(kernels):
    """Two states that never meet: evidence of e**-800 for one, then of e**1600 for the other."""
    emission = np.array([[0.0, -800.0], [-1600.0, 0.0]])
    begins = np.array([True, False])
    apart = logs(np.eye(2))
    resp, *_ = kernels.smooth(emission, begins, logs(np.full(2, 0.5)), apart, np.zeros(2), np.zeros(2))
    np.testing.assert_allclose(resp, [[0.0, 1.0], [0.0, 1.0]], atol=1e-300)
    _, each = kernels.forward(emission, begins, logs(np.full(2, 0.5)), apart, np.zeros(2))
    assert each.sum() == pytest.approx(np.log(0.5) - 800.0)


@every
def test_an_impossible_row_has_a_likelihood_of_nothing(kernels):
    emission = np.array([[0.0, -np.inf], [-np.inf, -np.inf]])
    with np.errstate(all="ignore"):
        _, each = kernels.forward(
            emission, np.array([True, False]), logs(np.full(2, 0.5)), logs(np.full((2, 2), 0.5)), np.zeros(2)
        )
    assert each.sum() == -np.inf


def test_a_long_chain_neither_under_nor_overflows():
    rng = np.random.default_rng(0)
    n, k = 1_000_000, 3
    emission = rng.normal(size=(n, k)) * 50 - 300.0
    begins = np.zeros(n, dtype=bool)
    begins[0] = True
    chain = (logs(np.full(k, 1 / k)), logs(rng.dirichlet(np.ones(k), size=k)))
    last, each = chains_compiled.forward(emission, begins, *chain, np.zeros(k))
    assert np.isfinite(each).all()
    resp, pairs, first, _ = chains_compiled.smooth(emission, begins, *chain, np.zeros(k), np.zeros(k))
    np.testing.assert_allclose(resp.sum(axis=1), 1.0, rtol=1e-12)
    assert pairs.sum() == pytest.approx(n - 1, rel=1e-12)
    assert first.sum() == pytest.approx(1.0)
    assert logsumexp(last) == pytest.approx(0.0, abs=1e-12)
