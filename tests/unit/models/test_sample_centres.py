"""K-means on a few rows, where fits start: as good as scikit-learn's, and sound on bad data."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.cluster import KMeans

from distem.models.centres import _filled, lloyd, plus_plus
from distem.models.kmeans import KMeansParams


def clusters(n: int = 3000, k: int = 12, d: int = 3) -> np.ndarray:
    rng = np.random.default_rng(4)
    means = rng.normal(size=(k, d)) * 6.0
    return means[rng.integers(k, size=n)] + rng.normal(size=(n, d))


def inertia(x: np.ndarray, weights: np.ndarray, centres: np.ndarray) -> float:
    squares = ((x[:, None] - centres) ** 2).sum(axis=2)
    return float(weights @ squares.min(axis=1))


def test_as_good_as_scikit_learns():
    x, ones = clusters(), np.ones(3000)
    mine, theirs = [], []
    for seed in range(10):
        mine.append(inertia(x, ones, lloyd(x, ones, 12, np.random.default_rng(seed))))
        theirs.append(KMeans(12, n_init=1, random_state=seed).fit(x).inertia_)
    assert np.median(mine) <= 1.03 * np.median(theirs)
    assert min(mine) <= 1.001 * min(theirs)


def test_centres_are_the_means_of_their_rows():
    x, weights = clusters(), np.random.default_rng(0).uniform(0.1, 3.0, 3000)
    centres = lloyd(x, weights, 12, np.random.default_rng(1))
    nearest = ((x[:, None] - centres) ** 2).sum(axis=2).argmin(axis=1)
    for cluster, centre in enumerate(centres):
        mine = nearest == cluster
        mean = weights[mine] @ x[mine] / weights[mine].sum()
        np.testing.assert_allclose(mean, centre, atol=0.05)


def test_rows_far_from_the_origin_are_told_apart():
    x, ones = clusters(), np.ones(3000)
    near = plus_plus(x, ones, 12, np.random.default_rng(3))
    far = plus_plus(x + 1e8, ones, 12, np.random.default_rng(3))
    np.testing.assert_allclose(far - 1e8, near, atol=1e-6)


def test_drawn_rows_are_apart_and_have_weight():
    x, weights = clusters(), np.zeros(3000)
    weights[:40] = 1.0
    for seed in range(5):
        drawn = plus_plus(x, weights, 12, np.random.default_rng(seed))
        assert len(np.unique(drawn, axis=0)) == 12
        assert {tuple(row) for row in drawn} <= {tuple(row) for row in x[:40]}


@pytest.mark.parametrize("values", [np.zeros((30, 2)), np.repeat(np.eye(2), 15, axis=0)], ids=["one", "two"])
def test_fewer_distinct_rows_than_centres(values):
    centres = lloyd(values, np.ones(30), 5, np.random.default_rng(0))
    assert centres.shape == (5, 2)
    assert np.isfinite(centres).all()
    assert inertia(values, np.ones(30), centres) == 0.0


@pytest.mark.parametrize("scale", [1e-150, 1e140])
def test_extreme_values(scale):
    x = clusters(300, 3) * scale
    centres = lloyd(x, np.ones(300), 3, np.random.default_rng(0))
    assert np.isfinite(centres).all()


def test_an_empty_cluster_moves_to_the_farthest_row():
    x = np.array([[0.0], [0.2], [5.0], [9.0]])
    params = KMeansParams(np.array([[0.05], [100.0], [200.0]]))
    moved = _filled(params, (1, 2), x, np.array([1.0, 1.0, 1.0, 0.0]))
    np.testing.assert_array_equal(moved.centres, [[0.05], [5.0], [0.2]])
