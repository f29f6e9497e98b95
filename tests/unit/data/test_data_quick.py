import numpy as np
import pytest
import zarr
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numcodecs import LZ4, Delta
from numpy.testing import assert_array_equal
from zarr.codecs import BloscCodec, Crc32cCodec, GzipCodec, TransposeCodec, ZstdCodec

from distem.data.quick import QuickArray, quick

rng = np.random.default_rng(12)
V3 = [
    None,
    [ZstdCodec()],
    [ZstdCodec(checksum=True), Crc32cCodec()],
    [BloscCodec()],
    [GzipCodec(), Crc32cCodec()],
]
slices = st.tuples(st.integers(0, 20), st.integers(0, 20)).map(lambda p: slice(min(p), max(p)))


def make(path, compressors, dtype="f8", version=3, **more):
    array = zarr.create_array(
        path, shape=(20, 13), chunks=(3, 4), dtype=dtype, zarr_format=version, fill_value=1, overwrite=True,
        **({} if compressors == "default" else {"compressors": compressors}), **more,
    )  # fmt: skip
    array[:] = rng.integers(0, 2, (20, 13)).astype(dtype)
    return zarr.open_array(path, mode="r")


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    slices, slices, st.sampled_from(range(len(V3))), st.sampled_from(["<f8", ">i4", "f4", "?", "u1", "f2"])
)
def test_the_same_as_zarr(tmp_path, rows, columns, codec, dtype):
    array = make(tmp_path / "a", V3[codec], dtype)
    held = quick(array)
    assert isinstance(held, QuickArray)
    assert_array_equal(held[rows, columns], array[rows, columns])


@pytest.mark.parametrize("dtype", ["<f8", ">i4"])
@pytest.mark.parametrize("compressors", [None, "default", LZ4()])
def test_version_2(tmp_path, dtype, compressors):
    array = make(tmp_path / "a", compressors, dtype, 2)
    held = quick(array)
    assert isinstance(held, QuickArray)
    assert_array_equal(held[2:19, 1:12], array[2:19, 1:12])
    assert_array_equal(held[:], array[:])
    assert_array_equal(held._read([(0, 20), (0, 13)], [range(7), range(4)]), array[:])


def test_missing_chunks_are_the_fill_value(tmp_path):
    array = make(tmp_path / "a", None)
    (tmp_path / "a" / "c" / "2" / "1").unlink()
    assert_array_equal(quick(array)[0:20, 0:13], array[:])
    assert (array[6:9, 4:8] == 1).all()


def test_damage_is_left_to_zarr(tmp_path):
    array = make(tmp_path / "a", [ZstdCodec(), Crc32cCodec()])
    chunk = tmp_path / "a" / "c" / "2" / "1"
    chunk.write_bytes(chunk.read_bytes()[:-1] + b"?")
    with pytest.raises(ValueError, match="checksum"):
        quick(array)[0:20, 0:13]


def test_what_is_not_plain_is_left_to_zarr(tmp_path):
    for array in (
        make(tmp_path / "a", None, filters=[TransposeCodec(order=(1, 0))]),
        make(tmp_path / "b", None, "i4", 2, filters=[Delta("i4")]),
        make(tmp_path / "c", None, "f8", 2, order="F"),
        zarr.create_array(tmp_path / "d", shape=(20, 13), chunks=(2, 13), shards=(4, 13), dtype="f8"),
        zarr.create_array(tmp_path / "e", shape=(200, 1000), chunks=(20, 1000), dtype="f8"),
        zarr.create_array({}, shape=(20, 13), chunks=(3, 4), dtype="f8"),
    ):
        assert quick(array) is array
