"""What a hidden Markov model shows: a decoded stretch of the series, transitions, how long states last."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.patches import Patch

from distem.report.colours import component, ink
from distem.report.frames import frame
from distem.report.reading import Found
from distem.report.section import Section, Table
from distem.report.svg import Picture, canvas, label, picture
from distem.report.words import listed, number, share, short, whole
from distem.types import Float64

SERIES = (1040.0, 210.0)
"""Points of a picture of a series."""
MATRIX = (420.0, 380.0)
SHOWN_FEATURES = 3
"""So many features of a stretch are drawn."""
MOST_NUMBERS = 12
"""Up to so many states have their numbers in the picture; the table has them all up to `MOST_ROWS`."""
MOST_ROWS = 24


def sections(run: Found) -> Sequence[Section]:
    """The decoded series, where one was kept; the chain."""
    found = [_chain(run)]
    series = run.group("series")
    if series is not None:
        found.insert(0, _decoded(run, series))
    scores = run.group("sequences")
    if scores is not None:
        found.append(_scores(scores, series))
    return tuple(found)


def _decoded(run: Found, series: xr.Dataset) -> Section:
    pictures = [
        _stretch(run, series, sequence, feature)
        for sequence in range(series.sizes["sequence"])
        for feature in run.telling[:SHOWN_FEATURES]
    ]
    steps = whole(series.sizes["step"])
    text = (
        f"The first {steps} rows of each sequence shown, coloured by the state on the likeliest path. The "
        "band below holds the states alone. Where a line breaks, nothing was observed: the state is what "
        "the rows before and after say of it."
    )
    return Section("decoded", "The decoded series", text, tuple(pictures), wide=True, first=True)


def _stretch(run: Found, series: xr.Dataset, sequence: int, feature: int) -> Picture:
    name = str(series["feature"].values[feature])
    values = series["values"].values[sequence, :, feature].astype(np.float64)
    states = series["state"].values[sequence].astype(np.int64)
    x = xr.decode_cf(series[["place"]])["place"].values  # as dates, where they are that
    called = str(series["sequence_name"].values[sequence])
    title = name if not called else f"{called}: {name}"
    numbers = np.arange(len(x), dtype=np.float64)
    with canvas(*SERIES) as (figure, axes):
        axes.plot(numbers, values, color=ink("soft"), linewidth=0.6, zorder=1)
        for state in np.unique(states[states >= 0]):
            mine = np.where(states == state, values, np.nan)
            axes.plot(
                numbers, mine, linestyle="", marker=".", markersize=2.5, color=component(int(state)), zorder=2
            )
        seen = np.unique(states[states >= 0]).tolist()
        patches = [Patch(color=component(int(s)), label=f"state {s}") for s in seen]
        if 0 < len(patches) <= MOST_NUMBERS:
            axes.legend(
                handles=patches, ncols=len(patches), loc="lower right", bbox_to_anchor=(1.0, 1.0),
                frameon=False, fontsize=8, borderaxespad=0.1, handlelength=1.0,
            )  # fmt: skip
        _band(axes, states, values)
        _dates(axes, x)
        along = str(series.attrs.get("dimension", "row"))
        label(axes, along, frame(run, feature).label)
        counts = [
            f"state {s}: {share(float((states == s).mean()))}"
            for s in np.unique(states[states >= 0]).tolist()
        ]
        changes = int((np.diff(states) != 0).sum())
        return picture(
            figure,
            f"series-{sequence}-{feature}",
            title,
            f"{whole(changes)} changes of state. " + "; ".join(counts) + ".",
            f"{title} over {whole(len(x))} rows, coloured by state: {listed(counts)}.",
        )


def _band(axes: Axes, states: Any, values: Float64) -> None:
    """The states as a band of colour below the series."""
    seen = values[np.isfinite(values)]
    low, high = (float(seen.min()), float(seen.max())) if seen.size else (0.0, 1.0)
    tall = 0.06 * max(high - low, 1e-12)
    top = low - tall
    edges = np.flatnonzero(np.diff(states)) + 1
    starts, stops = np.concatenate([[0], edges]), np.concatenate([edges, [len(states)]])
    for state in np.unique(states[states >= 0]):
        mine = states[starts] == state
        spans = [(float(a), float(b - a)) for a, b in zip(starts[mine], stops[mine], strict=True)]
        axes.broken_barh(spans, (top - tall, tall), facecolors=component(int(state)), linewidth=0)
    axes.set_ylim(top - 1.5 * tall, high + tall)
    axes.set_xlim(0.0, float(len(states)))


def _dates(axes: Axes, x: Any) -> None:
    """Ticks with dates, where rows have them."""
    if x.dtype.kind != "M":
        return
    at = np.linspace(0, len(x) - 1, 7).astype(int)
    axes.set_xticks(at.astype(float), [str(x[i].astype("datetime64[m]")).replace("T", " ") for i in at])


def _chain(run: Found) -> Section:
    transition = run.model["transition"].values.astype(np.float64)
    start, weights = run.model["start"].values, run.model["weights"].values
    k = len(transition)
    stay = np.diagonal(transition)
    with np.errstate(divide="ignore"):
        lasts = 1.0 / (1.0 - stay)
    emission = str(run.model.attrs.get("emission", "gaussian"))
    tied = " Sequences start as the chain is in the long run." if run.model.attrs.get("stationary") else ""
    said, several = _WORDS.get(emission, emission), int(run.model.attrs.get("components_per_state", 1))
    if several > 1:
        said = f"mixtures of {several} Gaussians, whose means are told"
    text = (
        f"States that say {said}. A row of the matrix is where its state goes "
        "next; a state with probability p of staying lasts 1 / (1 - p) rows on average." + tied
    )
    rows = tuple(
        (
            f"state {i}",
            share(float(weights[i])),
            number(float(lasts[i]), 3) if np.isfinite(lasts[i]) else "for ever",
            _probability(start[i]),
            *(_mean(run, i, j) for j in run.telling[:SHOWN_FEATURES]),
        )
        for i in range(min(k, MOST_ROWS))
    )
    names = tuple(f"mean {short(run.features[j], 20)}" for j in run.telling[:SHOWN_FEATURES])
    states = Table(
        "How often states come, and how long they last",
        ("state", "share of rows", "lasts (rows)", "first state", *names),
        rows,
    )
    matrix = Table(
        "Transition probabilities, from row to column",
        ("from", *(f"to {j}" for j in range(min(k, MOST_ROWS)))),
        tuple(
            (f"state {i}", *(_probability(p) for p in transition[i, :MOST_ROWS]))
            for i in range(min(k, MOST_ROWS))
        ),
    )
    return Section(
        "transitions", "The chain of states", text, (transition_matrix(transition),), (states, matrix)
    )


_WORDS = {"gaussian": "Gaussian numbers", "poisson": "counts", "categorical": "one of some symbols"}


def _called(sequence: int, names: Sequence[str]) -> str:
    """The number of a sequence, and its name where it is one of those that are shown."""
    name = names[sequence] if sequence < len(names) else ""
    return f"{sequence}: {name}" if name else str(sequence)


def _probability(value: float) -> str:
    """Three digits behind the point, and what would not show there as a bound."""
    if value >= 5e-4:
        return f"{value:.3f}"
    return "0" if value < 1e-12 else "< 0.0005"


def _mean(run: Found, state: int, feature: int) -> str:
    return number(float(run.model["means"].values[state, feature]), 4)


def transition_matrix(transition: Float64) -> Picture:
    """The transition probabilities, from row to column."""
    k = len(transition)
    with canvas(*MATRIX) as (figure, axes):
        axes.imshow(np.sqrt(transition), cmap="cividis", vmin=0.0, vmax=1.0)
        axes.grid(visible=False)
        if k <= MOST_NUMBERS:
            for i in range(k):
                for j in range(k):
                    dark = transition[i, j] < 0.35
                    axes.text(
                        j, i, _probability(transition[i, j]), ha="center", va="center", fontsize=8,
                        color="white" if dark else "black",
                    )  # fmt: skip
        axes.set_xticks(range(k))
        axes.set_yticks(range(k))
        label(axes, "next state", "state")
        stay = np.diagonal(transition)
        return picture(
            figure,
            "transition-matrix",
            "Transition matrix",
            "Brighter: more probable (the root is drawn, so that rare ways show).",
            f"A matrix of {k} × {k} transition probabilities; a state stays with a probability from "
            f"{number(float(stay.min()), 3)} to {number(float(stay.max()), 3)}.",
        )


def _scores(scores: xr.Dataset, series: xr.Dataset | None) -> Section:
    called = [] if series is None else [str(name) for name in series["sequence_name"].values]
    rows, total = scores["rows"].values, scores["log_likelihood"].values
    each = total / np.maximum(rows, 1)
    order = np.argsort(each)
    if len(order) > MOST_ROWS:
        order = np.concatenate([order[: MOST_ROWS // 2], order[-MOST_ROWS // 2 :]])
    table = Table(
        "Sequences by log-likelihood per row, the worst first",
        ("sequence", "rows", "log-likelihood", "per row"),
        tuple(
            (_called(int(i), called), whole(rows[i]), number(float(total[i]), 6), number(float(each[i]), 4))
            for i in order
        ),
    )
    text = f"{whole(len(rows))} sequences of {whole(rows.min())} to {whole(rows.max())} rows. "
    text += "Rows that are missing count among them."
    return Section("sequences", "Scores of the sequences", text, (), (table,))
