"""Several starts tried on the sample: the likeliest is where the fit begins."""

from unittest import mock

import numpy as np
import pytest
from runs import assert_same_bits, blobs, config, events, manifest, small_blocks, store

from distem import sampling
from distem.em.loop import EStep
from distem.errors import Interrupted
from distem.models.gaussian import Gaussian
from distem.models.mixture import Mixture
from distem.models.seeding import Sample, from_responsibilities, random_responsibilities
from distem.run import run
from distem.sampling import likeliest
from distem.starting import tries

OPTIONS = {
    "model__components": [2, 3],
    "fit__init": "random_from_data",
    "fit__init_tries": 3,
    "fit__sample_rows": 700,
    "fit__restarts": 2,
    "fit__drop": "never",
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tries")
    store(folder / "data.zarr", blobs(2011), chunks=50)
    with small_blocks():
        run(config(folder, **OPTIONS, output__path="whole"))
        yield folder


def test_fewer_passes_and_never_a_worse_optimum(tmp_path):
    """Eight groups, four of them close pairs: single starts often end with two components on one group."""
    rng = np.random.default_rng(1)
    means = rng.normal(size=(8, 3)) * 4.0
    store(tmp_path / "data.zarr", means[rng.integers(8, size=8000)] + rng.normal(size=(8000, 3)), chunks=4000)
    options = {"model__components": 8, "fit__init": "random_from_data", "fit__max_passes": 400}
    options |= {"fit__tolerance": 1e-6, "fit__sample_rows": 2500}
    found: dict[int, list] = {1: [], 4: []}
    for seed in range(3):
        for count, fits in found.items():
            run(config(tmp_path, **options, seed=seed, fit__init_tries=count, output__path=f"{seed}-{count}"))
            fits.append(manifest(tmp_path / f"{seed}-{count}")["fit"])
    ends = {count: [fit["log_likelihood"] for fit in fits] for count, fits in found.items()}
    assert np.mean(ends[4]) >= np.mean(ends[1]) + 1e-3
    assert max(ends[4]) >= max(ends[1]) - 1e-5
    assert sum(fit["passes"] for fit in found[4]) <= 0.9 * sum(fit["passes"] for fit in found[1])


@pytest.mark.parametrize(
    "cluster",
    [
        {"kind": "threads", "workers": 3, "partitions": 5, "resident": True},
        {"kind": "threads", "workers": 2, "partitions": 1000, "resident": False},
    ],
    ids=str,
)
def test_same_bits_on_any_partitions(folder, tmp_path, cluster):
    run(config(folder, **OPTIONS, cluster=cluster, output__path=str(tmp_path / "run")))
    assert_same_bits(tmp_path / "run", folder / "whole")


def test_a_candidate_starts_as_it_would_alone(folder, tmp_path):
    options = OPTIONS | {"model__components": 3, "fit__restarts": 1}
    run(config(folder, **options, output__path=str(tmp_path / "run")))
    passes = [line for line in events(folder / "whole") if line["event"] == "pass"]
    alone = [line for line in events(tmp_path / "run") if line["event"] == "pass"]
    name = "3-full-1"
    assert [p["log_likelihood"] for p in passes if p["candidate"] == name] == [
        p["log_likelihood"] for p in alone if p["candidate"] == name
    ]


@pytest.mark.parametrize("number", [0, 11])
def test_interrupted_while_trying(folder, tmp_path, monkeypatch, number):
    cfg = config(folder, **OPTIONS, output__path=str(tmp_path / "run"))
    whole, left = EStep.__call__, iter(range(number))

    def e_step(self, rows, block):
        if next(left, None) is None:
            raise Interrupted("Enough.", "Run the same command to go on.")
        return whole(self, rows, block)

    with monkeypatch.context() as patch:
        patch.setattr(EStep, "__call__", e_step)
        with pytest.raises(Interrupted):
            run(cfg)
    run(cfg)
    assert_same_bits(tmp_path / "run", folder / "whole")


@pytest.mark.parametrize(
    ("changes", "count"),
    [
        ({}, 3),
        ({"fit__init": "kmeans||"}, 1),
        ({"fit__init": "some/run"}, 1),
        ({"fit__init": {"weights": [1.0], "means": [[0, 0, 0]]}, "model__components": 1}, 1),
    ],
    ids=["by name", "all rows", "earlier", "given"],
)
def test_when_there_is_something_to_try(tmp_path, changes, count):
    assert tries(config(tmp_path, **OPTIONS | changes)) == count


def tried(tmp_path, sample, count=3, k=3):
    model = Mixture(Gaussian("full", data_variance=sample.values.var(axis=0)))
    starts = [
        {
            "one": from_responsibilities(
                model, sample, random_responsibilities(sample, k, np.random.default_rng(i))
            )
        }
        for i in range(count)
    ]
    found = likeliest(config(tmp_path, **OPTIONS), {"one": model}, starts, sample)
    return model, starts, found["one"]


def of(values, size):
    return Sample(size, np.arange(float(len(values))), values, np.ones(len(values)))


def test_the_likeliest_is_taken(tmp_path):
    sample = of(blobs(1000), 1000)
    with mock.patch.object(sampling, "FIRST_TRY", 200):
        model, starts, found = tried(tmp_path, sample)
        options = config(tmp_path, **OPTIONS)
        alone = [likeliest(options, {"one": model}, [s, s], sample)["one"] for s in starts]
    reached = [model.e_step(sample.rows, params).mean_log_likelihood for params in alone]
    begun = [model.e_step(sample.rows, s["one"]).mean_log_likelihood for s in starts]
    assert model.e_step(sample.rows, found).mean_log_likelihood == max(reached) > min(reached)
    assert min(reached) > max(begun)


def test_one_start_is_left_as_it_is(tmp_path):
    _, starts, found = tried(tmp_path, of(blobs(1000), 1000), count=1)
    assert found is starts[0]["one"]


def test_too_few_rows_have_no_say_unless_they_are_all(tmp_path):
    few = blobs(100)  # 29 parameters
    _, starts, found = tried(tmp_path, of(few, 100))
    assert found is starts[0]["one"]
    _, starts, found = tried(tmp_path, of(few, 101))
    assert found is not starts[0]["one"]


def test_where_every_try_loses_a_component_the_first_start_stands(tmp_path):
    rows = np.concatenate([np.zeros((500, 3)), np.ones((500, 3))])
    model = Mixture(Gaussian("full", 0.0, data_variance=rows.var(axis=0)))
    sample = of(rows, 2000)
    params = from_responsibilities(
        model, sample, random_responsibilities(sample, 3, np.random.default_rng(0))
    )
    with mock.patch.object(sampling, "_tried", side_effect=lambda *_: {}):
        found = likeliest(config(tmp_path, **OPTIONS), {"one": model}, [{"one": params}] * 2, sample)
    assert found["one"] is params
