"""Out of core: five times a worker's limit is fitted and assigned within what the plan promised."""

import json
import shutil

import numpy as np
import pytest
import zarr
from runs import arrays, command, config_file, large_store, manifest, peak_per_worker, start

pytestmark = [pytest.mark.cluster, pytest.mark.slow]

LIMIT = 430 * 2**20
GIB = 2**30


def measured(folder, gibibytes, *, resident, limit, codecs=None, **changes):
    """Plan and run; what was promised, what it took, and the run folder."""
    folder.mkdir()
    rows = large_store(folder / "data.zarr", gibibytes, **codecs or {})
    path = config_file(
        folder,
        cluster={
            "kind": "local",
            "workers": 2,
            "memory": f"{limit // 2**20}MiB",
            "dashboard_address": None,
            "resident": resident,
        },
        **{"model__components": 2, "model__covariance": "diag", "fit__max_passes": 2} | changes,
    )
    planned = command("plan", path, "--json")
    assert planned.returncode == 0, planned.stderr
    process = start("run", path, "--quiet")
    peaks = peak_per_worker(process)
    out, err = process.communicate(timeout=30)
    assert process.returncode == 0, err
    assert out.splitlines()[-1] == str(folder / "run")
    promise = json.loads(planned.stdout)
    assert manifest(folder / "run")["plan"] == promise
    assert len(peaks) == 2, "a worker was killed on the way"
    return rows, promise, peaks, folder / "run"


@pytest.mark.timeout(600)
def test_five_times_the_limit_takes_what_was_promised_and_no_more_than_a_quarter_of_the_data(tmp_path):
    """One test of both: each takes its time, and workers of pytest would share no fixture.

    Uncompressed, to be read in less time; the other promises are of compressed chunks.
    """
    how = {"output__variables": ["label"], "fit__max_passes": 1, "codecs": {"compressors": ()}}
    few, first, before, _ = measured(tmp_path / "less", 1.25 * LIMIT / GIB, resident=None, limit=LIMIT, **how)
    shutil.rmtree(tmp_path / "less")
    rows, promise, peaks, run = measured(
        tmp_path / "whole", 5 * LIMIT / GIB, resident=None, limit=LIMIT, **how
    )
    try:
        assert rows * 8 * 8 >= 0.99 * 5 * LIMIT
        assert promise["memory_limit_bytes"] == LIMIT
        assert not promise["resident"]
        assert promise["bytes_read_per_pass"] == rows * 64
        assert max(peaks) <= promise["memory_per_worker_bytes"]
        assert promise["memory_per_worker_bytes"] <= 0.8 * LIMIT  # where Dask pauses a worker
        assert max(peaks) >= 0.7 * promise["memory_per_worker_bytes"]  # a promise that says something
        labels = zarr.open_group(run / "result.zarr", mode="r")["assignment/label"]
        assert labels.nchunks_initialized == labels.nchunks
        assert set(np.unique(labels[-131_072:])) == {0, 1}
        # four times the rows
        assert rows == pytest.approx(4 * few, rel=0.01)
        assert first["memory_per_worker_bytes"] == promise["memory_per_worker_bytes"]
        assert max(before) <= first["memory_per_worker_bytes"]
        assert max(peaks) == pytest.approx(max(before), rel=0.1)
    finally:
        shutil.rmtree(tmp_path / "whole")


@pytest.mark.slow_cluster
@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    ("resident", "gibibytes", "changes"),
    [
        (True, 0.3, {"output__variables": ["label"]}),
        (False, 0.3, {"model__components": 8, "data__missing": "drop"}),
    ],
    ids=["resident", "every variable"],
)
def test_other_promises_are_kept(tmp_path, resident, gibibytes, changes):
    folder = tmp_path / "other"
    _, promise, peaks, run = measured(folder, gibibytes, resident=resident, limit=GIB, **changes)
    assert promise["resident"] is resident
    assert 0.65 * promise["memory_per_worker_bytes"] <= max(peaks) <= promise["memory_per_worker_bytes"]
    assert (arrays(run)["/assignment/label"] >= 0).all()


def test_what_cannot_fit_is_refused_with_numbers(tmp_path):
    large_store(tmp_path / "data.zarr", 0.2, rows_per_chunk=1_048_576)
    path = config_file(tmp_path, cluster={"kind": "local", "workers": 2, "memory": "500MiB"})
    for verb in ("plan", "run"):
        refused = command(verb, path)
        assert refused.returncode == 2
        assert "500.0 MiB" in refused.stderr
        assert "80%" in refused.stderr
        assert "64.0 MiB" in refused.stderr  # of a chunk
        assert "or more" in refused.stderr
    assert not (tmp_path / "run").exists()
