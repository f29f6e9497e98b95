"""The scheduler's side: remembers runs, watches their tasks, adds a page and metrics to what is there.

It travels by value: the scheduler need not have distem installed, and shows what the driver's version draws.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Mapping
from contextlib import suppress
from time import time
from typing import Any

from distributed.diagnostics.plugin import SchedulerPlugin

from distem.dashboard import metrics
from distem.dashboard.page import add_page
from distem.dashboard.state import Runs, task_of

TOPIC = "distem"
TASK_TOPIC = "distem-tasks"

logger = logging.getLogger("distem.dashboard")


class LivePage(SchedulerPlugin):  # type: ignore[misc]
    """Adds the page and the metrics to a scheduler; an older one steps aside.

    Parameters
    ----------
    version : str
        Of the distem that sent it.
    """

    idempotent = True

    def __init__(self, version: str) -> None:
        self.name = f"distem-live-{version}"
        self.runs = Runs()
        self.collector: metrics.Collector | None = None
        self.application: Any = None
        self.scheduler: Any = None

    async def start(self, scheduler: Any) -> None:
        """Take up what the event log still holds, and add what is to be seen."""
        for name in [n for n in scheduler.plugins if n.startswith("distem-live-") and n != self.name]:
            await scheduler.plugins[name].close()
            scheduler.remove_plugin(name)
        self.scheduler = scheduler
        self.runs.replay(scheduler.get_events(TOPIC) or ())
        self.collector = metrics.register(self.runs)
        try:
            self.application = add_page(self.runs, scheduler)
        except Exception:  # a scheduler that others use must not fail for want of a page
            logger.warning("The page of distem could not be added to the dashboard", exc_info=True)

    async def close(self) -> None:
        """Take back what was added."""
        metrics.unregister(self.collector)
        self.collector = None
        applications = getattr(getattr(self.scheduler, "http_application", None), "applications", [])
        if self.application in applications:
            applications.remove(self.application)
            with suppress(Exception):
                self.application.stop()

    def log_event(self, topic: str, msg: Any) -> None:
        """Take in what a driver or a task says."""
        if not isinstance(msg, Mapping):
            return
        if topic == TOPIC and "run" in msg:
            self.runs.take(time(), msg)
        elif topic == TASK_TOPIC and (task := task_of(msg.get("key"))) is not None:
            run = self.runs.of_token(task[1])
            if run is not None:
                run.task_read(float(msg["read"]), float(msg["bytes"]))

    def update_graph(self, scheduler: Any, *, tasks: Any, **_: Any) -> None:
        """Count the tasks of a pass; a graph names those it needs of earlier ones too."""
        known = scheduler.tasks
        counts = Counter(
            task
            for key in tasks
            if (task := task_of(key)) is not None and (key not in known or known[key].state != "memory")
        )
        # what has to be loaded for a pass is said first, so that the pass is what is shown
        for (name, token, number), count in sorted(counts.items(), key=lambda item: item[0][0] != "load"):
            run = self.runs.of_token(token)
            if run is not None:
                run.task_expected(name, number, count)

    def transition(self, key: Any, start: str, finish: str, *_: Any, **facts: Any) -> None:
        """Count a task that is done, and its seconds."""
        if finish != "memory" or start != "processing" or (task := task_of(key)) is None:
            return
        name, token, number = task
        run = self.runs.of_token(token)
        if run is None:
            return
        seconds = {"compute": 0.0, "transfer": 0.0}
        for part in facts.get("startstops") or ():
            if part["action"] in seconds:
                seconds[part["action"]] += part["stop"] - part["start"]
        run.task_done(name, number, str(facts.get("worker")), seconds["compute"], seconds["transfer"])

    def remove_client(self, scheduler: Any, client: str) -> None:  # noqa: ARG002
        """Mark runs whose driver has left."""
        self.runs.client_gone(client)
