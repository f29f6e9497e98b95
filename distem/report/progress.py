"""Pictures of the fit: convergence, the choice among candidates, time."""

from __future__ import annotations

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter, NullLocator

from distem.report.colours import ink
from distem.report.reading import Found
from distem.report.svg import Picture, canvas, label, picture, tick_labels
from distem.report.words import count, number, seconds, share
from distem.types import Bools, Float64, Ints

CRITERIA = {"bic": "BIC", "aic": "AIC", "icl": "ICL", "cv": "held-out loss"}
"""What candidates are judged by, less is better; the loss, minus the log-likelihood of a row that was held
out, only where that was asked for."""
_MARKERS, _STYLES = ("o", "s", "^", "D"), ("-", "--", ":", "-.")
_PLUNGE = 0.8  # a first pass that alone climbs more than this share of the way is left out of the frame


def climb(run: Found) -> Picture:
    """Log-likelihood by pass, of the chosen candidate and of all others."""
    value, accepted = _column(run, "log_likelihood"), _accepted(run)
    passes = np.arange(1, len(value) + 1)
    every = np.asarray(run.trace["candidate_log_likelihood"].values, dtype=np.float64)
    chosen = value[accepted]
    high, low = max(float(chosen.max()), float(np.nanmax(every))), float(chosen.min())
    plunged = len(chosen) > 2 and float(chosen.max() - chosen[1:].min()) < (1.0 - _PLUNGE) * (high - low)
    if plunged:
        low = float(chosen[1:].min())
    # others may have begun, or ended, far below
    low = max(float(np.nanmin(every)), low - 0.7 * (high - low)) if len(every) > 1 else low
    room = 0.06 * (high - low) or 1e-3 * max(1.0, abs(high))
    with canvas(400, 285) as (figure, axes):
        for name, line in zip(run.trace["candidate"].values, every, strict=True):
            if str(name) != run.trace.attrs.get("chosen"):
                # the best so far: which of their steps were taken back is not known
                best = np.where(np.isfinite(line), np.fmax.accumulate(line), np.nan)
                axes.plot(np.arange(1, len(line) + 1), best, color=ink("soft"), alpha=0.5, linewidth=0.9)
        axes.plot(
            passes[accepted],
            value[accepted],
            color=ink("accent"),
            linewidth=2.0,
            marker="o",
            markersize=3.5 if len(value) <= 60 else 0.0,
        )
        low_shown = low - room
        back = ~accepted
        axes.plot(
            passes[back],
            np.maximum(value[back], low_shown + 0.4 * room),
            linestyle="",
            marker="x",
            markersize=5.5,
            color=ink("alert"),
            markeredgewidth=1.4,
        )
        axes.set_ylim(low_shown, high + room)
        _passes(axes, max(every.shape[1], len(value)))
        label(axes, run.step, f"{run.measured} per row")
        note = "The chosen candidate in colour"
        note += f", the other {len(every) - 1} in grey." if len(every) > 1 else "."
        if back.any():
            note += f" Crosses: {count(int(back.sum()), 'accelerated step')} taken back."
        if plunged:
            note += f" The start, at {number(value[0])}, lies below the frame."
        return picture(
            figure,
            "climb",
            "The climb" if run.step.startswith("pass") else f"{_capital(run.objective)} of each {run.step}",
            note,
            f"{_capital(run.objective)} per row of the chosen candidate from {number(value[0], 6)} at the "
            f"start to {number(value[accepted][-1], 6)} after {count(len(value), 'pass', 'passes')}; "
            f"{count(int(back.sum()), 'accelerated step')} taken back; "
            f"{count(len(every), 'candidate')} in all.",
        )


def gain(run: Found) -> Picture | None:
    """What each pass still expected to gain, and what did come; None if too short to tell."""
    value, left, accepted = _column(run, "log_likelihood"), _column(run, "gain_left"), _accepted(run)
    passes = np.arange(1, len(value) + 1)
    short = float(value[accepted].max()) - value
    expected, came = np.isfinite(left) & (left > 0.0), accepted & (short > 0.0)
    if came.sum() < 2 or not expected.any():
        return None
    tolerance = run.say("config", "fit", "tolerance")
    with canvas(400, 285) as (figure, axes):
        axes.set_yscale("log")
        axes.plot(passes[came], short[came], color=ink("soft"), linewidth=1.2, marker=".", markersize=4)
        broken = np.where(expected, left, np.nan)
        axes.plot(passes, broken, color=ink("accent"), linewidth=2.0, marker="o", markersize=3.5)
        shown = np.concatenate([short[came], left[expected]])
        low, high = float(shown.min()), float(shown.max())
        if isinstance(tolerance, (int, float)) and tolerance > 0.0:
            axes.axhline(tolerance, color=ink("alert"), linewidth=1.2, linestyle=(0, (4, 3)))
            axes.text(
                0.01,
                tolerance,
                f"tolerance {number(tolerance, 2)}",
                ha="left",
                va="bottom",
                fontsize=10,
                transform=axes.get_yaxis_transform(),
                color=ink("alert"),
                gid="halo-tolerance",
            )
            low, high = min(low, tolerance), max(high, tolerance)
        axes.set_ylim(low / 3.0, high * 3.0)
        axes.yaxis.set_major_locator(LogLocator(10.0, numticks=7))
        axes.yaxis.set_minor_locator(NullLocator())
        axes.yaxis.set_minor_formatter(NullFormatter())
        axes.yaxis.set_major_formatter(tick_labels())
        _passes(axes, len(value))
        label(axes, "pass over the data", f"{run.measured} per row to gain")
        last = f"{number(left[expected][-1], 2)}" if expected.any() else "not estimated"
        return picture(
            figure,
            "gain",
            "What is left to gain",
            "In colour what the fit expected to gain from there on, in grey what did come.",
            f"{_capital(run.objective)} per row still expected, by pass, on a logarithmic axis; "
            f"the last estimate is {last}.",
        )


def _passes(axes: Axes, most: int) -> None:
    axes.set_xlim(0.5, most + 0.5 if most > 1 else 1.5)
    axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    axes.xaxis.set_major_formatter(tick_labels())


def criteria(run: Found) -> list[Picture]:
    """How the candidates compare by each criterion, the one that decided first."""
    table = run.selection
    families = {(float(k), str(c)) for k, c in zip(table["components"].values, run.variants, strict=True)}
    if len(families) < 2:
        return []
    asked = str(run.say("config", "fit", "select", otherwise="bic"))
    names = sorted(CRITERIA, key=lambda name: name != asked)
    return [made for name in names if (made := criterion(run, name, asked)) is not None]


def judged(table: xr.Dataset, name: str) -> Float64:
    """A criterion of every candidate, less is better: of cv what a held-out row loses, in nats."""
    if name not in table:  # written by an earlier version
        return np.full(table.sizes["candidate"], np.nan)
    value = np.asarray(table[name].values, dtype=np.float64)
    return -value if name == "cv" else value


def shown(table: xr.Dataset) -> list[str]:
    """The criteria that are known of some candidate."""
    return [name for name in CRITERIA if name != "cv" or np.isfinite(judged(table, name)).any()]


def criterion(run: Found, name: str, asked: str) -> Picture | None:
    """How the candidates compare by one criterion; None where it is not known of any."""
    table = run.selection
    value = judged(table, name)
    known = np.isfinite(value)
    if not known.any():
        return None
    above = value - value[known].min()
    error = np.zeros(len(value))
    if name == "cv" and "cv_se" in table:
        error = np.nan_to_num(np.asarray(table["cv_se"].values, dtype=np.float64))
    components = np.asarray(table["components"].values, dtype=np.float64)
    kinds = np.array(run.variants)
    chosen = np.asarray(table["chosen"].values, dtype=bool)
    with canvas(360, 280) as (figure, axes):
        ends = []
        for number_, kind in enumerate(dict.fromkeys(kinds)):
            mine = (kinds == kind) & known
            best = {k: float(above[mine & (components == k)].min()) for k in np.unique(components[mine])}
            marker, style = _MARKERS[number_ % 4], _STYLES[number_ % 4]
            axes.plot(
                components[mine],
                above[mine],
                linestyle="",
                marker=marker,
                markersize=3.5,
                color=ink("soft"),
                alpha=0.6,
            )
            axes.plot(
                list(best),
                list(best.values()),
                color=ink("ink"),
                linewidth=1.4,
                linestyle=style,
                marker=marker,
                markersize=5.5,
            )
            if best:
                ends.append((list(best)[-1], list(best.values())[-1], kind))
        axes.plot(
            components[chosen],
            above[chosen],
            linestyle="",
            marker="o",
            markersize=13,
            markerfacecolor="none",
            markeredgewidth=2.0,
            markeredgecolor=ink("accent"),
        )
        low, high = float((above - error)[known].min()), float((above + error)[known].max()) or 1.0
        axes.set_ylim(low - 0.07 * (high - low), high + 0.07 * (high - low))
        axes.set_xlim(components.min() - 0.5, components.max() + 0.5)
        axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
        axes.xaxis.set_major_formatter(tick_labels())
        if len(ends) > 1:
            _kinds(axes, ends, high)
        label(axes, f"{run.part}s", f"{CRITERIA[name]}{', nats' * (name == 'cv')} above the least")
        if error.any():
            axes.errorbar(
                components[known],
                above[known],
                error[known],
                linestyle="",
                ecolor=ink("soft"),
                elinewidth=1.0,
                capsize=2.5,
            )
        order = np.argsort(np.where(known, value, np.inf), kind="stable")
        first = [str(table["candidate"].values[i]) for i in order[:3] if known[i]]
        ahead = _ahead(run, value, known, order)
        return picture(
            figure,
            f"by-{name}",
            f"{CRITERIA[name]}{', which decided' if name == asked else ''}",
            ahead + (" Minus the log-likelihood of a held-out row; bars: a standard error." * (name == "cv")),
            f"{CRITERIA[name]} of {count(len(value), 'candidate')} by number of {run.part}s, less is better. "
            f"The least has {first[0]}, then {', '.join(first[1:]) or 'no other'}; "
            f"chosen was {table.attrs.get('chosen')}. {ahead}",
        )


def _ahead(run: Found, value: Float64, known: Bools, order: Ints) -> str:
    """By how much the least lies below the next that is no other start of the same."""
    components = np.asarray(run.selection["components"].values, dtype=np.int64)
    best: dict[tuple[int, str], float] = {}
    for i in order:
        if known[i]:
            best.setdefault((int(components[i]), run.variants[i]), float(value[i]))
    if len(best) < 2:
        return ""
    (first, least), (second, next_) = list(best.items())[:2]
    alike = len({variant for _, variant in best}) == 1

    def called(which: tuple[int, str]) -> str:
        return count(which[0], run.part) + ("" if alike else f", {which[1]}")

    return f"Least with {called(first)}, {number(next_ - least, 3)} ahead of {called(second)}."


def _kinds(axes: Axes, ends: list[tuple[float, float, str]], high: float) -> None:
    """Names of covariances at the ends of their lines, moved apart where they would touch."""
    lowest = -1.0
    for x, y, kind in sorted(ends, key=lambda end: end[1]):
        lowest = max(y / high, lowest + 0.085)
        axes.annotate(
            kind, (x, lowest * high), xytext=(9, 0), textcoords="offset points", va="center", fontsize=10
        )
    axes.set_xlim(axes.get_xlim()[0], axes.get_xlim()[1] + 0.28 * float(np.ptp(axes.get_xlim())))


def steps(run: Found, number: int) -> str:
    """So many passes, or pairs of frames."""
    one = run.family.step
    return count(number, one, "passes" if one == "pass" else f"{one}s")


def durations(run: Found) -> Picture | None:
    """Seconds of each pass; None where they are not known."""
    took = _column(run, "seconds")
    known = np.isfinite(took)
    if not known.any():
        return None
    middle = float(np.median(took[known]))
    milli = middle < 0.5
    shown = took * (1000.0 if milli else 1.0)
    # the first pass compiles and reads: it may take many times as long as the others
    top = 1.1 * float(shown[known].max())
    if len(took) > 3 and top > 8.0 * shown[known].max(where=np.arange(known.sum()) > 0, initial=0.0):
        top = 2.5 * float(shown[known][1:].max())
    with canvas(400, 285) as (figure, axes):
        axes.bar(
            np.arange(1, len(took) + 1), np.nan_to_num(shown), width=0.8, color=ink("accent"), alpha=0.75
        )
        axes.axhline(
            middle * (1000.0 if milli else 1.0), color=ink("ink"), linewidth=1.2, linestyle=(0, (4, 3))
        )
        axes.set_ylim(0.0, top or 1.0)
        _passes(axes, len(took))
        axes.grid(axis="x", visible=False)
        label(axes, run.step, f"duration ({'ms' if milli else 's'})")
        cut = f" The first, {seconds(float(took[known][0]))}, is cut off." if top < shown[known].max() else ""
        return picture(
            figure,
            "durations",
            f"Time of each {run.step.removesuffix(' over the data')}",
            f"Dashed: the median, {seconds(middle)}.{cut}",
            f"Duration of {steps(run, int(known.sum()))}, all candidates together: median "
            f"{seconds(middle)}, longest {seconds(float(took[known].max()))}, the first "
            f"{share(float(took[known][0] / max(took[known].sum(), 1e-300)))} of the sum.",
        )


def phases(run: Found, lengths: list[tuple[str, float]]) -> Picture | None:
    """Where the time of the run went; None where it is not known."""
    whole = float(run.say("seconds", otherwise=np.nan))
    told = sum(length for _, length in lengths)
    if not lengths or not told > 0.0:
        return None
    # before the first phase and after the last: opening, planning, an earlier attempt, the report
    rest = whole - told
    bars = [*lengths, ("around", rest)] if np.isfinite(rest) and rest > 0.0 else lengths
    names, took = [name for name, _ in bars], np.array([length for _, length in bars])
    rows = np.arange(len(bars))
    with canvas(400, 100 + 26 * len(bars)) as (figure, axes):
        axes.barh(rows, took, height=0.66, color=ink("accent"), alpha=0.75)
        for row, length in zip(rows, took, strict=True):
            axes.annotate(
                f"{seconds(float(length))}, {share(float(length / took.sum()))}",
                (float(length), float(row)),
                xytext=(5, 0),
                textcoords="offset points",
                va="center",
                fontsize=10,
                gid=f"halo-phase{row}",
            )
        axes.set_yticks(rows, names)
        axes.set_ylim(len(bars) - 0.4, -0.6)
        axes.set_xlim(0.0, 1.45 * float(took.max()))
        axes.grid(axis="y", visible=False)
        label(axes, "duration (s)", "phase")
        return picture(
            figure,
            "phases",
            "Where the time went",
            "Around: opening, planning and waiting before the first phase, and what follows the last."
            if len(bars) > len(lengths)
            else "",
            f"Duration of each phase: {', '.join(f'{n} {seconds(float(t))}' for n, t in zip(names, took))}.",
        )


def _capital(text: str) -> str:
    return text[0].upper() + text[1:]


def _column(run: Found, name: str) -> Float64:
    return np.asarray(run.trace[name].values, dtype=np.float64)


def _accepted(run: Found) -> Bools:
    return np.asarray(run.trace["accepted"].values, dtype=bool)
