"""The window through which a feature is seen: limits that outliers cannot stretch, numbers one can read."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from distem.report.reading import Found
from distem.report.words import number, power_of_ten, short
from distem.types import Float64

_RELEVANT = 0.01  # smaller components do not widen the window
_SIGMAS = 2.2
_WIDER = 0.5  # of the sample's span, at most, on either side


@dataclass(frozen=True, slots=True)
class Frame:
    """An axis of a feature: shown = (value - offset) / factor.

    Attributes
    ----------
    feature : int
        Column.
    name : str
        As the data calls it.
    offset, factor : float
        From the data's units to what the axis shows.
    low, high : float
        Limits, as shown.
    unit : str
        Of the numbers on the axis; empty when the data has none.
    label : str
        What to write along the axis.
    whole_numbers : bool
        Whether all of the sample's values are whole numbers.
    """

    feature: int
    name: str
    offset: float
    factor: float
    low: float
    high: float
    unit: str
    label: str
    whole_numbers: bool

    def shown(self, values: Float64) -> Float64:
        """Values as the axis shows them."""
        with np.errstate(over="ignore", invalid="ignore"):
            return np.asarray((values - self.offset) / self.factor)

    def width(self, sds: Float64) -> Float64:
        """Lengths as the axis shows them."""
        return np.asarray(sds / self.factor)

    def holds(self, values: Float64) -> np.ndarray[tuple[int, ...], np.dtype[np.bool_]]:
        """Which values lie in the window."""
        shown = self.shown(values)
        return np.asarray((shown >= self.low) & (shown <= self.high))

    @property
    def density(self) -> str:
        """What to write along an axis of densities."""
        return f"density (per {self.unit})" if self.unit else "density"


def frame(run: Found, feature: int) -> Frame:
    """Choose the window for a feature."""
    values, means, sds = run.values[:, feature], run.means[:, feature], run.sds[:, feature]
    low, high = _limits(values, means, sds, run.weights)
    offset = _offset(low, high)
    factor = _factor(max(abs(low - offset), abs(high - offset)))
    attrs = run.feature_attrs.get(run.features[feature], {})
    unit, axis = _names(run.features[feature], attrs, offset, factor)
    plain_axis = offset == 0.0 and factor == 1.0
    return Frame(
        feature=feature,
        name=short(run.features[feature]),
        offset=offset,
        factor=factor,
        low=(low - offset) / factor,
        high=(high - offset) / factor,
        unit=unit,
        label=axis,
        whole_numbers=plain_axis and bool(np.all(values == np.rint(values))),
    )


def called(run: Found, feature: int) -> str:
    """What to write along an axis of a feature as it is: its name, and its unit if it has one."""
    name = run.features[feature]
    return _names(name, run.feature_attrs.get(name, {}), 0.0, 1.0)[1]


def _limits(values: Float64, means: Float64, sds: Float64, weights: Float64) -> tuple[float, float]:
    low, high = (float(v) for v in np.percentile(values, [1.0, 99.0]))
    inside = (means >= low) & (means <= high)
    span = high - low
    if not span > 0.0:  # one row, or a constant
        span = 4.0 * float(np.median(sds[inside])) if inside.any() else 0.0
    if not span > 1e-9 * max(abs(low), abs(high)):
        span = 0.2 * max(abs(low), abs(high)) or 1.0
    counts = weights >= _RELEVANT
    reach = np.concatenate([(means - _SIGMAS * sds)[counts], (means + _SIGMAS * sds)[counts], [low, high]])
    return (
        max(float(reach.min()), low - _WIDER * span) - 0.03 * span,
        min(float(reach.max()), high + _WIDER * span) + 0.03 * span,
    )


def _offset(low: float, high: float) -> float:
    span, middle = high - low, 0.5 * (low + high)
    if abs(middle) < 3e3 * span:
        return 0.0
    step = 10.0 ** math.ceil(math.log10(span))
    return round(middle / step) * step


def _factor(extent: float) -> float:
    if not (extent > 0.0) or 1e-2 <= extent < 1e5:
        return 1.0
    return float(10.0 ** (3 * math.floor(math.log10(extent) / 3.0)))


def _names(name: str, attrs: object, offset: float, factor: float) -> tuple[str, str]:
    given = attrs if isinstance(attrs, dict) else {}
    unit = short(str(given.get("units") or ""), 16)
    unit = "" if unit == "1" else unit
    if factor != 1.0:
        unit = f"{power_of_ten(round(math.log10(factor)))} {unit}".strip()
    text = str(given.get("long_name") or name)
    if offset != 0.0:
        text = (
            f"{short(text, 22)} − {number(offset, 9)}"
            if offset > 0
            else f"{short(text, 22)} + {number(-offset, 9)}"
        )
    return unit, f"{short(text)} ({unit})" if unit else short(text)
