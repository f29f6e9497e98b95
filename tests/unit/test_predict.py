"""A prediction that fails leaves nothing, so the same command can run again."""

import numpy as np
import pytest

from distem.data.arrays import from_array
from distem.data.transform import Transform
from distem.execution.serial import SerialExecutor
from distem.fitted import FittedModel
from distem.models.gaussian import Gaussian
from distem.models.mixture import Mixture, MixtureParams
from distem.predict import predict


class Failing(SerialExecutor):
    def open(self, *args, **kwargs):
        raise KeyboardInterrupt


def test_a_failed_prediction_leaves_nothing_behind(tmp_path):
    model = Mixture(Gaussian("diag"))
    theta = model.component.theta(np.array([[-1.0], [1.0]]), np.ones((2, 1)))
    params = MixtureParams(np.array([0.5, 0.5]), theta)
    source = from_array(np.linspace(-2, 2, 50)[:, None])
    fitted = FittedModel(model, params, Transform(), source.features, {}, source.describe())
    out = tmp_path / "out.zarr"
    with pytest.raises(KeyboardInterrupt):
        predict(fitted, source, out, Failing())
    assert not out.exists()
    predict(fitted, source, out, SerialExecutor())
    assert out.exists()
