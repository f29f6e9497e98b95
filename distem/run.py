"""The life of a run: the one place where config, data, cluster, folder and observers are wired."""

from __future__ import annotations

import importlib
import importlib.util
import platform
import shutil
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from types import ModuleType
from typing import Any, Protocol

import psutil

from distem._version import __version__
from distem.config import Config
from distem.data.checkpoint import CheckpointStore
from distem.data.folder import RunFolder, write_atomically
from distem.data.label_images import require
from distem.data.neighbours import spatial_axes
from distem.data.results import writing
from distem.data.source import Source
from distem.data.transform import Transform
from distem.errors import (
    AlreadyRunning,
    ConfigError,
    DistemError,
    Interrupted,
    NotConvergedError,
    RunFolderError,
)
from distem.events import Event, Note, Observer, Warned
from distem.execution.base import Executor
from distem.monitor.log import JsonLog
from distem.plan import Plan, Work, make_plan
from distem.signals import Interrupts
from distem.stages import Fitted, Session, dropping
from distem.starting import samples_first

PACKAGES = ("numpy", "numba", "dask", "distributed", "xarray", "zarr", "scikit-learn", "scipy", "pandas")


class Pipeline(Protocol):
    """A pipeline's module: `run` does the job; `prepare`, if there is one, makes its data first."""

    def run(self, session: Session) -> Fitted:
        """Do the whole job."""


@dataclass(frozen=True, slots=True)
class Summary:
    """How a run ended.

    Attributes
    ----------
    run : str
        The run folder.
    status : str
        complete, or what the manifest says.
    components : int
        Of the chosen mixture.
    log_likelihood : float
        Mean per row, in the data's own units.
    bic : float
        Of the chosen mixture.
    passes : int
        Of the chosen fit.
    converged : bool
    reason : str
        Why the fit stopped.
    seconds : float
        Of the whole run, all attempts together.
    """

    run: str
    status: str
    components: int
    log_likelihood: float
    bic: float
    passes: int
    converged: bool
    reason: str
    seconds: float

    def as_dict(self) -> dict[str, Any]:
        """The summary as plain values."""
        return asdict(self)


def silent_note(_: str) -> None:
    """Say nothing."""


def plan(config: Config, say: Callable[[str], None] = silent_note) -> Plan:
    """What a run would do; starts nothing but, for a running cluster, a look at it.

    Parameters
    ----------
    config : Config
        What would be done.
    say : callable
        Is told what the pipeline does to make its data, where there is none yet.

    Raises
    ------
    ConfigError
        It cannot fit, with the numbers.
    DataError
        The data cannot be opened as the config says.
    """
    prepare(config, say)
    return _plan(config, _source(config), None)


def _source(config: Config) -> Source:
    """The data, as the kind of model takes it."""

    def again(column: str) -> Source:
        own = config.data.model_copy(update={"features": (column,), "feature_dim": None, "weights": None})
        return own.build(config.locate)

    return config.model.arrange(config.data.build(config.locate), again)


def _plan(config: Config, source: Source, executor: Executor | None) -> Plan:
    _check_picture(config, source)
    components = [
        k
        for _ in config.model.variants
        for k in config.model.n_components
        for _ in range(config.fit.restarts)
    ]
    return make_plan(
        source,
        source.blocks(Transform(dtype=config.fit.precision)),
        executor.capacity if executor else config.cluster.capacity(config.locate),
        Work(
            components=components,
            sums=[config.model.sums(k, source.d) for k in components],
            variables=config.output.variables,
            sample_rows=config.fit.sample_rows,
            drops=config.data.missing == "drop",
            working_bytes=config.model.working_bytes,
            working_row_bytes=config.model.working_row_bytes,
            weighted=config.data.weights is not None,
            probability_bytes=config.output.encoding.build().itemsize,
            folds=config.fit.folds if config.fit.select == "cv" else 0,
            beside_row=config.model.beside_row * len(components),
            sample_first=samples_first(config, source.n, source.d),
            halo_rows=_halo_rows(config, source),
        ),
        # one thread reads one block after the other, whatever is asked for
        partitions=1 if config.cluster.kind == "serial" else config.cluster.partitions,
        resident=config.cluster.resident,
        machine_bytes=psutil.virtual_memory().total,
    )


def _check_picture(config: Config, source: Source) -> None:
    """Refuse, before any work, what needs neighbours or a package that is not there.

    Raises
    ------
    ConfigError
        The rows are no picture, or a kind of image cannot be written.
    """
    if config.output.smoothing is not None or config.output.images:
        spatial_axes(source.dims)
    for kind in config.output.images:
        require(kind)


def _halo_rows(config: Config, source: Source) -> int:
    """Rows of the largest block with the halo that smoothing needs; 0 where nothing is smoothed."""
    if config.output.smoothing is None or not config.output.variables:
        return 0
    return max(block.n for block in source.blocks(halo=config.output.smoothing.build().halo))


def pipeline(config: Config) -> ModuleType:
    """The module of the pipeline a config names.

    Raises
    ------
    ConfigError
        There is no such pipeline, or the file holds no function `run`.
    """
    name = config.pipeline
    if name.endswith(".py"):
        module = _from_file(Path(config.locate(name)))
    else:
        try:
            module = importlib.import_module(f"distem.pipelines.{name}")
        except ModuleNotFoundError as error:
            if error.name != f"distem.pipelines.{name}":
                raise
            raise ConfigError(
                f"There is no pipeline called {name!r}.",
                f"The built-in ones are {', '.join(built_in_pipelines())}; or give the path of a .py file.",
            ) from error
    if not callable(getattr(module, "run", None)):
        raise ConfigError(f"The pipeline {name} has no function run(session).", "Define one.")
    return module


def _from_file(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"distem_pipeline_{path.stem}", path)
    if spec is None or spec.loader is None or not path.is_file():
        raise ConfigError(f"There is no pipeline at {path}.", "Check the key pipeline.")
    module = importlib.util.module_from_spec(spec)
    # known by name while it is read, as dataclasses need; not after, so that what it defines
    # travels to the workers by value: they cannot import it
    sys.modules[spec.name] = module
    try:
        spec.loader.exec_module(module)
    except DistemError:
        raise
    except Exception as error:
        line = f", line {error.lineno}" if isinstance(error, SyntaxError) else ""
        raise ConfigError(
            f"The pipeline {path}{line} could not be loaded: {type(error).__name__}: {error}.",
            "Mend the file, or name another one in the key pipeline.",
        ) from error
    finally:
        sys.modules.pop(spec.name, None)
    return module


def built_in_pipelines() -> list[str]:
    """Names of the pipelines that come with distem."""
    import pkgutil

    package = importlib.import_module("distem.pipelines")
    return sorted(module.name for module in pkgutil.iter_modules(package.__path__))


def prepare(config: Config, say: Callable[[str], None]) -> None:
    """Let the pipeline make the data it works on, where it does."""
    make = getattr(pipeline(config), "prepare", None)
    if make is not None:
        make(config, say)


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
    folder = RunFolder(_local(config.run_folder))
    work = pipeline(config)

    tell = _all(*observers)
    if not fresh and (done := _complete(folder, config)) is not None:
        tell(Note(f"{folder.path} is already complete; --fresh runs it again"))
        CheckpointStore(folder.checkpoint).remove()  # it may have been killed just before it did
        return _ended(done, config)
    with ExitStack() as stack:
        interrupts = stack.enter_context(Interrupts())
        if hasattr(work, "prepare"):
            with writing(config.locate(config.data.path)):
                work.prepare(config, lambda message: tell(Note(message)))
        source = _source(config)
        _plan_without_cluster(config, source)
        stack.enter_context(writing(str(folder.path)))
        stack.enter_context(_nothing_left(folder))
        folder.claim()
        stack.enter_context(folder.lock())
        told: list[Event] = []
        _compile(config, _all(tell, told.append))
        executor = stack.enter_context(config.cluster.build(config.locate))
        _compile(config, _all(tell, told.append), executor)
        promised = _plan(config, source, executor)
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
        )
        summary = _attempt(session, work, observers, told)
    manifest = folder.read_manifest()
    return _ended(manifest, config) if manifest else summary


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


def _local(path: str) -> Path:
    if "://" in path:
        raise ConfigError(
            f"output.path is a URL ({path.partition('://')[0]}://…); results are written to local paths.",
            "Give a path on a file system that driver and workers share.",
        )
    return Path(path)


def _complete(folder: RunFolder, config: Config) -> dict[str, Any] | None:
    """The manifest, if the run is complete; refuse a folder that belongs to another run."""
    manifest = folder.read_manifest()
    if manifest is None:
        return None
    if manifest.get("config_hash") != config.hash():
        raise RunFolderError(
            f"{folder.path} belongs to another run: {manifest.get('name')}, with another config.",
            "Choose another output.path, or remove what is there with --fresh.",
        )
    return manifest if manifest.get("status") == "complete" else None


def _plan_without_cluster(config: Config, source: Source) -> None:
    if config.cluster.kind != "address":
        _plan(config, source, None)


@contextmanager
def _nothing_left(folder: RunFolder) -> Iterator[None]:
    """Leave no trace of a run that failed before it had anything to keep."""
    held = folder.manifest.exists()
    made = [path for path in (folder.path, *folder.path.parents) if not path.exists()]
    try:
        yield
    except AlreadyRunning:
        raise
    except BaseException as error:
        begun = folder.checkpoint.exists() or folder.result.exists()
        # one that was interrupted says so in its manifest, even if it had nothing to keep yet
        told = isinstance(error, Interrupted) and folder.manifest.exists()
        if not (held or begun or told):
            folder.clear()
            with suppress(OSError):  # there may be no folder; another run may lie beside it by now
                (folder.path / ".lock").unlink(missing_ok=True)
                for path in made:
                    path.rmdir()
        raise


def _attempt(session: Session, work: Any, observers: tuple[Observer, ...], told: Sequence[Event]) -> Summary:
    """One go at a run; `told` is what observers heard before there was a log."""
    config, folder = session.config, session.folder
    earlier = folder.read_manifest() or {}
    started = time.monotonic() - float(earlier.get("seconds", 0.0))
    manifest = _manifest(session)
    write_atomically(folder.config, config.to_yaml(folder.path))
    folder.write_manifest(manifest | {"status": "running", "seconds": time.monotonic() - started})
    ended: dict[str, Any] = {}
    with JsonLog(folder.log, config.name, config.redact) as log:
        for event in told:
            log(event)
        session.observer = _all(*observers, log)
        try:
            # a full disk is told apart in here, where the manifest can still say so
            with session.resources, writing(str(folder.path)):
                fitted = _fitted(work.run(session), config)
            ended = {"status": "complete", "exit": 0, **_outcome(session, fitted)}
            if config.fit.require_convergence and not fitted.fit.reason.converged:
                ended["exit"] = NotConvergedError.exit_code
        except BaseException as error:
            status = "interrupted" if isinstance(error, Interrupted) else "failed"
            ended = _failure(status, error, config)
            raise
        finally:
            seconds = time.monotonic() - started
            manifest |= {"seconds": seconds, "warnings": session.warnings, **ended}
            _last_words(folder, manifest)
        session.checkpoints.remove()
        if config.output.report:
            _draw(session, manifest)
    return _summary(manifest, folder)


def _fitted(returned: Any, config: Config) -> Fitted:
    if not isinstance(returned, Fitted):
        raise ConfigError(
            f"The pipeline {config.pipeline} returned a {type(returned).__name__}.",
            "Its function run(session) must return what distem.stages.fit returned.",
        )
    return returned


def _draw(session: Session, manifest: dict[str, Any]) -> None:
    """Draw the report; a picture that fails takes nothing from a result that is complete."""
    from distem.report.draw import draw

    folder = session.folder
    try:
        draw(folder.path)
    except Exception as error:  # noqa: BLE001 -- whatever it is, it goes where warnings are read
        session.observe(
            Warned(
                f"The result is complete, but its report could not be drawn: {type(error).__name__}: "
                f"{error}. Try again with: distem report {folder.path}"
            )
        )
        _last_words(folder, manifest | {"warnings": session.warnings})


def _last_words(folder: RunFolder, manifest: dict[str, Any]) -> None:
    """Write how it ended; on a full disk an unfinished result makes room, which is begun anew in any case."""
    with suppress(Interrupted), writing(str(folder.path)):
        try:
            folder.write_manifest(manifest)
        except OSError:
            if manifest.get("status") == "complete":
                raise
            shutil.rmtree(folder.result, ignore_errors=True)
            folder.write_manifest(manifest)


def _manifest(session: Session) -> dict[str, Any]:
    config = session.config
    return {
        "name": config.name,
        "config": config.resolved(),
        "config_hash": config.hash(),
        "seed": config.seed,
        "versions": {
            "distem": __version__,
            "python": platform.python_version(),
            **{p: version(p) for p in PACKAGES},
        },
        "kernels": config.fit.kernels,
        "plan": session.plan.as_dict(),
        "partitions": session.plan.partitions,
        "data": session.source.describe(),
    }


def _outcome(session: Session, fitted: Fitted) -> dict[str, Any]:
    rule = dropping(session.config)
    fit, score, config = fitted.fit, fitted.scores[fitted.chosen], session.config
    return {
        "fit": {
            "chosen": fitted.chosen,
            "components": fitted.model.k,
            "log_likelihood": score.log_likelihood / score.mass,
            "bic": score.bic,
            **({"cv": score.cv, "cv_se": score.cv_se} if config.fit.select == "cv" else {}),
            "passes": len(fit.trace),
            "converged": fit.reason.converged,
            "reason": fit.reason.sentence,
        }
        | ({"sample_first": session.sampled} if session.sampled else {})
        | ({} if rule is None else {"drop": {"rule": rule.rule, "dropped": fitted.dropped}}),
        "data": session.source.describe() | session.facts,
    }


def _failure(status: str, error: BaseException, config: Config) -> dict[str, Any]:
    code = error.exit_code if isinstance(error, DistemError) else 1
    return {"status": status, "exit": code, "error": config.redact(f"{type(error).__name__}: {error}")}


def _summary(manifest: dict[str, Any], folder: RunFolder) -> Summary:
    fit = manifest["fit"]
    return Summary(
        run=str(folder.path),
        status=manifest["status"],
        components=fit["components"],
        log_likelihood=fit["log_likelihood"],
        bic=fit["bic"],
        passes=fit["passes"],
        converged=fit["converged"],
        reason=fit["reason"],
        seconds=manifest["seconds"],
    )


def _ended(manifest: dict[str, Any], config: Config) -> Summary:
    """The summary of a complete run, or the error its config asks for.

    Raises
    ------
    NotConvergedError
        The fit did not converge and ``fit.require_convergence`` is set.
    """
    summary = _summary(manifest, RunFolder(_local(config.run_folder)))
    if config.fit.require_convergence and not summary.converged:
        raise NotConvergedError(
            f"The result in {summary.run} is complete, but: {summary.reason}",
            "Raise fit.max_passes or fit.tolerance, or unset fit.require_convergence.",
        )
    return summary
