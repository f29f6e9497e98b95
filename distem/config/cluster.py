"""The section `cluster`: where the passes run."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import BeforeValidator, Discriminator, Field, model_validator

from distem.config.env import expand
from distem.config.fields import Count, HostPort, Location, Memory, SchedulerAddress, memory_bytes, wrong
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
            return executor.capacity


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


class SecurityConfig(Section):
    """TLS files that a cluster is reached with."""

    ca_file: Location = Field(description="The certificate authority's certificate. May hold ${env:NAME}.")
    cert: Location = Field(description="The client's certificate. May hold ${env:NAME}.")
    key: Location = Field(description="The client's key. May hold ${env:NAME}.")


class AddressConfig(ClusterConfig):
    """A Dask cluster that is already running."""

    kind: Literal["address"] = Field(description="A Dask cluster that is already running.")
    address: SchedulerAddress = Field(
        description="The scheduler's address, tcp://host:port or tls://host:port. May hold ${env:NAME}."
    )
    security: SecurityConfig | None = Field(
        default=None, description="TLS files; needed for tls:// addresses."
    )
    timeout: Annotated[float, Field(gt=0)] = Field(
        default=10.0, description="Seconds to wait for the scheduler to answer."
    )
    allow_version_skew: bool = Field(
        default=False,
        description="Go on although workers run another version of distem, NumPy, Numba or Python; "
        "the bits may then depend on who did what.",
    )

    @model_validator(mode="after")
    def _tls_has_files(self) -> AddressConfig:
        if self.address.startswith("tls://") and self.security is None:
            raise wrong("is missing; a tls:// address needs ca_file, cert and key", "security")
        return self

    def build(self, locate: Callable[[str], str]) -> Executor:
        """Connect to the scheduler."""
        from distem.execution.dask import connect

        files = None if self.security is None else self.security.model_dump()
        located = files and {name: locate(path) for name, path in files.items()}
        return connect(
            expand(self.address),
            security=located,
            timeout=self.timeout,
            allow_version_skew=self.allow_version_skew,
        )


def _default_kind(value: Any) -> Any:
    # `--set cluster.workers=4` alone should do
    return {"kind": "local", **value} if isinstance(value, dict) else value


AnyCluster = Annotated[
    Annotated[SerialConfig | ThreadsConfig | LocalConfig | AddressConfig, Discriminator("kind")],
    BeforeValidator(_default_kind),
]
