"""Runs of hidden Markov models: sequences said in three ways, chunks, gaps, resumed, asked of new data."""

import json
from copy import deepcopy

import numpy as np
import pytest
import xarray as xr
from click.testing import CliRunner
from runs import arrays, assert_same_bits, config, config_file, manifest, small_blocks, store

from distem import GMMHMM, GaussianHMM, PoissonHMM, stages
from distem.cli import main
from distem.errors import ConfigError, DataError, Interrupted
from distem.events import PassDone
from distem.fitted import FittedModel
from distem.run import run

N = 420
SETTINGS = {
    "model": {"kind": "hidden_markov", "states": 3},
    "data__missing": "marginalise",
    "fit": {"max_passes": 8, "tolerance": 1e-12, "init": "kmeans"},
}
ABC = {"data__features": ["a", "b", "c"]}
FIRSTS = (0, 150, 151, 300)


def values(seed=0):
    rng = np.random.default_rng(seed)
    level = np.repeat(rng.integers(0, 3, N // 10), 10)[:, None]
    x = np.array([[0.0, 0.0, 1.0], [3.0, -2.0, 1.0], [-3.0, 1.0, 4.0]])[level[:, 0]] + rng.normal(size=(N, 3))
    x[40:60] = np.nan
    x[200, 1] = np.nan
    return x


def dataset(x, dims=("row",), **more):
    names = {name: (dims, x[..., j]) for j, name in enumerate("abc")}
    return xr.Dataset({**names, **more})


@pytest.fixture
def data(tmp_path):
    """One store that says its sequences by ids and by offsets."""
    ids = np.repeat([7, 9, 7, 2], np.diff([*FIRSTS, N]))
    made = dataset(
        values(), station=("row", ids), offsets=("edge", np.array([*FIRSTS, N])),
        bad=("edge", np.array([0, 150, 150, 300, N])), short=("edge", np.array([0, 10, 20, 30, 40])),
        stray=("row", np.where(np.arange(N) == 5, 10**9, 1)), drift=("row", np.linspace(0.5, 9.0, N)),
    )  # fmt: skip
    store(tmp_path / "data.zarr", made, 64)
    with small_blocks():
        yield tmp_path


def made(folder, **changes):
    return config(folder, **(deepcopy(SETTINGS) | ABC | changes))


def test_ids_and_offsets_say_the_same_and_the_estimator_agrees(data):
    run(made(data, model__sequence="station", output__path="ids", model__score_sequences=True))
    run(made(data, model__sequence="offsets", output__path="offsets"))
    found, other = arrays(data / "ids"), arrays(data / "offsets")
    for name in ("path", "label", "probability", "log_density"):
        np.testing.assert_array_equal(found[f"/assignment/{name}"], other[f"/assignment/{name}"])
    lengths = np.diff([*FIRSTS, N])
    model = GaussianHMM(3, "full", random_state=0)
    model.startprob_, model.transmat_ = found["/model/start"], found["/model/transition"]
    model.means_, model.covars_ = found["/model/means"], found["/model/covariances"]
    x = values()
    np.testing.assert_array_equal(found["/assignment/path"], model.predict(x, lengths))
    np.testing.assert_allclose(
        found["/assignment/probability"], model.predict_proba(x, lengths), rtol=0, atol=1e-8
    )
    np.testing.assert_allclose(
        found["/sequences/log_likelihood"], model.score_sequences(x, lengths), rtol=1e-9
    )
    np.testing.assert_array_equal(found["/sequences/rows"], lengths)
    np.testing.assert_array_equal(found["/sequences/first_row"], FIRSTS)
    assert found["/assignment/log_density"].sum() == pytest.approx(model.score(x, lengths), rel=1e-9)


@pytest.mark.parametrize("chunks", [(1, 50), (2, 50), (3, 140), (1, 140)], ids=str)
def test_a_dimension_of_sequences_in_any_chunks(tmp_path, chunks):
    x = values().reshape(3, 140, 3)
    whole = GaussianHMM(3, "full")
    store(tmp_path / "data.zarr", dataset(x, ("place", "hour"), hour=("hour", np.arange(140))), chunks)
    with small_blocks():
        run(made(tmp_path, model__sequence="place"))
    found = arrays(tmp_path / "run")
    whole.startprob_, whole.transmat_ = found["/model/start"], found["/model/transition"]
    whole.means_, whole.covars_ = found["/model/means"], found["/model/covariances"]
    assert found["/assignment/path"].shape == (3, 140)
    np.testing.assert_array_equal(found["/assignment/path"], whole.predict(x))
    np.testing.assert_allclose(found["/assignment/probability"], whole.predict_proba(x), rtol=0, atol=1e-8)


def test_a_table_says_its_sequences_by_a_column(tmp_path):
    x = values()
    ids = np.repeat([7, 9, 7, 2], np.diff([*FIRSTS, N]))
    rows = ["a,b,c,station", *(f"{a},{b},{c},{i}" for (a, b, c), i in zip(x, ids, strict=True))]
    (tmp_path / "data.csv").write_text("\n".join(rows).replace("nan", "") + "\n")
    with small_blocks():
        changes = {"data__kind": "csv", "data__path": "data.csv", "model__score_sequences": True}
        run(made(tmp_path, model__sequence="station", **changes))
    found = arrays(tmp_path / "run")
    np.testing.assert_array_equal(found["/sequences/first_row"], FIRSTS)
    model = GaussianHMM(3, "full")
    model.startprob_, model.transmat_ = found["/model/start"], found["/model/transition"]
    model.means_, model.covars_ = found["/model/means"], found["/model/covariances"]
    np.testing.assert_array_equal(found["/assignment/path"], model.predict(x, np.diff([*FIRSTS, N])))


@pytest.mark.parametrize("place", ["threads", "serial"])
def test_interrupted_and_resumed_and_elsewhere_the_bits_are_the_same(data, place, monkeypatch):
    monkeypatch.setattr(stages, "CHECKPOINT_SECONDS", 0.0)
    options = {"model__sequence": "offsets", "fit__acceleration": "anderson"}
    run(made(data, output__path="whole", **options))
    again = made(data, output__path="again", cluster={"kind": place, "partitions": 3}, **options)

    def enough(event):
        if isinstance(event, PassDone) and event.pass_ == 4:
            raise Interrupted("Enough.", "Run the same command to go on.")

    with pytest.raises(Interrupted):
        run(again, observers=[enough])
    run(again)
    assert_same_bits(data / "whole", data / "again")


def test_new_data_is_decoded_by_the_command(data):
    run(made(data, model__sequence="station"))
    out = data / "out.zarr"
    result = CliRunner().invoke(main, ["predict", str(data / "run"), str(data / "data.zarr"), "-o", str(out)])
    assert result.exit_code == 0, result.stderr
    found = arrays(data / "run")
    with xr.open_datatree(out, engine="zarr") as tree:
        for name in ("path", "label", "probability"):
            np.testing.assert_array_equal(tree["assignment"][name].values, found[f"/assignment/{name}"])
    model = FittedModel.load(data / "run")
    assert model.model.stationary is False
    assert model.kind == "hidden_markov"


def test_an_earlier_run_is_where_the_next_begins(data):
    run(made(data, model__sequence="station"))
    before = arrays(data / "run")
    run(made(data, model__sequence="station", fit__init="run", output__path="next", fit__max_passes=1))
    after = arrays(data / "next")
    np.testing.assert_allclose(after["/model/start_transition"], before["/model/transition"], rtol=1e-12)
    np.testing.assert_allclose(after["/model/start_means"], before["/model/means"], rtol=1e-9)


def test_counts_and_symbols(tmp_path):
    rng = np.random.default_rng(0)
    level = np.repeat([0, 1, 0], 100)
    counts, symbols = rng.poisson(np.array([3.0, 12.0])[level]), rng.integers(0, 2, 300) + level * 2
    store(tmp_path / "data.zarr", xr.Dataset({"n": ("row", counts), "s": ("row", symbols.astype(float))}), 64)
    with small_blocks():
        for feature, emission in (("n", "poisson"), ("s", "categorical")):
            stationary = emission == "poisson"
            changes = {"data__missing": "error", "model__states": [1, 2], "model__stationary": stationary}
            changes |= {"output__path": emission, "output__report": True, "data__features": feature}
            run(made(tmp_path, model__emission=emission, **changes))
    found = arrays(tmp_path / "poisson")
    assert sorted(found["/model/means"].ravel()) == pytest.approx([3.0, 12.0], abs=1.0)
    ours = PoissonHMM(2)
    ours.startprob_, ours.transmat_ = found["/model/start"], found["/model/transition"]
    ours.lambdas_ = found["/model/means"]
    np.testing.assert_array_equal(found["/assignment/path"], ours.predict(counts[:, None]))
    found = arrays(tmp_path / "categorical")
    assert found["/model/probabilities"].shape == (2, 4)
    assert (
        found["/assignment/path"] == (level if found["/assignment/path"][0] == 0 else 1 - level)
    ).mean() > 0.95
    page = (tmp_path / "categorical" / "report.html").read_text()
    assert "Transition matrix" in page
    assert "decoded series" in page


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"model__sequence": "bad"}, "sequence 1 would have no rows"),
        ({"model__sequence": "short"}, "do not cover the 420 rows"),
        ({"model__sequence": "nowhere"}, "neither a dimension of the samples"),
        ({"model__sequence": "drift"}, "a measurement, not an id"),
        ({"model__emission": "categorical", "data__features": ["stray"]}, "largest symbol of 'stray'"),
        ({"model__emission": "poisson"}, "not a count"),
        ({"model__emission": "categorical", "data__features": ["a"]}, "not a symbol"),
        ({"data__missing": "error"}, "marginalise"),
    ],
    ids=str,
)
def test_data_that_cannot_be_explained(data, changes, words):
    with pytest.raises(DataError) as error:
        run(made(data, **changes))
    assert words in str(error.value)
    assert error.value.exit_code == 3


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"data__missing": "drop"}, "marginalise"),
        ({"fit__select": "cv"}, "bic"),
        ({"data__weights": "w"}, "order"),
        ({"model": {"kind": "gaussian_mixture", "components": 2}, "data__missing": "marginalise"}, "drop"),
        ({"model__emission": "binomial"}, "poisson"),
        ({"model__symbols": 2_000_000_000}, "1e+07"),
        ({"output__variables": ["distance"]}, "can write"),
    ],
    ids=str,
)
def test_configs_that_cannot_be(tmp_path, changes, words):
    path = config_file(tmp_path, **(deepcopy(SETTINGS) | changes))
    result = CliRunner().invoke(main, ["plan", str(path)])
    assert result.exit_code == 2
    assert words in result.stderr


def test_sequences_need_a_name_where_rows_have_two_dimensions(tmp_path):
    store(tmp_path / "data.zarr", dataset(values().reshape(3, 140, 3), ("place", "hour")), 70)
    for changes, words in (
        ({}, "model.sequence is not given"),
        ({"model__sequence": "hour"}, "sample_dims: [hour, place]"),
        ({"model__sequence": "station"}, "2 dimensions"),
    ):
        result = CliRunner().invoke(
            main, ["plan", str(config_file(tmp_path, **(deepcopy(SETTINGS) | ABC | changes)))]
        )
        assert result.exit_code == 2
        assert words in result.stderr


def test_the_manifest_tells_the_sequences(data):
    run(made(data, model__sequence="station"))
    told = json.dumps(manifest(data / "run"))
    assert '"sequence": "station"' in told


def test_states_of_several_gaussians_are_the_estimators(data):
    asked = {
        "kind": "hidden_markov", "states": 2, "components_per_state": 2, "covariance": "tied",
        "sequence": "offsets",
    }  # fmt: skip
    run(made(data, model=asked, fit__max_passes=4, fit__init_tries=1))
    found, x, lengths = arrays(data / "run"), values(), np.diff([*FIRSTS, N])
    model = GMMHMM(2, 2, "tied")
    model.startprob_, model.transmat_ = found["/model/start"], found["/model/transition"]
    model.weights_, model.means_ = found["/model/mixing"], found["/model/gaussian_means"]
    model.covars_ = found["/model/gaussian_covariances"][:, 0]
    np.testing.assert_allclose(
        found["/assignment/probability"], model.predict_proba(x, lengths), rtol=0, atol=1e-8
    )
    np.testing.assert_array_equal(found["/assignment/path"], model.predict(x, lengths))
    np.testing.assert_allclose(
        found["/model/means"], np.einsum("km,kmd->kd", model.weights_, model.means_), rtol=1e-9, atol=1e-9
    )
    assert found["/model/gaussian_covariances"].shape == (2, 2, 3, 3)
    # the model comes back from the result, and from what it says in the data's own units
    loaded = FittedModel.load(data / "run")
    said = {name: loaded.described.values(name) for name in loaded.variables}
    again = loaded.family.given(loaded.model, said, loaded.transform).theta
    np.testing.assert_allclose(again.gaussians.means, loaded.params.theta.gaussians.means, rtol=1e-9)
    np.testing.assert_allclose(
        again.gaussians.covariances, loaded.params.theta.gaussians.covariances, rtol=1e-9, atol=1e-12
    )
    other = made(data, model=asked | {"components_per_state": 3}, fit={"init": "run"}, output__path="other")
    with pytest.raises(DataError, match="has 2 Gaussians a state; this one asks for 3"):
        run(other)


def test_several_gaussians_are_for_gaussian_states(data):
    asked = {"kind": "hidden_markov", "states": 2, "components_per_state": 2}
    with pytest.raises(ConfigError, match="for Gaussian states; these say poisson"):
        made(data, model=asked | {"emission": "poisson"})
    given = {"weights": [0.5, 0.5], "means": [[0.0, 0.0, 0.0], [1.0, 1.0, 1.0]]}
    with pytest.raises(ConfigError, match="start by name, or from a run"):
        made(data, model=asked, fit={"init": given})
