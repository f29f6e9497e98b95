"""GeoTIFF as input: windows, names, missing pixels, place on Earth, the labels of the same raster in Zarr."""

import sys

import numpy as np
import pytest
import xarray as xr
from numpy.testing import assert_array_equal
from test_pictures import WGS84, fitted, raster

from distem.data.open import open_source
from distem.errors import ConfigError, DamagedChunkError, DataError

rasterio = pytest.importorskip("rasterio")

PLACE = (8.0, 0.02, 0.0, 48.0, 0.0, -0.02)
TILED = {"tiled": True, "blockxsize": 16, "blockysize": 16, "compress": "deflate"}
STRIPED = {"tiled": False, "blockysize": 5, "interleave": "band"}


def write(path, values, names=(), place=PLACE, crs=WGS84, **layout):
    """A GeoTIFF of (band, y, x)."""
    count, height, width = values.shape
    about = {"driver": "GTiff", "count": count, "height": height, "width": width, "dtype": values.dtype}
    about |= {"transform": rasterio.Affine.from_gdal(*place), "crs": crs} if place else {}
    with rasterio.open(path, "w", **about, **layout) as file:
        file.write(values)
        for j, name in enumerate(names):
            file.set_band_description(j + 1, name)


def whole(source):
    return source.window(tuple(slice(0, n) for n in source.shape))[0]


@pytest.mark.parametrize("layout", [TILED, STRIPED], ids=["tiled", "striped"])
@pytest.mark.parametrize("dtype", ["u1", "u2", "f4"])
def test_windows_have_the_files_values(tmp_path, layout, dtype):
    values = np.random.default_rng(0).integers(0, 255, (5, 37, 50)).astype(dtype)
    write(tmp_path / "a.tif", values, **layout)
    source = open_source("image", str(tmp_path / "a.tif"), block_rows=300)
    assert source.features == tuple(f"band_{j}" for j in range(5))
    assert source.dtype == dtype
    assert source.grid.n_chunks > 2
    assert all(size % 16 == 0 for size in source.grid.chunks[0][:-1]) or layout is STRIPED
    for chunk in range(source.grid.n_chunks):
        found, _ = source.read(range(chunk, chunk + 1))
        region = values[:, *source.grid.region(chunk)]
        assert_array_equal(found, np.moveaxis(region, 0, -1).reshape(-1, 5))
    assert source.reading_nbytes > 37 * 50 * 5 * np.dtype(dtype).itemsize


def test_small_tiles_are_joined_and_strips_stay_whole(tmp_path):
    values = np.zeros((2, 700, 600), "u1")
    write(tmp_path / "a.tif", values, **TILED)
    write(tmp_path / "b.tif", values, **STRIPED)
    tiles = open_source("image", str(tmp_path / "a.tif"), block_rows=10_000).grid
    assert [sizes[0] for sizes in tiles.chunks] == [96, 112]
    strips = open_source("image", str(tmp_path / "b.tif"), block_rows=10_000).grid
    assert [sizes[0] for sizes in strips.chunks] == [20, 600]


def test_bands_by_their_descriptions(tmp_path):
    values = np.arange(3 * 4 * 5, dtype="u2").reshape(3, 4, 5)
    write(tmp_path / "a.tif", values, names=("B02", "B03", "B08"))
    source = open_source("image", str(tmp_path / "a.tif"), ["B08", "B02"])
    assert_array_equal(whole(source), values[[2, 0]].reshape(2, -1).T)
    with pytest.raises(DataError, match="B04"):
        open_source("image", str(tmp_path / "a.tif"), ["B04"])


def test_pixels_without_data_or_opacity_are_missing(tmp_path):
    values = np.random.default_rng(1).integers(1, 9, (4, 6, 7)).astype("u1")
    values[:, 2, 3] = 0
    write(tmp_path / "a.tif", values[:3], nodata=0)
    write(tmp_path / "b.tif", values, photometric="rgb", alpha="yes")
    for name in "ab":
        source = open_source("image", str(tmp_path / f"{name}.tif"))
        assert source.features == ("red", "green", "blue")
        assert source.stored_dtype == "u1"
        missing = np.isnan(whole(source)).reshape(6, 7, 3)
        assert missing[2, 3].all()
        assert missing.sum() == 3


def test_labels_and_place_are_those_of_the_same_raster_in_zarr(tmp_path):
    pixels, truth = raster(tmp_path)
    write(tmp_path / "a.tif", np.moveaxis(pixels, -1, 0), nodata=0, photometric="rgb", **TILED)
    folder = fitted(tmp_path, data__kind="image", data__path=str(tmp_path / "a.tif"), data__features=None)
    with rasterio.open(tmp_path / "a.tif") as given, rasterio.open(folder / "label_images/label.tif") as made:
        assert made.crs == given.crs
        assert made.transform == given.transform
    with xr.open_datatree(folder / "result.zarr", engine="zarr") as tree:
        result = tree["assignment"].to_dataset().load()
    assert_array_equal(result.label, truth)  # test_pictures shows the same of Zarr
    assert result.label.dims == ("y", "x")
    np.testing.assert_allclose(result.y[:2], [47.99, 47.97])
    assert rasterio.CRS.from_wkt(result.spatial_ref.attrs["crs_wkt"]).to_epsg() == 4326


def test_a_turned_raster_has_its_transform_and_no_axes(tmp_path):
    write(tmp_path / "a.tif", np.ones((1, 4, 5), "u1"), place=(1.0, 0.5, 0.1, 2.0, 0.2, -0.5))
    found = open_source("image", str(tmp_path / "a.tif")).reader.coordinates()
    assert set(found) == {"spatial_ref"}
    assert found["spatial_ref"].attrs["GeoTransform"] == "1.0 0.5 0.1 2.0 0.2 -0.5"


def test_a_damaged_tile_is_named(tmp_path):
    values = np.random.default_rng(2).integers(0, 255, (1, 64, 64)).astype("u1")
    write(tmp_path / "a.tif", values, **TILED)
    source = open_source("image", str(tmp_path / "a.tif"), block_rows=256)
    held = bytearray((tmp_path / "a.tif").read_bytes())
    held[-40:] = bytes(40)  # of the last tile
    (tmp_path / "a.tif").write_bytes(held)
    source.read(range(1))
    with pytest.raises(DamagedChunkError, match=r"a\.tif at row 48, column 48"):
        source.read(range(source.grid.n_chunks))


def test_a_folder_of_one_place_is_a_stack_with_its_place(tmp_path):
    values = np.random.default_rng(3).integers(0, 9, (3, 3, 40, 35)).astype("u2")
    (tmp_path / "s").mkdir()
    for i, page in enumerate(values):
        write(tmp_path / "s" / f"{i}.tif", page, nodata=0 if i else None, **TILED)
    source = open_source("image", str(tmp_path / "s"), block_rows=256)
    assert source.dims == ("image", "y", "x")
    assert source.grid.regular_sizes == (1, 16, 16)
    expected = np.moveaxis(values, 1, -1).astype("f4")
    expected[1:][expected[1:] == 0] = np.nan
    for chunk in range(source.grid.n_chunks):
        found, _ = source.read(range(chunk, chunk + 1))
        assert_array_equal(found, expected[source.grid.region(chunk)].reshape(-1, 3))
    asked = {"data__kind": "image", "data__path": str(tmp_path / "s"), "data__features": None}
    folder = fitted(tmp_path, **asked, data__missing="drop")
    with rasterio.open(folder / "label_images/label_2.tif") as made:
        assert made.transform.to_gdal() == PLACE
        assert made.crs.to_epsg() == 4326
    with xr.open_datatree(folder / "result.zarr", engine="zarr") as tree:
        result = tree["assignment"].to_dataset().load()
    assert result.label.dims == ("image", "y", "x")
    assert_array_equal(result.label == -1, np.isnan(expected).any(axis=-1))
    np.testing.assert_allclose(result.x[:2], [8.01, 8.03])


def test_what_is_no_stack_is_refused(tmp_path):
    page = np.ones((2, 8, 9), "u2")
    write(tmp_path / "a.tif", page)
    for other, said in (
        ({"place": (8.18, *PLACE[1:])}, r"b\.tif and .*same place: corner \(8\.18, 48\).*gdalbuildvrt"),
        ({"crs": "EPSG:3857"}, "same place.*WGS 84"),
        ({"names": ("red", "nir")}, "bands"),
        ({"values": page[:, :5]}, r"shape \(5, 9\)"),
        ({"values": page.astype("f4")}, "type float32"),
    ):
        write(tmp_path / "b.tif", **({"values": page} | other))
        with pytest.raises(DataError, match=said):
            open_source("image", str(tmp_path / "*.tif"))
    image = pytest.importorskip("PIL.Image")
    image.fromarray(page[0].astype("u1")).save(tmp_path / "b.tif")
    with pytest.raises(DataError, match=r"a\.tif is a GeoTIFF, and .*b\.tif is none"):
        open_source("image", str(tmp_path))


def test_behind_a_url_no_place_is_lost_in_silence(tmp_path):
    write(tmp_path / "a.tif", np.ones((1, 8, 9), "u1"))
    system = pytest.importorskip("fsspec").filesystem("memory")
    system.pipe("/scenes/a.tif", (tmp_path / "a.tif").read_bytes())
    try:
        for path in ("memory://scenes/a.tif", "memory://scenes/"):
            with pytest.raises(DataError, match=r"behind a URL.*without their place"):
                open_source("image", path)
    finally:
        system.rm("/scenes", recursive=True)


def test_without_rasterio_the_remedy_is_told(tmp_path, monkeypatch):
    write(tmp_path / "a.tif", np.ones((5, 4, 5), "u2"))
    monkeypatch.setitem(sys.modules, "rasterio", None)
    with pytest.raises(ConfigError, match=r"needs rasterio.*distem\[geotiff\]"):
        open_source("image", str(tmp_path / "a.tif"))
