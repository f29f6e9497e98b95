"""Mixtures of linear regressions with scikit-learn's manners."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import replace
from numbers import Integral, Real
from typing import Any, ClassVar, Self

import numpy as np
import xarray as xr
import zarr
from numpy.typing import ArrayLike, NDArray
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils import check_random_state
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.validation import check_is_fitted

from distem._random import generator
from distem.data.prepare import transform_for
from distem.data.scan import Scan
from distem.data.transform import Transform
from distem.em.acceleration import accelerator
from distem.em.loop import Climb, Fit, climb
from distem.em.repair import Repair
from distem.em.stopping import Change, FirstOf, MaxPasses
from distem.errors import DataError, FitError
from distem.estimators.base import SAMPLE_ROWS, Estimator, scanned
from distem.execution.base import BlockSet, one_blas_thread
from distem.inputs import features_last, uses_dask
from distem.kernels import regression_compiled
from distem.models import regression as models
from distem.models import seeding
from distem.models.covariance import COVARIANCES
from distem.models.design import Design, to_data_units
from distem.models.regression import RegressionParams
from distem.models.regression_start import start
from distem.rowwise import map_rows, refuse_missing
from distem.types import Assignment, Float64, Ints, Rows


class RegressionMixture(Estimator):
    """A mixture of linear regressions fitted by EM, on data of any size.

    A component expects of a row's responses y a linear function of its predictors X, with noise of its own.
    Of X no law is asked.

    Parameters
    ----------
    n_components : int
        Number of regressions.
    fit_intercept : bool
        Whether regressions have a constant. A constant column of X takes its place.
    covariance_type : {"diag", "full"}
        Whether the noise of a row's responses is independent.
    position : sequence of int or None
        Columns of X that say where a row lies: each component then has a Gaussian of the position too, and
        densities are those of responses and position.
    outliers : bool
        Whether there is one component more, the last, of the same density all over the range of the
        responses (and positions); its share is estimated.
    tol : float
        The fit ends when a step changes the log-likelihood per row by less.
    noise_floor : float
        Least standard deviation of a component's noise, relative to that of the responses.
    max_iter : int
        Largest number of M-steps.
    n_init : int
        Starts; the likeliest fit is kept. All starts share each pass over the data.
    random_state : int, RandomState or None
        Decides every random choice; for one of them the result does not depend on the executor.
    acceleration : {"none", "squarem", "anderson"} or None
        None is plain EM, never "automatic".
    verbose, verbose_interval : int
        Print the log-likelihood of every `verbose_interval`-th pass to the log "distem".
    client : distributed.Client or None
        Where to run; default: the Dask client in scope, or else threads.

    Attributes
    ----------
    weights_ : ndarray, shape (k,), or (k + 1,) with outliers
    coef_ : ndarray, shape (k, m), or (k, q, m) where y has a dimension of responses
        Of the m columns of X.
    intercept_ : ndarray, shape (k,) or (k, q)
    noise_ : ndarray, shape (k,) or (k, q)
        Standard deviation of the noise of each response.
    covariances_ : ndarray, shape (k, q) or (k, q, q)
        Variances or covariances of the noise, by `covariance_type`.
    labels_ : array, shape (...,)
        Most probable component of each row; that of outliers is k. Lazy where the input is.
    outlier_log_density_ : float
        Log density of an outlier; minus infinity where there are none.
    position_means_, position_covariances_ : ndarray, shape (k, s), (k, s, s)
        Where the components' rows lie.
    lower_bounds_ : list of float
        Mean log-likelihood per row before each M-step: one entry a pass.
    converged_, n_iter_, lower_bound_, n_features_in_
        As in scikit-learn.

    Examples
    --------
    >>> import numpy as np, distem
    >>> rng = np.random.default_rng(0)
    >>> X = rng.uniform(-1, 1, size=(400, 1))
    >>> y = np.where(rng.random(400) < 0.5, 3 * X[:, 0], -2 * X[:, 0]) + 0.1 * rng.normal(size=400)
    >>> rm = distem.RegressionMixture(2, random_state=0).fit(X, y)
    >>> np.sort(rm.coef_.ravel()).round(1)
    array([-2.,  3.])
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "n_components": [Interval(Integral, 1, None, closed="left")],
        "fit_intercept": ["boolean"],
        "covariance_type": [StrOptions({"diag", "full"})],
        "position": ["array-like", None],
        "outliers": ["boolean"],
        "tol": [Interval(Real, 0.0, None, closed="left")],
        "noise_floor": [Interval(Real, 0.0, None, closed="left")],
        "max_iter": [Interval(Integral, 1, None, closed="left")],
        "n_init": [Interval(Integral, 1, None, closed="left")],
        "random_state": ["random_state"],
        "acceleration": [StrOptions({"none", "squarem", "anderson"}), None],
        "verbose": ["verbose"],
        "verbose_interval": [Interval(Integral, 1, None, closed="left")],
        "client": [object, None],
    }

    weights_: Float64
    coef_: Float64
    intercept_: Float64
    noise_: Float64
    covariances_: Float64
    labels_: Any

    def __init__(
        self,
        n_components: int = 2,
        *,
        fit_intercept: bool = True,
        covariance_type: str = "diag",
        position: ArrayLike | None = None,
        outliers: bool = False,
        tol: float = 1e-9,
        noise_floor: float = 1e-6,
        max_iter: int = 1000,
        n_init: int = 4,
        random_state: Any = None,
        acceleration: str | None = None,
        verbose: int = 0,
        verbose_interval: int = 10,
        client: Any = None,
    ) -> None:
        self.n_components = n_components
        self.fit_intercept = fit_intercept
        self.covariance_type = covariance_type
        self.position = position
        self.outliers = outliers
        self.tol = tol
        self.noise_floor = noise_floor
        self.max_iter = max_iter
        self.n_init = n_init
        self.random_state = random_state
        self.acceleration = acceleration
        self.verbose = verbose
        self.verbose_interval = verbose_interval
        self.client = client

    # fitting

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:
        """Fit the regressions.

        Parameters
        ----------
        X : array-like, shape (..., m)
            Predictors, the design's columns: NumPy (n, m), a data frame, Dask, xarray or Zarr.
        y : array-like, shape (...,) or (..., q)
            Responses.
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
        together, m, self._flat = _together(X, y)
        q = int(together.shape[-1]) - m
        data = self._open(together, sample_weight, ("n_components", self.n_components))
        self.n_features_in_ = m
        with self._executor(data, regression_compiled.warm) as executor:
            scan = scanned(data, executor)
            design, transform = self._units(scan, m)
            model = self._model(scan, transform, design, q)
            with self._blocks(data, transform, executor) as blocks:
                climbs = self._climbs(blocks, scan, model)
                climb(climbs, blocks, observe=self._tell)
        best = max((c.fit for c in climbs), key=lambda fit: fit.log_likelihood)
        with one_blas_thread():  # the statistics are at hand
            params = model.m_step(best.stats, best.params)
            self._keep(model, best, params, transform, design, scan)
        self.labels_ = self.predict(X, y)
        return self

    def _units(self, scan: Scan, m: int) -> tuple[Design, Transform]:
        """The design's terms by column, and units in which they are near one."""
        standard = transform_for(scan, "standard")
        shift, scale = np.asarray(standard.shift), np.asarray(standard.scale)
        constant = scan.constant[:m] & (scan.mean[:m] != 0.0)
        varying = [j for j in range(m) if not scan.constant[j]]
        intercept = bool(self.fit_intercept or constant.any())
        if not varying and not intercept:
            raise DataError("All columns of X are zero.", "Give a column that is not, or fit an intercept.")
        full = Design.linear([f"x{j}" for j in range(m)])
        terms = [full.terms[0]] * intercept + [full.terms[j + 1] for j in varying]
        if not intercept:  # without a constant zero stays zero
            placed = np.zeros(scan.d, dtype=bool)
            placed[list(self._position())] = False
            shift = np.where(placed, shift, 0.0)
        return Design(full.names, tuple(terms)), replace(standard, missing="keep", shift=shift, scale=scale)

    def _position(self) -> tuple[int, ...]:
        columns = () if self.position is None else np.atleast_1d(np.asarray(self.position))
        found = tuple(int(j) for j in columns)
        if any(not 0 <= j < self.n_features_in_ for j in found) or len(set(found)) < len(found):
            raise FitError(
                f"position is {list(found)}; X has the columns 0 to {self.n_features_in_ - 1}.",
                "Name columns of X, each once.",
            )
        return found

    def _model(self, scan: Scan, transform: Transform, design: Design, q: int) -> models.RegressionMixture:
        outlier = -np.inf
        if self.outliers:
            scale = np.asarray(transform.scale)
            columns = [*self._position(), *range(scan.d - q, scan.d)]
            sides = (scan.maximum / scale - scan.minimum / scale)[columns]
            if not (sides > 0).all():
                raise DataError(
                    "A response, or a position, has one value only: outliers have no range to lie in.",
                    "Leave outliers out.",
                )
            outlier = -float(np.log(sides).sum())
        floor = max(self.noise_floor**2, 1e-24)
        layout = design.layout(q, self._position())
        return models.RegressionMixture(layout, self.covariance_type, floor, log_outlier=outlier)

    def _climbs(self, blocks: BlockSet, scan: Scan, model: models.RegressionMixture) -> list[Climb]:
        seed = int(check_random_state(self.random_state).randint(2**31 - 1))
        sample = blocks.map_reduce(seeding.DrawSample(SAMPLE_ROWS, scan.usable, seed))
        stop = FirstOf((Change(self.tol), MaxPasses(self.max_iter)))
        climbs = []
        with one_blas_thread():
            for restart in range(self.n_init):
                begun = start(model, self.n_components, sample, generator(seed, "start", restart))
                repair = Repair(sample.values, seed, 3 * self.n_components)
                climbs.append(Climb(str(restart), model, begun, stop, repair, accelerator(self.acceleration)))
        return climbs

    def _keep(
        self,
        model: models.RegressionMixture,
        best: Fit,
        params: RegressionParams,
        transform: Transform,
        design: Design,
        scan: Scan,
    ) -> None:
        m, shift, scale = self.n_features_in_, np.asarray(transform.shift), np.asarray(transform.scale)
        coef = to_data_units(design, params.coef, (shift[:m], scale[:m]), (shift[m:], scale[m:]))
        k, _, q = coef.shape
        intercept, slopes = np.zeros((k, q)), np.zeros((k, q, m))
        for i, powers in enumerate(design.terms):
            if any(powers):
                slopes[:, :, powers.index(1)] = coef[:, i]
            else:
                intercept = coef[:, i]
        ones = np.flatnonzero(scan.constant[:m] & (scan.mean[:m] != 0.0))
        if ones.size:  # a column of X is the constant
            slopes[:, :, ones[0]] = intercept / scan.minimum[ones[0]]
            intercept = np.zeros((k, q))
        variances = model.shape.variances(params.noise, k, q)
        noise = np.sqrt(variances) * scale[m:]
        self.weights_ = params.weights
        self.coef_, self.intercept_, self.noise_ = slopes, intercept, noise
        if self._flat:
            self.coef_, self.intercept_, self.noise_ = slopes[:, 0], intercept[:, 0], noise[:, 0]
        y = scale[m:]
        self.covariances_ = params.noise * (y * y if model.noise == "diag" else y[:, None] * y)
        z = scale[list(self._position())]
        self.position_means_ = params.centres * z + shift[list(self._position())]
        self.position_covariances_ = params.spreads * (z[:, None] * z)
        offset = -float(np.log(y).sum() + np.log(z).sum())
        self.outlier_log_density_ = model.log_outlier + offset
        self.converged_ = best.reason.converged
        self.lower_bounds_ = [point.log_likelihood + offset for point in best.trace]
        self.lower_bound_ = best.log_likelihood + offset
        self.n_iter_ = len(best.trace)
        # a column that is constant, or the same as others, has no coefficient of its own
        self._terms = design.p
        if not self.converged_:
            warnings.warn(best.reason.sentence, ConvergenceWarning, stacklevel=3)

    # asking

    def _asked(self) -> tuple[models.RegressionMixture, RegressionParams, Float64]:
        """The model of the public attributes, with each response in a unit of its own."""
        check_is_fitted(self, ["weights_", "coef_", "intercept_", "noise_"])
        weights = np.asarray(self.weights_, dtype=np.float64)
        slopes = np.asarray(self.coef_, dtype=np.float64)
        k, m = slopes.shape[0], slopes.shape[-1]
        slopes = slopes.reshape(k, -1, m)
        q = slopes.shape[1]
        intercept = np.asarray(self.intercept_, dtype=np.float64).reshape(k, q)
        deviations = np.asarray(self.noise_, dtype=np.float64).reshape(k, q)
        unit = np.ldexp(1.0, np.frexp(deviations.max(axis=0))[1])
        noise = (deviations / unit) ** 2
        if self.covariance_type == "full":
            noise = np.asarray(self.covariances_, dtype=np.float64) / unit[:, None] / unit
            noise = COVARIANCES["full"].factor(noise)[1]
        design = Design.linear([f"x{j}" for j in range(m)])
        coef = np.concatenate([intercept[:, None], np.swapaxes(slopes, 1, 2)], axis=1) / unit
        position = self._position()
        s = len(position)
        centres = np.asarray(getattr(self, "position_means_", np.zeros((k, 0))))
        spreads = np.asarray(getattr(self, "position_covariances_", np.zeros((k, 0, 0))))
        outlier = -np.inf
        if self.outliers:
            outlier = float(self.outlier_log_density_) + float(np.log(unit).sum())
        model = models.RegressionMixture(
            design.layout(q, position), self.covariance_type, 1e-300, log_outlier=outlier
        )
        gram = np.stack([np.eye(m + 1)] * k)
        params = RegressionParams(weights, coef, noise, gram, centres.reshape(k, s), spreads.reshape(k, s, s))
        return model, params, unit

    def _answer(
        self, X: Any, y: Any, what: Callable[[Assignment], NDArray[Any]], name: str, k: int | None = None
    ) -> Any:
        model, params, unit = self._asked()
        together, m, _ = _together(X, y)
        q = len(unit)
        offset = -float(np.log(unit).sum())

        def answer(values: NDArray[Any], start: Sequence[int]) -> NDArray[Any]:
            refuse_missing(values, start)
            rows = np.array(values.reshape(-1, m + q), dtype=np.float64)
            rows[:, m:] /= unit
            found = model.assign(Rows(rows), params, probability=k is not None)
            out = what(replace(found, log_density=found.log_density + offset))
            return out.reshape(values.shape[:-1] + out.shape[1:])

        trailing = () if k is None else (("component", k),)
        dtype = np.int64 if name == "label" else np.float64
        d = params.coef.shape[1] - 1 + q
        return map_rows(together, answer, trailing, dtype, d, name, type(self).__name__)

    def predict(self, X: Any, y: Any = None) -> Any:
        """Most probable component of each row, shape (...,); k for outliers.

        Raises
        ------
        DataError
            There is no `y`: what a row belongs to is seen from its responses.
        """
        return self._answer(X, y, lambda found: found.label, "label")

    def predict_proba(self, X: Any, y: Any = None) -> Any:
        """Responsibilities, shape (..., k), those of outliers last."""

        def probability(found: Assignment) -> Float64:
            return np.empty((0, 0)) if found.probability is None else found.probability

        return self._answer(X, y, probability, "probability", len(np.asarray(self.weights_)))

    def fit_predict(self, X: Any, y: Any, sample_weight: Any = None) -> Any:
        """Fit, and return the labels of the rows."""
        return self.fit(X, y, sample_weight).labels_

    def score_samples(self, X: Any, y: Any = None) -> Any:
        """Log density of each row's responses, natural log, shape (...,)."""
        return self._answer(X, y, lambda found: found.log_density, "log_density")

    def score(self, X: Any, y: Any = None) -> float:
        """Mean log-likelihood per row."""
        total, n = self._log_likelihood(X, y)
        return total / n

    def _log_likelihood(self, X: Any, y: Any) -> tuple[float, int]:
        density = self.score_samples(X, y)
        return float(np.asarray(density.mean())) * density.size, int(density.size)

    def _n_parameters(self) -> int:
        model, params, _ = self._asked()
        idle = params.coef.shape[1] - getattr(self, "_terms", params.coef.shape[1])
        return int(model.n_parameters(params) - idle * params.coef.shape[0] * params.coef.shape[2])

    def bic(self, X: Any, y: Any) -> float:
        """Bayesian information criterion; less is better."""
        total, n = self._log_likelihood(X, y)
        return float(-2.0 * total + self._n_parameters() * np.log(n))

    def aic(self, X: Any, y: Any) -> float:
        """Akaike's information criterion; less is better."""
        return -2.0 * self._log_likelihood(X, y)[0] + 2.0 * self._n_parameters()

    def sample(self, X: ArrayLike) -> tuple[Float64, Ints]:
        """Draw responses for given predictors.

        Parameters
        ----------
        X : array-like, shape (n, m)

        Returns
        -------
        y : ndarray, shape (n,) or (n, q)
        label : ndarray, shape (n,)
            The component of each, in no order.

        Raises
        ------
        FitError
            The mixture has outliers or positions, of which predictors that are given say nothing.
        """
        model, params, unit = self._asked()
        if self.outliers or self._position():
            raise FitError("A mixture with outliers or positions is not one of given predictors.")
        x = np.atleast_2d(np.asarray(X, dtype=np.float64))
        rng = np.random.default_rng(check_random_state(self.random_state).randint(2**31 - 1))
        rows = np.concatenate([x, np.zeros((len(x), len(unit)))], axis=1)
        order = rng.permutation(len(x))
        drawn, label = model.sample(params, len(x), rng, rows[order])
        back = np.argsort(order, kind="stable")
        y = drawn[back][:, x.shape[1] :] * unit
        return (y[:, 0] if np.ndim(self.intercept_) == 1 else y), label[back]


def _together(X: Any, y: Any) -> tuple[Any, int, bool]:
    """Predictors and responses side by side, how many are predictors, and whether y is one response.

    Raises
    ------
    DataError
        They are not of the same rows, or there are no responses.
    """
    if y is None:
        raise DataError(
            "There is no y: which component a row belongs to is seen from its responses.", "Give y."
        )
    X, y = features_last(X), features_last(y)
    if isinstance(X, xr.DataArray):
        return _together_labelled(X, y)
    X, y = (_array(each) for each in (X, y))
    if X.ndim < 2:
        raise DataError(
            f"Expected 2D array, got {X.ndim}D array instead.", "Reshape your data: array.reshape(-1, 1)."
        )
    flat = y.ndim == X.ndim - 1
    if y.shape[: X.ndim - 1] != X.shape[:-1] or not (flat or y.ndim == X.ndim):
        raise DataError(f"X has the shape {X.shape}, y {y.shape}.", "Give y for every row of X.")
    return np.concatenate([X, y[..., None] if flat else y], axis=-1), int(X.shape[-1]), flat


def _array(x: Any) -> Any:
    if isinstance(x, zarr.Array):
        from distem.execution.dask import from_zarr

        return from_zarr(x)
    if uses_dask(x):
        return x.data if isinstance(x, xr.DataArray) else x
    x = np.asarray(x)
    if x.dtype.kind not in "fiub":
        try:
            return x.astype(np.float64)
        except (TypeError, ValueError) as error:
            raise DataError(f"The array holds {x.dtype}, not numbers.", "Convert it to numbers.") from error
    return x


def _together_labelled(X: xr.DataArray, y: Any) -> tuple[xr.DataArray, int, bool]:
    last = X.dims[-1]
    if not isinstance(y, xr.DataArray):
        array = _array(y)
        y = xr.DataArray(array, dims=(*X.dims[:-1], *(("response",) if array.ndim == X.ndim else ())))
    flat = y.ndim == X.ndim - 1
    kept = tuple(dim for dim in y.dims if dim in X.dims[:-1])
    if set(kept) != set(X.dims[:-1]) or not (flat or y.ndim == X.ndim):
        raise DataError(f"X has the dimensions {X.dims}, y {y.dims}.", "Give y for every row of X.")
    own = [dim for dim in y.dims if dim not in kept]
    y = y.expand_dims("response", -1) if flat else y.transpose(*X.dims[:-1], own[0])
    y = y.rename({y.dims[-1]: last})

    def bare(array: xr.DataArray) -> xr.DataArray:
        return array.drop_vars([name for name, c in array.coords.items() if last in c.dims])

    m = int(X.shape[-1])
    both = xr.concat([bare(X), bare(y).reset_coords(drop=True)], dim=last, join="override", coords="minimal")
    return both.transpose(*X.dims), m, flat
