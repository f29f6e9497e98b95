"""Smoothing: the mean-field equations, no seam whatever the chunks, and what it does to a noisy picture."""

import numpy as np
import pytest
import zarr
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal
from runs import arrays, config, small_blocks
from strategies import examples
from test_run_bad_input import refused

from distem.kernels.potts import mean_field
from distem.run import run
from distem.smoothing import Smoothing


def by_definition(resp, there, beta, iterations):
    """Pixel by pixel, for shape (k, y, x)."""
    q = resp
    for _ in range(iterations):
        new = np.zeros_like(q)
        for i in range(q.shape[1]):
            for j in range(q.shape[2]):
                if not there[i, j]:
                    continue
                pull = np.zeros(len(q))
                for a, b in ((i - 1, j), (i + 1, j), (i, j - 1), (i, j + 1)):
                    if 0 <= a < q.shape[1] and 0 <= b < q.shape[2]:
                        pull += q[:, a, b]
                weight = resp[:, i, j] * np.exp(beta * pull)
                new[:, i, j] = weight / weight.sum()
        q = new
    return q


def responsibilities(shape, k, rng, missing=0.2):
    resp = rng.dirichlet(np.full(k, 0.5), size=shape)
    there = rng.random(shape) >= missing
    return resp * there[..., None], there


@pytest.mark.parametrize("iterations", [1, 4])
@pytest.mark.parametrize("beta", [0.3, 2.0])
def test_the_equations(beta, iterations):
    resp, there = responsibilities((7, 9), 3, np.random.default_rng(0))
    pictures = np.moveaxis(resp, -1, 0)
    found = mean_field(pictures, there, beta, iterations)
    assert_allclose(found, by_definition(pictures, there, beta, iterations), rtol=1e-12, atol=1e-14)
    assert_allclose(found.sum(axis=0), there)


def test_certain_pixels_stay_and_nothing_becomes_nan():
    resp = np.zeros((2, 5, 5))
    resp[0], resp[0, 2, 2], resp[1, 2, 2] = 1.0, 0.0, 1.0
    found = mean_field(resp, None, 5.0, 20)
    assert_allclose(found, resp, atol=1e-200)  # e^690 against e^20


@given(
    data=st.data(),
    shape=st.tuples(st.integers(1, 18), st.integers(1, 18)),
    iterations=st.integers(1, 6),
    k=st.integers(1, 9),
)
@examples(40)
def test_any_part_with_its_halo_has_the_bits_of_the_whole(data, shape, iterations, k):
    rng = np.random.default_rng(shape[0])
    resp, there = responsibilities(shape, k, rng)
    smoothing = Smoothing(data.draw(st.sampled_from([0.5, 3.0])), iterations)
    whole = smoothing(resp, there, (slice(0, shape[0]), slice(0, shape[1])))
    cut = []
    for length in shape:
        start = data.draw(st.integers(0, length - 1))
        cut.append(slice(start, data.draw(st.integers(start + 1, length))))
    wide = tuple(
        slice(max(0, s.start - iterations), min(n, s.stop + iterations))
        for s, n in zip(cut, shape, strict=True)
    )
    inner = tuple(slice(c.start - w.start, c.stop - w.start) for c, w in zip(cut, wide, strict=True))
    part = smoothing(resp[wide], there[wide], inner)
    assert part.tobytes() == np.ascontiguousarray(whole[tuple(cut)]).tobytes()
    # and one pixel less of it is not enough, where there is more
    if iterations > 1 and wide[0].start > 0 and k > 1 and there.all():
        less = (slice(wide[0].start + 1, wide[0].stop), wide[1])
        other = smoothing(resp[less], there[less], (slice(inner[0].start - 1, inner[0].stop - 1), inner[1]))
        assert not np.array_equal(other, part)


def noisy(folder, chunks, order=("y", "x"), missing=True, frames=0):
    """Two halves of a picture in noise, written on some chunks."""
    rng = np.random.default_rng(5)
    truth = (np.arange(40)[:, None] + np.arange(52) > 46).astype(int)
    shape = (frames, *truth.shape) if frames else truth.shape
    values = truth + rng.normal(0, 0.7, shape)
    if missing:
        values[..., 5:9, 7:20] = np.nan
    dims = ("time", *order) if frames else order
    values = values if order == ("y", "x") else np.swapaxes(values, -1, -2)
    group = zarr.open_group(folder / "data.zarr", mode="w")
    group.create_array("v", data=values, chunks=chunks, dimension_names=dims, fill_value=np.nan)
    return truth


INIT = {"weights": [0.5, 0.5], "means": [[0.0], [1.0]], "covariances": [[[0.5]], [[0.5]]]}


def fit(folder, **changes):
    settings = {
        "data__missing": "drop",
        "data__scale": "none",
        "model__components": 2,
        "fit__init": INIT,
        "fit__max_passes": 3,
        **changes,
    }
    run(config(folder, **settings))
    return arrays(folder / "run")


@pytest.mark.parametrize(
    ("chunks", "shape", "order", "frames"),
    [
        ((7, 11), (40, 52), ("y", "x"), 0),
        ((9, 6), (52, 40), ("x", "y"), 0),
        ((1, 16, 8), (2, 40, 52), ("y", "x"), 2),
    ],
)
def test_a_run_on_chunks_is_a_run_on_one(tmp_path, chunks, shape, order, frames):
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    whole.mkdir()
    cut.mkdir()
    noisy(whole, shape, order, frames=frames)
    noisy(cut, chunks, order, frames=frames)
    smoothing = {"output__smoothing": {"beta": 1.0, "iterations": 4}}
    one = fit(whole, **smoothing)
    with small_blocks(120):
        other = fit(cut, **smoothing)
    assert_allclose(other["/assignment/probability"], one["/assignment/probability"], atol=1e-6, rtol=0)
    sure = one["/assignment/uncertainty"] < 0.5 - 1e-8
    assert_array_equal(other["/assignment/label"][sure], one["/assignment/label"][sure])
    assert_array_equal(other["/assignment/label"] == -1, one["/assignment/label"] == -1)
    assert_allclose(other["/model/means"], one["/model/means"], rtol=1e-10)


def test_it_takes_the_noise_away(tmp_path):
    wrong = []
    for name, smoothing in {"plain": None, "smooth": {"beta": 1.0}}.items():
        (tmp_path / name).mkdir()
        truth = noisy(tmp_path / name, (16, 16), missing=False)
        found = fit(tmp_path / name, output__smoothing=smoothing)
        wrong.append(np.mean(found["/assignment/label"] != truth))
    assert wrong[0] > 0.15
    assert wrong[1] < 0.05


def test_refusals(tmp_path):
    zarr.open_group(tmp_path / "data.zarr", mode="w").create_array(
        "v", data=np.arange(50.0), chunks=(10,), dimension_names=("row",)
    )
    refused(tmp_path, 2, "lie along row", "no picture", output__smoothing={}, data__kind="zarr")
    refused(tmp_path, 2, "output.smoothing", "kmeans", output__smoothing={}, model__kind="kmeans")
    refused(tmp_path, 2, "output.smoothing.beta", "more than 0", output__smoothing={"beta": 0})
    refused(tmp_path, 2, 'did you mean "beta"?', output__smoothing={"betta": 1})
