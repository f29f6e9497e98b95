import pickle
import sys
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
import zarr
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.testing import assert_array_equal
from zarr.codecs import Crc32cCodec, ZstdCodec

from distem.data.open import open_like, open_source
from distem.data.transform import Transform
from distem.data.variables import opened
from distem.errors import ConfigError, DamagedChunkError, DataError

rng = np.random.default_rng(1)


def write(path, dataset, version=3, **encoding):
    dataset.to_zarr(path, zarr_format=version, consolidated=False, mode="w", encoding=encoding)
    return str(path)


def rows_of(source):
    """All rows in C order of the sample dimensions, put together from the blocks."""
    out = np.full((*source.shape, source.d), -99.0)
    for block in source.blocks(Transform(missing="keep")):
        values = block.load().values
        at = 0
        for box in source.grid.boxes(block.chunks):
            shape = tuple(s.stop - s.start for s in box)
            n = int(np.prod(shape))
            out[box] = values[at : at + n].reshape(*shape, -1)
            at += n
        assert at == block.n == len(values)
    return out.reshape(-1, source.d)


def flights(n=1000):
    return xr.Dataset(
        {
            "delay": ("flight", rng.normal(size=n), {"units": "min", "long_name": "Delay"}),
            "time": ("flight", rng.integers(0, 500, n).astype("i2")),
            "late": ("flight", rng.random(n) < 0.5),
            "carrier": ("flight", rng.integers(0, 9, n).astype("u1")),
        },
        coords={"flight": np.arange(n)},
        attrs={"title": "Flights"},
    )


@pytest.mark.parametrize("version", [2, 3])
def test_variables_become_columns(tmp_path, version):
    ds = flights()
    path = write(tmp_path / "f.zarr", ds, version, delay={"chunks": (130,)}, time={"chunks": (77,)})
    source = open_source("zarr", path, ["delay", "time", "late"], weights="carrier")
    assert source.features == ("delay", "time", "late")
    assert (source.n, source.d, source.dims) == (1000, 3, ("flight",))
    assert source.grid.chunks == ((130,) * 7 + (90,),)
    assert source.feature_attrs["delay"] == {"units": "min", "long_name": "Delay"}
    assert source.attrs == {"title": "Flights"}
    assert source.raw_bytes == 32
    want = np.stack([ds.delay, ds.time, ds.late], axis=-1).astype(float)
    (block,) = source.blocks()
    assert (block.index, block.n, block.nbytes) == (0, 1000, 1000 * 32)
    rows = pickle.loads(pickle.dumps(block)).load()
    assert_array_equal(rows.values, want)
    assert_array_equal(rows.weights, ds.carrier)
    assert rows.kept is None
    assert source.describe() == pickle.loads(pickle.dumps(source)).describe()
    assert str(tmp_path) not in str(source.describe())
    assert set(source.reader.coordinates()) == {"flight"}


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_any_chunks_any_order_of_dimensions(tmp_path, data):
    dims = ("time", "y", "x")
    shape = dict(zip(dims, data.draw(st.tuples(*[st.integers(0, 6)] * 3)), strict=True))
    names = ("a", "b")
    variables, encoding = {}, {}
    for name in names:
        order = data.draw(st.permutations(dims))
        sizes = tuple(shape[d] for d in order)
        variables[name] = (
            order,
            rng.normal(size=sizes).astype(data.draw(st.sampled_from(["f4", "f8", "i2"]))),
        )
        encoding[name] = {"chunks": tuple(data.draw(st.integers(1, 7)) for _ in dims)}
    ds = xr.Dataset(variables)
    path = write(tmp_path / "a.zarr", ds, data.draw(st.sampled_from([2, 3])), **encoding)
    sample = data.draw(st.permutations(dims))
    source = open_source("zarr", path, names, sample_dims=sample)
    want = np.stack([ds[n].transpose(*sample).values.ravel() for n in names], -1).astype(float)
    assert_array_equal(rows_of(source), want)
    assert source.dims == tuple(sample)


def test_many_blocks_in_three_dimensions(tmp_path):
    cube = rng.normal(size=(20, 150, 170, 3)).astype("f4")
    ds = xr.Dataset({"r": (("time", "y", "x", "band"), cube)}, coords={"band": ["red", "green", "blue"]})
    path = write(tmp_path / "c.zarr", ds.drop_vars("band"), r={"chunks": (3, 40, 60, 2)})
    source = open_source("zarr", path)
    assert source.features == ("r_0", "r_1", "r_2")
    blocks = source.blocks()
    assert len(blocks) > 3
    assert_array_equal(rows_of(source), cube.reshape(-1, 3))
    number, at = source.locate(2, 1234)
    assert_array_equal(blocks[2].load().values[1234], cube[at["time"], at["y"], at["x"]])
    assert_array_equal(cube.reshape(-1, 3)[number], cube[at["time"], at["y"], at["x"]])


def test_bands_first(tmp_path):
    image = rng.integers(0, 4000, (4, 30, 50)).astype("u2")
    ds = xr.Dataset({"reflectance": (("band", "y", "x"), image)}, coords={"band": [10, 20, 30, 40]})
    path = write(tmp_path / "i.zarr", ds, reflectance={"chunks": (1, 7, 9)})
    for options in ({}, {"sample_dims": ["y", "x"]}, {"feature_dim": "band"}):
        source = open_source("zarr", path, ["reflectance"], **options)
        assert source.features == ("band_10", "band_20", "band_30", "band_40")
        assert source.grid.regular_sizes == (7, 9)
        assert source.dtype == np.uint16
        assert_array_equal(rows_of(source), np.moveaxis(image, 0, -1).reshape(-1, 4))


def test_one_feature(tmp_path):
    ds = xr.Dataset({"t": (("time", "lat", "lon"), rng.normal(size=(3, 4, 5)))})
    path = write(tmp_path / "t.zarr", ds)
    source = open_source("zarr", path)
    assert (source.d, source.dims) == (1, ("time", "lat", "lon"))
    assert open_source("zarr", path, feature_dim="lon").d == 5
    assert open_source("zarr", path, sample_dims=["lon", "time"]).feature_dim == "lat"


@pytest.mark.parametrize("version", [2, 3])
@pytest.mark.parametrize("dtype", [">f8", ">i4", "f2", "?", "u1", "i8"])
def test_plain_arrays(tmp_path, version, dtype):
    x = rng.integers(0, 2, (100, 3)).astype(dtype)
    array = zarr.create_array(
        tmp_path / "p.zarr", shape=x.shape, chunks=(9, 2), dtype=dtype, zarr_format=version
    )
    array[:] = x
    source = open_source("zarr", str(tmp_path / "p.zarr"))
    assert (source.dims, source.feature_dim, source.d) == (("dim_0",), "dim_1", 3)
    assert source.dtype == np.dtype(dtype).newbyteorder("=")
    assert source.grid.chunks == ((9,) * 11 + (1,),)
    assert_array_equal(rows_of(source), x.astype(float))


def test_group_without_dimension_names(tmp_path):
    group = zarr.create_group(tmp_path / "g.zarr")
    for name in ("a", "b"):
        group.create_array(name, data=rng.normal(size=20), chunks=(6,))
    source = open_source("zarr", str(tmp_path / "g.zarr"), ["b", "a"])
    assert_array_equal(rows_of(source), np.stack([group["b"][:], group["a"][:]], -1))


def test_shards_are_the_unit(tmp_path):
    x = rng.normal(size=(100, 2))
    array = zarr.create_array(tmp_path / "s.zarr", shape=x.shape, chunks=(5, 2), shards=(20, 2), dtype="f8")
    array[:] = x
    source = open_source("zarr", str(tmp_path / "s.zarr"))
    assert source.grid.chunks == ((20,) * 5,)
    assert_array_equal(rows_of(source), x)


@pytest.mark.parametrize("version", [2, 3])
def test_packed_and_masked(tmp_path, version):
    n = 60
    truth = np.round(rng.normal(size=n), 2)
    truth[[3, 40]] = np.nan
    ds = xr.Dataset(
        {"a": ("t", truth), "b": ("t", np.where(np.isnan(truth), np.nan, 7.0)), "c": ("t", truth)}
    )
    path = write(
        tmp_path / "p.zarr",
        ds,
        version,
        a={"dtype": "i2", "scale_factor": 0.01, "add_offset": 5.0, "_FillValue": -32768, "chunks": (7,)},
        b={"dtype": "i4", "_FillValue": -1},
        c={"_FillValue": 1e20},
    )
    want = xr.open_zarr(path, consolidated=False, chunks=None)
    source = open_source("zarr", path, ["a", "b", "c"])
    assert_array_equal(rows_of(source), np.stack([want.a, want.b, want.c], -1))
    rows = source.blocks()[0].load()
    assert_array_equal(rows.kept, ~np.isnan(truth))
    assert rows.n == n - 2


def test_groups_inside(tmp_path):
    path = str(tmp_path / "g.zarr")
    flights().to_zarr(path, group="eu/west", consolidated=False)
    assert open_source("zarr", path, ["delay"], group="eu/west").n == 1000
    with pytest.raises(DataError, match=r"no group 'eu/wst' in .*Did you mean 'eu/west'"):
        open_source("zarr", path, ["delay"], group="eu/wst")
    with pytest.raises(ConfigError, match="csv has no groups"):
        open_source("csv", path, group="a")


def test_default_features_are_the_numeric_ones(tmp_path):
    ds = flights(50)
    ds["when"] = ("flight", np.arange(50).astype("M8[s]").astype("M8[ns]"))
    ds["crs"] = ((), 0)
    path = write(tmp_path / "f.zarr", ds, 2)
    assert set(open_source("zarr", path).features) == {"delay", "time", "late", "carrier"}
    assert set(open_source("zarr", path, weights="carrier").features) == {"delay", "time", "late"}
    ds["other"] = ("airport", np.zeros(4))
    path = write(tmp_path / "f.zarr", ds, 2)
    with pytest.raises(
        DataError, match=r"do not share their dimensions.*other \(airport\).*Name the features"
    ):
        open_source("zarr", path)


def test_errors_name_what_is_wrong(tmp_path):
    ds = flights(50)
    ds["other"] = ("airport", np.zeros(4))
    ds["z"] = ("flight", np.ones(50) + 1j)
    ds["when"] = ("flight", np.arange(50).astype("M8[s]").astype("M8[ns]"))
    ds["cube"] = (("flight", "hour", "spot"), np.zeros((50, 2, 0)))
    path = write(tmp_path / "f.zarr", ds, 2)
    for keywords, message in [
        (
            {"features": ["dealy"]},
            r"no variable 'dealy' in .*f.zarr.*Did you mean 'delay'\?.*It has: carrier",
        ),
        ({"features": ["delay", "other"]}, r"'delay' is \(flight: 50\), 'other' is \(airport: 4\)"),
        ({"features": ["z"]}, "'z' in .* has dtype complex"),
        ({"features": ["when"]}, "'when' in .* has dtype datetime"),
        ({"features": []}, "No features"),
        ({"features": ["delay", "delay"]}, "named twice"),
        ({"features": ["delay"], "sample_dims": ["fligth"]}, r"no dimension 'fligth'.*Did you mean 'flight'"),
        ({"features": ["cube"], "sample_dims": ["flight"]}, "sample_dims are flight, but"),
        ({"features": ["cube"]}, "has no features: 'spot' has length 0"),
        (
            {"features": ["delay"], "weights": "other"},
            r"weights 'other' are \(airport: 4\), .*\(flight: 50\)",
        ),
        ({"features": ["delay"], "weights": "when"}, "datetime"),
        ({"features": ["delay"], "weights": "wt"}, "no weights variable 'wt'"),
    ]:
        with pytest.raises(DataError, match=message) as caught:
            open_source("zarr", path, **keywords)
        assert caught.value.exit_code == 3
    with pytest.raises(ConfigError, match=r"feature_dim is 'flight', but 2 variables"):
        open_source("zarr", path, ["delay", "time"], feature_dim="flight")
    with pytest.raises(DataError, match=r"no Zarr store at .*nowhere"):
        open_source("zarr", str(tmp_path / "nowhere"))
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=r"no Zarr store at .*empty"):
        open_source("zarr", str(tmp_path / "empty"))
    (tmp_path / "file").write_text("text")
    with pytest.raises(DataError, match="file"):
        open_source("zarr", str(tmp_path / "file"))
    with pytest.raises(ConfigError, match=r"data.kind is 'zar'.*zarr, netcdf"):
        open_source("zar", path)


def test_strings_are_refused(tmp_path):
    path = write(tmp_path / "s.zarr", xr.Dataset({"s": ("x", np.array(["a", "b"]))}), 2)
    with pytest.raises(DataError, match=r"'s' in .* has dtype string, which is not a real number"):
        open_source("zarr", path, ["s"])


def damaged(tmp_path, flip):
    group = zarr.create_group(tmp_path / "d.zarr")
    for name in ("a", "b"):
        array = group.create_array(
            name,
            shape=(40, 6),
            chunks=(10, 3),
            dtype="f8",
            dimension_names=("y", "x"),
            compressors=[ZstdCodec(), Crc32cCodec()],
        )
        array[:] = rng.normal(size=(40, 6))
    chunk = Path(tmp_path / "d.zarr" / "b" / "c" / "2" / "1")
    content = bytearray(chunk.read_bytes())
    if flip:
        content[20] ^= 1
    chunk.write_bytes(content if flip else content[:30])
    return str(tmp_path / "d.zarr")


@pytest.mark.parametrize("flip", [True, False])
def test_a_damaged_chunk_is_named(tmp_path, flip):
    path = damaged(tmp_path, flip)
    (block,) = open_source("zarr", path, ["a", "b"]).blocks()
    with pytest.raises(
        DamagedChunkError, match=r"Chunk c/2/1 \(index \(2, 1\)\) of 'b' in .*d.zarr"
    ) as caught:
        block.load()
    again = pickle.loads(pickle.dumps(caught.value))
    assert isinstance(again, DamagedChunkError)
    assert str(again) == str(caught.value)
    assert "Restore it" in again.remedy
    assert open_source("zarr", path, ["a"]).blocks()[0].load().n == 240


def test_a_rewritten_store_is_read_anew(tmp_path):
    for n in (10, 20):
        path = write(tmp_path / "w.zarr", flights(n))
        (block,) = open_source("zarr", path, ["delay"]).blocks()
        assert block.load().n == n


def test_predict_on_other_data(tmp_path):
    one = open_source("zarr", write(tmp_path / "1.zarr", flights(20)), ["time", "delay"])
    other = open_like(one.describe(), "zarr", write(tmp_path / "2.zarr", flights(30)))
    assert (other.features, other.n) == (("time", "delay"), 30)
    path = write(tmp_path / "3.zarr", flights(30).drop_vars("delay"))
    with pytest.raises(DataError, match="no variable 'delay'"):
        open_like(one.describe(), "zarr", path)
    with pytest.raises(DataError, match="fitted to 'time', 'delay', but the data has 'delay', 'time'"):
        open_source("zarr", str(tmp_path / "2.zarr"), ["delay", "time"]).require(["time", "delay"])


def test_secrets_are_not_shown():
    from distem.data.zarr_store import ZarrStore

    store = ZarrStore.at("s3://bucket/x", options={"key": "SECRET"})
    assert "SECRET" not in repr(store)


def test_zarrs_decodes_the_same_rows(tmp_path):
    pytest.importorskip("zarrs")
    path = write(tmp_path / "s.zarr", flights(), delay={"chunks": (100,)})
    ours, theirs = (
        open_source("zarr", path, ["delay", "time"], decoder=which) for which in ("zarr", "zarrs")
    )
    assert_array_equal(rows_of(pickle.loads(pickle.dumps(theirs))), rows_of(ours))
    pipeline = type(opened(theirs.reader.store).arrays["delay"]._async_array.codec_pipeline)
    assert pipeline.__module__.startswith("zarrs")
    assert (
        "zarrs" not in type(opened(ours.reader.store).arrays["delay"]._async_array.codec_pipeline).__module__
    )
    assert theirs.describe() == ours.describe()


def test_a_decoder_that_is_not_there_is_refused(tmp_path, monkeypatch):
    path = write(tmp_path / "s.zarr", flights())
    with pytest.raises(ConfigError, match="zarr or zarrs"):
        open_source("zarr", path, ["delay"], decoder="zar")
    with pytest.raises(ConfigError, match="local stores"):
        open_source("zarr", "memory://s.zarr", ["delay"], decoder="zarrs")
    monkeypatch.setitem(sys.modules, "zarrs", None)
    with pytest.raises(ConfigError, match=r"needs zarrs, which is not installed.*distem\[zarrs\]"):
        open_source("zarr", path, ["delay"], decoder="zarrs")
