"""Bring the page to a scheduler, and make the observer that feeds it."""

from __future__ import annotations

import hashlib
import pickle
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from distem._version import __version__
from distem.dashboard.observer import Mail, ToScheduler
from distem.events import Note, Observer

if TYPE_CHECKING:
    from distributed import Client


@contextmanager
def watched(
    client: Client | None,
    run: str,
    name: str,
    tell: Observer,
    *,
    fresh: bool,
    redact: Callable[[str], str],
) -> Iterator[ToScheduler | None]:
    """An observer that keeps the page of a cluster's dashboard up to date, while the run lasts.

    Parameters
    ----------
    client : distributed.Client or None
        Of the cluster; without one there is nothing to add a page to.
    run : str
        The place of the run folder, by which a run is known that goes on.
    name : str
        What people call the run.
    tell : callable
        Is told why there is no page, where that is so.
    fresh : bool
        Whether what is known of the folder's earlier run goes.
    redact : callable
        Takes secrets out of texts.
    """
    if client is None or not install(client, tell):
        yield None
        return
    from distem.execution.dask import token_of

    mail = Mail(client)
    known_by = hashlib.sha256(run.encode()).hexdigest()[:16]
    begin = {"token": token_of(client.id), "client": client.id, "fresh": fresh}
    try:
        yield ToScheduler(mail, known_by, name, begin, redact)
    finally:
        mail.settle()


def install(client: Client, tell: Observer) -> bool:
    """Add the page to the scheduler; one that is there already is left alone."""
    try:
        client.register_plugin(_by_value())
    except Exception as error:  # noqa: BLE001 -- whatever it is, the run goes on without a page
        tell(Note(f"no page on the dashboard: {type(error).__name__}: {error}"))
        return False
    return True


@cache
def _drawn_by() -> str:
    """The version, and a digest of the code that travels: another's page makes way for this one's."""
    digest = hashlib.sha256()
    for path in sorted(Path(__file__).parent.glob("*.py")):
        digest.update(path.read_bytes())
    return f"{__version__}-{digest.hexdigest()[:8]}"


def _by_value() -> Any:
    """The plugin, in a shape that is unpickled without distem."""
    import cloudpickle
    from distributed.diagnostics.plugin import SchedulerPlugin

    import distem.dashboard
    from distem.dashboard.plugin import LivePage

    plugin = LivePage(_drawn_by())
    cloudpickle.register_pickle_by_value(distem.dashboard)
    try:
        packed = cloudpickle.dumps(plugin)
    finally:
        cloudpickle.unregister_pickle_by_value(distem.dashboard)

    class Packed(SchedulerPlugin):  # type: ignore[misc]
        """Stands for the plugin until it arrives."""

        name = plugin.name
        idempotent = True

        def __reduce__(self) -> tuple[Any, ...]:
            return pickle.loads, (packed,)

    return Packed()
