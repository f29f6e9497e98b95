"""Pictures of one feature: the sample's histogram, the mixture's density and its components."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes

from distem.report.colours import component, dash, ink
from distem.report.frames import Frame, frame
from distem.report.reading import Found, deviations
from distem.report.svg import PANEL, Picture, canvas, label, picture
from distem.report.words import count, listed, number, plus_minus, share
from distem.types import Float64

_FAINT_SHARE = 0.005  # smaller components are left out of text alternatives
_FILLED = 12  # components


@dataclass(frozen=True, eq=False)
class _Curves:
    """A mixture's densities along one feature, in the units of its frame."""

    x: Float64
    total: Float64
    each: list[tuple[Float64, Float64]]


def _curves(view: Frame, weights: Float64, means: Float64, sds: Float64) -> _Curves:
    centre = view.shown(means[:, view.feature])
    # a spike narrower than the line is drawn as wide as the line
    sd = np.maximum(view.width(sds[:, view.feature]), (view.high - view.low) / 2000.0)
    even = np.linspace(view.low, view.high, 161)
    x = [even]
    each = []
    for m, s, w in zip(centre, sd, weights, strict=True):
        near = m + s * np.linspace(-4.0, 4.0, 65)
        near = near[(near >= view.low) & (near <= view.high)]
        ends = [end for end in (view.low, view.high) if abs(end - m) < 4.0 * s]
        near = np.unique(np.concatenate([near, ends]))
        each.append((near, w * _normal(near, m, s)))
        if s < 4.0 * (even[1] - even[0]):  # narrow: its peak must not fall between points
            x.append(near)
    joined = np.unique(np.concatenate(x))
    total = sum(
        (w * _normal(joined, m, s) for m, s, w in zip(centre, sd, weights, strict=True)),
        np.zeros(len(joined)),
    )
    return _Curves(joined, total, each)


def _normal(x: Float64, mean: float, sd: float) -> Float64:
    z = np.clip((x - mean) / sd, -40.0, 40.0)
    return np.asarray(np.exp(-0.5 * z * z) / (sd * np.sqrt(2.0 * np.pi)))


def _histogram(run: Found, view: Frame) -> tuple[Float64, Float64]:
    """Edges and density of the sample within the frame."""
    values = view.shown(run.values[:, view.feature])
    wanted = int(np.clip(2.0 * len(values) ** (1.0 / 3.0), 8, 60))
    width = (view.high - view.low) / wanted
    # bins that hold unequal numbers of the values there are would look like a comb
    if view.whole_numbers and view.high - view.low >= 2.0:
        width = max(1.0, np.rint(width))
        edges = np.arange(np.floor(view.low) - 0.5, view.high + width, width)
    elif len(rounded := _rounded(values, view)):
        half = 0.5 * float(np.median(np.diff(rounded)))
        every = max(1, round(len(rounded) / wanted))
        between = (0.5 * (rounded[1:] + rounded[:-1]))[every - 1 :: every]
        edges = np.concatenate([[rounded[0] - half], between, [rounded[-1] + half]])
    else:
        edges = np.linspace(view.low, view.high, wanted + 1)
    mass, _ = np.histogram(values, edges, weights=run.row_weights)
    return edges, mass / run.row_weights.sum() / np.diff(edges)


def _rounded(values: Float64, view: Frame) -> Float64:
    """The few values, about evenly spaced, that rounded data has; none of other data."""
    there = np.unique(values[(values >= view.low) & (values <= view.high)])
    if not 8 <= len(there) <= len(values) / 4:
        return np.zeros(0)
    gaps = np.diff(there)
    return there if np.quantile(gaps, 0.9) <= 2.0 * np.median(gaps) else np.zeros(0)


def _draw_density(axes: Axes, run: Found, view: Frame, curves: _Curves, top: float) -> None:
    edges, density = _histogram(run, view)
    axes.stairs(density, edges, fill=True, color=ink("soft"), alpha=0.28, linewidth=0)
    for i, (x, curve) in enumerate(curves.each):
        if len(curves.each) <= _FILLED:
            axes.fill_between(x, curve, color=component(i), alpha=0.13, linewidth=0)
        axes.plot(x, curve, color=component(i), linestyle=dash(i), linewidth=1.5)
    axes.plot(curves.x, curves.total, color=ink("ink"), linewidth=1.9)
    axes.set_xlim(view.low, view.high)
    axes.set_ylim(0.0, top)
    label(axes, view.label, view.density)
    axes.grid(axis="x", visible=False)


def _top(run: Found, view: Frame, *all_curves: _Curves) -> float:
    """The upper limit of densities: that of the histogram, with room for peaks but not for spikes."""
    bars = float(_histogram(run, view)[1].max(initial=0.0))
    peaks = max((float(c.total.max(initial=0.0)) for c in all_curves), default=0.0)
    return 1.06 * (min(peaks, 1.9 * bars) if peaks > bars > 0.0 else max(bars, peaks)) or 1.0


def _described(run: Found, feature: int, weights: Float64, means: Float64, sds: Float64) -> str:
    unit = run.feature_attrs.get(run.features[feature], {}).get("units", "")
    large = [i for i in np.argsort(-weights, kind="stable") if weights[i] >= _FAINT_SHARE]
    parts = [
        f"{run.part} {i}, share {share(weights[i])}, "
        + f"{plus_minus(means[i, feature], sds[i, feature])} {unit}".strip()
        for i in large
    ]
    return listed(parts, 8)


def before_and_after(run: Found) -> list[Picture]:
    """One feature: the sample with the mixture the fit started from, and with the one it found."""
    view = frame(run, 0)
    if run.start is None:
        return []
    start = (run.start[0], run.start[1], deviations(run.start[2]))
    end = (run.weights, run.means, run.sds)
    curves = [_curves(view, *start), _curves(view, *end)]
    top = _top(run, view, curves[1])
    likelihood = run.trace["log_likelihood"].values
    passes = len(likelihood)
    made = []
    for key, when, mixture, drawn, at in (
        ("before", "Before: where the fit started", start, curves[0], float(likelihood[0])),
        (
            "after",
            f"After: {count(passes, 'pass', 'passes')} over the data",
            end,
            curves[1],
            float(run.say("fit", "log_likelihood", otherwise=np.nan)),
        ),
    ):
        with canvas(400, 285) as (figure, axes):
            _draw_density(axes, run, view, drawn, top)
            made.append(
                picture(
                    figure,
                    key,
                    when,
                    f"Log-likelihood {number(at, 6)} per row.",
                    f"Histogram of {count(len(run.values), 'sample row')} of {view.label}, with the "
                    f"density of the mixture {'at the start' if key == 'before' else 'that was found'}: "
                    f"{_described(run, 0, *mixture)}.",
                )
            )
    return made


def marginal(run: Found, view: Frame, size: tuple[float, float] = PANEL) -> Picture:
    """One feature of several: the sample's histogram, the mixture and its components."""
    curves = _curves(view, run.weights, run.means, run.sds)
    with canvas(*size) as (figure, axes):
        _draw_density(axes, run, view, curves, _top(run, view, curves))
        return picture(
            figure,
            f"one-{view.feature}",
            view.name,
            "",
            f"Histogram of the sample's {view.label} with the mixture's density: "
            f"{_described(run, view.feature, run.weights, run.means, run.sds)}.",
        )
