"""Matching of components: distances by hand, orders found again, numbers that stay from run to run."""

from __future__ import annotations

import json
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st
from runs import arrays, assert_same_bits, blobs, config, config_file, dataset, manifest, store

from distem.cli import main
from distem.errors import ConfigError
from distem.families.base import family
from distem.fitted import FittedModel
from distem.matching import Parts, distances, match, number_after, pooled_spread, renumbered
from distem.report.compare import Comparison
from distem.run import run

LONG = {"max_passes": 200, "tolerance": 1e-9, "restarts": 2, "init_tries": 1}


def parts(k: int, d: int, seed: int, kind: str = "gaussian_mixture") -> Parts:
    rng = np.random.default_rng(seed)
    roots = rng.normal(size=(k, d, d))
    weights = rng.dirichlet(np.full(k, 3.0))
    means = 4.0 * rng.normal(size=(k, d))
    names = tuple(f"x{j}" for j in range(d))
    return Parts(kind, "component", names, {}, weights, means, roots @ np.swapaxes(roots, 1, 2))


def of(found: Parts, order: np.ndarray) -> Parts:
    return replace(
        found,
        weights=found.weights[order],
        means=found.means[order],
        covariances=found.covariances[order],
    )


@settings(max_examples=25, deadline=None)
@given(st.permutations(range(6)), st.integers(1, 4), st.integers(0, 99))
def test_an_order_is_found_again(order, d, seed):
    before = parts(6, d, seed)
    after = of(before, np.array(order))
    found = match(before, after)
    assert [order[j] for _, j in found.pairs] == list(range(6))
    np.testing.assert_allclose(found.distances, 0.0, atol=1e-4)
    again = number_after(before, after)
    np.testing.assert_array_equal(np.array(order)[again.order], range(6))
    assert not again.remarks


@pytest.mark.parametrize(("kind", "part"), [("motion", "layer"), ("regression_mixture", "component")])
def test_parts_without_means_are_refused_by_their_kind(kind, part):
    model = SimpleNamespace(kind=kind, family=family(kind))
    with pytest.raises(ConfigError, match=f"The {part}s of a run of kind {kind} cannot be matched"):
        Parts.of(model)


def test_the_distance_of_gaussians_is_wassersteins():
    one, other = parts(3, 1, 0), parts(4, 1, 1)
    s, t = (np.sqrt(p.covariances[:, 0, 0]) for p in (one, other))
    by_hand = np.sqrt((one.means - other.means.T) ** 2 + (s[:, None] - t) ** 2)
    np.testing.assert_allclose(distances(one, other), by_hand / pooled_spread(one, other), rtol=1e-9)


def test_in_several_dimensions_too_and_in_any_units():
    from scipy.linalg import sqrtm

    one, other = parts(2, 3, 0), parts(3, 3, 1)
    scale = pooled_spread(one, other)
    a, b = one.covariances[1] / np.outer(scale, scale), other.covariances[2] / np.outer(scale, scale)
    bures = np.trace(a + b - 2.0 * np.real(sqrtm(sqrtm(a) @ b @ sqrtm(a))))
    shift = (((one.means[1] - other.means[2]) / scale) ** 2).sum()
    assert distances(one, other)[1, 2] == pytest.approx(np.sqrt(shift + bures), rel=1e-6)
    units = np.array([1e-3, 1.0, 1e6])
    first, second = (
        replace(p, means=p.means * units, covariances=p.covariances * np.outer(units, units))
        for p in (one, other)
    )
    np.testing.assert_allclose(distances(first, second), distances(one, other), rtol=1e-9)


def test_k_means_is_matched_by_centres_and_features_by_name():
    one = parts(4, 3, 2, "kmeans")
    other = replace(of(one, np.array([2, 0, 3, 1])), covariances=one.covariances * 9.0)
    mixed = replace(
        other,
        features=("x2", "x0", "x1"),
        means=other.means[:, [2, 0, 1]],
        covariances=other.covariances[:, [2, 0, 1]][:, :, [2, 0, 1]],
    )
    found = match(one, mixed)
    assert found.pairs == ((0, 1), (1, 3), (2, 0), (3, 2))
    np.testing.assert_allclose(found.distances, 0.0, atol=1e-12)
    with pytest.raises(ConfigError, match="same features"):
        match(one, replace(mixed, features=("x2", "x0", "y")))


def test_what_is_too_far_is_no_pair_and_pushes_none_apart():
    """a1-b1 are too far for a pair, whatever that costs: a0 and b0, which are near, stay together."""
    one, other = (
        replace(parts(2, 1, 0), weights=np.full(2, 0.5), means=np.array(at)[:, None],
                covariances=np.full((2, 1, 1), 1e-12))
        for at in ([0.0, 1.4], [0.5, -1.1])
    )  # fmt: skip
    found = match(one, other)
    assert found.pairs == ((0, 0),)
    assert (found.vanished, found.appeared) == ((1,), (1,))


def test_states_that_say_other_symbols_are_no_pair():
    """Hellinger's distance ends at 1: the limit of Gaussians would pair whatever is left."""
    one, other = (
        replace(parts(2, 1, 0, "hidden_markov"), part="state", symbols=np.array(said))
        for said in (
            [[0.9, 0.1, 0.0, 0.0], [0.2, 0.8, 0.0, 0.0]],
            [[0.0, 0.0, 0.3, 0.7], [0.85, 0.15, 0.0, 0.0]],
        )
    )
    found = match(one, other)
    assert found.pairs == ((0, 1),)
    assert (found.vanished, found.appeared) == ((1,), (0,))
    assert match(one, other, 1.0).pairs == ((0, 1), (1, 0))


def test_a_feature_in_two_units_is_refused():
    one, other = (replace(parts(2, 2, 0), units=units) for units in ({"x0": "°F"}, {"x1": "m", "x0": "°C"}))
    with pytest.raises(ConfigError, match="x0 is in °F in one model and in °C in the other") as refused:
        match(one, other)
    assert "Convert" in str(refused.value)
    # a unit that is not told is no other one
    assert match(one, replace(other, units={"x0": "", "x1": "m"})).pairs == ((0, 0), (1, 1))


def test_shares_that_moved_count_where_no_component_did():
    before = parts(3, 2, 1)
    for lost, verdict in ((0.2, "moved"), (0.05, "same")):
        after = replace(before, weights=before.weights + np.array([-lost, lost, 0.0]))
        found = Comparison((None, None), (before, after), match(before, after), 0.1)
        assert found.verdict == verdict
        assert found.share_moved == pytest.approx(lost)
        assert found.beyond(5.0) is (verdict == "moved")
        assert f"{lost:.1%}" in found.sentence


def test_what_is_new_takes_the_number_that_became_free():
    before = parts(4, 2, 5)
    after = of(before, np.array([3, 1, 0, 2]))
    after = replace(after, means=after.means + np.array([[0, 0], [500.0, 0], [0, 0], [0, 0]]))
    found = number_after(before, after)
    assert found.earlier.tolist() == [0, -1, 2, 3]
    assert np.isnan(found.distances[1])
    assert "Component 1 is new" in found.remarks[0]
    assert "Component 1 of output.match has no successor" in found.remarks[1]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("nightly")
    store(folder / "data.zarr", blobs(600))
    run(config(folder, fit=LONG, output__path="last"))
    return folder


def test_component_3_tonight_is_component_3_of_last_night(folder):
    """An exact relabelling: rows, columns and bits of the parameters are those of a run without it."""
    changed = 0
    for seed in (5,):
        run(config(folder, seed=seed, fit=LONG, output__path=f"plain{seed}"))
        run(config(folder, seed=seed, fit=LONG, output={"path": f"matched{seed}", "match": "./last"}))
        last, plain, found = (arrays(folder / name) for name in ("last", f"plain{seed}", f"matched{seed}"))
        np.testing.assert_array_equal(found["/assignment/label"], last["/assignment/label"])
        # the same fit, component by component
        order = [
            int(np.flatnonzero((plain["/model/means"] == row).all(axis=1))[0])
            for row in found["/model/means"]
        ]
        changed += order != sorted(order)
        for name in ("weights", "means", "covariances", "start_means", "scaled_precisions_cholesky"):
            np.testing.assert_array_equal(found[f"/model/{name}"], plain[f"/model/{name}"][order])
        np.testing.assert_array_equal(np.array(order)[found["/assignment/label"]], plain["/assignment/label"])
        np.testing.assert_array_equal(np.array(order)[found["/sample/label"]], plain["/sample/label"])
        np.testing.assert_allclose(
            found["/assignment/probability"],
            plain["/assignment/probability"][:, order],
            rtol=1e-9,
            atol=1e-300,
        )
        assert found["/model/earlier"].tolist() == [0, 1, 2]
        assert manifest(folder / f"matched{seed}")["warnings"] == []
        # and what the model on disk says of new data is what the run has written
        out = CliRunner().invoke(
            main,
            [
                "predict",
                str(folder / f"matched{seed}"),
                str(folder / "data.zarr"),
                "-o",
                str(folder / f"p{seed}"),
            ],
        )
        assert out.exit_code == 0, out.output
        predicted = FittedModel.load(folder / f"p{seed}").means
        np.testing.assert_array_equal(predicted, found["/model/means"])
    assert changed


@pytest.mark.parametrize(
    "model",
    [
        {"kind": "gaussian_mixture", "components": 3, "covariance": "tied"},
        {"kind": "kmeans", "components": 3},
        {"kind": "hidden_markov", "states": 3, "covariance": "diag"},
    ],
    ids=lambda model: model["kind"],
)
def test_a_renumbered_model_says_the_same_of_rows(tmp_path, model):
    store(tmp_path / "data.zarr", blobs(200))
    fit = {"max_passes": 20} | ({} if model["kind"] != "kmeans" else {"init": "kmeans"})
    run(config(tmp_path, model=model, fit=fit))
    fitted = FittedModel.load(tmp_path / "run")
    order = np.array([2, 0, 1])
    other = renumbered(fitted, order)
    np.testing.assert_array_equal(other.means, fitted.means[order])
    np.testing.assert_array_equal(other.weights, fitted.weights[order])
    found = match(Parts.of(fitted), Parts.of(other))
    assert [order[j] for _, j in found.pairs] == [0, 1, 2]
    if model["kind"] == "hidden_markov":
        transition = fitted.described.values("transition")
        np.testing.assert_array_equal(other.described.values("transition"), transition[np.ix_(order, order)])
    back = renumbered(other, np.argsort(order))
    for name, value in fitted.model.arrays(fitted.params).items():
        assert value.tobytes() == back.model.arrays(back.params)[name].tobytes()


def test_a_run_that_cannot_be_matched_is_refused_before_the_fit(folder, tmp_path):
    other = dataset(blobs(100)).rename(a="z")
    store(tmp_path / "data.zarr", other)
    for match_, words in ((str(folder / "last"), "same features"), ("./nothing", "no fitted model")):
        with pytest.raises(ConfigError, match=words):
            run(config(tmp_path, output={"path": "run", "match": match_}), fresh=True)
    assert not (tmp_path / "run" / "result.zarr").exists()


def test_so_is_one_in_other_units(folder, tmp_path):
    for name, unit in (("metres", "m"), ("feet", "ft")):
        there = dataset(blobs(100))
        there["a"].attrs["units"] = unit
        store(tmp_path / f"{name}.zarr", there)
    run(config(tmp_path, data__path="metres.zarr", output__path="metres"))
    with pytest.raises(ConfigError, match="a is in m in one model and in ft in the other"):
        run(config(tmp_path, data__path="feet.zarr", output={"path": "feet", "match": "./metres"}))
    assert not (tmp_path / "feet" / "result.zarr").exists()


def test_the_command_says_what_moved_and_ends_with_4_over_the_limit(folder, tmp_path):
    shifted = blobs(600) + np.array([0.0, 0.0, 1.5])
    store(folder / "moved.zarr", shifted)
    run(config(folder, fit=LONG | {"init": "./last"}, data__path="moved.zarr", output__path="moved"))
    told = CliRunner().invoke

    same = told(main, ["compare", str(folder / "last"), str(folder / "last"), "--fail-over", "0.01"])
    assert same.exit_code == 0, same.output
    assert same.output.startswith("The same components")
    moved = told(main, ["compare", str(folder / "last"), str(folder / "moved")])
    assert moved.exit_code == 0
    assert "mean of c" in moved.output
    as_json = ["compare", str(folder / "last"), str(folder / "moved"), "--json", "--fail-over", "0.2"]
    over = told(main, as_json)
    assert over.exit_code == 4
    found = json.loads(over.output)
    assert found["verdict"] == "moved"
    assert found["largest_distance"] > 0.2
    assert [pair["a"] for pair in found["matched"]] == [pair["b"] for pair in found["matched"]] == [0, 1, 2]
    for pair in found["matched"]:
        assert pair["mean_b"][2] - pair["mean_a"][2] == pytest.approx(1.5, abs=1e-3)
    assert told(main, ["compare", str(folder / "last"), str(tmp_path)]).exit_code == 2
    page = tmp_path / "compared.html"
    assert (
        told(main, ["compare", str(folder / "last"), str(folder / "moved"), "--html", str(page)]).exit_code
        == 0
    )
    text = page.read_text(encoding="utf-8")
    assert text.count('role="img"') == 2
    assert "mean of c" in text
    assert "http" not in text


def test_a_match_with_itself_changes_no_bit(folder):
    run(config(folder, fit=LONG, output={"path": "again", "match": "./last"}))
    found, last = arrays(folder / "again"), arrays(folder / "last")
    assert found.pop("/model/earlier").tolist() == [0, 1, 2]
    found.pop("/model/moved")
    for name, value in last.items():
        assert value.tobytes() == found[name].tobytes() or value.dtype.kind in "OTU", name
    assert_same_bits(folder / "last", folder / "last")


def test_the_config_of_a_matched_run_runs_from_where_it_lies(folder):
    loaded = config_file(folder, "nightly.yaml", output={"path": "tonight", "match": "./last"})
    from distem.config import load, loads

    config_ = load(loaded)
    there = loads(config_.to_yaml(folder / "tonight"), str(folder / "tonight" / "config.yaml"))
    assert there.output.match == "../last"
    assert config_.hash() != load(loaded, ["output.match=null"]).hash()
