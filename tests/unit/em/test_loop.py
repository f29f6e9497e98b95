"""The loop: shared passes, events, repairs, endings."""

from __future__ import annotations

import numpy as np
import pytest
from blocks import bits, blocks_of, fit_blocks, ready
from strategies import COVARIANCES, random_params

from distem.em.loop import Climb, climb, fell
from distem.em.repair import Repair
from distem.errors import FitError
from distem.events import CandidateDone, ComponentCollapsed, PassDone
from distem.execution.serial import SerialExecutor
from distem.models.gaussian import Gaussian
from distem.models.mixture import Mixture, MixtureParams


def rows(n: int = 200) -> np.ndarray:
    rng = np.random.default_rng(1)
    return np.concatenate([rng.normal(size=(n // 2, 2)), rng.normal(size=(n - n // 2, 2)) + 4])


def run(fits, blocks, **how):
    seen = []
    with SerialExecutor().open(blocks, resident=True) as opened:
        climb(fits, opened, observe=seen.append, **how)
    return seen


def test_fits_that_share_passes_have_the_bits_of_fits_alone():
    x, rng = rows(), np.random.default_rng(0)
    blocks = blocks_of(x, (70, 0, 130))
    models = [Mixture(Gaussian(c)) for c in COVARIANCES]
    starts = [random_params(m, k, 2, rng) for m, k in zip(models, (1, 2, 3, 2), strict=True)]
    together = [
        ready(m, p, passes=5 + i, name=str(i)) for i, (m, p) in enumerate(zip(models, starts, strict=True))
    ]
    seen = run(together, blocks)
    for i, (fit, model, start) in enumerate(zip(together, models, starts, strict=True)):
        alone, _, _ = fit_blocks(model, start, blocks, passes=5 + i)
        assert bits(model, fit.fit.params) == bits(model, alone.params)
        assert fit.fit.trace == alone.trace
    done = [e for e in seen if isinstance(e, CandidateDone)]
    assert [(e.candidate, e.passes) for e in done] == [("0", 5), ("1", 6), ("2", 7), ("3", 8)]
    passes = [e for e in seen if isinstance(e, PassDone)]
    assert [e.pass_ for e in passes if e.candidate == "3"] == list(range(1, 9))
    assert all(e.rows_per_s > 0 for e in passes)


def test_the_fit_is_the_best_parameters_whose_likelihood_is_known():
    model, start = Mixture(Gaussian()), random_params(Mixture(Gaussian()), 2, 2, np.random.default_rng(0))
    blocks = blocks_of(rows())
    fit, _, _ = fit_blocks(model, start, blocks, passes=4)
    stats = model.e_step(blocks[0].rows, fit.params)
    assert stats.mean_log_likelihood == fit.log_likelihood == fit.trace[-1].log_likelihood
    assert not fit.reason.converged


def test_reported_likelihoods_carry_the_offset():
    model = Mixture(Gaussian())
    start = random_params(model, 2, 2, np.random.default_rng(0))
    plain = run([ready(model, start, passes=3)], blocks_of(rows()))
    moved = run([ready(model, start, passes=3)], blocks_of(rows()), offset=2.5)
    for one, two in zip(plain, moved, strict=True):
        if isinstance(one, PassDone):
            assert two.log_likelihood == one.log_likelihood + 2.5


def test_falling_means_beyond_rounding():
    class Before:
        mean_log_likelihood = -100.0

    assert fell(Before, -101.0)
    assert fell(Before, -100.0 - 1e-9)
    assert not fell(Before, -100.0 - 1e-11)
    assert not fell(Before, -99.0)


def test_a_fit_that_has_not_ended_has_no_result():
    model = Mixture(Gaussian())
    start = random_params(model, 2, 2, np.random.default_rng(0))
    with pytest.raises(FitError, match="has not ended"):
        _ = ready(model, start, passes=3).fit


# repairs


def spiked(covariance: str, shares=(0.6, 0.3, 0.1)):
    """Three components, the last a spike on a lone row."""
    x = np.concatenate([rows(), [[30.0, -30.0]]])
    model = Mixture(Gaussian(covariance, 0.0, data_variance=x.var(axis=0)))
    means = np.array([[0.0, 0.0], [4.0, 4.0], [30.0, -30.0]])
    matrices = np.stack([np.eye(2), np.eye(2), 1e-6 * np.eye(2)])
    theta = model.component.from_matrices(means, matrices, np.array(shares))
    return x, model, MixtureParams(np.array(shares), theta)


@pytest.mark.parametrize("covariance", ["full", "diag", "spherical"])
def test_a_spike_is_moved_and_told_of(covariance):
    x, model, start = spiked(covariance)
    fit = ready(model, start, passes=60, sample=rows()[:40])
    seen = run([fit], blocks_of(x, (50, 151)))
    told = [e for e in seen if isinstance(e, ComponentCollapsed)]
    assert told
    assert (told[0].component, told[0].action) == (2, "reseeded")
    assert fit.trace[told[0].pass_].fresh
    assert np.isfinite([p.log_likelihood for p in fit.trace]).all()


@pytest.mark.parametrize("covariance", ["full", "diag", "spherical"])
def test_without_moves_a_spike_is_dropped(covariance):
    x, model, start = spiked(covariance)
    fit = ready(model, start, passes=60)
    fit.repair = Repair(x, 0, 0)
    told = [e for e in run([fit], blocks_of(x)) if isinstance(e, ComponentCollapsed)]
    assert [e.action for e in told] == ["dropped"]
    assert fit.fit.params.k == 2
    assert fit.fit.params.weights.sum() == pytest.approx(1.0)


@pytest.mark.parametrize("covariance", COVARIANCES)
def test_a_component_without_rows_is_moved(covariance):
    x = rows()
    model = Mixture(Gaussian(covariance))
    means = np.array([[0.0, 0.0], [4.0, 4.0], [1e5, 1e5]])
    weights = np.full(3, 1 / 3)
    start = MixtureParams(weights, model.component.from_matrices(means, np.stack([np.eye(2)] * 3), weights))
    fit = ready(model, start, passes=30, sample=x)
    told = [e for e in run([fit], blocks_of(x)) if isinstance(e, ComponentCollapsed)]
    assert [(e.component, e.pass_) for e in told] == [(2, 1)]
    assert fit.fit.params.k == 3
    assert np.abs(fit.fit.params.theta.means).max() < 10


@pytest.mark.parametrize("covariance", COVARIANCES)
def test_several_components_may_be_dropped_at_once(covariance):
    x = rows()
    model = Mixture(Gaussian(covariance))
    means = np.array([[1e5, 0.0], [0.0, 0.0], [1e5, 1e5], [4.0, 4.0]])
    weights = np.full(4, 0.25)
    start = MixtureParams(weights, model.component.from_matrices(means, np.stack([np.eye(2)] * 4), weights))
    fit = ready(model, start, passes=30)  # nothing to move them to
    told = [e for e in run([fit], blocks_of(x)) if isinstance(e, ComponentCollapsed)]
    assert [e.component for e in told] == [2, 0]
    np.testing.assert_allclose(np.sort(fit.fit.params.theta.means[:, 0]), [0, 4], atol=0.6)


def test_where_a_component_goes_depends_on_seed_pass_and_component_alone():
    x, model, start = spiked("full")
    repair = Repair(x, 7, 99)

    def place(key, policy=repair):
        return policy.mend(model, start, 2, key=key, done=0)[0].theta.means[2].tolist()

    assert place((3, 2)) == place((3, 2))
    assert len({tuple(place((p, c))) for p in range(4) for c in range(4)}) > 8
    assert place((3, 2)) != place((3, 2), Repair(x, 8, 99))


def test_equal_rows_are_no_collapse():
    """A component on rows that are equal to each other has no spread, and rightly so."""
    x = np.concatenate([np.zeros((20, 2)), np.ones((20, 2))])
    model = Mixture(Gaussian("full", 0.0))
    even = np.full(2, 0.5)
    theta = model.component.from_matrices(np.array([[0.1, 0], [0.9, 1]]), np.stack([np.eye(2)] * 2), even)
    fit = ready(model, MixtureParams(even, theta), passes=40, sample=x)
    told = [e for e in run([fit], blocks_of(x)) if isinstance(e, ComponentCollapsed)]
    assert not told
    np.testing.assert_allclose(np.sort(fit.fit.params.theta.means[:, 0]), [0, 1], atol=1e-9)


def test_a_likelihood_that_is_not_finite_is_an_error_with_a_remedy():
    class Broken:
        mean_log_likelihood = float("nan")

    model = Mixture(Gaussian())
    fit = ready(model, random_params(model, 2, 2, np.random.default_rng(0)), passes=3)
    assert isinstance(fit, Climb)
    with pytest.raises(FitError, match=r"nan in pass 1\..*scale"):
        fit.advance(Broken())
