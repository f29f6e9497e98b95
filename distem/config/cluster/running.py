"""A Dask cluster that is already running."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field, model_validator

from distem.config.cluster.base import ClusterConfig
from distem.config.env import expand
from distem.config.fields import Location, SchedulerAddress, wrong
from distem.config.section import Section

if TYPE_CHECKING:
    from distem.execution.base import Executor


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
