"""What a finished run leaves: manifest, log, config, result; and what legal but ugly data comes to."""

import json
import re
from datetime import datetime

import numpy as np
import pytest
import xarray as xr
from click.testing import CliRunner
from numpy.testing import assert_allclose, assert_array_equal
from runs import (
    arrays,
    blobs,
    command,
    config,
    config_file,
    dataset,
    events,
    manifest,
    small_blocks,
    snapshot,
    store,
)

from distem import __version__
from distem.cli import main
from distem.fitted import FittedModel
from distem.run import plan, run


def invoke(*arguments):
    return CliRunner().invoke(main, [str(a) for a in arguments])


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    folder = tmp_path_factory.mktemp("contents")
    values = blobs(300)
    values[[4, 200]] = np.nan
    store(folder / "data.zarr", values)
    cfg = config(folder, data__missing="drop", model__components=[2, 3], fit__restarts=2)
    run(cfg)
    return cfg


def test_manifest(done):
    found = manifest(done.folder / "run")
    assert found["status"] == "complete"
    assert found["exit"] == 0
    assert found["seed"] == 0
    assert found["config"] == done.resolved()
    assert found["config_hash"] == done.hash()
    assert found["versions"]["distem"] == __version__
    assert found["versions"]["numpy"] == np.__version__
    assert re.fullmatch("[0-9a-f]{64}", found["data"]["fingerprint"])
    assert found["data"]["usable_rows"] == 298
    assert found["plan"] == plan(done).as_dict()
    assert found["partitions"] == found["plan"]["partitions"]
    assert any("2 of 300 rows" in warning for warning in found["warnings"])
    assert found["fit"]["passes"] == len(arrays(done.folder / "run")["/trace/log_likelihood"])


def test_nothing_hashed_knows_the_clock_or_the_place(done, tmp_path):
    store(tmp_path / "data.zarr", xr.open_zarr(done.folder / "data.zarr", consolidated=False).load())
    again = config(tmp_path, data__missing="drop", model__components=[2, 3], fit__restarts=2)
    run(again)
    one, other = manifest(done.folder / "run"), manifest(tmp_path / "run")
    assert one["data"]["fingerprint"] == other["data"]["fingerprint"]
    assert one["fit"] == other["fit"]
    text = json.dumps({k: v for k, v in one.items() if k != "seconds"})
    assert not re.search(r"20\d\d-\d\d-\d\d", text)


def test_log(done):
    lines = events(done.folder / "run")
    for line in lines:
        assert {"time", "event", "phase", "run"} <= set(line)
        assert line["run"] == "small"
        assert datetime.fromisoformat(line["time"]).tzinfo is not None
    phases = [line["phase"] for line in lines if line["event"] == "phase"]
    assert phases == ["scan", "seed", "fit", "assign", "finalise"]
    passes = [line for line in lines if line["event"] == "pass"]
    assert {line["phase"] for line in passes} == {"fit"}
    for line in passes:
        wanted = {"pass", "candidate", "log_likelihood", "gain_left", "seconds", "rows_per_s"}
        assert wanted <= set(line)
    by_candidate = {line["candidate"] for line in passes}
    assert len(by_candidate) == 4
    for name in by_candidate:
        numbers = [line["pass"] for line in passes if line["candidate"] == name]
        assert numbers == list(range(1, len(numbers) + 1))
    chosen = manifest(done.folder / "run")["fit"]["chosen"]
    logged = [line["log_likelihood"] for line in passes if line["candidate"] == chosen]
    assert_array_equal(logged, arrays(done.folder / "run")["/trace/log_likelihood"])


def test_result(done):
    with xr.open_datatree(done.folder / "run" / "result.zarr", engine="zarr") as tree:
        assert set(tree.children) >= {"model", "assignment", "trace", "selection"}
        assert tree.attrs["status"] == "complete"
        rows, model = tree["assignment"], tree["model"]
        assert rows["label"].dims == ("row",)
        assert rows["probability"].dims == ("row", "component")
        assert_array_equal(np.flatnonzero(rows["label"] == -1), [4, 200])
        for name in ("probability", "log_density", "uncertainty"):
            missing = np.isnan(rows[name].values).reshape(300, -1).any(axis=1)
            assert_array_equal(np.flatnonzero(missing), [4, 200])
        kept = rows["label"].values >= 0
        assert_allclose(rows["probability"].values[kept].sum(axis=1), 1.0, rtol=1e-12)
        assert_array_equal(rows["probability"].values[kept].argmax(axis=1), rows["label"].values[kept])
        assert model["means"].dims == ("component", "feature")
        assert list(model["feature"].values) == ["a", "b", "c"]
        assert tree["trace"]["log_likelihood"].dims == tree["trace"]["seconds"].dims == ("pass",)
        assert int(tree["selection"]["chosen"].sum()) == 1
        assert rows["label"].attrs["flag_values"][0] == -1


def test_files(done):
    names = {p.name for p in (done.folder / "run").iterdir()}
    assert {"result.zarr", "manifest.json", "config.yaml", "log.jsonl"} <= names
    assert not {"checkpoint.zarr", ".writer"} & names
    for path in (done.folder / "run").rglob("*"):
        assert "pickle" not in path.name


# the command line


def test_standard_output_ends_with_the_folder(tmp_path):
    store(tmp_path / "data.zarr", blobs(100))
    path = config_file(tmp_path)
    for _ in range(2):
        result = command("run", path)
        assert result.returncode == 0, result.stderr
        assert result.stdout.splitlines()[-1] == str(tmp_path / "run")
    assert "is already complete" in result.stderr


RUN_KEYS = {
    *("run", "status", "components", "log_likelihood", "bic", "passes", "converged", "reason", "seconds")
}
PLAN_KEYS = {
    *("rows", "blocks", "partitions", "candidates", "resident", "memory_per_worker_bytes"),
    *("bytes_read_per_pass", "output_bytes"),
}


def test_json(tmp_path):
    store(tmp_path / "data.zarr", blobs(100))
    path = config_file(tmp_path)
    planned = invoke("plan", path, "--json")
    promise = json.loads(planned.stdout)
    assert set(promise) >= PLAN_KEYS
    assert not (tmp_path / "run").exists()
    for _ in range(2):
        result = invoke("run", path, "--json")
        assert result.exit_code == 0
        summary = json.loads(result.stdout)
        assert set(summary) == RUN_KEYS
        assert summary["run"] == str(tmp_path / "run")
        assert summary["status"] == "complete"
        assert result.stderr == ""
    assert manifest(tmp_path / "run")["plan"] == promise


def test_not_converged(tmp_path):
    store(tmp_path / "data.zarr", blobs(100))
    path = config_file(tmp_path, fit__max_passes=2)
    assert invoke("run", path).exit_code == 0
    strict = config_file(tmp_path, fit__max_passes=2, fit__require_convergence=True, output__path="strict")
    for _ in range(2):
        result = invoke("run", strict)
        assert result.exit_code == 4
        assert "is complete, but: Not converged: stopped after 2 passes" in result.stderr
        assert "fit.max_passes" in result.stderr
    assert manifest(tmp_path / "strict")["status"] == "complete"
    assert manifest(tmp_path / "strict")["exit"] == 4


def test_predict_gives_what_the_run_gave(done, tmp_path):
    folder, out = done.folder, tmp_path / "out.zarr"
    for model in (folder / "run", folder / "run" / "result.zarr"):
        result = invoke("predict", model, folder / "data.zarr", "-o", out, "--workers", 2)
        assert result.exit_code == 0, result.stderr
        assert result.stdout.splitlines()[-1] == str(out)
        with (
            xr.open_datatree(out, engine="zarr") as tree,
            xr.open_datatree(folder / "run" / "result.zarr", engine="zarr") as run_tree,
        ):
            for name in ("label", "probability", "log_density", "uncertainty"):
                assert_array_equal(tree["assignment"][name].values, run_tree["assignment"][name].values)
        out = tmp_path / "second.zarr"


def test_a_model_survives_storage_bit_for_bit(done):
    one = FittedModel.load(done.folder / "run")
    other = FittedModel.from_dataset(one.dataset())
    for name, value in one.model.arrays(one.params).items():
        assert_array_equal(value, other.model.arrays(other.params)[name])
    assert other.transform.describe() == one.transform.describe()


def test_a_warm_start_goes_on_where_the_other_run_ended(done, tmp_path):
    run(
        config(tmp_path, data__path=str(done.folder / "data.zarr"), data__missing="drop", fit__max_passes=400)
    )
    warm = config(
        tmp_path,
        data__path=str(done.folder / "data.zarr"),
        data__missing="drop",
        fit__init="./run",
        output__path="warm",
        fit__max_passes=1,
    )
    run(warm)
    before, after = manifest(tmp_path / "run")["fit"], manifest(tmp_path / "warm")["fit"]
    assert after["log_likelihood"] == pytest.approx(before["log_likelihood"], rel=1e-12)


def test_help_and_schema():
    for name in ("run", "plan", "predict", "report", "schema"):
        assert invoke(name, "--help").exit_code == 0
        assert name in invoke("--help").stdout
    assert json.loads(invoke("schema").stdout)["properties"]["data"]


def test_a_report_that_fails_takes_nothing_from_the_result(tmp_path, monkeypatch):
    from distem.report import draw

    def broken(path):
        raise RuntimeError("no ink")

    monkeypatch.setattr(draw, "draw_in", broken)
    store(tmp_path / "data.zarr", blobs(100))
    result = invoke("run", config_file(tmp_path, output__report=True))
    assert result.exit_code == 0
    assert "no ink" in result.stderr
    assert any("no ink" in warning for warning in manifest(tmp_path / "run")["warnings"])
    assert manifest(tmp_path / "run")["status"] == "complete"


# secrets


def test_values_from_the_environment_are_nowhere(tmp_path, monkeypatch):
    hidden = tmp_path / "s3cr3t-place"
    hidden.mkdir()
    store(hidden / "data.zarr", blobs(100))
    monkeypatch.setenv("PLACE_OF_DATA", str(hidden))
    path = config_file(tmp_path, data__path="${env:PLACE_OF_DATA}/data.zarr", output__report=True)
    said = [invoke("plan", path), invoke("run", path)]
    gone = config_file(
        tmp_path, "gone.yaml", data__path="${env:PLACE_OF_DATA}/none.zarr", output__path="gone"
    )
    said += [invoke("run", gone), invoke("run", gone, "--debug")]
    assert [result.exit_code for result in said] == [0, 0, 3, 3]
    for result in said:
        assert "s3cr3t" not in result.output
    for name, content in snapshot(tmp_path / "run").items():
        assert "s3cr3t" not in name
        assert b"s3cr3t" not in content
    assert "${env:PLACE_OF_DATA}/none.zarr" in said[2].stderr


# ugly but legal


def finite(run_folder):
    for name, value in arrays(run_folder).items():
        if value.dtype.kind == "f" and "/model/" in name:
            assert np.isfinite(value).all(), name


@pytest.mark.parametrize("chunk", [1, 7, 50, 1000])
def test_ragged_empty_and_missing_chunks(tmp_path, chunk):
    values = blobs(53)
    values[14:29, 1] = np.nan  # whole chunks of 7 are missing
    store(tmp_path / "data.zarr", values, chunks=chunk)
    with small_blocks(7):
        run(config(tmp_path, data__missing="drop", fit__max_passes=4))
    found = arrays(tmp_path / "run")
    assert_array_equal(found["/assignment/label"] == -1, np.isnan(values[:, 1]))
    finite(tmp_path / "run")


@pytest.mark.parametrize(
    ("values", "components"),
    [
        (blobs(1), 1),
        (np.repeat(blobs(2), 5, axis=0), 3),
        (np.zeros((20, 3)), 2),
        (np.where(np.arange(60)[:, None] == 31, 1e12, blobs(60)), 2),
        (np.concatenate([blobs(40)[:, :1]] * 3, axis=1), 2),
        (blobs(40).astype(">f4"), 2),
        (blobs(40).astype("f2"), 2),
        (blobs(40).astype(int), 2),
        (blobs(40) > 0, 2),
    ],
    ids=["one row", "few points", "constant", "outlier", "copies", "big-endian", "float16", "int", "bool"],
)
def test_ugly_but_legal(tmp_path, values, components):
    store(tmp_path / "data.zarr", values)
    done = run(config(tmp_path, model__components=components))
    assert np.isfinite(done.log_likelihood)
    finite(tmp_path / "run")
    assert (arrays(tmp_path / "run")["/assignment/label"] >= 0).all()


def test_zero_weights(tmp_path):
    values, weights = blobs(120), np.ones(120)
    values[60:] += 1000.0
    weights[60:] = 0.0
    store(tmp_path / "data.zarr", dataset(values, w=weights))
    options = {"data__features": ["a", "b", "c"], "model__components": 1}
    run(config(tmp_path, data__weights="w", **options))
    assert_allclose(arrays(tmp_path / "run")["/model/means"][0], values[:60].mean(axis=0), rtol=1e-10)
    assert (arrays(tmp_path / "run")["/assignment/label"] >= 0).all()


def test_a_collapse_is_told(tmp_path):
    store(tmp_path / "data.zarr", blobs(150))
    init = {
        "weights": [0.4, 0.3, 0.3],
        "means": [[0.0, 0.0, 0.0], [4.0, 1.0, -3.0], [500.0, 500.0, 500.0]],
        "covariances": [[1.0, 1.0, 1.0], [1.0, 1.0, 1.0], [1e-3, 1e-3, 1e-3]],
    }
    result = invoke("run", config_file(tmp_path, model__covariance="diag", fit__init=init))
    assert result.exit_code == 0, result.stderr
    assert "warning: Component 2 of candidate 3-diag-1 collapsed in pass 1 and was reseeded." in result.stderr
    (line,) = [e for e in events(tmp_path / "run") if e["event"] == "collapsed"]
    assert (line["pass"], line["component"], line["action"], line["phase"]) == (1, 2, "reseeded", "fit")
    assert any("Component 2" in warning for warning in manifest(tmp_path / "run")["warnings"])
    finite(tmp_path / "run")


def test_space_and_time(tmp_path):
    values = blobs(4 * 5 * 6).reshape(4, 5, 6, 3)
    values[1, 2, 3, 0] = np.nan
    data = dataset(values, ("time", "y", "x"))
    data = data.assign_coords(
        time=("time", np.arange(4.0), {"units": "days since 2020-01-01"}),
        y=("y", np.linspace(50, 51, 5), {"standard_name": "latitude"}),
        x=np.linspace(1, 2, 6),
    ).assign_attrs(title="A cube")
    store(tmp_path / "data.zarr", data, chunks=(2, 3, 4))
    run(config(tmp_path, data__missing="drop"))
    with xr.open_datatree(tmp_path / "run" / "result.zarr", engine="zarr") as tree:
        rows = tree["assignment"]
        label = rows["label"]
        assert label.dims == ("time", "y", "x")
        assert label.encoding["chunks"] == (2, 3, 4)
        assert rows["probability"].dims == ("time", "y", "x", "component")
        assert int(label[1, 2, 3]) == -1
        assert int((label == -1).sum()) == 1
        assert_array_equal(rows["y"].values, data["y"].values)
        assert rows["y"].attrs["standard_name"] == "latitude"
        assert rows["time"].values[1] == np.datetime64("2020-01-02")
        assert rows.attrs["title"] == "A cube"


@pytest.mark.parametrize("variables", [["label"], ["log_density", "probability"], []], ids=str)
def test_what_is_written_is_what_was_asked_for(tmp_path, variables):
    store(tmp_path / "data.zarr", blobs(100))
    cfg = config(tmp_path, output__variables=variables)
    run(cfg)
    with xr.open_datatree(tmp_path / "run" / "result.zarr", engine="zarr") as tree:
        written = set(tree["assignment"].data_vars) if "assignment" in tree.children else set()
        assert written == set(variables)
        assert tree.attrs["status"] == "complete"
    if not variables:
        assert plan(cfg).output_bytes == 0
