"""The comparison of two runs as a page: one HTML file that opens offline."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from distem.data.folder import write_atomically
from distem.matching import pooled_spread
from distem.report.colours import component, ink
from distem.report.compare import Comparison
from distem.report.figures import block, ellipse
from distem.report.frames import Frame, frame
from distem.report.page import page
from distem.report.reading import Found
from distem.report.svg import Picture, canvas, label, picture
from distem.report.words import count, criterion, listed, number, plain, seconds, share

SIGNS = {"same": "Good", "moved": "Look", "changed": "Look"}
LEVELS = {"same": "good", "moved": "warn", "changed": "warn"}
_FACTS = ("name", "components", "log-likelihood per row", "BIC", "passes", "time", "data fingerprint", "seed")


def write(found: Comparison, path: Path) -> None:
    """Write the page."""
    heads, *rows = found.rows()
    first, second = found.runs
    content = {
        "name": f"{plain(first.name)} and {plain(second.name)}",
        "title": f"{found.parts[0].part.capitalize()}s of two runs",
        "verdict": found.verdict,
        "level": LEVELS[found.verdict],
        "sign": SIGNS[found.verdict],
        "sentence": found.sentence,
        "numbers": [
            ("verdict", found.verdict),
            ("furthest moved", number(found.largest, 2)),
            ("threshold", number(found.threshold, 3)),
            ("shares moved", share(found.share_moved)),
            (f"{found.parts[0].part}s", f"{found.parts[0].k} and {found.parts[1].k}"),
        ],
        "saying": found.parts[0].symbols is not None,
        "part": found.parts[0].part,
        "heads": heads,
        "rows": rows,
        "pictures": _pictures(found),
        "runs": _runs(found),
        "folders": [plain(run.folder.rpartition("/")[2]) for run in found.runs],
    }
    write_atomically(path, page("compare.html", content))


def _pictures(found: Comparison) -> list[Picture]:
    made = [_distances(found)] if found.matching.pairs else []
    first = found.runs[0]
    if first.d >= 2 and found.parts[0].symbols is None:
        j, i = sorted(_liveliest(found))
        made.insert(0, _moves(found, *(_both(found, f) for f in (j, i))))
    return made


def _liveliest(found: Comparison) -> list[int]:
    """The two features in which most was going on; those that tell components apart, where nothing was."""
    a, b = found.parts
    pairs = np.array(found.matching.pairs, dtype=np.int64).reshape(-1, 2)
    with np.errstate(over="ignore", invalid="ignore"):
        moved = np.abs(b.means[pairs[:, 1]] - a.means[pairs[:, 0]]) / pooled_spread(a, b)
    most = np.nan_to_num(moved.max(axis=0, initial=0.0))
    rank = {j: place for place, j in enumerate(found.runs[0].telling)}
    return sorted(range(len(most)), key=lambda j: (-round(float(most[j]), 3), rank[j]))[:2]


def _both(found: Comparison, feature: int) -> Frame:
    """A window that holds both."""
    one, other = found.runs
    there = other.features.index(one.features[feature])
    views = frame(one, feature), frame(other, there)
    low, high = ([getattr(v, end) * v.factor + v.offset for v in views] for end in ("low", "high"))
    view = views[0]
    ends = view.shown(np.array([min(low), max(high)]))
    return Frame(
        feature,
        view.name,
        view.offset,
        view.factor,
        float(ends[0]),
        float(ends[1]),
        view.unit,
        view.label,
        False,
    )


def _moves(found: Comparison, across: Frame, up: Frame) -> Picture:
    j, i = across.feature, up.feature
    a, b = found.parts
    where = [np.stack([across.shown(p.means[:, j]), up.shown(p.means[:, i])], axis=1) for p in found.parts]
    # numbers and colours are those of the second run; of what vanished, grey ones of the first
    partner = {second: first for first, second in found.matching.pairs}
    with canvas(460, 400) as (figure, axes):
        axes.set_xlim(across.low, across.high)
        axes.set_ylim(up.low, up.high)
        for c in range(a.k):
            at = (float(where[0][c, 0]), float(where[0][c, 1]))
            ellipse(axes, at, block(a.covariances[c], across, up), 1.0, ink("soft"), 1.1, (0, (3, 2)))
        for c in range(b.k):
            at = (float(where[1][c, 0]), float(where[1][c, 1]))
            ellipse(axes, at, block(b.covariances[c], across, up), 1.0, component(c), 1.8, "-")
            if c in partner:
                axes.annotate(
                    "",
                    xy=at,
                    xytext=tuple(where[0][partner[c]]),
                    arrowprops={"arrowstyle": "-|>", "color": component(c), "shrinkA": 0, "shrinkB": 0},
                )
            axes.annotate(
                str(c),
                at,
                xytext=(7, 5),
                textcoords="offset points",
                weight="bold",
                fontsize=11,
                gid=f"halo{c}",
            )
        for c in found.matching.vanished:
            axes.plot(*where[0][c], marker="x", color=ink("alert"), markersize=9, markeredgewidth=2.0)
        label(axes, across.label, up.label)
        told = [found.furthest_feature(p)[1] for p in np.argsort(-found.matching.distances)[:4]]
        return picture(
            figure,
            "moves",
            "Where the components were, and where they are",
            "Ellipses of one standard deviation: dashed grey of the first run, in colour of the second. "
            "Arrows: how means moved. Crosses: vanished. Numbers are the second run's.",
            f"{count(a.k, a.part)} of the first run and {count(b.k, b.part)} of the second in {up.label} "
            f"against {across.label}. What moved most: {listed(told)}.",
        )


def _distances(found: Comparison) -> Picture:
    m = found.matching
    names = [f"{i} → {j}" for i, j in m.pairs]
    far = m.distances > found.threshold
    with canvas(400, max(220.0, 90.0 + 24.0 * len(names))) as (figure, axes):
        rows = np.arange(len(names))
        for these, colour in ((~far, ink("accent")), (far, ink("alert"))):
            axes.hlines(rows[these], 0.0, m.distances[these], color=colour, linewidth=2.0)
            axes.plot(m.distances[these], rows[these], "o", color=colour, markersize=6)
        axes.axvline(found.threshold, color=ink("soft"), linestyle=(0, (4, 3)), linewidth=1.2)
        axes.set_ylim(len(names) - 0.5, -0.5)
        axes.set_xlim(0.0, 1.1 * max(found.largest, 1.3 * found.threshold))
        axes.set_yticks(rows, names)
        axes.grid(axis="y", visible=False)
        label(
            axes,
            found.measure if found.parts[0].symbols is not None else f"moved by ({found.measure})",
            f"{found.parts[0].part}, first → second",
        )
        return picture(
            figure,
            "distances",
            "How far each moved",
            f"Dashed: the threshold, {number(found.threshold, 3)}.",
            f"Distances of {count(len(names), 'pair')}: "
            + listed([f"{n} {number(float(v), 2)}" for n, v in zip(names, m.distances)]) + ".",
        )  # fmt: skip


def _runs(found: Comparison) -> list[tuple[str, str, str]]:
    """Facts of both, side by side."""
    one, other = found.runs
    return [(name, plain(_fact(one, name)), plain(_fact(other, name))) for name in _FACTS]


def _fact(run: Found, name: str) -> str:
    say = run.say
    made = {
        "name": lambda: run.name,
        "components": lambda: str(run.k),
        "log-likelihood per row": lambda: number(float(say("fit", "log_likelihood", otherwise=np.nan)), 7),
        "BIC": lambda: criterion(float(say("fit", "bic", otherwise=np.nan))),
        "passes": lambda: str(say("fit", "passes")),
        "time": lambda: seconds(float(say("seconds", otherwise=np.nan))),
        "data fingerprint": lambda: str(say("data", "fingerprint"))[:16],
        "seed": lambda: str(say("seed")),
    }
    return made[name]()
