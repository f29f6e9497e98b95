"""Blocks of rows held in memory, and small passes, for tests of engine and executors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from distem.em.acceleration import accelerator
from distem.em.loop import Climb, climb
from distem.em.repair import Repair
from distem.em.stopping import Change, FirstOf, MaxPasses
from distem.execution.serial import SerialExecutor
from distem.types import Rows


@dataclass(frozen=True, eq=False)
class ArrayBlock:
    """A block whose rows are at hand; may be empty."""

    index: int
    rows: Rows

    @property
    def n(self) -> int:
        return self.rows.n

    @property
    def nbytes(self) -> int:
        return self.rows.nbytes

    def load(self) -> Rows:
        return self.rows


def blocks_of(
    x: NDArray, sizes: Sequence[int] | None = None, weights: NDArray | None = None
) -> list[ArrayBlock]:
    """Cut rows into blocks of the given sizes, by default one."""
    edges = np.concatenate([[0], np.cumsum([len(x)] if sizes is None else sizes)])
    assert edges[-1] == len(x)
    return [
        ArrayBlock(i, Rows(np.ascontiguousarray(x[a:b]), None if weights is None else weights[a:b]))
        for i, (a, b) in enumerate(pairwise(edges))
    ]


@dataclass(frozen=True, eq=False)
class Joined:
    """Arrays that add up end to end: shows the order in which results are merged."""

    values: NDArray

    def __add__(self, other: Joined) -> Joined:
        return Joined(np.concatenate([self.values, other.values]))


@dataclass(frozen=True, eq=False)
class Labels:
    """The pass that labels rows."""

    model: object
    params: object

    def __call__(self, rows: Rows, block: int) -> Joined:
        return Joined(self.model.assign(rows, self.params, probability=False).label)


@dataclass(frozen=True)
class BlockNumbers:
    """The pass that tells which block and how many rows it was given."""

    def __call__(self, rows: Rows, block: int) -> Joined:
        return Joined(np.array([[block, rows.n]]))


def ready(
    model, params, *, passes: int, tol: float = 0.0, acceleration: str | None = None, sample=None, name="fit"
) -> Climb:
    """A fit about to climb for at most so many passes."""
    repair = Repair(np.empty((0, 1)) if sample is None else sample, 0, 3 * params.k)
    stop = FirstOf((Change(tol), MaxPasses(passes)))
    return Climb(name, model, params, stop, repair, accelerator(acceleration))


def fit_blocks(model, params, blocks, executor=None, *, passes: int, resident=True, partitions=None, **how):
    """Climb on an executor, by default the serial one; returns fit, the M-step after it, and labels."""
    fit = ready(model, params, passes=passes, **how)
    with (executor or SerialExecutor()).open(blocks, resident=resident, partitions=partitions) as opened:
        climb([fit], opened)
        labels = opened.map_reduce(Labels(model, fit.fit.params)).values
    return fit.fit, model.m_step(fit.fit.stats, fit.fit.params), labels


def bits(model, params) -> dict[str, bytes]:
    """The parameters as bytes."""
    return {name: np.asarray(value).tobytes() for name, value in model.arrays(params).items()}
