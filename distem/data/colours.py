"""Colour spaces in which clusters of pixels look like Gaussians, by scikit-image, and back."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from typing import Any

import numpy as np

from distem.data._names import need
from distem.errors import ConfigError
from distem.types import Float64

RGB = ("red", "green", "blue")


@dataclass(frozen=True)
class Colours:
    """A colour space.

    Attributes
    ----------
    features : tuple of str
        Names of its three channels.
    lightness : int
        The channel that says how bright a pixel is.
    forward, backward : callable
        From red, green and blue between 0 and 1 to the channels, and back; shape (..., 3).
    """

    features: tuple[str, str, str]
    lightness: int
    forward: Callable[[Float64], Float64]
    backward: Callable[[Float64], Float64]


def _scikit_image(name: str) -> Callable[[Float64], Float64]:
    def convert(values: Float64) -> Float64:
        try:
            module = import_module("skimage.color")
            function: Callable[..., Any] = getattr(module, name)
        except ImportError as error:
            raise need("image", "A colour space", error) from error
        with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
            return np.asarray(function(values), np.float64)

    return convert


def _cone(values: Float64) -> Float64:
    """Hue is an angle, and 359° is next to 1°: hue and chroma as a point of the plane."""
    hue, saturation, value = np.moveaxis(_scikit_image("rgb2hsv")(values), -1, 0)
    chroma, angle = saturation * value, 2 * np.pi * hue
    return np.stack([chroma * np.cos(angle), chroma * np.sin(angle), value], axis=-1)


def _from_cone(values: Float64) -> Float64:
    across, up, value = np.moveaxis(values, -1, 0)
    hue = np.mod(np.arctan2(up, across) / (2 * np.pi), 1.0)
    with np.errstate(invalid="ignore", divide="ignore"):
        saturation = np.where(value > 0, np.hypot(across, up) / value, 0.0)
    return _scikit_image("hsv2rgb")(np.stack([hue, np.clip(saturation, 0, 1), np.clip(value, 0, 1)], axis=-1))


SPACES = {
    "lab": Colours(("L", "a", "b"), 0, _scikit_image("rgb2lab"), _scikit_image("lab2rgb")),
    "luv": Colours(("L", "u", "v"), 0, _scikit_image("rgb2luv"), _scikit_image("luv2rgb")),
    "ycbcr": Colours(("luma", "Cb", "Cr"), 0, _scikit_image("rgb2ycbcr"), _scikit_image("ycbcr2rgb")),
    "hsv": Colours(("chroma_x", "chroma_y", "value"), 2, _cone, _from_cone),
}
"""By the name a config gives them."""


def colours(name: str) -> Colours:
    """Return a colour space by its name.

    Raises
    ------
    ConfigError
        There is none of that name.
    """
    if name not in SPACES:
        raise ConfigError(f"There is no colour space '{name}'.", f"It can be rgb, {', '.join(SPACES)}.")
    return SPACES[name]
