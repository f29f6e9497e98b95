"""The comparison of k-means with a mixture: what is counted, written and told."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st
from runs import arrays, assert_same_bits, config, manifest, small_blocks
from sklearn.metrics import adjusted_rand_score

from distem import hard_soft
from distem.errors import ConfigError
from distem.hard_soft import adjusted_rand_index
from distem.report.draw import draw
from distem.run import run

EXAMPLE = {
    "pipeline": "compare_hard_soft",
    "model__components": 3,
    "fit": {"restarts": 2, "max_passes": 60, "tolerance": 1e-8},
    "output__path": "run",
}


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 4)), min_size=2, max_size=60))
def test_the_index_is_scikit_learns(pairs):
    one, two = np.array(pairs).T
    table = np.zeros((4, 5), dtype=int)
    np.add.at(table, (one, two), 1)
    assert adjusted_rand_index(table) == pytest.approx(adjusted_rand_score(one, two), abs=1e-12)


def test_the_index_of_more_pairs_than_64_bits_hold():
    table = np.array([[10**10, 0], [0, 10**10]])
    assert adjusted_rand_index(table) == 1.0


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    folder = tmp_path_factory.mktemp("hard-soft")
    example = {"options": {"example": "iris", "truth": "species"}, "fit__init": "kmeans"}
    run(config(folder, **EXAMPLE, **example))
    return folder


def test_a_mixture_finds_the_species_that_k_means_cuts_across(done):
    found = xr.open_zarr(done / "run/result.zarr/comparison", consolidated=False).load()
    table = arrays(done / "run")
    species, soft, hard = (table[f"/assignment/{n}"] for n in ("species", "label", "hard_label"))
    assert float(found.ari_soft) == pytest.approx(adjusted_rand_score(species, soft), abs=1e-12)
    assert float(found.ari_hard) == pytest.approx(adjusted_rand_score(species, hard), abs=1e-12)
    assert float(found.ari_hard_soft) == pytest.approx(adjusted_rand_score(hard, soft), abs=1e-12)
    assert float(found.ari_soft) > 0.85 > 0.7 > float(found.ari_hard)
    assert int(found.sure.sum() + found.split.sum()) == 150
    split = table["/assignment/uncertainty"] > hard_soft.SPLIT
    assert int(found.split.sum()) == split.sum()
    for k in range(3):
        for c in range(3):
            assert int(found.sure[k, c]) == ((soft == k) & (hard == c) & ~split).sum()
    # numbered alike: no other order of the clusters has more rows on the diagonal
    both = (found.sure + found.split).values
    orders = [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]]
    assert np.trace(both) == max(np.trace(both[:, order]) for order in orders)


def test_the_clusters_are_those_of_k_means_alone(done):
    found = xr.open_zarr(done / "run/result.zarr/comparison", consolidated=False).load()
    table = arrays(done / "run")
    hard = table["/assignment/hard_label"]
    names = ("sepal_length", "sepal_width", "petal_length", "petal_width")
    with xr.open_zarr(done / "data.zarr", consolidated=False) as data:
        x = np.stack([data[name].values for name in names], axis=1)
    order = [list(found.feature.values).index(name) for name in names]
    means = found.hard_means.values[:, order]
    np.testing.assert_allclose(means, [x[hard == c].mean(axis=0) for c in range(3)], atol=1e-9)
    scaled = (x - x.mean(axis=0)) / x.std(axis=0)
    centres = (means - x.mean(axis=0)) / x.std(axis=0)
    nearest = ((scaled[:, None] - centres) ** 2).sum(axis=-1).argmin(axis=1)
    np.testing.assert_array_equal(nearest, hard)


def test_the_report_says_so(done):
    text = draw(done / "run").read_text()
    assert "Hard against soft" in text
    assert "k-means: round clusters, hard edges" in text
    assert "k-means against the known groups" in text
    assert manifest(done / "run")["status"] == "complete"
    assert "Rows most in doubt" in text
    assert "all of it" in text


def test_blocks_and_workers_have_no_say(tmp_path):
    example = {"options": {"example": "iris"}}
    one, two = tmp_path / "one", tmp_path / "two"
    for folder, cluster in ((one, {"kind": "serial"}), (two, {"kind": "threads", "workers": 2})):
        folder.mkdir()
        with small_blocks(40):
            run(config(folder, **EXAMPLE, **example, cluster=cluster))
    assert_same_bits(one / "run", two / "run")
    found = xr.open_zarr(one / "run/result.zarr/comparison", consolidated=False)
    assert "ari_soft" not in found  # the truth was not asked for


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"example": "cubes"}, "It can be elongated, iris"),
        ({"example": "iris", "truth": "genus"}, "no coordinate 'genus'"),
    ],
)
def test_what_is_not_there_is_said(tmp_path, options, words):
    with pytest.raises(ConfigError, match=words):
        run(config(tmp_path, **EXAMPLE, options=options))
