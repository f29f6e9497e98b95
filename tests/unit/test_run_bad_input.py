"""Bad input: the exit code of its kind, one paragraph, and nothing written or lost. A test each."""

import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import textwrap
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
import zarr
from click.testing import CliRunner
from runs import (
    arrays,
    assert_same_bits,
    blobs,
    checked_store,
    config_file,
    dataset,
    manifest,
    snapshot,
    store,
)

from distem.cli import main
from distem.data.folder import RunFolder


@pytest.fixture
def folder(tmp_path):
    store(tmp_path / "data.zarr", blobs(120))
    return tmp_path


def invoke(*arguments):
    return CliRunner().invoke(main, [str(a) for a in arguments])


def refused(folder, code, *words, arguments=(), text=None, **changes):
    """Run what is wrong; the exit code and the words must be there, and nothing may be written or lost."""
    path = config_file(folder, **changes)
    if text is not None:
        path.write_text(text(path.read_text(encoding="utf-8")), encoding="utf-8")
    before = snapshot(folder)
    result = CliRunner().invoke(main, ["run", str(path), "--quiet", *arguments])
    assert result.exit_code == code, result.output + repr(result.exception)
    assert result.stdout == ""
    warnings, begun, error = f"\n{result.stderr.strip()}".partition("\nerror: ")
    assert begun
    assert all(line.startswith("warning: ") for line in warnings.splitlines() if line)
    assert "Traceback" not in error
    for word in words:
        assert word in error, error
    assert snapshot(folder) == before
    assert not (folder / "run").exists() or any(name.startswith("run/") for name in before)
    return error


# the config


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("fit:\n", ["small.yaml:", "'fit'", "a second time"]),
        ("unheard: 1\n", ["small.yaml:", "unheard"]),
        ("clster: {kind: serial}\n", ["small.yaml:", "clster", 'did you mean "cluster"?']),
        ("seed: many\n", ["small.yaml:", "seed", "many"]),
    ],
    ids=["duplicate key", "unknown key", "near miss", "wrong type"],
)
def test_a_wrong_line(folder, line, words):
    refused(folder, 2, *words, text=lambda text: text + line)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"model__covariance": "ful"}, ["model.covariance", 'did you mean "full"?', "tied"]),
        ({"model__components": "three"}, ["model.components", "three"]),
        ({"fit__tolerance": 0}, ["fit.tolerance", "0"]),
        ({"cluster__kind": "locl"}, ["cluster", "locl", "local"]),
        ({"pipeline": "clutser"}, ["clutser", "cluster"]),
        ({"pipeline": "gone.py"}, ["gone.py"]),
        ({"output__path": "gs://bucket/run"}, ["gs://", "local path", "s3://"]),
        ({"output__variables": ["labels"]}, ["output.variables", "label"]),
    ],
    ids=str,
)
def test_a_wrong_value(folder, changes, words):
    refused(folder, 2, *words, **changes)


def test_no_config(tmp_path):
    result = CliRunner().invoke(main, ["run", str(tmp_path / "none.yaml")])
    assert result.exit_code == 2
    assert "none.yaml" in result.stderr


def test_a_wrong_override(folder):
    refused(folder, 2, "model.component", arguments=["--set", "model.component=4"])


# the data


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"data__path": "none.zarr"}, ["none.zarr", "data.path"]),
        ({"data__features": ["a", "bb"]}, ["'bb'", "b"]),
        ({"data__sample_dims": ["rows"]}, ["'rows'", "row"]),
        ({"data__weights": "w"}, ["'w'"]),
        ({"model__components": 121}, ["120 usable rows", "121 components"]),
        ({"model__components": [2, 500]}, ["120 usable rows", "500 components"]),
    ],
    ids=str,
)
def test_what_is_not_there(folder, changes, words):
    refused(folder, 3, *words, **changes)


def test_features_of_different_shapes(folder):
    data = xr.Dataset({"a": ("row", np.zeros(120)), "b": ("other", np.zeros(60))})
    store(folder / "data.zarr", data)
    refused(folder, 3, "'a' is (row: 120)", "'b' is (other: 60)", data__features=["a", "b"])


@pytest.mark.parametrize(
    "column",
    [
        np.array(["x", "y"] * 60, dtype=object),
        np.arange(120).astype("datetime64[s]").astype("datetime64[ns]"),
        np.ones(120, dtype=complex),
    ],
    ids=["text", "time", "complex"],
)
@pytest.mark.filterwarnings("ignore::zarr.errors.ZarrUserWarning", "ignore::FutureWarning")
def test_what_is_no_number(folder, column):
    store(folder / "data.zarr", dataset(blobs(120), d=column))
    refused(folder, 3, "'d'", "number", data__features=["a", "d"])


@pytest.mark.parametrize(
    ("value", "says"), [(np.nan, "3 NaN"), (np.inf, "3 infinite"), (-np.inf, "3 infinite")], ids=str
)
def test_missing_values_are_counted_and_placed(folder, value, says):
    values = blobs(120)
    values[[70, 71, 110], 1] = value
    store(folder / "data.zarr", values)
    refused(folder, 3, f"'b' has {says}", "first at row 70", "of 120", "data.missing to drop")


def test_a_missing_value_in_space_and_time_has_its_place(folder):
    values = blobs(120).reshape(4, 5, 6, 3)
    values[2, 3, 1, 0] = np.nan
    store(folder / "data.zarr", dataset(values, ("time", "y", "x")), chunks=(2, 2, 4))
    refused(folder, 3, "'a' has 1 NaN", "time=2", "y=3", "x=1")


@pytest.mark.parametrize("missing", ["error", "drop"])
def test_all_rows_missing(folder, missing):
    """Zarr leaves out chunks of nothing but NaN, and a warning says so."""
    values = blobs(120)
    values[:, 2] = np.nan
    store(folder / "data.zarr", values)
    refused(folder, 3, "None of the 120 rows is usable", "'c' has 120 NaN", data__missing=missing)


@pytest.mark.parametrize("weight", [-1.0, np.nan, np.inf], ids=str)
def test_bad_weights(folder, weight):
    weights = np.ones(120)
    weights[40] = weight
    store(folder / "data.zarr", dataset(blobs(120), w=weights))
    refused(folder, 3, "weight", "row 40", data__weights="w", data__features=["a", "b", "c"])


@pytest.mark.parametrize("cluster", [{"kind": "serial"}, {"kind": "threads", "workers": 2}], ids=str)
def test_a_damaged_chunk_is_named(folder, cluster):
    path = checked_store(folder / "data.zarr", blobs(120), 30)
    chunk = path / "b" / "c" / "2"
    held = bytearray(chunk.read_bytes())
    held[len(held) // 2] ^= 1
    chunk.write_bytes(held)
    refused(folder, 3, "'b'", "2", str(folder / "data.zarr"), cluster=cluster)


def test_a_truncated_chunk_is_named(folder):
    chunk = folder / "data.zarr" / "c" / "c" / "1"
    chunk.write_bytes(chunk.read_bytes()[:20])
    refused(folder, 3, "'c'", "1", str(folder / "data.zarr"))


def test_refused_on_fresh_loses_nothing(folder):
    assert invoke("run", config_file(folder)).exit_code == 0
    refused(folder, 3, "none.zarr", arguments=["--fresh"], data__path="none.zarr")
    address = f"tcp://127.0.0.1:{free_port()}"
    refused(
        folder,
        2,
        address,
        arguments=["--fresh"],
        cluster={"kind": "address", "address": address, "timeout": 0.3},
    )
    assert manifest(folder / "run")["status"] == "complete"


# the folder


def test_a_folder_of_another_run(folder):
    assert invoke("run", config_file(folder)).exit_code == 0
    error = refused(folder, 2, "belongs to another run", "small", "--fresh", model__components=2)
    assert str(folder / "run") in error


def test_an_unfinished_run_of_another_config(folder):
    run = folder / "run"
    run.mkdir()
    (run / "manifest.json").write_text(
        json.dumps({"status": "interrupted", "config_hash": "0", "name": "theirs"}), encoding="utf-8"
    )
    refused(folder, 2, "belongs to another run", "theirs")


@pytest.mark.parametrize("text", ["[1]", "{", ""], ids=str)
def test_a_manifest_that_is_none(folder, text):
    (folder / "run").mkdir()
    (folder / "run" / "manifest.json").write_text(text, encoding="utf-8")
    refused(folder, 2, "manifest.json is not a manifest", "output.path")


@pytest.mark.parametrize("arguments", [[], ["--fresh"]], ids=str)
def test_a_folder_of_something_else(folder, arguments):
    (folder / "run").mkdir()
    (folder / "run" / "thesis.tex").write_text("years", encoding="utf-8")
    refused(folder, 2, "not a run folder", "thesis.tex", arguments=arguments)


def test_a_file_where_the_folder_should_be(folder):
    (folder / "run").write_text("mine", encoding="utf-8")
    before = (folder / "run").read_text(encoding="utf-8")
    result = CliRunner().invoke(main, ["run", str(config_file(folder))])
    assert result.exit_code == 2
    assert "is not a folder" in result.stderr
    assert (folder / "run").read_text(encoding="utf-8") == before


def test_a_folder_that_cannot_be_made(folder):
    (folder / "file").write_text("mine", encoding="utf-8")
    refused(folder, 2, "cannot be made", "output.path", output__path="file/run")


def test_parents_that_were_made_go_again(folder):
    refused(folder, 3, "121 components", model__components=121, output__path="deep/down/run")
    assert not (folder / "deep").exists()


def test_a_folder_that_another_process_writes_to(folder):
    held = RunFolder(folder / "run")
    held.claim()
    script = (
        "import sys, pathlib; from distem.data.folder import RunFolder\n"
        "with RunFolder(pathlib.Path(sys.argv[1])).lock(): print('held', flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script, str(held.path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as other:
        assert other.stdout.readline() == "held\n"
        error = refused(folder, 75, "is already running, by", f"process {other.pid} on")
        assert "since" in error
        other.stdin.close()
    assert invoke("run", config_file(folder)).exit_code == 0  # it let go when it ended


# the cluster


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def test_an_unreachable_scheduler(folder):
    address = f"tcp://127.0.0.1:{free_port()}"
    cluster = {"kind": "address", "address": address, "timeout": 0.5}
    refused(folder, 2, address, "did not answer within 0.5 s", "cluster.address", cluster=cluster)


def test_what_cannot_fit(folder):
    cluster = {"kind": "local", "workers": 1, "memory": "100MiB"}
    refused(folder, 2, "100.0 MiB", "MiB or more", cluster=cluster)


# the disk


@pytest.fixture
def small_disk():
    """A file system of 3 MiB; needs root."""
    place = Path(tempfile.mkdtemp())
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", str(place)],
        capture_output=True,
        text=True,
        check=False,
    )
    if mounted.returncode:
        place.rmdir()
        pytest.skip(f"no small file system can be mounted: {mounted.stderr.strip()}")
    yield place
    subprocess.run(["umount", str(place)], check=True)
    place.rmdir()


def fill(disk, leave):
    """Fill a disk, but for some bytes."""
    with (disk / "ballast").open("wb") as ballast:
        free = os.statvfs(disk)
        ballast.write(b"x" * max(0, free.f_bavail * free.f_frsize - leave))
    return disk / "ballast"


@pytest.mark.parametrize("leave", [0, 16384, 65536, 98304, 196608])
def test_a_full_disk_is_an_interruption(folder, small_disk, leave):
    rng = np.random.default_rng(0)
    store(folder / "data.zarr", rng.normal(size=(4000, 3)), chunks=500)
    path = config_file(folder, output__path=str(small_disk / "run"), fit__max_passes=3)
    ballast = fill(small_disk, leave)
    result = CliRunner().invoke(main, ["run", str(path), "--quiet"])
    assert result.exit_code == 75, result.output + repr(result.exception)
    assert result.stderr.startswith("error: The disk is full")
    assert str(small_disk) in result.stderr
    assert "run the same command" in result.stderr
    ballast.unlink()
    assert CliRunner().invoke(main, ["run", str(path)]).exit_code == 0
    whole = config_file(folder, output__path="whole", fit__max_passes=3)
    assert CliRunner().invoke(main, ["run", str(whole)]).exit_code == 0
    assert_same_bits(small_disk / "run", folder / "whole")


def test_a_full_disk_leaves_the_checkpoint(folder, small_disk):
    store(folder / "data.zarr", np.random.default_rng(0).normal(size=(120_000, 3)), chunks=10_000)
    path = config_file(folder, output__path=str(small_disk / "run"), fit__max_passes=3, fit__sample_rows=100)
    # fitted, but the assignment of 120,000 rows is more than the disk holds
    result = CliRunner().invoke(main, ["run", str(path), "--quiet"])
    assert result.exit_code == 75, result.output
    assert "The disk is full" in result.stderr
    run = small_disk / "run"
    assert manifest(run)["status"] == "interrupted"
    assert any(p.name.startswith("pass-") for p in (run / "checkpoint.zarr").iterdir())
    subprocess.run(["mount", "-o", "remount,size=30m", str(small_disk)], check=True)
    said = CliRunner().invoke(main, ["run", str(path)])
    assert said.exit_code == 0
    assert "going on from the checkpoint after pass 3" in said.stderr
    assert (arrays(run)["/assignment/label"] >= 0).all()


# pipelines


def pipeline_file(folder, text):
    (folder / "own.py").write_text(textwrap.dedent(text), encoding="utf-8")
    return {"pipeline": "own.py"}


def test_a_pipeline_that_cannot_be_read(folder):
    changes = pipeline_file(folder, "def run(session):\n    return [\n")
    refused(folder, 2, "own.py, line 2", "SyntaxError", **changes)


def test_a_pipeline_that_fails_as_it_is_loaded(folder):
    refused(folder, 2, "own.py", "no_such_thing", **pipeline_file(folder, "import no_such_thing\n"))


def test_a_pipeline_without_run(folder):
    refused(folder, 2, "own.py", "run(session)", **pipeline_file(folder, "x = 1\n"))


def test_a_pipeline_that_returns_nothing(folder):
    refused(folder, 2, "own.py", "NoneType", **pipeline_file(folder, "def run(session): pass\n"))


def test_a_pipeline_that_fails(folder):
    changes = pipeline_file(folder, "def run(session): raise KeyError('station')\n")
    path = config_file(folder, **changes)
    result = CliRunner().invoke(main, ["run", str(path)])
    assert result.exit_code == 1
    assert "an unexpected KeyError: 'station'" in result.stderr
    assert "--debug" in result.stderr
    assert "Traceback" not in result.stderr
    assert not (folder / "run").exists()
    shown = CliRunner().invoke(main, ["run", str(path), "--debug"])
    assert "Traceback" in shown.stderr
    assert "own.py" in shown.stderr


# predict


def test_predict_refuses(folder):
    assert invoke("run", config_file(folder)).exit_code == 0
    store(folder / "two.zarr", dataset(blobs(50)).drop_vars("c"))
    (folder / "there").mkdir()
    for arguments, code, words in [
        ([folder / "none", folder / "data.zarr", "-o", folder / "out"], 2, ["holds no fitted model"]),
        ([folder / "run", folder / "none.zarr", "-o", folder / "out"], 3, ["none.zarr"]),
        ([folder / "run", folder / "two.zarr", "-o", folder / "out"], 3, ["'c'"]),
        ([folder / "run", folder / "data.zarr", "-o", folder / "there"], 2, ["exists"]),
        ([folder / "run", folder / "data.what", "-o", folder / "out"], 2, ["data.what", "--kind"]),
    ]:
        before = snapshot(folder)
        result = invoke("predict", *arguments)
        assert result.exit_code == code, result.output
        for word in words:
            assert word in result.stderr
        assert snapshot(folder) == before
        assert not (folder / "out").exists()


def test_a_truncated_model(folder):
    assert invoke("run", config_file(folder)).exit_code == 0
    shutil.copytree(folder / "run" / "result.zarr" / "model", folder / "model")
    group = zarr.open_group(folder / "model", mode="r+")
    del group.attrs["kind"]
    result = CliRunner().invoke(
        main, ["predict", str(folder / "model"), str(folder / "data.zarr"), "-o", str(folder / "out")]
    )
    assert result.exit_code == 2
    assert "gaussian_mixture" in result.stderr


# what is not there any more, or not what it was


def zeros_for_fill(path, values, chunk):
    """A store whose missing chunks read as zeros, as those that Zarr writes by default do."""
    group = zarr.open_group(path, mode="w")
    for j, name in enumerate(("a", "b", "c")):
        array = group.create_array(
            name, shape=(len(values),), chunks=(chunk,), dtype="float64", dimension_names=("row",)
        )
        array[:] = values[:, j]
    return path


def test_a_chunk_that_is_not_there_is_named(folder):
    (zeros_for_fill(folder / "data.zarr", blobs(120), 30) / "b" / "c" / "2").unlink()
    refused(folder, 3, "1 of 4 chunks of 'b'", "the first c/2", "fill value 0.0", "data.absent_chunks: fill")
    path = config_file(folder, data__absent_chunks="fill")
    assert invoke("run", path).exit_code == 0
    assert any("1 of 4 chunks of 'b'" in warning for warning in manifest(folder / "run")["warnings"])


def test_a_chunk_that_reads_as_missing_is_named_in_a_warning(folder):
    (folder / "data.zarr" / "b" / "c" / "1").unlink()
    assert invoke("run", config_file(folder, data__missing="drop")).exit_code == 0
    assert any("1 of 2 chunks of 'b'" in warning for warning in manifest(folder / "run")["warnings"])


STREAMED = {"kind": "serial", "resident": False}
HELD = {"kind": "local", "workers": 1, "dashboard_address": None, "resident": True}
"""By workers: if one is lost, another loads its rows anew."""


@pytest.mark.parametrize(
    ("how", "cluster"),
    [
        ("gone", STREAMED),
        ("cut", STREAMED),
        ("rewritten", STREAMED),
        pytest.param("rewritten", HELD, marks=pytest.mark.cluster),
    ],
    ids=["gone", "cut", "rewritten", "held"],
)
def test_data_that_changes_between_passes_is_named_and_leaves_no_checkpoint_of_it(
    folder, monkeypatch, how, cluster
):
    from distem import stages
    from distem.events import PassDone
    from distem.run import run

    monkeypatch.setattr(stages, "CHECKPOINT_SECONDS", 0.0)
    zeros_for_fill(folder / "data.zarr", blobs(120), 30)
    path = config_file(folder, cluster=cluster, fit__max_passes=6)
    chunk = folder / "data.zarr" / "b" / "c" / "2"
    held, about = chunk.read_bytes(), chunk.stat()

    def harm(event):
        if isinstance(event, PassDone) and event.pass_ == 3:
            if how == "gone":
                chunk.unlink()
            else:
                other = folder / "data.zarr" / "a" / "c" / "2"
                chunk.write_bytes(held[:-9] if how == "cut" else other.read_bytes())

    from distem.config import load

    with pytest.raises(ValueError, match="'b'") as failed:
        run(load(path), observers=(harm,))
    assert failed.value.exit_code == 3
    assert "2" in str(failed.value)
    chunk.write_bytes(held)
    os.utime(chunk, ns=(about.st_atime_ns, about.st_mtime_ns))
    run(load(path))
    whole = config_file(folder, "whole.yaml", output__path="whole", fit__max_passes=6)
    run(load(whole))
    assert_same_bits(folder / "run", folder / "whole")


def test_rows_that_this_process_holds_cannot_change(folder):
    from distem.config import load
    from distem.events import PassDone
    from distem.run import run

    def harm(event):
        if isinstance(event, PassDone) and event.pass_ == 3:
            for chunk in (folder / "data.zarr" / "b" / "c").iterdir():
                chunk.unlink()

    path = config_file(
        folder, cluster={"kind": "threads", "workers": 2, "resident": True}, output__variables=[]
    )
    assert run(load(path), observers=(harm,)).status == "complete"


def test_many_files_are_not_looked_at_all_the_time():
    from distem.stages import apart

    assert apart(0.001) == 1.0
    assert apart(1.0) == 20.0
