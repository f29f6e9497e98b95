import pickle
import sys

import h5py
import numpy as np
import pytest
import xarray as xr
from numpy.testing import assert_array_equal

from distem.data import netcdf
from distem.data.files import release
from distem.data.open import open_source
from distem.data.transform import Transform
from distem.errors import ConfigError, DamagedChunkError, DataError

rng = np.random.default_rng(7)


def load(source):
    blocks = pickle.loads(pickle.dumps(source)).blocks(Transform(missing="keep"))
    return np.concatenate([b.load().values for b in blocks])


def sample(shape=(4, 30, 20)):
    dims = ("time", "y", "x")
    a = np.round(rng.normal(size=shape), 2)
    a[1, 2, 3] = np.nan
    return xr.Dataset(
        {
            "a": (dims, a, {"units": "K"}),
            "b": (("x", "time", "y"), rng.normal(size=(20, 4, 30)).astype("f4")),
        },
        coords={"time": np.arange(4), "lat": (("y", "x"), rng.normal(size=shape[1:]))},
        attrs={"title": "T"},
    )


@pytest.mark.parametrize("chunked", [True, False])
@pytest.mark.parametrize("format_", ["h5netcdf", "scipy"])
def test_as_xarray_reads_it(tmp_path, chunked, format_):
    ds = sample()
    packed = {"dtype": "i2", "scale_factor": 0.01, "add_offset": 1.0, "_FillValue": -32768}
    encoding = {"a": packed | ({"chunksizes": (2, 30, 20)} if chunked and format_ == "h5netcdf" else {})}
    path = str(tmp_path / "a.nc")
    ds.to_netcdf(path, engine=format_, encoding=encoding)
    source = open_source("netcdf", path, ["a", "b"])
    with xr.open_dataset(path, engine=format_) as opened:
        want = np.stack([opened.a.values.ravel(), opened.b.transpose("time", "y", "x").values.ravel()], -1)
    assert_array_equal(load(source), want)
    assert source.dims == ("time", "y", "x")
    assert source.feature_attrs["a"] == {"units": "K"}
    assert set(source.reader.coordinates()) == {"time", "lat"}
    assert source.kind == "netcdf"
    if chunked and format_ == "h5netcdf":
        assert source.grid.shape == (4, 30, 20)


def test_chunks_are_those_of_the_file(tmp_path):
    ds = xr.Dataset({"a": (("t", "f"), rng.normal(size=(50_000, 3)))})
    ds.to_netcdf(tmp_path / "a.nc", engine="h5netcdf", encoding={"a": {"chunksizes": (9000, 2)}})
    source = open_source("netcdf", str(tmp_path / "a.nc"))
    assert source.grid.chunks == ((9000,) * 5 + (5000,),)
    assert_array_equal(load(source), ds.a.values)


def test_contiguous_files_are_cut_along_the_first_dimension(tmp_path):
    ds = xr.Dataset({"a": (("t", "f"), rng.normal(size=(300_000, 2)))})
    ds.to_netcdf(tmp_path / "a.nc", engine="h5netcdf")
    source = open_source("netcdf", str(tmp_path / "a.nc"))
    assert source.grid.n_chunks == 3
    assert_array_equal(load(source), ds.a.values)
    assert open_source("netcdf", str(tmp_path / "a.nc"), block_rows=1000).grid.n_chunks == 300


def test_tiny_chunks_are_joined():
    assert netcdf._coarse((1, 10, 10), (1000, 10, 10)) == (82, 10, 10)
    assert netcdf._coarse((1,), (100_000,)) == (8192,)
    assert netcdf._coarse((9000, 2), (50_000, 3)) == (9000, 2)
    assert netcdf._coarse((5, 5), (7, 0)) == (7, 1)


def test_groups_and_plain_hdf5(tmp_path):
    with h5py.File(tmp_path / "p.h5", "w") as file:
        file.create_dataset("deep/er/x", data=rng.normal(size=(100, 3)), chunks=(10, 3))
        want = file["deep/er/x"][:]
    source = open_source("netcdf", str(tmp_path / "p.h5"), ["x"], group="deep/er")
    assert_array_equal(load(source), want)
    with pytest.raises(DataError, match=r"no group 'deep/err' in .*Did you mean 'deep/er'"):
        open_source("netcdf", str(tmp_path / "p.h5"), ["x"], group="deep/err")


def test_damage_is_named(tmp_path):
    path = tmp_path / "d.nc"
    with h5py.File(path, "w") as file:
        data = file.create_dataset(
            "x", data=rng.normal(size=(40_000, 2)), chunks=(10_000, 2), fletcher32=True
        )
        offset = data.id.get_chunk_info(2).byte_offset
    content = bytearray(path.read_bytes())
    content[offset + 100] ^= 1
    path.write_bytes(content)
    source = open_source("netcdf", str(path), ["x"])
    with pytest.raises(DamagedChunkError, match=r"Chunk 2/0 \(index \(2, 0\)\) of 'x' in .*d.nc"):
        load(source)
    release()
    path.write_bytes(content[:300])
    with pytest.raises(DataError, match=r"d\.nc cannot be opened"):
        open_source("netcdf", str(path), ["x"])
    path.write_text("no such thing")
    with pytest.raises(DataError, match=r"d\.nc is neither NetCDF nor HDF5"):
        open_source("netcdf", str(path), ["x"])
    with pytest.raises(DataError, match=r"There is no file .*nowhere\.nc"):
        open_source("netcdf", str(tmp_path / "nowhere.nc"))


def test_without_the_library(tmp_path, monkeypatch):
    sample().to_netcdf(tmp_path / "a.nc", engine="h5netcdf")
    monkeypatch.setitem(sys.modules, "h5netcdf", None)
    with pytest.raises(ConfigError, match=r'pip install "distem\[netcdf\]"'):
        open_source("netcdf", str(tmp_path / "a.nc"))
