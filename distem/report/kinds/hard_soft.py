"""Hard against soft: what k-means makes of the same rows, beside the mixture."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial

import numpy as np
import xarray as xr

from distem.fitted import FittedModel
from distem.report import figures
from distem.report.colours import ink
from distem.report.frames import Frame, frame
from distem.report.reading import Found
from distem.report.section import Section, Table
from distem.report.svg import LARGE_PANEL, Picture, canvas, label, picture
from distem.report.words import count, number, share, short, whole
from distem.types import Ints, Rows

DOUBTFUL = 5
"""So many rows that are halfway are shown."""

_PANEL_SHAPE = 0.86
"""Height of a panel's axes by their width."""
_MEASURES = {
    "ari_soft": "the mixture against the known groups",
    "ari_hard": "k-means against the known groups",
    "ari_hard_soft": "k-means against the mixture",
}


def sections(run: Found) -> Sequence[Section]:
    """One section, where k-means was fitted too."""
    found = run.group("comparison")
    if found is None:
        return ()
    sure, split = found["sure"].values, found["split"].values
    rows = int(sure.sum() + split.sum())
    cut = int(sure.sum() - np.trace(sure[:, : len(sure)]))
    split_rows, limit = int(split.sum()), float(found.attrs["split_above"])
    text = (
        f"Of {count(rows, 'row')} k-means puts {whole(cut)} ({share(cut / rows)}) into another cluster, "
        "though the mixture is sure of them: it cuts them wrong, if the shapes of the mixture are right. "
        f"The mixture splits {whole(split_rows)} ({share(split_rows / rows)}) between components, each with "
        f"more than {limit:.0%} probability elsewhere; k-means gives each of them whole to one, and cannot "
        "say that it was in doubt."
    )
    return (
        Section(
            "hard-soft",
            "Hard against soft: k-means on the same rows",
            text,
            _pictures(run, found),
            (_measures(found), _crossed(sure, split), *_halfway(run, found)),
        ),
    )


def _measures(found: xr.Dataset) -> Table:
    rows = [(words, number(float(found[name]), 4)) for name, words in _MEASURES.items() if name in found]
    return Table(
        "Adjusted Rand index: 1 is agreement, 0 what chance would give",
        ("compared", "index"),
        tuple(rows),
    )


def _halfway(run: Found, found: xr.Dataset) -> tuple[Table, ...]:
    """The sample's rows that are most in doubt: what either model says of them."""
    rows = np.argsort(-run.uncertainty, kind="stable")[:DOUBTFUL]
    rows = rows[run.uncertainty[rows] > float(found.attrs["split_above"])]
    if not len(rows):
        return ()
    soft = FittedModel.from_dataset(run.model)
    x = soft.transform.forward_means(run.values[rows])
    shares = np.asarray(soft.assign(Rows(x)).probability)
    hard = soft.transform.forward_means(found["hard_means"].values)
    away = np.sqrt(((x[:, None] - hard[None]) ** 2).sum(axis=-1))
    telling = run.telling[:2]
    lines = []
    for at, row in enumerate(rows):
        said = [f"{share(float(shares[at, k]))} {k}" for k in np.argsort(-shares[at], kind="stable")[:2]]
        near = np.argsort(away[at], kind="stable")[:2]
        ways = " against ".join(number(float(away[at, c]), 3) for c in near)
        values = (number(float(run.values[row, j]), 4) for j in telling)
        lines.append((str(at + 1), *values, ", ".join(said), f"all of it {near[0]}", ways))
    heads = ("row", *(short(run.features[j], 20) for j in telling))
    return (
        Table(
            "Rows most in doubt: the mixture shares them out, k-means gives each whole to the nearest centre",
            (*heads, "the mixture", "k-means", "distance of the nearest two"),
            tuple(lines),
        ),
    )


def _crossed(sure: Ints, split: Ints) -> Table:
    heads = ("component", *(f"cluster {c}" for c in range(sure.shape[1])), "of these split")
    rows = []
    for k, (certain, shared) in enumerate(zip(sure, split, strict=True)):
        both = certain + shared
        rows.append((str(k), *(whole(v) for v in both), share(shared.sum() / max(both.sum(), 1))))
    return Table("Rows by component of the mixture and cluster of k-means", heads, tuple(rows))


def _pictures(run: Found, found: xr.Dataset) -> tuple[Picture, ...]:
    if run.d < 2:
        return ()
    up, across = (frame(run, j) for j in sorted(run.telling[:2], reverse=True))
    hard = _as_run(run, found)
    aspect = _aspect(run, across, up)
    if aspect is not None:
        across, up = _filling(across, up, aspect)
    drawn = partial(figures.pair, across=across, up=up, size=LARGE_PANEL, aspect=aspect)
    return (
        drawn(hard, key="hard", title="k-means: round clusters, hard edges"),
        drawn(run, key="soft", title="The mixture: its own shapes"),
        _differences(run, hard.labels, across, up, float(found.attrs["split_above"]), aspect),
    )


def _aspect(run: Found, across: Frame, up: Frame) -> float | None:
    """How much longer a step up is drawn, so that distances are those of k-means and its clusters round."""
    transform = FittedModel.from_dataset(run.model).transform
    if transform.matrix is not None:
        return None
    scale = np.ones(run.d) if transform.scale is None else transform.scale
    aspect = float(scale[across.feature] / across.factor / (scale[up.feature] / up.factor))
    # features in units far apart would leave a line of a panel
    return aspect if 0.2 < aspect * (up.high - up.low) / (across.high - across.low) < 5.0 else None


def _filling(across: Frame, up: Frame, aspect: float) -> tuple[Frame, Frame]:
    """The frames, one of them widened, so that axes of this aspect fill a panel."""
    more = aspect * (up.high - up.low) / (across.high - across.low) / _PANEL_SHAPE
    across, up = (
        replace(each, low=each.low - extra, high=each.high + extra)
        for each, by in ((across, more), (up, 1.0 / more))
        for extra in ((each.high - each.low) * (max(by, 1.0) - 1.0) / 2.0,)
    )
    return across, up


def _as_run(run: Found, found: xr.Dataset) -> Found:
    """The same run as if k-means were its model."""
    names = ("weights", "means", "covariances")
    model = xr.Dataset(
        {name: found[f"hard_{name}"].rename(cluster="component") for name in names},
        attrs=run.model.attrs | {"kind": "kmeans"},
    )
    transform = FittedModel.from_dataset(run.model).transform
    rows, centres = transform.forward_means(run.values), transform.forward_means(model["means"].values)
    nearest = ((rows[:, None] - centres[None]) ** 2).sum(axis=-1).argmin(axis=1)
    sample = run.sample.assign(
        label=("row", nearest.astype(np.int32)), uncertainty=("row", np.zeros(len(rows)))
    )
    return replace(run, model=model, sample=sample)


def _differences(
    run: Found, hard: Ints, across: Frame, up: Frame, limit: float, aspect: float | None
) -> Picture:
    split = run.uncertainty > limit
    cut = (hard != run.labels) & ~split
    x, y = across.shown(run.values[:, across.feature]), up.shown(run.values[:, up.feature])
    with canvas(*LARGE_PANEL) as (figure, axes):
        for where, colour, marker, size, alpha in (
            (~(cut | split), ink("soft"), ".", 2.5, 0.25),
            (split, ink("accent"), "o", 3.0, 0.7),
            (cut, ink("alert"), "x", 4.0, 0.7),
        ):
            axes.plot(
                x[where], y[where], linestyle="", color=colour, marker=marker, markersize=size, alpha=alpha
            )
        axes.set_xlim(across.low, across.high)
        axes.set_ylim(up.low, up.high)
        if aspect is not None:
            axes.set_aspect(aspect)
        label(axes, across.label, up.label)
        n = len(x)
        return picture(
            figure,
            "hard-soft-difference",
            "Where they differ",
            "Crosses: the mixture is sure, k-means says otherwise. Dots in colour: the mixture splits them.",
            f"Sample rows of {short(up.label)} against {short(across.label)}: {share(cut.sum() / n)} the "
            f"mixture is sure of and k-means labels otherwise, {share(split.sum() / n)} are split.",
        )
