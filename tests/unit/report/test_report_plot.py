"""The public plots: the report's drawing on axes of the caller, from runs, results and estimators."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import xarray as xr
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.colors import to_hex

import distem
from distem import plot
from distem.errors import ConfigError
from distem.report import overlap, progress
from distem.report.kinds import states
from distem.report.reading import read
from distem.report.svg import onto

IMAGES = Path(__file__).parent / "images"


def rows(seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    centres = np.array([[0.0, 0.0, 5.0], [6.0, 2.0, 5.0], [0.0, 6.0, 0.0]])
    return centres[rng.integers(3, size=900)] + rng.normal(size=(900, 3))


@pytest.fixture(scope="module")
def folder(a_run_once: Callable[..., Path]) -> Path:
    attrs = {"x0": {"units": "m", "long_name": "depth"}}
    return a_run_once(
        rows(),
        components=[2, 3, 4],
        restarts=2,
        feature_attrs=attrs,
    )


@pytest.fixture(autouse=True)
def _tidy() -> Iterator[None]:
    yield
    plt.close("all")


DRAWN = [plot.components, plot.convergence, plot.selection, plot.uncertainty, plot.profile, plot.overlap]


@pytest.mark.parametrize("function", DRAWN, ids=lambda f: f.__name__)
def test_a_plot_returns_the_axes_it_drew_into(folder: Path, function: Callable[..., Axes]) -> None:
    _, ax = plt.subplots()
    assert function(folder, ax=ax) is ax
    assert ax.get_title()
    assert ax.get_xlabel()
    assert ax.get_ylabel()
    alone = function(str(folder))
    assert alone is not ax
    with xr.open_datatree(folder / "result.zarr", engine="zarr", consolidated=False) as tree:
        again = function(tree)
    for one, other in ((ax, alone), (ax, again)):
        assert one.get_xlabel() == other.get_xlabel()
        np.testing.assert_allclose(one.get_xlim(), other.get_xlim())
        np.testing.assert_allclose(one.get_ylim(), other.get_ylim())
    # no stand-in of the report's themes is left in a figure outside of it
    colours = {to_hex(text.get_color()) for text in ax.texts} | {
        to_hex(line.get_color()) for line in ax.lines
    }
    assert not [colour for colour in colours if colour[1:3] in ("fd", "fe") and colour.endswith("01")]


def test_the_report_is_as_it_was_after_plots(folder: Path) -> None:
    run = read(folder)
    before = overlap.matrix(run).svg
    plot.overlap(folder)
    assert overlap.matrix(run).svg == before
    assert "var(--" in before


def test_names_and_units_of_the_data_are_on_the_axes(folder: Path) -> None:
    assert plot.components(folder, ["x0", "x1"]).get_xlabel() == "depth (m)"
    assert plot.components(folder, "x0").get_ylabel() == "density (per m)"
    with pytest.raises(ConfigError, match="no feature 'x9'"):
        plot.components(folder, "x9")
    with pytest.raises(ConfigError, match="no candidates with held-out loss"):
        plot.selection(folder, "cv")
    with pytest.raises(ConfigError, match="no transitions"):
        plot.transitions(folder)
    with pytest.raises(ConfigError, match="no layers that move"):
        plot.motion(folder)
    with pytest.raises(ConfigError, match="no picture"):
        plot.segments(folder)


def test_likelihoods_are_in_nats_and_inertias_in_none(folder: Path) -> None:
    run = read(folder)
    hard = replace(run, model=run.model.assign_attrs(kind="kmeans"))
    for found, words in ((run, "log-likelihood, nats per row"), (hard, "minus inertia per row")):
        for draw, more in ((progress.climb, ""), (progress.gain, " to gain")):
            _, ax = plt.subplots()
            with onto(ax):
                draw(found)
            assert ax.get_ylabel() == words + more


def test_numbers_of_a_profile_are_joined_to_their_lines(folder: Path) -> None:
    ax = plot.profile(folder)
    for text in ax.texts:
        where, means = text.get_position()[0], component_lines(ax)[int(text.get_text())]
        joints = [line for line in ax.lines if tuple(line.get_ydata()) == (-0.38, 0.0)]
        assert [
            line.get_color()
            for line in joints
            if tuple(line.get_xdata()) == pytest.approx((where, means.get_xdata()[0]))
        ] == [means.get_color()]
    assert len(ax.texts) >= 2


def component_lines(ax: Axes) -> list[Any]:
    """The lines of a profile's components, in their order."""
    return [line for line in ax.lines if line.get_marker() == "o"]


@pytest.mark.parametrize("covariance", ["full", "tied", "diag", "spherical"])
def test_estimators_are_drawn_as_they_are(covariance: str) -> None:
    X = rows()
    gm = distem.GaussianMixture(3, covariance_type=covariance, random_state=0).fit(X)
    for ax in (plot.components(gm), plot.components(gm, ["x0", "x2"], X), plot.uncertainty(gm, X)):
        assert ax.get_title()
    assert len(plot.convergence(gm).lines[-2].get_xdata()) == len(gm.lower_bounds_)
    with pytest.raises(ConfigError, match="no candidates"):
        plot.selection(gm)


def test_k_means_and_chains_too() -> None:
    X = rows()
    km = distem.KMeans(3, random_state=0).fit(X)
    assert plot.components(km, X=X).get_xlabel() in ("x0", "x1")
    with pytest.raises(ConfigError, match="Give X"):
        plot.components(km)
    chain = distem.GaussianHMM(2, random_state=0, n_iter=5, tol=0.0)
    chain.startprob_, chain.transmat_ = np.array([1.0, 0.0]), np.array([[0.9, 0.1], [0.2, 0.8]])
    chain.means_, chain.covars_ = np.array([[0.0], [4.0]]), np.ones((2, 1))
    ax = plot.transitions(chain)
    assert sorted(text.get_text() for text in ax.texts) == ["0.100", "0.200", "0.800", "0.900"]
    with pytest.raises(ConfigError, match="GaussianMixture is not fitted"):
        plot.components(distem.GaussianMixture(2))
    with pytest.raises(ConfigError, match="list is no fit"):
        plot.components([1.0])


def test_states_and_curves_without_means_are_drawn_as_far_as_they_go() -> None:
    climbed = SimpleNamespace(history=[-3.0, -2.0, -1.9])
    for chain, says in ((distem.PoissonHMM(2), "lambdas_"), (distem.CategoricalHMM(2), "emissionprob_")):
        chain.transmat_, chain.monitor_ = np.array([[0.9, 0.1], [0.2, 0.8]]), climbed
        setattr(chain, says, np.array([[0.4, 0.6], [0.7, 0.3]]))
        assert len(plot.transitions(chain).texts) == 4
        assert plot.convergence(chain).get_xlabel() == "pass over the data"
        with pytest.raises(ConfigError, match="states of a hidden Markov model have no means"):
            plot.components(chain)
        with pytest.raises(ConfigError, match="Rows of this hidden Markov model are not known"):
            plot.uncertainty(chain)
    curves = distem.RegressionMixture(2)
    curves.weights_, curves.coef_, curves.noise_ = np.array([0.5, 0.5]), np.ones((2, 1)), np.ones(2)
    curves.lower_bounds_ = [-3.0, -2.5]
    assert len(plot.convergence(curves).lines[-2].get_xdata()) == 2
    with pytest.raises(ConfigError, match="regression mixture have no means"):
        plot.profile(curves)
    with pytest.raises(ConfigError, match="no transitions"):
        plot.transitions(curves)


def test_layers_that_move_are_drawn() -> None:
    pairs, layers = 5, 2
    along = np.outer(np.arange(pairs, dtype=float), [1.0, -2.0]) + np.array([10.0, 50.0])
    per_layer = {
        "velocity_x": np.tile([3.0, 0.0], (pairs, 1)), "velocity_y": np.tile([4.0, 2.0], (pairs, 1)),
        "x": along, "y": along + 5.0,
    }  # fmt: skip
    model = xr.Dataset(
        {name: (("pair", "motion"), values) for name, values in per_layer.items()}
        | {"share": (("pair", "component"), np.tile([0.7, 0.3], (pairs, 1)))},
        coords={"component": np.arange(layers)},
        attrs={"kind": "motion", "height": 60, "width": 80},
    )
    empty = xr.Dataset()
    tree = xr.DataTree.from_dict(
        {"model": model, "trace": empty, "selection": xr.Dataset(attrs={"chosen": "2"}), "sample": empty}
    )
    speeds = plot.motion(tree)
    assert [set(line.get_ydata()) for line in speeds.lines] == [{5.0}, {2.0}]
    assert [set(line.get_ydata()) for line in plot.motion(tree, "share").lines] == [{0.7}, {0.3}]
    paths = plot.motion(tree, "paths")
    np.testing.assert_array_equal(paths.lines[1].get_xdata(), along[:, 1])
    assert paths.get_ylim() == (60.0, 0.0)
    assert speeds.get_ylabel() == "speed (pixels per frame)"
    few = plot.motion(tree.map_over_datasets(lambda found: found.isel(pair=slice(2), missing_dims="ignore")))
    assert all(tick == round(tick) for tick in few.get_xticks())  # of half a pair of frames there is nothing
    with pytest.raises(ConfigError, match="There are speed, share, paths"):
        plot.motion(tree, "colour")  # type: ignore[arg-type]


def test_a_segmented_picture_is_drawn_in_four_ways() -> None:
    labels = np.array([[0, 0, 1], [0, 0, 1], [0, 0, 1]])
    palette = np.array([[200, 0, 0], [0, 0, 200]], np.uint8)
    held = xr.Dataset(
        {
            "picture": (("frame", "y", "x", "channel"), palette[labels][None]),
            "label": (("frame", "y", "x"), labels[None]),
            "palette": (("component", "channel"), palette),
        },
        attrs={"stride": 4},
    )
    model = xr.Dataset(coords={"component": np.arange(2)}, attrs={"kind": "gaussian_mixture"})
    empty, chosen = xr.Dataset(), xr.Dataset(attrs={"chosen": "2"})
    groups = {"model": model, "trace": empty, "selection": chosen, "sample": empty, "picture": held}
    tree = xr.DataTree.from_dict(groups)
    ax = plot.segments(tree)
    np.testing.assert_array_equal(ax.images[0].get_array()[..., :3], palette[labels])
    assert "pixel" in ax.get_xlabel()
    edges = plot.segments(tree, "boundaries").images[0].get_array()[..., :3]
    assert (edges[:, 1] != edges[:, 0]).any(axis=-1).all()
    assert plot.segments(tree, "picture").get_title() == "Picture"
    with pytest.raises(ConfigError, match="There are picture, segments, boundaries"):
        plot.segments(tree, "uncertainty")


def test_estimators_have_a_notebook_representation() -> None:
    html = distem.GaussianMixture(3, covariance_type="diag")._repr_html_()
    assert "GaussianMixture" in html
    assert "covariance_type" in html


# a few pictures are compared as pictures, loosely enough for another version of Matplotlib's fonts


def _pair(folder: Path, ax: Axes) -> None:
    plot.components(folder, ["x0", "x1"], ax=ax)


def _overlap(folder: Path, ax: Axes) -> None:
    plot.overlap(folder, ax=ax)


def _transitions(_: Path, ax: Axes) -> None:
    with onto(ax):
        states.transition_matrix(np.array([[0.9, 0.08, 0.02], [0.1, 0.85, 0.05], [0.0, 0.3, 0.7]]))


@pytest.mark.parametrize("make", [_pair, _overlap, _transitions], ids=lambda f: f.__name__.strip("_"))
def test_the_pictures_look_as_they_did(
    folder: Path, make: Callable[[Path, Axes], None], tmp_path: Path
) -> None:
    from matplotlib.testing.compare import compare_images

    with plt.style.context("default"):
        figure, ax = plt.subplots(figsize=(3.2, 2.8), dpi=60, layout="constrained")
        make(folder, ax)
        name = f"{make.__name__.strip('_')}.png"
        figure.savefig(tmp_path / name, metadata={"Software": None})
    kept = IMAGES / name
    if not kept.exists():  # to renew one, remove it, run this, and look at it
        kept.write_bytes((tmp_path / name).read_bytes())
        pytest.fail(f"{kept} was not there and was drawn.")
    assert compare_images(str(kept), str(tmp_path / name), tol=12) is None
