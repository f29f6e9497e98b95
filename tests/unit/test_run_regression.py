"""Runs of `kind: regression_mixture`: coefficients in the data's units, warm starts, predict, bad configs."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr
from click.testing import CliRunner
from runs import arrays, assert_same_bits, config, config_file, manifest

import distem
from distem.cli import main
from distem.errors import Interrupted
from distem.events import PassDone
from distem.run import run


def rows(seed: int = 0, n: int = 400) -> xr.Dataset:
    """Two curves far from the origin, 5 % of strays, and a column that has no part in it."""
    rng = np.random.default_rng(seed)
    x, label = rng.uniform(0, 10, n), rng.random(n) < 0.4
    y = np.where(label, 5 * x, 40 - (x - 5) ** 2) + 2 * rng.normal(size=n)
    y = np.where(rng.random(n) < 0.05, rng.uniform(-200, 200, n), y)
    columns = {"z": rng.normal(size=n), "y": y + 1000, "x": x + 100, "label": label.astype(float)}
    return xr.Dataset({name: ("row", column) for name, column in columns.items()})


MODEL = {
    "kind": "regression_mixture",
    "components": 2,
    "response": "y",
    "design": [1, "x", "x^2"],
    "outliers": True,
}


def made(folder, **changes):
    options = {"data__features": ["x", "y"], "model": MODEL, "fit": {"restarts": 2, "tolerance": 1e-10}}
    return config(folder, **(options | changes))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("regression")
    data = rows()
    data["y"].attrs |= {"units": "min", "long_name": "delay at arrival"}
    data["x"].attrs["units"] = "mi"
    for variable in data.variables.values():
        variable.encoding["chunks"] = (64,)
    data.to_zarr(folder / "data.zarr", mode="w", consolidated=False)
    run(made(folder, output={"path": "run", "report": True}))
    return folder


def test_coefficients_are_in_the_data_s_units_and_known_to_their_errors(folder):
    found = arrays(folder / "run")
    coefficients, errors = found["/model/coefficients"][:2, 0], found["/model/errors"][:2, 0]
    order = np.argsort(coefficients[:, 2])
    # 40 - (x - 105)^2 + 1000 and 5 (x - 100) + 1000
    right = np.array([[1040 - 105.0**2, 210.0, -1.0], [500.0, 5.0, 0.0]])
    assert (np.abs(coefficients[order] - right) <= 4 * errors[order]).all()
    assert np.isnan(found["/model/coefficients"][2]).all()  # outliers expect nothing
    page = (folder / "run" / "report.html").read_text(encoding="utf-8")
    for words in ("y along x", "component 1: from ", "2 (outliers)"):
        assert words in page
    for label in (">delay at arrival (min)<", ">x (mi)<", ">1 (min)<", ">x (min per mi)<"):
        assert label in page
    assert ">x^2 (min per mi^2)</th>" in page
    assert ">noise (min)</th>" in page
    np.testing.assert_allclose(np.sqrt(found["/model/noise"][:2]), 2.0, rtol=0.15)
    assert found["/model/weights"][2] == pytest.approx(0.05, abs=0.03)
    data = rows()
    label = found["/assignment/label"]
    close = np.abs(data["y"].values - 1020) < 60
    agree = (order[label[close].clip(0, 1)] == data["label"].values[close]).mean()
    assert max(agree, 1 - agree) > 0.85
    assert manifest(folder / "run")["status"] == "complete"
    assert "regression mixture" in (folder / "run" / "report.html").read_text(encoding="utf-8").lower()


def test_the_run_and_the_estimator_agree(folder):
    data = rows()
    X = np.stack([np.ones(400), data["x"].values, data["x"].values ** 2], axis=1)
    asked = distem.RegressionMixture(2, outliers=True, random_state=0, tol=1e-12)
    fitted = asked.fit(X[:, 1:], data["y"].values)
    likelihood = manifest(folder / "run")["fit"]["log_likelihood"]
    assert fitted.score(X[:, 1:], data["y"].values) == pytest.approx(likelihood, abs=1e-4)


def test_a_fitted_run_is_started_from_and_asked(folder):
    again = run(made(folder, fit={"init": str(folder / "run")}, output__path="again"))
    assert again.passes <= 4
    before = manifest(folder / "run")["fit"]["log_likelihood"]
    assert again.log_likelihood == pytest.approx(before, abs=1e-8)
    asked = ["predict", str(folder / "run"), str(folder / "data.zarr"), "-o", str(folder / "out.zarr")]
    result = CliRunner().invoke(main, asked)
    assert result.exit_code == 0, result.stderr
    with xr.open_datatree(folder / "out.zarr", engine="zarr") as tree:
        np.testing.assert_array_equal(
            tree["assignment/label"].values, arrays(folder / "run")["/assignment/label"]
        )


def test_interrupted_after_a_pass_gives_the_same_bits(folder, monkeypatch):
    monkeypatch.setattr("distem.stages.CHECKPOINT_SECONDS", 0.0)

    def observe(event):
        if isinstance(event, PassDone) and event.pass_ == 3:
            raise Interrupted("Enough.", "Run the same command to go on.")

    cfg = made(folder, output={"path": "stopped", "report": False})
    with pytest.raises(Interrupted):
        run(cfg, observers=(observe,))
    run(cfg)
    assert_same_bits(folder / "stopped", folder / "run")


@pytest.mark.parametrize("scale", ["none", "standard"])
def test_a_design_without_lower_terms_holds_about_zero(folder, scale):
    model = MODEL | {"design": ["1", "x^2"], "outliers": False, "components": 1}
    place = f"square-{scale}"
    run(made(folder, model=model, data__scale=scale, output__path=place))
    data = rows()
    X = np.stack([np.ones(400), data["x"].values ** 2], axis=1)
    right = np.linalg.lstsq(X, data["y"].values, rcond=None)[0]
    np.testing.assert_allclose(arrays(folder / place)["/model/coefficients"][0, 0], right, rtol=1e-6)


def test_full_noise_and_a_position(folder):
    model = {"kind": "regression_mixture", "components": [1, 2], "response": ["y", "z"], "noise": "full"}
    run(made(folder, model=model | {"position": ["x"]}, data__features=["z", "x", "y"], output__path="two"))
    found = arrays(folder / "two")
    k = len(found["/model/weights"])
    assert found["/model/noise"].shape == (k, 2, 2)
    assert found["/model/coefficients"].shape == (k, 2, 2)
    assert ((found["/model/positions"] > 99) & (found["/model/positions"] < 111)).all()


@pytest.mark.parametrize(
    ("words", "changes"),
    [
        ("must be a list", {"data__features": None}),
        ("names 'w', which is no feature", {"model": MODEL | {"response": "w"}}),
        ("names 'w', which is no predictor", {"model": MODEL | {"design": ["1", "w"]}}),
        ("comes twice", {"model": MODEL | {"design": ["x", "x^1"]}}),
        ("names a response", {"model": MODEL | {"position": ["y"]}}),
        ("mixes predictors and responses", {"data__scale": "whiten"}),
    ],
)
def test_bad_configs_are_refused_with_a_sentence(folder, words, changes):
    options = {"data__features": ["x", "y"], "model": MODEL, "output__path": "bad"}
    path = config_file(folder, "bad.yaml", **(options | changes))
    result = CliRunner().invoke(main, ["run", str(path), "--quiet"])
    assert result.exit_code == 2, result.output
    assert words in result.stderr, result.stderr
    assert not (folder / "bad").exists()
