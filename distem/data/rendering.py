"""How a raster looks: which bands are shown as red, green and blue, and the colour of a component."""

from __future__ import annotations

import colorsys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from distem.data.colours import RGB, SPACES
from distem.data.derive import DerivedSource, full_brightness
from distem.data.scan import Scan
from distem.data.source import Source
from distem.types import Float64

Bytes = NDArray[np.uint8]

_SIGMAS = 2.0


def bands_of(source: Source) -> Source:
    """Return the source of the bands that features were made of, or the source itself."""
    return source.base if isinstance(source, DerivedSource) else source


@dataclass(frozen=True, eq=False)
class Rendering:
    """Shows bands as colours.

    Attributes
    ----------
    columns : tuple of int
        The bands shown as red, green and blue; three times the same for a gray picture.
    low, high : ndarray, shape (3,)
        What is shown black, and what in full brightness.
    """

    columns: tuple[int, int, int]
    low: Float64
    high: Float64

    @classmethod
    def of(cls, source: Source, scan: Scan) -> Rendering:
        """Choose what to show of a source.

        Pictures of bytes, and bands that a colour space was made of, are shown as they are; of others the
        first three bands, or those called red, green and blue, between two standard deviations below and
        above their means.
        """
        base = bands_of(source)
        lower = [name.lower() for name in base.features]
        if set(RGB) <= set(lower):
            columns = tuple(lower.index(name) for name in RGB)
        else:
            columns = (0, 1, 2) if base.d >= 3 else (0, 0, 0)
        converted = isinstance(source, DerivedSource) and source.derive.colour != "rgb"
        white = full_brightness(base)
        if converted and isinstance(source, DerivedSource) and source.derive.white is not None:
            white = source.derive.white
        if converted or white == 255.0:
            return cls(columns, np.zeros(3), np.full(3, white))  # type: ignore[arg-type]
        at = [source.features.index(base.features[j]) for j in columns]
        spread = _SIGMAS * scan.std[at]
        low = np.maximum(scan.minimum[at], scan.mean[at] - spread)
        high = np.minimum(scan.maximum[at], scan.mean[at] + spread)
        return cls(columns, low, high)  # type: ignore[arg-type]

    def __call__(self, bands: NDArray[Any]) -> Bytes:
        """Return bands (..., b) as colours (..., 3); missing ones are white."""
        return self._colours(bands[..., list(self.columns)].astype(np.float64))

    def _colours(self, rgb: Float64) -> Bytes:
        span = np.where(self.high > self.low, self.high - self.low, 1.0)
        with np.errstate(invalid="ignore", over="ignore"):
            level = np.clip((rgb - self.low) / span, 0.0, 1.0)
        shown: Bytes = np.where(np.isfinite(level), np.rint(255 * level), 255).astype(np.uint8)
        return shown

    def palette(self, source: Source, means: Float64 | None, k: int) -> Bytes:
        """Return each component's colour, shape (k, 3): that of its mean, as the picture shows it.

        Parameters
        ----------
        source : Source
            What the model was fitted to.
        means : ndarray, shape (k, d), or None
            In the data's units; None for models without: colours that can be told apart.
        k : int
            Number of components.
        """
        if means is None:
            hues = [colorsys.hsv_to_rgb(0.618 * i % 1.0, 0.65, 0.9) for i in range(k)]
            return np.array(np.rint(255 * np.array(hues)), np.uint8).reshape(k, 3)
        base = bands_of(source)
        named = dict(zip(source.features, np.asarray(means, np.float64).T, strict=True))
        if isinstance(source, DerivedSource) and source.derive.colour != "rgb":
            space = SPACES[source.derive.colour]
            levels = space.backward(_stacked(named, space.features))
            return self._colours(self.low + np.clip(levels, 0.0, 1.0) * (self.high - self.low))
        return self._colours(_stacked(named, [base.features[j] for j in self.columns]))


def _stacked(named: Mapping[str, Float64], names: Sequence[str]) -> Float64:
    return np.stack([named[name] for name in names], axis=-1)
