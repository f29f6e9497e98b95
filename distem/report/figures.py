"""Pictures of the mixture in the data: pairs of features, means, uncertainty."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.patches import Ellipse, PathPatch
from matplotlib.path import Path as Outline
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter, NullLocator

from distem.report.colours import component, dash, ink
from distem.report.frames import Frame
from distem.report.reading import UNSURE, Found
from distem.report.svg import Picture, canvas, label, picture, tick_labels
from distem.report.words import count, listed, number, share, short, whole
from distem.types import Float64, Ints

PROFILE_FEATURES = 24
NUMBERED = 12
"""Up to so many components get their number written next to their mean."""
_CELLS = 34  # hexagons across a panel
_LEVELS = (0.2, 0.36, 0.54, 0.74, 0.95)
_CLIP = 5.0  # standard deviations


def pair(run: Found, across: Frame, up: Frame) -> Picture:
    """Two features: the sample in hexagons by component, and the components' 1- and 2-sigma ellipses."""
    j, i = across.feature, up.feature
    with canvas(300, 262) as (figure, axes):
        axes.set_xlim(across.low, across.high)
        axes.set_ylim(up.low, up.high)
        x, y = across.shown(run.values[:, j]), up.shown(run.values[:, i])
        inside = across.holds(run.values[:, j]) & up.holds(run.values[:, i])
        _hexagons(axes, x[inside], y[inside], run.labels[inside], run.row_weights[inside])
        for number_, (mean, matrix) in enumerate(zip(run.means, run.covariances, strict=True)):
            at = (float(across.shown(mean[j])), float(up.shown(mean[i])))
            block = _block(matrix, across, up)
            for sigmas in (1.0, 2.0):
                _ellipse(axes, at, block, sigmas, number_)
        if run.k <= NUMBERED:
            _numbers(axes, across.shown(run.means[:, j]), up.shown(run.means[:, i]))
        label(axes, across.label, up.label)
        outside = len(x) - int(inside.sum())
        beyond = f" {count(outside, 'row')} lie outside the panel." if outside else ""
        return picture(
            figure,
            f"two-{j}-{i}",
            f"{up.name} against {across.name}",
            "",
            f"{whole(len(x))} sample rows of {up.label} against {across.label}, coloured by component, with "
            f"1- and 2-sigma ellipses. Correlations: {_correlations(run, j, i)}.{beyond}",
        )


def _correlations(run: Found, j: int, i: int) -> str:
    parts = []
    for number_ in np.argsort(-run.weights, kind="stable")[:6]:
        sds, both = run.sds[number_], run.covariances[number_, j, i]
        scale = sds[j] * sds[i]
        value = both / scale if np.isfinite(scale) and scale > 0.0 else 0.0
        parts.append(f"component {number_} {number(round(float(value), 2), 2)}")
    return listed(parts, 6)


def _block(matrix: Float64, across: Frame, up: Frame) -> Float64:
    # divided one factor at a time: their product may not fit a float
    chosen = matrix[np.ix_([across.feature, up.feature], [across.feature, up.feature])]
    factors = np.array([across.factor, up.factor])
    return np.asarray(chosen / factors[:, None] / factors[None, :])


def _ellipse(axes: Axes, at: tuple[float, float], block: Float64, sigmas: float, number_: int) -> None:
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
    for colour, width, style in (
        (ink("paper"), 3.2 if sigmas == 1.0 else 2.4, "-"),
        (component(number_), 1.8 if sigmas == 1.0 else 1.1, dash(number_)),
    ):
        axes.add_patch(
            Ellipse(
                where,
                float(axis[1]),
                float(axis[0]),
                angle=angle,
                fill=False,
                edgecolor=colour,
                linewidth=width,
                linestyle=style,
                transform=axes.transAxes,
                alpha=0.75 if width > 2.0 else None,
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
    if not len(x):
        return
    (x0, x1), (y0, y1) = axes.get_xlim(), axes.get_ylim()
    step = 1.0 / _CELLS
    rise = step * np.sqrt(3.0) * 300.0 / 262.0  # so that cells look regular in the panel's shape
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
                axes.add_patch(
                    PathPatch(outline, facecolor=colour, alpha=opacity, linewidth=0, transform=axes.transAxes)
                )


def profile(run: Found) -> Picture:
    """Means of the components, feature by feature, in standard deviations of the data."""
    chosen = sorted(run.telling[:PROFILE_FEATURES])
    with np.errstate(over="ignore", invalid="ignore"):
        at = np.nan_to_num((run.means - run.centre) / run.spread, posinf=1e9, neginf=-1e9)[:, chosen]
    shown, rows = np.clip(at, -_CLIP, _CLIP), np.arange(len(chosen))
    with canvas(440, 105 + 23 * len(chosen)) as (figure, axes):
        axes.axvline(0.0, color=ink("soft"), linewidth=0.9)
        for i, (line, true) in enumerate(zip(shown, at, strict=True)):
            axes.plot(
                line, rows, color=component(i), linestyle=dash(i), linewidth=1.4, marker="o", markersize=4.5
            )
            out = np.abs(true) > _CLIP
            for sign, marker in ((-1.0, "<"), (1.0, ">")):
                beyond = out & (np.sign(true) == sign)
                axes.plot(
                    line[beyond], rows[beyond], linestyle="", color=component(i), marker=marker, markersize=8
                )
        reach = float(np.abs(shown).max(initial=0.5)) * 1.12
        axes.set_xlim(-reach, reach)
        axes.set_ylim(len(chosen) - 0.4, -0.6)
        axes.yaxis.set_major_locator(NullLocator())
        axes.set_yticks(rows, [short(run.features[j], 22) for j in chosen], parse_math=False)
        if run.k <= NUMBERED:
            _line_ends(axes, shown, reach)
        label(axes, "component mean, in the data's standard deviations", "feature")
        which = (
            ""
            if run.d <= PROFILE_FEATURES
            else f" The {PROFILE_FEATURES} of {run.d:,} features that tell most."
        )
        far = " Arrowheads: further out than shown." if (np.abs(at) > _CLIP).any() else ""
        best = run.telling[:3]
        return picture(
            figure,
            "profile",
            "What sets the components apart",
            f"Each line is a component: its mean in every feature, against the data as a whole.{which}{far}",
            "Mean of each component by feature, in standard deviations of the data. The features in which "
            f"the components differ most are {listed([run.features[j] for j in best])}: "
            + "; ".join(
                f"component {i}: "
                + listed(
                    [
                        f"{short(run.features[j], 20)} {number(round(float(v), 2), 3)}"
                        for j, v in _at(run, i, best)
                    ]
                )
                for i in np.argsort(-run.weights, kind="stable")[:8]
            )
            + ".",
        )


def _at(run: Found, i: int, features: list[int]) -> list[tuple[int, float]]:
    with np.errstate(over="ignore", invalid="ignore"):
        return [(j, float((run.means[i, j] - run.centre[j]) / run.spread[j])) for j in features]


def _line_ends(axes: Axes, shown: Float64, reach: float) -> None:
    """Component numbers along the top of the lines, moved apart where they would touch."""
    order = np.argsort(shown[:, 0], kind="stable")
    gap = reach / 14.0
    at = shown[order, 0].astype(float).copy()
    for _ in range(200):
        close = np.flatnonzero(np.diff(at) < gap * 0.999)
        if not len(close):
            break
        for left in close:
            push = 0.5 * (gap - (at[left + 1] - at[left]))
            at[left] -= push
            at[left + 1] += push
    for i, x in zip(order, at, strict=True):
        axes.text(x, -0.42, str(i), ha="center", va="bottom", fontsize=10.5, weight="bold", gid=f"halo{i}")
    axes.set_ylim(axes.get_ylim()[0], -1.1)


def uncertainty(run: Found) -> Picture:
    """How sure the labels of the sample are."""
    values, weights = run.uncertainty, run.row_weights
    top = max(1.0 - 1.0 / run.k, 0.05)
    edges = np.linspace(0.0, np.ceil(top * 20.0) / 20.0, 41)
    mass, _ = np.histogram(values, edges, weights=weights)
    percent = 100.0 * mass / weights.sum()
    unsure = float(weights[values > UNSURE].sum() / weights.sum())
    with canvas(440, 300) as (figure, axes):
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
            f"{share(unsure)} of rows beyond {UNSURE:g}",
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
