"""The section `cluster`: where the passes run."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BeforeValidator, Discriminator

from distem.config.cluster.base import AdaptConfig as AdaptConfig
from distem.config.cluster.gateway import GatewayConfig as GatewayConfig
from distem.config.cluster.kubernetes import KubernetesConfig as KubernetesConfig
from distem.config.cluster.machine import LocalConfig as LocalConfig
from distem.config.cluster.machine import SerialConfig as SerialConfig
from distem.config.cluster.machine import ThreadsConfig as ThreadsConfig
from distem.config.cluster.running import AddressConfig as AddressConfig
from distem.config.cluster.running import SecurityConfig as SecurityConfig
from distem.config.cluster.slurm import SlurmConfig as SlurmConfig


def _default_kind(value: Any) -> Any:
    # `--set cluster.workers=4` alone should do
    return {"kind": "local", **value} if isinstance(value, dict) else value


AnyCluster = Annotated[
    Annotated[
        SerialConfig
        | ThreadsConfig
        | LocalConfig
        | AddressConfig
        | SlurmConfig
        | GatewayConfig
        | KubernetesConfig,
        Discriminator("kind"),
    ],
    BeforeValidator(_default_kind),
]
