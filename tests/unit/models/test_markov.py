"""Hidden Markov models: equal to hmmlearn's, wherever the sequences are cut."""

from __future__ import annotations

import itertools
import warnings

import numpy as np
import pytest
from earthquakes import EARTHQUAKES
from hmmlearn import hmm
from hypothesis import given
from hypothesis import strategies as st
from strategies import examples

from distem.execution.base import fold
from distem.models.chain import boundaries, stationary_law, way_points
from distem.models.discrete import Categorical, CategoricalTheta, Poisson, PoissonTheta
from distem.models.gaussian import Gaussian
from distem.models.markov import HiddenMarkov, MarkovParams
from distem.types import Rows

COMPONENTS = ("full", "tied", "diag", "spherical", "poisson", "categorical")


def component(name):
    return {"poisson": Poisson(), "categorical": Categorical()}.get(name) or Gaussian(name, reg_covar=0.0)


def random_model(name, k, rng):
    start, transition = rng.dirichlet(np.ones(k)), rng.dirichlet(np.ones(k), size=k)
    made = component(name)
    if name == "poisson":
        theta = PoissonTheta(rng.gamma(2.0, 4.0, size=(k, 2)))
    elif name == "categorical":
        theta = CategoricalTheta(rng.dirichlet(np.ones(5), size=k))
    else:
        halves = rng.normal(size=(k, 2, 2)) * 0.3 + np.eye(2)
        theta = made.from_matrices(
            rng.normal(size=(k, 2)) * 2, halves @ halves.swapaxes(1, 2), np.ones(k) / k
        )
    return HiddenMarkov(made), MarkovParams(start, transition, theta)


@st.composite
def series(draw, name):
    """A model, its parameters, and rows of one or more sequences, some of them missing."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    model, params = random_model(name, draw(st.integers(1, 3)), rng)
    n = draw(st.integers(1, 60))
    x, _ = model.sample(params, n, rng)
    begins = rng.random(n) < draw(st.sampled_from([0.0, 0.1, 0.6]))
    begins[0] = True
    x[rng.random(n) < draw(st.sampled_from([0.0, 0.2]))] = np.nan
    cuts = np.sort(rng.integers(0, n + 1, size=draw(st.integers(0, 6))))
    return model, params, x, begins, [0, *cuts.tolist(), n]


def flat(stats):
    return {name: np.asarray(value, dtype=float) for name, value in stats.to_arrays().items()}


@pytest.mark.parametrize("name", COMPONENTS)
def test_any_cutting_gives_one_answer(name):
    @examples(60)
    @given(series(name))
    def check(drawn):
        model, params, x, begins, edges = drawn
        whole = Rows(x, begins=begins)
        parts = [Rows(x[a:b], begins=begins[a:b]) for a, b in itertools.pairwise(edges)]
        links = [model.links(part, params) for part in parts]
        reaching = boundaries(fold((0, len(parts)), links.__getitem__))
        done = [model.e_step(p, params, b) for p, b in zip(parts, reaching, strict=True)]
        one, two = flat(model.e_step(whole, params)), flat(fold((0, len(parts)), done.__getitem__))
        for field in one:
            scale = max(1.0, float(np.abs(one[field]).max(initial=0.0)))
            np.testing.assert_allclose(two[field], one[field], rtol=0, atol=1e-10 * scale, err_msg=field)
        smoothed = [model.assign(p, params, boundary=b) for p, b in zip(parts, reaching, strict=True)]
        expected = model.assign(whole, params)
        np.testing.assert_allclose(
            np.concatenate([s.probability for s in smoothed]), expected.probability, rtol=0, atol=1e-10
        )
        assert expected.log_density.sum() == pytest.approx(one["log_likelihood"], abs=1e-9)
        best = [model.best_links(part, params) for part in parts]
        points = way_points(fold((0, len(parts)), best.__getitem__))
        path = np.concatenate([model.decode(p, params, *at)[0] for p, at in zip(parts, points, strict=True)])
        np.testing.assert_array_equal(path, model.decode(whole, params)[0])

    check()


@pytest.mark.parametrize("name", COMPONENTS)
def test_the_likelihood_never_falls(name):
    @examples(25)
    @given(series(name))
    def check(drawn):
        model, params, x, begins, _ = drawn
        rows, value = Rows(x, begins=begins), -np.inf
        for _ in range(6):
            stats = model.e_step(rows, params)
            if (stats.moments.mass < 4.0).any():  # a spike: its floor has a test of its own
                break
            assert stats.log_likelihood >= value - 1e-8 * max(1.0, abs(value))
            value, params = stats.log_likelihood, model.m_step(stats, params)

    check()


@pytest.mark.parametrize("name", ["full", "tied", "diag", "spherical", "poisson", "categorical"])
def test_every_iteration_is_hmmlearns(name):
    rng = np.random.default_rng(5)
    model, truth = random_model(name, 3, rng)
    x, _ = model.sample(truth, 600, rng)
    lengths = [250, 50, 300]
    begins = np.zeros(600, dtype=bool)
    begins[np.cumsum([0, *lengths[:-1]])] = True
    _, params = random_model(name, 3, rng)
    learnt = {"poisson": "stl", "categorical": "ste"}.get(name, "stmc")
    options = {"n_components": 3, "n_iter": 1, "tol": -np.inf, "params": learnt, "init_params": ""}
    theirs = {
        "poisson": lambda: hmm.PoissonHMM(**options, lambdas_prior=0.0, lambdas_weight=0.0),
        "categorical": lambda: hmm.CategoricalHMM(**options),
    }.get(name, lambda: hmm.GaussianHMM(**options, covariance_type=name, covars_prior=0.0, min_covar=0.0))()
    theirs.startprob_, theirs.transmat_ = params.start, params.transition
    if name == "poisson":
        theirs.lambdas_ = params.theta.rates
    elif name == "categorical":
        theirs.emissionprob_ = params.theta.probabilities
    else:
        theirs.means_, theirs.covars_ = params.theta.means, params.theta.covariances
    data = x.astype(int) if name in ("poisson", "categorical") else x
    for _ in range(8):
        stats = model.e_step(Rows(x, begins=begins), params)
        assert stats.log_likelihood == pytest.approx(theirs.score(data, lengths), rel=1e-8)
        params = model.m_step(stats, params)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            theirs.fit(data, lengths)
        np.testing.assert_allclose(params.start, theirs.startprob_, rtol=0, atol=1e-8)
        np.testing.assert_allclose(params.transition, theirs.transmat_, rtol=0, atol=1e-8)
        if name == "poisson":
            np.testing.assert_allclose(params.theta.rates, theirs.lambdas_, rtol=1e-8)
        elif name == "categorical":
            np.testing.assert_allclose(params.theta.probabilities, theirs.emissionprob_, rtol=0, atol=1e-8)
        else:
            np.testing.assert_allclose(params.theta.means, theirs.means_, rtol=0, atol=1e-8)
            kept = theirs._covars_[:, 0] if name == "spherical" else theirs._covars_
            np.testing.assert_allclose(params.theta.covariances, kept, rtol=0, atol=1e-8)
    score, path = theirs.decode(data, lengths)
    ours, total = model.decode(Rows(x, begins=begins), params)
    np.testing.assert_array_equal(ours, path)
    assert total == pytest.approx(score, rel=1e-9)


@pytest.mark.parametrize(
    ("k", "stationary", "expected"),
    [(2, False, 341.8787), (3, False, 328.5275), (2, True, 342.3183), (3, True, 329.4603)],
)
def test_earthquakes_of_zucchini_and_macdonald(k, stationary, expected):
    model = HiddenMarkov(Poisson(), stationary=stationary)
    transition = np.full((k, k), 0.1 / (k - 1))
    np.fill_diagonal(transition, 0.9)
    rates = PoissonTheta(np.linspace(10.0, 30.0, k)[:, None])
    params = MarkovParams(np.full(k, 1.0 / k), transition, rates)
    values = []
    for _ in range(600):
        stats = model.e_step(Rows(EARTHQUAKES), params)
        values.append(stats.log_likelihood)
        if len(values) > 5 and values[-1] - values[-2] < 1e-9:
            break
        params = model.m_step(stats, params)
    assert -values[-1] == pytest.approx(expected, abs=6e-5)
    assert (np.diff(values) > -1e-9).all()
    if stationary:
        np.testing.assert_allclose(params.start, stationary_law(params.transition), atol=1e-12)


def test_a_state_that_dies_is_moved_or_dropped():
    rng = np.random.default_rng(0)
    model, params = random_model("full", 3, rng)
    moved = model.relocate(params, 1, np.array([50.0, 50.0]))
    np.testing.assert_array_equal(moved.theta.means[1], [50.0, 50.0])
    np.testing.assert_allclose(moved.transition.sum(axis=1), 1.0)
    left = model.drop(params, 1)
    assert left.k == 2
    np.testing.assert_allclose(left.transition.sum(axis=1), 1.0)
    np.testing.assert_allclose(left.start.sum(), 1.0)


@pytest.mark.parametrize("name", COMPONENTS)
def test_packing_and_arrays_are_undone(name):
    model, params = random_model(name, 3, np.random.default_rng(2))
    for back in (
        model.unpack(model.pack(params), params),
        model.from_arrays(model.arrays(params)),
    ):
        for field, value in model.arrays(params).items():
            np.testing.assert_allclose(model.arrays(back)[field], value, rtol=1e-10, atol=1e-12)
