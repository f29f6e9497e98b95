"""Pipelines: by name those that come with distem, by path anybody's."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Protocol

from distem.config import Config
from distem.errors import ConfigError, DistemError
from distem.stages import Fitted, Session


class Pipeline(Protocol):
    """A pipeline's module: `run` does the job; `prepare`, if there is one, makes its data first."""

    def run(self, session: Session) -> Fitted:
        """Do the whole job."""


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
