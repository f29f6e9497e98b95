"""The map of uncertainty: on the data's own grid, the right way up, and only where there is one."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from runs import blobs, config, dataset, store

from distem.report import places
from distem.report.colours import real
from distem.report.places import uncertainty_map
from distem.report.reading import read
from distem.report.svg import onto
from distem.run import run


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("map")
    raster = dataset(blobs(24 * 16).reshape(24, 16, 3), ("lat", "lon"))
    degrees = {"units": "degrees_north", "long_name": "latitude"}
    raster = raster.assign_coords(
        lat=("lat", np.linspace(50.0, 61.5, 24), degrees), lon=np.linspace(-3.0, 4.5, 16)
    )
    store(folder / "data.zarr", raster, (12, 16))
    run(config(folder, fit={"max_passes": 8, "kernels": "reference"}))
    return folder / "run"


def drawn(folder: Path) -> Axes:
    axes = Figure().add_subplot()
    with onto(axes), real():
        assert uncertainty_map(read(folder)) is not None
    return axes


def run_on(folder: Path, **coords: object) -> Path:
    """A run on a grid of 12 by 8, with these coordinates."""
    raster = dataset(blobs(12 * 8).reshape(12, 8, 3), ("lat", "lon")).assign_coords(coords)
    store(folder / "data.zarr", raster, (6, 8))
    run(config(folder, fit={"max_passes": 3, "kernels": "reference"}))
    return folder / "run"


def test_it_lies_on_the_coordinates_with_the_north_above(folder: Path) -> None:
    axes = drawn(folder)
    assert axes.get_ylabel() == "latitude (degrees_north)"
    assert axes.get_xlabel() == "lon"
    np.testing.assert_allclose(axes.get_xlim(), (-3.25, 4.75))
    bottom, top = axes.get_ylim()
    assert bottom < top
    (image,) = axes.get_images()
    with xr.open_zarr(folder / "result.zarr" / "assignment", consolidated=False) as held:
        np.testing.assert_allclose(np.asarray(image.get_array()), held["uncertainty"].values)
        left, right, down, up = image.get_extent()
    # the first row of the array is drawn at the first latitude
    assert (left, right) == pytest.approx((-3.25, 4.75))
    assert (up, down) == pytest.approx((49.75, 61.75))


def test_of_a_large_grid_the_middle_is_read(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(places, "MOST", 10)
    made = uncertainty_map(read(folder))
    assert made is not None
    assert "The middle of the grid, 10 pixels along a side." in made.note
    assert "A map of the uncertainty of 100 rows" in made.svg


def test_rows_that_are_no_grid_have_none(tmp_path: Path) -> None:
    store(tmp_path / "data.zarr", blobs(60))
    run(config(tmp_path, fit={"max_passes": 3, "kernels": "reference"}))
    assert uncertainty_map(read(tmp_path / "run")) is None


def test_uneven_coordinates_name_their_pixels_and_have_the_north_above(tmp_path: Path) -> None:
    lat = np.array([30.0, 31, 32, 33, 34, 36, 39, 43, 48, 54, 61, 69])
    axes = drawn(run_on(tmp_path, lat=("lat", lat, {"units": "degrees_north"}), lon=-np.arange(8.0)))
    assert axes.get_ylabel() == "lat (degrees_north)"
    bottom, top = axes.get_ylim()
    assert bottom < top
    at, said = axes.get_yticks(), [text.get_text() for text in axes.get_yticklabels()]
    assert said == [f"{lat[round(i)]:g}" for i in at]
    assert (said[0], said[-1]) == ("30", "69")
    (image,) = axes.get_images()
    assert tuple(image.get_extent()[2:]) == (11.5, -0.5)  # the first row at the first latitude


def test_coordinates_that_were_rounded_are_even(tmp_path: Path) -> None:
    lat, lon = np.float32(60.0) - 0.01 * np.arange(12), 170.0 + 1e-5 * np.arange(8)
    axes = drawn(run_on(tmp_path, lat=lat.astype(np.float32), lon=lon.astype(np.float64)))
    np.testing.assert_allclose(axes.get_ylim(), (59.885, 60.005), atol=1e-5)
    lon = np.float32(170.0) + np.float32(2e-4) * np.arange(8, dtype=np.float32)  # a step of 13 roundings
    (tmp_path / "coarse").mkdir()
    axes = drawn(run_on(tmp_path / "coarse", lat=lat, lon=lon.astype(np.float32)))
    np.testing.assert_allclose(axes.get_xlim(), (169.9999, 170.0015), atol=2e-5)


def test_pixels_without_coordinates_are_counted_from_the_first_of_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shuffled = np.random.default_rng(0).permutation(8)
    folder = run_on(tmp_path, lon=("lon", shuffled, {"units": "degrees_east"}))
    monkeypatch.setattr(places, "MOST", 4)
    axes = drawn(folder)
    assert (axes.get_ylabel(), axes.get_xlabel()) == ("lat (pixel)", "lon (pixel)")
    assert axes.get_ylim() == (7.5, 3.5)
    assert axes.get_xlim() == (1.5, 5.5)


def test_a_long_strip_is_drawn_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = run_on(tmp_path)
    monkeypatch.setattr(places, "_DRAWN", 1)
    (image,) = drawn(folder).get_images()
    assert np.asarray(image.get_array()).shape == (1, 1)


NAMES = np.array(["JFK", "EWR"], np.dtypes.StringDType())


@pytest.mark.parametrize("along", [NAMES, np.array(["2013-01-01", "2013-01-02"], "M8[ns]")])
def test_names_and_times_are_no_places(tmp_path: Path, along: object) -> None:
    series = dataset(blobs(2 * 30).reshape(2, 30, 3), ("airport", "hour")).assign_coords(airport=along)
    store(tmp_path / "data.zarr", series, (2, 30))
    run(config(tmp_path, fit={"max_passes": 2, "kernels": "reference"}))
    assert uncertainty_map(read(tmp_path / "run")) is None
