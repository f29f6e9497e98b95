"""Dask workers, many or few, come or gone, give the bits of a single thread."""

import contextlib
import os
import signal
import subprocess
import sys
import textwrap
import time
from threading import Timer
from types import SimpleNamespace

import dask
import numpy as np
import psutil
import pytest
import zarr
from click.testing import CliRunner
from distributed import Client, LocalCluster
from runs import assert_same_bits, blobs, config, config_file, dataset, small_blocks, snapshot, store

from distem.cli import main
from distem.events import PassDone
from distem.execution.dask import MERGE_FAN_IN, DaskBlocks, DaskExecutor
from distem.run import run
from distem.types import Rows

pytestmark = pytest.mark.cluster

OPTIONS = {
    "model__components": [2, 3],
    "fit__init": "kmeans||",
    "fit__max_passes": 6,
    "fit__acceleration": "anderson",
    "data__missing": "drop",
    "data__weights": "w",
    "data__features": ["a", "b", "c"],
}


def no_dashboard():
    return {
        "host": "127.0.0.1",
        "dashboard_address": "127.0.0.1:0",
        "scheduler_kwargs": {"dashboard": False},
        "worker_dashboard_address": None,
    }


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cluster")
    values = blobs(4001)
    values[5::701, 2] = np.nan
    store(folder / "data.zarr", dataset(values, w=np.random.default_rng(2).random(len(values))), chunks=50)
    with small_blocks(100):
        run(config(folder, **OPTIONS, output__path="serial"))
    return folder


@pytest.fixture
def small():
    """Around each test, not the module: workers that are processes cut the data as it is."""
    with small_blocks(100):
        yield


@pytest.fixture(scope="module")
def cluster():
    """Workers that are threads of this process: real scheduling, real messages, no start-up."""
    with LocalCluster(
        n_workers=1,
        threads_per_worker=1,
        processes=False,
        protocol="tcp://",
        silence_logs=50,
        **no_dashboard(),
    ) as cluster:
        yield cluster


def scaled(cluster, workers):
    cluster.scale(workers)
    with Client(cluster, set_as_default=False) as client:
        deadline = time.monotonic() + 30
        while len(client.scheduler_info(n_workers=-1)["workers"]) != workers:
            assert time.monotonic() < deadline
            time.sleep(0.05)
    return cluster.scheduler_address


@pytest.mark.parametrize(
    ("workers", "partitions", "resident"),
    [(1, 1, True), (4, 37, True), (1, 37, False), (2, 3, False), (4, 3, False)],
)
def test_any_workers_and_partitions(folder, small, cluster, tmp_path, workers, partitions, resident):
    address = scaled(cluster, workers)
    wanted = {"kind": "address", "address": address, "partitions": partitions, "resident": resident}
    run(config(folder, **OPTIONS, cluster=wanted, output__path=str(tmp_path / "run")))
    assert_same_bits(tmp_path / "run", folder / "serial")


def test_many_sums_are_merged_on_the_workers(folder, small, cluster, tmp_path, monkeypatch):
    address = scaled(cluster, 2)
    levels = []
    real = DaskBlocks._merge_level

    def counted(self, whole, futures, key):
        merged = real(self, whole, futures, key)
        levels.append((len(futures), len(merged)))
        return merged

    monkeypatch.setattr(DaskBlocks, "_merge_level", counted)
    wanted = {"kind": "address", "address": address, "partitions": 40}
    run(config(folder, **OPTIONS, cluster=wanted, output__path=str(tmp_path / "run")))
    assert levels
    assert all(before > MERGE_FAN_IN >= after for before, after in levels)
    assert_same_bits(tmp_path / "run", folder / "serial")


def wide(folder):
    """Blocks of real size, for workers that are processes: 10 of them."""
    rng = np.random.default_rng(0)
    values = rng.normal(size=(10 * 16384, 16)) + 0.7 * rng.integers(3, size=(10 * 16384, 1))
    array = zarr.open_group(folder / "data.zarr", mode="w").create_array(
        "x", shape=values.shape, chunks=(16384, 16), dtype="float64", dimension_names=("row", "feature")
    )
    array[:] = values


@pytest.mark.slow
@pytest.mark.parametrize(
    "resident",
    [pytest.param(True, marks=pytest.mark.slow_cluster), False],
    ids=["resident", "streamed"],
)
def test_a_worker_that_is_killed_changes_nothing(tmp_path, resident):
    wide(tmp_path)
    options = {"fit__max_passes": 8, "model__components": 3}
    run(config(tmp_path, **options, output__path="serial"))
    killed = []

    def kill(event):
        if isinstance(event, PassDone) and event.pass_ in (2, 4):
            mine = [
                p for p in psutil.Process().children(recursive=True) if "spawn_main" in " ".join(p.cmdline())
            ]
            victim = min(mine, key=lambda p: p.pid)
            victim.send_signal(signal.SIGKILL)
            killed.append(victim.pid)

    cluster = {"kind": "local", "workers": 2, "resident": resident, "dashboard_address": None}
    run(config(tmp_path, **options, cluster=cluster, output__path="run"), observers=(kill,))
    assert len(set(killed)) == 2
    assert_same_bits(tmp_path / "run", tmp_path / "serial")


def test_a_pipeline_of_ones_own_travels_to_the_workers(tmp_path):
    """Its functions and passes go by value: a worker could not import the file."""
    (tmp_path / "own.py").write_text(
        textwrap.dedent(
            """
            from __future__ import annotations

            from dataclasses import dataclass

            import distem.pipelines.cluster as built_in
            from distem.events import Note
            from distem.stages import scan


            @dataclass(frozen=True)
            class Count:
                rows: int

                def __add__(self, other: Count) -> Count:
                    return Count(self.rows + other.rows)


            @dataclass(frozen=True)
            class CountRows:
                name: str = "count"

                def __call__(self, rows, block) -> Count:
                    return Count(rows.n)


            def run(session):
                counted = scan(session).blocks.map_reduce(CountRows())
                session.observe(Note(f"counted {counted.rows}"))
                return built_in.run(session)
            """
        ),
        encoding="utf-8",
    )
    store(tmp_path / "data.zarr", blobs(300))
    run(config(tmp_path, output__path="serial"))
    said = []
    cluster = {"kind": "local", "workers": 1, "dashboard_address": None}
    own = config(tmp_path, pipeline="./own.py", cluster=cluster)
    run(own, observers=(said.append,))
    assert "counted 300" in [getattr(event, "message", "") for event in said]
    assert_same_bits(tmp_path / "run", tmp_path / "serial")


def test_all_workers_are_seen_while_the_client_asks_for_none(cluster):
    """Its own thread asks for the state without workers, here all the time."""
    address = scaled(cluster, 2)
    with (
        dask.config.set({"distributed.client.scheduler-info-interval": "1ms"}),
        Client(address, set_as_default=False) as client,
    ):
        place = DaskExecutor(client)
        assert {place.capacity.workers for _ in range(100)} == {2}


def test_rows_are_loaded_by_whoever_comes(cluster):
    """When they are to be loaded all workers have gone."""
    address = scaled(cluster, 0)
    blocks = [SimpleNamespace(n=2, nbytes=32, load=lambda: Rows(np.ones((2, 2)))) for _ in range(3)]
    another = Timer(0.3, cluster.scale, [1])
    with Client(address, set_as_default=False) as client:
        another.start()
        with DaskExecutor(client).open(blocks, resident=True, partitions=3) as opened:
            assert len(opened.resident) == 3
    another.join()


@contextlib.contextmanager
def worker(address, path):
    """A `dask worker` of another environment, as far as `path` makes it one."""
    with subprocess.Popen(
        [
            *(sys.executable, "-m", "distributed.cli.dask_worker", address),
            *("--no-nanny", "--nthreads", "1", "--no-dashboard", "--host", "127.0.0.1"),
            *("--local-directory", str(path)),
        ],
        env=os.environ | {"PYTHONPATH": str(path)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as process:
        try:
            yield
        finally:
            process.terminate()


@pytest.mark.parametrize(
    ("package", "says"),
    [("distem", "distem is 0.0.7 on tcp://127.0.0.1:"), ("numpy", "numpy is 0.0.7 on tcp://")],
)
def test_a_worker_with_another_version_is_refused(tmp_path, package, says):
    environment = tmp_path / "environment"
    environment.mkdir()
    (environment / "sitecustomize.py").write_text(
        f"import {package}\n{package}.__version__ = '0.0.7'\n", encoding="utf-8"
    )
    folder = tmp_path / "folder"
    folder.mkdir()
    store(folder / "data.zarr", blobs(100))
    with LocalCluster(n_workers=0, processes=False, protocol="tcp://", **no_dashboard()) as cluster:
        address = cluster.scheduler_address
        with worker(address, environment):
            wanted = {"kind": "address", "address": address, "timeout": 60}
            path = config_file(folder, cluster=wanted)
            before = snapshot(folder)
            for command in ("plan", "run"):
                result = CliRunner().invoke(main, [command, str(path)])
                assert result.exit_code == 2, result.output
                assert says in result.stderr
                assert "Install the same versions" in result.stderr
                assert "Traceback" not in result.stderr
            assert snapshot(folder) == before


def test_a_scheduler_without_workers_is_refused(tmp_path):
    store(tmp_path / "data.zarr", blobs(100))
    with LocalCluster(n_workers=0, processes=False, protocol="tcp://", **no_dashboard()) as cluster:
        wanted = {"kind": "address", "address": cluster.scheduler_address, "timeout": 0.5}
        path = config_file(tmp_path, cluster=wanted)
        before = snapshot(tmp_path)
        result = CliRunner().invoke(main, ["run", str(path)])
    assert result.exit_code == 2
    assert "has no workers after 0.5 s" in result.stderr
    assert snapshot(tmp_path) == before
