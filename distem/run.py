"""The life of a run: the one place where config, data, cluster, folder and observers are wired."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from typing import Any

from distem.config import Config
from distem.data.folder import RunFolder
from distem.data.lease import Lease
from distem.data.remote_folder import run_folder
from distem.data.results import writing
from distem.data.source import Source
from distem.data.unchanged import Unchanged
from distem.errors import (
    AlreadyRunning,
    ConfigError,
    Interrupted,
    NotConvergedError,
    RunFolderError,
    StoreError,
)
from distem.events import Ended, Event, Note, Observer, Warned
from distem.execution.base import Executor
from distem.jobs import built_in_pipelines, pipeline
from distem.monitor.log import JsonLog
from distem.promise import make, open_data, plan
from distem.record import Summary, begun, failure, last_words, outcome, planned, summary_of
from distem.signals import Interrupts, nothing
from distem.stages import Fitted, Session

__all__ = ["Summary", "built_in_pipelines", "pipeline", "plan", "run"]


def run(config: Config, *, fresh: bool = False, observers: tuple[Observer, ...] = ()) -> Summary:
    """Do a run, go on with an unfinished one, or report a complete one.

    Parameters
    ----------
    config : Config
        What to do.
    fresh : bool
        Remove what an earlier run left in the folder, and begin again.
    observers : tuple of callable
        Are told every event.

    Raises
    ------
    DistemError
        Of the kind that says what went wrong; see `distem.errors`.
    """
    work = pipeline(config)

    tell = _all(*observers)
    with ExitStack() as stack:
        folder = stack.enter_context(run_folder(config.run_folder))
        if not fresh and (done := _complete(folder, config)) is not None:
            return _left_alone(folder, done, config, tell)
        interrupts = stack.enter_context(Interrupts(config.cluster.grace, redact=config.redact))
        if hasattr(work, "prepare"):
            with writing(config.locate(config.data.path)):
                work.prepare(config, lambda message: tell(Note(message)))
        source = open_data(config)
        _plan_without_cluster(config, source)
        stack.enter_context(writing(folder.where))
        lease = folder.lock(lambda message: tell(Note(message)))
        stack.enter_context(_nothing_left(folder))
        folder.claim()
        told: list[Event] = []
        hear = _all(tell, told.append)
        with interrupts.here():  # another host's lease is watched for a while
            stack.enter_context(lease)
        stack.callback(_sent, folder, lease)
        if not fresh and (done := _complete(folder, config)) is not None:
            return _left_alone(folder, done, config, tell)  # by whoever held the folder until now
        with interrupts.here():
            _compile(config, hear)
        executor = stack.enter_context(config.cluster.build(config.locate))
        with interrupts.here():
            executor.begin()
            _compile(config, hear, executor)
        promised = make(config, source, executor)
        if fresh:  # not before all is ready: a run that cannot begin loses nothing
            folder.clear()
        session = Session(
            config=config,
            executor=executor,
            folder=folder,
            source=source,
            plan=promised,
            observer=tell,
            interruptible=interrupts.here,
            lease=lease,
        )
        executor.guard(config.fit.stall_timeout)
        try:
            summary = _attempt(session, work, observers, told, interrupts)
        except Interrupted as error:
            interrupts.hurry(error.fact)  # a cluster that stands still may not close either
            raise
    manifest = folder.read_manifest()
    return _ended(manifest, folder, config) if manifest else summary


def _sent(folder: RunFolder, lease: Lease) -> None:
    """Put the last of the log where it belongs; if that cannot be, whatever ended the run says more."""
    with suppress(StoreError, AlreadyRunning, OSError):
        lease.confirm()
        folder.send()


def _left_alone(folder: RunFolder, manifest: dict[str, Any], config: Config, tell: Observer) -> Summary:
    """A complete run is left as it is, but for what was killed just before it ended.

    Raises
    ------
    RunFolderError
        Its data is not what it was: without an error a job that runs every night would be done for ever.
    """
    now = Unchanged.now(config.locate(config.data.path), str(folder.path)).stamp
    if None not in (now, was := manifest.get("files")) and now != was:
        raise RunFolderError(
            f"{folder.where} is complete, but files of {config.data.path} were changed since.",
            "Choose another output.path for the new data, or run it again with --fresh.",
        )
    tell(Note(f"{folder.where} is already complete; --fresh runs it again"))
    folder.checkpoints().remove()
    folder.lock().sweep()
    return _ended(manifest, folder, config)


def _compile(config: Config, tell: Observer, executor: Executor | None = None) -> None:
    """Compile the kernels once on this machine, or on an executor's own, before any task has to.

    The workers of a cluster that runs elsewhere have caches of their own.
    """
    if config.fit.kernels != "compiled":
        return
    from distem.kernels import compiled_centres

    work = config.model.warming(config.fit.precision)
    # k-means on the sample, where fits start, is this process's own
    seconds = work() + compiled_centres.warm("float64") if executor is None else executor.prepare(work)
    if seconds > 1.0:
        where = "" if executor is None else " on the cluster's workers"
        tell(Note(f"compiled the kernels{where} in {seconds:.0f} s; they are cached for the next run"))


def _all(*observers: Observer) -> Observer:
    def tell(event: Event) -> None:
        for observer in observers:
            observer(event)

    return tell


def _complete(folder: RunFolder, config: Config) -> dict[str, Any] | None:
    """The manifest, if the run is complete; refuse a folder that belongs to another run."""
    manifest = folder.read_manifest()
    if manifest is None:
        return None
    if manifest.get("config_hash") != config.hash():
        raise RunFolderError(
            f"{folder.where} belongs to another run: {manifest.get('name')}, with another config.",
            "Choose another output.path, or remove what is there with --fresh.",
        )
    return manifest if manifest.get("status") == "complete" else None


def _plan_without_cluster(config: Config, source: Source) -> None:
    if config.cluster.kind != "address":
        make(config, source, None)


@contextmanager
def _nothing_left(folder: RunFolder) -> Iterator[None]:
    """Leave no trace of a run that failed before it had anything to keep."""
    held = folder.has_manifest
    made = [path for path in (folder.path, *folder.path.parents) if not path.exists()]
    try:
        yield
    except AlreadyRunning:
        raise
    except BaseException as error:
        with suppress(OSError, StoreError):  # another run may lie in a parent by now
            # one that was interrupted says so in its manifest, even if it had nothing to keep yet
            told = isinstance(error, Interrupted) and folder.has_manifest
            if not (held or folder.is_begun or told):
                folder.clear()
                folder.vacate()
                for path in made:
                    if path.exists():
                        path.rmdir()
        raise


def _attempt(
    session: Session,
    work: Any,
    observers: tuple[Observer, ...],
    told: Sequence[Event],
    interrupts: Interrupts,
) -> Summary:
    """One go at a run; `told` is what observers heard before there was a log."""
    config, folder = session.config, session.folder
    earlier = folder.read_manifest() or {}
    started = time.monotonic() - float(earlier.get("seconds", 0.0))
    manifest = begun(session)
    folder.take_up()
    folder.write("config.yaml", config.to_yaml(folder.where))
    folder.write_manifest(manifest | {"status": "running", "seconds": time.monotonic() - started})
    ended: dict[str, Any] = {}

    def now(how: dict[str, Any]) -> dict[str, Any]:
        return manifest | {"seconds": time.monotonic() - started, "warnings": session.warnings, **how}

    def out_of_time() -> None:
        error = Interrupted(
            f"{interrupts.why or 'The run was ended by a signal.'} The grace time of the run was over."
        )
        _say_how(session, now(failure("interrupted", error, config)))
        session.lease.release()

    interrupts.last_words = out_of_time
    with JsonLog(folder.log, config.name, config.redact) as log, ExitStack() as watching:
        for event in told:
            log(event)
        session.observer = _all(*observers, log)
        _let_watch(session, watching, observers=(*observers, log))
        session.observe(planned(session))
        try:
            # a full disk is told apart in here, where the manifest can still say so
            with writing(folder.where):
                with session.resources:
                    fitted = _fitted(work.run(session), config)
                ended = {"status": "complete", "exit": 0, **outcome(session, fitted)}
                if config.fit.require_convergence and not fitted.fit.reason.converged:
                    ended["exit"] = NotConvergedError.exit_code
                session.lease.confirm()
                interrupts.last_words = nothing  # from here on a signal ends a run that is complete
                folder.write_manifest(now(ended))
        except BaseException as error:
            status = "interrupted" if isinstance(error, Interrupted) else "failed"
            if isinstance(error, StoreError):
                folder.hurry()  # what did not answer for so long is not waited for again
            ended = failure(status, error, config)
            _say_how(session, now(ended))
            raise
        finally:
            manifest = now(ended)
            with suppress(OSError):  # a full disk has no room for the last line either
                session.observe(
                    Ended(str(manifest["status"]), manifest["seconds"], str(ended.get("error", "")))
                )
        session.checkpoints.remove()
        if config.output.report:
            _draw(session, manifest)
    return summary_of(manifest, folder)


def _say_how(session: Session, manifest: dict[str, Any]) -> None:
    """Write how a run ended that did not complete; nothing, where the folder is another process's by now."""
    try:
        session.lease.confirm()
    except AlreadyRunning:
        return
    except (OSError, StoreError):
        pass  # no room for a lease, or no answer: last words make room, and ask once more
    last_words(session.folder, manifest)


def _let_watch(session: Session, until: ExitStack, observers: tuple[Observer, ...]) -> None:
    """Show the run on the dashboard of its cluster, where there is one, as long as it lasts."""
    client = getattr(session.executor, "client", None)
    if session.config.cluster.performance_report:
        from distem.dashboard.performance import reported

        until.enter_context(reported(client, session.folder.dask_report, session.observe))
    if client is None or getattr(session.executor, "dashboard", None) is None:
        return
    from distem.dashboard.attach import watched

    page = until.enter_context(
        watched(
            client,
            session.folder.known_by,
            session.config.name,
            session.observer,
            fresh=not session.folder.is_begun,
            redact=session.config.redact,
        )
    )
    if page is not None:
        session.watched = True
        session.observer = _all(*observers, page)


def _fitted(returned: Any, config: Config) -> Fitted:
    if not isinstance(returned, Fitted):
        raise ConfigError(
            f"The pipeline {config.pipeline} returned a {type(returned).__name__}.",
            "Its function run(session) must return what distem.stages.fit returned.",
        )
    return returned


def _draw(session: Session, manifest: dict[str, Any]) -> None:
    """Draw the report; a picture that fails takes nothing from a result that is complete."""
    from distem.report.draw import draw_in

    folder = session.folder
    try:
        folder.send()
        draw_in(folder)
    except Exception as error:  # noqa: BLE001 -- whatever it is, it goes where warnings are read
        session.observe(
            Warned(
                f"The result is complete, but its report could not be drawn: {type(error).__name__}: "
                f"{error}. Try again with: distem report {folder.where}"
            )
        )
        last_words(folder, manifest | {"warnings": session.warnings})


def _ended(manifest: dict[str, Any], folder: RunFolder, config: Config) -> Summary:
    """The summary of a complete run, or the error its config asks for.

    Raises
    ------
    NotConvergedError
        The fit did not converge and ``fit.require_convergence`` is set.
    """
    summary = summary_of(manifest, folder)
    if config.fit.require_convergence and not summary.converged:
        raise NotConvergedError(
            f"The result in {summary.run} is complete, but: {summary.reason}",
            "Raise fit.max_passes or fit.tolerance, or unset fit.require_convergence.",
        )
    return summary
