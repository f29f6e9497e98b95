"""Where labels are unsure, on a map: for rows that lie on a grid."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass

import numpy as np
import xarray as xr

from distem.data.neighbours import spatial_axes
from distem.report.reading import UNSURE, Found
from distem.report.svg import Picture, canvas, label, picture
from distem.report.words import number, plain, share, short, whole
from distem.types import Float64

MOST = 1200
"""Pixels along a side that are read; of a larger grid, those in its middle."""
_DRAWN = 400
"""Pixels along a side that are drawn: means of what lies between."""
NORTH = ("lat", "latitude", "northing")
"""Larger values of these belong to the top, and of whatever else down a map has a unit."""
OFF = 0.1
"""Of a step: a coordinate whose pixels lie less off a straight line is even."""
TICKS = 5
"""Pixels of an uneven coordinate that are named."""


@dataclass(frozen=True, eq=False)
class Along:
    """A side of the piece.

    Attributes
    ----------
    label : str
        What to write along the axis.
    ends : tuple of float
        Edges of the first and the last pixel, on the axis.
    northward : bool
        Whether the last pixel belongs to the top.
    ticks : tuple of (int, str)
        Pixels with their coordinates, where the axis counts pixels because their steps are uneven.
    """

    label: str
    ends: tuple[float, float]
    northward: bool
    ticks: tuple[tuple[int, str], ...] = ()


@dataclass(frozen=True, eq=False)
class Window:
    """A piece of the grid.

    Attributes
    ----------
    values : ndarray, shape (rows, columns)
        Uncertainty; NaN where there is no label.
    down, across : Along
    note : str
        Which piece it is.
    """

    values: Float64
    down: Along
    across: Along
    note: str


def uncertainty_map(run: Found) -> Picture | None:
    """The uncertainty on the data's own grid; None where rows lie on none, or where it is shown elsewhere."""
    window = _window(run)
    if window is None:
        return None
    tall, wide = (max(1, -(-n // _DRAWN)) for n in window.values.shape)
    rows, columns = window.values.shape[0] // tall, window.values.shape[1] // wide
    cut = window.values[: rows * tall, : columns * wide].reshape(rows, tall, columns, wide)
    counts = np.isfinite(cut).sum(axis=(1, 3))
    with np.errstate(invalid="ignore"):
        drawn = np.where(counts > 0, np.nansum(cut, axis=(1, 3)) / np.maximum(counts, 1), np.nan)
    known = window.values[np.isfinite(window.values)]
    if not known.size:
        return None
    down, across = window.down, window.across
    height = float(np.clip(460.0 * window.values.shape[0] / window.values.shape[1], 160.0, 620.0))
    with canvas(520, height + 46.0) as (figure, axes):
        extent = (*across.ends, *down.ends[::-1])
        shown = axes.imshow(
            drawn, cmap="cividis", vmin=0.0, interpolation="nearest", extent=extent, aspect="auto"
        )
        if down.northward:
            axes.invert_yaxis()
        for side, set_ticks in ((across, axes.set_xticks), (down, axes.set_yticks)):
            if side.ticks:
                set_ticks(*zip(*side.ticks, strict=True))
        axes.grid(visible=False)
        bar = figure.colorbar(shown, ax=axes, shrink=0.85, pad=0.02)
        bar.set_label("probability that the label is wrong")
        bar.outline.set_visible(False)
        label(axes, across.label, down.label)
        return picture(
            figure,
            "uncertainty-map",
            "Where labels are unsure",
            f"{window.note}{share(float((known > UNSURE).mean()))} of the rows shown are above {UNSURE:g}.",
            f"A map of the uncertainty of {whole(known.size)} rows along {down.label} and "
            f"{across.label}: {known.mean():.3f} in the mean, "
            f"{share(float((known > UNSURE).mean()))} are above {UNSURE:g}.",
        )


def _window(run: Found) -> Window | None:
    dataset = run.opened("assignment", decode_times=False)
    if dataset is None:
        return None
    with dataset:
        if "uncertainty" not in dataset or run.holds("picture") or run.holds("frames"):
            return None
        held = dataset["uncertainty"]
        if held.ndim < 2 or min(held.shape) < 2:
            return None
        places = spatial_axes([str(dim) for dim in held.dims])
        names = [held.dims[axis] for axis in places]
        others = {dim: held.sizes[dim] // 2 for dim in held.dims if dim not in names}
        middle, told = {}, []
        for dim in names:
            size = held.sizes[dim]
            first = max(0, (size - MOST) // 2)
            middle[dim] = slice(first, min(size, first + MOST))
        if any(held.sizes[dim] > MOST for dim in names):
            told.append(f"The middle of the grid, {MOST} pixels along a side. ")
        if others:
            told.append("At " + ", ".join(f"{dim} number {at}" for dim, at in others.items()) + ". ")
        if any(_no_place(held[dim]) for dim in names):
            return None
        piece = held.isel({**others, **middle}).transpose(*names).load()
    down, across = (_along(piece, dim, middle[dim].start) for dim in names)
    return Window(np.asarray(piece.values, dtype=np.float64), down, across, "".join(told))


def _no_place(along: xr.DataArray) -> bool:
    """Whether a dimension is of time, or of names."""
    units = str(along.attrs.get("units", ""))
    return " since " in units or str(along.name) == "time" or along.dtype.kind not in "iuf"


def _along(piece: xr.DataArray, dim: Hashable, first: int) -> Along:
    """A side of the piece: on its coordinate, or in numbers of pixels from the first that was read."""
    n, place = piece.sizes[dim], piece[dim]
    steps = np.diff(place.values.astype(np.float64))
    if dim not in piece.coords or not ((steps > 0.0).all() or (steps < 0.0).all()):
        return Along(_called(place, "pixel"), (first - 0.5, first + n - 0.5), False)
    north = str(dim).lower() in NORTH or bool(place.attrs.get("units"))
    northward = bool(north and steps[0] > 0.0)
    if not _even(place):
        ticks = np.unique(np.linspace(0, n - 1, TICKS).round().astype(np.int64))
        told = tuple((int(i), number(float(place.values[i]))) for i in ticks)
        return Along(_called(place), (-0.5, n - 0.5), northward, told)
    low, high = float(place.values[0]), float(place.values[-1])
    half = 0.5 * (high - low) / (n - 1)
    return Along(_called(place), (low - half, high + half), northward)


def _even(place: xr.DataArray) -> bool:
    """Whether no pixel lies off the straight line from the first to the last, but for rounding."""
    values = place.values if place.dtype.kind == "f" else place.values.astype(np.float64)
    line = np.linspace(float(values[0]), float(values[-1]), len(values))
    step = abs(line[1] - line[0])
    return bool(np.abs(values - line).max() <= OFF * step + np.spacing(np.abs(values).max()))


def _called(place: xr.DataArray, otherwise: str = "") -> str:
    name = short(plain(str(place.attrs.get("long_name") or place.name)), 24)
    unit = otherwise or str(place.attrs.get("units") or "")
    return f"{name} ({plain(unit)})" if unit else name
