"""One look at all frames: their values as a whole, and of each frame the least and the largest grey value."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Self

import numpy as np

from distem.data.scan import Scan, ScanPass
from distem.types import Float64, Ints, Rows


@dataclass(frozen=True, slots=True, eq=False)
class Ranges:
    """What some blocks hold.

    Attributes
    ----------
    scan : Scan
        Of their values.
    low, high : ndarray, shape (t,)
        Of each frame, over the pixels that are there; infinity and minus infinity where there are none.
    """

    scan: Scan
    low: Float64
    high: Float64

    def __add__(self, other: Self) -> Self:
        low, high = np.minimum(self.low, other.low), np.maximum(self.high, other.high)
        return type(self)(self.scan + other.scan, low, high)

    @property
    def blank(self) -> Ints:
        """The frames that are of one grey value."""
        return np.flatnonzero(self.low == self.high)


@dataclass(frozen=True)
class RangesPass:
    """Scans blocks on (time, y, x), loaded with a transform that keeps missing rows.

    Parameters
    ----------
    count : int
        How many frames there are.
    """

    count: int
    name: ClassVar[str] = "scan"

    def __call__(self, rows: Rows, block: int) -> Ranges:
        """Of one block."""
        low, high = np.full(self.count, np.inf), np.full(self.count, -np.inf)
        at = 0
        for box in () if rows.places is None else rows.places.boxes:
            size = int(np.prod([part.stop - part.start for part in box[1:]]))
            for t in range(box[0].start, box[0].stop):
                values = rows.values[at : at + size]
                grey = values.mean(axis=1, dtype=np.float64)
                grey = grey[np.isfinite(grey)]
                if len(grey):
                    low[t], high[t] = min(low[t], grey.min()), max(high[t], grey.max())
                at += size
        return Ranges(ScanPass()(rows, block), low, high)
