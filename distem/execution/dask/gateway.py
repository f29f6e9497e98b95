"""A cluster that a Dask Gateway starts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from distem.execution.dask.executor import DaskExecutor
from distem.execution.dask.managed import first_workers, needed, refused


def gateway(
    address: str,
    *,
    proxy_address: str | None,
    auth: str,
    username: str | None,
    password: str | None,
    options: Mapping[str, Any],
    minimum: int,
    maximum: int,
    timeout: float,
    allow_version_skew: bool,
) -> DaskExecutor:
    """Ask a gateway for a cluster. The executor waits for the smallest number of workers.

    Raises
    ------
    ConfigError
        The package dask-gateway is not there.
    ClusterError
        The gateway does not answer, or refuses.
    """
    module = needed("dask_gateway", "gateway")
    aiohttp = needed("aiohttp", "gateway")
    failures = (
        OSError,
        ValueError,
        TimeoutError,
        aiohttp.ClientError,
        module.GatewayClusterError,
        module.GatewayServerError,
    )
    who: dict[str, tuple[str, dict[str, str | None]]] = {
        "basic": ("BasicAuth", {"username": username, "password": password}),
        "kerberos": ("KerberosAuth", {}),
        "jupyterhub": ("JupyterHubAuth", {"api_token": password}),
    }
    cluster = None
    try:
        name, told = who[auth]
        cluster = module.GatewayCluster(
            address=address,
            proxy_address=proxy_address,
            auth=getattr(module, name)(**told),
            cluster_options=None,
            shutdown_on_close=True,
            **options,
        )
        cluster.adapt(minimum=minimum, maximum=maximum)
        client = cluster.get_client(set_as_default=False)
    except failures as error:
        if cluster is not None:
            cluster.close()
        raise refused(
            "gateway's", error, "Check cluster.address, cluster.auth and cluster.options, and that it runs."
        ) from error
    return first_workers(
        client,
        [client, cluster],
        minimum,
        timeout,
        allow_version_skew=allow_version_skew,
        where="The gateway's cluster",
    )
