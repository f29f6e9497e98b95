"""A real photograph, tiled and untiled: the same parameters, labels and smoothed probabilities."""

import numpy as np
import pytest
import zarr
from numpy.testing import assert_allclose, assert_array_equal
from runs import arrays, config, config_file
from sklearn.datasets import load_sample_image
from sklearn.exceptions import ConvergenceWarning
from sklearn.mixture import GaussianMixture

from distem.config import load
from distem.pipelines import segment_image
from distem.run import run

rgb2lab = pytest.importorskip("skimage.color").rgb2lab

DERIVE = {
    "colour": "lab",
    "coordinates": 0.5,
    "texture": {"window": 5, "measures": ["deviation", "gradient"]},
}


def photograph(folder, chunks, image):
    folder.mkdir()
    group = zarr.open_group(folder / "data.zarr", mode="w")
    values = np.ascontiguousarray(np.moveaxis(image, -1, 0))
    group.create_array("rgb", data=values, chunks=chunks, dimension_names=("band", "y", "x"))


def segmented(folder, smoothing):
    settings = {
        "pipeline": "segment_image",
        "data__derive": DERIVE,
        "model__components": 4,
        "fit__init": START,
        "fit__max_passes": 8,
        "output__smoothing": smoothing,
        "output__path": "smooth" if smoothing else "plain",
    }
    run(config(folder, **settings))
    return arrays(folder / settings["output__path"])


START = {
    "weights": [0.25] * 4,
    # L, a, b, deviation, gradient, y, x
    "means": [
        [90, 0, -8, 0.3, 0.3, 60, 190],
        [40, 5, 10, 12, 12, 100, 120],
        [60, 10, 20, 10, 10, 130, 120],
        [20, 0, 2, 8, 8, 160, 150],
    ],
}


@pytest.mark.slow
def test_tiled_is_untiled(tmp_path):
    image = load_sample_image("china.jpg")[:200, :300]
    photograph(tmp_path / "whole", (3, 200, 300), image)
    photograph(tmp_path / "tiled", (1, 37, 41), image)
    one, other = (segmented(tmp_path / name, None) for name in ("whole", "tiled"))
    for name in ("weights", "means", "covariances"):
        assert_allclose(other[f"/model/{name}"], one[f"/model/{name}"], rtol=1e-10, atol=1e-10)
    two = np.sort(one["/assignment/probability"], axis=-1)
    sure = two[..., -1] - two[..., -2] > 1e-8
    assert sure.mean() > 0.999
    assert_array_equal(other["/assignment/label"][sure], one["/assignment/label"][sure])
    smoothing = {"beta": 1.0, "iterations": 5}
    one, other = (segmented(tmp_path / name, smoothing) for name in ("whole", "tiled"))
    assert_allclose(other["/assignment/probability"], one["/assignment/probability"], rtol=0, atol=1e-6)


def pixel_table(image, window=5):
    """L, a, b, standard deviation of L in a window, row and column; NaN in all where a pixel is missing."""
    lab = rgb2lab(image / 255.0)
    lab[(image == 0).any(axis=-1)] = np.nan
    wide = np.pad(lab[..., 0], window // 2, constant_values=np.nan)
    about = np.lib.stride_tricks.sliding_window_view(wide, (window, window))
    spread = np.nanstd(about.reshape(*lab.shape[:2], -1), axis=-1)
    at = np.moveaxis(np.indices(lab.shape[:2]), 0, -1)
    return np.concatenate([lab, spread[..., None], at], axis=-1).reshape(-1, 6)


def test_segments_are_those_of_scikit_learn_on_a_table_of_pixels(tmp_path):
    image = load_sample_image("flower.jpg")[150:190, 200:250].copy()
    image[10:14, 20:31] = 0
    photograph(tmp_path / "run", (1, 17, 23), image)
    group = zarr.open_group(tmp_path / "run" / "data.zarr")
    group["rgb"].attrs["_FillValue"] = 0
    table = pixel_table(image)
    kept = np.isfinite(table).all(axis=1)
    rows = table[kept]
    means, spread = rows[:: len(rows) // 3][:3], np.cov(rows.T)
    start = {"weights": [1 / 3] * 3, "means": means.tolist(), "covariances": [spread.tolist()] * 3}
    run(
        config(
            tmp_path / "run", pipeline="segment_image", data__missing="drop", fit__acceleration="none",
            data__derive={"colour": "lab", "texture": 5, "coordinates": 0.5}, model__reg_covar=0.0,
            fit__init=start, fit__max_passes=6, output__path="out",
        )
    )  # fmt: skip
    found = arrays(tmp_path / "run" / "out")
    precisions = np.stack([np.linalg.inv(spread)] * 3)
    peer = GaussianMixture(
        3, tol=0.0, reg_covar=0.0, max_iter=5, weights_init=[1 / 3] * 3, means_init=means,
        precisions_init=precisions,
    )  # fmt: skip
    with pytest.warns(ConvergenceWarning):
        peer.fit(rows)
    assert_allclose(found["/model/weights"], peer.weights_, rtol=1e-9)
    assert_allclose(found["/model/means"], peer.means_, rtol=1e-8, atol=1e-8)
    assert_allclose(found["/model/covariances"], peer.covariances_, rtol=1e-7, atol=1e-8)
    label = found["/assignment/label"].ravel()
    assert_array_equal(label[kept], peer.predict(rows))
    assert (label[~kept] == -1).all()


def test_photographs_come_from_scikit_learn(tmp_path):
    said = []
    folder = tmp_path / "data"
    for name in segment_image.PHOTOGRAPHS:
        path = config_file(tmp_path, data={"kind": "image", "path": f"data/{name}"})
        for _ in range(2):
            segment_image.prepare(load(path), said.append)
    assert sorted(p.name for p in folder.iterdir()) == ["china.jpg", "flower.jpg"]
    assert len(said) == 2
    assert "CC BY" in said[0]
    few = {
        "model__components": 2,
        "fit__max_passes": 2,
        "output__images": ["png"],
        "output__variables": ["label"],
    }
    run(config(tmp_path, pipeline="segment_image", data={"kind": "image", "path": "data"}, **few))
    assert sorted(p.name for p in (tmp_path / "run" / "label_images").iterdir()) == [
        "label_0.png",
        "label_1.png",
    ]
    assert arrays(tmp_path / "run")["/picture/label"].shape == (2, 427, 640)


def test_it_makes_nothing_else(tmp_path):
    path = config_file(tmp_path, data={"kind": "image", "path": "data/other.jpg"})
    segment_image.prepare(load(path), print)
    segment_image.prepare(load(config_file(tmp_path)), print)
    assert not (tmp_path / "data").exists()
