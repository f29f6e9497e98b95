"""K-means as a run: the same bits however it is cut, and scikit-learn's answer."""

from __future__ import annotations

import json

import numpy as np
import pytest
import xarray as xr
from click.testing import CliRunner
from runs import arrays, assert_same_bits, blobs, config, config_file, small_blocks, store
from sklearn.cluster import KMeans as Peer

from distem import stages
from distem.cli import main
from distem.data.checkpoint import CheckpointStore
from distem.errors import Interrupted
from distem.fitted import FittedModel
from distem.run import run

KMEANS = {
    "model": {"kind": "kmeans", "components": 3},
    "fit": {"max_passes": 50, "init": {"means": [[0.5, 0, 0], [3, 1, -2], [-2, 4, 1]]}},
    "data__scale": "none",
}


@pytest.fixture
def folder(tmp_path):
    store(tmp_path / "data.zarr", blobs())
    return tmp_path


def test_it_is_scikit_learns(folder):
    summary = run(config(folder, **KMEANS))
    found = arrays(folder / "run")
    peer = Peer(3, init=np.array(KMEANS["fit"]["init"]["means"]), n_init=1, tol=0.0).fit(blobs())
    np.testing.assert_allclose(found["/model/means"], peer.cluster_centers_, rtol=1e-12)
    np.testing.assert_array_equal(found["/assignment/label"], peer.labels_)
    distance = peer.transform(blobs()).min(axis=1)
    np.testing.assert_allclose(found["/assignment/distance"], distance, rtol=1e-7)
    assert found["/model/inertia"] == pytest.approx(peer.inertia_, rel=1e-12)
    np.testing.assert_allclose(found["/model/weights"], np.bincount(peer.labels_) / 400)
    assert summary.converged
    assert "no row changes its cluster" in summary.reason


def test_executors_blocks_and_an_interruption_leave_every_bit_alone(folder, monkeypatch):
    changes = KMEANS | {"fit": {"max_passes": 50, "restarts": 3}, "model__components": [2, 4]}
    changes |= {"model": {"kind": "kmeans", "components": [2, 4]}, "data__scale": "standard"}
    changes.pop("model__components")
    with small_blocks():
        run(config(folder, **changes))
        run(config(folder, **changes, cluster={"kind": "threads", "workers": 2}, output__path="other"))
        assert_same_bits(folder / "run", folder / "other")
        monkeypatch.setattr(stages, "CHECKPOINT_SECONDS", 0.0)
        kept, save = [], CheckpointStore.save

        def stopping(self, name, *args):
            save(self, name, *args)
            kept.append(name)
            if len(kept) == 4:
                raise Interrupted("Stopped for the test.", "Go on.")

        monkeypatch.setattr(CheckpointStore, "save", stopping)
        with pytest.raises(Interrupted):
            run(config(folder, **changes, output__path="again"))
        run(config(folder, **changes, output__path="again"))
    assert_same_bits(folder / "run", folder / "again")


def test_a_fitted_one_assigns_new_rows_and_begins_another(folder):
    run(config(folder, **KMEANS))
    fresh = store(folder / "new.zarr", blobs(100, seed=8))
    result = CliRunner().invoke(main, ["predict", str(folder / "run"), str(fresh), "-o", str(folder / "out")])
    assert result.exit_code == 0, result.stderr
    model = FittedModel.load(folder / "run")
    with xr.open_zarr(folder / "out/assignment", consolidated=False) as out:
        assert set(out.data_vars) == {"label", "distance"}
        gaps = ((blobs(100, seed=8)[:, None] - model.means) ** 2).sum(axis=-1)
        np.testing.assert_array_equal(out.label.values, gaps.argmin(axis=1))
    again = KMEANS | {"fit": {"init": "./run"}, "output__path": "second"}
    assert run(config(folder, **again)).passes == 1


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"fit": {"select": "cv"}}, "fit.select: is cv, which needs a density"),
        ({"fit": {"drop": "hopeless"}}, "fit.drop: is hopeless"),
        ({"fit": {"init": "random"}}, "fit.init: is random"),
        ({"fit": {"init": {"means": [[0, 0, 0]]}}}, "has 1 means; model.components is 3"),
        ({"output__variables": ["log_density"]}, "names 'log_density'"),
        ({"model": {"kind": "kmeans", "components": 3, "covariance": "full"}}, "covariance: unknown key"),
        ({"model": {"kind": "kmeans", "components": 500}}, "fewer than the 500"),
    ],
)
def test_what_it_cannot_do_is_refused_before_anything_starts(folder, change, words):
    path = config_file(folder, **(KMEANS | {"fit": {}} | change))
    result = CliRunner().invoke(main, ["run", str(path)])
    assert result.exit_code in (2, 3)
    assert words in result.stderr


def test_its_own_defaults_are_written_out(folder):
    done = config(folder, model={"kind": "kmeans", "components": 3}, fit={})
    tree = done.resolved()
    assert tree["fit"]["init"] == "kmeans||"
    assert tree["fit"]["acceleration"] == "none"
    assert tree["output"]["variables"] == ["label", "distance"]
    asked = config(folder, model={"kind": "kmeans", "components": 3}, fit={"acceleration": "anderson"})
    assert asked.resolved()["fit"]["acceleration"] == "anderson"
    plan = CliRunner().invoke(main, ["plan", str(folder / "small.yaml"), "--json"])
    assert json.loads(plan.stdout)["candidates"] == 1
