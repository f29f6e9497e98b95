"""The same config on whatever it runs gives the same bits."""

import numpy as np
import pytest
from runs import assert_same_bits, blobs, config, config_file, dataset, small_blocks, store

from distem.config import load
from distem.run import run

OPTIONS = {
    "data__missing": "drop",
    "data__weights": "w",
    "data__features": ["a", "b", "c"],
    "model__components": [2, 3],
    "model__covariance": ["full", "tied"],
    "fit__init": "kmeans||",
    "fit__max_passes": 5,
    "fit__acceleration": "anderson",
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Ragged chunks in a tree of many blocks, one of them without a usable row."""
    folder = tmp_path_factory.mktemp("bits")
    values = blobs(2011)
    values[5::701, 2] = np.nan
    values[300:600, 0] = np.nan
    weights = np.random.default_rng(2).random(len(values))
    store(folder / "data.zarr", dataset(values, w=weights), chunks=50)
    with small_blocks():
        run(config(folder, **OPTIONS, output__path="serial"))
        yield folder


def test_the_data_has_a_tree_worth_cutting(folder):
    cfg = config(folder, **OPTIONS)
    assert len(cfg.data.build(cfg.locate).blocks()) > 16


@pytest.mark.parametrize(
    "cluster",
    [
        {"kind": "serial", "resident": False},
        {"kind": "serial", "workers": 3, "partitions": 3},
        {"kind": "threads", "workers": 1},
        {"kind": "threads", "workers": 2, "partitions": 1},
        {"kind": "threads", "workers": 2, "resident": False},
        {"kind": "threads", "workers": 4, "partitions": 3, "resident": True},
        {"kind": "threads", "workers": 4, "partitions": 1000, "resident": False},
    ],
    ids=str,
)
def test_executors_of_one_process(folder, tmp_path, cluster):
    run(config(folder, **OPTIONS, cluster=cluster, output__path=str(tmp_path / "run")))
    assert_same_bits(tmp_path / "run", folder / "serial")


def test_the_config_in_the_run_folder_gives_the_same_bits(folder, tmp_path):
    again = load(folder / "serial" / "config.yaml", (f"output.path={tmp_path / 'again'}",))
    assert again.hash() == config(folder, **OPTIONS).hash()
    run(again)
    assert_same_bits(tmp_path / "again", folder / "serial")


def test_that_config_moves_with_its_folders(tmp_path):
    old, new = tmp_path / "old", tmp_path / "elsewhere" / "new"
    old.mkdir()
    store(old / "data.zarr", blobs(100))
    run(config(old))
    new.parent.mkdir()
    old.rename(new)
    run(load(new / "run" / "config.yaml", ("output.path=again",)))
    assert_same_bits(new / "run" / "again", new / "run")


def test_the_config_in_the_run_folder_names_the_run_itself(tmp_path):
    store(tmp_path / "data.zarr", blobs(100))
    first = run(config(tmp_path))
    said = []
    assert run(load(tmp_path / "run" / "config.yaml"), observers=(said.append,)) == first
    assert "already complete" in said[0].message


def test_nothing_depends_on_the_name_or_the_place(tmp_path):
    store(tmp_path / "data.zarr", blobs(100))
    run(config(tmp_path))
    run(load(config_file(tmp_path, "other.yaml", name="other", output__path="other")))
    assert_same_bits(tmp_path / "other", tmp_path / "run")


def test_variables_that_are_not_named_come_in_a_fixed_order(tmp_path):
    store(tmp_path / "data.zarr", blobs(100))
    cfg = config(tmp_path)
    assert {cfg.data.build(cfg.locate).features for _ in range(30)} == {("a", "b", "c")}
