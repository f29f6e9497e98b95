"""The means of the components feature by feature: lines for few components, a map for many."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.patches import PathPatch
from matplotlib.path import Path as Outline
from matplotlib.ticker import NullLocator

from distem.report.colours import component, dash, ink
from distem.report.reading import Found
from distem.report.svg import Picture, canvas, label, picture
from distem.report.words import listed, number, plain, short
from distem.types import Float64

FEATURES = 24
"""Up to so many are shown, those that tell most."""
LINES = 9
"""Up to so many components are told apart as lines."""
_FURTHEST = 5.0  # standard deviations, of lines
_FULLEST = 2.5  # of the map
_SHADES = 6


@dataclass(frozen=True, eq=False)
class _Means:
    features: Sequence[int]
    at: Float64
    part: str


def profile(run: Found) -> Picture:
    """Means of the components in standard deviations of the data."""
    features = sorted(run.telling[:FEATURES])
    with np.errstate(over="ignore", invalid="ignore"):
        at = np.nan_to_num((run.means - run.centre) / run.spread, posinf=1e9, neginf=-1e9)
    means = _Means(features, at[:, features], run.part)
    with canvas(400, 105 + 23 * len(features)) as (figure, axes):
        axes.set_ylim(len(features) - 0.4, -0.6)
        axes.yaxis.set_major_locator(NullLocator())
        axes.set_yticks(
            range(len(features)), [short(run.features[j], 22) for j in features], parse_math=False
        )
        note = _lines(axes, means) if run.k <= LINES else _map(axes, means)
        if run.d > FEATURES:
            note += f" The {FEATURES} of {run.d:,} features that tell most."
        return picture(figure, "profile", f"What sets the {run.part}s apart", note, _in_words(run, at))


def _lines(axes: Axes, means: _Means) -> str:
    shown, rows = np.clip(means.at, -_FURTHEST, _FURTHEST), np.arange(len(means.features))
    axes.axvline(0.0, color=ink("soft"), linewidth=0.9)
    for i, (line, true) in enumerate(zip(shown, means.at, strict=True)):
        colour = component(i)
        axes.plot(line, rows, color=colour, linestyle=dash(i), linewidth=1.4, marker="o", markersize=4.5)
        for beyond, marker in ((true < -_FURTHEST, "<"), (true > _FURTHEST, ">")):
            axes.plot(line[beyond], rows[beyond], linestyle="", color=colour, marker=marker, markersize=8)
    reach = float(np.abs(shown).max(initial=0.5)) * 1.12
    axes.set_xlim(-reach, reach)
    _numbers(axes, shown[:, 0], reach)
    label(axes, f"{means.part} mean, in the data's standard deviations", "feature")
    far = " Arrowheads: further out than shown." if (np.abs(means.at) > _FURTHEST).any() else ""
    return f"Each line is a {means.part}: its mean in every feature, against the data as a whole.{far}"


def _numbers(axes: Axes, at: Float64, reach: float) -> None:
    """Component numbers at the top, moved apart where they would touch, each joined to its line."""
    order = np.argsort(at, kind="stable")
    gap = reach / 14.0
    x = at[order].astype(np.float64)
    for _ in range(200):
        close = np.flatnonzero(np.diff(x) < gap * 0.999)
        if not len(close):
            break
        for left in close:
            push = 0.5 * (gap - (x[left + 1] - x[left]))
            x[left] -= push
            x[left + 1] += push
    for i, where in zip(order, x, strict=True):
        axes.plot(
            [where, at[i]], [-0.38, 0.0], color=component(int(i)), linestyle=dash(int(i)), linewidth=1.0
        )
        axes.text(
            where, -0.42, str(i), ha="center", va="bottom", fontsize=10.5, weight="bold", gid=f"halo{i}"
        )
    axes.set_ylim(axes.get_ylim()[0], -1.1)


def _map(axes: Axes, means: _Means) -> str:
    k = len(means.at)
    depth = np.minimum(np.abs(means.at) / _FULLEST, 1.0)
    shade = np.ceil(depth * _SHADES - 0.25).astype(int)  # nothing for what is next to the mean
    half = 0.46
    corners = np.array([[-half, -half], [half, -half], [half, half], [-half, half], [-half, -half]])
    codes = [Outline.MOVETO, Outline.LINETO, Outline.LINETO, Outline.LINETO, Outline.CLOSEPOLY]
    for sign, colour in ((1.0, ink("accent")), (-1.0, ink("alert"))):
        for level in range(1, _SHADES + 1):
            cells = np.argwhere((shade == level) & (np.sign(means.at) == sign)).astype(np.float64)
            if len(cells):
                outline = Outline((cells[:, None, :] + corners).reshape(-1, 2), codes * len(cells))
                axes.add_patch(PathPatch(outline, facecolor=colour, alpha=level / _SHADES, linewidth=0))
    axes.set_xlim(-0.6, k - 0.4)
    every = max(1, -(-k // 20))
    axes.set_xticks(range(0, k, every), [str(i) for i in range(0, k, every)])
    axes.grid(visible=False)
    label(axes, means.part, "feature")
    return (
        f"Blue: the {means.part}'s mean lies above that of the data; orange-brown: below; the fuller "
        f"the further, up to {number(_FULLEST)} standard deviations."
    )


def _in_words(run: Found, at: Float64) -> str:
    best = run.telling[:3]
    parts = []
    for i in np.argsort(-run.weights, kind="stable")[:8]:
        values = [f"{short(run.features[j], 20)} {number(round(float(at[i, j]), 2), 3)}" for j in best]
        parts.append(f"{run.part} {i}: {listed(values)}")
    return (
        f"Mean of each {run.part} by feature, in standard deviations of the data. The features in which the "
        f"{run.part}s differ most are {listed([plain(run.features[j]) for j in best])}: {'; '.join(parts)}."
    )
