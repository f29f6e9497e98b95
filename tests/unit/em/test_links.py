"""Chains through the loop: messages reach their blocks everywhere, with the same bits, if they have to."""

from __future__ import annotations

import sys
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from blocks import ArrayBlock, Joined, bits

from distem.em.acceleration import accelerator
from distem.em.checkpoint import dump, restore
from distem.em.folds import Folds
from distem.em.links import Linker, LinkPass, Messages
from distem.em.loop import Climb, EStep, climb
from distem.em.repair import Repair
from distem.em.stopping import MaxPasses
from distem.errors import FitError
from distem.execution.serial import SerialExecutor
from distem.models.discrete import Poisson, PoissonTheta
from distem.models.gaussian import Gaussian
from distem.models.markov import HiddenMarkov, MarkovParams
from distem.types import Rows

sys.path.append(str(Path(__file__).parents[2] / "contracts"))
from executors import executor

SIZES = (311, 0, 1, 97, 500, 3, 0, 260, 1, 402)
N = sum(SIZES)


def problem(begins=()):
    """A chain of three states in the plane, cut into ragged blocks, and where a fit of it starts."""
    rng = np.random.default_rng(3)
    model = HiddenMarkov(Gaussian("full", reg_covar=0.0))
    transition = np.array([[0.9, 0.08, 0.02], [0.1, 0.8, 0.1], [0.0, 0.3, 0.7]])
    means = np.array([[0.0, 0.0], [2.0, 1.0], [-2.0, 3.0]])
    theta = model.component.from_matrices(means, np.stack([np.eye(2)] * 3), np.full(3, 1 / 3))
    truth = MarkovParams(np.array([0.6, 0.3, 0.1]), transition, theta)
    x, _ = model.sample(truth, N, rng)
    x[rng.random(N) < 0.05] = np.nan
    first = np.zeros(N, dtype=bool)
    first[[0, *begins]] = True
    near = model.component.from_matrices(means + 0.5, np.stack([2 * np.eye(2)] * 3), np.full(3, 1 / 3))
    start = MarkovParams(np.full(3, 1 / 3), np.full((3, 3), 1 / 3), near)
    return model, start, x, first


def cut(x, begins, sizes):
    edges = np.cumsum([0, *sizes])
    return [ArrayBlock(i, Rows(x[a:b], begins=begins[a:b])) for i, (a, b) in enumerate(pairwise(edges))]


def fits(model, start, passes=5, acceleration=None):
    repair = Repair(np.empty((0, 2)), 0, 9)
    return [Climb("fit", model, start, MaxPasses(passes), repair, accelerator(acceleration))]


@dataclass(frozen=True)
class Answers:
    """The pass that labels rows or decodes them, given what reaches the block."""

    model: object
    params: object
    messages: Messages | None
    best: bool = False

    def within(self, span):
        return self if self.messages is None else replace(self, messages=self.messages.within(span))

    def __call__(self, rows, block):
        said = None if self.messages is None else self.messages.at(block)[0]
        if self.best:
            return Joined(self.model.decode(rows, self.params, *(said or (-1, -1)))[0])
        return Joined(self.model.assign(rows, self.params, boundary=said).probability)


def outcome(place, model, start, blocks, *, resident, partitions, acceleration=None):
    running = fits(model, start, acceleration=acceleration)
    with place.open(blocks, resident=resident, partitions=partitions) as opened:
        climb(running, opened)
        fit = running[0].fit
        asked = [(model, fit.params)]
        smooth = opened.map_reduce(Answers(*asked[0], Linker(opened).messages(asked)))
        path = opened.map_reduce(Answers(*asked[0], Linker(opened).messages(asked, best=True), best=True))
    trace = np.array([point.log_likelihood for point in fit.trace])
    return fit, trace, smooth.values, path.values


@pytest.mark.parametrize("name", ["threads-4", "dask-2"])
def test_same_bits_everywhere(name):
    model, start, x, begins = problem(begins=(400, 401, 1200))
    blocks = cut(x, begins, SIZES)
    for acceleration in ("anderson",):
        expected = outcome(SerialExecutor(), model, start, blocks, resident=True, partitions=None,
                           acceleration=acceleration)  # fmt: skip
        with executor(name) as place:
            for resident in (True, False):
                for partitions in (3, 64):
                    found = outcome(place, model, start, blocks, resident=resident, partitions=partitions,
                                    acceleration=acceleration)  # fmt: skip
                    assert bits(model, found[0].params) == bits(model, expected[0].params)
                    for one, two in zip(found[1:], expected[1:], strict=True):
                        assert one.tobytes() == two.tobytes()


def test_any_chunking_gives_one_answer():
    model, start, x, begins = problem(begins=(700,))
    whole = outcome(SerialExecutor(), model, start, cut(x, begins, [N]), resident=True, partitions=None)
    for sizes in ([N // 7] * 7, [1] * 300, SIZES):
        sizes = [*sizes, N - sum(sizes)]
        found = outcome(SerialExecutor(), model, start, cut(x, begins, sizes), resident=True, partitions=None)
        for field, value in model.arrays(whole[0].params).items():
            np.testing.assert_allclose(model.arrays(found[0].params)[field], value, rtol=0, atol=1e-10)
        np.testing.assert_allclose(found[1], whole[1], rtol=0, atol=1e-10)
        np.testing.assert_allclose(found[2], whole[2], rtol=0, atol=1e-10)
        np.testing.assert_array_equal(found[3], whole[3])


@dataclass
class Counting:
    """Counts the passes over some blocks by name."""

    blocks: object
    seen: list

    @property
    def partitions(self):
        return self.blocks.partitions

    def map_reduce(self, run):
        self.seen.append(run)
        return self.blocks.map_reduce(run)


@pytest.mark.parametrize(
    ("sizes", "begins", "asked"),
    [([N], (), 0), ([500, N - 500], (500,), 1), ([500, N - 500], (), 4)],
    ids=["one block", "whole sequences", "a chain over blocks"],
)
def test_links_are_asked_for_only_where_messages_pass(sizes, begins, asked):
    model, start, x, first = problem(begins)
    with SerialExecutor().open(cut(x, first, sizes), resident=True) as opened:
        counting = Counting(opened, [])
        climb(fits(model, start, passes=4), counting)
    passes = [type(run) for run in counting.seen]
    assert passes.count(LinkPass) == asked
    assert passes.count(EStep) == 4
    told = [run.messages is not None for run in counting.seen if isinstance(run, EStep)]
    assert told == [asked == 4] * 4


def test_a_task_is_sent_its_own_messages_alone():
    model, start, x, begins = problem()
    with SerialExecutor().open(cut(x, begins, SIZES), resident=True) as opened:
        messages = Linker(opened).messages([(model, start)])
    run = EStep(((model, start),), messages=messages)
    own = run.within((3, 5))
    assert len(own.messages.each[0]) == 2
    for block in (3, 4):
        for one, two in zip(own.messages.at(block), messages.at(block), strict=True):
            np.testing.assert_array_equal(one.log_before, two.log_before)


def test_chains_and_others_share_a_pass():
    """Two fits of chains, of other emissions, climb together as each would alone."""
    rng = np.random.default_rng(0)
    x = rng.poisson(np.repeat([3.0, 9.0], 150)).astype(float)[:, None]
    begins = np.arange(300) == 0
    model = HiddenMarkov(Poisson())
    starts = [
        MarkovParams(np.full(2, 0.5), np.array([[0.8, 0.2], [0.3, 0.7]]), PoissonTheta(np.array(rates)))
        for rates in ([[2.0], [8.0]], [[5.0], [6.0]])
    ]
    alone = []
    for start in starts:
        one = [Climb("fit", model, start, MaxPasses(4), Repair(np.empty((0, 1)), 0, 0))]
        with SerialExecutor().open(cut(x, begins, [100, 120, 80]), resident=True) as opened:
            climb(one, opened)
        alone.append(bits(model, one[0].fit.params))
    both = [
        Climb(str(i), model, start, MaxPasses(4), Repair(np.empty((0, 1)), 0, 0))
        for i, start in enumerate(starts)
    ]
    with SerialExecutor().open(cut(x, begins, [100, 120, 80]), resident=True) as opened:
        climb(both, opened)
    assert [bits(model, fit.fit.params) for fit in both] == alone


def test_a_checkpoint_resumes_with_the_same_bits():
    model, start, x, begins = problem(begins=(900,))
    with SerialExecutor().open(cut(x, begins, SIZES), resident=True) as opened:
        whole = fits(model, start, passes=8, acceleration="anderson")
        climb(whole, opened)
        cutoff = fits(model, start, passes=3, acceleration="anderson")

        class Enough(Exception):
            pass

        state = {}

        def after():
            state["kept"] = dump(cutoff)
            raise Enough

        with pytest.raises(Enough):
            climb(cutoff, opened, after_pass=after)
        resumed = fits(model, start, passes=8, acceleration="anderson")
        restore(resumed, *state["kept"])
        climb(resumed, opened)
    assert bits(model, resumed[0].fit.params) == bits(model, whole[0].fit.params)


def test_rows_of_a_chain_are_not_held_out():
    model, start, x, begins = problem()
    held = fits(model, start)
    held[0].held = 0
    with (
        SerialExecutor().open(cut(x, begins, SIZES), resident=True) as opened,
        pytest.raises(FitError, match="held out"),
    ):
        climb(held, opened, folds=Folds(2, 0))
