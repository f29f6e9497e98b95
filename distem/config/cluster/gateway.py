"""A cluster that a Dask Gateway starts."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field, model_validator

from distem.config.cluster.base import AdaptConfig, ClusterConfig
from distem.config.env import ENV, expand
from distem.config.fields import Count, JsonObject, Location, Memory, memory_bytes, wrong

if TYPE_CHECKING:
    from distem.execution.base import Capacity, Executor


class GatewayConfig(ClusterConfig):
    """A cluster that a Dask Gateway starts, and stops when the run ends."""

    kind: Literal["gateway"] = Field(description="A cluster that a Dask Gateway starts; extra gateway.")
    address: Location = Field(
        description="The gateway's address, https://host or http://host:port. May hold ${env:NAME}."
    )
    proxy_address: Location | None = Field(
        default=None, description="Where its schedulers are reached, host:port; null: as the gateway."
    )
    auth: Literal["basic", "kerberos", "jupyterhub"] = Field(
        default="basic", description="How the gateway is told who asks."
    )
    username: Location | None = Field(
        default=None, description="For basic; null: the name of this process's user."
    )
    password: Location | None = Field(
        default=None, description="For basic, or jupyterhub's token; write ${env:NAME}."
    )
    adapt: AdaptConfig = Field(description="How many workers are kept.")
    options: JsonObject = Field(default={}, description="The gateway's own options, such as its image.")
    threads: Count = Field(
        default=1, description="Threads that a worker has, by the gateway's options; for the plan alone."
    )
    memory: Memory = Field(
        default="auto",
        description="Memory that a worker has, by the gateway's options; for the plan. auto: not known.",
    )
    timeout: Annotated[float, Field(gt=0)] = Field(
        default=600.0, description="Seconds to wait for the smallest number of workers."
    )
    allow_version_skew: bool = Field(
        default=False, description="Go on although workers run other versions; the bits may differ."
    )

    @model_validator(mode="after")
    def _kept_secret(self) -> GatewayConfig:
        if self.password is not None and not ENV.search(self.password):
            raise wrong("would be written to the results as it stands; write ${env:NAME}", "password")
        if not (self.address.startswith(("https://", "http://")) or ENV.search(self.address)):
            raise wrong("needs the gateway's address, https://host or http://host:port", "address")
        return self

    def build(self, locate: Callable[[str], str]) -> Executor:  # noqa: ARG002
        """Ask the gateway for a cluster and wait for its first workers."""
        from distem.execution.dask.gateway import gateway

        return gateway(
            expand(self.address),
            proxy_address=self.proxy_address and expand(self.proxy_address),
            auth=self.auth,
            username=self.username and expand(self.username),
            password=self.password and expand(self.password),
            options=self.options,
            minimum=self.adapt.minimum,
            maximum=self.adapt.maximum,
            timeout=self.timeout,
            allow_version_skew=self.allow_version_skew,
        )

    def capacity(self, locate: Callable[[str], str]) -> Capacity:  # noqa: ARG002
        """What a run counts on when it begins; asks for nothing."""
        from distem.execution.base import Capacity

        count = self.adapt.minimum
        return Capacity(count, count * self.threads, memory_bytes(self.memory) or None)
