"""Clusters that others run for us: packages that may be absent, workers that come late."""

from __future__ import annotations

import importlib
from contextlib import suppress
from functools import partial
from types import ModuleType
from typing import Any

from distributed import Client

from distem.errors import ClusterError, ConfigError, Interrupted
from distem.execution.dask.executor import DaskExecutor
from distem.execution.dask.versions import Versions
from distem.execution.dask.vigil import workers_now


def needed(module: str, kind: str) -> ModuleType:
    """Import what a kind of cluster needs.

    Raises
    ------
    ConfigError
        It is not installed.
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        raise ConfigError(
            f"cluster.kind: {kind} needs a package that is not installed here ({error.name}).",
            f'Install it: pip install "distem[{kind}]".',
        ) from error


def first_workers(
    client: Client, owned: list[Any], minimum: int, timeout: float, *, allow_version_skew: bool, where: str
) -> DaskExecutor:
    """An executor that waits for so many workers when it begins: that may take hours, and be interrupted."""
    versions = None if allow_version_skew else Versions(client)
    wait = partial(_await_workers, client, minimum, timeout, where)
    return DaskExecutor(client, owned=owned, versions=versions, wait=wait)


def _await_workers(client: Client, minimum: int, timeout: float, where: str) -> None:
    try:
        client.wait_for_workers(minimum, timeout=timeout)
    except TimeoutError as error:
        there = 0
        with suppress(OSError):
            there = len(workers_now(client))
        raise Interrupted(
            f"{where} has {there} of the {minimum} workers of cluster.adapt.minimum after {timeout:g} s.",
            "Run the same command again to wait again; a smaller cluster.adapt.minimum begins earlier, "
            "a larger cluster.timeout waits longer.",
        ) from error


def refused(kind: str, error: BaseException, remedy: str) -> ClusterError:
    """The error of a cluster that did not start."""
    return ClusterError(f"The {kind} cluster did not start: {type(error).__name__}: {error}", remedy)
