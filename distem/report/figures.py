"""Pictures of the mixture in the data: features in pairs, and how sure the labels are."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.patches import Ellipse, PathPatch
from matplotlib.path import Path as Outline
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter, NullLocator

from distem.report.colours import component, dash, ink
from distem.report.frames import Frame
from distem.report.reading import UNSURE, Found
from distem.report.svg import PANEL, Picture, canvas, label, picture, tick_labels
from distem.report.words import count, listed, number, share, short, whole
from distem.types import Float64, Ints

NUMBERED = 12
"""Up to so many components get their number written next to their mean."""
_CELLS = 32  # hexagons across a panel
_LEVELS = (0.2, 0.36, 0.54, 0.74, 0.95)


def pair(
    run: Found,
    across: Frame,
    up: Frame,
    size: tuple[float, float] = PANEL,
    *,
    key: str = "two",
    title: str = "",
    aspect: float | None = None,
) -> Picture:
    """Two features: the sample in hexagons by component, and the components' 1- and 2-sigma ellipses.

    `aspect` is how much longer a step up is drawn than one across; None: the window fills the panel.
    """
    j, i = across.feature, up.feature
    with canvas(*size) as (figure, axes):
        axes.set_xlim(across.low, across.high)
        axes.set_ylim(up.low, up.high)
        if aspect is not None:
            axes.set_aspect(aspect)
        x, y = across.shown(run.values[:, j]), up.shown(run.values[:, i])
        inside = across.holds(run.values[:, j]) & up.holds(run.values[:, i])
        _hexagons(axes, x[inside], y[inside], run.labels[inside], run.row_weights[inside])
        for number_, (mean, matrix) in enumerate(zip(run.means, run.covariances, strict=True)):
            at = (float(across.shown(mean[j])), float(up.shown(mean[i])))
            matrix = block(matrix, across, up)
            for sigmas in (1.0, 2.0):
                # among many components the outer ellipses go without a rim
                rim = sigmas == 1.0 or run.k <= NUMBERED
                width = 1.7 if sigmas == 1.0 else 1.0
                ellipse(axes, at, matrix, sigmas, component(number_), width, dash(number_), rim=rim)
        if run.k <= NUMBERED:
            _numbers(axes, across.shown(run.means[:, j]), up.shown(run.means[:, i]))
        label(axes, across.label, up.label)
        outside = len(x) - int(inside.sum())
        beyond = f" {count(outside, 'row')} lie outside the panel." if outside else ""
        return picture(
            figure,
            f"{key}-{j}-{i}",
            title or f"{short(up.name, 18)} against {short(across.name, 18)}",
            "",
            f"{whole(len(x))} sample rows of {up.label} against {across.label}, coloured by {run.part}, with "
            f"1- and 2-sigma ellipses. Correlations: {_correlations(run, j, i)}.{beyond}",
        )


def _correlations(run: Found, j: int, i: int) -> str:
    parts = []
    for number_ in np.argsort(-run.weights, kind="stable")[:6]:
        sds, both = run.sds[number_], run.covariances[number_, j, i]
        scale = sds[j] * sds[i]
        value = both / scale if np.isfinite(scale) and scale > 0.0 else 0.0
        parts.append(f"{run.part} {number_} {number(round(float(value), 2), 2)}")
    return listed(parts, 6)


def block(matrix: Float64, across: Frame, up: Frame) -> Float64:
    """Two features of a covariance matrix, as their axes show them."""
    # divided one factor at a time: their product may not fit a float
    chosen = matrix[np.ix_([across.feature, up.feature], [across.feature, up.feature])]
    factors = np.array([across.factor, up.factor])
    return np.asarray(chosen / factors[:, None] / factors[None, :])


def ellipse(
    axes: Axes,
    at: tuple[float, float],
    block: Float64,
    sigmas: float,
    colour: str,
    width: float,
    style: str | tuple[int, tuple[int, ...]],
    *,
    rim: bool = True,
) -> None:
    """Draw an ellipse of so many standard deviations; the rim sets it off from what lies below."""
    # in units of the axes, where both directions are alike: eigenvectors of raw blocks lose the smaller one
    (x0, x1), (y0, y1) = axes.get_xlim(), axes.get_ylim()
    size = np.array([x1 - x0, y1 - y0])
    scaled = block / size[:, None] / size[None, :]
    where = ((at[0] - x0) / size[0], (at[1] - y0) / size[1])
    if not (np.isfinite(scaled).all() and np.isfinite(where).all()) or max(map(abs, where)) > 10.0:
        return
    lengths, vectors = np.linalg.eigh(scaled)
    axis = 2.0 * sigmas * np.sqrt(np.clip(lengths, 1e-7, 1e4))
    angle = float(np.degrees(np.arctan2(vectors[1, 1], vectors[0, 1])))
    strokes = [(colour, width, style)]
    if rim:
        strokes.insert(0, (ink("paper"), width + 1.4, "-"))
    for stroke, thick, line in strokes:
        axes.add_artist(
            Ellipse(
                where,
                float(axis[1]),
                float(axis[0]),
                angle=angle,
                fill=False,
                edgecolor=stroke,
                linewidth=thick,
                linestyle=line,
                transform=axes.transAxes,
                alpha=0.75 if stroke == ink("paper") else None,
            )
        )


def _numbers(axes: Axes, x: Float64, y: Float64) -> None:
    (x0, x1), (y0, y1) = axes.get_xlim(), axes.get_ylim()
    for i, (a, b) in enumerate(zip(x, y, strict=True)):
        if x0 <= a <= x1 and y0 <= b <= y1:
            axes.text(
                a,
                b,
                str(i),
                ha="center",
                va="center_baseline",
                fontsize=11,
                weight="bold",
                gid=f"halo{i}",
                zorder=5,
            )


def _hexagons(axes: Axes, x: Float64, y: Float64, labels: Ints, weights: Float64) -> None:
    """Cells in the colour of the component most of their rows belong to, the fuller the darker."""
    counts = weights > 0.0
    if not counts.any():
        return
    x, y, labels, weights = x[counts], y[counts], labels[counts], weights[counts]
    (x0, x1), (y0, y1) = axes.get_xlim(), axes.get_ylim()
    step = 1.0 / _CELLS
    rise = step * np.sqrt(3.0) * PANEL[0] / PANEL[1]  # so that cells look regular in the panel's shape
    u, v = (x - x0) / (x1 - x0) / step, (y - y0) / (y1 - y0) / rise
    # the nearer of two lattices of centres, one shifted by half a cell
    first = np.stack([np.rint(u), np.rint(v)])
    second = np.stack([np.floor(u) + 0.5, np.floor(v) + 0.5])
    to_first = (u - first[0]) ** 2 + 3.0 * (v - first[1]) ** 2
    to_second = (u - second[0]) ** 2 + 3.0 * (v - second[1]) ** 2
    centres = np.where(to_first <= to_second, first, second)
    cells, cell = np.unique(centres, axis=1, return_inverse=True)
    kinds, kind = np.unique(labels, return_inverse=True)
    mass = np.zeros((cells.shape[1], len(kinds)))
    np.add.at(mass, (cell.ravel(), kind.ravel()), weights)
    full, winner = mass.sum(axis=1), kinds[mass.argmax(axis=1)]
    low, high = np.log(full.min()), np.log(full.max())
    depth = np.zeros(len(full)) if high - low < 1e-9 else (np.log(full) - low) / (high - low)
    level = np.minimum((depth * len(_LEVELS)).astype(int), len(_LEVELS) - 1)
    angles = np.radians([30.0, 90.0, 150.0, 210.0, 270.0, 330.0, 30.0])
    corner = (
        0.94 / np.sqrt(3.0) * np.stack([np.cos(angles) * step, np.sin(angles) * rise / np.sqrt(3.0)], axis=1)
    )
    codes = [Outline.MOVETO, *[Outline.LINETO] * 5, Outline.CLOSEPOLY]
    for which in np.unique(winner):
        for shade, opacity in enumerate(_LEVELS):
            chosen = cells[:, (winner == which) & (level == shade)].T * [step, rise]
            if len(chosen):
                outline = Outline((chosen[:, None, :] + corner).reshape(-1, 2), codes * len(chosen))
                colour = component(int(which)) if which >= 0 else ink("soft")
                axes.add_artist(
                    PathPatch(outline, facecolor=colour, alpha=opacity, linewidth=0, transform=axes.transAxes)
                )


def uncertainty(run: Found) -> Picture:
    """How sure the labels of the sample are."""
    values, weights = run.uncertainty, run.row_weights
    top = max(1.0 - 1.0 / run.k, 0.05)
    edges = np.linspace(0.0, np.ceil(top * 20.0) / 20.0, 41)
    mass, _ = np.histogram(values, edges, weights=weights)
    percent = 100.0 * mass / weights.sum()
    unsure = float(weights[values > UNSURE].sum() / weights.sum())
    with canvas(400, 285) as (figure, axes):
        least = 100.0 / max(len(values), 1)
        axes.set_yscale("log")
        axes.stairs(
            np.maximum(percent, 1e-9),
            edges,
            baseline=1e-9,
            fill=True,
            color=ink("accent"),
            alpha=0.75,
            linewidth=0,
        )
        axes.axvline(UNSURE, color=ink("alert"), linewidth=1.3, linestyle=(0, (4, 3)))
        axes.annotate(
            f"{share(unsure) if unsure > 0.0 else 'none'} of the rows beyond {UNSURE:g}",
            (UNSURE, 0.9),
            xytext=(5, 0),
            va="top",
            color=ink("alert"),
            xycoords=axes.get_xaxis_transform(),
            textcoords="offset points",
            fontsize=10,
            gid="halo-unsure",
        )
        axes.set_xlim(0.0, edges[-1])
        axes.set_ylim(0.6 * least, 160.0)
        axes.yaxis.set_major_locator(LogLocator(10.0, numticks=6))
        axes.yaxis.set_minor_locator(NullLocator())
        axes.yaxis.set_minor_formatter(NullFormatter())
        axes.yaxis.set_major_formatter(FuncFormatter(lambda v, _: f"{number(v, 2)}%"))
        axes.xaxis.set_major_formatter(tick_labels())
        axes.grid(axis="x", visible=False)
        label(axes, "uncertainty: probability that the label is wrong", "share of the sample's rows")
        sure = float(weights[values <= 0.01].sum() / weights.sum())
        return picture(
            figure,
            "uncertainty",
            "How sure the labels are",
            f"{share(sure)} of the sample's rows are labelled with at least 99% probability.",
            f"Histogram of the uncertainty of {count(len(values), 'sample row')}: {share(sure)} at most "
            f"0.01, {share(unsure)} above {UNSURE:g}.",
        )
