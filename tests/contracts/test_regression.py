"""What every family keeps to, of regressions: see `test_families.py`."""

from __future__ import annotations

import json
import pickle
from dataclasses import replace

import numpy as np
import pytest
from blocks import bits, blocks_of, fit_blocks, ready
from hypothesis import given
from hypothesis import strategies as st
from strategies import KERNELS, chunkings, examples, weights

from distem.em.checkpoint import dump, restore
from distem.em.loop import climb
from distem.execution.base import fold
from distem.execution.serial import SerialExecutor
from distem.kernels.regression_reference import Layout
from distem.models.regression import RegressionMixture, RegressionParams, coefficient_errors
from distem.models.regression_start import start
from distem.models.seeding import Sample
from distem.types import Rows

kernels = pytest.mark.parametrize("kernels", KERNELS)
VARIANTS = {
    f"{noise}{' placed' * placed}{' outliers' * outliers}": (noise, placed, outliers)
    for noise in ("diag", "full")
    for placed in (False, True)
    for outliers in (False, True)
}
every = pytest.mark.parametrize("variant", VARIANTS.values(), ids=VARIANTS)


def a_model(variant, kernels="compiled", q=2) -> RegressionMixture:
    """On 1, x0, x1 and x0 x1."""
    noise, placed, outliers = variant
    factors = np.array([[[-1, -1], [0, -1], [1, -1], [0, 1]]])
    layout = Layout(factors, np.array([[2, 3][:q]]), np.arange(2 * placed))
    volume = 60.0**q * 20.0 ** (2 * placed)
    return RegressionMixture(
        layout, noise, log_outlier=-np.log(volume) if outliers else -np.inf, kernels=kernels
    )


def parameters(model, k, rng) -> RegressionParams:
    q, s = model.layout.responses.shape[1], model.layout.position.size

    def matrices(size):
        roots = rng.normal(size=(k, size, 2 * size + 2))
        return 0.1 * (roots @ np.swapaxes(roots, 1, 2) + np.eye(size))

    layers = k + model.outliers
    noise = model.shape.from_matrices(matrices(q), np.full(k, 1 / k))
    coef, places = rng.normal(size=(k, 4, q)), rng.normal(size=(k, s))
    return RegressionParams(
        rng.dirichlet(np.full(layers, 4.0)), coef, noise, np.stack([np.eye(4)] * k), places, 10 * matrices(s)
    )


@st.composite
def cases(draw, variant, kernels, n=(1, 150)):
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    model = a_model(variant, kernels)
    k, size = draw(st.integers(1, 4)), draw(st.integers(*n))
    x, _ = model.sample(parameters(model, k, rng), size, rng)
    return model, parameters(model, k, rng), Rows(rng.permutation(x), draw(weights(size)))


def flat(stats):
    return {name: np.asarray(value, np.float64) for name, value in stats.to_arrays().items()}


def assert_close(one, two, tolerance=1e-10):
    a, b = flat(one), flat(two)
    for name in a:
        scale = np.abs(b[name]).max(initial=0.0) + 10.0 * one.total
        assert np.abs(a[name] - b[name]).max(initial=0.0) <= tolerance * scale, name


@every
@kernels
def test_merging_is_associative_and_invariant_to_chunks_up_to_rounding(variant, kernels):
    @examples(15)
    @given(st.data())
    def check(data):
        model, params, rows = data.draw(cases(variant, kernels))
        parts = [
            model.e_step(block.rows, params)
            for block in blocks_of(rows.values, data.draw(chunkings(rows.n)), rows.weights)
        ]
        right = parts[-1]
        for part in parts[-2::-1]:
            right = part + right
        whole = model.e_step(rows, params)
        for merged in (fold((0, len(parts)), parts.__getitem__), right):
            assert merged.n == whole.n
            assert_close(merged, whole)

    check()


@every
@kernels
def test_relabelling_the_components_relabels_the_results(variant, kernels):
    @examples(15)
    @given(cases(variant, kernels, n=(30, 150)), st.integers(0, 1000))
    def check(case, seed):
        model, params, rows = case
        order = np.random.default_rng(seed).permutation(params.regressions)
        layers = np.append(order, len(order)) if model.outliers else order

        def turn(params):
            arrays = model.arrays(params)
            return model.from_arrays({n: a[layers if n == "weights" else order] for n, a in arrays.items()})

        one, two = model.assign(rows, params), model.assign(rows, turn(params))
        np.testing.assert_allclose(two.log_density, one.log_density, rtol=1e-12, atol=1e-12)
        np.testing.assert_allclose(two.probability, one.probability[:, layers], rtol=0, atol=1e-12)
        before, after = model.e_step(rows, params), model.e_step(rows, turn(params))
        np.testing.assert_allclose(after.mass, before.mass[layers], atol=1e-12 * before.total)
        np.testing.assert_allclose(after.cross, before.cross[order], atol=1e-9 * before.total)

    check()


@every
def test_models_parameters_and_statistics_pickle_with_the_same_bits(variant):
    @examples(8)
    @given(cases(variant, "compiled"))
    def check(case):
        model, params, rows = pickle.loads(pickle.dumps(case))
        one, two = model.e_step(rows, params), case[0].e_step(case[2], case[1])
        stored = model.stats_type.from_arrays(pickle.loads(pickle.dumps(one)).to_arrays())
        for name, value in flat(two).items():
            assert flat(stored)[name].tobytes() == value.tobytes(), name
        assert type(stored.n) is int

    check()


@every
def test_packing_is_undone_by_unpacking(variant):
    @examples(15)
    @given(cases(variant, "reference", n=(1, 1)))
    def check(case):
        model, params, _ = case
        vector = model.pack(params)
        back = model.arrays(model.unpack(vector, params))
        for name, value in model.arrays(params).items():
            np.testing.assert_allclose(back[name], value, rtol=1e-10, atol=1e-12, err_msg=name)
        assert model.n_parameters(params) == vector.size - 1  # the weights sum to one
        assert model.natural(np.eye(vector.size), params).shape == (vector.size, vector.size)

    check()


@every
@kernels
def test_the_likelihood_never_falls_between_plain_em_passes(variant, kernels):
    counted = []

    @examples(15)
    @given(cases(variant, kernels, n=(60, 200)))
    def check(case):
        model, params, rows = case
        value = None
        for _ in range(10):
            stats = model.e_step(rows, params)
            now = stats.mean_log_likelihood
            if value is not None:
                assert now >= value - 1e-10 * max(1.0, abs(value)), (value, now)
                counted.append(now - value)
            value, params = now, model.m_step(stats, params)
            matrices = model.shape.matrices(params.noise, params.regressions, 2)
            if np.linalg.eigvalsh(matrices).min() < 1e-6:  # a few rows, and no noise: it is lifted
                break

    check()
    assert len(counted) > 40  # the theorem was put to the test


@every
@kernels
def test_the_complete_likelihood_and_the_entropy_are_the_likelihood(variant, kernels):
    rng = np.random.default_rng(5)
    model = a_model(variant, kernels)
    x, _ = model.sample(parameters(model, 3, rng), 200, rng)
    params, rows = parameters(model, 3, rng), Rows(x)
    stats, found = model.e_step(rows, params), model.assign(rows, params)
    with np.errstate(divide="ignore", invalid="ignore"):
        entropy = -np.nansum(found.probability * np.log(found.probability))
    expected = model.expected_complete(stats, params) + entropy
    np.testing.assert_allclose(stats.log_likelihood, expected, rtol=1e-10)
    np.testing.assert_allclose(stats.log_likelihood, found.log_density.sum(), rtol=1e-12)


@every
@kernels
def test_a_family_recovers_its_own_samples(variant, kernels):
    rng = np.random.default_rng(11)
    model = a_model(variant, kernels)
    k = 3
    coef = np.zeros((k, 4, 2))
    coef[:, 0] = [[0.0, 0.0], [12.0, -3.0], [-9.0, 9.0]]
    coef[:, 1:] = rng.normal(size=(k, 3, 2))
    noise = model.shape.from_matrices(np.stack([np.array([[0.5, 0.2], [0.2, 0.3]])] * k), np.full(k, 1 / k))
    s = model.layout.position.size
    shares = np.array([0.5, 0.3, 0.2])
    right = RegressionParams(
        np.append(0.9 * shares, 0.1) if model.outliers else shares,
        coef, noise, np.stack([np.eye(4)] * k), np.zeros((k, s)), np.stack([np.eye(s)] * k),
    )  # fmt: skip
    x, labels = model.sample(right, 6000, rng)
    order = rng.permutation(len(x))
    sample = Sample(2000, np.arange(2000.0), x[order][:2000], np.ones(2000))
    begun = start(model, k, sample, np.random.default_rng(1))
    fit, params, found = fit_blocks(
        model, begun, blocks_of(x[order], (1000, 2500, 2500)), passes=200, tol=1e-12
    )
    assert fit.reason.converged
    match = np.array([np.abs(params.coef[:, 0] - right.coef[c, 0]).sum(axis=1).argmin() for c in range(k)])
    assert sorted(match) == list(range(k))
    layers = np.append(match, k) if model.outliers else match
    np.testing.assert_allclose(params.weights[layers], right.weights, atol=0.03)
    variances = model.shape.variances(right.noise, k, 2)
    errors = coefficient_errors(params, 6000 * params.weights[:k], variances)
    assert (np.abs(params.coef[match] - right.coef) <= 4 * errors[match]).all()
    np.testing.assert_allclose(params.noise[match], right.noise, atol=0.06)
    assert (layers[labels[order]] == found).mean() > 0.97


@pytest.mark.parametrize("acceleration", [None, "squarem", "anderson"])
def test_a_checkpoint_after_any_pass_goes_on_with_the_same_bits(acceleration):
    rng = np.random.default_rng(3)
    model = a_model(("diag", True, True))
    right = parameters(model, 3, rng)
    x, _ = model.sample(right, 400, rng)
    x = rng.permutation(x)
    near = model.relocate(right, 2, np.full(4, 1e4))  # far from all rows: it is moved after a pass
    blocks = blocks_of(x, (150, 0, 1, 249))

    def fresh():
        return [ready(model, near, passes=12, acceleration=acceleration, sample=x[:50], name="a")]

    def outcome(climbs):
        return [(bits(model, c.fit.params), [(p.log_likelihood, p.fresh) for p in c.trace]) for c in climbs]

    whole, kept = fresh(), []

    def keep() -> None:
        arrays, info = dump(whole)
        kept.append(({name: array.copy() for name, array in arrays.items()}, json.dumps(info)))

    with SerialExecutor().open(blocks, resident=True) as opened:
        climb(whole, opened, after_pass=keep)
        assert any(point.fresh for point in whole[0].trace)
        for arrays, info in kept:
            again = fresh()
            restore(again, arrays, json.loads(info))
            climb(again, opened)
            assert outcome(again) == outcome(whole)


def test_large_offsets_lose_nothing():
    """Moments are about what the components expect: digits are those of the residuals."""
    rng = np.random.default_rng(0)
    model = replace(
        a_model(("diag", False, False), q=1),
        layout=Layout(np.array([[[-1], [0]]]), np.array([[1]]), np.zeros(0, int)),
    )
    x = rng.normal(size=500)
    y = np.where(rng.random(500) < 0.5, x, -x) + 0.1 * rng.normal(size=500)

    def climbed(offset):
        rows = Rows(np.stack([x, y + offset], axis=1))
        coef = np.array([[[offset], [0.8]], [[offset], [-0.8]]])
        at = RegressionParams(
            np.full(2, 0.5),
            coef,
            np.ones((2, 1)),
            np.stack([np.eye(2)] * 2),
            np.zeros((2, 0)),
            np.zeros((2, 0, 0)),
        )
        for _ in range(30):
            at = model.m_step(model.e_step(rows, at), at)
        return at

    one, two = climbed(0.0), climbed(2.0**20)
    np.testing.assert_allclose(two.noise, one.noise, rtol=1e-7)
    np.testing.assert_allclose(two.coef[:, 1], one.coef[:, 1], rtol=1e-8)
