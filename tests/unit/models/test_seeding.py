"""Starts: random choices hang on (seed, purpose, block), so partitions change nothing."""

from __future__ import annotations

import numpy as np
import pytest
from blocks import blocks_of
from hypothesis import given
from hypothesis import strategies as st
from strategies import COVARIANCES, chunkings, examples

from distem._random import generator
from distem.errors import FitError
from distem.execution.serial import SerialExecutor
from distem.execution.threads import ThreadsExecutor
from distem.models import seeding
from distem.models.gaussian import Gaussian
from distem.models.mixture import Mixture

N = 500


def rows() -> np.ndarray:
    rng = np.random.default_rng(2)
    return np.concatenate(
        [c + rng.normal(size=(N // 5, 2)) for c in ([0, 0], [9, 0], [0, 9], [9, 9], [20, 20])]
    )


def sampled(x, sizes, size=40, seed=3, executor=None, partitions=None, weights=None):
    blocks = blocks_of(x, sizes, weights)
    with (executor or SerialExecutor()).open(blocks, resident=True, partitions=partitions) as opened:
        return opened.map_reduce(seeding.DrawSample(size, len(x), seed))


def test_generators_are_keyed():
    same = [generator(1, "sample", 4).random(3).tolist() for _ in range(2)]
    assert same[0] == same[1]
    others = [
        generator(1, "sample", 5),
        generator(1, "reseed", 4),
        generator(2, "sample", 4),
        generator(1, "sample"),
    ]
    assert all(other.random(3).tolist() != same[0] for other in others)
    assert generator(-1, "x").random() == generator(2**64 - 1, "x").random()


@examples(25)
@given(sizes=chunkings(N), partitions=st.integers(1, 20))
def test_partitions_change_no_row_of_a_sample(sizes, partitions):
    x = rows()
    expected = sampled(x, sizes)
    with ThreadsExecutor(3) as threads:
        found = sampled(x, sizes, executor=threads, partitions=partitions)
    assert found.values.tobytes() == expected.values.tobytes()
    assert found.keys.tobytes() == expected.keys.tobytes()
    assert len(found.values) == 40
    assert (np.diff(found.keys) >= 0).all()
    known = {tuple(row) for row in x}
    drawn = [tuple(row) for row in found.values]
    assert set(drawn) <= known
    assert len(set(drawn)) == 40  # without replacement
    assert len(set(found.keys)) == 40  # each block draws its own numbers


def test_a_sample_of_more_rows_than_there_are_is_all_of_them():
    x = rows()
    found = sampled(x, (100, 400), size=10_000)
    np.testing.assert_array_equal(np.sort(found.values, axis=0), np.sort(x, axis=0))


def test_samples_are_uniform_over_blocks_of_any_size():
    x = np.arange(1000.0)[:, None]
    counts = np.zeros(1000)
    for seed in range(200):
        drawn = sampled(x, (1, 9, 890, 100), size=100, seed=seed).values[:, 0].astype(int)
        counts[drawn] += 1
    shares = [counts[:10].mean(), counts[10:900].mean(), counts[900:].mean()]
    np.testing.assert_allclose(shares, 20.0, rtol=0.15)


def test_rows_without_weight_are_not_drawn():
    x = rows()
    weights = np.where(x[:, 0] > 5, 2.0, 0.0)
    found = sampled(x, (250, 250), size=400, weights=weights)
    assert len(found.values) == (weights > 0).sum()
    assert (found.values[:, 0] > 5).all()
    assert (found.weights == 2.0).all()
    assert found.rows.weights is not None
    assert sampled(x, (500,)).rows.weights is None


@examples(10)
@given(sizes=chunkings(N), partitions=st.integers(1, 20))
def test_partitions_change_no_bit_of_kmeans_parallel(sizes, partitions):
    x, wanted = rows(), {(5, 0): 5, (5, 1): 5, (3, 0): 3}

    def centres(executor, count):
        with executor.open(blocks_of(x, sizes), resident=True, partitions=count) as opened:
            sample = opened.map_reduce(seeding.DrawSample(100, N, 0))
            return seeding.kmeans_parallel(opened, wanted, sample, 0)

    expected = centres(SerialExecutor(), None)
    with ThreadsExecutor(2) as threads:
        found = centres(threads, partitions)
    assert {key: c.tobytes() for key, c in found.items()} == {key: c.tobytes() for key, c in expected.items()}
    assert found[5, 0].tobytes() != found[5, 1].tobytes()
    assert [len(found[key]) for key in wanted] == [5, 5, 3]
    # one centre near each of five clusters far apart
    assert len(np.unique(np.round(found[5, 0] / 9), axis=0)) == 5


def test_a_candidates_start_does_not_depend_on_the_others():
    x = rows()
    with SerialExecutor().open(blocks_of(x), resident=True) as opened:
        sample = opened.map_reduce(seeding.DrawSample(100, N, 0))
        alone = seeding.kmeans_parallel(opened, {(4, 1): 4}, sample, 0)
        among = seeding.kmeans_parallel(opened, {(2, 0): 2, (4, 0): 4, (4, 1): 4}, sample, 0)
    assert alone[4, 1].tobytes() == among[4, 1].tobytes()


@pytest.mark.parametrize("covariance", COVARIANCES)
@pytest.mark.parametrize("init", seeding.NAMES)
def test_every_start_is_valid(init, covariance):
    x = rows()
    model = Mixture(Gaussian(covariance))
    sample = sampled(x, (500,), size=200)
    centres = x[::100] if init == "kmeans||" else None
    params = seeding.start(init, model, 5, sample, generator(0, "start"), centres)
    assert params.weights.sum() == pytest.approx(1.0)
    assert (params.weights > 0).all()
    for array in model.arrays(params).values():
        assert np.isfinite(array).all()
    assert np.isfinite(model.e_step(blocks_of(x)[0].rows, params).log_likelihood)


@pytest.mark.parametrize("init", ["kmeans", "kmeans++", "random_from_data"])
def test_fewer_rows_than_components_are_refused(init):
    sample = sampled(rows()[:3], (3,))
    with pytest.raises(FitError, match="5 components cannot start from 3 rows"):
        seeding.start(init, Mixture(Gaussian()), 5, sample, generator(0, "start"))


def test_an_unknown_start_is_refused():
    with pytest.raises(FitError, match="no start called 'luck'"):
        seeding.start("luck", Mixture(Gaussian()), 2, sampled(rows(), (500,)), generator(0, "start"))


def test_more_components_than_distinct_rows_still_start():
    x = np.repeat(rows()[:2], 30, axis=0)
    with SerialExecutor().open(blocks_of(x, (20, 40)), resident=True) as opened:
        sample = opened.map_reduce(seeding.DrawSample(50, 60, 0))
        found = seeding.kmeans_parallel(opened, {(4, 0): 4}, sample, 0)
    assert found[4, 0].shape == (4, 2)
    assert np.isfinite(found[4, 0]).all()
