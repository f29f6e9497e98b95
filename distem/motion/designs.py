"""Motion models: what displacement each design allows at a place of the frame."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from distem.types import Float64

DESIGNS: dict[str, tuple[tuple[int, int], ...]] = {
    "translation": ((0, 0),),
    "affine": ((0, 0), (1, 0), (0, 1)),
    "quadratic": ((0, 0), (1, 0), (0, 1), (2, 0), (1, 1), (0, 2)),
}
"""Powers of y and x in the terms of each design, for both directions of the displacement."""


@dataclass(frozen=True)
class Geometry:
    """A frame, and the coordinates a motion is a function of: from its middle, half its longer side the unit.

    Attributes
    ----------
    height, width : int
        Of the frame, in pixels.
    """

    height: int
    width: int

    @property
    def unit(self) -> float:
        """Half the longer side, in pixels."""
        return max(self.height, self.width) / 2.0

    def coordinates(self, y: Float64, x: Float64) -> tuple[Float64, Float64]:
        """Of places in pixels."""
        return (y - (self.height - 1) / 2.0) / self.unit, (x - (self.width - 1) / 2.0) / self.unit


def terms(design: str, y: Float64, x: Float64) -> Float64:
    """Terms of a design, shape (..., p), at coordinates of a `Geometry`."""
    return np.stack([y**a * x**b for a, b in DESIGNS[design]], axis=-1)


def displacement(motion: Float64, design: str, y: Float64, x: Float64) -> tuple[Float64, Float64]:
    """Displacements along y and x, in pixels, of a motion (2, p) at coordinates of a `Geometry`."""
    dy, dx = np.zeros(np.shape(y)), np.zeros(np.shape(y))
    for j, (a, b) in enumerate(DESIGNS[design]):
        term = y**a * x**b
        dy = dy + motion[0, j] * term
        dx = dx + motion[1, j] * term
    return dy, dx


BACK = 12
"""Steps by which a place that moved is found back: each gains a digit where neighbours move nearly alike."""
FAR = 1e6
"""Pixels: a motion that has no way back ends here, outside of every frame."""


def undone(
    motion: Float64, design: str, geometry: Geometry, y: Float64, x: Float64
) -> tuple[Float64, Float64]:
    """Displacements back to where a motion brought places from, in pixels, at coordinates of a `Geometry`."""
    dy, dx = np.zeros(np.shape(y)), np.zeros(np.shape(y))
    for _ in range(BACK):
        dy, dx = displacement(motion, design, y - dy / geometry.unit, x - dx / geometry.unit)
        dy, dx = np.clip(dy, -FAR, FAR), np.clip(dx, -FAR, FAR)
    return -dy, -dx


def in_pixels(motion: Float64, design: str, geometry: Geometry) -> Float64:
    """A motion (..., 2, p) on terms of plain pixel coordinates, y and x from the first pixel.

    There the constant is the displacement of the first pixel, and the terms behind it are per pixel.
    """
    powers = DESIGNS[design]
    shift = (geometry.height - 1) / 2.0, (geometry.width - 1) / 2.0
    out = np.zeros(motion.shape)
    from math import comb

    for j, (a, b) in enumerate(powers):
        for i, (c, e) in enumerate(powers):
            if c <= a and e <= b:
                factor = comb(a, c) * comb(b, e) * (-shift[0]) ** (a - c) * (-shift[1]) ** (b - e)
                out[..., i] += motion[..., j] * (factor / geometry.unit ** (a + b))
    return out
