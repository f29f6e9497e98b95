"""A real photograph, tiled and untiled: the same parameters, labels and smoothed probabilities."""

import numpy as np
import pytest
import zarr
from numpy.testing import assert_allclose, assert_array_equal
from runs import arrays, config, config_file
from sklearn.datasets import load_sample_image

from distem.config import load
from distem.pipelines import segment_image
from distem.run import run

pytest.importorskip("skimage.color")

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
