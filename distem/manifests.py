"""What Kubernetes is given: a config as manifests, so that a job runs there without this machine.

The driver connects to the scheduler of the DaskCluster and so needs no right to start pods.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from distem.config import Config
from distem.config.cluster import AddressConfig, KubernetesConfig
from distem.config.env import URL
from distem.errors import ConfigError, DataError, FitError

MOUNT = "/etc/distem"
AGAIN = 50
"""How often a driver is started anew: every lost node and every exit with 75 counts."""

NO_USE_AGAIN = sorted({ConfigError.exit_code, DataError.exit_code, FitError.exit_code})


def manifests(config: Config) -> list[dict[str, Any]]:
    """Return the ConfigMap, DaskCluster, DaskAutoscaler, Job and CronJob of a config.

    Parameters
    ----------
    config : Config
        Its cluster is of kind kubernetes; a CronJob is made if it has a schedule, a Job otherwise.

    Raises
    ------
    ConfigError
        The cluster is of another kind, or a place is not seen by pods.
    """
    cluster = config.cluster
    if not isinstance(cluster, KubernetesConfig):
        raise ConfigError(
            f"cluster.kind is {cluster.kind}; manifests are made of kubernetes only.",
            "See configs/clusters/kubernetes.yaml.",
        )
    _check_places(config)
    where = {"namespace": cluster.namespace} if cluster.namespace else {}
    labels = {"app.kubernetes.io/name": "distem", "app.kubernetes.io/instance": cluster.name}

    def about(name: str) -> dict[str, Any]:
        return {"name": name, "labels": labels, **where}

    driver = f"{cluster.name}-driver"
    made = [
        {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": about(f"{cluster.name}-config"),
            "data": {"config.yaml": _inside(config, cluster)},
        },
        cluster.custom_resource(),
        {
            "apiVersion": "kubernetes.dask.org/v1",
            "kind": "DaskAutoscaler",
            "metadata": about(cluster.name),
            "spec": {"cluster": cluster.name, **cluster.adapt.model_dump()},
        },
    ]
    job = _job(cluster, config.cluster.grace)
    if cluster.schedule is None:
        made.append({"apiVersion": "batch/v1", "kind": "Job", "metadata": about(driver), "spec": job})
    else:
        spec = {
            "schedule": cluster.schedule,
            "concurrencyPolicy": "Forbid",
            "jobTemplate": {"metadata": {"labels": labels}, "spec": job},
        }
        made.append({"apiVersion": "batch/v1", "kind": "CronJob", "metadata": about(driver), "spec": spec})
    return made


def to_yaml(config: Config) -> str:
    """Return the manifests as one text for ``kubectl apply -f -``."""
    return yaml.safe_dump_all(manifests(config), sort_keys=False, width=110)


def _inside(config: Config, cluster: KubernetesConfig) -> str:
    """The config that the driver reads: the same, with the scheduler's address for a cluster."""
    space = f".{cluster.namespace}" if cluster.namespace else ""
    address = AddressConfig(
        kind="address",
        address=f"tcp://{cluster.name}-scheduler{space}:8786",
        timeout=cluster.timeout,
        grace=cluster.grace,
        partitions=cluster.partitions,
        resident=cluster.resident,
        allow_version_skew=cluster.allow_version_skew,
    )
    tree = config.resolved() | {"cluster": address.model_dump(mode="json")}
    return yaml.safe_dump(tree, sort_keys=False)


def _check_places(config: Config) -> None:
    places = {"data.path": config.data.path, "output.path": config.output.path or f"runs/{config.name}"}
    if isinstance(config.fit.init, str) and "/" in config.fit.init:
        places["fit.init"] = config.fit.init
    if config.output.match is not None:
        places["output.match"] = config.output.match
    for key, place in places.items():
        if not (URL.match(place) or Path(place).is_absolute() or "${env:" in place):
            raise ConfigError(
                f"{key} is {place}, a path relative to the config, which pods do not see.",
                "Write a URL, or a path below /data, where cluster.volume_claim is mounted.",
            )


def _job(cluster: KubernetesConfig, grace: float) -> dict[str, Any]:
    """The driver: started anew as long as that helps, never at once with a second one."""
    pods = cluster.custom_resource()["spec"]["scheduler"]["spec"]
    shared = {
        key: pods["containers"][0][key] for key in ("image", "env", "envFrom") if key in pods["containers"][0]
    }
    container = shared | {
        "name": "driver",
        "command": ["python", "-m", "distem", "run", f"{MOUNT}/config.yaml", "--quiet"],
        "volumeMounts": [
            {"name": "config", "mountPath": MOUNT, "readOnly": True},
            *pods["containers"][0].get("volumeMounts", []),
        ],
        "resources": {"requests": {"cpu": "1", "memory": "1Gi"}, "limits": {"memory": "4Gi"}},
    }
    config = {"name": "config", "configMap": {"name": f"{cluster.name}-config"}}
    fail = {"containerName": "driver", "operator": "In", "values": NO_USE_AGAIN}
    return {
        "backoffLimit": AGAIN,
        "podFailurePolicy": {"rules": [{"action": "FailJob", "onExitCodes": fail}]},
        "template": {
            "spec": {
                "restartPolicy": "Never",
                "terminationGracePeriodSeconds": int(grace) + 30,
                "containers": [container],
                "volumes": [config, *pods.get("volumes", [])],
            }
        },
    }
