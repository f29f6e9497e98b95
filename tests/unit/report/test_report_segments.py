import re

import numpy as np
from numpy.testing import assert_array_equal

from distem.report.frames import Frame
from distem.report.kinds.hard_soft import _PANEL_SHAPE, _filling
from distem.report.kinds.segments import Layer, boundaries, image


def test_a_boundary_is_where_the_next_pixel_has_another_label():
    labels = np.array([[0, 0, 1], [0, 0, 1], [2, 2, -1]])
    assert_array_equal(boundaries(labels), [[0, 1, 0], [1, 1, 1], [0, 1, 0]])
    assert not boundaries(np.zeros((1, 1), int)).any()


def test_a_picture_and_its_uncertainty_are_drawn_alike():
    sizes = []
    for values in (np.zeros((40, 60, 3), np.uint8), np.full((40, 60), 0.3)):
        made = image(Layer(values, "a", "A", "", "An A."), 1).svg
        place = re.search(r'<image [^>]*width="([\d.]+)" height="([\d.]+)"', made)
        assert place is not None
        sizes.append([float(place[1]), float(place[2])])
    np.testing.assert_allclose(*sizes, atol=2.0)


def test_what_k_means_takes_for_equal_fills_a_panel():
    across = Frame(0, "a", 0.0, 1.0, 0.0, 10.0, "", "a", whole_numbers=False)
    up = Frame(1, "b", 0.0, 1.0, 0.0, 1.0, "", "b", whole_numbers=False)
    for aspect in (1.0, 4.0, 40.0):
        wide, high = _filling(across, up, aspect)
        shape = aspect * (high.high - high.low) / (wide.high - wide.low)
        np.testing.assert_allclose(shape, _PANEL_SHAPE)
        assert wide.low <= 0.0 <= 10.0 <= wide.high
        assert high.low <= 0.0 <= 1.0 <= high.high
