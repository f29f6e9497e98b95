"""What a run that followed motions has to show: frames with their layers, and how each layer moves."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from distem.report.colours import component, dash, ink, shade
from distem.report.reading import Found
from distem.report.section import Section, Table
from distem.report.svg import Picture, canvas, label, picture
from distem.report.words import number, share, whole
from distem.types import Float64

WIDTH, ACROSS, GAP = 1000.0, 3, 6
"""Units of the contact sheet, frames in a row of it, and pixels between them."""
TINT = {"first": 0.22, "other": 0.55, "outlier": 0.6}
NAMED = 10
"""Layers up to which a figure names each."""
ARROW = 18.0
"""An arrow of the fastest layer is this share of a frame's width, in hundredths."""


def sections(run: Found) -> Sequence[Section]:
    """The contact sheet, and the tracks."""
    model = run.model
    made = []
    frames = run.group("frames")
    if frames is not None and "label" in frames:
        text = (
            "Every frame is tinted by the layer that each pixel most probably belongs to; grey pixels follow "
            "none of the motions. Arrows show how the middle of a layer moves, longer than it is. "
            "Layer 0 is the largest of the first pair, mostly what the camera does."
        )
        made.append(Section("layers", "Layers", text, (_sheet(model, frames),), wide=True, first=True))
    pictures = (velocities(model), shares(model), paths(model))
    made.append(
        Section(
            "tracks",
            "Tracks",
            "How each layer moves, and where it is.",
            pictures,
            (_table(model),),
            first=True,
        )
    )
    return made


def _outlier(model: xr.Dataset) -> int | None:
    k = model.sizes["component"]
    return k - 1 if k > model.sizes["motion"] else None


def tinted(picture: NDArray[np.uint8], labels: NDArray[np.int32], outlier: int | None) -> NDArray[np.uint8]:
    """A frame in grey with its layers in colour, and lines between them."""
    grey = 40.0 + 0.84 * picture.astype(np.float64).mean(axis=-1, keepdims=True)
    out = np.repeat(grey, 3, axis=-1)
    for c in np.unique(labels[labels >= 0]):
        colour = np.array([150.0, 150.0, 150.0]) if c == outlier else np.array(shade(int(c)))
        strength = TINT["outlier" if c == outlier else "first" if c == 0 else "other"]
        mine = labels == c
        out[mine] = (1 - strength) * out[mine] + strength * colour
    edge = np.zeros(labels.shape, dtype=bool)
    edge[:, 1:] |= labels[:, 1:] != labels[:, :-1]
    edge[1:] |= labels[1:] != labels[:-1]
    out[edge] = 0.4 * out[edge] + 0.6 * 255.0
    return out.round().astype(np.uint8)


def _sheet(model: xr.Dataset, frames: xr.Dataset) -> Picture:
    outlier, step = _outlier(model), int(frames.attrs["step"])
    pictures = frames["picture"].values
    count, rows, columns = pictures.shape[:3]
    down = -(-count // ACROSS)
    sheet = np.full((down * (rows + GAP) - GAP, ACROSS * (columns + GAP) - GAP, 4), 0, dtype=np.uint8)
    corners = [((i // ACROSS) * (rows + GAP), (i % ACROSS) * (columns + GAP)) for i in range(count)]
    for (y, x), shot, labels in zip(corners, pictures, frames["label"].values, strict=True):
        sheet[y : y + rows, x : x + columns, :3] = tinted(shot, labels, outlier)
        sheet[y : y + rows, x : x + columns, 3] = 255
    pairs = frames["frame"].values
    speed = np.hypot(model["velocity_y"].values, model["velocity_x"].values)
    fastest = float(np.nanmax(speed)) if np.isfinite(speed).any() else 0.0
    longer = ARROW / 100.0 * columns * step / fastest if fastest > 0.0 else 0.0
    with canvas(WIDTH, WIDTH * sheet.shape[0] / sheet.shape[1] + 12.0) as (figure, axes):
        axes.imshow(sheet, interpolation="none")
        for (y, x), pair in zip(corners, pairs, strict=True):
            box = {"facecolor": "#000000", "alpha": 0.55, "edgecolor": "none", "pad": 1.5}
            axes.text(x + 5, y + 5, f"pair {pair + 1}", va="top", color="#ffffff", fontsize=9, bbox=box)
            _arrows(axes, model, int(pair), x, y, step, longer)
        axes.set_axis_off()
        shares = ", ".join(f"layer {c} {share(float(v))}" for c, v in enumerate(model["weights"].values))
        size = f"{whole(model.attrs['width'])} × {whole(model.attrs['height'])}"
        return picture(
            figure, "contact-sheet", "Frames and their layers",
            f"Each frame is of {size} pixels.",
            f"{whole(count)} of {whole(model.sizes['pair'])} pairs, each pixel tinted by its layer. "
            f"Mean shares: {shares}.",
        )  # fmt: skip


def _arrows(axes: Axes, model: xr.Dataset, pair: int, x: int, y: int, step: int, longer: float) -> None:
    for c in range(model.sizes["motion"]):
        at = np.array([float(model[name].values[pair, c]) for name in ("x", "y")]) / step
        move = np.array([float(model[f"velocity_{d}"].values[pair, c]) for d in ("x", "y")]) * longer / step
        if not np.isfinite([*at, *move]).all() or float(model["share"].values[pair, c]) < 0.005:
            continue
        if float(np.hypot(*move)) < 0.02 * model.attrs["width"] / step:
            continue  # it stands, or nearly
        colour = "#" + "".join(f"{channel:02x}" for channel in shade(c))
        tail, head = (at[0] + x, at[1] + y), (at[0] + move[0] + x, at[1] + move[1] + y)
        for tint, thick, size in (("#ffffff", 3.4, 0.28), (colour, 1.8, 0.22)):
            style = f"-|>,head_width={size},head_length={2 * size}"
            about = {"arrowstyle": style, "color": tint, "linewidth": thick, "shrinkA": 0, "shrinkB": 0}
            axes.annotate("", xy=head, xytext=tail, arrowprops=about)


def _lines(model: xr.Dataset, key: str, title: str, series: Float64, y: str, note: str, told: str) -> Picture:
    pairs, outlier = 1 + np.arange(model.sizes["pair"]), _outlier(model)
    with canvas(330.0, 250.0) as (figure, axes):
        for c in range(series.shape[1]):
            marker = "o" if len(pairs) < 3 else ""
            name = "outliers" if c == outlier else f"layer {c}"
            axes.plot(pairs, series[:, c], color=component(c), linestyle=dash(c), marker=marker, label=name)
        if series.shape[1] <= NAMED:
            axes.legend(frameon=False, fontsize=9)
        axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
        label(axes, "pair of frames", y)
        return picture(figure, key, title, note, told)


def velocities(model: xr.Dataset) -> Picture:
    """Speed of each layer, by pair of frames."""
    speed = np.hypot(model["velocity_y"].values, model["velocity_x"].values)
    mean = ", ".join(f"layer {c}: {number(float(v), 3)}" for c, v in enumerate(np.nanmean(speed, axis=0)))
    return _lines(
        model, "speeds", "Speed of each layer", speed, "speed (pixels per frame)", "At the layer's middle.",
        f"Speed by pair of frames. Means in pixels per frame: {mean}.",
    )  # fmt: skip


def shares(model: xr.Dataset) -> Picture:
    """Share of each layer, by pair of frames."""
    values = model["share"].values
    mean = ", ".join(f"layer {c}: {share(float(v))}" for c, v in enumerate(values.mean(axis=0)))
    return _lines(
        model, "shares", "Share of each layer", values, "share of the pixels", "Outliers follow no layer.",
        f"Share of the pixels by pair of frames. Means: {mean}.",
    )  # fmt: skip


def paths(model: xr.Dataset) -> Picture:
    """Where the middle of each layer is."""
    height, width = int(model.attrs["height"]), int(model.attrs["width"])
    x, y, shares = (model[name].values for name in ("x", "y", "share"))
    told = []
    with canvas(330.0, max(150.0, 290.0 * height / width + 60.0)) as (figure, axes):
        for c in range(model.sizes["motion"]):
            seen = shares[:, c] > 0.005
            axes.plot(
                x[seen, c], y[seen, c], color=component(c), linestyle=dash(c), marker=".", label=f"layer {c}"
            )
            if seen.any():
                first, last = np.flatnonzero(seen)[[0, -1]]
                ends = (x[first, c], y[first, c], x[last, c], y[last, c])
                told.append(
                    "layer {}: from ({}, {}) to ({}, {})".format(c, *(number(float(v), 4) for v in ends))
                )
        axes.set_xlim(0, width)
        axes.set_ylim(height, 0)
        axes.spines[["top", "right"]].set_visible(True)
        axes.spines[["top", "right"]].set_color(ink("faint"))
        if model.sizes["motion"] <= NAMED:
            axes.legend(frameon=False, fontsize=9)
        label(axes, "x (pixel)", "y (pixel)")
        return picture(
            figure, "paths", "Where the middle of each layer is", "One dot for each pair of frames.",
            f"Middles of the layers in the frame. {'; '.join(told)}.",
        )  # fmt: skip


def _table(model: xr.Dataset) -> Table:
    outlier = _outlier(model)
    rows = []
    for c in range(model.sizes["component"]):
        portion = share(float(model["weights"].values[c]))
        if c == outlier:
            rows.append((f"{c} (outliers)", portion, "", "", "", ""))
            continue
        along_x, along_y = model["velocity_x"].values[:, c], model["velocity_y"].values[:, c]
        error = np.hypot(*model["errors"].values[:, c, :, 0].T)
        rows.append(
            (
                str(c),
                portion,
                number(float(np.nanmean(along_x)), 3),
                number(float(np.nanmean(along_y)), 3),
                number(float(np.nanmedian(error)), 2),
                number(float(np.nanmedian(model["noise"].values[:, c])), 3),
            )
        )
    heads = ("layer", "share", "x velocity", "y velocity", "standard error", "noise")
    return Table("Means over all pairs; velocities in pixels per frame", heads, tuple(rows))
