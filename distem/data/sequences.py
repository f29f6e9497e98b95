"""Sequences of rows: where one ends and the next begins, however the rows are cut into blocks.

The rows of a sequence follow each other in the data's own order. What sequences there are is said by a
dimension (each index along it is one), by a variable of ids (one begins where the id changes), or by
offsets (the row each begins at, and the end).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from math import prod
from typing import Any, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from distem.data.grid import Grid
from distem.data.source import Source
from distem.data.variables import VariablesReader, opened
from distem.errors import ConfigError, DataError, DistemError
from distem.types import Bools, Ints, Places


class Beginnings(Protocol):
    """Which rows begin a sequence: small and picklable."""

    def of(self, places: Places) -> Bools:
        """For each stored row of a block, whether it is the first of a sequence."""

    def within(self, start: int, stop: int) -> Beginnings:
        """The same for a block whose rows have the numbers from start up to, not including, stop."""


@dataclass(frozen=True)
class EveryRows:
    """Sequences of equal length, one behind the other: those of a dimension."""

    length: int

    def of(self, places: Places) -> Bools:
        """See `Beginnings`."""
        return np.asarray(places.addresses % max(1, self.length) == 0)

    def within(self, start: int, stop: int) -> EveryRows:  # noqa: ARG002
        """The same."""
        return self


@dataclass(frozen=True, eq=False)
class AtRows:
    """Sequences that begin at given rows.

    Attributes
    ----------
    first : ndarray of int64
        Their numbers, increasing.
    """

    first: Ints

    def of(self, places: Places) -> Bools:
        """See `Beginnings`."""
        begins = []
        for (box,) in places.boxes:  # one dimension: the rows of a box have consecutive numbers
            here = np.zeros(box.stop - box.start, dtype=bool)
            low, high = np.searchsorted(self.first, [box.start, box.stop])
            here[self.first[low:high] - box.start] = True
            begins.append(here)
        return np.concatenate([np.zeros(0, dtype=bool), *begins])

    def within(self, start: int, stop: int) -> AtRows:
        """Those that begin in a block."""
        low, high = np.searchsorted(self.first, [start, stop])
        return AtRows(self.first[low:high].copy())


class ReadIds(Protocol):
    """Reads ids of rows: picklable."""

    def __call__(self, start: int, stop: int) -> NDArray[Any]:
        """The ids of the rows from start up to, not including, stop."""


@dataclass(frozen=True, eq=False)
class WhereIdsChange:
    """A sequence begins where the id is not that of the row before, in whatever block that lies."""

    name: str
    read: ReadIds

    def of(self, places: Places) -> Bools:
        """See `Beginnings`.

        Raises
        ------
        DataError
            A row has no id, or a fraction, which is none.
        """
        rows = places.addresses
        if not rows.size:
            return np.zeros(0, dtype=bool)
        start, stop = int(rows[0]), int(rows[-1]) + 1  # one dimension: block by block they are consecutive
        ids = self.read(max(0, start - 1), stop)
        none = ids != ids if ids.dtype.kind == "f" else np.zeros(len(ids), dtype=bool)
        if none.any():
            at = max(0, start - 1) + int(none.argmax())
            raise DataError(
                f"Row {at} has no id: '{self.name}' is missing there.",
                "Give every row the id of its sequence.",
            )
        if ids.dtype.kind == "f" and (parts := ids != np.floor(ids)).any():
            at = max(0, start - 1) + int(parts.argmax())
            raise DataError(
                f"model.sequence is '{self.name}', which is {ids[parts][0]:g} in row {at}: a measurement, "
                "not an id of sequences.",
                "Ids are whole numbers, text or dates, the same in all rows of a sequence.",
            )
        changes = ids[1:] != ids[:-1]
        return np.asarray(changes if start else np.concatenate([[True], changes]), dtype=bool)

    def within(self, start: int, stop: int) -> WhereIdsChange:  # noqa: ARG002
        """The same."""
        return self


@dataclass(frozen=True, eq=False)
class VariableIds:
    """Ids in a variable of a Zarr store or NetCDF file; numbers, text or dates."""

    reader: VariablesReader
    name: str

    def __call__(self, start: int, stop: int) -> NDArray[Any]:
        """See `ReadIds`."""
        (dim,) = self.reader.sample_dims
        return self.reader.read_coordinate(self.name, {dim: slice(start, stop)})


@dataclass(frozen=True, eq=False)
class ColumnIds:
    """Ids in a column of a table: numbers."""

    source: Source

    def __call__(self, start: int, stop: int) -> NDArray[Any]:
        """See `ReadIds`."""
        return self.source.reader.read((slice(start, stop),))[0][:, 0]


def in_sequences(
    source: Source, sequence: str | Sequence[str] | None, again: Callable[[str], Source] | None = None
) -> Source:
    """The source with its rows in sequences.

    Parameters
    ----------
    source : Source
        The data.
    sequence : str, sequence of str or None
        Dimensions each index of which is a sequence, the first ones of the samples; or the variable
        of ids or offsets; None: all rows, on their one dimension, are one sequence.
    again : callable, optional
        Opens the same data with a column as its only feature: the ids of a table.

    Raises
    ------
    ConfigError, DataError
        There is no such dimension or variable, or it cannot be what it is named for.
    """
    dims = source.dims
    names = [sequence] if isinstance(sequence, str) else list(sequence or ())
    if names and set(names) <= set(dims):
        return _along_dimensions(source, names)
    if len(names) > 1:
        raise ConfigError(
            f"model.sequence names {', '.join(names)}; the samples have the dimensions {', '.join(dims)}.",
            "Name dimensions of the samples, or one variable.",
        )
    if len(dims) > 1:
        said = f"model.sequence is '{names[0]}'" if names else "model.sequence is not given"
        raise ConfigError(
            f"{said}, and the samples have {len(dims)} dimensions: {', '.join(dims)}.",
            f"Name those of which each index is a sequence, such as {dims[0]}; rows follow each other along "
            "the one that is left.",
        )
    if not names:
        return replace(source, beginnings=AtRows(np.zeros(1, np.int64)))
    name = names[0]
    if isinstance(source.reader, VariablesReader):
        return _by_variable(source, source.reader, name)
    if again is None:
        raise ConfigError(f"model.sequence is '{name}', and the data has no variable beside the features.")
    try:
        ids = again(name)
    except DistemError as error:
        raise DataError(
            f"model.sequence is '{name}', which is neither a dimension nor a column of numbers: {error.fact}",
            error.remedy,
        ) from error
    return replace(source, sequence=(name,), beginnings=WhereIdsChange(name, ColumnIds(ids)))


def _along_dimensions(source: Source, names: Sequence[str]) -> Source:
    dims, grid = source.dims, source.grid
    if len(names) != len(dims) - 1 or set(dims[: len(names)]) != set(names):
        left = [dim for dim in dims if dim not in names]
        if len(left) != 1:
            raise ConfigError(
                f"model.sequence names {', '.join(names)} of the dimensions {', '.join(dims)}: rows follow "
                f"each other along one, and {len(left) or 'none'} {'is' if not left else 'are'} left.",
                "Name all dimensions but the one that rows follow each other along.",
            )
        raise ConfigError(
            f"The rows of a sequence do not lie one behind the other: the samples have the dimensions "
            f"{', '.join(dims)}, in this order.",
            f"Set data.sample_dims: [{', '.join([*names, *left])}].",
        )
    if len(grid.runs[-1]) > 1 or grid.counts[-1] > 1:
        # a chunk that holds parts of several sequences is read once for each: their rows stay in order
        ones = tuple(((1, length),) for length in grid.shape[:-1])
        grid = Grid(grid.dims, (*ones, grid.runs[-1]))
    return replace(source, grid=grid, sequence=tuple(names), beginnings=EveryRows(grid.shape[-1]))


def _by_variable(source: Source, reader: VariablesReader, name: str) -> Source:
    held = opened(reader.store)
    (dim,) = source.dims
    if name not in held.variables:
        raise DataError(
            f"model.sequence is '{name}', which is neither a dimension of the samples ({dim}) nor a variable "
            f"of {reader.store.where}.",
            f"It has: {', '.join(sorted(held.variables))}.",
        )
    variable = held.variables[name]
    if variable.dims == (dim,):
        return replace(source, sequence=(name,), beginnings=WhereIdsChange(name, VariableIds(reader, name)))
    if len(variable.dims) != 1 or variable.dtype.kind not in "iu":
        raise DataError(
            f"model.sequence is '{name}', {variable.dtype} on ({', '.join(variable.dims)}): not ids of the "
            f"rows, which lie on ({dim}), and not offsets.",
            f"Ids have one value for each row; offsets are whole numbers, 0 to {source.n}, on a dimension "
            "of their own.",
        )
    first = beginnings_of_offsets(np.asarray(held.arrays[name][:]), source.n, f"The offsets '{name}'")
    return replace(source, sequence=(name,), beginnings=AtRows(first))


def beginnings_of_offsets(offsets: ArrayLike, n: int, what: str = "The offsets") -> Ints:
    """The rows at which sequences begin, from offsets that are checked.

    Parameters
    ----------
    offsets : array-like of int, shape (m + 1,)
        0, the row each further sequence begins at, and n.
    n : int
        Rows.
    what : str
        Whose they are, for errors.

    Raises
    ------
    DataError
        They are not whole numbers, do not increase, or do not cover the rows.
    """
    raw = np.asarray(offsets)
    if raw.ndim != 1 or raw.size < 2 or raw.dtype.kind not in "iuf" or (raw != np.floor(raw)).any():
        raise DataError(
            f"{what} have shape {raw.shape} and hold {raw.dtype}.",
            "Offsets are whole numbers in one dimension: 0, where each further sequence begins, "
            "and the number of rows.",
        )
    found = raw.astype(np.int64)
    steps = np.diff(found)
    if (steps <= 0).any():
        at = int((steps <= 0).argmax())
        has = "no rows" if steps[at] == 0 else f"{steps[at]} rows"
        raise DataError(
            f"{what} do not increase: sequence {at} would have {has}, from {found[at]} to {found[at + 1]}.",
            "Leave sequences without rows out.",
        )
    if found[0] != 0 or found[-1] != n:
        raise DataError(
            f"{what} go from {found[0]} to {found[-1]}, and do not cover the {n} rows.",
            f"The first is 0 and the last {n}.",
        )
    return found[:-1].copy()


def beginnings_of_lengths(lengths: ArrayLike, n: int) -> Ints:
    """The rows at which sequences begin, from their lengths, which are checked.

    Raises
    ------
    DataError
        A length is not a positive whole number, or they do not add up to n.
    """
    raw = np.atleast_1d(np.asarray(lengths))
    if raw.ndim != 1 or raw.dtype.kind not in "iuf" or (raw != np.floor(raw)).any():
        raise DataError(
            f"lengths have shape {raw.shape} and hold {raw.dtype}.",
            "Give whole numbers in one dimension: the rows of each sequence.",
        )
    if (raw <= 0).any():
        at = int((raw <= 0).argmax())
        raise DataError(f"Sequence {at} has {int(raw[at])} rows.", "Leave sequences without rows out.")
    if int(raw.sum()) != n:
        raise DataError(
            f"The lengths of the sequences add up to {int(raw.sum())}, and there are {n} rows.",
            "Give the rows of each sequence, in order.",
        )
    return np.concatenate([[0], np.cumsum(raw.astype(np.int64))[:-1]]).astype(np.int64)


def rows_of_shape(shape: Sequence[int]) -> EveryRows:
    """Sequences of an array (..., n): each along its last dimension."""
    return EveryRows(int(shape[-1]) if prod(shape) else 1)
