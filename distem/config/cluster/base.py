"""What all kinds of cluster have in common."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated

from pydantic import Field, model_validator

from distem.config.fields import Count, wrong
from distem.config.section import Section

if TYPE_CHECKING:
    from distem.execution.base import Capacity, Executor


LOOPBACK = ("127.0.0.1", "localhost", "::1")


class ClusterConfig(Section):
    """Where the passes run, whatever kind of cluster that is."""

    kind: str = Field(description="Where the passes run.")
    partitions: Count | None = Field(
        default=None,
        description="Tasks a pass is cut into; null: follows the cluster. Any number gives the same bits.",
    )
    resident: bool | None = Field(
        default=None,
        description="Keep the rows in memory between passes; null: if the plan says that they fit.",
    )
    insecure: bool = Field(
        default=False,
        description="Let what distem starts listen beyond this machine without TLS, to whoever can reach "
        "it; --insecure.",
    )
    grace: Annotated[float, Field(ge=0, le=3600)] = Field(
        default=20.0,
        description="Seconds from SIGTERM or SIGINT in which the run ends in order; then it ends as it is, "
        "the last checkpoint standing.",
    )
    performance_report: bool = Field(
        default=False,
        description="Save Dask's own performance report of the run as dask-report.html in the run folder.",
    )

    def build(self, locate: Callable[[str], str]) -> Executor:
        """Start or join the cluster; `locate` is that of the whole config."""
        raise NotImplementedError

    def capacity(self, locate: Callable[[str], str]) -> Capacity:
        """What the cluster will have, where possible without starting it."""
        with self.build(locate) as executor:
            executor.begin()
            return executor.capacity


class AdaptConfig(Section):
    """How many workers a cluster keeps: what dies is replaced, up to these numbers."""

    minimum: Count = Field(
        default=1, description="Workers that are there before a run begins, and that are always replaced."
    )
    maximum: Count = Field(description="Workers at most.")

    @model_validator(mode="after")
    def _ordered(self) -> AdaptConfig:
        if self.minimum > self.maximum:
            raise wrong(f"is {self.minimum}, more than the maximum of {self.maximum}", "minimum")
        return self
