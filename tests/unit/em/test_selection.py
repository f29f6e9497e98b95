"""Information criteria against scikit-learn and against their definitions."""

from __future__ import annotations

import warnings

import datasets
import numpy as np
import pytest
from blocks import blocks_of, fit_blocks
from sklearn.exceptions import ConvergenceWarning
from sklearn.mixture import GaussianMixture as Peer
from strategies import COVARIANCES

from distem.em.selection import Score, best_by, score
from distem.models.gaussian import Gaussian
from distem.models.mixture import Mixture, MixtureParams


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("covariance", COVARIANCES)
def test_criteria_are_scikit_learns_and_the_entropy_is_the_responsibilities(covariance, weighted):
    x, k = datasets.load("wine"), 3
    begun = datasets.start("wine", covariance)
    model = Mixture(Gaussian(covariance))
    d = x.shape[1]
    inverse = {"full": np.linalg.inv, "tied": np.linalg.inv}.get(covariance, lambda p: 1.0 / p)
    matrices = model.component.shape.matrices(inverse(begun["precisions_init"]), k, d)
    weights = begun["weights_init"]
    start = MixtureParams(weights, model.component.from_matrices(begun["means_init"], matrices, weights))
    counts = np.random.default_rng(0).integers(0, 4, len(x)) if weighted else np.ones(len(x), int)
    repeated = np.repeat(x, counts, axis=0)
    mass = counts.astype(float) if weighted else None
    fit, _, _ = fit_blocks(model, start, blocks_of(x, (60, 0, 118), mass), passes=12)
    found = score(model, fit)

    peer = Peer(k, covariance_type=covariance, max_iter=11, tol=0.0, **begun)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        peer.fit(repeated)
    assert found.parameters == peer._n_parameters()
    assert found.mass == len(repeated)
    assert found.bic == pytest.approx(peer.bic(repeated), rel=1e-9)
    assert found.aic == pytest.approx(peer.aic(repeated), rel=1e-9)
    resp = peer.predict_proba(repeated)
    entropy = -np.sum(resp * np.log(np.maximum(resp, 1e-300)))
    assert found.entropy == pytest.approx(entropy, rel=1e-6, abs=1e-6)
    assert found.icl == pytest.approx(peer.bic(repeated) + 2 * entropy, rel=1e-9)


def test_an_offset_moves_the_likelihood_and_no_choice():
    model = Mixture(Gaussian())
    x = datasets.load("iris")
    theta = model.component.from_matrices(x[[0, 100]], np.stack([np.cov(x.T)] * 2), np.array([0.5, 0.5]))
    fit, _, _ = fit_blocks(model, MixtureParams(np.array([0.5, 0.5]), theta), blocks_of(x), passes=5)
    plain, moved = score(model, fit), score(model, fit, offset=3.0)
    assert moved.log_likelihood == pytest.approx(plain.log_likelihood + 3.0 * len(x))
    assert moved.entropy == plain.entropy
    assert moved.bic == pytest.approx(plain.bic - 6.0 * len(x))


def test_the_least_criterion_wins_and_of_equals_the_first():
    scores = {
        "a": Score(-100.0, 50.0, 5, 0.0),
        "b": Score(-90.0, 50.0, 9, 20.0),
        "c": Score(-90.0, 50.0, 9, 0.0),
        "d": Score(-90.0, 50.0, 9, 0.0),
    }
    assert best_by("aic", scores) == "b"
    assert best_by("icl", scores) == "c"
    assert best_by("bic", scores) == min(scores, key=lambda name: scores[name].bic)
    assert scores["a"].bic == pytest.approx(200.0 + 5 * np.log(50.0))
    assert scores["a"].aic == 210.0
