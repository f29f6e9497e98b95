"""Motion maths: looking between pixels, pyramids in tiles, layers of made pairs."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scenes import PAIR, pictures, seen
from strategies import examples

from distem.execution.serial import SerialExecutor
from distem.execution.threads import ThreadsExecutor
from distem.kernels import warping_compiled, warping_reference
from distem.motion.assign import AssignLayers
from distem.motion.designs import DESIGNS, Geometry, displacement, in_pixels, undone
from distem.motion.evidence import grown, reach_of, strength, taps_of
from distem.motion.frames import ArrayFrames, Despeckled, level_shape, plain, smoothed, tiles, top_level
from distem.motion.layers import Estimator, Motion
from distem.motion.tiles import BrightnessTile


@examples(40)
@given(st.integers(0, 2**32))
def test_compiled_looks_are_the_reference_ones(seed):
    rng = np.random.default_rng(seed)
    image = rng.normal(size=rng.integers(4, 30, size=2))
    image[rng.random(image.shape) < 0.02] = np.nan
    y, x = rng.uniform(-2, 32, size=(2, 200))
    for one, two in zip(warping_compiled.look(image, y, x), warping_reference.look(image, y, x), strict=True):
        np.testing.assert_allclose(one, two, rtol=1e-12, atol=1e-12)


def test_a_look_goes_through_the_pixels_and_its_slopes_are_its_own():
    rng = np.random.default_rng(0)
    image = rng.normal(size=(12, 15))
    y, x = rng.uniform(2, 8, size=(2, 50))
    there = warping_reference.look(image, np.arange(1.0, 9), np.arange(1.0, 9))[0]
    np.testing.assert_allclose(there, image[np.arange(1, 9), np.arange(1, 9)], atol=1e-12)
    step = 1e-6
    value, along_y, along_x = warping_reference.look(image, y, x)
    np.testing.assert_allclose(
        (warping_reference.look(image, y + step, x)[0] - value) / step, along_y, atol=1e-4
    )
    np.testing.assert_allclose(
        (warping_reference.look(image, y, x + step)[0] - value) / step, along_x, atol=1e-4
    )
    # a parabola is seen exactly
    grid = np.arange(20.0)
    curve = np.add.outer(0.5 * grid**2 - grid, 2.0 * grid)
    found = warping_reference.look(curve, np.array([7.3]), np.array([4.6]))
    np.testing.assert_allclose([v[0] for v in found], [0.5 * 7.3**2 - 7.3 + 9.2, 6.3, 2.0], rtol=1e-12)


@examples(40)
@given(st.integers(0, 2**32))
def test_compiled_pictures_lose_the_specks_of_the_reference(seed):
    rng = np.random.default_rng(seed)
    image = rng.integers(0, 5, size=rng.integers(3, 20, size=2)) / 5.0
    image[rng.random(image.shape) < 0.05] = np.nan
    np.testing.assert_array_equal(warping_compiled.despeckle(image), warping_reference.despeckle(image))


def test_specks_go_and_lines_stay():
    y, x = np.mgrid[:30, :40] / 40.0
    picture = 0.3 * y + 0.2 * x
    picture[12] = 0.9  # a line of one pixel
    picture[13:, 20] = 0.0  # and one that ends at it
    spoilt = picture.copy()
    spots = [(3, 3), (5, 30), (5, 31), (20, 10), (27, 35)]  # two of them side by side
    for spot in spots:
        spoilt[spot] = 0.8
    frames = ArrayFrames(spoilt[None])
    [window] = tiles(frames.shape, 100)
    clean = Despeckled(frames).read(0, window)
    away = np.zeros(picture.shape, dtype=bool)
    away[tuple(np.transpose(spots))] = True
    np.testing.assert_array_equal(clean[~away], picture[~away])
    assert np.abs(clean - picture).max() < 0.01
    for part in tiles(frames.shape, 7):
        np.testing.assert_array_equal(Despeckled(frames).read(0, part), clean[part])


@pytest.mark.parametrize("design", DESIGNS)
def test_motions_in_pixels_move_pixels_alike(design):
    rng = np.random.default_rng(1)
    geometry = Geometry(37, 52)
    motion = rng.normal(size=(2, len(DESIGNS[design])))
    y, x = rng.uniform(0, 50, size=(2, 10))
    plain_motion = in_pixels(motion, design, geometry)
    one = displacement(motion, design, *geometry.coordinates(y, x))
    two = displacement(plain_motion, design, y, x)
    np.testing.assert_allclose(two, one, atol=1e-10)


def test_any_window_of_a_level_has_the_pixels_of_the_whole():
    rng = np.random.default_rng(2)
    frames = ArrayFrames(rng.normal(size=(1, 61, 83)))
    for level in range(3):
        shape = level_shape(frames.shape, level)
        whole = smoothed(frames, 0, level, (slice(0, shape[0]), slice(0, shape[1])))
        assert whole.shape == shape
        for window in tiles(shape, 7):
            np.testing.assert_array_equal(smoothed(frames, 0, level, window), whole[window])
    constant = ArrayFrames(np.ones((1, 61, 83)))
    np.testing.assert_allclose(plain(constant, 0, 2, (slice(0, 16), slice(0, 21))), 1.0)
    assert top_level((61, 83), 10) == 1
    assert top_level((600, 800), 3) == 3


def test_tiles_have_the_rows_of_the_whole_and_know_what_is_missing():
    shots, _ = pictures()
    shots[0, 20, 30] = np.nan
    shots[1, 60, 70] = np.nan
    frames = ArrayFrames(shots)
    motions = PAIR + np.array([0.0, 0.3, -0.2])
    for level in range(2):
        shape = level_shape(frames.shape, level)
        [window] = tiles(shape, 1000)
        whole = BrightnessTile(0, frames, 0, level, window, "affine", motions).load()
        full = np.full((shape[0] * shape[1], whole.d), np.nan)
        full[whole.kept] = whole.values
        full = full.reshape(*shape, -1)
        # a missing pixel is missing itself; about it, and on levels above, the others speak
        assert np.isnan(full[20, 30, 0]) if level == 0 else np.isfinite(full[10, 15, 0])
        assert np.isfinite(full[20, 31, 0])
        for window in tiles(shape, 29):
            part = BrightnessTile(0, frames, 0, level, window, "affine", motions).load()
            wanted = full[window].reshape(-1, whole.d)
            there = np.isfinite(wanted[:, 0])
            np.testing.assert_array_equal(part.values, wanted[there])
            assert part.kept is None or (part.kept == there).all()


@pytest.fixture(scope="module")
def found():
    shots, masks = pictures(frames=3)
    frames = ArrayFrames(shots)
    with SerialExecutor() as executor:
        estimator = Estimator(Motion(2, tile=4096, restarts=2), frames, executor)
        first = estimator.fit(0, None)
        second = estimator.fit(1, (first.motions, first.params))
    return frames, masks, first, second


def test_layers_of_a_made_pair_are_found(found):
    _, _, first, second = found
    assert first.converged
    assert first.params.weights[0] > first.params.weights[1] > first.params.weights[2]
    for layers in (first, second):  # component i stays component i
        np.testing.assert_allclose(layers.motions, PAIR, atol=0.05)
    assert (np.abs(first.motions - PAIR) <= 3 * first.errors).all()
    assert second.passes < first.passes


@pytest.mark.parametrize("noise", [0.003, 0.02])
def test_a_tenth_of_stray_pixels_and_noise_leave_the_layers_where_they_are(noise):
    shots, masks = pictures(seed=1, noise=noise, stray=0.1)
    frames = ArrayFrames(shots)
    with SerialExecutor() as executor:
        layers = Estimator(Motion(2, tile=4096, restarts=2), frames, executor).fit(0, None)
    assert layers.converged
    assert (np.abs(layers.motions - PAIR) <= 3 * layers.errors).all()
    label, _ = labels(frames, layers, 4096, 3.0)
    judged = seen(masks)[0]
    assert (label == masks[0])[judged].mean() >= 0.98


def test_missing_pixels_are_left_out_and_not_spread():
    shots, masks = pictures(seed=1)
    shots[np.random.default_rng(4).random(shots.shape) < 0.03] = np.nan
    frames = ArrayFrames(shots)
    with SerialExecutor() as executor:
        estimator = Estimator(Motion(2, tile=4096, restarts=1), frames, executor)
        layers = estimator.fit(0, None)
        assert (
            estimator.comparable(0) > 0.9 * level_shape(frames.shape, 1)[0] * level_shape(frames.shape, 1)[1]
        )
    np.testing.assert_allclose(layers.motions, PAIR, atol=0.15)
    label, _ = labels(frames, layers, 4096, 3.0)
    assert (label[np.isnan(shots[0])] == -1).all()
    judged = seen(masks)[0] & ~np.isnan(shots[0])
    assert (label == masks[0])[judged].mean() >= 0.98


def test_motions_lead_back_to_where_they_came_from():
    geometry = Geometry(60, 80)
    y, x = np.random.default_rng(5).uniform(0, 60, size=(2, 50))
    motion = PAIR[1]
    dy, dx = displacement(motion, "affine", *geometry.coordinates(y, x))
    back = undone(motion, "affine", geometry, *geometry.coordinates(y + dy, x + dx))
    np.testing.assert_allclose(back, [-dy, -dx], atol=1e-9)
    wild = undone(1e3 * motion, "affine", geometry, *geometry.coordinates(y, x))
    assert np.isfinite(wild).all()


def test_tiled_and_untiled_are_equal(found):
    frames, _, first, _ = found
    with ThreadsExecutor(2) as executor:
        tiled = Estimator(Motion(2, tile=40, restarts=2), frames, executor).fit(0, None)
    np.testing.assert_allclose(tiled.motions, first.motions, rtol=0, atol=1e-10)
    np.testing.assert_allclose(tiled.params.weights, first.params.weights, rtol=0, atol=1e-10)
    assert tiled.log_likelihood == pytest.approx(first.log_likelihood, abs=1e-10)


def labels(frames, layers, size, width):
    with SerialExecutor() as executor:
        estimator = Estimator(Motion(2, tile=size), frames, executor)
        reach = reach_of(width)
        blocks = tuple(
            grown(i, tile, frames.shape, reach)
            for i, tile in enumerate(estimator.blocks(0, 0, layers.motions))
        )
        run = AssignLayers(estimator.model(), (layers.params,), (0.0,), blocks, frames.shape, width, None)
    label = np.full(frames.shape, -1)
    share = np.full((*frames.shape, 3), np.nan)
    for block in blocks:
        inside, resp, _ = run.answers(block.load(), block)
        own = tuple(w.stop - w.start for w in block.window)
        part, shares = np.full(inside.shape, -1), np.full((*inside.shape, 3), np.nan)
        part[inside], shares[inside] = resp.argmax(axis=1), resp
        label[block.window], share[block.window] = part.reshape(own), shares.reshape(*own, 3)
    return label, share


@pytest.mark.parametrize("width", [0.0, 2.0])
def test_labels_have_no_seams_and_are_right(found, width):
    frames, masks, first, _ = found
    whole, shares = labels(frames, first, 4096, width)
    tiled, tiled_shares = labels(frames, first, 31, width)
    np.testing.assert_allclose(tiled_shares, shares, rtol=0, atol=1e-10)
    np.testing.assert_array_equal(tiled, whole)
    judged = seen(masks)[0]
    assert (whole == masks[0])[judged].mean() > (0.98 if width else 0.9)
    assert (whole == masks[0]).mean() > (0.98 if width else 0.9)  # those too that the next frame has not


def test_a_window_counts_as_the_pixels_in_it():
    assert strength(taps_of(0.0), alike=False) == 1.0
    assert strength(np.full(3, 1 / 3), alike=False) == pytest.approx(9.0)
    assert strength(taps_of(3.0), alike=True) < strength(taps_of(3.0), alike=False)
