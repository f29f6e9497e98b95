"""Accelerators on maps whose fixed point is known, and how the loop takes a step back."""

from __future__ import annotations

import numpy as np
import pytest
from blocks import bits, blocks_of, fit_blocks, ready
from strategies import COVARIANCES, random_params

from distem.em.acceleration import Anderson, Plain, Squarem, accelerator
from distem.em.loop import climb
from distem.events import PassDone
from distem.execution.serial import SerialExecutor
from distem.models.gaussian import Gaussian
from distem.models.mixture import Mixture

AT = {"value": 0.0, "natural": lambda differences: differences}
"""A flat likelihood, and parameters whose units are the natural ones."""


def linear(rates):
    """A map that contracts towards (1, 1, ...), each direction at its own rate."""
    return lambda x: 1.0 + rates * (x - 1.0)


def steps_to(made, rates, tolerance: float = 1e-8, most: int = 20_000) -> int:
    """Steps from 0; the likelihood is the one whose EM in natural units the linear map is."""
    step, x = linear(rates), np.zeros(len(rates))
    for number in range(1, most):
        update = step(x)
        value = -((1.0 - rates) @ (x - 1.0) ** 2) / 2.0
        proposal = made.propose(x, update, value=value, natural=AT["natural"])
        x = update if proposal is None else proposal
        if np.abs(x - 1.0).max() < tolerance:
            return number
    return most


RATES = np.array([0.99, 0.9, 0.5, 0.2])


@pytest.mark.parametrize("name", ["squarem", "anderson"])
def test_accelerators_need_a_fraction_of_the_steps(name):
    plain = steps_to(Plain(), RATES)
    assert steps_to(accelerator(name), RATES) < plain / 5


def test_anderson_solves_a_linear_map_in_as_many_steps_as_it_has_dimensions():
    free = Anderson(settled=np.inf, quick=0.0)
    free.propose(np.zeros(4), np.zeros(4), **AT)
    free._radius = np.inf
    step, x = linear(RATES), np.zeros(4)
    for _ in range(len(RATES) + 2):
        update = step(x)
        proposal = free.propose(x, update, **AT)
        free._radius, free._promise = 1e6, None  # no trust region: what is left is linear algebra
        x = update if proposal is None else proposal
    assert np.abs(x - 1.0).max() < 1e-7


def test_anderson_leads_away_from_a_saddle_where_its_root_finding_ancestor_turns_back():
    curvatures, x = np.array([0.5, -0.02]), np.array([1.0, 1e-3])
    made = Anderson(settled=np.inf, quick=0.0)
    for _ in range(12):
        proposal = made.propose(
            x, x - curvatures * x, value=-(curvatures @ x**2) / 2.0, natural=AT["natural"]
        )
        x = x - curvatures * x if proposal is None else proposal
    assert abs(x[1]) > 0.05  # EM alone: 1e-3 * 1.02 ** 12 = 1.3e-3


def test_a_proposal_taken_back_narrows_the_next_and_forgets_no_curvature():
    step, made, x = linear(RATES), Anderson(settled=np.inf, quick=0.0), np.zeros(4)
    for _ in range(4):
        update = step(x)
        proposal = made.propose(x, update, **AT)
        x = update if proposal is None else proposal
    again = Anderson(settled=np.inf, quick=0.0)
    again.restore(made.state())
    made.taken_back()
    assert len(made.state()["steps"]) == len(again.state()["steps"])
    assert made.state()["radius"] < again.state()["radius"]


def test_long_steps_and_quick_ones_are_left_to_em():
    for scale, rate in ((1.0, 0.9), (1e-2, 0.1)):
        made, x = Anderson(), np.full(3, scale) / (1.0 - rate)
        for _ in range(5):
            assert made.propose(x, rate * x, **AT) is None
            x = rate * x if rate < 0.5 else x


def test_names():
    assert isinstance(accelerator(None), Plain)
    assert isinstance(accelerator("none"), Plain)
    assert isinstance(accelerator("squarem"), Squarem)
    assert isinstance(accelerator("anderson"), Anderson)


@pytest.mark.parametrize("name", ["none", "squarem", "anderson"])
def test_state_restored_after_any_step_proposes_the_same_bits(name):
    step = linear(RATES)

    def walk(made, x, count):
        path = []
        for _ in range(count):
            update = step(x)
            proposal = made.propose(x, update, **AT)
            x = update if proposal is None else proposal
            path.append(x.tobytes())
        return x, path

    for taken in range(14):
        made = accelerator(name)
        x, _ = walk(made, np.zeros(4), taken)
        again = accelerator(name)
        again.restore({key: np.array(value) for key, value in made.state().items()})
        assert walk(made, x, 10)[1] == walk(again, x, 10)[1]


@pytest.mark.parametrize("name", ["squarem", "anderson"])
def test_a_restart_forgets(name):
    made = accelerator(name)
    made.propose(np.zeros(2), np.ones(2), **AT)
    made.propose(np.ones(2), np.full(2, 1.5), **AT)
    made.restart()
    assert made.propose(np.zeros(2), np.ones(2), **AT) is None


@pytest.mark.parametrize("name", ["squarem", "anderson"])
def test_at_a_fixed_point_nothing_strange_is_proposed(name):
    made, here = accelerator(name), np.ones(3)
    for _ in range(5):
        proposal = made.propose(here, here, **AT)
        assert proposal is None or np.array_equal(proposal, here)


class Reckless:
    """Proposes parameters that are far too far."""

    def __init__(self):
        self.rejections = 0

    def propose(self, here, update, **at):
        return update + 50.0 * np.sign(update)

    def taken_back(self):
        self.rejections += 1

    def restart(self):
        self.rejections = 0

    def state(self):
        return {}

    def restore(self, state):
        pass


def problem(covariance: str = "full"):
    rng = np.random.default_rng(0)
    model = Mixture(Gaussian(covariance))
    x = np.concatenate([rng.normal(size=(150, 2)), rng.normal(size=(150, 2)) + 3])
    return model, random_params(model, 2, 2, rng), blocks_of(x, (100, 200))


@pytest.mark.parametrize("covariance", COVARIANCES)
def test_a_step_that_lowers_the_likelihood_is_taken_back_and_counted(covariance):
    model, start, blocks = problem(covariance)
    fit = ready(model, start, passes=21)
    fit.accelerator = Reckless()
    seen = []
    with SerialExecutor().open(blocks, resident=True) as opened:
        climb([fit], opened, observe=lambda e: seen.append(e) if isinstance(e, PassDone) else None)
    rejected = [p for p in fit.trace if not p.accepted]
    assert rejected
    assert len(fit.trace) == len(seen) == 21  # no hidden pass
    assert [e.accepted for e in seen] == [p.accepted for p in fit.trace]
    assert fit.accelerator.rejections == len(rejected)
    # what was taken back leaves no mark: every other pass is plain EM's
    plain, _, _ = fit_blocks(model, start, blocks, passes=21)
    kept = [p.log_likelihood for p in fit.trace if p.accepted]
    assert kept == [p.log_likelihood for p in plain.trace[: len(kept)]]


def test_proposals_that_are_not_finite_fall_back_to_plain_em():
    model, start, blocks = problem()
    fit = ready(model, start, passes=6)
    fit.accelerator = Reckless()
    fit.accelerator.propose = lambda here, update, **at: np.full_like(update, 1e5)  # exp overflows
    with SerialExecutor().open(blocks, resident=True) as opened:
        climb([fit], opened)
    plain, _, _ = fit_blocks(model, start, blocks, passes=6)
    assert bits(model, fit.fit.params) == bits(model, plain.params)
    assert all(p.accepted for p in fit.trace)
