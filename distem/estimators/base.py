"""What estimators share: opening what a caller has, finding an executor, answers for rows."""

from __future__ import annotations

import logging
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, Self

import numpy as np
import psutil
import xarray as xr
import zarr
from numpy.typing import DTypeLike, NDArray
from sklearn.base import BaseEstimator, clone
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils.validation import validate_data

from distem.data.prepare import check
from distem.data.scan import Scan, ScanPass
from distem.data.transform import Transform
from distem.errors import DataError
from distem.events import ComponentCollapsed, Event, PassDone
from distem.execution.base import BlockSet, Executor
from distem.execution.serial import SerialExecutor
from distem.execution.threads import ThreadsExecutor
from distem.inputs import Input, as_input, features_last, uses_dask
from distem.plan import RESIDENT_SHARE
from distem.rowwise import RowFunction, map_rows, refuse_missing
from distem.types import Float64

LOG = logging.getLogger("distem")
SAMPLE_ROWS = 20_000
"""Rows drawn for the start."""
SMALL_ROWS = 10_000
"""Below it threads cost more than they save."""


class Estimator(BaseEstimator):  # type: ignore[misc]  # scikit-learn is untyped
    """An estimator on data of any size; its subclasses have `client`, `verbose` and `verbose_interval`."""

    client: Any
    verbose: int
    verbose_interval: int

    def __sklearn_clone__(self) -> Self:
        """Copy the arguments, but share the client: a connection cannot be copied."""
        arguments = self.get_params(deep=False)
        copied = {name: clone(value, safe=False) for name, value in arguments.items() if name != "client"}
        return type(self)(**copied, client=self.client)

    def _open(self, X: Any, weights: Any, least: tuple[str, int]) -> Input:
        """What a caller has, as blocks; `least` names the argument that asks for so many rows at least.

        Raises
        ------
        DataError
            There are fewer rows.
        """
        X = features_last(X)
        if not is_chunked(X):
            X = validate_data(self, X, dtype=[np.float64, np.float32], ensure_all_finite=False)
            weights = None if weights is None else _weights(weights, len(X))
        else:
            self.n_features_in_ = int(X.shape[-1])
        data = as_input(X, weights)
        name, rows = least
        if data.n < rows:
            raise DataError(
                f"Expected n_samples >= {name} but got {name} = {rows}, n_samples = {data.n}.",
                "Ask for fewer components.",
            )
        return data

    def _executor(self, data: Input, warm: Callable[[], float]) -> AbstractContextManager[Executor]:
        """Where passes run: a client's cluster, whose workers are made `warm` first, threads, or here."""
        client = self.client or _client_in_scope()
        if client is not None:
            from distem.execution.dask import DaskExecutor

            executor = DaskExecutor(client)
            seconds = executor.prepare(warm)
            if seconds > 1.0:
                LOG.info("compiled the kernels on the cluster's workers in %.0f s", seconds)
            return nullcontext(executor)
        return SerialExecutor() if data.n <= SMALL_ROWS else ThreadsExecutor()

    @contextmanager
    def _blocks(self, data: Input, transform: Transform, executor: Executor) -> Iterator[BlockSet]:
        """The rows behind a transform, kept in memory where they fit."""
        resident = data.n * data.d * 8 <= RESIDENT_SHARE * _memory(executor)
        with executor.open(data.blocks(transform), resident=resident) as blocks:
            yield blocks

    def _tell(self, event: Event) -> None:
        """Log passes, if asked to, and warn of what is worth a look."""
        if self.verbose and isinstance(event, PassDone) and event.pass_ % self.verbose_interval == 0:
            LOG.info("start %s, pass %d: %.6g per row", event.candidate, event.pass_, event.log_likelihood)
        if isinstance(event, ComponentCollapsed):
            warnings.warn(
                f"Component {event.component} collapsed in pass {event.pass_} and was {event.action}.",
                ConvergenceWarning,
                stacklevel=7,
            )

    def _map(
        self,
        X: Any,
        answer: RowFunction,
        trailing: tuple[tuple[str, int], ...],
        dtype: DTypeLike,
        d: int,
        name: str,
    ) -> Any:
        """Answers for rows of d features, lazy where `X` is; missing values are refused."""

        def checked(values: NDArray[Any], start: Any) -> NDArray[Any]:
            refuse_missing(values, start)
            out = answer(values.reshape(-1, d), start)
            return out.reshape(values.shape[:-1] + out.shape[1:])

        X = features_last(X)
        if not is_chunked(X):
            X = validate_data(self, X, dtype=[np.float64, np.float32], ensure_all_finite=False, reset=False)
        return map_rows(X, checked, trailing, dtype, d, name, type(self).__name__)


def scanned(data: Input, executor: Executor) -> Scan:
    """Look at all rows once.

    Raises
    ------
    DataError
        A value is missing, or a weight is none.
    """
    with executor.open(data.blocks(Transform.identity("keep")), resident=False) as raw:
        scan = raw.map_reduce(ScanPass())
    check(scan, [f"feature {name}" for name in data.features], "error", data.locate)
    return scan


def is_chunked(X: Any) -> bool:
    """Whether `X` keeps its own dimensions: Dask, xarray, Zarr."""
    return isinstance(X, (xr.DataArray, zarr.Array)) or uses_dask(X)


def _weights(weights: Any, n: int) -> Float64:
    weights = np.asarray(weights, dtype=np.float64)
    weights = np.full(n, weights) if weights.ndim == 0 else weights
    largest = weights.max(initial=0.0)
    if np.isfinite(largest) and not 1e-100 < largest < 1e100:  # products could overflow
        weights = np.ldexp(weights, -np.frexp(largest)[1])
    return np.asarray(weights)


def _client_in_scope() -> Any:
    if "distributed" not in sys.modules:
        return None
    from distem.execution.dask import current_client

    return current_client()


def _memory(executor: Executor) -> float:
    capacity = executor.capacity
    if capacity.memory_per_worker is not None:
        return float(capacity.memory_per_worker * capacity.workers)
    return float(psutil.virtual_memory().total)
