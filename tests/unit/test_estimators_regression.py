"""`distem.RegressionMixture`: the maximum of flexmix's example, inputs, answers, bad input."""

from __future__ import annotations

import os
from pathlib import Path

import dask.array as da
import numpy as np
import pytest
import xarray as xr
from scipy.special import logsumexp
from scipy.stats import norm
from sklearn.base import clone

import distem
from distem.models.design import Design, to_data_units, to_model_units

NPREG = "DISTEM_NPREG"
"""Names a file of flexmix's data NPreg (x, yn, class): under the GPL, so not shipped here."""


def made(seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The same kind of data by the recipe in flexmix's manual: 5 x and 40 - (x - 5)^2, noise of sd 3."""
    rng = np.random.default_rng(seed)
    x, label = rng.uniform(0, 10, 200), np.repeat([0, 1], 100)
    y = np.where(label == 0, 5 * x, 40 - (x - 5) ** 2) + 3 * rng.normal(size=200)
    return np.stack([np.ones(200), x, x**2], axis=1), y, label


def textbook(X, y, coef, steps=2000):
    """EM from the textbook, from given coefficients; the log-likelihood it comes to."""
    weights, sd = np.full(2, 0.5), np.full(2, 3.0)
    for _ in range(steps):
        joint = np.log(weights) + norm.logpdf(y[:, None], X @ coef.T, sd)
        resp = np.exp(joint - logsumexp(joint, axis=1, keepdims=True))
        weights = resp.mean(axis=0)
        for c in range(2):
            root = np.sqrt(resp[:, c])
            coef[c] = np.linalg.lstsq(X * root[:, None], y * root, rcond=None)[0]
            sd[c] = np.sqrt((resp[:, c] * (y - X @ coef[c]) ** 2).sum() / resp[:, c].sum())
    joint = np.log(weights) + norm.logpdf(y[:, None], X @ coef.T, sd)
    return float(logsumexp(joint, axis=1).sum()), weights, coef, sd


def test_flexmix_npreg_reaches_the_maximum_likelihood():
    path = os.environ.get(NPREG)
    if not path or not Path(path).is_file():
        pytest.skip(f"{NPREG} names no copy of NPreg, which the R package flexmix has")
    x, y = np.loadtxt(path, delimiter=",", skiprows=1, usecols=(0, 1)).T
    X = np.stack([np.ones_like(x), x, x**2], axis=1)
    found = distem.RegressionMixture(2, random_state=0).fit(X, y)
    assert found.converged_
    assert found.score(X, y) * len(y) == pytest.approx(-642.5320, abs=1e-4)


@pytest.mark.parametrize("acceleration", [None, "squarem", "anderson"])
def test_data_by_flexmix_s_recipe_reach_the_textbook_s_maximum(acceleration):
    X, y, label = made()
    best, weights, coef, sd = textbook(X, y, np.array([[0.0, 5.0, 0.0], [15.0, 10.0, -1.0]]))
    found = distem.RegressionMixture(2, tol=1e-13, random_state=0, acceleration=acceleration).fit(X, y)
    order = np.argsort(-found.coef_[:, 2])
    assert found.score(X, y) * len(y) == pytest.approx(best, abs=1e-7)
    np.testing.assert_allclose(found.weights_[order], weights, atol=1e-4)
    np.testing.assert_allclose(found.coef_[order], coef, atol=2e-2)
    np.testing.assert_allclose(found.noise_[order], sd, rtol=1e-3)
    np.testing.assert_array_equal(found.intercept_, 0.0)  # the column of ones is the constant
    assert (order.argsort()[found.labels_] == label).mean() > 0.85
    assert found.bic(X, y) == pytest.approx(-2 * best + 9 * np.log(200), abs=1e-6)
    assert found.aic(X, y) == pytest.approx(-2 * best + 18, abs=1e-6)
    assert found.lower_bound_ * len(y) == pytest.approx(best, abs=1e-7)


def test_a_constant_may_be_given_or_fitted_and_offsets_lose_nothing():
    X, y, _ = made()
    one = distem.RegressionMixture(2, random_state=0).fit(X, y)
    two = distem.RegressionMixture(2, random_state=0).fit(X[:, 1:], y)
    far = distem.RegressionMixture(2, random_state=0).fit(X[:, 1:] + 1e6, y + 1e8)
    assert two.score(X[:, 1:], y) == pytest.approx(one.score(X, y), abs=1e-10)
    np.testing.assert_allclose(two.intercept_, one.coef_[:, 0], rtol=1e-9)
    np.testing.assert_allclose(far.coef_, two.coef_, rtol=1e-5)
    assert far.score(X[:, 1:] + 1e6, y + 1e8) == pytest.approx(one.score(X, y), abs=1e-6)
    through = distem.RegressionMixture(2, random_state=0, fit_intercept=False).fit(X[:, 1:], y)
    np.testing.assert_array_equal(through.intercept_, 0.0)
    big = distem.RegressionMixture(2, random_state=0).fit(X * 1e150, y * 1e150)
    assert big.score(X * 1e150, y * 1e150) == pytest.approx(one.score(X, y) - np.log(1e150), abs=1e-6)


def test_chunked_and_labelled_input_gives_the_same_and_stays_lazy():
    X, y, _ = made()
    wanted = distem.RegressionMixture(2, random_state=0).fit(X, y)
    chunked, response = da.from_array(X, chunks=(70, 2)), da.from_array(y, chunks=50)
    lazy = distem.RegressionMixture(2, random_state=0).fit(chunked, response)
    assert isinstance(lazy.labels_, da.Array)
    assert lazy.score(chunked, response) == pytest.approx(wanted.score(X, y), abs=1e-8)
    np.testing.assert_array_equal(
        np.sort(np.bincount(lazy.labels_.compute())), np.sort(np.bincount(wanted.labels_))
    )
    grid = xr.DataArray(X.reshape(10, 20, 3), dims=("a", "b", "term"), coords={"a": np.arange(10)}).chunk(a=3)
    turned = xr.DataArray(y.reshape(10, 20).T, dims=("b", "a"))
    placed = distem.RegressionMixture(2, random_state=0).fit(grid, turned)
    assert placed.labels_.dims == ("a", "b")
    assert list(placed.labels_.coords) == ["a"]
    assert placed.score(grid, turned) == pytest.approx(wanted.score(X, y), abs=1e-8)
    assert placed.predict_proba(grid, turned).dims == ("a", "b", "component")


def test_weights_are_repeated_rows():
    X, y, _ = made()
    times = np.random.default_rng(1).integers(0, 4, 200)
    one = distem.RegressionMixture(2, tol=1e-12, random_state=0).fit(X, y, sample_weight=times)
    two = distem.RegressionMixture(2, tol=1e-12, random_state=0).fit(
        np.repeat(X, times, axis=0), np.repeat(y, times)
    )
    np.testing.assert_allclose(
        one.coef_[np.argsort(one.coef_[:, 2])], two.coef_[np.argsort(two.coef_[:, 2])], rtol=1e-3, atol=1e-3
    )


def test_outliers_are_the_last_component():
    X, y, _ = made(2)
    rng = np.random.default_rng(3)
    bad = rng.random(200) < 0.1
    y = np.where(bad, rng.uniform(-300, 300, 200), y)
    found = distem.RegressionMixture(2, outliers=True, random_state=0, n_init=8).fit(X, y)
    assert found.weights_.shape == (3,)
    assert found.weights_[2] == pytest.approx(0.1, abs=0.05)
    assert (found.labels_[bad & (np.abs(y - 25) > 60)] == 2).all()
    assert found.predict_proba(X, y).shape == (200, 3)
    assert found.score(X, y) > distem.RegressionMixture(2, random_state=0).fit(X, y).score(X, y)


def test_several_responses_with_correlated_noise_in_a_place():
    rng = np.random.default_rng(0)
    z = np.concatenate([rng.normal(-3, 1, 600), rng.normal(3, 1, 400)])
    noise = rng.multivariate_normal([0, 0], [[0.04, 0.03], [0.03, 0.04]], 1000)
    y = np.where(z[:, None] < 0, [1.0, 2.0] + z[:, None] * [0.5, 0.0], [1.0, -2.0] + z[:, None] * [0.0, 0.5])
    found = distem.RegressionMixture(2, covariance_type="full", position=[0], random_state=0).fit(
        z[:, None], y + noise
    )
    order = np.argsort(found.position_means_[:, 0])
    np.testing.assert_allclose(found.position_means_[order, 0], [-3, 3], atol=0.2)
    np.testing.assert_allclose(found.coef_[order, :, 0], [[0.5, 0.0], [0.0, 0.5]], atol=0.05)
    np.testing.assert_allclose(found.covariances_, [[[0.04, 0.03], [0.03, 0.04]]] * 2, atol=0.01)
    assert found.noise_.shape == (2, 2)


def test_samples_have_the_law_of_the_fit():
    X, y, _ = made()
    found = distem.RegressionMixture(2, random_state=0).fit(X, y)
    many = np.repeat(X, 50, axis=0)
    drawn, label = found.sample(many)
    left = drawn - (many @ found.coef_.T)[np.arange(len(many)), label]
    for c in range(2):
        assert left[label == c].std() == pytest.approx(found.noise_[c], rel=0.03)
    assert found.score(many, drawn) == pytest.approx(found.score(X, y), abs=0.05)


def test_attributes_set_by_hand_are_asked():
    by_hand = distem.RegressionMixture(2)
    by_hand.weights_, by_hand.coef_ = np.array([0.5, 0.5]), np.array([[1.0], [-1.0]])
    by_hand.intercept_, by_hand.noise_ = np.zeros(2), np.ones(2)
    by_hand.n_features_in_ = 1
    assert by_hand.predict_proba(np.array([[0.0]]), np.array([0.3])).tolist() == [[0.5, 0.5]]
    np.testing.assert_array_equal(by_hand.predict(np.array([[2.0], [2.0]]), np.array([2.0, -2.0])), [0, 1])


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda X, y: (X, None), "There is no y"),
        (lambda X, y: (X, y[:5]), "Give y for every row"),
        (lambda X, y: (X, np.where(np.arange(200) == 7, np.nan, y)), "row 7"),
        (lambda X, y: (X[:, 0], y), "Expected 2D array"),
        (lambda X, y: (X.astype(str) + "a", y), "not numbers"),
        (lambda X, y: (X[:1], y[:1]), "n_components = 2"),
        (lambda X, y: (np.zeros((0, 3)), np.zeros(0)), "sample"),
    ],
)
def test_bad_input_is_refused_with_a_sentence(change, says):
    X, y, _ = made()
    with pytest.raises(ValueError, match=says):
        distem.RegressionMixture(2).fit(*change(X, y))


def test_it_clones_and_refuses_bad_arguments():
    assert clone(distem.RegressionMixture(3, n_init=2)).get_params()["n_components"] == 3
    X, y, _ = made()
    with pytest.raises(ValueError, match="n_components"):
        distem.RegressionMixture(0).fit(X, y)
    with pytest.raises(ValueError, match="position"):
        distem.RegressionMixture(2, position=[5]).fit(X, y)
    with pytest.raises(ValueError, match="one value only"):
        distem.RegressionMixture(2, outliers=True).fit(X, np.ones(200))


def test_designs_change_units_exactly():
    design = Design.parsed(["1", "x", "x^2", "x*z", "z"], ["x", "z"])
    assert design.closed
    assert design.labels == ("1", "x", "x^2", "x*z", "z")
    assert not Design.parsed(["1", "x^2"], ["x"]).closed
    rng = np.random.default_rng(0)
    coef = rng.normal(size=(3, 5, 2))
    x = np.array([2.0, -1.0]), np.array([3.0, 0.5])
    y = np.array([5.0, 0.0]), np.array([2.0, 10.0])
    there = to_data_units(design, coef, x, y)
    np.testing.assert_allclose(to_model_units(design, there, x, y), coef, atol=1e-12)
    point = rng.normal(size=2)

    def terms(p):
        return np.array([1, p[0], p[0] ** 2, p[0] * p[1], p[1]])

    scaled = terms((point - x[0]) / x[1]) @ coef
    np.testing.assert_allclose(terms(point) @ there, scaled * y[1] + y[0], rtol=1e-12)
    for bad in (["1", "w"], ["x", "x"]):
        with pytest.raises(ValueError, match="design"):
            Design.parsed(bad, ["x"])
