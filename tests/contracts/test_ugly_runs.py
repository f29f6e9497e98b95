"""Ugly but legal data on a run's way, from the scan to the assignment: never NaN, never a crash."""

from __future__ import annotations

import numpy as np
import pytest
from blocks import blocks_of
from strategies import COVARIANCES
from ugly import legal

from distem._random import generator
from distem.data.prepare import check, model_variance, remarks, transform_for
from distem.data.scan import ScanPass
from distem.data.transform import Transform
from distem.em.acceleration import accelerator
from distem.em.loop import Climb, climb
from distem.em.repair import Repair
from distem.em.selection import score
from distem.em.stopping import FirstOf, GainLeft, MaxPasses
from distem.execution.serial import SerialExecutor
from distem.fitted import FittedModel
from distem.models import seeding
from distem.models.gaussian import Gaussian
from distem.models.mixture import Mixture


def scanned(x: np.ndarray):
    scan = ScanPass(scatter=True)(Transform.identity("keep").rows(x, None), 0)
    names = tuple(f"x{j}" for j in range(x.shape[1]))
    check(scan, names, "error")
    return scan, names


@pytest.mark.parametrize("scale", ["none", "standard", "whiten"])
@pytest.mark.parametrize("covariance", COVARIANCES)
@pytest.mark.parametrize("what", legal())
def test_a_run_has_an_answer(what, covariance, scale):
    x, k = legal()[what]
    if x.dtype == np.longdouble or x.dtype.kind == "b":  # not as a store would hand them over
        x = x.astype(np.float64)
    scan, names = scanned(x)
    for precision, init, acceleration in (
        ("float64", "kmeans||", "anderson"),
        ("float32", "kmeans||", "none"),
        ("float32", "random", "squarem"),
    ):
        transform = transform_for(scan, scale, precision)
        model = Mixture(Gaussian(covariance, 1e-6, data_variance=model_variance(scan, transform)))
        rows = transform.rows(x, None)
        with SerialExecutor().open(blocks_of(rows.values, (0, 1, len(x) - 1)), resident=True) as opened:
            sample = opened.map_reduce(seeding.DrawSample(1000, len(x), 0))
            centres = None
            if init == "kmeans||":
                centres = seeding.kmeans_parallel(opened, {(k, 0): k}, sample, 0)[k, 0]
            start = seeding.start(init, model, k, sample, generator(0, "start"), centres)
            stop = FirstOf((GainLeft(1e-6), MaxPasses(15)))
            repair = Repair(sample.values, 0, 3 * k)
            fit = Climb("fit", model, start, stop, repair, accelerator(acceleration))
            climb([fit], opened)
        done = FittedModel(model, fit.fit.params, transform, names, {}, {}, kind="gaussian_mixture")
        found, judged = done.assign(rows), score(model, fit.fit, transform.log_jacobian)
        assert 1 <= done.k <= k
        for value in (done.weights, done.means, found.log_density, found.probability, found.uncertainty):
            assert np.isfinite(value).all()
        assert np.isfinite([judged.bic, judged.aic, judged.icl]).all()
        np.testing.assert_allclose(found.probability.sum(axis=1), 1.0)
        if what not in ("1e300", "the largest floats"):  # whose squares no float64 holds
            assert np.isfinite(done.covariances).all()


@pytest.mark.parametrize(
    ("what", "sentence"),
    [
        ("a constant column", "constant"),
        ("columns that are copies", "copy of"),
        ("copies in other units", "copy of"),
    ],
)
def test_what_is_worth_a_warning_is_said(what, sentence):
    x, _ = legal()[what]
    scan, names = scanned(x)
    assert any(sentence in remark for remark in remarks(scan, names))


def test_a_far_outlier_among_many_rows_is_said():
    x = np.random.default_rng(0).normal(size=(300, 2))
    x[5, 1] = 1e12
    scan, names = scanned(x)
    assert any("outlier" in remark for remark in remarks(scan, names))
