"""Answers for rows of sequences, for whatever a caller has: lazy in, lazy out, exact across chunks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import xarray as xr
import zarr
from numpy.typing import DTypeLike, NDArray

from distem.data.sequences import Beginnings
from distem.data.transform import Transform
from distem.errors import DataError
from distem.inputs import uses_dask
from distem.models.markov import HiddenMarkov
from distem.types import Bools, Float64, Places, Rows

Wanted = Literal["probability", "log_density", "path"]


@dataclass(frozen=True, eq=False)
class ChainAnswer:
    """What a chain says of rows: a function of a run of them and of what reaches it. Picklable.

    Attributes
    ----------
    model : HiddenMarkov
        The family.
    params : MarkovParams
        In the units of `transform`.
    transform : Transform
        Keeps missing rows in place.
    wanted : {"probability", "log_density", "path"}
        What is answered.
    guard : callable
        Raises where a row is nothing that a state can say.
    """

    model: HiddenMarkov
    params: Any
    transform: Transform
    wanted: Wanted
    guard: Callable[[NDArray[Any]], None]

    def rows(self, values: NDArray[Any], begins: Bools) -> Rows:
        """Values (..., d) as rows."""
        flat = values.reshape(-1, values.shape[-1])
        self.guard(flat)
        return Rows(self.transform.rows(flat, None).values, begins=begins)

    def links(self, rows: Rows) -> Any:
        """What a run of rows does to messages."""
        ask = self.model.best_links if self.wanted == "path" else self.model.links
        return ask(rows, self.params)

    def reaching(self, links: Sequence[Any]) -> Sequence[Any]:
        """What reaches each run, from the links of all in their order."""
        total = links[0]
        for more in links[1:]:
            total = total + more
        return self.model.best_reaching(total) if self.wanted == "path" else self.model.reaching(total)

    def answer(self, rows: Rows, message: Any = None) -> tuple[NDArray[Any], float]:
        """Answers for a run, and the log-likelihood or, of a path, its log probability."""
        offset = self.transform.log_jacobian
        seen = np.isfinite(rows.values).all(axis=1)
        if self.wanted == "path":
            path, total = self.model.decode(rows, self.params, *(message or (-1, -1)))
            return path, total + offset * int(seen.sum())
        found = self.model.assign(
            rows, self.params, probability=self.wanted == "probability", boundary=message
        )
        density: Float64 = found.log_density + np.where(seen, offset, 0.0)
        if self.wanted == "log_density" or found.probability is None:
            return density, float(density.sum())
        return found.probability, float(density.sum())

    @property
    def trailing(self) -> tuple[tuple[str, int], ...]:
        """Dimensions in the features' place."""
        return (("component", self.params.k),) if self.wanted == "probability" else ()

    @property
    def dtype(self) -> DTypeLike:
        """Of the answers."""
        return np.int64 if self.wanted == "path" else np.float64


def map_chains(x: Any, ask: ChainAnswer, beginnings: Beginnings, d: int, owner: str) -> tuple[Any, Any]:
    """Answers for the rows of `x`, and the sum over them.

    Parameters
    ----------
    x : ndarray, dask.array.Array, xarray.DataArray or zarr.Array, shape (..., n, d)
        Sequences lie along the dimension before the last.
    ask : ChainAnswer
        What is asked.
    beginnings : Beginnings
        Which rows begin a sequence.
    d : int
        Features expected.
    owner : str
        Who expects them.

    Returns
    -------
    answers
        As `x` is: Dask and Zarr arrays give Dask arrays, xarray gives xarray.
    total
        A float; where the answers are lazy, a Dask array without dimensions.

    Raises
    ------
    DataError
        `x` has another number of features.
    """
    if x.shape[-1] != d:
        raise DataError(
            f"X has {x.shape[-1]} features, but {owner} is expecting {d} features as input.",
            "Give the features the model was fitted to, in the last dimension.",
        )
    if isinstance(x, xr.DataArray):
        if x.chunks is None and not x.variable._in_memory:
            x = x.chunk()
        inner = x.data if uses_dask(x) else x.values
        answer, total = map_chains(inner, ask, beginnings, d, owner)
        coords = {key: c for key, c in x.coords.items() if x.dims[-1] not in c.dims}
        dims = [*x.dims[:-1], *(dim for dim, _ in ask.trailing)]
        return xr.DataArray(answer, dims=dims, coords=coords, name=ask.wanted), total
    if isinstance(x, zarr.Array) or uses_dask(x):
        from distem.execution.dask import from_zarr
        from distem.execution.dask import map_chains as lazily

        return lazily(from_zarr(x) if isinstance(x, zarr.Array) else x, ask, beginnings)
    values = np.asarray(x)
    shape = values.shape[:-1]
    begins = beginnings.of(Places((tuple(slice(0, size) for size in shape),), shape))
    found, total = ask.answer(ask.rows(values, begins))
    return found.reshape(shape + found.shape[1:]), total
