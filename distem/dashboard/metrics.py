"""The same figures for Prometheus, in the scheduler's ``/metrics``.

A collector, asked when somebody scrapes: a run that ended pushes nothing. Labels are run and phase alone,
and so many runs are remembered as `Runs` keeps, so there are never many series. Gauges are of the phase a run
is in; a counter counts what was done in its phase, and stays as it was when another begins.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

from distem.dashboard.state import PARTS, Run, Runs, Totals

LABELS = ["run", "phase"]

Figure = Callable[[Run], float | None]
Count = Callable[[Totals], float]


def _last(key: str) -> Figure:
    return lambda run: run.timings[-1][key] if run.timings else None


def _standing(status: str) -> Figure:
    return lambda run: float(sum(c.status == status for c in run.candidates.values()))


def _spent(part: str) -> Count:
    return lambda totals: totals.seconds[part]


def _objective(run: Run) -> float | None:
    return None if run.best is None else run.candidates[run.best].log_likelihood[-1]


def _log_likelihood(run: Run) -> float | None:
    return _objective(run) if run.objective == "log-likelihood" else None


def _gain_left(run: Run) -> float | None:
    return None if run.best is None else run.candidates[run.best].gain_left[-1]


GAUGES: dict[str, tuple[str, Figure]] = {
    "distem_run_active": (
        "1 while the run's driver is at work, 0 after it ended or left.",
        lambda run: float(run.status == "running"),
    ),
    "distem_run_start_time_seconds": ("Unix time at which the run began.", lambda run: run.began),
    "distem_last_event_time_seconds": (
        "Unix time at which the driver was heard last.",
        lambda run: run.heard,
    ),
    "distem_objective": (
        "What the leading candidate's fit climbs on, per row: its log-likelihood, or minus its inertia.",
        _objective,
    ),
    "distem_log_likelihood": (
        "Mean log-likelihood per row of the leading candidate, in the data's own units; k-means has none.",
        _log_likelihood,
    ),
    "distem_gain_left": ("What distem_objective is still expected to gain.", _gain_left),
    "distem_pass_seconds": ("Seconds of the last pass.", _last("seconds")),
    "distem_rows_per_second": ("Rows a second in the last pass.", _last("rows_per_s")),
    "distem_bytes_per_second": ("Decoded bytes a second read in the last pass.", _last("bytes_per_s")),
    "distem_time_left_seconds": ("Estimated seconds until the last fit stops.", lambda run: run.seconds_left),
    "distem_pass_tasks": (
        "Tasks of the pass that is under way.",
        lambda run: None if run.tasks is None else float(run.tasks.total),
    ),
    "distem_pass_tasks_done": (
        "Of these, those that are done.",
        lambda run: None if run.tasks is None else float(run.tasks.finished),
    ),
    "distem_straggling_workers": (
        "Workers whose tasks take much longer than the others'.",
        lambda run: float(len(run.stragglers())),
    ),
    **{
        f"distem_candidates_{status}": (f"Candidates that are {status}.", _standing(status))
        for status in ("running", "converged", "stopped", "dropped")
    },
}
COUNTERS: dict[str, tuple[str, Count]] = {
    "distem_passes": ("Passes of the fit over the data.", lambda totals: float(totals.passes)),
    "distem_rows": ("Rows these passes went over.", lambda totals: totals.rows),
    "distem_read_bytes": ("Decoded bytes they read.", lambda totals: totals.bytes),
    "distem_tasks": ("Tasks that were done.", lambda totals: float(totals.tasks)),
    "distem_warnings": ("Warnings.", lambda totals: float(totals.warnings)),
    "distem_observer_seconds": ("Seconds the driver spent on telling all this.", lambda totals: totals.told),
    **{
        f"distem_{part}_seconds": (
            f"Seconds of passes spent {part}, as a mean over the cluster's threads.",
            _spent(part),
        )
        for part in PARTS
    },
}


class Collector:
    """Says how the runs stand, when it is asked.

    Parameters
    ----------
    runs : Runs
        What the scheduler remembers.
    """

    def __init__(self, runs: Runs) -> None:
        self.runs = runs

    def collect(self) -> Iterator[Any]:
        """Metric families, as prometheus_client takes them."""
        from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

        # two runs of one name count as one, the later: a series must not come twice
        runs = list({run.name: run for run in self.runs.by_id.values()}.values())
        for name, (about, figure) in GAUGES.items():
            gauge = GaugeMetricFamily(name, about, labels=LABELS)
            for run in runs:
                value = figure(run)
                if value is not None:
                    gauge.add_metric([run.name, run.phase], value)
            yield gauge
        for name, (about, count) in COUNTERS.items():
            counter = CounterMetricFamily(name, about, labels=LABELS)
            for run in runs:
                for phase, totals in run.totals.items():
                    counter.add_metric([run.name, phase], count(totals))
            yield counter


def register(runs: Runs) -> Collector | None:
    """Add a collector to the process's registry; None where prometheus_client is not installed."""
    try:
        from prometheus_client import REGISTRY
    except ImportError:
        return None
    collector = Collector(runs)
    # of an earlier version of this plugin, or of another scheduler of this process
    for held in list(getattr(REGISTRY, "_collector_to_names", ())):
        if (type(held).__module__, type(held).__name__) == (__name__, "Collector"):
            REGISTRY.unregister(held)
    REGISTRY.register(collector)
    return collector


def unregister(collector: Collector | None) -> None:
    """Take a collector out of the registry again."""
    if collector is not None:
        from prometheus_client import REGISTRY

        with suppress(KeyError):
            REGISTRY.unregister(collector)
