"""Plans: promises in numbers, before any work starts."""

import json
from dataclasses import replace

import pytest
from click.testing import CliRunner
from runs import blobs, config, config_file, manifest, store

from distem.cli import main
from distem.errors import ConfigError
from distem.execution.base import Capacity
from distem.plan import STARTUP_BYTES, USABLE_SHARE, Plan, Work, make_plan
from distem.run import plan, run

MIB = 2**20
WORK = Work(components=(3,), sums=(219,), variables=("label",), sample_rows=1000, drops=False, weighted=False)


class Block:
    def __init__(self, index, n, d=8):
        self.index, self.n, self.nbytes = index, n, n * d * 8


class Source:
    d = 8
    raw_bytes = stored_bytes = 64
    reading_nbytes = 0

    def __init__(self, blocks):
        self.n = sum(b.n for b in blocks)
        self.chunk_nbytes = max(b.nbytes for b in blocks)


def made(blocks=64, rows=32_768, workers=2, threads=2, limit=1024 * MIB, work=WORK, **more):
    parts = [Block(i, rows) for i in range(blocks)]
    options = {"partitions": None, "resident": None, "machine_bytes": 8192 * MIB} | more
    return make_plan(Source(parts), parts, Capacity(workers, threads, limit), work, **options)


def test_rows_that_fit_stay():
    few, many = made(blocks=8), made(blocks=4000)
    assert few.resident
    assert not many.resident
    assert few.bytes_read_per_pass == 0
    assert many.bytes_read_per_pass == many.rows * 64


def test_streamed_memory_does_not_grow_with_the_rows():
    assert made(blocks=4000).memory_per_worker_bytes == made(blocks=40_000).memory_per_worker_bytes


def test_resident_memory_does():
    small, large = (made(blocks=b, resident=True, partitions=32, limit=None) for b in (64, 128))
    grown = large.memory_per_worker_bytes - small.memory_per_worker_bytes
    assert 64 * 2 * MIB / 2 <= grown <= 64 * 2 * MIB  # a worker's half of them, and one partition more


@pytest.mark.parametrize(
    "more",
    [
        {"rows": 65_536},
        {"threads": 4},
        {"work": Work((3,), (219,), ("label", "probability"), 1000, False, False)},
        {"work": Work((3,), (219,), ("label",), 100_000, False, True)},
        {"work": Work((200,) * 9, (14_600,) * 9, ("label",), 1000, False, False)},
        {"work": Work((3,), (219,), ("label",), 1000, True, False)},
    ],
    ids=["larger blocks", "threads", "probabilities", "a sample", "candidates", "rows left out"],
)
def test_what_takes_memory_is_promised(more):
    assert made(blocks=4000, **more).memory_per_worker_bytes > made(blocks=4000).memory_per_worker_bytes


def test_each_heap_holds_free_memory_back_unless_its_blocks_are_the_system_s():
    def need(mib, heaps):
        parts = [Block(i, mib * MIB // 64) for i in range(400)]
        capacity = Capacity(1, 2, None, heaps=heaps)
        options = {"partitions": None, "resident": False, "machine_bytes": 2**40}
        return make_plan(Source(parts), parts, capacity, WORK, **options).memory_per_worker_bytes

    assert [need(mib, 5) - need(mib, 1) for mib in (8, 24, 32, 33)] == [0, 4 * 32 * MIB, 4 * 48 * MIB, 0]


def test_each_fold_has_its_part_of_the_sample_in_memory():
    """Where the sample is what takes most, two folds more are two more copies of it."""

    def promised(folds, sample_rows=200_000):
        work = replace(WORK, sample_rows=sample_rows, folds=folds)
        return made(
            blocks=4000, rows=8192, threads=1, workers=1, work=work, limit=None
        ).memory_per_worker_bytes

    copy = 8 * 200_000 * (Source.d + 2)
    assert promised(5) - promised(3) == 2 * copy
    assert promised(2) - promised(0) >= 2 * copy
    assert promised(5, 1000) - promised(3, 1000) < copy  # where it is not, they cost next to nothing


def test_what_cannot_fit_is_refused_with_numbers():
    with pytest.raises(ConfigError, match=r"400\.0 MiB") as refused:
        made(blocks=4000, rows=10**6, limit=400 * MIB)
    assert "80%" in refused.value.fact
    assert "or more" in refused.value.remedy
    with pytest.raises(ConfigError, match=r"cluster\.resident: false"):
        made(blocks=4000, resident=True)


def test_what_is_promised_is_below_where_dask_pauses():
    for limit in range(400, 2000, 100):
        assert made(blocks=100, limit=limit * MIB).memory_per_worker_bytes <= USABLE_SHARE * limit * MIB


def test_the_words_tell_the_numbers():
    shown = "\n".join(made(blocks=4000).lines())
    for part in ("131,072,000", "4,000 in 8 partitions", "2 workers", "streamed", "1.0 GiB"):
        assert part in shown


def test_the_start_is_part_of_it():
    assert made(blocks=4000).memory_per_worker_bytes > STARTUP_BYTES


@pytest.mark.parametrize(
    "cluster",
    [
        {"kind": "serial"},
        {"kind": "threads", "workers": 2},
        {"kind": "threads", "workers": 3, "partitions": 2, "resident": False},
    ],
    ids=str,
)
def test_the_promise_is_what_the_run_records(tmp_path, cluster):
    store(tmp_path / "data.zarr", blobs(200))
    cfg = config(tmp_path, cluster=cluster, model__components=[2, 3], fit__restarts=2, fit__max_passes=2)
    promise = plan(cfg)
    assert isinstance(promise, Plan)
    assert promise.candidates == 4
    assert promise.rows == 200
    assert not (tmp_path / "run").exists()
    run(cfg)
    assert manifest(tmp_path / "run")["plan"] == promise.as_dict()


def test_a_plan_starts_nothing(tmp_path, monkeypatch):
    import distem.execution.dask

    def started(*_, **__):
        raise AssertionError("a cluster was started")

    monkeypatch.setattr(distem.execution.dask, "local", started)
    store(tmp_path / "data.zarr", blobs(200))
    path = config_file(tmp_path, cluster={"kind": "local", "workers": 3, "memory": "1GiB"})
    result = CliRunner().invoke(main, ["plan", str(path), "--json"])
    assert result.exit_code == 0, result.stderr
    promise = json.loads(result.stdout)
    assert promise["workers"] == 3
    assert promise["memory_limit_bytes"] == 2**30
    assert {p.name for p in tmp_path.iterdir()} == {"data.zarr", "small.yaml"}
