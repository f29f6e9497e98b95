"""Dask's own performance report, saved into the run folder."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from distributed import performance_report

from distem.events import Note, Observer, Warned

if TYPE_CHECKING:
    from distributed import Client


@contextmanager
def reported(client: Client | None, path: Path, tell: Observer) -> Iterator[None]:
    """Record what the cluster does meanwhile, and write Dask's report of it: one file that opens offline.

    Parameters
    ----------
    client : distributed.Client or None
        Of the cluster; where there is none, a warning says so.
    path : Path
        The HTML file.
    tell : callable
        Is told what went wrong: no reason to stop a run.
    """
    if client is None:
        tell(Warned("cluster.performance_report is Dask's: a run without a Dask cluster has none."))
        yield
        return
    report = performance_report(filename=str(path), mode="inline")
    try:
        with client.as_current():
            report.__enter__()
    except Exception as error:  # noqa: BLE001 -- Bokeh may be missing, for one
        tell(Note(f"no performance report: {type(error).__name__}: {error}"))
        yield
        return
    try:
        yield
    finally:
        if client.status == "running":
            try:
                with client.as_current():
                    report.__exit__(None, None, None)
            except Exception as error:  # noqa: BLE001 -- the same
                with suppress(OSError):
                    tell(Note(f"no performance report: {type(error).__name__}: {error}"))
