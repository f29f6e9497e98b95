"""The hidden Markov estimators: Gaussian, mixed, Poisson and categorical states."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from numbers import Integral, Real
from typing import Any, ClassVar

import numpy as np
import psutil
from numpy.typing import NDArray
from sklearn.utils._param_validation import Interval, StrOptions

from distem.data.prepare import model_variance, transform_for
from distem.data.scan import Scan
from distem.data.transform import Transform
from distem.data.whole import WholePass, odd_row, symbols_up_to
from distem.errors import DataError, FitError
from distem.estimators.attributes import covariances_times, to_model_units, transform_for_asking
from distem.estimators.markov import ChainEstimator
from distem.execution.base import BlockSet
from distem.models.covariance import COVARIANCES
from distem.models.discrete import Categorical, CategoricalTheta, Poisson, PoissonTheta
from distem.models.gaussian import Gaussian, GaussianTheta, in_units, relative_floor
from distem.models.mixed import MixedGaussians, MixedTheta
from distem.models.mixture import MixtureParams
from distem.types import Float64


def refuse_odd(values: NDArray[Any], symbols: int | None) -> None:
    """Raise where a value is no count or symbol."""
    odd_row(values, symbols).refuse(symbols)


class GaussianHMM(ChainEstimator):
    """A hidden Markov model whose states say Gaussian numbers.

    The names are hmmlearn's; from the same start every iteration is hmmlearn's without its priors: none is
    on unless asked for. A sequence may be cut into any chunks of a Dask or xarray array, and the answer is
    the same.

    Parameters
    ----------
    n_components : int
        Number of states.
    covariance_type : {"full", "tied", "diag", "spherical"}
        Shape of the covariances.
    stationary : bool
        Whether the start is tied to the chain's stationary law.
    reg_covar : float
        Added to every variance, in squared units of the data.
    init_params : str
        What is made anew before a fit, by letter: start, transitions, means, covariances. What is not
        among them starts as the attribute was set.
    params : str
        What the fit changes, by the same letters; the rest stays as it begins. None: all.
    algorithm : {"viterbi", "map"}
        How `decode` and `predict` choose states where they are not told: the likeliest path, or the
        likeliest state of each row.
    n_iter : int
        Most iterations; `max_iter` is another name for it, and goes before.
    max_iter : int or None
        See `n_iter`.
    tol : float
        The fit ends when an iteration gains less log-likelihood, summed over all rows.
    random_state : int, RandomState or None
        Decides every random choice.
    lengths : array-like of int, or None
        Rows of each sequence where `fit` is not told.
    acceleration : {"none", "squarem", "anderson"} or None
        None is plain EM.
    verbose, verbose_interval : int
        Print the log-likelihood of every `verbose_interval`-th pass to the log "distem".
    client : distributed.Client or None
        Where to fit; default: the Dask client in scope, or else threads.
    startprob_prior, transmat_prior : float or array-like
        Dirichlet priors, as hmmlearn's: of the shape (k,) and (k, k), or one number for all. 1 is none.
    min_covar, means_prior, means_weight, covars_prior, covars_weight
        hmmlearn's priors of what states say: there are none, and values that would ask for one are refused.
    implementation : {"log", "scaling"}
        hmmlearn's; either gives the same here, for sums are scaled, and in logarithms where that is needed.

    Attributes
    ----------
    startprob_ : ndarray, shape (k,)
    transmat_ : ndarray, shape (k, k)
        From row to column.
    means_ : ndarray, shape (k, d)
    covariances_ : ndarray
        (k, d, d), (d, d), (k, d) or (k,), by `covariance_type`.
    covars_ : ndarray, shape (k, d, d)
        The same as full matrices; may be set in either shape.
    converged_ : bool
    n_iter_ : int
    lower_bounds_ : list of float
        Mean log-likelihood per row before each M-step.
    monitor_ : Monitor
        hmmlearn's `history`, `converged`, `iter`.

    See Also
    --------
    hmmlearn.hmm.GaussianHMM

    Examples
    --------
    >>> import numpy as np, distem
    >>> rng = np.random.default_rng(0)
    >>> X = np.concatenate([rng.normal(m, 1, size=(50, 1)) for m in (0, 5, 0, 5)])
    >>> hmm = distem.GaussianHMM(2, random_state=0, n_iter=50).fit(X)
    >>> np.round(np.sort(hmm.means_.ravel())).tolist()
    [0.0, 5.0]
    >>> int((np.diff(hmm.predict(X)) != 0).sum())
    3
    """

    _letters: ClassVar[dict[str, str]] = {
        "s": "startprob_", "t": "transmat_", "m": "means_", "c": "covariances_"
    }  # fmt: skip
    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        **ChainEstimator._shared,
        "covariance_type": [StrOptions(set(COVARIANCES))],
        "reg_covar": [Interval(Real, 0.0, None, closed="left")],
    }

    means_: Float64
    covariances_: Float64

    def __init__(
        self,
        n_components: int = 1,
        covariance_type: str = "diag",
        *,
        stationary: bool = False,
        reg_covar: float = 0.0,
        init_params: str = "stmc",
        params: str | None = None,
        algorithm: str = "viterbi",
        n_iter: int = 10,
        max_iter: int | None = None,
        tol: float = 1e-2,
        random_state: Any = None,
        lengths: Any = None,
        acceleration: str | None = None,
        verbose: int = 0,
        verbose_interval: int = 10,
        client: Any = None,
        startprob_prior: Any = 1.0,
        transmat_prior: Any = 1.0,
        min_covar: float | None = None,
        means_prior: Any = 0.0,
        means_weight: Any = 0.0,
        covars_prior: Any = None,
        covars_weight: Any = None,
        implementation: str = "log",
    ) -> None:
        self.n_components = n_components
        self.covariance_type = covariance_type
        self.stationary = stationary
        self.reg_covar = reg_covar
        self.init_params = init_params
        self.params = params
        self.algorithm = algorithm
        self.n_iter = n_iter
        self.max_iter = max_iter
        self.tol = tol
        self.random_state = random_state
        self.lengths = lengths
        self.acceleration = acceleration
        self.verbose = verbose
        self.verbose_interval = verbose_interval
        self.client = client
        self.startprob_prior = startprob_prior
        self.transmat_prior = transmat_prior
        self.min_covar = min_covar
        self.means_prior = means_prior
        self.means_weight = means_weight
        self.covars_prior = covars_prior
        self.covars_weight = covars_weight
        self.implementation = implementation

    @property
    def covars_(self) -> Float64:
        """Covariance matrices, shape (k, d, d)."""
        k, d = np.shape(self.means_)
        return COVARIANCES[self.covariance_type].matrices(np.asarray(self.covariances_), k, d)

    @covars_.setter
    def covars_(self, value: Any) -> None:
        given = np.array(value, dtype=np.float64)
        k = self.n_components
        own = {"full": 3, "tied": 2, "diag": 2, "spherical": 1}[self.covariance_type]
        if given.ndim == 3 and own != 3:
            given = COVARIANCES[self.covariance_type].from_matrices(given, np.full(k, 1.0 / k))
        self.covariances_ = given

    def _features(self) -> int:
        return int(np.shape(self.means_)[1])

    def _transform(self, scan: Scan) -> Transform:
        transform = replace(transform_for(scan, "none"), missing="marginalise")
        if transform.scale is not None and self.covariance_type == "spherical":
            return replace(transform, scale=np.full(scan.d, transform.scale.max()))
        return transform

    def _asking(self) -> Transform:
        component, theta = self._theta(Transform.identity())
        params = MixtureParams(np.ones(len(theta.means)), theta)
        return replace(transform_for_asking(params, component.covariance), missing="marginalise")

    def _component(self, scan: Scan, transform: Transform) -> Gaussian:
        variance = model_variance(scan, transform)
        reg_covar = in_units(self.reg_covar, transform.scale)
        return Gaussian(self.covariance_type, reg_covar, relative_floor(self.reg_covar), variance)

    def _theta(self, transform: Transform) -> tuple[Gaussian, GaussianTheta]:
        kind = self.covariance_type
        means = np.asarray(self.means_, dtype=np.float64)
        covariances = np.asarray(self.covariances_, dtype=np.float64)
        k, d = means.shape
        shape = {"full": (k, d, d), "tied": (d, d), "diag": (k, d), "spherical": (k,)}[kind]
        if covariances.shape != shape:
            raise FitError(
                f"The covariances have the shape {covariances.shape}, and means_ {means.shape}.",
                f"For covariance_type {kind!r} give {shape}.",
            )
        component = Gaussian(kind)
        params = MixtureParams(np.ones(k), component.theta(means, covariances))
        return component, to_model_units(params, kind, transform).theta

    def _keep_theta(self, component: Gaussian, theta: GaussianTheta, transform: Transform) -> None:  # noqa: ARG002
        self.means_ = transform.backward_means(theta.means)
        self.covariances_ = theta.covariances
        if transform.scale is not None:
            self.covariances_ = covariances_times(theta.covariances, self.covariance_type, transform.scale)


class GMMHMM(ChainEstimator):
    """A hidden Markov model whose states say mixtures of Gaussians.

    Parameters
    ----------
    n_components : int
        Number of states.
    n_mix : int
        Gaussians of each state.
    covariance_type : {"full", "tied", "diag", "spherical"}
        Shape of the covariances; tied: one for all Gaussians of a state.
    stationary, reg_covar, init_params, n_iter, max_iter, tol, random_state, lengths, acceleration, \
verbose, verbose_interval, client
        See `GaussianHMM`; `init_params` has a w for the weights.
    startprob_prior, transmat_prior, implementation, \
min_covar, weights_prior, means_prior, means_weight, covars_prior, covars_weight
        See `GaussianHMM`.

    Attributes
    ----------
    startprob_, transmat_, converged_, n_iter_, lower_bounds_, monitor_
        See `GaussianHMM`.
    weights_ : ndarray, shape (k, m)
        Of the Gaussians in each state.
    means_ : ndarray, shape (k, m, d)
    covariances_, covars_ : ndarray
        (k, m, d, d), (k, d, d), (k, m, d) or (k, m), by `covariance_type`.

    See Also
    --------
    hmmlearn.hmm.GMMHMM
    """

    _letters: ClassVar[dict[str, str]] = {
        "s": "startprob_", "t": "transmat_", "m": "means_", "c": "covariances_", "w": "weights_"
    }  # fmt: skip
    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        **GaussianHMM._parameter_constraints,
        "n_mix": [Interval(Integral, 1, None, closed="left")],
    }

    weights_: Float64
    means_: Float64
    covariances_: Float64

    def __init__(
        self,
        n_components: int = 1,
        n_mix: int = 1,
        covariance_type: str = "diag",
        *,
        stationary: bool = False,
        reg_covar: float = 0.0,
        init_params: str = "stmcw",
        params: str | None = None,
        algorithm: str = "viterbi",
        n_iter: int = 10,
        max_iter: int | None = None,
        tol: float = 1e-2,
        random_state: Any = None,
        lengths: Any = None,
        acceleration: str | None = None,
        verbose: int = 0,
        verbose_interval: int = 10,
        client: Any = None,
        startprob_prior: Any = 1.0,
        transmat_prior: Any = 1.0,
        min_covar: float | None = None,
        weights_prior: Any = 1.0,
        means_prior: Any = 0.0,
        means_weight: Any = 0.0,
        covars_prior: Any = None,
        covars_weight: Any = None,
        implementation: str = "log",
    ) -> None:
        self.n_components = n_components
        self.n_mix = n_mix
        self.covariance_type = covariance_type
        self.stationary = stationary
        self.reg_covar = reg_covar
        self.init_params = init_params
        self.params = params
        self.algorithm = algorithm
        self.n_iter = n_iter
        self.max_iter = max_iter
        self.tol = tol
        self.random_state = random_state
        self.lengths = lengths
        self.acceleration = acceleration
        self.verbose = verbose
        self.verbose_interval = verbose_interval
        self.client = client
        self.startprob_prior = startprob_prior
        self.transmat_prior = transmat_prior
        self.min_covar = min_covar
        self.weights_prior = weights_prior
        self.means_prior = means_prior
        self.means_weight = means_weight
        self.covars_prior = covars_prior
        self.covars_weight = covars_weight
        self.implementation = implementation

    @property
    def covars_(self) -> Float64:
        """Covariances, by `covariance_type`."""
        return self.covariances_

    @covars_.setter
    def covars_(self, value: Any) -> None:
        self.covariances_ = np.array(value, dtype=np.float64)

    @property
    def _kind(self) -> str:
        return "full" if self.covariance_type == "tied" else self.covariance_type

    def _features(self) -> int:
        return int(np.shape(self.means_)[2])

    def _transform(self, scan: Scan) -> Transform:
        return replace(transform_for(scan, "none"), missing="marginalise", scale=None)

    def _component(self, scan: Scan, transform: Transform) -> MixedGaussians:
        variance = model_variance(scan, transform)
        floor = relative_floor(self.reg_covar)
        inner = Gaussian(self._kind, self.reg_covar, floor, variance)
        return MixedGaussians(inner, self.n_mix, self.covariance_type == "tied")

    def _theta(self, transform: Transform) -> tuple[MixedGaussians, MixedTheta]:
        weights = np.asarray(self.weights_, dtype=np.float64)
        means = np.asarray(self.means_, dtype=np.float64)
        covariances = np.asarray(self.covariances_, dtype=np.float64)
        k, m, d = means.shape
        shape = {"full": (k, m, d, d), "tied": (k, d, d), "diag": (k, m, d), "spherical": (k, m)}
        if covariances.shape != shape[self.covariance_type] or weights.shape != (k, m):
            raise FitError(
                f"weights_ has the shape {weights.shape}, means_ {means.shape}, covars_ {covariances.shape}.",
                f"For covariance_type {self.covariance_type!r} they are (k, m), (k, m, d) and "
                f"{shape[self.covariance_type]}.",
            )
        if self.covariance_type == "tied":
            covariances = np.repeat(covariances[:, None], m, axis=1)
        flat = covariances.reshape(k * m, *covariances.shape[2:])
        inner = Gaussian(self._kind)
        theta = inner.theta(transform.forward_means(means.reshape(k * m, d)), flat)
        tied = self.covariance_type == "tied"
        return MixedGaussians(inner, m, tied), MixedTheta(weights, theta)

    def _keep_theta(self, component: MixedGaussians, theta: MixedTheta, transform: Transform) -> None:
        k, m = theta.mixing.shape
        self.weights_ = theta.mixing
        self.means_ = transform.backward_means(theta.gaussians.means).reshape(k, m, -1)
        covariances = theta.gaussians.covariances
        covariances = covariances.reshape(k, m, *covariances.shape[1:])
        self.covariances_ = covariances[:, 0] if component.tied else covariances


class PoissonHMM(ChainEstimator):
    """A hidden Markov model whose states say counts.

    Parameters
    ----------
    n_components : int
        Number of states.
    stationary, init_params, params, algorithm, n_iter, max_iter, tol, random_state, lengths, acceleration, \
verbose, verbose_interval, client
        See `GaussianHMM`; `init_params` has an l for the rates.
    startprob_prior, transmat_prior, implementation, \
lambdas_prior, lambdas_weight
        See `GaussianHMM`.

    Attributes
    ----------
    startprob_, transmat_, converged_, n_iter_, lower_bounds_, monitor_
        See `GaussianHMM`.
    lambdas_ : ndarray, shape (k, d)
        Rates.

    See Also
    --------
    hmmlearn.hmm.PoissonHMM
    """

    _letters: ClassVar[dict[str, str]] = {"s": "startprob_", "t": "transmat_", "l": "lambdas_"}
    lambdas_: Float64

    def __init__(
        self,
        n_components: int = 1,
        *,
        stationary: bool = False,
        init_params: str = "stl",
        params: str | None = None,
        algorithm: str = "viterbi",
        n_iter: int = 10,
        max_iter: int | None = None,
        tol: float = 1e-2,
        random_state: Any = None,
        lengths: Any = None,
        acceleration: str | None = None,
        verbose: int = 0,
        verbose_interval: int = 10,
        client: Any = None,
        startprob_prior: Any = 1.0,
        transmat_prior: Any = 1.0,
        lambdas_prior: Any = 0.0,
        lambdas_weight: Any = 0.0,
        implementation: str = "log",
    ) -> None:
        self.n_components = n_components
        self.stationary = stationary
        self.init_params = init_params
        self.params = params
        self.algorithm = algorithm
        self.n_iter = n_iter
        self.max_iter = max_iter
        self.tol = tol
        self.random_state = random_state
        self.lengths = lengths
        self.acceleration = acceleration
        self.verbose = verbose
        self.verbose_interval = verbose_interval
        self.client = client
        self.startprob_prior = startprob_prior
        self.transmat_prior = transmat_prior
        self.lambdas_prior = lambdas_prior
        self.lambdas_weight = lambdas_weight
        self.implementation = implementation

    def _features(self) -> int:
        return int(np.shape(self.lambdas_)[1])

    def _check_rows(self, blocks: BlockSet, scan: Scan) -> None:  # noqa: ARG002
        blocks.map_reduce(WholePass(None)).refuse(None)

    def _guard(self) -> Callable[[NDArray[Any]], None]:
        return partial(refuse_odd, symbols=None)

    def _component(self, scan: Scan, transform: Transform) -> Poisson:  # noqa: ARG002
        return Poisson()

    def _theta(self, transform: Transform) -> tuple[Poisson, PoissonTheta]:  # noqa: ARG002
        rates = np.asarray(self.lambdas_, dtype=np.float64)
        if rates.ndim != 2 or not (np.isfinite(rates).all() and (rates >= 0).all()):
            raise FitError("lambdas_ must be non-negative numbers of the shape (k, d).", "Set them so.")
        return Poisson(), PoissonTheta(np.maximum(rates, 1e-12))

    def _keep_theta(self, component: Poisson, theta: PoissonTheta, transform: Transform) -> None:  # noqa: ARG002
        self.lambdas_ = theta.rates


class CategoricalHMM(ChainEstimator):
    """A hidden Markov model whose states say one of m symbols, 0 to m - 1.

    Parameters
    ----------
    n_components : int
        Number of states.
    stationary : bool
        Whether the start is tied to the chain's stationary law.
    n_features : int or None
        Symbols, m; None: one more than the largest in the data.
    init_params, params, algorithm, n_iter, max_iter, tol, random_state, lengths, acceleration, verbose, \
verbose_interval, client
        See `GaussianHMM`; `init_params` has an e for the emissions.
    startprob_prior, transmat_prior, implementation, \
emissionprob_prior
        See `GaussianHMM`.

    Attributes
    ----------
    startprob_, transmat_, converged_, n_iter_, lower_bounds_, monitor_
        See `GaussianHMM`.
    emissionprob_ : ndarray, shape (k, m)
        Probability of each symbol in each state.

    See Also
    --------
    hmmlearn.hmm.CategoricalHMM
    """

    _letters: ClassVar[dict[str, str]] = {"s": "startprob_", "t": "transmat_", "e": "emissionprob_"}
    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        **ChainEstimator._shared,
        "n_features": [Interval(Integral, 1, None, closed="left"), None],
    }
    emissionprob_: Float64

    def __init__(
        self,
        n_components: int = 1,
        *,
        stationary: bool = False,
        n_features: int | None = None,
        init_params: str = "ste",
        params: str | None = None,
        algorithm: str = "viterbi",
        n_iter: int = 10,
        max_iter: int | None = None,
        tol: float = 1e-2,
        random_state: Any = None,
        lengths: Any = None,
        acceleration: str | None = None,
        verbose: int = 0,
        verbose_interval: int = 10,
        client: Any = None,
        startprob_prior: Any = 1.0,
        transmat_prior: Any = 1.0,
        emissionprob_prior: Any = 1.0,
        implementation: str = "log",
    ) -> None:
        self.n_components = n_components
        self.stationary = stationary
        self.n_features = n_features
        self.init_params = init_params
        self.params = params
        self.algorithm = algorithm
        self.n_iter = n_iter
        self.max_iter = max_iter
        self.tol = tol
        self.random_state = random_state
        self.lengths = lengths
        self.acceleration = acceleration
        self.verbose = verbose
        self.verbose_interval = verbose_interval
        self.client = client
        self.startprob_prior = startprob_prior
        self.transmat_prior = transmat_prior
        self.emissionprob_prior = emissionprob_prior
        self.implementation = implementation

    def _features(self) -> int:
        return 1

    def _check_rows(self, blocks: BlockSet, scan: Scan) -> None:
        if scan.d != 1:
            raise DataError(f"X has {scan.d} features; symbols are one a row.", "Hand over one column.")
        symbols = self.n_features or 0
        blocks.map_reduce(WholePass(symbols)).refuse(symbols)

    def _guard(self) -> Callable[[NDArray[Any]], None]:
        return partial(refuse_odd, symbols=int(np.shape(self.emissionprob_)[1]))

    def _component(self, scan: Scan, transform: Transform) -> Categorical:  # noqa: ARG002
        if self.n_features is None:
            return Categorical(symbols_up_to(float(scan.maximum[0]), "X", "n_features"))
        needed = 64 * self.n_components * self.n_features  # parameters, statistics, and what a step makes
        if needed > psutil.virtual_memory().available:
            raise FitError(
                f"{self.n_components} states that say one of {self.n_features:,} symbols need "
                f"{needed / 2**30:,.1f} GiB, more than there is.",
                "Lower n_features or n_components.",
            )
        return Categorical(self.n_features)

    def _theta(self, transform: Transform) -> tuple[Categorical, CategoricalTheta]:  # noqa: ARG002
        shares = np.asarray(self.emissionprob_, dtype=np.float64)
        if shares.ndim != 2 or (shares < 0).any() or not np.allclose(shares.sum(axis=1), 1.0):
            raise FitError(
                "emissionprob_ must be non-negative, of the shape (k, m), and sum to 1 in each row.",
                "Divide by the sums.",
            )
        return Categorical(shares.shape[1]), CategoricalTheta(shares)

    def _keep_theta(self, component: Categorical, theta: CategoricalTheta, transform: Transform) -> None:  # noqa: ARG002
        self.emissionprob_ = theta.probabilities
