"""Natural units: in them the information of the complete data is the identity."""

from __future__ import annotations

import numpy as np
import pytest
from strategies import COVARIANCES, random_params

from distem.models.base import MixtureStats
from distem.models.gaussian import Gaussian
from distem.models.mixture import Mixture
from distem.types import Rows


@pytest.mark.parametrize("covariance", COVARIANCES)
@pytest.mark.parametrize("d", [1, 3])
def test_natural_length_is_the_curvature_of_the_expected_complete_log_likelihood(covariance, d):
    """At its own maximum Q is stationary; its second differences are the squared lengths per row."""
    rng = np.random.default_rng(0)
    model = Mixture(Gaussian(covariance, reg_covar=0.0))
    params = random_params(model, 3, d, rng)
    x, _ = model.sample(params, 4000, rng)
    rows = Rows(x)
    best = model.m_step(model.e_step(rows, params), params)
    resp = model.responsibilities(rows, params)[1]

    def expected(moved) -> float:
        moments = model.component.accumulate(rows, resp, moved.theta)
        return model.expected_complete(MixtureStats(rows.n, rows.n, 0.0, moments), moved) / rows.n

    point = model.pack(best)
    for direction in rng.normal(size=(6, len(point))):
        small = 1e-3 * direction / np.linalg.norm(direction)
        q = [expected(model.unpack(point + s * small, best)) for s in (-1.0, 0.0, 1.0)]
        fall = -(q[0] - 2.0 * q[1] + q[2])
        (units,) = model.natural(small[None], best)
        assert units @ units == pytest.approx(fall, rel=1e-3)
