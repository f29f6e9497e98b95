"""What a segmented raster shows: picture, segments, boundaries, where labels are unsure, colours."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from distem.report.colours import ink
from distem.report.reading import Found
from distem.report.section import Section, Table
from distem.report.svg import Picture, canvas, label, picture
from distem.report.words import number, share, whole

GROUP = "picture"
WIDTH = 520.0
_LINE = (255, 214, 0)
_DIM = 0.55  # the picture behind boundaries
_UNSURE = "probability that the label is wrong"


def sections(run: Found) -> Sequence[Section]:
    """Return the section of a run whose result holds a picture; none for others."""
    held = run.group(GROUP)
    if held is None:
        return ()
    stride = int(held.attrs.get("stride", 1))
    shape = " × ".join(whole(n) for n in held.attrs.get("shape", ()))
    pictures = []
    for frame in range(held.sizes["frame"]):
        more = f" {frame + 1}" if held.sizes["frame"] > 1 else ""
        pictures += [image(v, stride) for v in layers(run, held.isel(frame=frame), frame, more).values()]
    pictures.append(_palette(run, held))
    shown = f"every {stride}th pixel along each side" if stride > 1 else "every pixel"
    smoothing = run.say("config", "output", "smoothing")
    smoothed = (
        f" Labels lean towards their neighbours': beta {number(smoothing['beta'])}, "
        f"{smoothing['iterations']} iterations."
        if isinstance(smoothing, dict)
        else ""
    )
    text = (
        f"The picture has {shape} pixels; shown is {shown}. A segment is drawn in the mean colour of its "
        f"component; where there is no data it is white.{smoothed}"
    )
    return (Section("segments", "Segments", text, tuple(pictures), (_table(run, held),), first=True),)


@dataclass(frozen=True, eq=False)
class Layer:
    """A picture of pixels, and what to write about it."""

    values: NDArray[Any]
    key: str
    title: str
    note: str
    alternative: str


def layers(run: Found, held: xr.Dataset, frame: int, more: str) -> dict[str, Layer]:
    """What there is to see of one frame: the picture, its segments, their boundaries, how unsure they are."""
    colours, palette = held["picture"].values, held["palette"].values
    labels = held["label"].values
    rows, columns = labels.shape
    of = f"of {rows} × {columns} pixels"
    segments = np.concatenate([palette, np.full((1, 3), 255, np.uint8)])[labels]
    edge = boundaries(labels)
    lines = np.where(edge[..., None], np.array(_LINE, np.uint8), (_DIM * colours).astype(np.uint8))
    found = {
        "picture": Layer(
            colours,
            f"picture-{frame}",
            f"Picture{more}",
            "As the data is, pixel by pixel.",
            f"The picture {of}.",
        ),
        "segments": Layer(
            segments,
            f"segment-{frame}",
            f"Segments{more}",
            f"Each pixel in the mean colour of its likeliest {run.part}.",
            f"A picture {of} with {run.k} colours: the most probable {run.part} of each.",
        ),
        "boundaries": Layer(
            lines,
            f"boundary-{frame}",
            f"Boundaries{more}",
            "Yellow where the label differs from that of the next pixel.",
            f"The boundaries between segments over the picture; {share(float(edge.mean()))} of the pixels "
            "lie on one.",
        ),
    }
    if "uncertainty" in held:
        values = held["uncertainty"].values.astype(np.float64)
        unsure = float(np.mean(values[np.isfinite(values)] > 0.2)) if np.isfinite(values).any() else 0.0
        found["uncertainty"] = Layer(
            values,
            f"unsure-{frame}",
            f"Uncertainty{more}",
            "How probably a label is wrong; bright edges are soft.",
            f"The uncertainty of each pixel, from 0 to 1; {share(unsure)} are above 0.2.",
        )
    return found


def boundaries(labels: NDArray[np.integer[Any]]) -> NDArray[np.bool_]:
    """Return which pixels differ from the one to the right or below."""
    edge = np.zeros(labels.shape, np.bool_)
    edge[:, :-1] |= labels[:, :-1] != labels[:, 1:]
    edge[:-1] |= labels[:-1] != labels[1:]
    return edge


def image(shown: Layer, stride: int, *, beside: bool = False) -> Picture:
    """Draw a layer; `beside`: with the scale of its tones at its side."""
    values = shown.values
    rows, columns = values.shape[:2]
    height = min(max(WIDTH * rows / columns, 120.0), 2.0 * WIDTH) + 50.0
    with canvas(WIDTH, height) as (figure, axes):
        extent = (0, stride * columns, stride * rows, 0)
        if values.ndim == 3:
            axes.imshow(values, interpolation="none", extent=extent)
        else:
            _shaded(figure, axes, values, extent, beside)
        axes.set_anchor("N")  # pictures beside each other begin at one height
        axes.grid(visible=False)
        label(axes, "x (pixel)", "y (pixel)")
        return picture(figure, shown.key, shown.title, shown.note, shown.alternative)


def _shaded(
    figure: Figure, axes: Axes, values: NDArray[Any], extent: tuple[int, int, int, int], beside: bool
) -> None:
    drawn = axes.imshow(values, interpolation="none", extent=extent, cmap="cividis", vmin=0.0)
    if beside:
        place = axes.inset_axes((1.03, 0.0, 0.04, 1.0))  # as high as the picture
        figure.colorbar(drawn, cax=place, label=_UNSURE)
        return
    # in the corner below, so that the picture is as large as those beside it
    high = 0.92 * WIDTH * len(values) / values.shape[1]
    place = axes.inset_axes((0.66, -28.0 / high, 0.34, 7.0 / high))
    bar = figure.colorbar(drawn, cax=place, orientation="horizontal")
    bar.set_label(_UNSURE, fontsize=9.5)
    bar.ax.tick_params(length=2)
    bar.outline.set_edgecolor(ink("soft"))


def _palette(run: Found, held: xr.Dataset) -> Picture:
    palette = held["palette"].values
    counts = _counts(held)
    with canvas(WIDTH, 60.0 + 22.0 * len(palette)) as (figure, axes):
        axes.barh(
            np.arange(len(palette)),
            100 * counts,
            color=[_hex(colour) for colour in palette],
            edgecolor=ink("soft"),
            linewidth=0.8,
        )
        axes.set_yticks(np.arange(len(palette)), [str(i) for i in range(len(palette))])
        axes.invert_yaxis()
        label(axes, "share of the pixels shown (%)", run.part)
        return picture(
            figure,
            "palette",
            "Colours",
            f"The mean colour of each {run.part}, and how much of the picture it labels.",
            "; ".join(
                f"{run.part} {i}: {_hex(c)}, {share(n)}" for i, (c, n) in enumerate(zip(palette, counts))
            ),
        )


def _table(run: Found, held: xr.Dataset) -> Table:
    palette, counts = held["palette"].values, _counts(held)
    rows = tuple(
        (str(i), _hex(colour), share(float(n))) for i, (colour, n) in enumerate(zip(palette, counts))
    )
    swatches = tuple(_hex(colour) for colour in palette)
    return Table(
        f"Each {run.part}'s colour", (run.part, "mean colour", "of the pixels shown"), rows, swatches
    )


def _counts(held: xr.Dataset) -> NDArray[np.float64]:
    labels = held["label"].values
    counts = np.bincount(labels[labels >= 0].ravel(), minlength=held.sizes["component"]).astype(np.float64)
    return counts / max(1, labels.size)


def _hex(colour: NDArray[np.uint8]) -> str:
    return "#" + "".join(f"{int(c):02x}" for c in colour)
