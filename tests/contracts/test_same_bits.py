"""For one chunking, executors, workers, partitions and residence change no bit."""

from __future__ import annotations

from functools import cache

import dask.array as da
import datasets
import numpy as np
import pytest
from blocks import ArrayBlock, BlockNumbers, bits, blocks_of, fit_blocks
from executors import NAMES, dask_client, executor
from families import FAMILIES
from strategies import COVARIANCES, random_params

import distem
from distem.execution.dask import DaskExecutor
from distem.execution.serial import SerialExecutor
from distem.models.gaussian import Gaussian
from distem.models.mixture import Mixture

# ragged, with chunks that are empty or hold one row
SIZES = (311, 0, 1, 97, 500, 3, 0, 260, 129, 64, 1, 402, 7, 200, 0, 33, 150, 842)
ROWS = sum(SIZES)
PARTITIONS = (1, 3, 7, 64)
PASSES = 4


# one worker of Dask finishes its tasks in turn: the estimator's tests below have one
@pytest.fixture(scope="module", params=[name for name in NAMES if name != "dask-1"])
def place(request):
    with executor(request.param) as found:
        yield found


def problem(covariance: str, *, weighted: bool) -> tuple[Mixture, object, list[ArrayBlock]]:
    x = datasets.load("flights")[:ROWS]
    x = np.ascontiguousarray((x - x.mean(axis=0)) / x.std(axis=0))
    rng = np.random.default_rng(5)
    weights = rng.integers(0, 3, len(x)) * 0.7 if weighted else None
    model = Mixture(Gaussian(covariance, 1e-6))
    return model, random_params(model, 3, x.shape[1], rng), blocks_of(x, SIZES, weights)


@cache
def expected_of(covariance: str, *, weighted: bool, acceleration: str | None = None):
    """What one process finds: asked once for all places."""
    model, params, blocks = problem(covariance, weighted=weighted)
    return outcome(model, params, blocks, SerialExecutor(), acceleration=acceleration)


def outcome(model, params, blocks, place, **how):
    fit, update, labels = fit_blocks(model, params, blocks, place, passes=PASSES, **how)
    trace = np.array([point.log_likelihood for point in fit.trace]).tobytes()
    return bits(model, fit.params), bits(model, update), trace, labels.tobytes()


@pytest.mark.parametrize("resident", [True, False], ids=["resident", "streamed"])
@pytest.mark.parametrize("covariance", COVARIANCES)
def test_parameters_trace_and_labels_have_the_same_bits(place, covariance, resident):
    weighted = covariance in ("full", "diag")
    model, params, blocks = problem(covariance, weighted=weighted)
    expected = expected_of(covariance, weighted=weighted)
    for partitions in PARTITIONS:
        found = outcome(model, params, blocks, place, resident=resident, partitions=partitions)
        assert found == expected, partitions


@pytest.mark.parametrize("resident", [True, False], ids=["resident", "streamed"])
def test_every_block_is_handed_out_once_in_order(place, resident):
    x = np.arange(2.0 * ROWS).reshape(ROWS, 2)
    blocks = blocks_of(x, SIZES)
    for partitions in (*PARTITIONS, None):
        with place.open(blocks, resident=resident, partitions=partitions) as opened:
            seen = opened.map_reduce(BlockNumbers()).values
            spans = opened.partitions
        assert seen.tolist() == [[i, n] for i, n in enumerate(SIZES)]
        assert [a for a, _ in spans[1:]] == [b for _, b in spans[:-1]]
        assert (spans[0][0], spans[-1][1]) == (0, len(SIZES))


@pytest.mark.parametrize("family", FAMILIES.values(), ids=FAMILIES)
def test_reference_kernels_have_the_same_bits_everywhere_too(place, family):
    _, params, blocks = problem(family.name.removeprefix("gaussian-"), weighted=True)
    model = family.model("reference", reg_covar=1e-6)
    expected = outcome(model, params, blocks, SerialExecutor())
    assert outcome(model, params, blocks, place, partitions=6) == expected


def test_accelerated_fits_have_the_same_bits(place):
    model, params, blocks = problem("full", weighted=True)
    for acceleration in ("squarem", "anderson"):
        expected = expected_of("full", weighted=True, acceleration=acceleration)
        assert outcome(model, params, blocks, place, partitions=5, acceleration=acceleration) == expected


@pytest.mark.cluster
@pytest.mark.slow
@pytest.mark.parametrize("workers", [pytest.param(1, marks=pytest.mark.slow_cluster), 2])
def test_real_processes_give_the_same_bits(workers):
    with dask_client(workers, processes=True) as client:
        for covariance in COVARIANCES:
            weighted = covariance == "full"
            model, params, blocks = problem(covariance, weighted=weighted)
            expected = expected_of(covariance, weighted=weighted)
            for resident, partitions in ((True, 5), (False, 2), (True, None)):
                place = DaskExecutor(client)
                assert (
                    outcome(model, params, blocks, place, resident=resident, partitions=partitions)
                    == expected
                )


ANSWERS = ("weights_", "means_", "covariances_", "precisions_cholesky_", "lower_bounds_")


def everything(fitted: distem.GaussianMixture, x) -> list[bytes]:
    found = [np.asarray(getattr(fitted, name)).tobytes() for name in ANSWERS]
    asked = [fitted.predict(x), fitted.predict_proba(x), fitted.score_samples(x)]
    return found + [np.asarray(answer).tobytes() for answer in asked]


@pytest.mark.parametrize("init", ["kmeans", "kmeans||", "random", "random_from_data", "k-means++"])
def test_the_estimator_gives_the_same_bits_with_and_without_a_cluster(init):
    x = da.from_array(datasets.load("flights")[:ROWS], chunks=(SIZES, (4,)))

    def fitted(client=None):
        model = distem.GaussianMixture(3, random_state=3, init_params=init, max_iter=200, client=client)
        return everything(model.fit(x), x)

    expected = fitted()
    for workers in (1, 4):
        with dask_client(workers) as client:
            assert fitted(client) == expected, workers


def test_rows_in_memory_give_the_same_bits_on_threads_and_on_a_cluster():
    x = datasets.flights()[::8]
    begun = datasets.start("flights", "full")

    def fitted(client=None):
        model = distem.GaussianMixture(4, max_iter=300, tol=1e-2, client=client, **begun)
        return everything(model.fit(x), x)

    expected = fitted()
    with dask_client(2) as client:
        assert fitted(client) == expected
