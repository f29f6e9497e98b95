"""Folds: by where rows lie, whatever holds them; what they see, and what is said of the others."""

from __future__ import annotations

from itertools import pairwise

import datasets
import numpy as np
import pytest
from blocks import ArrayBlock, bits, ready
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import multivariate_normal
from strategies import COVARIANCES, random_params

from distem.em.folds import CrossValidated, Folds, Validate
from distem.em.loop import climb
from distem.events import PassDone
from distem.execution.serial import SerialExecutor
from distem.models.gaussian import Gaussian
from distem.models.mixture import Mixture
from distem.types import Places, Rows


def placed(x, sizes, weights=None):
    """Blocks of rows that know where they lie."""
    edges = np.concatenate([[0], np.cumsum(sizes)])
    blocks = []
    for i, (a, b) in enumerate(pairwise(edges.tolist())):
        places = Places(((slice(a, b),),), (len(x),))
        mass = None if weights is None else weights[a:b]
        blocks.append(ArrayBlock(i, Rows(np.ascontiguousarray(x[a:b]), mass, places=places)))
    return blocks


def test_a_row_s_fold_is_its_address_s_alone_and_folds_are_even():
    folds = Folds(7, 3)
    every = folds.of(np.arange(70_000))
    assert every.min() == 0
    assert every.max() == 6
    counts = np.bincount(every)
    assert np.abs(counts - 10_000).max() < 5 * np.sqrt(10_000)
    some = np.random.default_rng(0).integers(70_000, size=50)
    assert (folds.of(some) == every[some]).all()
    # neighbours fall together no more often than others
    assert np.mean(every[1:] == every[:-1]) == pytest.approx(1 / 7, abs=0.01)
    assert np.mean(Folds(7, 4).of(np.arange(70_000)) == every) == pytest.approx(1 / 7, abs=0.01)


@given(st.data())
def test_addresses_are_c_order_numbers_in_any_boxes(data):
    shape = tuple(data.draw(st.lists(st.integers(1, 6), min_size=1, max_size=3)))
    box = tuple(slice(*sorted((data.draw(st.integers(0, n)), data.draw(st.integers(0, n))))) for n in shape)
    numbers = np.arange(np.prod(shape)).reshape(shape)
    two = Places((box, tuple(slice(0, n) for n in shape)), shape)
    assert two.addresses.tolist() == [*numbers[box].ravel(), *numbers.ravel()]


def test_rows_that_do_not_know_where_they_lie_cannot_be_held_out():
    with pytest.raises(LookupError, match="where"):
        Folds(2, 0).parted(Rows(np.ones((3, 1))))


def test_missing_rows_keep_their_addresses():
    places = Places(((slice(10, 14),),), (20,))
    kept = np.array([True, False, False, True])
    assert Rows(np.ones((2, 1)), kept=kept, places=places).addresses.tolist() == [10, 13]


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("covariance", COVARIANCES)
def test_a_fold_s_statistics_are_those_of_the_data_without_it(covariance, weighted):
    rng = np.random.default_rng(5)
    x = rng.normal(size=(200, 3))
    weights = rng.uniform(0.5, 2.0, size=200) if weighted else None
    folds, model = Folds(4, 1), Mixture(Gaussian(covariance))
    params = random_params(model, 3, 3, rng)
    fold = folds.of(np.arange(200))
    (block,) = placed(x, [200], weights)
    for held in range(4):
        seen = fold != held
        found = folds.parted(block.rows).e_step(model, params, held)
        alone = model.e_step(Rows(x[seen], None if weights is None else weights[seen]), params)
        assert found.n == alone.n
        for name, value in alone.to_arrays().items():
            np.testing.assert_allclose(found.to_arrays()[name], value, rtol=1e-11, atol=1e-11)


def sweep(blocks, starts, folds, model, passes=6):
    """One fit on all rows and one without each fold, in shared passes; and what the held-out rows say."""
    fits = [ready(model, start, passes=passes, name=str(i)) for i, start in enumerate(starts)]
    for held, fit in enumerate(fits[1:]):
        fit.held = held
    with SerialExecutor().open(blocks, resident=True) as opened:
        climb(fits, opened, folds=folds)
        judged = [(model, fit.fit.params, fit.held) for fit in fits[1:]]
        sums = opened.map_reduce(Validate(judged, folds))
    return fits, sums


def test_rows_a_second_are_those_of_the_pass_and_not_of_a_fold_s_fit():
    x, rng, model, told = datasets.load("iris"), np.random.default_rng(0), Mixture(Gaussian()), []
    start = random_params(model, 2, 4, rng)
    fits = [ready(model, start, passes=2, name="all"), ready(model, start, passes=4, name="without")]
    fits[1].held = 0
    with SerialExecutor().open(placed(x, [150]), resident=True) as opened:
        climb(fits, opened, folds=Folds(5, 0), observe=told.append)
    rows = [e.rows_per_s * e.seconds for e in told if isinstance(e, PassDone)]
    assert rows == pytest.approx([150.0] * (2 + 4))


def test_fits_on_all_rows_have_the_bits_they_have_without_folds():
    x, rng, model = datasets.load("iris"), np.random.default_rng(0), Mixture(Gaussian())
    start = random_params(model, 2, 4, rng)
    blocks = placed(x, [60, 0, 90])
    fits, _ = sweep(blocks, [start] * 4, Folds(3, 0), model)
    alone = ready(model, start, passes=6)
    with SerialExecutor().open(blocks, resident=True) as opened:
        climb([alone], opened)
    assert bits(model, fits[0].fit.params) == bits(model, alone.fit.params)
    assert fits[0].fit.trace == alone.fit.trace


@given(cuts=st.lists(st.integers(0, 150), max_size=5), weighted=st.booleans())
def test_blocks_have_no_part_in_what_held_out_rows_say(cuts, weighted):
    x, model = datasets.load("iris"), Mixture(Gaussian())
    weights = np.random.default_rng(1).uniform(0.5, 2.0, size=150) if weighted else None
    start = random_params(model, 2, 4, np.random.default_rng(0))
    sizes = np.diff([0, *sorted(cuts), 150]).tolist()
    _, whole = sweep(placed(x, [150], weights), [start] * 4, Folds(3, 0), model)
    _, parts = sweep(placed(x, sizes, weights), [start] * 4, Folds(3, 0), model)
    np.testing.assert_allclose(parts.log_likelihood, whole.log_likelihood, rtol=1e-9)
    np.testing.assert_allclose(parts.mass, whole.mass, rtol=1e-13)


def test_what_held_out_rows_say_is_their_density_under_a_fit_that_never_saw_them():
    x, model, folds = datasets.load("iris"), Mixture(Gaussian()), Folds(3, 0)
    start = random_params(model, 2, 4, np.random.default_rng(0))
    fits, sums = sweep(placed(x, [70, 80]), [start] * 4, folds, model)
    fold = folds.of(np.arange(150))
    for held in range(3):
        params = fits[held + 1].fit.params
        density = np.zeros((fold == held).sum())
        for weight, mean, matrix in zip(
            params.weights, params.theta.means, params.theta.covariances, strict=True
        ):
            density += weight * multivariate_normal(mean, matrix).pdf(x[fold == held])
        assert sums.log_likelihood[held] == pytest.approx(np.log(density).sum(), rel=1e-11)
        assert sums.mass[held] == (fold == held).sum()
    # other values in held-out rows change nothing of the fit
    moved = np.where((fold == 1)[:, None], 100.0 + x, x)
    others, _ = sweep(placed(moved, [70, 80]), [start] * 4, folds, model)
    assert bits(model, others[2].fit.params) == bits(model, fits[2].fit.params)
    assert bits(model, others[1].fit.params) != bits(model, fits[1].fit.params)


def test_mean_and_error_over_folds():
    found = CrossValidated.of(np.array([-30.0, -28.0, -44.0]), np.array([10.0, 10.0, 20.0]))
    assert found.mean == pytest.approx(-102.0 / 40.0)
    assert found.error == pytest.approx(np.sqrt((0.25 * 0.45**2 + 0.25 * 0.25**2 + 0.5 * 0.35**2) / 2))
    even = np.array([-1.0, -2.0, -4.0, -3.0])
    assert CrossValidated.of(5 * even, np.full(4, 5.0)).error == pytest.approx(even.std(ddof=1) / 2)
