import fsspec
import numpy as np
import pandas as pd
import pytest
import xarray as xr
from numpy.testing import assert_array_equal

from distem.data.assignment import create_assignment
from distem.data.open import open_source
from distem.data.results import finalise, status
from distem.data.source import Source
from distem.errors import DamagedChunkError, DataError

rng = np.random.default_rng(11)


@pytest.fixture
def memory():
    system = fsspec.filesystem("memory")
    yield system
    system.store.clear()
    system.pseudo_dirs[:] = [""]


def test_zarr_in_and_out(memory):
    ds = xr.Dataset(
        {"a": ("t", rng.normal(size=100)), "b": ("t", rng.normal(size=100))}, {"t": np.arange(100)}
    )
    ds.to_zarr("memory://in.zarr", consolidated=False, encoding={"a": {"chunks": (30,)}})
    source = open_source("zarr", "memory://in.zarr", ["a", "b"], storage_options={"asynchronous": False})
    rows = source.blocks()[0].load()
    assert_array_equal(rows.values, np.stack([ds.a, ds.b], -1))
    writer = create_assignment("memory://out.zarr", source, 2, ["label", "log_density"])
    receipt = writer.write(range(4), None, np.ones(100, int), None, np.zeros(100))
    assert (receipt.rows, receipt.chunks) == (100, 4)
    finalise("memory://out.zarr")
    assert status("memory://out.zarr") == "complete"
    with xr.open_datatree("memory://out.zarr", engine="zarr") as tree:
        assert_array_equal(tree["assignment/label"], np.ones(100))
        assert_array_equal(tree["assignment"].t, ds.t)


def test_tables(memory):
    frame = pd.DataFrame(rng.normal(size=(50, 2)), columns=["a", "b"])
    with memory.open("/t/1.csv", "w") as file:
        frame.to_csv(file, index=False)
    with memory.open("/t/1.parquet", "wb") as file:
        frame.to_parquet(file)
    with memory.open("/t/1.npy", "wb") as file:
        np.save(file, frame.to_numpy())
    for kind, name in [
        ("csv", "1.csv"),
        ("csv", ""),
        ("csv", "*.csv"),
        ("parquet", "1.parquet"),
        ("npy", "1.npy"),
    ]:
        (block,) = open_source(kind, f"memory://t/{name}").blocks()
        assert_array_equal(block.load().values, frame)


@pytest.mark.parametrize(
    ("kind", "path", "message"),
    [
        ("zarr", "memory://none", "no Zarr store at memory://none"),
        ("csv", "memory://none.csv", r"no file memory://none\.csv"),
        ("csv", "memory://*.csv", "holds no files"),
    ],
)
def test_what_is_not_there(memory, kind, path, message):
    with pytest.raises(DataError, match=message):
        open_source(kind, path)


class Faulty:
    """Fails as often as it is told, though no chunk is damaged."""

    def __init__(self, times, damaged=None):
        self.times, self.damaged = times, damaged

    def read(self, box):
        self.times -= 1
        if self.times >= 0:
            raise OSError("gone for a moment")
        return np.zeros((box[0].stop - box[0].start, 1)), None

    def locate(self, box):
        return self.damaged


def test_a_passing_fault_is_read_again(tmp_path):
    held = open_source("zarr", _one(tmp_path), ["a"])
    make = lambda reader: Source(reader, "zarr", held.grid, ("a",), held.dtype).blocks()[0]  # noqa: E731
    assert make(Faulty(1)).load().n == 10
    with pytest.raises(DataError, match="Rows t 0 to 9 could not be read: OSError: gone for a moment"):
        make(Faulty(2)).load()
    with pytest.raises(DamagedChunkError, match="chunk 7"):
        make(Faulty(1, DamagedChunkError("chunk 7"))).load()


def _one(tmp_path):
    xr.Dataset({"a": ("t", np.zeros(10))}).to_zarr(tmp_path / "a", consolidated=False)
    return str(tmp_path / "a")
