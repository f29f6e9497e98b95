"""Hidden Markov estimators: hmmlearn's iterations, any chunking, sequences, missing rows, bad input."""

from __future__ import annotations

import warnings

import dask.array as da
import numpy as np
import pytest
import xarray as xr
from hmmlearn import hmm
from sklearn.exceptions import ConvergenceWarning, NotFittedError

import distem
from distem.errors import DataError, FitError

COVARIANCES = ("full", "tied", "diag", "spherical")


def series(n=600, seed=0):
    rng = np.random.default_rng(seed)
    level = np.repeat(rng.integers(0, 3, n // 20), 20)
    return np.stack([level * 3.0, -level], axis=1) + rng.normal(size=(n, 2))


LENGTHS = [250, 50, 300]
LETTERS = {"s": "startprob_", "t": "transmat_", "m": "means_", "c": "covars_"}


def theirs(kind, k, **options):
    options = {"n_components": k, "n_iter": 1, "tol": -np.inf, "init_params": ""} | options
    flat = {"covars_prior": 0.0, "min_covar": 0.0}
    made = {
        "gaussian": lambda: hmm.GaussianHMM(**options, **flat, params="stmc"),
        "poisson": lambda: hmm.PoissonHMM(**options, lambdas_prior=0.0, lambdas_weight=0.0, params="stl"),
        "categorical": lambda: hmm.CategoricalHMM(**options, params="ste"),
        "gmm": lambda: hmm.GMMHMM(**options, min_covar=0.0, params="stmcw"),
    }[kind]()
    made.startprob_ = np.full(k, 1.0 / k)
    made.transmat_ = np.full((k, k), 0.1 / (k - 1)) + np.eye(k) * (0.9 - 0.1 / (k - 1))
    return made


@pytest.mark.parametrize("covariance", COVARIANCES)
def test_iterations_of_gaussian_states_are_hmmlearns(covariance):
    x = series()
    ours = distem.GaussianHMM(3, covariance, init_params="", n_iter=1, tol=0.0)
    other = theirs("gaussian", 3, covariance_type=covariance)
    ours.startprob_, ours.transmat_ = other.startprob_, other.transmat_
    ours.means_ = other.means_ = x[[5, 100, 300]]
    eyes = {"full": np.stack([np.eye(2)] * 3), "tied": np.eye(2), "diag": np.ones((3, 2))}
    ours.covars_ = other.covars_ = eyes.get(covariance, np.ones(3))
    for _ in range(6):
        assert ours.score(x, LENGTHS) == pytest.approx(other.score(x, LENGTHS), rel=1e-10)
        np.testing.assert_allclose(ours.predict_proba(x, LENGTHS), other.predict_proba(x, LENGTHS), atol=1e-8)
        ours.fit(x, LENGTHS)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            other.fit(x, LENGTHS)
        for name in ("startprob_", "transmat_", "means_"):
            np.testing.assert_allclose(getattr(ours, name), getattr(other, name), rtol=0, atol=1e-8)
        # hmmlearn keeps a spherical one once a feature
        kept = other.covars_[::2] if covariance == "spherical" else other.covars_
        np.testing.assert_allclose(ours.covars_, kept, rtol=0, atol=1e-8)
    for one, two in zip(ours.decode(x, LENGTHS), other.decode(x, LENGTHS), strict=True):
        np.testing.assert_allclose(one, two, rtol=1e-10)


@pytest.mark.parametrize("covariance", ["full", "diag", "spherical"])
def test_an_iteration_of_mixed_states_is_hmmlearns_but_for_where_it_takes_covariances(covariance):
    """hmmlearn takes them about the means before the step, which is not where the likelihood is largest."""
    x = series()
    ours = distem.GMMHMM(2, 2, covariance, init_params="", n_iter=1, tol=0.0)
    other = theirs("gmm", 2, n_mix=2, covariance_type=covariance)
    ours.startprob_, ours.transmat_ = other.startprob_, other.transmat_
    start = np.array([[[0.0, 0.0], [2.0, -1.0]], [[4.0, -1.0], [6.0, -2.0]]])
    ours.means_ = other.means_ = start
    ours.weights_ = other.weights_ = np.array([[0.4, 0.6], [0.7, 0.3]])
    shape = {"full": (2, 2, 1, 1), "diag": (2, 2, 1), "spherical": (2, 2)}[covariance]
    ones = np.ones(shape) * (np.eye(2) if covariance == "full" else np.ones(2 if covariance == "diag" else 1))
    ours.covars_ = other.covars_ = ones
    assert ours.score(x, LENGTHS) == pytest.approx(other.score(x, LENGTHS), rel=1e-10)
    ours.fit(x, LENGTHS)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        other.fit(x, LENGTHS)
    for name in ("startprob_", "transmat_", "weights_", "means_"):
        np.testing.assert_allclose(getattr(ours, name), getattr(other, name), rtol=0, atol=1e-8)
    shift = ours.means_ - start
    went = {
        "full": shift[..., :, None] * shift[..., None, :],
        "diag": shift**2,
        "spherical": (shift**2).mean(axis=2),
    }[covariance]
    np.testing.assert_allclose(ours.covars_ + went, other.covars_, rtol=0, atol=1e-8)


@pytest.mark.parametrize("covariance", COVARIANCES)
def test_mixed_states_climb_and_are_a_chain_of_more_states(covariance):
    x = series()
    mixed = distem.GMMHMM(2, 3, covariance, random_state=0, n_iter=25, tol=1e-9)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        mixed.fit(x, LENGTHS)
    assert (np.diff(mixed.monitor_.history) > -1e-8).all()
    flat = distem.GaussianHMM(6, "full")
    flat.startprob_ = (mixed.startprob_[:, None] * mixed.weights_).ravel()
    ways = mixed.transmat_[:, None, :, None] * np.ones((1, 3, 1, 1)) * mixed.weights_[None, None]
    flat.transmat_, flat.means_ = ways.reshape(6, 6), mixed.means_.reshape(6, 2)
    given = np.repeat(mixed.covars_[:, None], 3, axis=1) if covariance == "tied" else mixed.covars_
    given = given.reshape(6, *given.shape[2:])
    if covariance == "diag":
        given = given[:, :, None] * np.eye(2)
    elif covariance == "spherical":
        given = given[:, None, None] * np.eye(2)
    flat.covars_ = given
    assert mixed.score(x, LENGTHS) == pytest.approx(flat.score(x, LENGTHS), rel=1e-10)


def test_iterations_of_counts_and_symbols_are_hmmlearns():
    rng = np.random.default_rng(1)
    counts = rng.poisson(np.repeat([2.0, 9.0, 4.0], 100))[:, None]
    symbols = np.where(rng.random(300) < 0.7, np.repeat([0, 1, 2], 100), rng.integers(0, 4, 300))[:, None]
    symbols[:4, 0] = [0, 1, 2, 3]
    cases = {
        "poisson": (distem.PoissonHMM, counts, "lambdas_", np.array([[1.0], [5.0]])),
        "categorical": (
            distem.CategoricalHMM,
            symbols,
            "emissionprob_",
            np.array([[0.4, 0.3, 0.2, 0.1], [0.1, 0.2, 0.3, 0.4]]),
        ),
    }
    for kind, (estimator, x, name, start) in cases.items():
        ours, other = estimator(2, init_params="", n_iter=1, tol=0.0), theirs(kind, 2)
        ours.startprob_, ours.transmat_ = other.startprob_, other.transmat_
        setattr(ours, name, start)
        setattr(other, name, start.copy())
        if kind == "categorical":
            other.n_features = 4
        for _ in range(5):
            assert ours.score(x) == pytest.approx(other.score(x), rel=1e-10)
            ours.fit(x)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                other.fit(x)
            for field in ("startprob_", "transmat_", name):
                np.testing.assert_allclose(getattr(ours, field), getattr(other, field), rtol=0, atol=1e-8)
        np.testing.assert_array_equal(ours.predict(x), other.predict(x))


def test_a_lazy_array_gives_the_answers_of_one_in_memory_whatever_its_chunks():
    x = series()
    x[40:60] = np.nan
    whole = distem.GaussianHMM(3, "full", random_state=0, n_iter=60, tol=1e-6).fit(x, LENGTHS)
    for chunks in ((600,), (217, 1, 382), (61,) * 9 + (51,)):
        lazy = da.from_array(x, chunks=(chunks, 1))
        found = distem.GaussianHMM(3, "full", random_state=0, n_iter=60, tol=1e-6).fit(lazy, LENGTHS)
        np.testing.assert_allclose(found.means_, whole.means_, rtol=0, atol=1e-8)
        answers = whole.predict_proba(lazy, LENGTHS), whole.predict(lazy, LENGTHS)
        assert all(isinstance(a, da.Array) for a in answers)
        assert answers[0].chunks[0] == chunks
        np.testing.assert_allclose(answers[0].compute(), whole.predict_proba(x, LENGTHS), rtol=0, atol=1e-10)
        np.testing.assert_array_equal(answers[1].compute(), whole.predict(x, LENGTHS))
        assert whole.score(lazy, LENGTHS) == pytest.approx(whole.score(x, LENGTHS), abs=1e-8)
        assert float(whole.decode(lazy)[0]) == pytest.approx(whole.decode(x)[0], abs=1e-8)


def test_the_dimensions_before_the_last_two_are_sequences():
    x = series().reshape(3, 200, 2)
    apart = distem.GaussianHMM(3, "diag", random_state=0, n_iter=40).fit(x.reshape(600, 2), [200] * 3)
    stood = distem.GaussianHMM(3, "diag", random_state=0, n_iter=40).fit(x)
    np.testing.assert_array_equal(stood.means_, apart.means_)
    hours = xr.DataArray(
        da.from_array(x, chunks=(2, 70, 2)), dims=("airport", "hour", "feature"), coords={"hour": range(200)}
    )
    found = stood.predict_proba(hours)
    assert found.dims == ("airport", "hour", "component")
    assert found.chunks[:2] == hours.chunks[:2]
    np.testing.assert_allclose(found.values, stood.predict_proba(x), rtol=0, atol=1e-10)
    np.testing.assert_allclose(stood.score_sequences(x).sum(), stood.score(hours))
    np.testing.assert_allclose(
        stood.score_sequences(x), stood.score_sequences(x.reshape(600, 2), [200] * 3), rtol=1e-12
    )
    lazily = distem.GaussianHMM(3, "diag", random_state=0, n_iter=40).fit(hours)
    np.testing.assert_allclose(lazily.means_, stood.means_, rtol=0, atol=1e-8)


def test_a_row_that_was_not_observed_says_nothing_and_keeps_its_place():
    """Against the sum over all that it could have been: a chain of symbols."""
    model = distem.CategoricalHMM(2)
    model.startprob_, model.transmat_ = np.array([0.3, 0.7]), np.array([[0.9, 0.1], [0.4, 0.6]])
    model.emissionprob_ = np.array([[0.5, 0.2, 0.3], [0.1, 0.7, 0.2]])
    x = np.array([[0.0], [np.nan], [2.0], [1.0]])
    each = [model.score(np.where(np.isnan(x), symbol, x)) for symbol in range(3)]
    assert model.score(x) == pytest.approx(np.logaddexp.reduce(each), abs=1e-12)
    assert model.predict(x).shape == (4,)


def test_attributes_set_by_hand_answer_without_a_fit():
    model = distem.GaussianHMM(2, "full")
    model.startprob_, model.transmat_ = np.full(2, 0.5), np.array([[0.9, 0.1], [0.1, 0.9]])
    model.means_, model.covars_ = np.array([[0.0], [9.0]]), np.ones((2, 1, 1))
    np.testing.assert_array_equal(model.predict([[0.1], [9.2], [8.8]]), [0, 1, 1])
    x, states = model.sample(2000, random_state=3)
    assert (model.predict(x) == states).mean() > 0.99
    np.testing.assert_allclose(model.get_stationary_distribution(), [0.5, 0.5])
    model.transmat_ = np.array([[0.9, 0.2], [0.1, 0.9]])
    with pytest.raises(FitError, match="transmat_"):
        model.predict([[0.1]])


def test_sequences_of_one_row_and_a_fit_told_to_begin_where_it_stood():
    x = series()
    model = distem.GaussianHMM(3, random_state=0, n_iter=30).fit(x, [1] * 600)
    np.testing.assert_allclose(model.transmat_.sum(axis=1), 1.0)
    again = distem.GaussianHMM(3, random_state=0, n_iter=30, lengths=[1] * 600).fit(x)
    np.testing.assert_array_equal(again.means_, model.means_)
    assert model.score(x, [1] * 600) == pytest.approx(model.score_sequences(x, [1] * 600).sum())


def test_stationary_ties_the_start():
    x = np.random.default_rng(0).poisson(np.repeat([3.0, 12.0, 5.0], 60))[:, None]
    model = distem.PoissonHMM(2, stationary=True, random_state=0, n_iter=200, tol=1e-8).fit(x)
    np.testing.assert_allclose(model.startprob_, model.get_stationary_distribution(), atol=1e-10)
    assert model.monitor_.converged
    assert (np.diff(model.monitor_.history) > -1e-8).all()
    assert len(model.lower_bounds_) == model.n_iter_ == model.monitor_.iter


@pytest.mark.parametrize(
    ("lengths", "fact"),
    [
        ([0, 600], "Sequence 0 has 0 rows"),
        ([100], "add up to 100"),
        ([0.5, 599.5], "lengths"),
        ([-1, 601], "-1"),
    ],
)
def test_lengths_that_do_not_fit_are_refused(lengths, fact):
    for ask in (distem.GaussianHMM(2).fit, distem.PoissonHMM(2).fit):
        with pytest.raises(DataError, match=fact):
            ask(np.abs(np.floor(series())), lengths)


@pytest.mark.parametrize(
    ("estimator", "value", "fact"),
    [
        (distem.PoissonHMM, -1.0, "-1 in row 7.*count"),
        (distem.PoissonHMM, 2.5, "2.5 in row 7.*count"),
        (distem.CategoricalHMM, 1.5, "1.5 in row 7.*symbol"),
        (distem.CategoricalHMM, -2.0, "-2 in row 7.*symbol"),
        (distem.GaussianHMM, np.inf, "infinity"),
    ],
)
def test_what_no_state_can_say_is_refused(estimator, value, fact):
    x = np.tile([0.0, 1.0], 20)[:, None]
    model = estimator(1, n_iter=2, tol=0.0).fit(x)
    x[7] = value
    with pytest.raises(DataError, match=fact):
        estimator(1).fit(x)
    with pytest.raises(DataError, match=r"row 7|infinity"):
        model.predict(x)
    with pytest.raises(DataError, match="features"):
        model.predict(np.zeros((3, 2)))
    if estimator is distem.CategoricalHMM:
        with pytest.raises(DataError, match="from 0 to 1"):
            model.score([[2.0]])


def test_an_unfinished_fit_says_so():
    with pytest.warns(ConvergenceWarning):
        distem.GaussianHMM(3, n_iter=1, tol=1e-9, random_state=0).fit(series())


def test_far_from_the_origin_and_at_any_magnitude():
    x = series()
    plain = distem.GaussianHMM(3, "full", random_state=0, n_iter=30).fit(x)
    far = distem.GaussianHMM(3, "full", random_state=0, n_iter=30).fit(x + 1e7)
    np.testing.assert_allclose(far.covars_, plain.covars_, rtol=1e-5)
    huge = distem.GaussianHMM(3, "full", random_state=0, n_iter=30).fit(x * 1e150)
    assert np.isfinite(huge.score(x * 1e150))
    np.testing.assert_array_equal(huge.predict(x * 1e150), plain.predict(x))


@pytest.mark.parametrize(
    "make", [distem.GaussianHMM, distem.GMMHMM, distem.PoissonHMM, distem.CategoricalHMM]
)
@pytest.mark.parametrize("ask", ["predict", "predict_proba", "decode", "score"])
def test_what_is_not_fitted_cannot_be_asked(make, ask):
    with pytest.raises(NotFittedError):
        getattr(make(2), ask)(np.zeros((3, 1)))


def test_a_stray_symbol_does_not_size_the_model():
    x = np.array([[0.0], [1.0], [1e12], [2.0]])
    with pytest.raises(DataError, match=r"largest symbol of X is 1000000000000.*n_features"):
        distem.CategoricalHMM(2).fit(x)
    with pytest.raises(FitError, match="GiB"):
        distem.CategoricalHMM(2, n_features=10**13).fit(x[:2])


def test_too_few_rows_are_said_or_do():
    with pytest.raises(FitError, match=r"3 components cannot start from 1 row\. Ask for fewer components\.$"):
        distem.GaussianHMM(3).fit(np.zeros((1, 2)))
    model = distem.GaussianHMM(2, init_params="", n_iter=8, tol=0.0)
    model.startprob_, model.transmat_ = np.array([0.5, 0.5]), np.full((2, 2), 0.5)
    model.means_, model.covars_ = np.array([[0.0, 0.0], [1.0, 2.0]]), np.ones((2, 2))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        model.fit(np.array([[0.3, 0.4]]))  # all states collapse onto it: one of them stays
    np.testing.assert_allclose(model.means_[0], [0.3, 0.4])
    with pytest.raises(DataError, match="complex"):
        model.predict(np.zeros((3, 2), complex))


@pytest.mark.parametrize("covariance", COVARIANCES)
@pytest.mark.parametrize("letters", ["st", "tm", ""])
def test_a_fit_changes_what_params_names_as_hmmlearns_does(covariance, letters):
    x = series()
    other = theirs("gaussian", 3, covariance_type=covariance, n_iter=3).set_params(params=letters)
    other.means_ = x[[3, 100, 400]]
    matrices = np.stack([np.eye(2) * v for v in (1.0, 2.0, 3.0)])
    ours = distem.GaussianHMM(3, covariance, n_iter=3, tol=-1.0, init_params="", params=letters)
    other.n_features = ours.n_components and 2
    ours.startprob_, ours.transmat_, ours.means_ = other.startprob_, other.transmat_, other.means_
    ours.covars_ = np.stack([matrices.mean(axis=0)] * 3) if covariance == "tied" else matrices
    flat = {"full": ours.covariances_, "tied": ours.covariances_, "diag": ours.covariances_}
    other._covars_ = flat.get(covariance, np.repeat(ours.covars_[:, :1, 0], 2, axis=1)).copy()
    other.fit(x, LENGTHS)
    ours.fit(x, LENGTHS)
    np.testing.assert_allclose(ours.monitor_.history, other.monitor_.history, rtol=1e-9)
    for name in ("startprob_", "transmat_", "means_"):
        np.testing.assert_allclose(getattr(ours, name), getattr(other, name), rtol=1e-8, atol=1e-12)
    theirs_now = other._covars_[:, 0] if covariance == "spherical" else other._covars_
    np.testing.assert_allclose(ours.covariances_, theirs_now, rtol=1e-8)


@pytest.mark.parametrize("covariance", COVARIANCES)
def test_spreads_are_about_means_that_are_held(covariance):
    """Where hmmlearn, which then sums no means, lets the likelihood fall."""
    x = series()
    model = distem.GaussianHMM(3, covariance, n_iter=1, tol=0.0, init_params="", params="tc")
    model.startprob_, model.transmat_ = np.full(3, 1 / 3), np.full((3, 3), 0.1) + np.eye(3) * 0.7
    model.means_ = means = x[[3, 100, 400]]
    model.covars_ = np.stack([4.0 * np.eye(2)] * 3)
    r = model.predict_proba(x)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        model.fit(x)
    off = x[:, None] - means
    each = np.einsum("nk,nki,nkj->kij", r, off, off) / r.sum(axis=0)[:, None, None]
    tied = np.einsum("k,kij->ij", r.sum(axis=0), each) / len(x)
    diag = np.diagonal(each, axis1=1, axis2=2)
    expected = {"full": each, "tied": tied, "diag": diag, "spherical": diag.mean(axis=1)}[covariance]
    np.testing.assert_allclose(model.covariances_, expected, rtol=1e-9)
    np.testing.assert_array_equal(model.means_, means)


def test_what_params_leaves_out_stays_in_any_model():
    x = series()
    for acceleration in (None, "anderson"):
        model = distem.GMMHMM(2, 2, "tied", params="tcw", random_state=0, n_iter=6, acceleration=acceleration)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            start = distem.GMMHMM(2, 2, "tied", params="", random_state=0, n_iter=1).fit(x)
            model.fit(x)
        np.testing.assert_allclose(model.means_, start.means_, rtol=1e-12)
        np.testing.assert_array_equal(model.startprob_, start.startprob_)
        assert not np.allclose(model.covars_, start.covars_)
        assert (np.diff(model.monitor_.history)[:3] > 0).all()
    for odd in ({"params": "sx"}, {"init_params": "e"}):
        with pytest.raises(FitError, match="The letters are s for startprob_"):
            distem.GaussianHMM(2, **odd).fit(x)


def test_states_are_chosen_and_samples_begun_as_hmmlearn_has_it():
    x = series()
    other = theirs("gaussian", 3).set_params(algorithm="map")
    other.n_features = 2
    other.means_, other.covars_ = x[[3, 100, 400]], np.full((3, 2), 4.0)
    ours = distem.GaussianHMM(3, algorithm="map")
    for name in LETTERS.values():
        setattr(ours, name, getattr(other, name))
    expected, states = other.decode(x, LENGTHS)
    for data in (x, da.from_array(x, chunks=(70, 2)), xr.DataArray(x, dims=("time", "what"))):
        found, chosen = ours.decode(data, LENGTHS)
        assert float(found) == pytest.approx(expected, rel=1e-9)
        np.testing.assert_array_equal(chosen, states)
    np.testing.assert_array_equal(ours.predict(x, LENGTHS), states)
    assert {int(ours.sample(2, random_state=seed, currstate=2)[1][0]) for seed in range(5)} == {2}
    with pytest.raises(FitError, match="0 to 2"):
        ours.sample(2, currstate=3)


@pytest.mark.parametrize(
    "priors", [(3.0, 2.5), (np.array([2.0, 1.0, 4.0]), 1.0 + 5.0 * np.eye(3)), (0.6, 0.3)]
)
def test_priors_of_the_chain_are_hmmlearns(priors):
    rng = np.random.default_rng(0)
    X = np.concatenate([rng.normal(m, 1.0, size=(40, 2)) for m in (0, 3, 0, -2, 3)])
    made = {"n_iter": 6, "tol": -np.inf, "init_params": "", "covars_prior": 0.0, "min_covar": 0.0}
    made |= {"startprob_prior": priors[0], "transmat_prior": priors[1], "covars_weight": 0.0}
    fitted = []
    for kind, more in ((hmm.GaussianHMM, {}), (distem.GaussianHMM, {"implementation": "scaling"})):
        model = kind(3, covariance_type="diag", **made, **more)
        model.startprob_ = np.array([0.2, 0.5, 0.3])
        model.transmat_ = np.array([[0.8, 0.1, 0.1], [0.2, 0.8, 0.0], [0.1, 0.3, 0.6]])
        model.means_ = np.array([[0.0, 0.0], [3.0, 3.0], [-2.0, -2.0]])
        model.covars_ = np.ones((3, 2)) if kind is hmm.GaussianHMM else np.stack([np.eye(2)] * 3)
        fitted.append(model.fit(X, [70, 50, 80]))
    one, two = fitted
    np.testing.assert_allclose(two.monitor_.history, list(one.monitor_.history), rtol=1e-12)
    for name in ("startprob_", "transmat_", "means_"):
        np.testing.assert_allclose(getattr(two, name), getattr(one, name), rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize(
    ("model", "fact"),
    [
        (distem.GaussianHMM(2, covars_prior=1e-2), "covars_prior is 0.01.*reg_covar"),
        (distem.GaussianHMM(2, means_weight=1.0), "means_weight is 1.0"),
        (distem.GaussianHMM(2, min_covar=1e-3), "min_covar is 0.001.*reg_covar"),
        (distem.GMMHMM(2, weights_prior=2.0), "weights_prior is 2.0, and GMMHMM has no such prior"),
        (distem.PoissonHMM(2, lambdas_weight=1.0), "lambdas_weight"),
        (distem.CategoricalHMM(2, emissionprob_prior=2.0), "emissionprob_prior"),
        (distem.PoissonHMM(2, startprob_prior=[1.0, 2.0, 3.0]), r"array of the shape \(2,\)"),
        (distem.PoissonHMM(2, transmat_prior=-1.0), "Give a positive number"),
        (distem.PoissonHMM(2, transmat_prior=2.0, stationary=True), "stationary=True does not go with"),
        (distem.PoissonHMM(2, transmat_prior=2.0, acceleration="anderson"), "does not go with"),
        (distem.PoissonHMM(2, implementation="fast"), "'scaling', 'log'|'log', 'scaling'"),
    ],
)
def test_priors_that_are_not_done_are_refused_with_a_remedy(model, fact):
    with pytest.raises(ValueError, match=fact):
        model.fit(np.zeros((9, 1)))
