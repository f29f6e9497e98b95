"""What follows from a scan: refuse the data, choose the units to work in, and what to warn of."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal

import numpy as np

from distem.data.scan import Scan
from distem.data.transform import Precision, Transform
from distem.errors import ConfigError, DataError
from distem.types import Float64

Scale = Literal["none", "standard", "whiten"]
Locate = Callable[[int, int], tuple[int, dict[str, int]]]

_OFFSET = 1e3  # standard deviations from zero at which a shift saves digits
_MAGNITUDES = (1e-50, 1e50)
_FLOOR = 1e-10  # relative to the largest: below it a direction is noise, and not blown up
_FAR = 1e3


def check(scan: Scan, features: Sequence[str], missing: str, locate: Locate | None = None) -> None:
    """Refuse data that cannot be fitted.

    Parameters
    ----------
    scan : Scan
        Of all the data.
    features : sequence of str
        Feature names.
    missing : {"error", "drop"}
        What the config says of missing values; anything but "error" lets them pass.
    locate : callable, optional
        `Source.locate`: takes block and row to the row's number and coordinates.

    Raises
    ------
    DataError
        If there are no rows or no usable ones, weights are negative or sum to zero, or there are
        missing values and `missing` is "error". The message names variable, number and first place.
    """
    if scan.rows == 0:
        raise DataError("The data has no rows.", "Check the path and the selection.")
    if scan.bad_weights:
        raise DataError(
            f"{_count(scan.bad_weights, 'weight')} negative or not finite, "
            f"the first at {_place(scan.bad_weight_at, locate)}.",
            "Weights must be finite and not negative; a weight of 0 leaves a row out.",
        )
    bad = [j for j in range(scan.d) if scan.nan[j] + scan.infinite[j]]
    if bad and (missing == "error" or scan.usable == 0):
        shown = "; ".join(_missing(scan, j, features[j], locate) for j in bad[:5])
        shown += f"; and {len(bad) - 5} more features" if len(bad) > 5 else ""
        if scan.usable == 0:
            raise DataError(
                f"None of the {scan.rows:,} rows is usable, each has a missing value: {shown}.",
                "Leave out the features that are missing everywhere.",
            )
        raise DataError(
            f"Input contains NaN or infinity: {_count(scan.missing, 'row')} not usable, of {scan.rows:,}. "
            f"{shown}.",
            "Set data.missing to drop to leave these rows out (to marginalise, to keep rows of sequences in "
            "their places), or fill them in.",
        )
    if not scan.mass > 0:
        raise DataError("All weights are zero.", "At least one row needs a positive weight.")
    if not np.isfinite(scan.mass):
        raise DataError("The weights sum to more than a float64 can hold.", "Divide them by a constant.")


def _count(n: int, noun: str) -> str:
    return f"{n:,} {noun} is" if n == 1 else f"{n:,} {noun}s are"


def _missing(scan: Scan, j: int, name: str, locate: Locate | None) -> str:
    counts = [
        f"{count:,} {word}"
        for count, word in ((int(scan.nan[j]), "NaN"), (int(scan.infinite[j]), "infinite"))
        if count
    ]
    return f"'{name}' has {' and '.join(counts)}, the first at {_place(scan.first_bad(j), locate)}"


def _place(at: tuple[int, int] | None, locate: Locate | None) -> str:
    if at is None:
        return "an unknown place"
    if locate is None:
        return f"row {at[1]} of block {at[0]}"
    number, coordinates = locate(*at)
    if len(coordinates) == 1:
        return f"row {number}"
    return f"row {number} ({', '.join(f'{dim}={i}' for dim, i in coordinates.items())})"


def transform_for(scan: Scan, scale: Scale = "none", dtype: Precision = "float64") -> Transform:
    """Choose the transform of the rows.

    Parameters
    ----------
    scan : Scan
        Of all the data; with the covariance for "whiten".
    scale : {"none", "standard", "whiten"}
        "none" keeps the units, but for columns whose offset or magnitude would cost digits: these
        are shifted to their mean and divided by a power of two (the log Jacobian accounts for it).
        "standard": mean 0, standard deviation 1, constant columns are only shifted. "whiten":
        covariance the identity, as close to the standardised features as can be.
    dtype : {"float64", "float32"}
        Of the rows.

    Returns
    -------
    Transform
        Drops rows with missing values.

    Raises
    ------
    ConfigError
        If the scale is unknown, or the scan has no covariance to whiten by.
    """
    constant = scan.constant
    mean = np.where(constant & np.isfinite(scan.minimum), scan.minimum, scan.mean)
    sd = np.where(constant | (scan.std == 0), 1.0, scan.std)
    if scale == "none":
        return _careful(scan, mean, sd, dtype)
    if scale == "standard":
        return Transform(shift=mean, scale=sd, dtype=dtype)
    if scale != "whiten":
        raise ConfigError(f"scale is '{scale}'.", "It can be none, standard, whiten.")
    correlation = scan.correlation
    if correlation is None:
        raise ConfigError(
            "Whitening needs the covariance, which the scan left out.", "Scan with scatter=True."
        )
    values, vectors = np.linalg.eigh(correlation)
    values = np.maximum(values, _FLOOR * values.max())
    matrix = (vectors / np.sqrt(values)) @ vectors.T
    return Transform(shift=mean, scale=sd, matrix=np.ascontiguousarray(matrix), dtype=dtype)


def _careful(scan: Scan, mean: Float64, sd: Float64, dtype: Precision) -> Transform:
    varies = ~scan.constant
    least, most = _MAGNITUDES
    # means and deviations as multiples of 2**exponent: their ratio always fits
    high, spread = np.abs(scan.high + scan.low), np.sqrt(scan.spread)
    far = np.where(varies, high > _OFFSET * spread, np.abs(mean) > _OFFSET)
    extreme = varies & ((sd < least) | (sd > most))
    if not (far | extreme).any():
        return Transform(dtype=dtype)
    power = np.clip(np.frexp(sd)[1], -1021, 1023)
    scale = np.where(extreme, np.ldexp(1.0, power), 1.0)
    return Transform(
        shift=np.where(far | extreme, mean, 0.0), scale=scale if extreme.any() else None, dtype=dtype
    )


def remarks(scan: Scan, features: Sequence[str], missing: str = "drop") -> list[str]:
    """Return what is worth a warning: sentences, each with its numbers; `missing` is what the config says."""
    found = []
    fate = "keep their places and say nothing" if missing == "marginalise" else "are left out"
    if scan.missing:
        found.append(
            f"{scan.missing:,} of {scan.rows:,} rows ({scan.missing / scan.rows:.2%}) have missing values "
            f"and {fate}."
        )
    constant = scan.constant & (scan.usable > 1)
    found += [
        f"'{features[j]}' is constant ({scan.minimum[j]:.6g}): it tells no component from another."
        for j in range(scan.d)
        if constant[j]
    ]
    far = [0.0 if constant[j] else _farthest(scan, j) for j in range(scan.d)]
    # one row of n can lie sqrt(n) deviations off at most: then it makes up all of the variance
    alone = np.array([scan.usable >= 100 and f * f > 0.5 * scan.usable for f in far])
    found += _copies(scan, features, constant | alone)  # such a row would correlate all that it spoils
    found += [
        f"'{features[j]}' has an outlier {far[j]:.3g} standard deviations from its mean "
        f"(range {scan.minimum[j]:.6g} to {scan.maximum[j]:.6g}): it may take a component for itself."
        for j in range(scan.d)
        if far[j] > _FAR or alone[j]
    ]
    return found


def _farthest(scan: Scan, j: int) -> float:
    spread = float(np.sqrt(scan.spread[j]))
    if spread == 0:
        return 0.0
    down = -int(scan.exponent[j])
    mean = float(scan.high[j] + scan.low[j])
    ends = np.ldexp(np.array([scan.minimum[j], scan.maximum[j]]), down)
    return float(np.max(np.abs(ends - mean))) / spread


def _copies(
    scan: Scan, features: Sequence[str], passed_over: np.ndarray[tuple[int, ...], np.dtype[np.bool_]]
) -> list[str]:
    r = scan.correlation
    if r is None:
        return []
    found = []
    for j in range(scan.d):
        for i in range(j):
            if abs(r[i, j]) > 1 - 1e-10 and not (passed_over[i] or passed_over[j]):
                found.append(
                    f"'{features[j]}' is a copy of '{features[i]}' up to scale and offset "
                    f"(correlation {r[i, j]:+.10f}): a full covariance is singular. Leave one out."
                )
                break
    return found


def model_variance(scan: Scan, transform: Transform) -> Float64:
    """Return each feature's variance in the model's units, shape (d,); one where the data has none."""
    if transform.matrix is not None:
        return np.ones(scan.d)
    exponent = scan.exponent.copy()
    if transform.scale is not None:
        exponent -= np.frexp(transform.scale)[1]
    with np.errstate(over="ignore", under="ignore"):
        rest = 1.0 if transform.scale is None else np.frexp(transform.scale)[0]
        variance = np.ldexp(scan.spread, 2 * exponent) / rest**2
    return np.where((variance > 0) & np.isfinite(variance) & ~scan.constant, variance, 1.0)
