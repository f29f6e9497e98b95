import errno
import functools
import operator
import os
import pickle
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
import zarr
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal

from distem.data import assignment, results
from distem.data.arrays import from_array
from distem.data.assignment import VARIABLES, create_assignment
from distem.data.encoding import Encoding
from distem.data.grid import Grid
from distem.data.open import open_source
from distem.data.results import create_result, finalise, status, write_group
from distem.errors import ConfigError, DataError, Interrupted

rng = np.random.default_rng(5)
K = 3


def answers(values):
    """Made-up results that tell rows apart."""
    p = np.stack([np.abs(values[:, 0]) + 1, np.full(len(values), 1.5), np.abs(values[:, -1]) + 1], -1)
    p /= p.sum(1, keepdims=True)
    return p.argmax(1), p, values.sum(1)


def assign(source, writer):
    receipts = []
    for block in source.blocks():
        rows = block.load()
        assert writer.chunks(block.index) == block.chunks
        receipts.append(
            pickle.loads(pickle.dumps(writer)).write(block.chunks, rows.kept, *answers(rows.values))
        )
    return functools.reduce(operator.add, receipts)


def expected(values, shape):
    good = np.isfinite(values).all(1)
    label, p, density = (
        np.full(len(values), -1),
        np.full((len(values), K), np.nan),
        np.full(len(values), np.nan),
    )
    label[good], p[good], density[good] = answers(values[good])
    return label.reshape(shape), p.reshape(*shape, K), density.reshape(shape)


def cube(version=3, tmp_path=None, shape=(4, 9, 7), chunks=(2, 4, 3)):
    a = rng.normal(size=shape)
    a.ravel()[[3, 30] if a.size > 30 else []] = np.nan
    dims = ("time", "y", "x")
    ds = xr.Dataset(
        {
            "a": (dims, a, {"units": "K", "grid_mapping": "crs"}),
            "b": (dims, rng.normal(size=shape).astype("f4")),
        },
        coords={
            "time": np.arange(shape[0]).astype("M8[D]").astype("M8[ns]"),
            "y": np.linspace(50, 40, shape[1]),
            "lat": (("y", "x"), rng.normal(size=shape[1:]), {"units": "degrees_north"}),
            "quality": (dims, rng.integers(0, 9, shape).astype("i2"), {"flag_meanings": "bad good"}),
            "crs": ((), 0, {"epsg_code": "EPSG:32632"}),
        },
        attrs={"title": "Cube", "history": np.float64("nan")},
    )
    path = str(tmp_path / "in.zarr")
    encoding = {n: {"chunks": chunks} for n in ("a", "b")}
    ds.to_zarr(path, consolidated=False, zarr_format=version, encoding=encoding)
    return xr.open_zarr(path, consolidated=False, chunks=None).load(), open_source("zarr", path, ["a", "b"])


@pytest.mark.parametrize("version", [2, 3])
def test_a_result_opens_as_a_tree_on_the_input_s_grid(tmp_path, version):
    ds, source = cube(version, tmp_path)
    path = str(tmp_path / "result.zarr")
    create_result(path, {"distem": "0.1"})
    writer = create_assignment(path, source, K, attrs={"model": "gaussian_mixture"})
    assert status(path) == "incomplete"
    receipt = assign(source, writer)
    write_group(
        path,
        "model",
        xr.Dataset(
            {"means": (("component", "feature"), np.zeros((3, 2)))},
            {"feature": ["a", "b"], "component": range(3)},
        ),
    )
    finalise(path)
    assert status(path) == "complete"
    values = np.stack([ds.a.values.ravel(), ds.b.values.ravel()], -1)
    label, p, density = expected(values, ds.a.shape)
    with xr.open_datatree(path, engine="zarr") as tree:
        assert tree.attrs["status"] == "complete"
        assert tree.attrs["distem"] == "0.1"
        got = tree["assignment"]
        assert got.label.dtype == np.int32
        assert_array_equal(got.label, label)
        assert_allclose(got.probability, p)
        assert_array_equal(got.log_density, density)
        assert_allclose(got.uncertainty, 1 - p.max(-1))
        assert got.label.dims == ("time", "y", "x")
        assert got.probability.dims == ("time", "y", "x", "component")
        assert got.label.encoding["chunks"] == (2, 4, 3)
        assert got.probability.encoding["chunks"] == (2, 4, 3, 3)
        assert_array_equal(got.component, [0, 1, 2])
        assert got.label.attrs["flag_values"] == [-1, 0, 1, 2]
        assert got.label.attrs["flag_meanings"].split()[0] == "missing"
        assert got.label.attrs["grid_mapping"] == "crs"
        for name in ("time", "y", "lat", "quality", "crs"):
            xr.testing.assert_identical(got.coords[name].variable, ds.coords[name].variable)
            assert name in got.label.coords
        assert (got.attrs["title"], got.attrs["model"]) == ("Cube", "gaussian_mixture")
        assert got.attrs["Conventions"].startswith("CF")
        assert tree["model"].feature.values.tolist() == ["a", "b"]
    assert (receipt.rows, receipt.missing, receipt.chunks) == (252, 2, 2 * 3 * 3)
    assert_array_equal(receipt.counts, np.bincount(label[label >= 0], minlength=K))
    assert receipt.log_density == pytest.approx(np.nansum(density))
    assert receipt.mass == 250


@pytest.mark.parametrize("compressor", ["zstd", "blosc", "gzip", "none"])
@pytest.mark.parametrize(
    ("dtype", "error"), [("float64", 0.0), ("float32", 2.0**-25), ("float16", 2.0**-12), ("uint8", 1 / 508)]
)
def test_encoded_probabilities_are_within_their_error_and_nothing_else_changes(
    tmp_path, dtype, error, compressor
):
    ds, source = cube(3, tmp_path)
    path = str(tmp_path / "result.zarr")
    create_result(path)
    assign(source, create_assignment(path, source, K, encoding=Encoding(dtype, compressor, 3)))
    finalise(path)
    label, p, density = expected(np.stack([ds.a.values.ravel(), ds.b.values.ravel()], -1), ds.a.shape)
    stored = zarr.open_array(path, path="assignment/probability", mode="r")
    assert stored.dtype == dtype
    assert [type(codec).__name__ for codec in stored.compressors[-1:]] == ["Crc32cCodec"]
    with xr.open_datatree(path, engine="zarr") as tree:
        got = tree["assignment"].load()
    assert_array_equal(np.isnan(got.probability), np.isnan(p))
    assert np.nanmax(np.abs(got.probability.values - p)) <= error * (1 + 1e-6) + 1e-16
    assert_array_equal(got.label, label)
    assert_array_equal(got.log_density, density)
    assert_allclose(got.uncertainty, 1 - p.max(-1))


@given(st.floats(0, 1))
def test_a_byte_is_at_most_half_a_step_off(p):
    encoding = Encoding("uint8")
    (byte,) = encoding.pack(np.array([p]))
    assert byte < encoding.fill_value
    assert abs(byte * encoding.attributes["scale_factor"] - p) <= 1 / 508 + 1e-15


def test_certain_probabilities_are_stored_exactly():
    encoding = Encoding("uint8")
    stored = encoding.pack(np.array([[0.0, 1.0], [1e-9, 1.0 - 1e-9]]))
    assert_array_equal(stored * encoding.attributes["scale_factor"], [[0.0, 1.0], [0.0, 1.0]])


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"probability": "int8"}, "cannot be stored as int8"),
        ({"compressor": "lzma"}, "no compressor lzma"),
        ({"compressor": "gzip", "level": 10}, "It can be 1 to 9"),
        ({"level": 0}, "zstd has no level 0"),
    ],
)
def test_an_encoding_that_is_not_there_is_refused(wrong, says):
    with pytest.raises(ConfigError, match=says):
        Encoding(**wrong)


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.tuples(*[st.integers(0, 6)] * 3), st.tuples(*[st.integers(1, 7)] * 3))
def test_any_shape_and_chunks(tmp_path_factory, shape, chunks):
    tmp_path = tmp_path_factory.mktemp("r")
    ds, source = cube(3, tmp_path, shape, chunks)
    path = str(tmp_path / "result.zarr")
    writer = create_assignment(path, source, K)
    assign(source, writer)
    finalise(path)
    label, p, _ = expected(np.stack([ds.a.values.ravel(), ds.b.values.ravel()], -1), shape)
    with xr.open_datatree(path, engine="zarr") as tree:
        assert_array_equal(tree["assignment/label"], label)
        assert_allclose(tree["assignment/probability"], p)


def test_many_blocks_write_every_chunk_once(tmp_path, monkeypatch):
    x = zarr.create_array(tmp_path / "x", shape=(90, 80, 70, 2), chunks=(8, 16, 33, 2), dtype="f8")
    x[:] = rng.normal(size=x.shape)
    source = open_source("zarr", str(tmp_path / "x"))
    assert len(source.blocks()) > 3
    path = str(tmp_path / "r")
    writer = create_assignment(path, source, K, ["label"])
    seen = []
    real = zarr.Array.__setitem__
    monkeypatch.setattr(zarr.Array, "__setitem__", lambda a, k, v: seen.append(k) or real(a, k, v))
    receipt = assign(source, writer)
    marks = np.zeros(source.shape, int)
    for box in seen:
        marks[box] += 1
        assert all(s.start % c == 0 for s, c in zip(box, (8, 16, 33), strict=True))
    assert (marks == 1).all()
    assert receipt.chunks == source.grid.n_chunks
    finalise(path)
    label = expected(x[:].reshape(-1, 2), x.shape[:3])[0]
    assert_array_equal(xr.open_datatree(path, engine="zarr")["assignment/label"], label)


def test_only_what_is_asked_for(tmp_path):
    source = from_array(rng.normal(size=(50, 2)))
    writer = create_assignment(str(tmp_path / "r"), source, K, ["label", "uncertainty"])
    assign(source, writer)
    finalise(str(tmp_path / "r"))
    with xr.open_datatree(tmp_path / "r", engine="zarr") as tree:
        assert set(tree["assignment"].variables) == {"label", "uncertainty"}


def test_writing_again_changes_nothing_and_mends_damage(tmp_path):
    _, source = cube(3, tmp_path)
    path = tmp_path / "r"
    writer = create_assignment(str(path), source, K)
    assign(source, writer)
    chunk = path / "assignment" / "label" / "c" / "1" / "2" / "2"
    before = chunk.read_bytes()
    chunk.write_bytes(before[:-9] + b"?" * 9)
    with pytest.raises(ValueError, match="checksum"):
        zarr.open_array(path / "assignment" / "label", mode="r")[:]
    assign(source, writer)
    assert chunk.read_bytes() == before


def test_string_coordinates_and_attributes(tmp_path):
    n = 20
    names = np.array([f"flight {i}" for i in range(n)], dtype=object)
    ds = xr.Dataset(
        {"a": ("f", rng.normal(size=n))},
        coords={
            "f": names,
            "due": (
                "f",
                np.where(np.arange(n) == 3, np.datetime64("NaT"), np.datetime64("2020-01-01", "ns")),
            ),
            "took": ("f", np.arange(n).astype("m8[s]").astype("m8[ns]")),
            "alt": ("f", np.where(np.arange(n) == 2, np.nan, 1.5)),
            "port": ((), "MUC"),
        },
    )
    for version in (2, 3):
        path = str(tmp_path / f"in{version}.zarr")
        held = ds if version == 2 else ds.drop_vars("port")  # a fixed-length text has no Zarr v3 type
        encoding = {"a": {"chunks": (6,)}, "alt": {"_FillValue": 9.0}}
        held.to_zarr(path, consolidated=False, zarr_format=version, encoding=encoding)
        source = open_source("zarr", path, ["a"])
        out = str(tmp_path / f"out{version}")
        assign(source, create_assignment(out, source, K))
        finalise(out)
        with xr.open_datatree(out, engine="zarr") as tree:
            got = tree["assignment"].label
            assert got.f.values.tolist() == names.tolist()
            for name in ("due", "took", "alt"):
                assert_array_equal(got[name].values, ds[name].values)
            if version == 2:
                assert str(got.port.values) == "MUC"


def test_incomplete_is_refused_by_name(tmp_path):
    _, source = cube(3, tmp_path)
    path = tmp_path / "r"
    writer = create_assignment(str(path), source, K)
    with pytest.raises(DataError, match="not complete: 'label' has 0 of 18 chunks"):
        finalise(str(path))
    assign(source, writer)
    (path / "assignment" / "log_density" / "c" / "0" / "1" / "2").unlink()
    with pytest.raises(
        DataError, match=r"not complete: 'log_density' has 17 of 18 chunks\. Run the same"
    ) as caught:
        finalise(str(path))
    assert "label" not in str(caught.value)
    assert status(str(path)) == "incomplete"
    assign(source, writer)
    finalise(str(path))
    assert status(str(path)) == "complete"
    create_assignment(str(path), source, K)
    assert status(str(path)) == "incomplete"
    assert status(str(tmp_path / "nothing")) is None


def test_groups_may_be_written_before_and_after(tmp_path):
    path = str(tmp_path / "r")
    write_group(path, "trace", xr.Dataset({"seconds": ("pass", [1.0, np.nan])}))
    assert status(path) == "incomplete"
    finalise(path)
    write_group(path, "model", xr.Dataset({"means": ("component", [1.0])}, attrs={"kind": "kmeans"}))
    write_group(path, "model", xr.Dataset({"centers": ("component", [1.0])}))
    with xr.open_datatree(path, engine="zarr") as tree:
        assert tree.attrs["status"] == "complete"
        assert set(tree["model"].variables) == {"centers"}
        assert_array_equal(tree["trace"].seconds, [1, np.nan])


def test_a_full_disk_is_an_interruption(tmp_path, monkeypatch):
    _, source = cube(3, tmp_path)
    path = str(tmp_path / "r")
    writer = create_assignment(path, source, K)

    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(zarr.Array, "__setitem__", full)
    with pytest.raises(Interrupted, match=r"The disk is full: .*Free some space and run") as caught:
        assign(source, writer)
    assert caught.value.exit_code == 75
    assert isinstance(pickle.loads(pickle.dumps(caught.value)), Interrupted)
    with pytest.raises(Interrupted, match="disk is full"):
        create_assignment(path, source, K)


def test_refusals(tmp_path):
    source = from_array(rng.normal(size=(50, 2)))
    path = str(tmp_path / "r")
    with pytest.raises(ConfigError, match=r"no output variable 'labels'.*label, probability"):
        create_assignment(path, source, K, ["labels"])
    object.__setattr__(source, "grid", Grid.of(["row"], [[20, 30]]))
    with pytest.raises(ConfigError, match="irregular"):
        create_assignment(path, source, K)
    object.__setattr__(source, "grid", Grid.of(["row"], [[50]]))
    writer = create_assignment(path, source, K)
    with pytest.raises(ConfigError, match="'probability' is to be written, but was not given"):
        writer.write(range(1), None, np.zeros(50, int))
    with pytest.raises(ConfigError, match="block of 50 rows was given 3 results"):
        writer.write(range(1), None, np.zeros(3, int), np.ones((3, K)), np.zeros(3))


def test_secrets_are_not_shown_and_the_writer_is_small(tmp_path):
    _, source = cube(3, tmp_path)
    writer = create_assignment(str(tmp_path / "r"), source, K)
    assert "options" not in repr(writer)
    assert len(pickle.dumps(writer)) < 3000
    assert (VARIABLES, results.GROUP, assignment.GROUP) == (VARIABLES, "assignment", "assignment")
    assert Path(writer.path).is_dir()
