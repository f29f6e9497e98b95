import pickle

import numpy as np
import pandas as pd
import pytest
import xarray as xr
import zarr
from numpy.testing import assert_array_equal

from distem.data.arrays import from_array
from distem.data.transform import Transform
from distem.errors import DataError

rng = np.random.default_rng(2)


def rows_of(source):
    return np.concatenate([b.load().values for b in source.blocks(Transform(missing="keep"))])


@pytest.mark.parametrize("n", [0, 1, 100, 200_000])
def test_rows_are_cut_by_shape_alone_and_not_copied(n):
    x = rng.normal(size=(n, 3))
    source = from_array(x)
    blocks = source.blocks()
    assert [b.n for b in blocks] == [b.n for b in from_array(np.zeros((n, 3), "f4")).blocks()]
    assert source.features == ("x0", "x1", "x2")
    assert_array_equal(rows_of(source), x)
    assert all(np.shares_memory(b.load().values, x) for b in blocks if n)
    if n > 100_000:
        assert len(blocks) > 1
        assert len(pickle.dumps(blocks[0])) < 1.1 * blocks[0].n * 24 + 2000
        assert_array_equal(pickle.loads(pickle.dumps(blocks[1])).load().values, blocks[1].load().values)


@pytest.mark.parametrize("dtype", [">f8", "f2", "?", "u1", ">i4", "f4"])
@pytest.mark.parametrize("order", ["C", "F"])
def test_any_dtype_and_layout(dtype, order):
    x = np.asarray(rng.integers(0, 2, (1000, 3)), dtype=dtype, order=order)
    assert_array_equal(rows_of(from_array(x)), x.astype(float))
    assert_array_equal(rows_of(from_array(x[::-2])), x[::-2].astype(float))


def test_weights():
    x, w = rng.normal(size=(100, 2)), rng.random(100)
    source = from_array(x, w)
    assert_array_equal(source.blocks()[0].load().weights, w)
    assert source.weights == "weights"
    with pytest.raises(DataError, match=r"weights have shape \(99,\), the samples \(100,\)"):
        from_array(x, w[:-1])
    with pytest.raises(DataError, match="weights has dtype string"):
        from_array(x, np.full(100, "a"))


def test_data_frame():
    frame = pd.DataFrame({"a": [1, 2, 3], "b": [0.5, np.nan, 1]})
    source = from_array(frame)
    assert source.features == ("a", "b")
    assert_array_equal(rows_of(source), frame.to_numpy())
    with pytest.raises(DataError, match="Column 's' has dtype"):
        from_array(frame.assign(s=["x", "y", "z"]))


def test_xarray_in_memory():
    x = xr.DataArray(
        rng.normal(size=(30, 100, 50, 3)),
        dims=("time", "y", "x", "band"),
        coords={"time": np.arange(30).astype("M8[D]").astype("M8[ns]"), "band": ["r", "g", "b"]},
        name="r",
    )
    source = from_array(x)
    assert source.features == ("r", "g", "b")
    assert source.dims == ("time", "y", "x")
    assert_array_equal(rows_of(source), x.values.reshape(-1, 3))
    assert np.shares_memory(source.blocks()[1].load().values, x.values)
    number, at = source.locate(1, 17)
    assert_array_equal(x.values.reshape(-1, 3)[number], x.isel(at))
    assert_array_equal(source.blocks()[1].load().values[17], x.isel(at))
    time = source.reader.coordinates()["time"]
    assert time.attrs["units"].startswith("days since")
    weights = xr.DataArray(rng.random((50, 100, 30)), dims=("x", "y", "time"))
    got = np.concatenate([b.load().weights for b in from_array(x, weights).blocks()])
    assert_array_equal(got, weights.transpose("time", "y", "x").values.ravel())
    with pytest.raises(DataError, match="weights have dimensions"):
        from_array(x, weights.isel(x=0))


@pytest.mark.parametrize("engine", ["zarr", "h5netcdf"])
def test_xarray_read_lazily(tmp_path, engine):
    truth = np.round(rng.normal(size=(200, 4)), 2)
    truth[3, 1] = np.nan
    ds = xr.Dataset({"v": (("t", "f"), truth)}, coords={"t": np.arange(200) * 2.0, "f": list("abcd")})
    encoding = {"v": {"dtype": "i2", "scale_factor": 0.01, "_FillValue": -9999}}
    if engine == "zarr":
        encoding["v"]["chunks"] = (30, 2)
        ds.drop_vars("f").to_zarr(tmp_path / "a", encoding=encoding, consolidated=False)
        opened = xr.open_zarr(tmp_path / "a", chunks=None, consolidated=False)
    else:
        encoding["v"]["chunksizes"] = (30, 2)
        ds.to_netcdf(tmp_path / "a.nc", engine=engine, encoding=encoding)
        opened = xr.open_dataset(tmp_path / "a.nc", engine=engine)
    with opened:
        source = from_array(opened["v"])
        assert source.grid.chunks == ((30,) * 6 + (20,),)
        assert_array_equal(rows_of(pickle.loads(pickle.dumps(source))), opened["v"].values)
        assert source.features == (tuple("abcd") if engine != "zarr" else ("v_0", "v_1", "v_2", "v_3"))


def test_zarr_arrays(tmp_path):
    array = zarr.create_array(tmp_path / "z", data=rng.normal(size=(50, 2)), chunks=(7, 2))
    source = from_array(array)
    assert source.grid.chunks == ((7,) * 7 + (1,),)
    assert_array_equal(rows_of(source), array[:])
    assert_array_equal(pickle.loads(pickle.dumps(source)).blocks()[0].load().values, array[:])
    assert from_array(array, np.ones(50)).weights == "weights"


@pytest.mark.parametrize(
    ("x", "message"),
    [
        (np.ones((3, 2), complex), "dtype complex"),
        (np.full((3, 2), "a"), "dtype string"),
        (np.full((3, 2), None), "dtype object"),
        (np.zeros((3, 2), "M8[s]"), "dtype datetime"),
        (np.ones(3), "Expected 2D array, got 1D array instead.*Reshape your data"),
        (np.ones((3, 0)), r"0 feature\(s\)"),
        (xr.DataArray(np.ones((3, 2), complex), name="v"), "'v' has dtype complex"),
    ],
)
def test_refused(x, message):
    with pytest.raises(DataError, match=message):
        from_array(x)


def test_dask_is_handled_elsewhere():
    with pytest.raises(DataError, match="backed by Dask"):
        from_array(xr.DataArray(np.ones((4, 2))).chunk())
