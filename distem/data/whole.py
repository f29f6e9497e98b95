"""Counts and symbols: which rows hold something else."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from distem.errors import DataError
from distem.types import Rows

NEVER = 2**62
MOST_SYMBOLS = 1 << 16
"""So many are taken from the data's largest; more have to be asked for: each state keeps a share of each."""


@dataclass(frozen=True, slots=True)
class OddRow:
    """The first row that holds no count or symbol, and what it holds. Adds."""

    row: int = NEVER
    feature: int = 0
    value: float = 0.0
    count: int = 0

    def __add__(self, other: Self) -> Self:
        first = self if self.row <= other.row else other
        return type(self)(first.row, first.feature, first.value, self.count + other.count)

    def refuse(self, symbols: int | None, names: tuple[str, ...] = ()) -> None:
        """Raise if there is one.

        Raises
        ------
        DataError
            Names it.
        """
        if not self.count:
            return
        feature = f"'{names[self.feature]}'" if names else f"Feature {self.feature}"
        allowed = "a count: a whole number from 0"
        if symbols is not None:
            allowed = "a symbol: a whole number from 0" + (f" to {symbols - 1}" if symbols else "")
        more = f", and {self.count - 1:,} more are not" if self.count > 1 else ""
        raise DataError(
            f"{feature} is {self.value:g} in row {self.row}, which is not {allowed}{more}.",
            "Leave such values missing, mend them, or choose another emission.",
        )


def odd_row(values: NDArray[Any], symbols: int | None, addresses: NDArray[Any] | None = None) -> OddRow:
    """Look for what is negative, fractional, infinite, or no symbol; NaN was not observed.

    Parameters
    ----------
    values : ndarray, shape (n, d)
    symbols : int or None
        How many there are: values lie below it; 0 if it is not known, None for counts.
    addresses : ndarray of int, shape (n,), optional
        Numbers of the rows.
    """
    with np.errstate(invalid="ignore"):
        odd = (values < 0) | (values != np.floor(values)) | np.isinf(values)
        if symbols:
            odd |= values >= symbols
    odd &= values == values
    if not odd.any():
        return OddRow()
    row, feature = (int(i) for i in np.argwhere(odd)[0])
    at = row if addresses is None else int(addresses[row])
    return OddRow(at, feature, float(values[row, feature]), int(odd.any(axis=1).sum()))


def symbols_up_to(largest: float, feature: str, ask: str) -> int:
    """Return how many symbols there are if `largest` is the last of them.

    Parameters
    ----------
    largest : float
    feature : str
        Whose it is, for errors.
    ask : str
        What says how many there are, where the data does not.

    Raises
    ------
    DataError
        There would be so many that a stray value is likelier.
    """
    if not largest < MOST_SYMBOLS:
        raise DataError(
            f"The largest symbol of {feature} is {largest:.0f}: each state would keep the probabilities of "
            f"{largest + 1:,.0f} symbols.",
            f"Mend it if it is astray, number the symbols from 0 without gaps, or set {ask} if there are so "
            "many.",
        )
    return int(largest) + 1


@dataclass(frozen=True)
class WholePass:
    """The pass that looks for odd rows; see `odd_row`."""

    symbols: int | None
    name: ClassVar[str] = "scan"

    def __call__(self, rows: Rows, block: int) -> OddRow:  # noqa: ARG002
        """Look at one block."""
        return odd_row(rows.values, self.symbols, None if rows.places is None else rows.addresses)
