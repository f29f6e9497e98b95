"""The stage that shows a segmented raster: label images, and a small picture kept with the result.

It comes after `assign` and before `publish`.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from distem.data import results
from distem.data.label_images import place_of, write_geotiff, write_png
from distem.data.neighbours import spatial_axes
from distem.data.rendering import Rendering, bands_of
from distem.errors import ConfigError
from distem.events import Note
from distem.stages import Fitted, Scanned, Session

GROUP = "picture"
SIDE = 640
"""Pixels of the longer side of the picture that is kept for the report."""
FRAMES = 3
"""So many of a stack of pictures are kept."""


def pictures(session: Session, scanned: Scanned, fitted: Fitted) -> None:
    """Write the images that `output.images` asks for, and a small picture of data and labels into the result.

    The palette has each component's mean colour, as the picture shows the data.

    Raises
    ------
    ConfigError
        The rows are no picture.
    """
    if "label" not in session.config.output.variables:
        return
    source = session.source
    rendering = Rendering.of(source, scanned.scan)
    try:
        means = fitted.model.means
    except ConfigError:
        means = None
    palette = rendering.palette(source, means, fitted.model.k)
    with session.interruptible():
        _images(session, palette)
        results.write_group(session.folder.result, GROUP, _preview(session, rendering, palette))


def _images(session: Session, palette: NDArray[np.uint8]) -> None:
    asked = session.config.output.images
    if not asked:
        return
    folder, grid = session.folder.images, session.source.grid
    folder.mkdir(exist_ok=True)
    down, across = spatial_axes(grid.dims)
    shape, step = (grid.shape[down], grid.shape[across]), grid.regular_sizes[down]
    frames = list(_frames(grid.shape, (down, across)))
    digits = len(str(len(frames) - 1))
    for number, frame in enumerate(frames):
        name = f"label_{number:0{digits}d}" if len(frames) > 1 else "label"
        rows = partial(_labels, session.folder.result, frame, (down, across))
        if "png" in asked:
            stride = write_png(folder / f"{name}.png", rows, shape, step, palette)
            if stride > 1:
                session.observe(
                    Note(f"{name}.png shows every {stride}th pixel of {shape[0]:,} × {shape[1]:,}")
                )
        if "geotiff" in asked:
            maps = [attrs.get("grid_mapping") for attrs in session.source.feature_attrs.values()]
            found = next((str(name) for name in maps if name), None)
            place = place_of(session.source.reader, (grid.dims[down], grid.dims[across]), found)
            write_geotiff(folder / f"{name}.tif", rows, shape, step, palette, place)


def _frames(shape: tuple[int, ...], axes: tuple[int, int]) -> Iterator[dict[int, int]]:
    """Each picture of a stack, as the indices along the other dimensions."""
    others = [axis for axis in range(len(shape)) if axis not in axes]
    for at in np.ndindex(*(shape[axis] for axis in others)):
        yield dict(zip(others, at, strict=True))


def _labels(path: str, frame: dict[int, int], axes: tuple[int, int], rows: slice) -> NDArray[Any]:
    """The labels of some rows of a picture of the stack."""
    array = results.assigned(path, "label")
    key = tuple(rows if axis == axes[0] else frame.get(axis, slice(None)) for axis in range(array.ndim))
    values = np.asarray(array[key])
    return values if axes[0] < axes[1] else values.T


def _preview(session: Session, rendering: Rendering, palette: NDArray[np.uint8]) -> xr.Dataset:
    """A picture of the data, its labels and their uncertainty, every few pixels; read chunk by chunk."""
    base, path = bands_of(session.source), session.folder.result
    grid = base.grid
    axes = down, across = spatial_axes(grid.dims)
    shape = grid.shape[down], grid.shape[across]
    stride = max(1, -(-max(shape) // SIDE))
    at = [np.arange(stride // 2, length, stride) for length in grid.shape]
    for axis in set(range(len(at))) - set(axes):
        at[axis] = np.unique(np.linspace(0, grid.shape[axis] - 1, FRAMES).astype(np.int64))
    size = [len(places) for places in at]
    picture = np.full([*size, 3], 255, np.uint8)
    kinds = {"label": (np.int32, -1), "uncertainty": (np.float32, np.nan)}
    found: dict[str, NDArray[Any]] = {
        name: np.full(size, fill, dtype)
        for name, (dtype, fill) in kinds.items()
        if name in session.config.output.variables
    }
    kept = {name: results.assigned(path, name) for name in found}
    for chunk in range(grid.n_chunks):
        box = grid.region(chunk)
        ends = [np.searchsorted(places, [s.start, s.stop]) for places, s in zip(at, box, strict=True)]
        spans = tuple(slice(int(first), int(last)) for first, last in ends)
        inside = np.ix_(*(p[span] - s.start for p, span, s in zip(at, spans, box, strict=True)))
        if 0 in np.broadcast_shapes(*(i.shape for i in inside)):
            continue
        values, _ = base.read(range(chunk, chunk + 1))
        picture[spans] = rendering(values.reshape(*grid.chunk_shape(chunk), base.d)[inside])
        for name, array in kept.items():
            found[name][spans] = np.asarray(array[box])[inside]
    flat = (-1, len(at[down]), len(at[across]))
    data: dict[str, Any] = {
        name: (("frame", "y", "x"), np.moveaxis(values, axes, (-2, -1)).reshape(flat))
        for name, values in found.items()
    }
    data["picture"] = (
        ("frame", "y", "x", "channel"),
        np.moveaxis(picture, axes, (-3, -2)).reshape(*flat, 3),
    )
    data["palette"] = (("component", "channel"), palette)
    attrs = {"stride": stride, "shape": list(shape), "dims": [grid.dims[down], grid.dims[across]]}
    return xr.Dataset(data, coords={"y": at[down], "x": at[across]}, attrs=attrs)
