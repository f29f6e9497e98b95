"""The scan: what the rows are, found in one pass, before any model sees them.

Means and variances are kept about the mean, in two parts (a float64 and what it rounds off), each
feature divided by its own power of two: neither an offset of 1e7 nor a magnitude of 1e300 costs digits.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, fields
from functools import lru_cache
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from distem.types import Float64, Floats, Ints, Rows

_TILE = 1 << 16
_NEVER = np.iinfo(np.int64).max
_SAFE = 200  # squares of numbers within 2**±200 neither overflow nor vanish


@dataclass(frozen=True, eq=False)
class Scan:
    """What a pass over the data found. Adds; any order of adding the same parts in a tree is near equal.

    Attributes
    ----------
    rows : int
        Stored rows.
    usable : int
        Rows whose features are all finite and whose weight, if any, is finite and not negative.
    mass : float
        Sum of the weights of usable rows.
    exponent : ndarray of int64, shape (d,)
        The next three are in units of ``2**exponent``.
    high, low : ndarray of float64, shape (d,)
        The weighted mean is their sum.
    spread : ndarray of float64, shape (d,)
        Weighted variance (divided by the mass), in units of ``2**(2 * exponent)``.
    minimum, maximum : ndarray of float64, shape (d,)
        Over usable rows, in the data's units; +inf and -inf if there is none.
    nan, infinite : ndarray of int64, shape (d,)
        How many values are NaN, and how many infinite, in all stored rows.
    first_block, first_row : ndarray of int64, shape (d,)
        Block and position in it of the first value that is not finite; the largest int64 if none.
    bad_weights : int
        Weights that are negative or not finite.
    bad_weight_at : tuple of int
        Block and position of the first of them.
    checksum : int
        64 bits that change with any value or weight, or with their order; independent of the order of adding.
    scatter : ndarray of float64, shape (d, d), or None
        Weighted covariance in units of ``2**(exponent_i + exponent_j)``, if asked for.
    """

    rows: int
    usable: int
    mass: float
    exponent: Ints
    high: Float64
    low: Float64
    spread: Float64
    minimum: Float64
    maximum: Float64
    nan: Ints
    infinite: Ints
    first_block: Ints
    first_row: Ints
    bad_weights: int
    bad_weight_at: tuple[int, int]
    checksum: int
    scatter: Float64 | None = None

    @property
    def d(self) -> int:
        """Number of features."""
        return int(self.high.shape[0])

    @property
    def missing(self) -> int:
        """Rows that are not usable."""
        return self.rows - self.usable

    @property
    def mean(self) -> Float64:
        """Weighted means, shape (d,), in the data's units."""
        return np.ldexp(self.high + self.low, self.exponent)

    @property
    def std(self) -> Float64:
        """Weighted standard deviations, shape (d,); finite for any finite data."""
        return np.ldexp(np.sqrt(self.spread), self.exponent)

    @property
    def variance(self) -> Float64:
        """Weighted variances, shape (d,); infinite or zero where float64 cannot hold them."""
        with np.errstate(over="ignore", under="ignore"):
            return np.ldexp(self.spread, 2 * self.exponent)

    @property
    def covariance(self) -> Float64 | None:
        """Weighted covariance, shape (d, d), if it was asked for."""
        if self.scatter is None:
            return None
        with np.errstate(over="ignore", under="ignore"):
            return np.asarray(np.ldexp(self.scatter, self.exponent[:, None] + self.exponent), np.float64)

    @property
    def correlation(self) -> Float64 | None:
        """Correlations, shape (d, d), if the covariance was asked for; 0 with a constant column."""
        if self.scatter is None:
            return None
        sd = np.sqrt(np.diag(self.scatter))
        unit = np.where(sd > 0, sd, 1.0)
        r = self.scatter / unit[:, None] / unit
        np.fill_diagonal(r, 1.0)
        return np.asarray(np.clip(r, -1.0, 1.0), np.float64)

    @property
    def constant(self) -> NDArray[np.bool_]:
        """Which columns hold one value only, shape (d,)."""
        return np.asarray((self.minimum == self.maximum) | (self.std == 0))

    def first_bad(self, feature: int) -> tuple[int, int] | None:
        """Return block and position of a feature's first value that is not finite."""
        if self.first_block[feature] == _NEVER:
            return None
        return int(self.first_block[feature]), int(self.first_row[feature])

    def __add__(self, other: Scan) -> Scan:
        # Chan's update, with the parts' shares of the mass
        mass = self.mass + other.mass
        share = other.mass / mass if mass > 0 else 0.0
        exponent = self.exponent
        one, two = self, other
        if not np.array_equal(self.exponent, other.exponent):
            # a part without rows has no magnitude
            exponent = np.where(
                self.mass == 0,
                other.exponent,
                np.where(other.mass == 0, self.exponent, np.maximum(self.exponent, other.exponent)),
            )
            one, two = self._rescaled(exponent), other._rescaled(exponent)
        gap = (two.high - one.high) + (two.low - one.low)
        if share == 0.0 or share == 1.0:
            kept = two if share else one
            high, low, spread, scatter = kept.high, kept.low, kept.spread, kept.scatter
        else:
            high, low = _two_sum(one.high, one.low + share * gap)
            cross = share * (1 - share)
            spread = (1 - share) * one.spread + share * two.spread + cross * gap * gap
            scatter = None
            if one.scatter is not None and two.scatter is not None:
                scatter = (1 - share) * one.scatter + share * two.scatter + cross * np.outer(gap, gap)
        mine = (self.first_block < other.first_block) | (
            (self.first_block == other.first_block) & (self.first_row <= other.first_row)
        )
        return Scan(
            rows=self.rows + other.rows,
            usable=self.usable + other.usable,
            mass=mass,
            exponent=exponent,
            high=high,
            low=low,
            spread=spread,
            minimum=np.minimum(self.minimum, other.minimum),
            maximum=np.maximum(self.maximum, other.maximum),
            nan=self.nan + other.nan,
            infinite=self.infinite + other.infinite,
            first_block=np.where(mine, self.first_block, other.first_block),
            first_row=np.where(mine, self.first_row, other.first_row),
            bad_weights=self.bad_weights + other.bad_weights,
            bad_weight_at=min(self.bad_weight_at, other.bad_weight_at),
            checksum=(self.checksum + other.checksum) % 2**64,
            scatter=scatter,
        )

    def _rescaled(self, exponent: Ints) -> Scan:
        """Return the same with other exponents; only the moments are kept right."""
        by = self.exponent - exponent
        with np.errstate(under="ignore", over="ignore"):
            values = {f.name: getattr(self, f.name) for f in fields(self)}
            values |= {
                "exponent": exponent,
                "high": np.ldexp(self.high, by),
                "low": np.ldexp(self.low, by),
                "spread": np.ldexp(self.spread, 2 * by),
            }
            if self.scatter is not None:
                values["scatter"] = np.ldexp(self.scatter, by[:, None] + by)
        return Scan(**values)


@dataclass(frozen=True)
class ScanPass:
    """Scans a block, loaded with a transform that keeps missing rows.

    Attributes
    ----------
    scatter : bool
        Whether the covariance between features is wanted too.
    """

    scatter: bool = False
    name: ClassVar[str] = "scan"

    def __call__(self, rows: Rows, block: int, /) -> Scan:
        """Return the block's part of the scan."""
        total: Scan | None = None
        step = max(256, _TILE // max(1, rows.d))
        for start in range(0, max(1, rows.n), step):
            tile = slice(start, start + step)
            weights = None if rows.weights is None else rows.weights[tile]
            part = self._tile(rows.values[tile], weights, block, start)
            total = part if total is None else total + part
        if total is None:
            raise AssertionError
        return total

    def _tile(self, values: Floats, weights: Float64 | None, block: int, start: int) -> Scan:
        # by columns, so that every sum runs along memory (and NumPy adds pairwise)
        x = np.ascontiguousarray(values.T, dtype=np.float64)
        d, n = x.shape
        nan = np.zeros(d, np.int64)
        infinite = np.zeros(d, np.int64)
        first = np.full(d, _NEVER, np.int64)
        bad_weights, bad_at = 0, (_NEVER, _NEVER)
        # an odd factor for each place: no single change can leave the sum as it was
        checksum = _checksum(x, 2 * start + 1) + (
            0 if weights is None else _checksum(weights, -2 * start - 1)
        )
        checksum = checksum * (2 * block + 1) % 2**64
        good: NDArray[np.bool_] | None = None
        if weights is not None:
            good = np.isfinite(weights) & (weights >= 0)
            bad_weights = n - int(np.count_nonzero(good))
            if bad_weights:
                bad_at = (block, start + int(np.argmin(good)))
        if n and not (np.isfinite(x.min()) and np.isfinite(x.max())):
            finite = np.isfinite(x)
            nan = np.count_nonzero(np.isnan(x), axis=1).astype(np.int64)
            infinite = np.count_nonzero(~finite, axis=1) - nan
            some = nan + infinite > 0
            first = np.where(some, start + np.argmin(finite, axis=1), _NEVER)
            every: NDArray[np.bool_] = np.asarray(finite.all(axis=0))
            good = every if good is None else np.logical_and(good, every)
        if good is not None and not good.all():
            x = np.ascontiguousarray(x[:, good])
            weights = None if weights is None else weights[good]
        moments = _moments(x, weights, self.scatter)
        return Scan(
            rows=n,
            usable=x.shape[1],
            **moments,
            nan=nan,
            infinite=infinite,
            first_block=np.where(first == _NEVER, _NEVER, block),
            first_row=first,
            bad_weights=bad_weights,
            bad_weight_at=bad_at,
            checksum=checksum,
        )


def _moments(x: Float64, weights: Float64 | None, scatter: bool) -> dict[str, Any]:
    """Return mass, mean, spread and range of finite columns x, shape (d, n)."""
    d, n = x.shape
    zero = np.zeros(d)
    with np.errstate(over="ignore"):
        mass = float(n) if weights is None else float(weights.sum())
    low_x = x.min(axis=1) if n else np.full(d, np.inf)
    high_x = x.max(axis=1) if n else np.full(d, -np.inf)
    exponent = np.zeros(d, np.int64)
    found: dict[str, Any] = {"mass": mass, "minimum": low_x, "maximum": high_x, "exponent": exponent}
    if not (mass > 0 and np.isfinite(mass)):
        return found | {"high": zero, "low": zero, "spread": zero, "scatter": _square(d, scatter)}
    largest = np.maximum(np.abs(low_x), np.abs(high_x))
    power = np.frexp(largest)[1].astype(np.int64)
    extreme = (np.abs(power) > _SAFE) & (largest > 0)
    if extreme.any():
        exponent = np.where(extreme, power, 0)
        x = np.ldexp(x, -exponent[:, None])
    share = None if weights is None else weights / mass

    def average(values: Float64) -> Float64:
        total = values.sum(axis=1) / n if share is None else (values * share).sum(axis=1)
        return np.asarray(total, np.float64)

    # weights that are very unequal may move a rounded average out of the range
    center = np.clip(average(x), x.min(axis=1), x.max(axis=1))
    x = x - center[:, None]
    rest = average(x)
    spread = np.maximum(average(x * x) - rest * rest, 0.0)
    high, low = _two_sum(center, rest)
    square = None
    if scatter:
        square = (x if share is None else x * share) @ x.T
        square = (square / n if share is None else square) - np.outer(rest, rest)
        np.fill_diagonal(square, spread)
    return found | {"exponent": exponent, "high": high, "low": low, "spread": spread, "scatter": square}


@lru_cache(maxsize=8)
def _factors(n: int) -> NDArray[np.uint64]:
    return np.arange(n, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C16) + np.uint64(0x632BE59BD9B4E019)


def _checksum(values: Float64, factor: int) -> int:
    bits = np.ascontiguousarray(values).view(np.uint64).ravel()
    return int((bits * _factors(bits.size)).sum()) * factor


def _square(d: int, wanted: bool) -> Float64 | None:
    return np.zeros((d, d)) if wanted else None


def _two_sum(a: Float64, b: Float64) -> tuple[Float64, Float64]:
    """Return a + b rounded, and what the rounding lost (Knuth)."""
    s = a + b
    t = s - a
    return s, (a - (s - t)) + (b - t)


def digest(scan: Scan) -> str:
    """Return the SHA-256 of a scan's exact bits, for the data's fingerprint.

    The covariance is left out: whether it was wanted says nothing of the data.
    """
    found = hashlib.sha256()
    for f in fields(scan):
        value = getattr(scan, f.name)
        if f.name == "scatter":
            continue
        found.update(f.name.encode())
        kind = "<i8" if f.name in ("rows", "usable", "bad_weights", "bad_weight_at") else None
        array = np.asarray(value, "<u8" if f.name == "checksum" else kind)
        found.update(np.ascontiguousarray(array.astype(array.dtype.newbyteorder("<"))).tobytes())
    return found.hexdigest()
