"""Hidden Markov models with hmmlearn's names, on sequences of any number and length."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from numbers import Integral, Real
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils import check_random_state
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.validation import check_is_fitted, validate_data

from distem._random import generator
from distem.chainwise import ChainAnswer, Wanted, map_chains
from distem.data.prepare import check
from distem.data.scan import Scan, ScanPass
from distem.data.sequences import AtRows, Beginnings, EveryRows, beginnings_of_lengths
from distem.data.transform import Transform
from distem.em.acceleration import accelerator
from distem.em.loop import Climb, Fit, climb
from distem.em.repair import Repair
from distem.em.stopping import Change, FirstOf, MaxPasses
from distem.errors import DataError, FitError
from distem.estimators.base import SAMPLE_ROWS, Estimator, is_chunked
from distem.estimators.priors import priors_of
from distem.execution.base import BlockSet, Executor, one_blas_thread
from distem.inputs import Input, as_input, features_last
from distem.kernels.chains_compiled import warm
from distem.models import seeding
from distem.models.chain import ChainPriors, stationary_law
from distem.models.chain_start import start
from distem.models.markov import HiddenMarkov, MarkovParams
from distem.types import Float64, Ints


@dataclass
class Monitor:
    """How a fit went, with hmmlearn's names.

    Attributes
    ----------
    tol : float
        See the estimator.
    n_iter : int
        Most iterations.
    history : list of float
        Log-likelihood of all rows before each M-step.
    converged : bool
        Whether the last gain was below `tol`.
    """

    tol: float
    n_iter: int
    history: list[float] = field(default_factory=list)
    converged: bool = False

    @property
    def iter(self) -> int:
        """Iterations made."""
        return len(self.history)


_PARTS = {
    "s": "start", "t": "transition", "m": "means", "c": "covariances", "w": "mixing", "l": "rates",
    "e": "probabilities",
}  # fmt: skip


class ChainEstimator(Estimator):
    """What the hidden Markov estimators share; a subclass knows what its states say."""

    n_components: int
    stationary: bool
    init_params: str
    params: str | None
    algorithm: str
    n_iter: int
    max_iter: int | None
    tol: float
    random_state: Any
    lengths: Any
    acceleration: str | None

    startprob_: Float64
    transmat_: Float64

    _shared: ClassVar[dict[str, list[Any]]] = {
        "n_components": [Interval(Integral, 1, None, closed="left")],
        "stationary": ["boolean"],
        "init_params": [str],
        "params": [str, None],
        "algorithm": [StrOptions({"viterbi", "map"})],
        "n_iter": [Interval(Integral, 1, None, closed="left")],
        "max_iter": [Interval(Integral, 1, None, closed="left"), None],
        "tol": [Real],
        "random_state": ["random_state"],
        "lengths": ["array-like", None],
        "acceleration": [StrOptions({"none", "squarem", "anderson"}), None],
        "verbose": ["verbose"],
        "verbose_interval": [Interval(Integral, 1, None, closed="left")],
        "client": [object, None],
        "implementation": [StrOptions({"log", "scaling"})],
    }
    _letters: ClassVar[dict[str, str]] = {"s": "startprob_", "t": "transmat_"}
    _parameter_constraints: ClassVar[dict[str, list[Any]]] = _shared

    # what a subclass knows

    def _component(self, scan: Scan, transform: Transform) -> Any:
        """The emission, for data that was looked at."""
        raise NotImplementedError

    def _theta(self, transform: Transform) -> tuple[Any, Any]:
        """The emission and its parameters as the attributes have them now, in units of `transform`."""
        raise NotImplementedError

    def _keep_theta(self, component: Any, theta: Any, transform: Transform) -> None:
        """Set the attributes of the emission."""
        raise NotImplementedError

    def _transform(self, scan: Scan) -> Transform:  # noqa: ARG002
        """The units to work in."""
        return Transform(missing="marginalise")

    def _asking(self) -> Transform:
        """The units to answer in."""
        return Transform(missing="marginalise")

    def _units_to_answer_in(self) -> Transform:
        """The same, where there is something to ask."""
        check_is_fitted(self, list(self._letters.values()))
        return self._asking()

    def _check_rows(self, blocks: BlockSet, scan: Scan) -> None:
        """Refuse rows the states cannot say."""

    # fitting

    def fit(self, X: Any, lengths: ArrayLike | None = None, y: Any = None) -> Self:  # noqa: ARG002
        """Fit by Baum and Welch's EM.

        Parameters
        ----------
        X : array-like, shape (n, d) or (..., n, d)
            NumPy, Dask, xarray or Zarr. Of more than two dimensions the last but one is the order of the
            rows, and each index of those before it a sequence. A row with NaN was not observed: it says
            nothing, and keeps its place.
        lengths : array-like of int, shape (m,), or None
            Rows of each sequence, one behind the other, where X has two dimensions; None: one sequence.
        y : None
            Ignored.

        Returns
        -------
        self

        Raises
        ------
        ValueError
            Of distem's kinds: lengths that do not add up, sequences without rows, infinite values, what no
            state can say.
        """
        self._validate_params()
        held, priors = self._held, priors_of(self)
        data = self._sequences(X, self.lengths if lengths is None else lengths)
        with self._executor(data, warm) as executor:
            self._fit(data, executor, held, priors)
        return self

    @property
    def _held(self) -> frozenset[str]:
        """What a fit leaves as it begins, by the model's names."""
        for name in ("init_params", "params"):
            odd = set(getattr(self, name) or "").difference(self._letters)
            if odd:
                raise FitError(
                    f"{name} has {', '.join(sorted(odd))}, which {type(self).__name__} knows not.",
                    "The letters are "
                    + ", ".join(f"{letter} for {of}" for letter, of in self._letters.items())
                    + ".",
                )
        if self.params is None:
            return frozenset()
        return frozenset(_PARTS[letter] for letter in set(self._letters).difference(self.params))

    def _sequences(self, X: Any, lengths: ArrayLike | None) -> Input:
        X = features_last(X)
        if not is_chunked(X):
            X = validate_data(self, X, dtype=[np.float64, np.float32], ensure_all_finite=False, allow_nd=True)
        else:
            self.n_features_in_ = int(X.shape[-1])
        if getattr(X, "chunks", None) is not None and X.ndim > 2:
            from distem.execution.dask import in_order, is_dask

            if is_dask(X):
                X = in_order(getattr(X, "data", X))
        data: Any = as_input(X)
        if data.n == 0:
            raise DataError("The data has no rows.", "Check what is handed to fit.")
        found: Input = replace(data, beginnings=_beginnings(X.shape, lengths))
        return found

    def _fit(self, data: Input, executor: Executor, held: frozenset[str], priors: ChainPriors) -> None:
        names = [f"feature {name}" for name in data.features]
        with executor.open(data.blocks(Transform.identity("keep")), resident=False) as raw:
            scan = raw.map_reduce(ScanPass())
            check(scan, names, "drop", data.locate)
            _refuse_infinite(scan, data)
            self._check_rows(raw, scan)
        transform = self._transform(scan)
        model = HiddenMarkov(self._component(scan, transform), self.stationary, held=held, priors=priors)
        with self._blocks(data, transform, executor) as blocks:
            seed = int(check_random_state(self.random_state).randint(2**31 - 1))
            sample = blocks.map_reduce(seeding.DrawSample(SAMPLE_ROWS, scan.usable, seed))
            with one_blas_thread():
                begun = self._begin(model, sample, seed, transform)
            stop = FirstOf((Change(max(self.tol, 0.0) / scan.usable), MaxPasses(self._most)))
            repair = Repair(sample.values, seed, 3 * self.n_components)
            fit = Climb("0", model, begun, stop, repair, accelerator(self.acceleration))
            climb([fit], blocks, observe=self._tell)
        self._keep(model, fit.fit, transform, scan.usable)

    @property
    def _most(self) -> int:
        return self.n_iter if self.max_iter is None else self.max_iter

    def _begin(
        self, model: HiddenMarkov, sample: seeding.Sample, seed: int, transform: Transform
    ) -> MarkovParams:
        """Parameters by k-means and the like; those whose letter is not in `init_params` as they were set."""
        k = self.n_components
        held = [name for letter, name in self._letters.items() if letter not in self.init_params]
        if held:
            check_is_fitted(self, held)
        if len(held) < len(self._letters):
            made = start("kmeans", model, k, sample, generator(seed, "start", k, 0))
            kept = {name: getattr(self, name) for name in held}
            self.startprob_, self.transmat_ = made.start, made.transition
            self._keep_theta(model.component, made.theta, transform)
            for name, value in kept.items():
                setattr(self, name, value)
        params = self._params(transform)[1]
        if params.k != k:
            raise FitError(f"startprob_ has {params.k} states, and n_components is {k}.", "Set as many.")
        if self.stationary:
            return MarkovParams(stationary_law(params.transition), params.transition, params.theta)
        return params

    def _keep(self, model: HiddenMarkov, best: Fit, transform: Transform, rows: int) -> None:
        with one_blas_thread():  # the statistics are at hand: hmmlearn takes this step too
            params = model.m_step(best.stats, best.params)
        self.startprob_, self.transmat_ = params.start, params.transition
        self._keep_theta(model.component, params.theta, transform)
        offset = transform.log_jacobian
        self.converged_ = best.reason.converged
        self.lower_bounds_ = [point.log_likelihood + offset for point in best.trace]
        self.lower_bound_ = best.log_likelihood + offset
        self.n_iter_ = len(best.trace)
        history = [value * rows for value in self.lower_bounds_]
        self.monitor_ = Monitor(self.tol, self._most, history, self.converged_)
        if not self.converged_ and self.tol > 0:
            warnings.warn(best.reason.sentence, ConvergenceWarning, stacklevel=4)

    # asking

    def _params(self, transform: Transform) -> tuple[Any, MarkovParams]:
        """The emission, and the parameters as the attributes have them now, whoever set them."""
        check_is_fitted(self, list(self._letters.values()))
        first = np.asarray(self.startprob_, dtype=np.float64)
        ways = np.asarray(self.transmat_, dtype=np.float64)
        k = len(first)
        if first.shape != (k,) or ways.shape != (k, k):
            raise FitError(
                f"startprob_ has the shape {first.shape} and transmat_ {ways.shape}.",
                "For k states they are (k,) and (k, k).",
            )
        for name, value in (("startprob_", first), ("transmat_", ways)):
            if (value < 0).any() or not np.allclose(value.sum(axis=-1), 1.0):
                raise FitError(
                    f"{name} must be non-negative and sum to 1 in each row.", "Divide by the sums."
                )
        component, theta = self._theta(transform)
        return component, MarkovParams(first, ways, theta)

    def _ask(self, X: Any, lengths: ArrayLike | None, wanted: Wanted) -> tuple[Any, Any]:
        X = features_last(X)
        transform = self._units_to_answer_in()
        component, params = self._params(transform)
        d = self._features()
        if not is_chunked(X):
            X = np.asarray(X)
            if X.dtype.kind == "c":
                raise DataError(
                    f"X holds {X.dtype}: complex data is not supported.", "Hand over real numbers."
                )
            X = X if X.dtype.kind == "f" else X.astype(np.float64)
            if X.ndim < 2:
                raise DataError(
                    f"Expected 2D array, got {X.ndim}D array instead.",
                    "Reshape your data: array.reshape(-1, 1).",
                )
        guard = self._guard()
        ask = ChainAnswer(HiddenMarkov(component, self.stationary), params, transform, wanted, guard)
        return map_chains(X, ask, _beginnings(X.shape, lengths), d, type(self).__name__)

    def _features(self) -> int:
        raise NotImplementedError

    def _guard(self) -> Callable[[NDArray[Any]], None]:
        """What refuses rows that the states cannot say; picklable."""
        return refuse_infinite

    def score(self, X: Any, lengths: ArrayLike | None = None) -> float:
        """Log-likelihood of all rows."""
        return float(self._ask(X, lengths, "log_density")[1])

    def score_samples(self, X: Any, lengths: ArrayLike | None = None) -> tuple[Any, Any]:
        """Log-likelihood of all rows, and the states' probabilities at each, shape (n, k)."""
        found, total = self._ask(X, lengths, "probability")
        return total, found

    def predict_proba(self, X: Any, lengths: ArrayLike | None = None) -> Any:
        """Probabilities of the states at each row given all rows of its sequence, shape (n, k)."""
        return self._ask(X, lengths, "probability")[0]

    def log_density(self, X: Any, lengths: ArrayLike | None = None) -> Any:
        """Log density of each row given those before it, shape (n,): they add up to the score."""
        return self._ask(X, lengths, "log_density")[0]

    def score_sequences(self, X: Any, lengths: ArrayLike | None = None) -> Float64:
        """Log-likelihood of each sequence, shape (m,)."""
        each = np.asarray(self.log_density(X, lengths), dtype=np.float64)
        if each.ndim > 1:
            return np.asarray(each.reshape(-1, each.shape[-1]).sum(axis=1))
        first = np.zeros(1, np.int64) if lengths is None else beginnings_of_lengths(lengths, len(each))
        return np.add.reduceat(each, first)

    def decode(
        self, X: Any, lengths: ArrayLike | None = None, algorithm: str | None = None
    ) -> tuple[Any, Any]:
        """The likeliest states.

        Parameters
        ----------
        X, lengths
            As in `fit`.
        algorithm : {"viterbi", "map"} or None
            The likeliest path of each sequence, or the likeliest state at each row; None: the estimator's.

        Returns
        -------
        log_probability : float
            Of the paths together with the rows; under "map", as hmmlearn has it, the sum of the chosen
            states' probabilities: how many rows are expected to be right.
        states : array of int, shape (n,)
        """
        algorithm = self.algorithm if algorithm is None else algorithm
        if algorithm not in ("viterbi", "map"):
            raise FitError(f"algorithm is {algorithm!r}.", "It can be viterbi or map.")
        if algorithm == "viterbi":
            path, total = self._ask(X, lengths, "path")
            return total, path
        found = self._ask(X, lengths, "probability")[0]
        best, right = found.max(axis=-1), found.argmax(axis=-1)
        total = best.sum()
        return total if is_chunked(best) else float(total), right

    def predict(self, X: Any, lengths: ArrayLike | None = None) -> Any:
        """The likeliest states by `algorithm`, shape (n,)."""
        return self.decode(X, lengths)[1]

    def sample(
        self, n_samples: int = 1, random_state: Any = None, currstate: int | None = None
    ) -> tuple[Float64, Ints]:
        """Draw one sequence.

        Parameters
        ----------
        n_samples : int
            Rows.
        random_state : int, RandomState or None
            None: the estimator's.
        currstate : int or None
            The state of the first row; None: drawn from `startprob_`.

        Returns
        -------
        X : ndarray, shape (n_samples, d)
        states : ndarray, shape (n_samples,)
        """
        if n_samples < 1:
            raise FitError(f"n_samples is {n_samples}.", "Draw one row at least.")
        state = check_random_state(self.random_state if random_state is None else random_state)
        rng = np.random.default_rng(state.randint(2**31 - 1))
        transform = self._units_to_answer_in()
        component, params = self._params(transform)
        if currstate is not None:
            if currstate not in range(params.k):
                raise FitError(
                    f"currstate is {currstate!r}.", f"It is the number of a state, 0 to {params.k - 1}."
                )
            params = replace(params, start=np.eye(params.k)[int(currstate)])
        drawn, states = HiddenMarkov(component).sample(params, n_samples, rng)
        return transform.backward_means(drawn), states

    def get_stationary_distribution(self) -> Float64:
        """The share of time that the chain spends in each state in the long run, shape (k,)."""
        check_is_fitted(self, "transmat_")
        return stationary_law(np.asarray(self.transmat_, dtype=np.float64))

    def bic(self, X: Any, lengths: ArrayLike | None = None) -> float:
        """Bayesian information criterion on `X`; less is better."""
        rows = math.prod(features_last(X).shape[:-1])
        return float(-2.0 * self.score(X, lengths) + self._n_parameters() * np.log(rows))

    def aic(self, X: Any, lengths: ArrayLike | None = None) -> float:
        """Akaike's information criterion on `X`; less is better."""
        return float(-2.0 * self.score(X, lengths) + 2.0 * self._n_parameters())

    def _n_parameters(self) -> int:
        component, params = self._params(self._units_to_answer_in())
        return HiddenMarkov(component, self.stationary).n_parameters(params)


def refuse_infinite(values: NDArray[Any]) -> None:
    """Raise where a value is infinite.

    Raises
    ------
    DataError
        Names the first of the rows at hand.
    """
    bad = np.isinf(values)
    if bad.any():
        at = np.argwhere(bad)[0]
        raise DataError(
            f"Input contains infinity: row {at[0]}, feature {at[1]} is {values[tuple(at)]}.",
            "Leave such a value out: NaN says that it was not observed.",
        )


def _refuse_infinite(scan: Scan, data: Input) -> None:
    if scan.infinite.any():
        j = int(scan.infinite.argmax())
        raise DataError(
            f"Input contains infinity: feature {data.features[j]} has {int(scan.infinite[j])} such values.",
            "Leave such values out: NaN says that a row was not observed.",
        )


def _beginnings(shape: tuple[int, ...], lengths: ArrayLike | None) -> Beginnings:
    """Where the sequences of an array (..., n, d) begin."""
    if len(shape) > 2:
        if lengths is not None:
            raise DataError(
                f"lengths are given, and X has {len(shape)} dimensions: each index of the first "
                f"{len(shape) - 2} is a sequence.",
                "Leave lengths out, or hand over two dimensions.",
            )
        return EveryRows(int(shape[-2]))
    if lengths is None:
        return AtRows(np.zeros(1, np.int64))
    return AtRows(beginnings_of_lengths(lengths, int(shape[0])))
