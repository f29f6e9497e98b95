"""Elongated clusters: seeded in whitened units they are not cut across."""

from __future__ import annotations

import numpy as np
import pytest
from blocks import blocks_of, fit_blocks
from numpy.testing import assert_allclose

import distem
from distem._random import generator
from distem.execution.serial import SerialExecutor
from distem.models import seeding
from distem.models.gaussian import Gaussian
from distem.models.mixture import Mixture


def elongated(n: int = 2000):
    """Two clusters side by side, each forty times as long as it is wide."""
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(n, 2)) * [40.0, 1.0]
    rows[: n // 2, 1] += 8.0
    turn = np.array([[0.8, 0.6], [-0.6, 0.8]])
    return rows @ turn


def sample_of(x, weights=None) -> seeding.Sample:
    return seeding.Sample(
        len(x), np.arange(float(len(x))), x, np.ones(len(x)) if weights is None else weights
    )


def test_whitened_rows_have_the_identity_as_their_covariance():
    rng = np.random.default_rng(1)
    weights = rng.uniform(0.5, 2.0, size=2000)
    x = elongated() * [1e6, 1e-6]
    white = x @ seeding.whitening(sample_of(x, weights))
    assert_allclose(np.cov(white.T, aweights=weights, ddof=0), np.eye(2), atol=1e-8)


def test_a_direction_without_spread_is_left_alone():
    x = np.column_stack([elongated(), np.full(2000, 3.0)])
    matrix = seeding.whitening(sample_of(x))
    assert np.isfinite(matrix).all()
    assert abs(np.linalg.det(matrix)) > 0.0


@pytest.mark.parametrize("init", ["kmeans", "kmeans||", "kmeans++"])
def test_whitened_seeding_reaches_the_better_optimum(init):
    turned = elongated() @ np.array([[0.8, 0.6], [-0.6, 0.8]]).T  # long along an axis, as diag can hold
    sample, model, ends = sample_of(turned), Mixture(Gaussian("diag")), {}
    for name, matrix in (("none", None), ("whiten", seeding.whitening(sample))):
        best = -np.inf
        for seed in range(3):
            centres = None
            if init == "kmeans||":
                with SerialExecutor().open(blocks_of(turned, (500, 1500)), resident=True) as blocks:
                    centres = seeding.kmeans_parallel(blocks, {(2, seed): 2}, sample, 0, matrix)[2, seed]
            rng = generator(seed, "start")
            start = seeding.start(init, model, 2, sample, rng, centres, matrix)
            fit, _, _ = fit_blocks(model, start, blocks_of(turned), passes=60)
            best = max(best, fit.log_likelihood)
        ends[name] = best
    assert ends["whiten"] > ends["none"] + 0.1


@pytest.mark.parametrize("k", [1, 5, 40])
def test_kmeans_parallel_takes_five_passes_and_holds_a_bounded_number_of_candidates(k):
    x = np.random.default_rng(2).normal(size=(3000, 2))

    class Counted:
        def __init__(self, blocks):
            self.blocks, self.passes = blocks, []

        def map_reduce(self, run):
            self.passes.append(run)
            return self.blocks.map_reduce(run)

    with SerialExecutor().open(blocks_of(x, (1000, 2000)), resident=True) as blocks:
        counted = Counted(blocks)
        seeding.kmeans_parallel(counted, {(k, 0): k}, sample_of(x), 0)
    assert len(counted.passes) == 5
    assert max(len(run.centres[0]) for run in counted.passes) <= 1 + 8 * k


def test_the_estimator_seeds_in_whitened_units():
    x = elongated()
    labels = distem.GaussianMixture(2, init_scale="whiten", random_state=0).fit(x).predict(x)
    truth = np.repeat([0, 1], 1000)
    assert max((labels == truth).mean(), (labels != truth).mean()) > 0.95
