"""The few types every floor shares. The letters: n rows, d features, k components."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, Protocol, Self, TypeVar

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating[Any]]
"""float64 or float32 array; accumulators and parameters are always float64."""
Float64 = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Places:
    """Where the stored rows of a block lie in the data's own sample dimensions.

    Attributes
    ----------
    boxes : tuple of tuple of slice
        Rectangles of the sample dimensions in the order of the rows, each in C order.
    shape : tuple of int
        Lengths of the sample dimensions.
    """

    boxes: tuple[tuple[slice, ...], ...]
    shape: tuple[int, ...]

    @property
    def addresses(self) -> Ints:
        """C-order number of each row among all of the data's, shape (N,): chunks have no part in it."""
        found = [np.empty(0, np.int64)]
        for box in self.boxes:
            number = np.zeros((), np.int64)
            for at, length in zip(box, self.shape, strict=True):
                number = np.add.outer(number * length, np.arange(at.start, at.stop, dtype=np.int64))
            found.append(number.ravel())
        return np.concatenate(found)


@dataclass(frozen=True, slots=True)
class Rows:
    """The usable rows of one block, in the units the model works in.

    Attributes
    ----------
    values : ndarray of float64 or float32, shape (n, d), C-contiguous
        Rows without missing values.
    weights : ndarray of float64, shape (n,), or None
        Non-negative row weights; None means one each.
    kept : ndarray of bool, shape (N,), or None
        Which of the block's N stored rows are in `values` (the others are missing);
        None means all of them.
    memory : dict or None
        What passes leave beside the rows for those to come, by the name of who left it; None where the
        rows themselves are not kept. A cache: it may vanish at any moment, is not pickled, and must
        never change a bit of any result.
    places : Places or None
        Where the block's stored rows lie in the data.
    begins : ndarray of bool, shape (n,), or None
        Which rows are the first of a sequence; None where nothing is said of sequences.
    """

    values: Floats
    weights: Float64 | None = None
    kept: Bools | None = None
    memory: dict[str, Any] | None = field(default=None, compare=False, repr=False)
    places: Places | None = None
    begins: Bools | None = None

    def __reduce__(self) -> tuple[Any, ...]:
        memory: dict[str, Any] | None = None if self.memory is None else {}
        return Rows, (self.values, self.weights, self.kept, memory, self.places, self.begins)

    def remembering(self) -> Rows:
        """The same rows with an empty memory."""
        return replace(self, memory={})

    def slot(self, name: str) -> Rows:
        """The same rows with the memory that is kept under a name, if any is."""
        return self if self.memory is None else replace(self, memory=self.memory.setdefault(name, {}))

    @property
    def addresses(self) -> Ints:
        """Number of each usable row in the data's own C order, shape (n,).

        Raises
        ------
        LookupError
            The rows do not know where they lie.
        """
        if self.places is None:
            raise LookupError("These rows do not know where in the data they lie.")
        found = self.places.addresses
        return found if self.kept is None else found[self.kept]

    @property
    def n(self) -> int:
        """Number of usable rows."""
        return int(self.values.shape[0])

    @property
    def d(self) -> int:
        """Number of features."""
        return int(self.values.shape[1])

    @property
    def nbytes(self) -> int:
        """Bytes held, for plans and caches."""
        return sum(a.nbytes for a in (self.values, self.weights, self.kept, self.begins) if a is not None)


@dataclass(frozen=True, slots=True)
class Assignment:
    """What a fitted model says of n rows.

    Attributes
    ----------
    label : ndarray of int64, shape (n,)
        The most probable component of each row.
    log_density : ndarray of float64, shape (n,)
        Natural log of the model's density at each row.
    uncertainty : ndarray of float64, shape (n,)
        Probability that the label is wrong: what the other components hold.
    probability : ndarray of float64, shape (n, k), or None
        Responsibilities; each row sums to one. None when they were not asked for.
    distance : ndarray of float64, shape (n,), or None
        From the nearest centre, in the model's units; None for models without centres.
    """

    label: Ints
    log_density: Float64
    uncertainty: Float64
    probability: Float64 | None = None
    distance: Float64 | None = None


class Addable(Protocol):
    """Anything a pass returns: results of blocks add up to the result of the data."""

    def __add__(self, other: Self, /) -> Self: ...


S = TypeVar("S", bound=Addable)
S_co = TypeVar("S_co", covariant=True)


class Block(Protocol):
    """A run of stored chunks: the leaf of the reduction tree, and what is read at once.

    A block is small and picklable; its rows come into being where `load` is called.
    """

    @property
    def index(self) -> int:
        """Position in the data's own order, from 0."""

    @property
    def n(self) -> int:
        """Number of stored rows, missing ones included."""

    @property
    def nbytes(self) -> int:
        """Bytes of its rows once decoded."""

    def load(self) -> Rows:
        """Read, decode, scale and mask the rows."""


class Pass(Protocol[S_co]):
    """A pure function of one block of rows: picklable, without side channels.

    Calling it twice on a block changes nothing, so a task may be repeated at will.
    """

    def __call__(self, rows: Rows, block: int, /) -> S_co:
        """Return this block's part of the result."""
