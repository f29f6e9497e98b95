"""What every family keeps to, with either kind of kernels: see `families.py` for the table."""

from __future__ import annotations

import json
import pickle
from dataclasses import replace

import numpy as np
import pytest
from blocks import bits, blocks_of, fit_blocks, ready
from families import FAMILIES
from hypothesis import assume, given
from hypothesis import strategies as st
from strategies import KERNELS, Case, cases, chunkings, examples

from distem.em.checkpoint import dump, restore
from distem.em.loop import climb
from distem.execution.base import fold
from distem.execution.serial import SerialExecutor
from distem.models.covariance import SMALLEST_VARIANCE
from distem.types import Rows

every = pytest.mark.parametrize("family", FAMILIES.values(), ids=FAMILIES)
kernels = pytest.mark.parametrize("kernels", KERNELS)


def case(family, kernels, **how):
    return cases(family.name.removeprefix("gaussian-"), kernels, **how)


def flat(stats) -> dict[str, np.ndarray]:
    return {name: np.asarray(value, dtype=np.float64) for name, value in stats.to_arrays().items()}


def assert_close(one, two, case: Case, tolerance: float = 1e-10) -> None:
    """Statistics agree, each relative to what its sum is made of."""
    reach = float(np.abs(case.rows.values - case.params.theta.means.mean(axis=0)).max(initial=0.0))
    reach += float(np.abs(case.params.theta.means - case.params.theta.means.mean(axis=0)).max())
    mass = max(float(one.total), 1e-300)
    # densities of rows far from every component are large sums of squares
    deep = np.abs(case.model.assign(Rows(case.rows.values), case.params).log_density).max(initial=1.0)
    scale = {"first": mass * reach, "second": mass * reach**2, "log_likelihood": mass * deep}
    a, b = flat(one), flat(two)
    for name in a:
        by = scale.get(name.rpartition(".")[2], mass)
        assert np.abs(a[name] - b[name]).max(initial=0.0) <= tolerance * max(by, 1e-300), name


@every
@kernels
def test_the_fused_e_step_is_the_composed_one(family, kernels):
    @examples(60)
    @given(case(family, kernels))
    def check(case):
        fused = case.model.e_step(case.rows, case.params)
        composed = case.model.composed_e_step(case.rows, case.params)
        assert_close(fused, composed, case)

    check()


@every
def test_compiled_kernels_are_the_reference_ones(family):
    @examples(60)
    @given(case(family, "reference"))
    def check(case):
        compiled = replace(case.model, component=replace(case.model.component, kernels="compiled"))
        assert_close(compiled.e_step(case.rows, case.params), case.model.e_step(case.rows, case.params), case)
        one, two = compiled.assign(case.rows, case.params), case.model.assign(case.rows, case.params)
        np.testing.assert_allclose(one.log_density, two.log_density, rtol=1e-10, atol=1e-10)
        np.testing.assert_allclose(one.probability, two.probability, rtol=0, atol=1e-8)

    check()


@every
@kernels
def test_merging_is_associative_and_invariant_to_chunks_up_to_rounding(family, kernels):
    @examples(40)
    @given(st.data())
    def check(data):
        case = data.draw(case_of)
        sizes = data.draw(chunkings(case.rows.n))
        blocks = blocks_of(case.rows.values, sizes, case.rows.weights)
        parts = [case.model.e_step(block.rows, case.params) for block in blocks]
        whole = case.model.e_step(case.rows, case.params)
        tree = fold((0, len(parts)), parts.__getitem__)
        left = parts[0]
        for part in parts[1:]:
            left = left + part
        right = parts[-1]
        for part in parts[-2::-1]:
            right = part + right
        for merged in (tree, left, right):
            assert merged.n == whole.n
            assert_close(merged, whole, case)

    case_of = case(family, kernels)
    check()


@every
@kernels
def test_relabelling_the_components_relabels_the_results(family, kernels):
    @examples(40)
    @given(case(family, kernels), st.integers(0, 1000))
    def check(case, seed):
        model, params = case.model, case.params
        order = np.random.default_rng(seed).permutation(params.k)
        turned = family.relabel(model, params, order)
        before, after = model.e_step(case.rows, params), model.e_step(case.rows, turned)
        one, two = model.assign(case.rows, params), model.assign(case.rows, turned)
        np.testing.assert_allclose(two.log_density, one.log_density, rtol=1e-12, atol=1e-12)
        np.testing.assert_allclose(two.probability, one.probability[:, order], rtol=0, atol=1e-12)
        scale = max(before.total, 1e-300)
        np.testing.assert_allclose(
            after.moments.mass / scale, before.moments.mass[order] / scale, rtol=0, atol=1e-12
        )
        assume((before.moments.mass > 1e-3 * before.total).all())
        stepped = family.relabel(model, model.m_step(before, params), order)
        again = model.m_step(after, turned)
        spread = np.sqrt(
            np.abs(
                model.component.shape.variances(stepped.theta.covariances, *stepped.theta.means.shape)
            ).max()
        )
        np.testing.assert_allclose(again.weights, stepped.weights, rtol=0, atol=1e-10)
        size = np.abs(stepped.theta.means).max() + spread
        np.testing.assert_allclose(again.theta.means, stepped.theta.means, rtol=0, atol=1e-10 * size)

    check()


@every
@kernels
def test_models_parameters_and_statistics_pickle_with_the_same_bits(family, kernels):
    @examples(15)
    @given(case(family, kernels))
    def check(case):
        model, params = pickle.loads(pickle.dumps((case.model, case.params)))
        assert bits(model, params) == bits(case.model, case.params)
        one, two = model.e_step(case.rows, params), case.model.e_step(case.rows, case.params)
        again = pickle.loads(pickle.dumps(one))
        for name, value in flat(two).items():
            assert flat(one)[name].tobytes() == flat(again)[name].tobytes() == value.tobytes(), name
        stored = model.stats_type.from_arrays(one.to_arrays())
        assert {n: a.tobytes() for n, a in flat(stored).items()} == {
            n: a.tobytes() for n, a in flat(one).items()
        }
        assert type(stored.n) is int

    check()


@every
def test_packing_is_undone_by_unpacking(family):
    @examples(60)
    @given(case(family, "reference", n=(1, 1)))
    def check(case):
        model, params = case.model, case.params
        vector = model.pack(params)
        assert vector.ndim == 1
        assert np.isfinite(vector).all()
        back = model.unpack(vector, params)
        np.testing.assert_allclose(back.weights, params.weights, rtol=1e-12)
        np.testing.assert_array_equal(back.theta.means, params.theta.means)
        scale = np.abs(params.theta.covariances).max()
        np.testing.assert_allclose(
            back.theta.covariances, params.theta.covariances, rtol=1e-12, atol=1e-12 * scale
        )
        np.testing.assert_allclose(model.pack(back), vector, rtol=1e-9, atol=1e-9 * np.abs(vector).max())
        assert model.n_parameters(params) == vector.size - 1  # the weights sum to one

    check()


# likelihood


def likelihood(model, rows, params) -> float:
    return model.e_step(rows, params).mean_log_likelihood


def unfloored(model, stats, params) -> bool:
    """Whether the M-step's covariances are maximum-likelihood ones: neither lifted nor regularised."""
    mass = stats.moments.mass
    if not (mass > 1e-6 * stats.total).all():
        return False
    update = model.m_step(stats, params).theta
    shape, (k, d) = model.component.shape, update.means.shape
    raw = shape.matrices(
        shape.estimate(mass, stats.moments.first / mass[:, None], stats.moments.second), k, d
    )
    kept = shape.matrices(update.covariances, k, d)
    sd = np.sqrt(np.diagonal(kept, axis1=1, axis2=2))
    return bool((np.abs(raw - kept) <= 1e-10 * sd[:, :, None] * sd[:, None, :]).all())


def conditioning(model, params) -> float:
    """Largest condition number of a correlation matrix: how many digits a density loses."""
    k, d = params.theta.means.shape
    worst = 1.0
    for matrix in model.component.shape.matrices(params.theta.covariances, k, d):
        sd = np.sqrt(np.diagonal(matrix))
        worst = max(worst, float(np.linalg.cond(matrix / sd[:, None] / sd)))
    return worst


@every
@kernels
def test_the_likelihood_never_falls_between_plain_em_passes(family, kernels):
    """Without reg_covar, as long as no floor is reached, the M-step is exact: this is a theorem."""
    counted = []

    @examples(60)
    @given(case(family, kernels, n=(20, 150), d=(1, 4), k=(1, 4)))
    def check(case):
        model, params = case.model, case.params
        value = None
        for _ in range(12):
            stats = model.e_step(case.rows, params)
            now = stats.mean_log_likelihood
            if value is not None:
                digits = 1e-14 * conditioning(model, params)
                assert now >= value - (1e-11 + digits) * max(1.0, abs(value)), (value, now)
                counted.append(now - value)
            if not unfloored(model, stats, params):
                break
            value, params = now, model.m_step(stats, params)

    check()
    assert len(counted) > 150  # the theorem was put to the test


@kernels
def test_with_reg_covar_a_penalised_likelihood_never_falls_for_tied_covariances(kernels):
    """Adding e to the one shared matrix maximises the likelihood less (e/2) trace of its inverse.

    With a matrix for each component the penalty would go by mass, and no theorem holds.
    """

    @examples(40)
    @given(cases("tied", kernels, n=(20, 150), d=(1, 4), k=(1, 4), reg_covar=0.3))
    def check(case):
        model, params = case.model, case.params
        values = []
        for _ in range(10):
            stats = model.e_step(case.rows, params)
            penalty = model.component.reg_covar / 2 * np.trace(np.linalg.inv(params.theta.covariances))
            values.append(stats.mean_log_likelihood - float(penalty))
            if not (stats.moments.mass > 1e-6 * stats.total).all():
                break
            params = model.m_step(stats, params)
        steps = np.diff(values)
        assert (steps >= -1e-10 * np.maximum(1.0, np.abs(values[1:]))).all(), values

    check()


@pytest.mark.parametrize("name", ["gaussian-diag", "gaussian-spherical"])
def test_a_floor_on_variances_is_an_exact_maximum_too(name):
    """max(s, floor) maximises -log v - s/v over v >= floor: the likelihood climbs on the floor as well."""
    family = FAMILIES[name]

    @examples(40)
    @given(case(family, "reference", n=(10, 60), d=(1, 3), k=(1, 4), ties=True))
    def check(case):
        spread = float(np.var(case.rows.values - case.rows.values.mean(axis=0)))
        assume(spread > 0)
        floored = replace(
            case.model.component,
            floor=0.05,
            data_variance=np.full(case.rows.d, max(spread, SMALLEST_VARIANCE)),
        )
        model, params = replace(case.model, component=floored), case.params
        values = []
        for step in range(10):
            stats = model.e_step(case.rows, params)
            if not (stats.moments.mass > 1e-6 * stats.total).all():
                break
            if step:  # the start may lie below the floor
                values.append(stats.mean_log_likelihood)
            params = model.m_step(stats, params)
        steps = np.diff(values)
        assert (steps >= -1e-10 * np.maximum(1.0, np.abs(values[1:]))).all(), values

    check()


@every
@kernels
def test_a_family_recovers_its_own_samples(family, kernels):
    rng = np.random.default_rng(11)
    model = family.model(kernels)
    right, near = family.truth(model, rng)
    x, labels = model.sample(right, 6000, rng)
    order = rng.permutation(len(x))
    fit, params, found = fit_blocks(
        model, near, blocks_of(x[order], (1000, 2500, 2500)), passes=200, tol=1e-12
    )
    assert fit.reason.converged
    np.testing.assert_allclose(params.weights, right.weights, atol=0.03)
    np.testing.assert_allclose(params.theta.means, right.theta.means, atol=0.15)
    np.testing.assert_allclose(params.theta.covariances, right.theta.covariances, atol=0.2)
    assert (found == labels[order]).mean() > 0.97
    assert fit.log_likelihood >= likelihood(model, Rows(x), right) - 1e-9


# checkpoints


@every
@pytest.mark.parametrize("acceleration", [None, "squarem", "anderson"])
def test_a_checkpoint_after_any_pass_goes_on_with_the_same_bits(family, acceleration):
    rng = np.random.default_rng(3)
    model = family.model()
    right, near = family.truth(model, rng)
    x, _ = model.sample(right, 400, rng)
    x = rng.permutation(x)
    near = model.relocate(near, 2, np.array([1e4, 1e4]))  # far from all rows: it is moved after a pass
    blocks = blocks_of(x, (150, 0, 1, 249))

    def fresh():
        return [
            ready(model, near, passes=14, acceleration=acceleration, sample=x[:50], name="a"),
            ready(model, right, passes=9, acceleration=acceleration, sample=x[:50], name="b"),
        ]

    def outcome(climbs):
        return [
            (bits(model, c.fit.params), [(p.log_likelihood, p.accepted, p.fresh) for p in c.trace], c.reason)
            for c in climbs
        ]

    whole, kept = fresh(), []

    def keep() -> None:
        arrays, info = dump(whole)
        kept.append(({name: array.copy() for name, array in arrays.items()}, json.dumps(info)))

    with SerialExecutor().open(blocks, resident=True) as opened:
        climb(whole, opened, after_pass=keep)
        assert len(kept) == 14
        assert any(point.fresh for point in whole[0].trace)
        for arrays, info in kept:
            again = fresh()
            restore(again, arrays, json.loads(info))
            dumped, described = dump(again)
            assert {n: np.asarray(a).tobytes() for n, a in dumped.items()} == {
                n: np.asarray(a).tobytes() for n, a in arrays.items()
            }
            assert described == json.loads(info)
            climb(again, opened)
            assert outcome(again) == outcome(whole)
