"""A prediction that fails leaves nothing, so the same command can run again."""

import numpy as np
import pytest
import xarray as xr

from distem.data.arrays import from_array
from distem.data.encoding import Encoding
from distem.data.transform import Transform
from distem.execution.serial import SerialExecutor
from distem.fitted import FittedModel
from distem.models.gaussian import Gaussian
from distem.models.mixture import Mixture, MixtureParams
from distem.predict import predict


class Failing(SerialExecutor):
    def open(self, *args, **kwargs):
        raise KeyboardInterrupt


def small():
    """Two components, and rows between them."""
    model = Mixture(Gaussian("diag"))
    theta = model.component.theta(np.array([[-1.0], [1.0]]), np.ones((2, 1)))
    params = MixtureParams(np.array([0.5, 0.5]), theta)
    source = from_array(np.linspace(-2, 2, 50)[:, None])
    return FittedModel(
        model, params, Transform(), source.features, {}, source.describe(), kind="gaussian_mixture"
    ), source


def test_a_failed_prediction_leaves_nothing_behind(tmp_path):
    fitted, source = small()
    out = tmp_path / "out.zarr"
    with pytest.raises(KeyboardInterrupt):
        predict(fitted, source, out, Failing())
    assert not out.exists()
    predict(fitted, source, out, SerialExecutor())
    assert out.exists()


@pytest.mark.parametrize(
    ("dtype", "error"), [("float32", 2.0**-25), ("float16", 2.0**-12), ("uint8", 1 / 508)]
)
def test_a_prediction_with_smaller_probabilities_has_the_same_labels(tmp_path, dtype, error):
    fitted, source = small()
    predict(fitted, source, tmp_path / "exact.zarr", SerialExecutor())
    predict(fitted, source, tmp_path / "small.zarr", SerialExecutor(), Encoding(dtype, "gzip", 6))
    with (
        xr.open_datatree(tmp_path / "exact.zarr", engine="zarr") as exact,
        xr.open_datatree(tmp_path / "small.zarr", engine="zarr") as packed,
    ):
        wanted, got = exact["assignment"], packed["assignment"]
        assert got.probability.encoding["dtype"] == dtype
        for name in ("label", "log_density", "uncertainty"):
            np.testing.assert_array_equal(got[name], wanted[name])
        assert float(abs(got.probability - wanted.probability).max()) <= error * (1 + 1e-6)
