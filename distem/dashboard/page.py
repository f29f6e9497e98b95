"""The page `/distem`: added to the dashboard of a scheduler that is already running."""

from __future__ import annotations

import html
import time
from typing import Any
from weakref import WeakSet

from bokeh.layouts import column, row
from bokeh.models import Div, InlineStyleSheet, Select
from distributed.dashboard.core import BokehApplication

from distem.dashboard.figures import Lines, Mixture, Weights, kind, kinds
from distem.dashboard.looks import DARK, LIGHT, Theme, counted, short, span, style
from distem.dashboard.state import Run, Runs
from distem.dashboard.workings import Pace, Seconds, Workers

EVERY = 500
"""Milliseconds between looks at the state; nothing is sent while nothing happens."""
SHARE = 0.005
"""Of a scheduler's time, what drawing takes at most, for all who look at it together."""
MOST_ROWS = 14
"""Candidates in the table."""
SILENT = 120.0
"""Seconds without a word of the driver, beyond a few passes, after which the page says so."""

EXTENDS_DASKS = """
{%% extends "base.html" %%}
{%% block extra_resources %%}
<style>html { background: %(paper)s; } body { padding-top: 3.4rem; height: auto; }</style>
{%% endblock %%}
{%% block content %%}{{ plot_div }}{{ plot_script }}{%% endblock %%}
"""


def add_page(runs: Runs, scheduler: Any) -> Any:
    """Add the page to a scheduler's dashboard; None where it has none.

    Parameters
    ----------
    runs : Runs
        What the page shows.
    scheduler : distributed.Scheduler
        It serves Dask's own pages already, or it was started without a dashboard.

    Returns
    -------
    bokeh.server.tornado.BokehTornado or None
        The application that serves it.
    """
    from tornado.ioloop import IOLoop

    routes = scheduler.http_application
    others = [a for a in routes.applications if hasattr(a, "app_paths") and hasattr(a, "prefix")]
    for stale in [a for a in others if getattr(a, "_distem_page", False)]:
        routes.applications.remove(stale)
    dasks = next((a for a in others if "/status" in a.app_paths), None)
    if dasks is None:
        return None

    def page(server: Any, extra: dict[str, Any], doc: Any) -> None:
        Page(runs, server, extra, doc)

    made = BokehApplication(
        {"/distem": page}, scheduler, prefix=dasks.prefix, template_variables=_tabs(scheduler)
    )
    made._distem_page = True
    routes.add_application(made)
    made.initialize(IOLoop.current())
    made.start()
    return made


def _tabs(scheduler: Any) -> dict[str, Any]:
    """What Dask's pages have in their navigation, with a tab of ours where that can be had.

    The list is Dask's own and private: where it is not what it was, there is a page without a tab.
    """
    try:
        from distributed.dashboard.scheduler import template_variables

        found: dict[str, Any] = template_variables(scheduler)
        pages = found["pages"]
        if "distem" not in pages:
            pages.append("distem")
    except Exception:  # noqa: BLE001 -- it may have become anything
        return {"pages": ["status", "distem"], "plots": []}
    return found


def _template(theme: Theme) -> Any:
    """Dask's own frame around the page, or Bokeh's where that has gone."""
    try:
        from distributed.dashboard.components.scheduler import env

        return env.from_string(EXTENDS_DASKS % {"paper": theme.paper})
    except Exception:  # noqa: BLE001 -- likewise
        return None


PAGES: WeakSet[Page] = WeakSet()
"""Those that are open."""


class Page:
    """One browser's view.

    Parameters
    ----------
    runs : Runs
        What is shown.
    scheduler : distributed.Scheduler
        Knows the workers' names.
    extra : dict
        For Dask's template.
    doc : bokeh.document.Document
        To fill.
    """

    def __init__(self, runs: Runs, scheduler: Any, extra: dict[str, Any], doc: Any) -> None:
        self._runs, self._scheduler, self._doc = runs, scheduler, doc
        asked = getattr(getattr(doc.session_context, "request", None), "arguments", {}).get("theme", [b""])
        self._theme = theme = DARK if asked[0] == b"dark" else LIGHT
        sheet = InlineStyleSheet(css=style(theme))

        def block() -> Div:
            return Div(text="", sizing_mode="stretch_width", stylesheets=[sheet])

        self._head, self._tiles, self._table = block(), block(), block()
        self._choice = Select(options=[], visible=False, width=260)
        self._choice.on_change("value", self._chosen)
        self._lines = [Lines(theme, "log_likelihood"), Lines(theme, "gain_left")]
        self._mixture, self._weights = Mixture(theme), Weights(theme)
        self._seconds, self._pace, self._workers = Seconds(theme), Pace(theme), Workers(theme)

        def beside(*figures: Any) -> Any:
            return row(*figures, sizing_mode="stretch_width", spacing=10, styles={"flex-wrap": "wrap"})

        self._figures = column(
            beside(*(line.figure for line in self._lines)),
            beside(self._mixture.figure, self._weights.figure),
            beside(self._seconds.figure, self._pace.figure, self._workers.figure),
            self._table,
            sizing_mode="stretch_width",
            spacing=10,
        )
        doc.add_root(
            column(
                row(self._head, self._choice, sizing_mode="stretch_width"),
                self._tiles,
                self._figures,
                sizing_mode="stretch_width",
                spacing=10,
                margin=(6, 6, 16, 6),
            )
        )
        doc.title = "distem"
        template = _template(theme)
        if template is not None:
            doc.template = template
        doc.template_variables.update(extra)
        doc.template_variables["active_page"] = "distem"
        self._shown: tuple[Any, ...] = ()
        self._not_before = 0.0
        PAGES.add(self)
        self._draw()
        doc.add_periodic_callback(self._look, EVERY)

    def _chosen(self, attr: str, old: str, new: str) -> None:  # noqa: ARG002 -- as Bokeh calls it
        self._draw()

    def _run(self) -> Run | None:
        """The run that was chosen, or the last one that said something."""
        runs = self._runs.by_id
        options = [("", "the latest run"), *((run.id, f"{run.name} ({run.status})") for run in runs.values())]
        if options != self._choice.options:
            self._choice.options = options
        self._choice.visible = len(runs) > 1
        if self._choice.value in runs:
            return runs[self._choice.value]
        return max(runs.values(), key=lambda run: run.heard, default=None)

    def _look(self) -> None:
        """Draw, unless that would take more of the scheduler's time than it may."""
        now = time.monotonic()
        if now < self._not_before:
            return
        began = time.thread_time()
        self._draw()
        self._not_before = now + len(PAGES) * (time.thread_time() - began) / SHARE

    def _draw(self) -> None:
        run = self._run()
        if run is None:
            text = '<div class="distem empty">No run of distem has been here yet.</div>'
            if self._tiles.text != text:
                self._tiles.text = text
            self._figures.visible = False
            return
        self._figures.visible = True
        self._tiles.text, head = self._of_tiles(run), self._of_head(run)
        if self._head.text != head:
            self._head.text = head
        shown = (run.id, run.version)
        if shown == self._shown:
            return
        self._shown = shown
        if run.tasks is not None:
            names = {address: str(ws.name) for address, ws in self._scheduler.workers.items()}
            self._workers.update(run, names)
        for line in self._lines:
            line.update(run)
        self._mixture.update(run)
        self._weights.update(run)
        self._seconds.update(run)
        self._pace.update(run)
        self._table.text = self._of_table(run)

    def _of_head(self, run: Run) -> str:
        plan = run.plan
        badge = "gone" if run.status == "driver gone" else run.status
        what = ""
        if plan:
            held = "held in memory" if plan["resident"] else "streamed"
            many = counted(plan["candidates"], "candidate")
            called = plan.get("title") or plan["model"].replace("_", " ")
            what = (
                f"{called} · {plan['rows']:,} rows × {counted(plan['features'], 'feature')} · "
                f"{many} · {counted(plan['partitions'], 'partition')} on "
                f"{counted(plan['workers'], 'worker')}, {held}"
            )
        said = "".join(f'<div class="said">⚠ {html.escape(line)}</div>' for line in list(run.said)[-2:])
        silent = time.time() - run.heard
        usual = run.timings[-1]["seconds"] if run.timings else 0.0
        if run.status == "running" and silent > max(SILENT, 5.0 * usual):
            said += f'<div class="said">⚠ The driver has said nothing for {span(silent)}.</div>'
        return (
            f'<div class="distem head"><span class="name">{html.escape(run.name)}</span>'
            f'<span class="badge {badge}">{html.escape(run.status)}</span>'
            f'<span class="what">{html.escape(what)}</span></div>{said}'
        )

    @staticmethod
    def _of_tiles(run: Run) -> str:
        best = run.candidates.get(run.best or "")
        last = run.timings[-1] if run.timings else None
        gain = best.gain_left[-1] if best else None
        tolerance = run.plan.get("tolerance")
        running = sum(c.status == "running" for c in run.candidates.values())
        fits = counted(len(run.candidates), "fit")
        until = time.time() if run.status == "running" else run.heard
        of = run.tasks
        tasks = f"{of.name}: {of.finished} of {of.total} tasks" if of else ""
        left = run.seconds_left if run.phase == "fit" else None
        tiles = [
            ("phase", "done" if run.status == "complete" else run.phase, tasks),
            (run.step, str(run.passes), f"{running} of {fits} running" if run.status == "running" else fits),
            (
                f"{run.objective} / row",
                "–" if best is None else f"{best.log_likelihood[-1]:#.6g}",
                run.best or "",
            ),
            (
                "gain still expected",
                "–" if gain is None else f"{gain:.1e}",
                "" if tolerance is None else f"stops at {tolerance:.0e}",
            ),
            ("rows a second", short(last["rows_per_s"]) if last else "–", f"last {run.step}"),
            (
                "read a second",
                short(last["bytes_per_s"], "B") if last and last["bytes_per_s"] else "–",
                "held in memory" if run.plan.get("resident") else "decoded bytes",
            ),
            (
                f"a {run.step} takes",
                span(last["seconds"]) if last else "–",
                f"{'running for' if run.status == 'running' else 'took'} {span(until - run.began)}",
            ),
            (
                "time left",
                "done" if run.status == "complete" else span(left) if left is not None else "–",
                "of the fit, about" if left is not None else "",
            ),
        ]
        if run.step == "pair":  # there is no gain of which to tell
            del tiles[3]
        each = "".join(
            f'<div class="tile"><div class="label">{label}</div><div class="value">{html.escape(value)}</div>'
            f'<div class="more" title="{html.escape(more)}">{html.escape(more) or "&nbsp;"}</div></div>'
            for label, value, more in tiles
        )
        return f'<div class="distem tiles">{each}</div>'

    def _of_table(self, run: Run) -> str:
        colours, best = kinds(run), run.best
        order = sorted(
            (name for name, c in run.candidates.items() if c.passes),
            key=lambda name: (
                run.candidates[name].status == "dropped",
                -run.candidates[name].log_likelihood[-1],
            ),
        )
        lines = []
        for name in order[:MOST_ROWS]:
            fit = run.candidates[name]
            gain = fit.gain_left[-1]
            gone = fit.status == "dropped"
            left = fit.status == "running" != run.status  # by a driver that is not there
            dot = self._theme.gone if gone else colours[kind(name)]
            lines.append(
                f'<tr class="{"gone" if gone else "best" if name == best else ""}">'
                f'<td class="l"><span class="dot" style="background:{dot}"></span>{html.escape(name)}</td>'
                f"<td>{fit.passes[-1]}</td><td>{fit.log_likelihood[-1]:#.9g}</td>"
                f"<td>{'–' if gain is None else f'{gain:.1e}'}</td>"
                f"<td>{'unfinished' if left else fit.status}</td>"
                f'<td class="l why">{html.escape(fit.reason)}</td></tr>'
            )
        if not lines:
            return ""
        rest = len(order) - MOST_ROWS
        more = f'<div class="more">and {rest} more</div>' if rest > 0 else ""
        return (
            '<div class="distem card"><h2>Candidates</h2><table><tr><th class="l">candidate</th>'
            f"<th>{run.step}{'es' if run.step == 'pass' else 's'}</th>"
            f"<th>{html.escape(run.objective)} per row</th>"
            "<th>gain still expected</th><th>stands</th>"
            f'<th class="l">why</th></tr>{"".join(lines)}</table>{more}</div>'
        )
