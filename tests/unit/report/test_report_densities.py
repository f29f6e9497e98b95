"""Histograms: data that was rounded does not look like a comb."""

from types import SimpleNamespace

import numpy as np
import pytest
from numpy.testing import assert_allclose

from distem.report.densities import _histogram
from distem.report.frames import Frame


def histogram(values, low, high):
    run = SimpleNamespace(values=values[:, None], row_weights=np.ones(len(values)))
    view = Frame(0, "a", 0.0, 1.0, low, high, "", "a", whole_numbers=bool(np.all(values == np.rint(values))))
    return _histogram(run, view)


@pytest.mark.parametrize("step", [1.0, 0.25, 1.15078], ids=["whole", "quarters", "miles an hour"])
def test_rounded_values_make_no_comb(step):
    values = step * np.random.default_rng(0).integers(0, 80, 5000)  # every value is as frequent
    edges, density = histogram(values, -step, 80 * step)
    inner = density[1:-1]
    assert inner.max() < 1.6 * inner.min()
    assert_allclose((density * np.diff(edges)).sum(), 1.0)


def test_degrees_that_were_converted_and_back_make_no_comb():
    fahrenheit = np.random.default_rng(1).integers(10, 95, 5000).astype(float)
    values = np.round((fahrenheit - 32.0) / 1.8, 1) * 1.8 + 32.0
    _, density = histogram(values, 9.0, 96.0)
    assert density[1:-1].max() < 1.6 * density[1:-1].min()


def test_other_values_are_in_even_bins():
    rng = np.random.default_rng(2)
    places = np.unique(np.cumsum(rng.exponential(12.0, 200)))  # few, and unevenly spaced
    for values in (rng.normal(size=3000), rng.choice(places, 3000)):
        edges, _ = histogram(values, float(values.min()), float(values.max()))
        assert_allclose(np.diff(edges), np.diff(edges)[0])
