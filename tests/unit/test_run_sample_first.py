"""Short climbs on samples before the first pass over all rows."""

from unittest import mock

import numpy as np
import pytest
from runs import assert_same_bits, blobs, config, events, manifest, small_blocks, store

from distem import sampling, stages
from distem.config.fit import SAMPLE_BYTES, SampleFirstConfig
from distem.em.acceleration import Anderson
from distem.em.loop import EStep
from distem.errors import Interrupted
from distem.events import PassDone
from distem.execution.serial import SerialExecutor
from distem.models.gaussian import Gaussian
from distem.models.mixture import Mixture
from distem.models.seeding import Sample, from_responsibilities, random_responsibilities
from distem.run import plan, run
from distem.sampling import climb_on_samples, curvature
from distem.types import Rows

SAMPLES = {"shares": [0.1, 0.5], "from_rows": 1000}
OPTIONS = {
    "data__missing": "drop",
    "model__components": [2, 3],
    "fit__init": "kmeans",
    "fit__sample_rows": 150,
    "fit__max_passes": 60,
    "fit__tolerance": 1e-9,
    "fit__sample_first": SAMPLES,
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Ragged chunks, rows missing, and a run that was not interrupted; so few rows give a rough curvature."""
    folder = tmp_path_factory.mktemp("sample-first")
    values = blobs(2011)
    values[5::701, 2] = np.nan
    store(folder / "data.zarr", values, chunks=50)
    with small_blocks(), mock.patch.object(sampling, "ROWS_A_DIRECTION", 5):
        run(config(folder, **OPTIONS, output__path="whole"))
        yield folder


@pytest.mark.parametrize("acceleration", ["anderson", "none"])
def test_fewer_full_passes_to_the_same_optimum(tmp_path, acceleration):
    store(tmp_path / "data.zarr", blobs(40_000, spread=1.9), chunks=5000)
    options = {"fit__acceleration": acceleration, "fit__init": "kmeans", "fit__max_passes": 300}
    options |= {"fit__tolerance": 1e-8, "fit__sample_rows": 1000}
    found = {}
    for place, samples in (
        ("first", {"shares": [0.2, 0.5], "from_rows": 40_000}),
        ("at-once", {"shares": []}),
    ):
        cfg = config(tmp_path, **options, fit__sample_first=samples, output__path=place)
        run(cfg)
        found[place] = manifest(tmp_path / place)["fit"]
    assert found["first"]["log_likelihood"] >= found["at-once"]["log_likelihood"] - 1e-7
    assert found["first"]["passes"] <= 0.6 * found["at-once"]["passes"]


def test_plan_and_manifest_tell(folder):
    cfg = config(folder, **OPTIONS)
    promised = plan(cfg)
    assert promised.sample_first == (201, 1006)
    assert "climbs on    201, 1,006 random rows before all of them" in promised.lines()
    found = manifest(folder / "whole")
    assert found["plan"]["sample_first"] == [201, 1006]
    assert [told["rows"] for told in found["fit"]["sample_first"]] == [201, 1006]
    assert all(told["passes"] > 3 for told in found["fit"]["sample_first"])


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


@pytest.mark.parametrize("number", [0, 7, 40])
def test_interrupted_in_the_climbs_on_samples(folder, tmp_path, monkeypatch, number):
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
    assert manifest(tmp_path / "run")["status"] == "interrupted"
    assert not any(line["event"] == "pass" for line in events(tmp_path / "run"))
    run(cfg)
    assert_same_bits(tmp_path / "run", folder / "whole")


def test_interrupted_after_a_pass_over_all_rows(folder, tmp_path, monkeypatch):
    monkeypatch.setattr(stages, "CHECKPOINT_SECONDS", 0.0)
    for number in (1, 4):
        cfg = config(folder, **OPTIONS, output__path=str(tmp_path / f"{number}"))

        def stop(event, number=number):
            if isinstance(event, PassDone) and event.pass_ == number:
                raise Interrupted("Enough.", "Run the same command to go on.")

        with pytest.raises(Interrupted):
            run(cfg, observers=(stop,))
        with monkeypatch.context() as patch:
            patch.setattr(stages, "climb_on_samples", None)  # not called again
            run(cfg)
        assert_same_bits(tmp_path / f"{number}", folder / "whole")
        assert manifest(tmp_path / f"{number}")["fit"] == manifest(folder / "whole")["fit"]


def test_a_fold_has_no_part_in_the_climbs_of_the_fit_without_it(folder, tmp_path):
    options = OPTIONS | {"fit__select": "cv", "fit__folds": 2, "model__components": 2}
    run(config(folder, **options, output__path=str(tmp_path / "run")))
    told = manifest(tmp_path / "run")["fit"]["sample_first"]
    assert [t.get("without_fold") for t in told] == [None, None, 1, 1, 2, 2]
    whole, rest = told[1]["rows"], [told[3]["rows"], told[5]["rows"]]
    assert sum(rest) == whole


@pytest.mark.parametrize(
    "changes",
    [
        {"fit__init": {"weights": [0.5, 0.5], "means": [[0, 0, 0], [4, 1, -3]]}, "model__components": 2},
        {"data__weights": "c", "data__features": ["a", "b"]},
        {"fit__sample_first": {"from_rows": 2012}},
        {"fit__sample_first": None},
    ],
    ids=["given", "weights", "small", "not asked for"],
)
def test_when_it_is_of_no_use(folder, changes):
    promised = plan(config(folder, **OPTIONS | changes))
    assert promised.sample_first == ()
    assert any("all rows from the first pass on" in line for line in promised.lines())


def test_samples_are_bounded_whatever_the_data_is():
    rule = SampleFirstConfig()
    assert rule.sizes(9_999_999, 4) == ()
    assert rule.sizes(10_000_000, 2) == (100_000, 1_000_000)
    for n, d in ((10**10, 4), (10**8, 64)):
        sizes = rule.sizes(n, d)
        assert sizes[-1] * 8 * (d + 2) <= SAMPLE_BYTES
        assert sizes == tuple(sorted(set(sizes)))


def test_no_curvature_for_a_fit_that_stays_at_its_start(folder, monkeypatch):
    """What was learnt on a sample where a component was lost is about another place than the start."""
    monkeypatch.setattr(sampling, "ROWS_A_DIRECTION", 5)
    values = blobs(400)
    sample = Sample(400, np.arange(400.0), values, np.ones(400))
    model = Mixture(Gaussian("full", data_variance=values.var(axis=0)))
    start = from_responsibilities(model, sample, random_responsibilities(sample, 3, np.random.default_rng(0)))
    alone = model.relocate(start, 2, np.full(3, 1e4))  # no row of the sample is near
    measured = []

    def watched(model, params, blocks):
        measured.append(params)
        return curvature(model, params, blocks)

    monkeypatch.setattr(sampling, "curvature", watched)
    cfg = config(folder, **OPTIONS, model__on_collapse="drop")
    found = climb_on_samples(
        cfg, {"kept": model, "lost": model}, {"kept": start, "lost": alone}, sample, (200, 400)
    )
    assert found.starts["lost"] is alone
    assert set(found.learnt) == {"kept"}
    assert measured == [found.starts["kept"]]


def test_curvature_makes_a_newton_step():
    """From near the optimum of the rows the curvature was measured on, one step gains nearly all there is."""
    rng = np.random.default_rng(0)
    rows = Rows(blobs(4000))
    model = Mixture(Gaussian("full", data_variance=rows.values.var(axis=0)))
    sample = Sample(4000, np.arange(4000.0), rows.values, np.ones(4000))
    params = from_responsibilities(model, sample, random_responsibilities(sample, 2, rng))
    with SerialExecutor().open(sampling._blocks(sample), resident=True) as blocks:

        def at(params):
            stats = blocks.map_reduce(EStep(((model, params),))).each[0]
            return stats, float(stats.mean_log_likelihood)

        for _ in range(400):
            params = model.m_step(at(params)[0], params)
        best = at(params)[1]
        away = model.unpack(model.pack(params) + 2e-3 * rng.normal(size=len(model.pack(params))), params)
        known = curvature(model, away, blocks)
        assert len(known["known_steps"]) == len(model.pack(params)) - 1  # weights sum to one
        accelerator = Anderson()
        accelerator.restore(known)
        stats, value = at(away)
        update = model.m_step(stats, away)
        proposal = accelerator.propose(
            model.pack(away),
            model.pack(update),
            value=value,
            natural=lambda differences: model.natural(differences, away),
        )
        assert proposal is not None
        after = at(model.unpack(proposal, update))[1]
    assert best - after < 0.02 * (best - value)
    assert best - after < 0.2 * (best - at(update)[1])
