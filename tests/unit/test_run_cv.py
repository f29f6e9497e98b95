"""Selection by cross-validated likelihood, from the config to the table."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import xarray as xr
from runs import (
    CENTRES,
    arrays,
    assert_same_bits,
    blobs,
    config,
    dataset,
    events,
    manifest,
    small_blocks,
    store,
)
from sklearn.exceptions import ConvergenceWarning
from sklearn.mixture import GaussianMixture as Peer

from distem.em.folds import Folds
from distem.errors import ConfigError, DataError, Interrupted
from distem.events import PassDone
from distem.run import run

CV = {"fit__select": "cv", "fit__max_passes": 300, "fit__tolerance": 1e-13}
GIVEN = {
    "weights": [0.3, 0.3, 0.4],
    "means": CENTRES.tolist(),
    "covariances": np.stack([np.eye(3)] * 3).tolist(),
}


def selection(place):
    with xr.open_zarr(place / "result.zarr" / "selection", consolidated=False) as opened:
        return opened.load()


@pytest.mark.parametrize("weighted", [False, True])
def test_it_is_what_scikit_learn_finds_on_the_same_folds(tmp_path, weighted):
    x = blobs(500, spread=0.8)
    rng = np.random.default_rng(2)
    counts = rng.integers(1, 4, size=len(x)) if weighted else np.ones(len(x), int)
    x[[3, 77, 130]] = np.nan  # missing rows keep their addresses
    store(tmp_path / "data.zarr", dataset(x, mass=counts.astype(float)))
    more = {"data__weights": "mass"} if weighted else {}
    cfg = config(
        tmp_path,
        data__features=["a", "b", "c"],
        data__missing="drop",
        data__scale="none",
        model__reg_covar=0.0,
        fit__init=GIVEN,
        fit__folds=4,
        **CV,
        **more,
    )
    run(cfg)
    fold = Folds(4, cfg.seed).of(np.arange(len(x)))
    usable = np.isfinite(x).all(axis=1)
    sums, masses = [], []
    for held in range(4):
        seen, unseen = usable & (fold != held), usable & (fold == held)
        peer = Peer(
            3,
            tol=0.0,
            reg_covar=0.0,
            max_iter=200,
            weights_init=GIVEN["weights"],
            means_init=GIVEN["means"],
            precisions_init=GIVEN["covariances"],
        )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            peer.fit(np.repeat(x[seen], counts[seen], axis=0))
        sums.append(peer.score_samples(x[unseen]) @ counts[unseen])
        masses.append(counts[unseen].sum())
    sums, masses = np.array(sums), np.array(masses)
    mean = sums.sum() / masses.sum()
    spread = masses / masses.sum() @ (sums / masses - mean) ** 2
    table = selection(tmp_path / "run")
    assert table["cv"].item() == pytest.approx(mean, rel=1e-9)
    assert table["cv_se"].item() == pytest.approx(np.sqrt(spread / 3), rel=1e-7)
    assert manifest(tmp_path / "run")["fit"]["cv"] == table["cv"].item()


def test_a_scale_moves_nothing(tmp_path):
    """What held-out rows say is in the data's own units."""
    store(tmp_path / "data.zarr", blobs(300))
    found = []
    for scale in ("none", "standard"):
        place = tmp_path / scale
        run(
            config(
                tmp_path,
                data__scale=scale,
                model__reg_covar=0.0,
                fit__init=GIVEN,
                output__path=str(place),
                **CV,
            )
        )
        found.append(selection(place)["cv"].item())
    assert found[0] == pytest.approx(found[1], rel=1e-8)


def test_it_chooses_and_where_it_is_not_asked_for_is_no_number(tmp_path):
    store(tmp_path / "data.zarr", blobs(600, spread=0.7))
    run(config(tmp_path, model__components=[1, 2, 3], fit__restarts=2, fit__init="kmeans", **CV))
    table = selection(tmp_path / "run")
    best = int(np.argmax(table["cv"].values))
    assert table["components"].values[best] == 3
    assert table.attrs["chosen"].startswith("3-")
    assert (table["cv_se"].values > 0).all()
    assert table["cv"].values[0] == table["cv"].values[1]  # a candidate's, not a start's
    said = manifest(tmp_path / "run")
    assert said["plan"]["candidates"] == 6
    assert said["plan"]["folds"] == 5
    run(config(tmp_path, output__path="plain"))
    table = selection(tmp_path / "plain")
    assert np.isnan(table["cv"].values).all()
    assert "cv" not in manifest(tmp_path / "plain")["fit"]


def test_chunks_have_no_part_in_the_folds(tmp_path):
    """Two dimensions of samples, in any chunks: the same rows are held out."""
    x = blobs(480).reshape(20, 24, 3)
    values = []
    for chunks in ((20, 24), (7, 5), (3, 24)):
        place = tmp_path / f"{chunks[0]}"
        place.mkdir()
        store(place / "data.zarr", dataset(x, ("y", "x")), chunks)
        with small_blocks():
            run(config(place, fit__init=GIVEN, model__reg_covar=0.0, **CV | {"fit__max_passes": 40}))
        found = selection(place / "run")
        values.append((found["cv"].item(), found["cv_se"].item()))
    for value in values[1:]:
        assert value == pytest.approx(values[0], rel=1e-9)


@pytest.mark.parametrize("init", ["kmeans||", "random", "kmeans++"])
def test_executors_have_no_part_in_the_folds(tmp_path, init):
    store(tmp_path / "data.zarr", dataset(blobs(480).reshape(20, 24, 3), ("y", "x")), (7, 5))
    options = {"fit__init": init, "fit__select": "cv", "fit__folds": 3, "fit__max_passes": 3}
    with small_blocks():
        for kind in ("serial", "threads"):
            run(config(tmp_path, cluster__kind=kind, output__path=kind, **options))
    assert_same_bits(tmp_path / "serial", tmp_path / "threads")


def test_interrupted_after_a_pass_it_says_the_same(tmp_path):
    store(tmp_path / "data.zarr", blobs(240))
    options = {"model__components": [2, 3], "fit__select": "cv", "fit__folds": 3, "fit__max_passes": 5}
    run(config(tmp_path, output__path="whole", **options))
    whole = {k: v.tobytes() for k, v in arrays(tmp_path / "whole").items()}
    for number in (1, 3, 5):

        def stop(event, number=number):
            if isinstance(event, PassDone) and event.pass_ == number:
                raise Interrupted("Enough.")

        cfg = config(tmp_path, output__path=f"after-{number}", **options)
        with pytest.raises(Interrupted):
            run(cfg, observers=(stop,))
        run(cfg)
        found = {k: v.tobytes() for k, v in arrays(tmp_path / f"after-{number}").items()}
        assert found == whole


def test_more_folds_than_the_rows_can_fill_are_refused(tmp_path):
    store(tmp_path / "data.zarr", blobs(12))
    with pytest.raises(DataError, match=r"fold \d+ of 40 holds out 0.*fit\.folds lower"):
        run(config(tmp_path, fit__select="cv", fit__folds=40))


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [("select", "cvv", "cv"), ("folds", 1, "2"), ("folds", 101, "100"), ("folds", 2.5, "integer")],
)
def test_bad_values_are_named(tmp_path, key, value, words):
    with pytest.raises(ConfigError, match=rf"(?s)fit\.{key}.*{words}"):
        config(tmp_path, **{f"fit__{key}": value})


def test_the_report_draws_it_and_dropped_folds_compare_among_themselves(tmp_path):
    store(tmp_path / "data.zarr", blobs(300))
    run(
        config(
            tmp_path,
            model__components=[1, 2, 3],
            fit__select="cv",
            fit__folds=2,
            fit__restarts=3,
            fit__drop="hopeless",
            fit__max_passes=60,
            fit__tolerance=1e-9,
            output__report=True,
        )
    )
    assert not manifest(tmp_path / "run")["warnings"]
    page = (tmp_path / "run" / "report.html").read_text(encoding="utf-8")
    assert "held-out loss, which decided" in page
    assert '<th scope="col">held-out loss</th>' in page
    assert np.isfinite(selection(tmp_path / "run")["cv"].values).all()


def test_fits_without_a_fold_that_are_dropped_are_told(tmp_path):
    """Restarts of a fit without a fold compete as restarts of the whole fit do."""
    store(tmp_path / "data.zarr", blobs(300))
    options = {"model__components": 6, "fit__restarts": 3, "fit__folds": 2, "fit__select": "cv"}
    options |= {"fit__tolerance": 1e-10, "fit__max_passes": 150, "fit__drop": "restarts"}
    run(config(tmp_path, **options))
    fit = manifest(tmp_path / "run")["fit"]
    dropped = fit["drop"]["dropped"]
    folds = [name for name in dropped if "without fold" in name]
    assert folds
    assert all(dropped[name].startswith("Dropped") for name in folds)
    for fold in (1, 2):  # one restart at least answers for each fold
        gone = [name for name in folds if name.endswith(f"without fold {fold}")]
        assert len(gone) < 3
    lines = {e["candidate"]: e["reason"] for e in events(tmp_path / "run") if e["event"] == "dropped"}
    assert {name: lines[name] for name in folds} == {name: dropped[name] for name in folds}
