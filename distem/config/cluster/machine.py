"""On this machine: one thread, threads, or a Dask cluster of processes."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Literal

from pydantic import Field, model_validator

from distem.config.cluster.base import LOOPBACK, ClusterConfig
from distem.config.fields import Count, HostPort, Memory, memory_bytes, wrong

if TYPE_CHECKING:
    from distem.execution.base import Capacity, Executor


class SerialConfig(ClusterConfig):
    """One thread of this process."""

    kind: Literal["serial"] = Field(description="One thread of this process.")
    workers: Count | None = Field(default=None, description="Accepted, and ignored.")

    def build(self, locate: Callable[[str], str]) -> Executor:  # noqa: ARG002
        """Use the calling thread."""
        from distem.execution.serial import SerialExecutor

        return SerialExecutor()


class ThreadsConfig(ClusterConfig):
    """Threads of this process."""

    kind: Literal["threads"] = Field(description="Threads of this process.")
    workers: Count | None = Field(default=None, description="Threads; null: one for each core.")

    def build(self, locate: Callable[[str], str]) -> Executor:  # noqa: ARG002
        """Start the threads."""
        from distem.execution.threads import ThreadsExecutor

        return ThreadsExecutor(self.workers)


class LocalConfig(ClusterConfig):
    """A Dask cluster of processes on this machine."""

    kind: Literal["local"] = Field(
        default="local", description="A Dask cluster of processes on this machine."
    )
    workers: Count | None = Field(default=None, description="Worker processes; null: one for each core.")
    threads: Count = Field(default=1, description="Threads per worker.")
    memory: Memory = Field(
        default="auto", description="Memory per worker, such as 4GiB; auto: an equal share of the machine's."
    )
    dashboard_address: HostPort | None = Field(
        default="127.0.0.1:0",
        description="Where Dask's dashboard listens; port 0: any free one; null: no dashboard.",
    )

    @model_validator(mode="after")
    def _stays_here(self) -> LocalConfig:
        host = (self.dashboard_address or "").rpartition(":")[0].strip("[]")
        if self.dashboard_address and host not in LOOPBACK and not self.insecure:
            raise wrong(
                f"is {self.dashboard_address}, which others can reach without being asked who they are; "
                "use 127.0.0.1, or --insecure where the network is trusted",
                "dashboard_address",
            )
        return self

    @property
    def memory_bytes(self) -> int | None:
        """Bytes per worker; None means a share of the machine's."""
        return None if self.memory == "auto" else memory_bytes(self.memory)

    def build(self, locate: Callable[[str], str]) -> Executor:  # noqa: ARG002
        """Start the processes."""
        from distem.execution.dask import local

        return local(self.workers, self.threads, self.memory_bytes or "auto", self.dashboard_address)

    def capacity(self, locate: Callable[[str], str]) -> Capacity:  # noqa: ARG002
        """What the cluster will have; starts nothing."""
        from distem.execution.dask import local_capacity

        return local_capacity(self.workers, self.threads, self.memory_bytes or "auto")
