"""Whether workers run the same versions as the driver: those of the beginning, and those that come later."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from distributed import Client

from distem.errors import ClusterError
from distem.execution.dask.failures import cluster_failures
from distem.execution.dask.vigil import addresses_now

COMPARED_PACKAGES = ("distem", "numpy", "numba")
PATIENCE = 300.0
"""Seconds a worker has to import what it is asked about."""
Told = Mapping[str, str | None]


@dataclass
class Versions:
    """What decides the bits, here and on the workers of a cluster: each worker is asked once.

    Parameters
    ----------
    client : distributed.Client
        Of the cluster.
    """

    client: Client
    _asked: set[str] = field(default_factory=set, repr=False)

    def refuse_others(self) -> None:
        """Ask the workers that were not there before.

        Raises
        ------
        ClusterError
            With the list of packages, versions and workers.
        Interrupted
            The cluster was lost, or a worker that is still there did not answer.
        """
        with cluster_failures():
            there = addresses_now(self.client)
            told = self._answers(sorted(there - self._asked))
        ours = _asking(COMPARED_PACKAGES)()
        differences = [
            f"{package} is {theirs.get(package) or 'missing'} on {address} and {version} here"
            for address, theirs in told.items()
            for package, version in ours.items()
            if theirs.get(package) != version
        ]
        if differences:
            raise ClusterError(
                f"The workers run other versions than this process: {'; '.join(differences[:8])}.",
                "Install the same versions on every worker, or set cluster.allow_version_skew: true.",
            )
        self._asked = (self._asked & there) | set(told)  # one that comes again may be another

    def _answers(self, workers: Sequence[str]) -> dict[str, Told]:
        """What workers say; of those that died meanwhile nothing."""
        if not workers:
            return {}

        async def ask() -> dict[str, Told | Exception]:
            asked = self.client.run(_asking(COMPARED_PACKAGES), workers=list(workers), on_error="return")
            answers: dict[str, Told | Exception] = await asyncio.wait_for(asked, PATIENCE)
            return answers

        found: dict[str, Told | Exception] = self.client.sync(ask)
        failed = {address: said for address, said in found.items() if isinstance(said, Exception)}
        if failed:
            there = addresses_now(self.client)
            for address, error in failed.items():
                if address in there:
                    raise error
        return {address: said for address, said in found.items() if not isinstance(said, Exception)}


def _asking(packages: Sequence[str]) -> Callable[[], dict[str, str | None]]:
    """A function that tells the versions of what is imported where it runs.

    Dask's own reads the metadata of what is installed, which another copy of a package on the path
    does not change. Local, so that it travels whole: a worker may not have this module.
    """

    def versions() -> dict[str, str | None]:
        import importlib
        import sys

        found: dict[str, str | None] = {"python": ".".join(map(str, sys.version_info[:2]))}
        for package in packages:
            try:
                found[package] = str(importlib.import_module(package).__version__)
            except ImportError:
                found[package] = None
        return found

    return versions
