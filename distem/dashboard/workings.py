"""The figures of the work: where seconds go, how fast rows go by, what each worker has done."""

from __future__ import annotations

import numpy as np
from bokeh.core.properties import value
from bokeh.models import ColumnDataSource, FixedTicker, HoverTool, LinearAxis, PrintfTickFormatter, Range1d

from distem.dashboard.blank import blank, legend_at, passes_from_one
from distem.dashboard.figures import steps
from distem.dashboard.looks import PART_COLOURS, SANS, Theme, colour
from distem.dashboard.state import PARTS, STRAGGLES, Run

MOST_BARS = 24
"""Workers that are shown; of more, those that lag most."""


class Seconds:
    """Where the seconds of a pass go."""

    def __init__(self, theme: Theme) -> None:
        self.figure = blank(
            theme,
            "Where a pass's seconds go",
            "pass",
            "seconds",
            290,
            y_range=Range1d(0, 1),
            x_range=Range1d(1, 10),
        )
        passes_from_one(self.figure)
        self._order = ("computing", "reading", "reducing", "waiting")
        self._source = ColumnDataSource({"pass": [], **{part: [] for part in PARTS}})
        self.figure.varea_stack(
            list(self._order),
            x="pass",
            source=self._source,
            color=[PART_COLOURS[part] for part in self._order],
            legend_label=list(self._order),
            fill_alpha=0.9,
        )
        legend_at(self.figure, theme, "below", orientation="horizontal")

    def update(self, run: Run) -> None:
        """Draw the passes so far."""
        points = run.timings
        if not points:
            return
        if len(points) == 1:
            points = [points[0], points[0] | {"pass": points[0]["pass"] + 1}]
        self.figure.title.text = f"Where a {run.step}'s seconds go"
        self.figure.xaxis.axis_label = steps(run)
        self._source.data = {key: [p[key] for p in points] for key in ("pass", *PARTS)}
        self.figure.x_range.update(start=points[0]["pass"], end=points[-1]["pass"])
        # a pass that waited for something else now and then does not flatten the others
        highest = max(p["seconds"] for p in points)
        usual = float(np.quantile([p["seconds"] for p in points], 0.95))
        self.figure.y_range.update(start=0.0, end=1.1 * min(highest, 2.0 * usual) or 1.0)


class Pace:
    """Rows and bytes a second."""

    def __init__(self, theme: Theme) -> None:
        self.figure = blank(
            theme,
            "Rows and bytes a second",
            "pass",
            "rows a second, millions",
            290,
            y_range=Range1d(0, 1),
            x_range=Range1d(1, 10),
        )
        passes_from_one(self.figure)
        self._source = ColumnDataSource({"pass": [], "rows": [], "mb": []})
        rows = self.figure.line(
            "pass", "rows", source=self._source, line_color=colour(0), line_width=2.2, legend_label="rows"
        )
        self.figure.extra_y_ranges = {"bytes": Range1d(0, 1)}
        axis = LinearAxis(
            y_range_name="bytes", axis_label="MB a second, decoded", axis_label_text_font=SANS,
            axis_label_text_font_style="normal", axis_label_text_font_size="12px",
            major_label_text_font=SANS, major_label_text_font_size="11px", axis_label_text_color=theme.soft,
            major_label_text_color=theme.soft, axis_line_color=theme.faint,
            major_tick_line_color=theme.faint, minor_tick_line_color=None, axis_label_standoff=6,
        )  # fmt: skip
        self.figure.add_layout(axis, "right")
        self._axis = axis
        self._line = self.figure.line(
            "pass", "mb", source=self._source, line_color=colour(4), line_width=2.2, y_range_name="bytes",
            line_dash="dashed", legend_label="bytes read",
        )  # fmt: skip
        legend_at(self.figure, theme, "below", orientation="horizontal")
        self.figure.add_tools(
            HoverTool(
                renderers=[rows],
                tooltips=[("pass", "@pass"), ("rows/s", "@rows{0.00} M"), ("read", "@mb{0} MB/s")],
                mode="vline",
            )
        )

    def update(self, run: Run) -> None:
        """Draw the passes so far."""
        points = run.timings
        if not points:
            return
        self.figure.xaxis.axis_label = steps(run)
        rows = [p["rows_per_s"] / 1e6 for p in points]
        size = [p["bytes_per_s"] / 1e6 for p in points]
        reads = any(size)
        self._source.data = {"pass": [p["pass"] for p in points], "rows": rows, "mb": size}
        self._axis.visible = self._line.visible = reads
        self.figure.title.text = "Rows and bytes a second" if reads else "Rows a second (held in memory)"
        first, last = points[0]["pass"], points[-1]["pass"]
        self.figure.x_range.update(start=first, end=last if last > first else first + 1)
        self.figure.y_range.update(start=0.0, end=1.15 * max(rows) or 1.0)
        self.figure.extra_y_ranges["bytes"].update(start=0.0, end=1.45 * max(size) or 1.0)


class Workers:
    """Partitions done in this pass, by worker; those that straggle are marked."""

    def __init__(self, theme: Theme) -> None:
        self._theme = theme
        self.figure = blank(
            theme, "Partitions done, by worker", "partitions of this pass", "worker", 290,
            x_range=Range1d(0, 1), y_range=Range1d(0, 1),
        )  # fmt: skip
        self.figure.ygrid.visible = False
        self.figure.yaxis.ticker = self._ticker = FixedTicker(ticks=[])
        self.figure.xaxis.formatter = PrintfTickFormatter(format="%d")
        self.figure.xaxis.ticker.min_interval = 1
        self._source = ColumnDataSource({"y": [], "done": [], "colour": [], "text": [], "name": []})
        self.figure.hbar(y="y", right="done", height=0.62, source=self._source, color="colour")
        self.figure.text(
            "done", "y", text="text", source=self._source, x_offset=6, text_baseline="middle",
            text_font=value(SANS), text_font_size="11px", text_color=theme.soft,
        )  # fmt: skip

    def update(self, run: Run, names: dict[str, str]) -> None:
        """Draw the pass that is under way, or the last one; `names` are what people call workers."""
        of = run.tasks
        if of is None:
            return
        pace = run.pace()
        shown = sorted(pace, key=lambda w: -pace[w])[:MOST_BARS]
        shown = sorted(shown, key=lambda w: names.get(w, w), reverse=True)
        labels = [names.get(w, w).rpartition("://")[2] for w in shown]
        done = [of.done.get(w, 0) for w in shown]
        slow = [pace[w] > STRAGGLES for w in shown]
        told = f", {len(run.stragglers())} straggling" if run.stragglers() else ""
        more = f" (slowest {MOST_BARS} of {len(pace)} workers)" if len(pace) > MOST_BARS else ""
        self.figure.xaxis.axis_label = f"{of.name}: {of.finished} of {of.total} partitions{told}{more}"
        n = len(shown)
        self._ticker.ticks = list(range(n))  # another ticker would make Bokeh go through all its models
        self.figure.yaxis.major_label_overrides = dict(enumerate(labels))
        self.figure.y_range.update(start=-0.7, end=max(n - 0.3, 3.0))
        room = 2.5 if any(slow) else 1.35  # for what is written beside a bar
        self.figure.x_range.update(start=0, end=room * max([*done, of.total / max(1, n), 1.0]))
        self._source.data = {
            "y": list(range(n)),
            "done": done,
            "colour": [self._theme.alert if late else colour(0) for late in slow],
            "text": [
                f"{count}   slow: {pace[w]:.1f} × median" if late else str(count)
                for w, count, late in zip(shown, done, slow, strict=True)
            ],
            "name": labels,
        }
