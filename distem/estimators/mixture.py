"""Gaussian mixtures with scikit-learn's arguments and attributes."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from numbers import Integral, Real
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import DensityMixin
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils import check_random_state
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.validation import check_is_fitted

from distem._random import generator
from distem.data.prepare import model_variance, transform_for
from distem.data.scan import Scan
from distem.data.transform import Transform
from distem.em.acceleration import accelerator
from distem.em.loop import Climb, Fit, climb
from distem.em.repair import Repair
from distem.em.stopping import Change, FirstOf, MaxPasses
from distem.errors import FitError
from distem.estimators.attributes import (
    covariances_times,
    factors_times,
    held,
    inverse,
    inverse_of_factors,
    to_model_units,
    transform_for_asking,
    triangular,
)
from distem.estimators.base import SAMPLE_ROWS, Estimator, scanned
from distem.execution.base import BlockSet, Executor, one_blas_thread
from distem.inputs import Input
from distem.kernels.compiled import warm_all
from distem.models import seeding
from distem.models.covariance import COVARIANCES
from distem.models.gaussian import Gaussian, GaussianTheta, in_units, relative_floor
from distem.models.mixture import Mixture, MixtureParams
from distem.types import Assignment, Float64, Ints, Rows


class GaussianMixture(DensityMixin, Estimator):  # type: ignore[misc]  # scikit-learn is untyped
    """A Gaussian mixture fitted by EM, on data of any size.

    The arguments and fitted attributes are those of ``sklearn.mixture.GaussianMixture``; from the
    same start the parameters after m steps are scikit-learn's. Besides: row weights, acceleration,
    and Dask, xarray and Zarr input, whose last dimension is the feature.

    Parameters
    ----------
    n_components : int
        Number of components.
    covariance_type : {"full", "tied", "diag", "spherical"}
        Shape of the covariances.
    tol : float
        The fit ends when a step changes the log-likelihood per row by less.
    reg_covar : float
        Added to the diagonal of every covariance, in squared units of the data.
    max_iter : int
        Largest number of M-steps.
    n_init : int
        Starts; the likeliest fit is kept. All starts share each pass over the data.
    init_params : {"kmeans", "k-means++", "random", "random_from_data", "kmeans||"}
        How a start is made.
    weights_init, means_init, precisions_init : array-like or None
        Starting parameters; they take the place of those that `init_params` finds.
    random_state : int, RandomState or None
        Decides every random choice; for one of them the result does not depend on the executor.
    warm_start : bool
        Start from the last fit.
    verbose : int
        Print the log-likelihood of every `verbose_interval`-th pass to the log "distem".
    verbose_interval : int
        See `verbose`.
    acceleration : {"none", "squarem", "anderson"} or None
        None is plain EM, never "automatic".
    init_scale : {"none", "whiten"}
        Units in which a start measures distance: the data's, or whitened by its covariance, so that clusters
        that are long in one direction are not cut across.
    client : distributed.Client or None
        Where to run; default: the Dask client in scope, or else threads.

    Attributes
    ----------
    weights_ : ndarray, shape (k,)
    means_ : ndarray, shape (k, d)
    covariances_, precisions_, precisions_cholesky_ : ndarray
        (k, d, d), (d, d), (k, d) or (k,), by `covariance_type`. A component that collapsed for good
        was dropped: k may be less than `n_components`.
    converged_ : bool
    n_iter_ : int
        M-steps of the best start.
    lower_bound_ : float
        Mean log-likelihood per row before the last M-step.
    lower_bounds_ : list of float
        The same before each M-step: one entry a pass, accelerated ones that were taken back included.
    n_features_in_ : int

    See Also
    --------
    sklearn.mixture.GaussianMixture

    Examples
    --------
    >>> import numpy as np, distem
    >>> X = np.concatenate([np.full((50, 1), -1.0), np.full((50, 1), 1.0)])
    >>> X = X + np.random.default_rng(0).normal(scale=0.1, size=X.shape)
    >>> gm = distem.GaussianMixture(2, random_state=0).fit(X)
    >>> bool(abs(np.sort(gm.means_.ravel()) - [-1, 1]).max() < 0.1)
    True
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "n_components": [Interval(Integral, 1, None, closed="left")],
        "covariance_type": [StrOptions(set(COVARIANCES))],
        "tol": [Interval(Real, 0.0, None, closed="left")],
        "reg_covar": [Interval(Real, 0.0, None, closed="left")],
        "max_iter": [Interval(Integral, 0, None, closed="left")],
        "n_init": [Interval(Integral, 1, None, closed="left")],
        "init_params": [StrOptions({"kmeans", "k-means++", "random", "random_from_data", "kmeans||"})],
        "weights_init": ["array-like", None],
        "means_init": ["array-like", None],
        "precisions_init": ["array-like", None],
        "random_state": ["random_state"],
        "warm_start": ["boolean"],
        "verbose": ["verbose"],
        "verbose_interval": [Interval(Integral, 1, None, closed="left")],
        "acceleration": [StrOptions({"none", "squarem", "anderson"}), None],
        "init_scale": [StrOptions({"none", "whiten"})],
        "client": [object, None],
    }

    weights_: Float64
    means_: Float64
    covariances_: Float64
    precisions_cholesky_: Float64

    def __init__(
        self,
        n_components: int = 1,
        *,
        covariance_type: str = "full",
        tol: float = 1e-3,
        reg_covar: float = 1e-6,
        max_iter: int = 100,
        n_init: int = 1,
        init_params: str = "kmeans",
        weights_init: ArrayLike | None = None,
        means_init: ArrayLike | None = None,
        precisions_init: ArrayLike | None = None,
        random_state: Any = None,
        warm_start: bool = False,
        verbose: int = 0,
        verbose_interval: int = 10,
        acceleration: str | None = None,
        init_scale: str = "none",
        client: Any = None,
    ) -> None:
        self.n_components = n_components
        self.covariance_type = covariance_type
        self.tol = tol
        self.reg_covar = reg_covar
        self.max_iter = max_iter
        self.n_init = n_init
        self.init_params = init_params
        self.weights_init = weights_init
        self.means_init = means_init
        self.precisions_init = precisions_init
        self.random_state = random_state
        self.warm_start = warm_start
        self.verbose = verbose
        self.verbose_interval = verbose_interval
        self.acceleration = acceleration
        self.init_scale = init_scale
        self.client = client

    # fitting

    def fit(self, X: Any, y: Any = None, sample_weight: Any = None) -> Self:  # noqa: ARG002 -- scikit-learn's
        """Fit the mixture.

        Parameters
        ----------
        X : array-like, shape (..., d)
            NumPy (n, d), a data frame, Dask, xarray or Zarr; features last.
        y : None
            Ignored.
        sample_weight : array-like, shape (...,), or None
            Non-negative weight of each row.

        Returns
        -------
        self

        Raises
        ------
        ValueError
            Of distem's kinds: missing values (names the row), fewer rows than components, and so on.
        """
        self._validate_params()
        data = self._open(X, sample_weight, ("n_components", self.n_components))
        warm = partial(warm_all, (self.covariance_type,), "float64")
        with self._executor(data, warm) as executor:
            self._fit(data, executor)
        return self

    def fit_predict(self, X: Any, y: Any = None, sample_weight: Any = None) -> Any:
        """Fit, and return the labels of the rows."""
        return self.fit(X, y, sample_weight).predict(X)

    def _fit(self, data: Input, executor: Executor) -> None:
        scan = scanned(data, executor)
        transform = transform_for(scan, "none")
        if transform.scale is not None and self.covariance_type == "spherical":
            transform = replace(transform, scale=np.full(data.d, transform.scale.max()))
        model = self._model(scan, transform)
        with self._blocks(data, transform, executor) as blocks:
            climbs = self._climbs(blocks, scan, transform, model)
            climb(climbs, blocks, observe=self._tell)
        self._keep(model, max((c.fit for c in climbs), key=lambda fit: fit.log_likelihood), transform)

    def _model(self, scan: Scan, transform: Transform) -> Mixture:
        reg_covar = in_units(self.reg_covar, transform.scale)
        variance = model_variance(scan, transform)
        return Mixture(Gaussian(self.covariance_type, reg_covar, relative_floor(self.reg_covar), variance))

    def _climbs(self, blocks: BlockSet, scan: Scan, transform: Transform, model: Mixture) -> list[Climb]:
        state = check_random_state(self.random_state)
        seed = int(state.randint(2**31 - 1))
        k = self.n_components
        sample = blocks.map_reduce(seeding.DrawSample(SAMPLE_ROWS, scan.usable, seed))
        stop = FirstOf((Change(self.tol), MaxPasses(max(1, self.max_iter))))
        keys = {(k, restart): k for restart in range(self._starts)}
        centres = {}
        if self.init_params == "kmeans||" and not self._given:
            centres = seeding.kmeans_parallel(blocks, keys, sample, seed, self._units(sample))
        climbs = []
        with one_blas_thread():
            for key in keys:
                start = self._start(
                    model, transform, sample, generator(seed, "start", *key), centres.get(key)
                )
                repair = Repair(sample.values, seed, 3 * k)
                climbs.append(Climb(str(key[1]), model, start, stop, repair, accelerator(self.acceleration)))
        return climbs

    @property
    def _continues(self) -> bool:
        return self.warm_start and hasattr(self, "precisions_cholesky_")

    @property
    def _given(self) -> bool:
        every = (
            self.weights_init is not None and self.means_init is not None and self.precisions_init is not None
        )
        return self._continues or every

    @property
    def _starts(self) -> int:
        return 1 if self._given else self.n_init

    def _units(self, sample: seeding.Sample) -> Float64 | None:
        return seeding.whitening(sample) if self.init_scale == "whiten" else None

    def _start(
        self,
        model: Mixture,
        transform: Transform,
        sample: seeding.Sample,
        rng: np.random.Generator,
        centres: Float64 | None,
    ) -> MixtureParams:
        component = model.component
        if self._continues:
            return to_model_units(self._params, self.covariance_type, transform)
        d, k = sample.values.shape[1], self.n_components
        weights, means, matrices = np.full(k, 1.0 / k), np.zeros((k, d)), np.zeros((k, d, d))
        if not self._given:
            init = self.init_params.replace("k-means", "kmeans")
            found = seeding.start(init, model, k, sample, rng, centres, self._units(sample))
            weights, means = found.weights, found.theta.means
            matrices = component.shape.matrices(found.theta.covariances, k, d)
        if self.weights_init is not None:
            weights = self._checked("weights_init", (k,))
            if (weights < 0).any() or not np.isclose(weights.sum(), 1.0):
                raise FitError(
                    f"weights_init must be non-negative and sum to 1; it sums to {weights.sum():g}."
                )
        if self.means_init is not None:
            means = transform.forward_means(self._checked("means_init", (k, d)))
        if self.precisions_init is not None:
            shapes = {"full": (k, d, d), "tied": (d, d), "diag": (k, d), "spherical": (k,)}
            precisions = self._checked("precisions_init", shapes[self.covariance_type])
            covariances = inverse(precisions, self.covariance_type)
            matrices = transform.forward_covariances(component.shape.matrices(covariances, k, d))
        return MixtureParams(weights, component.from_matrices(means, matrices, weights))

    def _checked(self, name: str, shape: tuple[int, ...]) -> Float64:
        value: Float64 = np.array(getattr(self, name), dtype=np.float64)
        if value.shape != shape:
            raise FitError(f"The parameter {name!r} should have the shape {shape}, but got {value.shape}.")
        if not np.isfinite(value).all():
            raise FitError(f"The parameter {name!r} holds NaN or infinity.")
        return value

    def _keep(self, model: Mixture, best: Fit, transform: Transform) -> None:
        params = best.params
        if self.max_iter > 0:
            with one_blas_thread():  # the statistics are at hand: scikit-learn takes this step too
                params = model.m_step(best.stats, best.params)
        theta, offset = params.theta, transform.log_jacobian
        self.weights_ = params.weights
        self.means_ = transform.backward_means(theta.means)
        self.covariances_, self.precisions_cholesky_ = theta.covariances, theta.precisions_cholesky
        if transform.scale is not None:
            kind, scale = self.covariance_type, transform.scale
            self.covariances_ = covariances_times(theta.covariances, kind, scale)
            self.precisions_cholesky_ = factors_times(theta.precisions_cholesky, kind, 1.0 / scale)
        self.converged_ = best.reason.converged
        self.lower_bounds_ = [point.log_likelihood + offset for point in best.trace]
        self.n_iter_ = len(best.trace) if self.max_iter > 0 else 0
        self.lower_bound_ = best.log_likelihood + offset
        self.n_features_in_ = int(self.means_.shape[1])
        if not self.converged_ and self.max_iter > 0:
            warnings.warn(best.reason.sentence, ConvergenceWarning, stacklevel=4)

    # asking

    @property
    def precisions_(self) -> Float64:
        """Inverse covariances, in the shape of `covariances_`."""
        factors = self.precisions_cholesky_
        with np.errstate(over="ignore"):
            if self.covariance_type in ("diag", "spherical"):
                return held(factors**2)
            return held(factors @ np.swapaxes(factors, -1, -2))

    @property
    def _params(self) -> MixtureParams:
        """Parameters as the public attributes have them now, whoever set them."""
        check_is_fitted(self, ["weights_", "means_", "precisions_cholesky_"])
        weights, means = np.asarray(self.weights_, np.float64), np.asarray(self.means_, np.float64)
        factors = np.asarray(self.precisions_cholesky_, np.float64)
        covariances = getattr(self, "covariances_", None)
        if covariances is None:
            covariances = inverse_of_factors(factors, self.covariance_type)
        factors = triangular(factors, self.covariance_type)
        return MixtureParams(weights, GaussianTheta(means, np.asarray(covariances, np.float64), factors))

    def _answer(
        self, X: Any, what: Callable[[Assignment], NDArray[Any]], name: str, k: int | None = None
    ) -> Any:
        params = self._params
        model = Mixture(Gaussian(self.covariance_type))
        transform = transform_for_asking(params, self.covariance_type)
        scaled = to_model_units(params, self.covariance_type, transform)
        d = int(params.theta.means.shape[1])

        def answer(values: NDArray[Any], start: Sequence[int]) -> NDArray[Any]:  # noqa: ARG001
            rows = np.ascontiguousarray(transform.forward(values))
            found = model.assign(Rows(rows), scaled, probability=k is not None)
            return what(replace(found, log_density=found.log_density + transform.log_jacobian))

        trailing = () if k is None else (("component", k),)
        return self._map(X, answer, trailing, np.int64 if name == "label" else np.float64, d, name)

    def predict(self, X: Any) -> Any:
        """Most probable component of each row, shape (...,)."""
        return self._answer(X, lambda found: found.label, "label")

    def predict_proba(self, X: Any) -> Any:
        """Responsibilities, shape (..., k)."""

        def probability(found: Assignment) -> Float64:
            return np.empty((0, 0)) if found.probability is None else found.probability

        return self._answer(X, probability, "probability", len(self._params.weights))

    def score_samples(self, X: Any) -> Any:
        """Log density of each row, natural log, shape (...,)."""
        return self._answer(X, lambda found: found.log_density, "log_density")

    def score(self, X: Any, y: Any = None) -> float:  # noqa: ARG002 -- scikit-learn's
        """Mean log density of the rows."""
        total, n = self._log_likelihood(X)
        return total / n

    def _log_likelihood(self, X: Any) -> tuple[float, int]:
        """Sum of the rows' log densities, and how many rows there are."""
        density = self.score_samples(X)
        return float(np.asarray(density.mean())) * density.size, int(density.size)

    def _n_parameters(self) -> int:
        return Mixture(Gaussian(self.covariance_type)).n_parameters(self._params)

    def bic(self, X: Any) -> float:
        """Bayesian information criterion on `X`; less is better."""
        total, n = self._log_likelihood(X)
        return float(-2.0 * total + self._n_parameters() * np.log(n))

    def aic(self, X: Any) -> float:
        """Akaike's information criterion on `X`; less is better."""
        return -2.0 * self._log_likelihood(X)[0] + 2.0 * self._n_parameters()

    def sample(self, n_samples: int = 1) -> tuple[Float64, Ints]:
        """Draw rows from the mixture.

        Returns
        -------
        X : ndarray, shape (n_samples, d)
        y : ndarray, shape (n_samples,)
            The component of each; rows are grouped by it.
        """
        if n_samples < 1:
            raise FitError(
                f"Invalid value for 'n_samples': {n_samples}. The sampling requires at least one sample."
            )
        state = check_random_state(self.random_state)
        rng = np.random.default_rng(state.randint(2**31 - 1))
        params = self._params
        transform = transform_for_asking(params, self.covariance_type)
        scaled = to_model_units(params, self.covariance_type, transform)
        drawn, labels = Mixture(Gaussian(self.covariance_type)).sample(scaled, n_samples, rng)
        with np.errstate(over="ignore"):
            return held(transform.backward_means(drawn)), labels
