import numpy as np
from numpy.testing import assert_array_equal

from distem.report.kinds.segments import boundaries


def test_a_boundary_is_where_the_next_pixel_has_another_label():
    labels = np.array([[0, 0, 1], [0, 0, 1], [2, 2, -1]])
    assert_array_equal(boundaries(labels), [[0, 1, 0], [1, 1, 1], [0, 1, 0]])
    assert not boundaries(np.zeros((1, 1), int)).any()
