"""Where labels are unsure, on a map: for rows that lie on a grid."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import xarray as xr

from distem.data.neighbours import spatial_axes
from distem.report.reading import UNSURE, Found
from distem.report.svg import Picture, canvas, label, picture
from distem.report.words import plain, share, short, whole
from distem.types import Float64

MOST = 1200
"""Pixels along a side that are read; of a larger grid, those in its middle."""
_DRAWN = 400
"""Pixels along a side that are drawn: means of what lies between."""


@dataclass(frozen=True, eq=False)
class Window:
    """A piece of the grid.

    Attributes
    ----------
    values : ndarray, shape (rows, columns)
        Uncertainty; NaN where there is no label.
    down, across : DataArray
        Coordinates, or numbers of pixels.
    note : str
        Which piece it is.
    """

    values: Float64
    down: xr.DataArray
    across: xr.DataArray
    note: str


def uncertainty_map(run: Found) -> Picture | None:
    """The uncertainty on the data's own grid; None where rows lie on none, or where it is shown elsewhere."""
    window = _window(run)
    if window is None:
        return None
    step = max(1, -(-max(window.values.shape) // _DRAWN))
    rows, columns = (n // step for n in window.values.shape)
    cut = window.values[: rows * step, : columns * step].reshape(rows, step, columns, step)
    counts = np.isfinite(cut).sum(axis=(1, 3))
    with np.errstate(invalid="ignore"):
        drawn = np.where(counts > 0, np.nansum(cut, axis=(1, 3)) / np.maximum(counts, 1), np.nan)
    known = window.values[np.isfinite(window.values)]
    if not known.size:
        return None
    down, across = (_ends(c) for c in (window.down, window.across))
    tall = float(np.clip(460.0 * rows / columns, 160.0, 620.0))
    with canvas(520, tall + 46.0) as (figure, axes):
        extent = (across[0], across[1], down[1], down[0])
        shown = axes.imshow(
            drawn, cmap="cividis", vmin=0.0, interpolation="nearest", extent=extent, aspect="auto"
        )
        if down[0] < down[1] and _northward(window.down):
            axes.invert_yaxis()
        axes.grid(visible=False)
        bar = figure.colorbar(shown, ax=axes, shrink=0.85, pad=0.02)
        bar.set_label("probability that the label is wrong")
        bar.outline.set_visible(False)
        label(axes, _called(window.across), _called(window.down))
        return picture(
            figure,
            "uncertainty-map",
            "Where labels are unsure",
            f"{window.note}{share(float((known > UNSURE).mean()))} of the rows shown are above {UNSURE:g}.",
            f"A map of the uncertainty of {whole(known.size)} rows along {_called(window.down)} and "
            f"{_called(window.across)}: {known.mean():.3f} in the mean, "
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
    down, across = (piece[dim] for dim in names)
    return Window(np.asarray(piece.values, dtype=np.float64), down, across, "".join(told))


def _no_place(along: xr.DataArray) -> bool:
    """Whether a dimension is of time, or of names."""
    units = str(along.attrs.get("units", ""))
    return " since " in units or str(along.name) == "time" or along.dtype.kind not in "iuf"


def _even(place: xr.DataArray) -> bool:
    """Whether a coordinate has numbers in even steps."""
    values = place.values
    if values.dtype.kind not in "iuf" or len(values) < 2:
        return False
    steps = np.diff(values.astype(np.float64))
    return bool(np.isfinite(steps).all() and np.ptp(steps) <= 1e-3 * abs(steps.mean()) and steps[0] != 0)


def _ends(place: xr.DataArray) -> tuple[float, float]:
    """Edges of the first and the last pixel."""
    if not _even(place):
        return 0.0, float(len(place))
    values = place.values.astype(np.float64)
    half = 0.5 * (values[-1] - values[0]) / (len(values) - 1)
    return float(values[0] - half), float(values[-1] + half)


def _northward(place: xr.DataArray) -> bool:
    """Whether larger values belong to the top: latitudes and northings, not numbers of pixels."""
    name = str(place.name).lower()
    return _even(place) and (name in ("lat", "latitude", "northing") or bool(place.attrs.get("units")))


def _called(place: xr.DataArray) -> str:
    name = short(plain(str(place.attrs.get("long_name") or place.name)), 24)
    unit = str(place.attrs.get("units") or ("" if _even(place) and place.name in place.coords else "pixel"))
    return f"{name} ({plain(unit)})" if unit else name
