"""The figures of the fit: each makes a Bokeh figure once, and fills it from a run."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from bokeh.core.properties import value
from bokeh.models import (
    ColumnDataSource,
    HoverTool,
    LabelSet,
    LinearColorMapper,
    NumeralTickFormatter,
    Range1d,
    Span,
)

from distem.dashboard.blank import blank, legend_at, passes_from_one
from distem.dashboard.looks import SANS, Theme, colour, on, ramp
from distem.dashboard.state import WITHOUT, Run

TURN = np.linspace(0.0, 2.0 * math.pi, 73)
WITHOUT_ELLIPSES = ("motion", "regression_mixture")


def kind(name: str) -> str:
    """What restarts of a candidate have in common: its name without the last number."""
    head, _, tail = name.partition(WITHOUT)[0].rpartition("-")
    return head if head and tail.isdigit() else name


def kinds(run: Run) -> dict[str, str]:
    """Colours by kind of candidate, in the order they came."""
    return {k: colour(i) for i, k in enumerate(dict.fromkeys(map(kind, run.candidates)))}


def steps(run: Run) -> str:
    """What axes count: passes, or pairs of frames."""
    return "pair of frames" if run.step == "pair" else "pass"


class Lines:
    """Candidates and restarts as lines over passes: those that were dropped in grey, the leading one bold."""

    def __init__(self, theme: Theme, which: str) -> None:
        self._theme, self._which = theme, which
        log = which == "gain_left"
        self.figure = blank(
            theme,
            "",
            "pass",
            "",
            330,
            y_axis_type="log" if log else "linear",
            y_range=Range1d(1e-6, 1.0) if log else Range1d(-1.0, 0.0),
            x_range=Range1d(0.5, 10.5),
        )
        passes_from_one(self.figure)
        empty: dict[str, list[Any]] = {
            k: [] for k in ("xs", "ys", "name", "kind", "colour", "width", "status")
        }
        self._gone, self._source = ColumnDataSource(dict(empty)), ColumnDataSource(dict(empty))
        self._ends = ColumnDataSource({"x": [], "y": [], "colour": [], "name": []})
        gone = self.figure.multi_line(
            "xs", "ys", source=self._gone, line_color=theme.gone, line_width=1.2, line_alpha=0.9
        )
        more: dict[str, Any] = {} if log else {"legend_field": "kind"}
        lines = self.figure.multi_line(
            "xs",
            "ys",
            source=self._source,
            line_color="colour",
            line_width="width",
            line_join="round",
            **more,
        )
        self.figure.scatter("x", "y", source=self._ends, color="colour", size=7, line_color=theme.card)
        tip = [("candidate", "@name"), ("stands", "@status")]
        self.figure.add_tools(HoverTool(renderers=[lines, gone], tooltips=tip))
        if log:
            self.figure.yaxis.ticker.num_minor_ticks = 0
            self._tolerance = Span(
                location=1e-6, dimension="width", line_color=theme.alert, line_dash="dashed", line_width=1.5
            )
            self.figure.add_layout(self._tolerance)
            self._said = ColumnDataSource({"x": [0.5], "y": [1e-6], "text": [""]})
            self.figure.add_layout(
                LabelSet(
                    x="x", y="y", text="text", source=self._said, x_offset=6, y_offset=3,
                    text_color=theme.alert, text_font_size="11px", text_font=value(SANS),
                )
            )  # fmt: skip
        else:
            legend_at(self.figure, theme, title="candidates")
            self.figure.legend[0].title_text_font_size = "11px"
            self.figure.legend[0].title_text_font_style = "normal"
            self.figure.legend[0].title_text_color = theme.soft

    def update(self, run: Run) -> None:
        """Draw the run's candidates."""
        log = self._which == "gain_left"
        colours, best = kinds(run), run.best
        unit = "" if run.objective.startswith("minus") else ", nats"
        self.figure.xaxis.axis_label = step = steps(run)
        if log:
            self.figure.title.text = f"Gain still expected, by {step}"
            self.figure.yaxis.axis_label = f"{run.objective}{unit} per row, still to come"
        else:
            self.figure.title.text = f"{run.objective[:1].upper()}{run.objective[1:]} by {step}"
            self.figure.yaxis.axis_label = f"{run.objective}{unit} per row"
        rows: dict[bool, list[dict[str, Any]]] = {False: [], True: []}
        values: list[float] = []
        late: list[float] = []
        last = max((c.passes[-1] for c in run.candidates.values() if c.passes), default=10)
        order = sorted(run.candidates, key=lambda name: (name == best, kind(name)))
        for name in order:
            fit = run.candidates[name]
            points = [
                (x, y) for x, y in zip(fit.passes, getattr(fit, self._which), strict=True)
                if y is not None and (not log or y > 0.0)
            ]  # fmt: skip
            if not points:
                continue
            xs, ys = map(list, zip(*points, strict=True))
            values += ys
            # a start far below the rest would flatten it; pairs of frames have no such start
            late += [y for x, y in points if x > 1 + 0.04 * last or run.step == "pair"]
            rows[fit.status == "dropped"].append(
                {
                    "xs": xs, "ys": ys, "name": name, "kind": kind(name), "colour": colours[kind(name)],
                    "width": 3.2 if name == best else 1.6, "status": fit.status,
                }
            )  # fmt: skip
        for source, found in ((self._gone, rows[True]), (self._source, rows[False])):
            source.data = {key: [row[key] for row in found] for key in source.data}
        self._ends.data = {
            "x": [row["xs"][-1] for row in rows[False]],
            "y": [row["ys"][-1] for row in rows[False]],
            "colour": [row["colour"] for row in rows[False]],
            "name": [row["name"] for row in rows[False]],
        }
        self.figure.x_range.update(start=0.5, end=max(10.0, last * 1.03) + 0.5)
        if log:
            tolerance = float(run.plan.get("tolerance", 1e-6))
            low = min([*values, tolerance]) if values else tolerance
            self.figure.y_range.update(start=low / 4.0, end=4.0 * max([*values, tolerance * 10.0]))
            self._tolerance.location = tolerance
            self._said.data = {"x": [0.5], "y": [tolerance], "text": [f"stops at {tolerance:.0e}"]}
            self.figure.visible = run.step == "pass"  # of a pair of frames no gain is told
        elif values:
            low, high = min(late or values), max(values)
            room = 0.06 * (high - low) or 0.01 * max(1.0, abs(high))
            self.figure.y_range.update(start=low - room, end=high + room)


class Mixture:
    """The leading mixture: ellipses of one and two standard deviations over the density of a sample."""

    def __init__(self, theme: Theme) -> None:
        self.figure = blank(
            theme, "The mixture now", "", "", 430, x_range=Range1d(0, 1), y_range=Range1d(0, 1)
        )
        self._image = ColumnDataSource({"image": [], "x": [], "y": [], "dw": [], "dh": []})
        mapper = LinearColorMapper(palette=ramp(*theme.density), low=0, high=255)
        self.figure.image(
            "image", x="x", y="y", dw="dw", dh="dh", source=self._image, color_mapper=mapper, level="image"
        )
        self.figure.grid.visible = False
        empty: dict[str, list[Any]] = {k: [] for k in ("xs", "ys", "colour", "width", "alpha", "dash")}
        self._rims = ColumnDataSource(empty)
        self.figure.multi_line(
            "xs", "ys", source=self._rims, line_color="colour", line_width="width", line_alpha="alpha",
            line_dash="dash",
        )  # fmt: skip
        self._means = ColumnDataSource({"x": [], "y": [], "colour": [], "text": [], "share": [], "ink": []})
        dots = self.figure.scatter(
            "x", "y", source=self._means, size=19, color="colour", line_color=theme.card, line_width=1.5
        )
        self.figure.text(
            "x", "y", text="text", source=self._means, text_color="ink", text_align="center",
            text_baseline="middle", text_font_size="11px", text_font=value(SANS), text_font_style="bold",
        )  # fmt: skip
        tip = [("component", "@text"), ("share", "@share{0.0 %}"), ("mean", "(@x, @y)")]
        self.figure.add_tools(HoverTool(renderers=[dots], tooltips=tip))
        self._drawn: Any = None

    def update(self, run: Run) -> None:
        """Draw the run's mixture; nothing where its kind has no means and covariances."""
        seen, image = run.picture, run.image
        part = str(run.plan.get("part", "component"))
        called = "mixture" if part == "component" else f"{part}s"
        # motions and regressions have no ellipses, and one feature has no plane to draw them on
        drawn = run.plan.get("model") not in WITHOUT_ELLIPSES and run.plan.get("features") != 1
        self.figure.visible = seen is not None or (drawn and run.status == "running")
        if seen is None:
            self.figure.title.text = f"The {called} now: not seen yet"
            return
        self.figure.title.text = f"The {called} now: {seen['candidate']}, pass {seen['pass']}"
        self.figure.xaxis.axis_label, self.figure.yaxis.axis_label = seen["axes"]
        if image is not None and image is not self._drawn:
            self._drawn = image
            side = image["side"]
            (x0, x1), (y0, y1) = image["x"], image["y"]
            counts = np.frombuffer(image["counts"], np.uint8).reshape(side, side)
            self._image.data = {
                "image": [counts], "x": [x0], "y": [y0], "dw": [x1 - x0], "dh": [y1 - y0],
            }  # fmt: skip
            self.figure.x_range.update(start=x0, end=x1)
            self.figure.y_range.update(start=y0, end=y1)
        rims: list[dict[str, Any]] = []
        means = np.array(seen["means"])
        for i, block in enumerate(np.array(seen["covariances"])):
            sizes, turns = np.linalg.eigh(block)
            round_ = (turns * np.sqrt(np.clip(sizes, 0.0, None))) @ np.stack([np.cos(TURN), np.sin(TURN)])
            for sigmas, width, alpha, dash in ((1.0, 2.4, 1.0, "solid"), (2.0, 1.6, 0.75, "dashed")):
                x, y = means[i][:, None] + sigmas * round_
                rims.append(
                    {"xs": x, "ys": y, "colour": colour(i), "width": width, "alpha": alpha, "dash": dash}
                )
        self._rims.data = {key: [rim[key] for rim in rims] for key in self._rims.data}
        self._means.data = {
            "x": means[:, 0],
            "y": means[:, 1],
            "colour": [colour(i) for i in range(len(means))],
            "text": [str(i) for i in range(len(means))],
            "share": list(seen["weights"]),
            "ink": [on(colour(i)) for i in range(len(means))],
        }


class Weights:
    """Shares of the leading candidate's components over the passes, one on the other."""

    def __init__(self, theme: Theme) -> None:
        self.figure = blank(
            theme,
            "Component weights by pass",
            "pass",
            "share of the rows",
            430,
            y_range=Range1d(0, 1),
            x_range=Range1d(1, 10),
        )
        passes_from_one(self.figure)
        self.figure.yaxis.formatter = NumeralTickFormatter(format="0 %")
        self._source = ColumnDataSource({"xs": [], "ys": [], "colour": [], "name": [], "share": []})
        patches = self.figure.patches(
            "xs", "ys", source=self._source, color="colour", alpha=0.85, line_color=theme.card, line_width=1
        )
        self._said = ColumnDataSource({"x": [], "y": [], "text": [], "ink": []})
        self.figure.text(
            "x", "y", text="text", source=self._said, x_offset=-6, text_align="right", text_baseline="middle",
            text_color="ink", text_font=value(SANS), text_font_size="11px", text_font_style="bold",
        )  # fmt: skip
        self.figure.add_tools(
            HoverTool(renderers=[patches], tooltips=[("component", "@name"), ("share now", "@share{0.0 %}")])
        )

    def update(self, run: Run) -> None:
        """Draw the leading candidate."""
        name = run.best
        line = run.shares.get(name or "", [])
        part = str(run.plan.get("part", "component"))
        self.figure.title.text = f"{part.capitalize()} weights by {steps(run)}"
        self.figure.xaxis.axis_label = steps(run)
        self.figure.yaxis.axis_label = "share of the pixels" if run.step == "pair" else "share of the rows"
        if not line:
            return
        k = len(line[-1][1])
        line = [(n, w) for n, w in line if len(w) == k]  # from before a component was dropped: not comparable
        xs = np.array([n for n, _ in line], float)
        tops = np.concatenate([np.zeros((len(line), 1)), np.cumsum([w for _, w in line], axis=1)], axis=1)
        if len(xs) == 1:
            xs, tops = np.array([xs[0], xs[0] + 1.0]), np.repeat(tops, 2, axis=0)
        self.figure.title.text += f": {name}"
        self.figure.x_range.update(start=xs[0], end=xs[-1])
        now = line[-1][1]
        self._source.data = {
            "xs": [np.concatenate([xs, xs[::-1]]) for _ in range(k)],
            "ys": [np.concatenate([tops[:, i], tops[::-1, i + 1]]) for i in range(k)],
            "colour": [colour(i) for i in range(k)],
            "name": [str(i) for i in range(k)],
            "share": list(now),
        }
        wide = [i for i in range(k) if now[i] > 0.03]
        self._said.data = {
            "x": [xs[-1]] * len(wide),
            "y": [(tops[-1, i] + tops[-1, i + 1]) / 2 for i in wide],
            "text": [f"{i}   {100 * now[i]:.0f} %" for i in wide],
            "ink": [on(colour(i)) for i in wide],
        }
