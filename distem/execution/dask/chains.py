"""Answers for sequences in a Dask array: lazy, and exact wherever its chunks cut."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from distem.execution.dask.arrays import Beginner, chunked
from distem.types import Places

if TYPE_CHECKING:
    import dask.array as da


class Asks(Protocol):
    """Answers for a run of rows, given what reaches it."""

    @property
    def trailing(self) -> Any:
        """Names and lengths of dimensions in the features' place."""

    @property
    def dtype(self) -> Any:
        """Of the answers."""

    def rows(self, values: NDArray[Any], begins: NDArray[np.bool_]) -> Any:
        """The rows of a chunk."""

    def links(self, rows: Any) -> Any:
        """What a run does to messages."""

    def reaching(self, links: Any) -> Any:
        """What reaches each run."""

    def answer(self, rows: Any, message: Any = None) -> tuple[NDArray[Any], float]:
        """Answers and their sum."""


def in_order(x: da.Array) -> da.Array:
    """The array in chunks whose rows follow each other in the order of all rows, features in one chunk.

    Where sequences are cut, each chunk holds a part of one sequence.
    """
    x = chunked(x)
    if x.ndim > 2 and x.numblocks[-2] > 1:
        x = x.rechunk({**dict.fromkeys(range(x.ndim - 2), 1)})
    return x


def _rows(ask: Asks, values: NDArray[Any], box: tuple[slice, ...], shape: Any, beginnings: Beginner) -> Any:
    return ask.rows(np.asarray(values), beginnings.of(Places((box,), shape)))


def _links(ask: Asks, *of: Any) -> Any:
    return ask.links(_rows(ask, *of))


def _answer(ask: Asks, reaching: Any, number: int, values: NDArray[Any], *of: Any) -> Any:
    found, total = ask.answer(_rows(ask, values, *of), None if reaching is None else reaching[number])
    return found.reshape(values.shape[:-1] + found.shape[1:]), np.float64(total)


def _first(pair: Any) -> Any:
    return pair[0]


def _second(pair: Any) -> Any:
    return pair[1]


def map_chains(x: da.Array, ask: Asks, beginnings: Beginner) -> tuple[da.Array, da.Array]:
    """Answers on the chunks of `x`, and the sum over them, both lazy."""
    import dask
    import dask.array as da

    wanted = x.chunks[:-1]
    x = in_order(x)
    shape = x.shape[:-1]
    edges = [np.concatenate([[0], np.cumsum(sizes)]).astype(int) for sizes in x.chunks[:-1]]
    parts, boxes, firsts = x.to_delayed(), {}, {}
    first = 0
    where = list(np.ndindex(*x.numblocks[:-1]))
    for at in where:
        boxes[at] = tuple(slice(int(e[i]), int(e[i + 1])) for e, i in zip(edges, at, strict=True))
        rows = math.prod(s.stop - s.start for s in boxes[at])
        firsts[at] = (first, first + rows)
        first += rows
    asked = dask.delayed(ask, pure=False, traverse=False)
    own = {at: (boxes[at], shape, _within(beginnings, x, firsts[at])) for at in where}
    reaching = None
    if x.numblocks[-2] > 1:
        links = [dask.delayed(_links, pure=False)(asked, parts[(*at, 0)], *own[at]) for at in where]
        reaching = dask.delayed(_reaching, pure=False)(asked, links)
    pairs = {
        at: dask.delayed(_answer, pure=False)(asked, reaching, number, parts[(*at, 0)], *own[at])
        for number, at in enumerate(where)
    }
    trailing = tuple(size for _, size in ask.trailing)

    def assembled(prefix: tuple[int, ...]) -> da.Array:
        axis = len(prefix)
        if axis == len(shape):
            size = tuple(s.stop - s.start for s in boxes[prefix]) + trailing
            return da.from_delayed(dask.delayed(_first, pure=False)(pairs[prefix]), size, dtype=ask.dtype)
        return da.concatenate([assembled((*prefix, i)) for i in range(x.numblocks[axis])], axis=axis)

    totals = [
        da.from_delayed(dask.delayed(_second, pure=False)(pairs[at]), (), dtype=np.float64) for at in where
    ]
    answer = assembled(())
    if answer.chunks[: len(shape)] != wanted:
        answer = answer.rechunk(dict(enumerate(wanted)))
    return answer, da.stack(totals).sum()


def _reaching(ask: Asks, links: Any) -> Any:
    return ask.reaching(links)


def _within(beginnings: Beginner, x: da.Array, span: tuple[int, int]) -> Any:
    return beginnings.within(*span) if x.ndim == 2 else beginnings
