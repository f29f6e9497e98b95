"""Kernels are compiled once, before any worker asks for them, and the log says so."""

import os
from datetime import datetime

import pytest
from distributed import LocalCluster
from runs import blobs, command, config, config_file, dataset, events, store

from distem.run import run


@pytest.mark.slow_cluster
def test_a_cold_cache_is_filled_before_the_first_task_and_logged(tmp_path):
    store(tmp_path / "data.zarr", dataset(blobs()))
    cache = tmp_path / "cache"
    cold = {**os.environ, "NUMBA_CACHE_DIR": str(cache)}
    file = config_file(tmp_path, model__covariance="diag", cluster={"kind": "local", "workers": 2})
    done = command("run", file, env=cold, timeout=300)
    assert done.returncode == 0, done.stderr
    told = events(tmp_path / "run")
    compiled = [n for n, event in enumerate(told) if "compiled the kernels" in event.get("message", "")]
    first_task = next(n for n, event in enumerate(told) if event["event"] == "phase")
    assert len(compiled) == 1
    assert compiled[0] < first_task
    begun = datetime.fromisoformat(told[first_task]["time"]).timestamp()
    for kernel in ("e_step_diag", "answers_diag"):
        (code,) = cache.rglob(f"*{kernel}*.nbc")  # no worker compiled it again
        assert code.stat().st_mtime <= begun


def test_workers_that_run_elsewhere_compile_for_themselves_and_the_log_says_so(tmp_path, monkeypatch):
    store(tmp_path / "data.zarr", dataset(blobs()))
    asked = []

    def warmed(kinds, precision):
        asked.append((tuple(kinds), precision))
        return 3.0 * (len(asked) > 1)  # this machine's cache is warm, a worker's is not

    monkeypatch.setattr("distem.kernels.compiled.warm_all", warmed)
    with LocalCluster(
        n_workers=2,
        threads_per_worker=1,
        processes=False,
        protocol="tcp://",
        silence_logs=50,
        dashboard_address="127.0.0.1:0",
        worker_dashboard_address=None,
        scheduler_kwargs={"dashboard": False},
    ) as cluster:
        wanted = {"kind": "address", "address": cluster.scheduler_address}
        run(config(tmp_path, cluster=wanted, output__path=str(tmp_path / "run")))
    told = [event["message"] for event in events(tmp_path / "run") if "compiled" in event.get("message", "")]
    assert told == ["compiled the kernels on the cluster's workers in 3 s; they are cached for the next run"]
