"""What a segmented raster looks like: label images, palette, place on Earth, the picture in the result."""

import sys

import numpy as np
import pytest
import xarray as xr
import zarr
from numpy.testing import assert_allclose, assert_array_equal
from PIL import Image
from runs import config, events, small_blocks
from test_run_bad_input import refused

from distem.data import label_images
from distem.data.open import open_source
from distem.data.rendering import Rendering
from distem.run import run

COLOURS = np.array([[200, 30, 40], [20, 160, 60], [240, 240, 230]])
WGS84 = (
    'GEOGCS["WGS 84",DATUM["WGS_1984",SPHEROID["WGS 84",6378137,298.257223563]],PRIMEM["Greenwich",0],'
    'UNIT["degree",0.0174532925199433],AUTHORITY["EPSG","4326"]]'
)
INIT = {
    "weights": [0.3, 0.3, 0.4],
    "means": COLOURS.tolist(),
    "covariances": [(40.0 * np.eye(3)).tolist()] * 3,
}
FIT = {"fit__init": INIT, "fit__max_passes": 3, "data__scale": "none", "data__missing": "drop"}


def scene(shape=(30, 41), hole=True):
    """Three patches of colour, and their numbers."""
    rng = np.random.default_rng(2)
    y, x = np.mgrid[: shape[0], : shape[1]]
    truth = (x > 12).astype(int) + (y + x > 45)
    pixels = np.clip(COLOURS[truth] + rng.normal(0, 4, (*shape, 3)), 1, 255).astype("u1")
    if hole:
        pixels[3:6, 4:9] = 0
        truth[3:6, 4:9] = -1
    return pixels, truth


def raster(folder, *, order=("band", "y", "x"), chunks=(3, 9, 11), frames=0, grid_mapping=True, dtype="u1"):
    """The scene as a raster with a place on Earth, its nodata 0."""
    pixels, truth = scene()
    values = np.moveaxis(pixels, -1, 0).astype(dtype)
    if frames:
        values = np.stack([values] * frames)
        order, chunks = ("time", *order), (1, *chunks)
    group = zarr.open_group(folder / "data.zarr", mode="w")
    about = {"nodata": 0} | ({"grid_mapping": "crs"} if grid_mapping else {})
    group.create_array("r", data=values, chunks=chunks, dimension_names=order, attributes=about)
    names = np.array(["red", "green", "blue"], np.dtypes.StringDType())
    group.create_array("band", data=names, dimension_names=("band",))
    for dim, start, step in (("y", 47.99, -0.02), ("x", 8.01, 0.02)):
        at = start + step * np.arange(truth.shape[dim == "x"])
        group.create_array(dim, data=at, dimension_names=(dim,), attributes={"units": "degrees"})
    crs = group.create_array("crs", data=np.array(0), dimension_names=(), attributes={"crs_wkt": WGS84})
    assert crs.ndim == 0
    return pixels, truth


def labels(image):
    """The labels of a PNG, -1 where one is missing."""
    found = np.asarray(image).astype(int)
    return np.where(found == 3, -1, found)


def fitted(folder, **changes):
    run(config(folder, **{**FIT, "output__images": ["png", "geotiff"], **changes}))
    return folder / "run"


def test_png_has_the_labels_in_their_mean_colours(tmp_path):
    _, truth = raster(tmp_path)
    image = Image.open(fitted(tmp_path) / "label_images" / "label.png")
    assert image.mode == "P"
    assert_array_equal(labels(image), truth)
    shown = np.asarray(image.convert("RGBA"))
    assert_allclose(shown[10, 5, :3], COLOURS[0], atol=2)
    assert shown[4, 5, 3] == 0  # no data is transparent
    assert shown[10, 5, 3] == 255


@pytest.mark.parametrize("grid_mapping", [True, False])
def test_geotiff_lies_where_the_raster_lies(tmp_path, grid_mapping):
    rasterio = pytest.importorskip("rasterio")
    _, truth = raster(tmp_path, grid_mapping=grid_mapping)
    with rasterio.open(fitted(tmp_path) / "label_images" / "label.tif") as file:
        found = file.read(1)
        assert_array_equal(np.where(found == file.nodata, -1, found.astype(int)), truth)
        assert file.crs.to_epsg() == 4326
        assert_allclose(file.transform.to_gdal(), (8.0, 0.02, 0, 48.0, 0, -0.02), atol=1e-12)
        assert_allclose(file.colormap(1)[1][:3], COLOURS[1], atol=2)
    with xr.open_datatree(tmp_path / "run" / "result.zarr", engine="zarr") as tree:
        label = tree["assignment"].dataset["label"]
        assert label.dims == ("y", "x")
        assert_allclose(label.y[:2], [47.99, 47.97])
        kept = tree["assignment"].dataset["crs"]
        assert kept.attrs["crs_wkt"] == WGS84
        assert (label.attrs | label.encoding)["grid_mapping"] == "crs"


def test_a_transform_that_is_written_down_is_taken(tmp_path):
    raster(tmp_path)
    held = zarr.open_array(tmp_path / "data.zarr" / "crs", mode="r+")
    held.update_attributes({"GeoTransform": "7.0 0.5 0.0 50.0 0.0 -0.25"})
    reader = open_source("zarr", str(tmp_path / "data.zarr"), ["r"]).reader
    place = label_images.place_of(reader, ("y", "x"))
    assert place.transform == (7.0, 0.5, 0.0, 50.0, 0.0, -0.25)


def test_a_stack_has_an_image_each(tmp_path):
    _, truth = raster(tmp_path, frames=2)
    folder = fitted(tmp_path, output__images=["png"]) / "label_images"
    assert sorted(path.name for path in folder.iterdir()) == ["label_0.png", "label_1.png"]
    found = np.asarray(Image.open(folder / "label_1.png"))
    assert_array_equal(labels(found), truth)


def test_columns_may_come_first(tmp_path):
    pixels, truth = scene(hole=False)
    group = zarr.open_group(tmp_path / "data.zarr", mode="w")
    group.create_array(
        "r", data=np.swapaxes(pixels, 0, 1), chunks=(11, 9, 3), dimension_names=("x", "y", "band")
    )
    found = np.asarray(Image.open(fitted(tmp_path, output__images=["png"]) / "label_images" / "label.png"))
    assert_array_equal(found, truth)


def test_the_picture_in_the_result(tmp_path):
    pixels, truth = raster(tmp_path)
    with small_blocks(100):
        folder = fitted(tmp_path, pipeline="segment_image", output__report=True)
    with xr.open_datatree(folder / "result.zarr", engine="zarr") as tree:
        kept = tree["picture"].dataset.load()
    assert_array_equal(kept["label"][0], truth)
    missing = (pixels == 0).all(axis=-1)
    assert_array_equal(kept["picture"][0], np.where(missing[..., None], 255, pixels))
    assert_allclose(kept["palette"], COLOURS, atol=2)
    page = (folder / "report.html").read_text(encoding="utf-8")
    for title in ("Picture", "Segments", "Boundaries", "Uncertainty", "Colours"):
        assert f"<title>{title}</title>" in page
    colour = "#" + "".join(f"{c:02x}" for c in kept["palette"].values[1])
    assert f"<td>{colour}</td>" in page


def test_a_large_png_shows_every_few_pixels(tmp_path, monkeypatch):
    _, truth = raster(tmp_path)
    monkeypatch.setattr(label_images, "PNG_PIXELS", 200)
    folder = fitted(tmp_path, output__images=["png"])
    found = np.asarray(Image.open(folder / "label_images" / "label.png"))
    assert_array_equal(labels(found), truth[::3, ::3])
    assert any("every 3th pixel" in str(e.get("message")) for e in events(folder))


def test_fresh_removes_the_images_and_nothing_else(tmp_path):
    raster(tmp_path)
    folder = fitted(tmp_path, output__images=["png"])
    (folder / "mine.txt").write_text("kept")
    run(config(tmp_path, **FIT), fresh=True)
    assert not (folder / "label_images").exists()
    assert (folder / "mine.txt").exists()


def test_deep_bands_are_stretched(tmp_path):
    raster(tmp_path, dtype="u2")
    source = open_source("zarr", str(tmp_path / "data.zarr"), ["r"])

    class Scan:
        mean, std = np.array([100.0, 100, 100]), np.array([50.0, 20, 10])
        minimum, maximum = np.array([10.0, 90, 0]), np.array([150.0, 200, 255])

    made = Rendering.of(source, Scan())
    assert_allclose(made.low, [10, 90, 80])
    assert_allclose(made.high, [150, 140, 120])


def test_refusals(tmp_path):
    raster(tmp_path)
    refused(
        tmp_path, 2, "output.images", "add label", output__images=["png"], output__variables=["uncertainty"]
    )
    refused(tmp_path, 2, "output.images", "255 labels", output__images=["png"], model__components=256)
    refused(tmp_path, 2, "output.images", 'did you mean "png"?', output__images=["pngs"])
    group = zarr.open_group(tmp_path / "data.zarr", mode="w")
    group.create_array("v", data=np.arange(50.0), chunks=(10,), dimension_names=("row",))
    refused(tmp_path, 2, "lie along row", "no picture", output__images=["png"])


def test_what_cannot_be_written_is_refused_at_once(tmp_path, monkeypatch):
    raster(tmp_path)
    monkeypatch.setitem(sys.modules, "rasterio", None)
    refused(
        tmp_path, 2, "geotiff needs rasterio", 'pip install "distem[geotiff]"', output__images=["geotiff"]
    )
