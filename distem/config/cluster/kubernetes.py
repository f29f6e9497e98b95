"""A cluster of the Dask operator of Kubernetes."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field, model_validator

from distem.config.cluster.base import AdaptConfig, ClusterConfig
from distem.config.fields import Count, Memory, memory_bytes, wrong

if TYPE_CHECKING:
    from distem.execution.base import Capacity, Executor

_Label = Annotated[str, Field(pattern=r"^[a-z]([a-z0-9-]*[a-z0-9])?$", max_length=50)]
_Subdomain = Annotated[str, Field(pattern=r"^[a-z0-9]([a-z0-9.-]*[a-z0-9])?$", max_length=253)]


class KubernetesConfig(ClusterConfig):
    """Pods of the Dask operator: a scheduler and workers, gone when the run ends."""

    kind: Literal["kubernetes"] = Field(
        description="Pods of the Dask operator; extra kubernetes. `distem manifests` writes them as YAML."
    )
    adapt: AdaptConfig = Field(description="How many workers are kept.")
    name: _Label = Field(default="distem", description="Of the DaskCluster, the driver's job and its config.")
    namespace: _Label | None = Field(default=None, description="Null: that of the current context.")
    image: Annotated[str, Field(pattern=r"^\S+$")] = Field(
        description="Image of scheduler, workers and driver: distem and its packages at one version."
    )
    threads: Count = Field(default=1, description="Threads of a worker, and the cores it asks for.")
    memory: Memory = Field(description="Memory of a worker, asked for and at most, such as 4GiB.")
    secret: _Subdomain | None = Field(
        default=None, description="A Secret whose entries all pods get as variables: for ${env:NAME}."
    )
    volume_claim: _Subdomain | None = Field(
        default=None, description="A PersistentVolumeClaim that all pods see at /data."
    )
    schedule: Annotated[str, Field(pattern=r"^\S+( \S+){4}$")] | None = Field(
        default=None, description="When the CronJob of `distem manifests` runs, as cron has it: 15 2 * * *."
    )
    timeout: Annotated[float, Field(gt=0)] = Field(
        default=600.0, description="Seconds to wait for the smallest number of workers."
    )
    allow_version_skew: bool = Field(
        default=False, description="Go on although workers run other versions; the bits may differ."
    )

    @model_validator(mode="after")
    def _all_said(self) -> KubernetesConfig:
        if self.memory == "auto":
            raise wrong("needs a size, such as 4GiB: a pod without one is the first to be evicted", "memory")
        return self

    def custom_resource(self) -> dict[str, Any]:
        """The DaskCluster, as the operator's version v1 has it."""
        pod: dict[str, Any] = {"image": self.image, "env": [{"name": "MALLOC_ARENA_MAX", "value": "1"}]}
        if self.secret:
            pod["envFrom"] = [{"secretRef": {"name": self.secret}}]
        around: dict[str, Any] = {}
        if self.volume_claim:
            pod["volumeMounts"] = [{"name": "data", "mountPath": "/data"}]
            around["volumes"] = [{"name": "data", "persistentVolumeClaim": {"claimName": self.volume_claim}}]
        own = {"cpu": str(self.threads), "memory": str(memory_bytes(self.memory))}
        worker = pod | {
            "name": "worker",
            "args": [
                *("python", "-m", "distributed.cli.dask_worker", "--name", "$(DASK_WORKER_NAME)"),
                *("--nthreads", str(self.threads), "--memory-limit", str(memory_bytes(self.memory))),
            ],
            "resources": {"requests": own, "limits": {"memory": own["memory"]}},
        }
        ports = {"tcp-comm": 8786, "http-dashboard": 8787}
        scheduler = pod | {
            "name": "scheduler",
            "args": ["python", "-m", "distributed.cli.dask_scheduler"],
            "ports": [
                {"name": name, "containerPort": port, "protocol": "TCP"} for name, port in ports.items()
            ],
            "readinessProbe": {"httpGet": {"port": "http-dashboard", "path": "/health"}, "periodSeconds": 5},
        }
        selector = {"dask.org/cluster-name": self.name, "dask.org/component": "scheduler"}
        service = {
            "type": "ClusterIP",
            "selector": selector,
            "ports": [
                {"name": name, "protocol": "TCP", "port": port, "targetPort": name}
                for name, port in ports.items()
            ],
        }
        return {
            "apiVersion": "kubernetes.dask.org/v1",
            "kind": "DaskCluster",
            "metadata": {"name": self.name} | ({"namespace": self.namespace} if self.namespace else {}),
            "spec": {
                "worker": {"replicas": self.adapt.minimum, "spec": {"containers": [worker], **around}},
                "scheduler": {"spec": {"containers": [scheduler], **around}, "service": service},
            },
        }

    def build(self, locate: Callable[[str], str]) -> Executor:  # noqa: ARG002
        """Have the operator start the pods, and wait for the first workers."""
        from distem.execution.dask.kubernetes import kubernetes

        return kubernetes(
            self.custom_resource(),
            namespace=self.namespace,
            minimum=self.adapt.minimum,
            maximum=self.adapt.maximum,
            timeout=self.timeout,
            allow_version_skew=self.allow_version_skew,
        )

    def capacity(self, locate: Callable[[str], str]) -> Capacity:  # noqa: ARG002
        """What a run counts on when it begins; starts nothing."""
        from distem.execution.base import Capacity

        count = self.adapt.minimum
        return Capacity(count, count * self.threads, memory_bytes(self.memory))
