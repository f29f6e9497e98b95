"""A cluster of a Dask Gateway that runs on this machine."""

import os
import signal
import subprocess
import sys
from contextlib import suppress

import pytest
from following import block, configs, follow
from harness import free_port, listens, row, until
from runs import command, manifest

pytest.importorskip("dask_gateway_server", reason="needs dask-gateway-server[local]")
pytest.importorskip("dask_gateway", reason="needs the extra gateway")
pytestmark = [pytest.mark.cluster, pytest.mark.slow_cluster, pytest.mark.timeout(900)]
PASSWORD = "canary-7d1f"


@pytest.fixture(scope="module")
def gateway(tmp_path_factory):
    """A gateway that starts its clusters as processes; the address it is reached at."""
    folder, port = tmp_path_factory.mktemp("gateway"), free_port()
    config = folder / "config.py"
    config.write_text(
        f"""from dask_gateway_server.options import Integer, Options
c.DaskGateway.backend_class = "dask_gateway_server.backends.local.UnsafeLocalBackend"
c.DaskGateway.authenticator_class = "dask_gateway_server.auth.SimpleAuthenticator"
c.SimpleAuthenticator.password = {PASSWORD!r}
c.Proxy.address = "127.0.0.1:{port}"
c.UnsafeLocalBackend.clusters_directory = {str(folder)!r}
c.UnsafeLocalBackend.cluster_options = Options(Integer("worker_cores", 1, min=1, max=2))
c.ClusterConfig.scheduler_cmd = [{sys.executable!r}, "-m", "distributed.cli.dask_scheduler"]
c.ClusterConfig.worker_cmd = [{sys.executable!r}, "-m", "distributed.cli.dask_worker"]
c.ClusterConfig.worker_memory = "1 G"
c.ClusterConfig.scheduler_memory = "1 G"
""",
        encoding="utf-8",
    )
    words = [sys.executable, "-m", "dask_gateway_server", "-f", str(config)]
    with (
        open(folder / "log", "wb") as log,
        subprocess.Popen(
            words, cwd=folder, stdout=log, stderr=subprocess.STDOUT, start_new_session=True
        ) as process,
    ):
        try:
            until(lambda: process.poll() is not None or listens(port), "the gateway", every=0.1)
            assert process.poll() is None, (folder / "log").read_text()
            yield f"http://127.0.0.1:{port}"
        finally:
            process.send_signal(signal.SIGINT)
            with suppress(subprocess.TimeoutExpired):
                process.wait(20)
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)


def cluster(address, **changes):
    return {
        "kind": "gateway",
        "address": address,
        "password": "${env:GATEWAY_PASSWORD}",
        "adapt": {"minimum": 2, "maximum": 2},
        "timeout": 120,
    } | changes


def test_it_gives_the_bits_of_a_serial_run_and_tells_no_password(job, gateway):
    tally = row("gateway")
    tally.tried += 1
    path = job.config("gateway", cluster(gateway, options={"worker_cores": 1}))
    done = command("run", path, timeout=240, env=os.environ | {"GATEWAY_PASSWORD": PASSWORD})
    assert done.returncode == 0, done.stderr
    job.survived("gateway", tally)
    said = done.stdout + done.stderr
    files = [p.read_bytes() for p in (job.folder / "gateway").rglob("*") if p.is_file()]
    assert PASSWORD not in said
    assert not any(PASSWORD.encode() in text for text in files)


def test_a_wrong_password_is_said(job, gateway):
    path = job.config("gateway-refused", cluster(gateway))
    done = command("run", path, timeout=240, env=os.environ | {"GATEWAY_PASSWORD": "wrong-3c"})
    assert done.returncode == 2, done.stderr
    assert "cluster.auth" in done.stderr
    assert "wrong-3c" not in done.stderr


def test_the_docs_can_be_followed(gateway, tmp_path):
    tally = row("gateway: the docs' commands")
    tally.tried += 1
    path = configs(tmp_path) / "configs" / "clusters" / "gateway.yaml"
    path.write_text(
        path.read_text(encoding="utf-8").replace("http://127.0.0.1:8000", gateway), encoding="utf-8"
    )
    follow(block("clusters.md", "GATEWAY_PASSWORD").replace("…", PASSWORD), tmp_path)
    assert manifest(tmp_path / "configs" / "runs" / "flights-gateway")["status"] == "complete"
    tally.survived += 1
