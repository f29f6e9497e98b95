"""A cluster of the Dask operator of Kubernetes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from distributed import Client

from distem.execution.dask.executor import DaskExecutor
from distem.execution.dask.managed import first_workers, needed, refused


def kubernetes(
    resource: Mapping[str, Any],
    *,
    namespace: str | None,
    minimum: int,
    maximum: int,
    timeout: float,
    allow_version_skew: bool,
) -> DaskExecutor:
    """Have the operator start the pods of a DaskCluster; the executor waits for the first workers.

    Raises
    ------
    ConfigError
        The package dask-kubernetes is not there.
    ClusterError
        There is no API server to be reached, or no operator.
    """
    operator = needed("dask_kubernetes.operator", "kubernetes")
    kr8s = needed("kr8s", "kubernetes")
    httpx = needed("httpx", "kubernetes")
    failures = (
        OSError,
        ValueError,
        RuntimeError,
        TimeoutError,
        kr8s.APITimeoutError,
        kr8s.ConnectionClosedError,
        kr8s.ServerError,
        httpx.HTTPError,
    )
    cluster = None
    try:
        cluster = operator.KubeCluster(
            custom_cluster_spec=dict(resource),
            namespace=namespace,
            n_workers=minimum,
            resource_timeout=int(timeout),
            quiet=True,
        )
        cluster.adapt(minimum=minimum, maximum=maximum)
        client = Client(cluster, set_as_default=False)
    except failures as error:
        if cluster is not None:
            cluster.close()
        raise refused(
            "Kubernetes",
            error,
            "Check that kubectl reaches the API server, and that the Dask operator is installed.",
        ) from error
    return first_workers(
        client,
        [client, cluster],
        minimum,
        timeout,
        allow_version_skew=allow_version_skew,
        where="The Kubernetes cluster",
    )
