"""What k-means keeps to: the contracts of every family, and those of a hard one.

Its memory is a cache: with it, without it, and where it is lost midway, every pass has the same bits.
"""

from __future__ import annotations

import json
import pickle
import warnings
from dataclasses import dataclass, field, replace

import numpy as np
import pytest
from blocks import Joined, bits, blocks_of
from executors import NAMES, executor
from hypothesis import given
from hypothesis import strategies as st
from sklearn.cluster import KMeans as Peer
from sklearn.exceptions import ConvergenceWarning
from strategies import KERNELS, chunkings, examples, weights

from distem.em.acceleration import accelerator
from distem.em.checkpoint import dump, restore
from distem.em.loop import Climb, EStep, climb
from distem.em.repair import Repair
from distem.em.stopping import FirstOf, MaxPasses, Settled
from distem.execution.base import fold
from distem.execution.serial import SerialExecutor
from distem.kernels import compiled_centres
from distem.models.gaussian import Gaussian
from distem.models.kmeans import KMeans, KMeansParams
from distem.models.mixture import Mixture, MixtureParams
from distem.types import Rows

kernels = pytest.mark.parametrize("kernels", KERNELS)


@pytest.fixture(autouse=True)
def _bounds_everywhere(monkeypatch):
    """Keep bounds for the smallest problems too."""
    monkeypatch.setattr(compiled_centres, "WORTH", 0)


@st.composite
def cases(draw):
    """Rows, weights, and centres that are some of the rows."""
    n, d, k = draw(st.integers(1, 150)), draw(st.integers(1, 5)), draw(st.integers(1, 6))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    spread = 10.0 ** draw(st.integers(-4, 4))
    x = spread * (rng.normal(size=(n, d)) + draw(st.sampled_from([0.0, 10.0, -1e3])))
    if draw(st.booleans()):
        x = np.round(x / spread, 1) * spread
    return Rows(x, draw(weights(n))), KMeansParams(x[rng.integers(n, size=k)])


def flat(stats) -> dict[str, bytes]:
    return {name: np.asarray(value).tobytes() for name, value in stats.to_arrays().items()}


def clusters(n, d, k, seed=0, spread=4.0):
    rng = np.random.default_rng(seed)
    centres = spread * rng.normal(size=(k, d))
    label = rng.integers(k, size=n)
    return centres[label] + rng.normal(size=(n, d)), label, centres


def ready(model, params, *, passes=60, sample=None, acceleration=None, tol=0.0, name="fit") -> Climb:
    sample = np.empty((0, params.centres.shape[1])) if sample is None else sample
    stop = FirstOf((Settled(tol), MaxPasses(passes)))
    return Climb(name, model, params, stop, Repair(sample, 0, 3 * params.k), accelerator(acceleration))


@kernels
def test_merging_is_associative_and_invariant_to_chunks_up_to_rounding(kernels):
    model = KMeans(kernels)

    @examples(40)
    @given(cases(), st.data())
    def check(case, data):
        rows, params = case
        blocks = blocks_of(rows.values, data.draw(chunkings(rows.n)), rows.weights)
        parts = [model.e_step(block.rows, params) for block in blocks]
        whole = model.e_step(rows, params)
        reach = float(np.abs(rows.values[:, None] - params.centres).max())
        for merged in (fold((0, len(parts)), parts.__getitem__), sum(parts[1:], start=parts[0])):
            assert merged.n == whole.n
            total = max(whole.total, 1e-300)
            for name, scale in (("mass", 1.0), ("first", reach), ("inertia", reach**2)):
                gap = np.abs(getattr(merged, name) - getattr(whole, name)).max()
                assert gap <= 1e-12 * total * max(scale, 1e-300), name

    check()


@kernels
def test_relabelling_pickling_packing(kernels):
    model = KMeans(kernels)

    @examples(30)
    @given(cases(), st.integers(0, 1000))
    def check(case, seed):
        rows, params = case
        stats = model.e_step(rows, params)
        again = pickle.loads(pickle.dumps(stats))
        assert flat(again) == flat(stats)
        assert flat(model.stats_type.from_arrays(stats.to_arrays())) == flat(stats)
        assert bits(model, pickle.loads(pickle.dumps(params))) == bits(model, params)
        assert bits(model, model.unpack(model.pack(params), params)) == bits(model, params)
        assert model.n_parameters(params) == model.pack(params).size
        order = np.random.default_rng(seed).permutation(params.k)
        turned = KMeansParams(params.centres[order])
        if (
            len(np.unique(params.centres, axis=0)) == params.k
            and not np.equal(*two_least(rows, params)).any()
        ):
            other = model.e_step(rows, turned)
            assert other.first.tobytes() == stats.first[order].tobytes()
            one, two = model.assign(rows, params), model.assign(rows, turned)
            np.testing.assert_array_equal(two.probability, one.probability[:, order])
            np.testing.assert_array_equal(two.log_density, one.log_density)

    check()


def two_least(rows, params):
    squares = ((rows.values[:, None] - params.centres) ** 2).sum(axis=2)
    if params.k == 1:
        return squares[:, 0], squares[:, 0] + 1
    return np.sort(squares, axis=1)[:, :2].round(12).T


@kernels
def test_the_objective_never_falls(kernels):
    model = KMeans(kernels)

    @examples(60)
    @given(cases())
    def check(case):
        rows, params = case
        value = -np.inf
        for _ in range(8):
            stats = model.e_step(rows, params)
            assert stats.mean_log_likelihood >= value - 1e-12 * abs(stats.mean_log_likelihood)
            assert model.expected_complete(stats, params) == stats.log_likelihood
            value, params = stats.mean_log_likelihood, model.m_step(stats, params)

    check()


@kernels
def test_clusters_are_found_again(kernels):
    x, label, centres = clusters(3000, 4, 5, spread=8.0)
    model = KMeans(kernels)
    fit = ready(model, KMeansParams(centres + 0.5))
    with SerialExecutor().open(blocks_of(x, (1000, 0, 2000)), resident=True) as opened:
        climb([fit], opened)
    assert fit.fit.reason.converged
    assert (model.assign(Rows(x), fit.fit.params).label == label).mean() > 0.99
    drawn, _ = model.sample(fit.fit.params, 4000, np.random.default_rng(0))
    assert (model.assign(Rows(drawn), fit.fit.params).log_density).mean() == pytest.approx(-4.0, abs=0.2)


@dataclass(frozen=True)
class Watched:
    """K-means that writes down the labels and the work of every block at every pass."""

    model: KMeans
    forget: int = 0
    stats_type = KMeans.stats_type
    seen: list = field(default_factory=list)

    def e_step(self, rows, params):
        if rows.memory is not None and self.forget and len(self.seen) % self.forget == 0:
            rows.memory.clear()  # a memory may vanish at any moment
        stats = self.model.e_step(rows, params)
        bounds = rows.memory and rows.memory.get("bounds")
        label = bounds.label if bounds else self.model.assign(rows, params, probability=False).label
        self.seen.append((label.astype(np.int64).tobytes(), flat(stats), bounds and bounds.worked))
        return stats

    def __getattr__(self, name):
        return getattr(self.model, name)


@pytest.mark.parametrize("acceleration", [None, "anderson"])
@pytest.mark.parametrize("structured", [True, False])
@pytest.mark.parametrize(("n", "d", "k"), [(3000, 2, 3), (2000, 6, 12), (1500, 20, 30)])
def test_every_pass_has_the_same_labels_and_bits_with_a_memory_without_and_with_one_that_is_lost(
    n, d, k, structured, acceleration
):
    x = clusters(n, d, k, spread=3.0)[0] if structured else np.random.default_rng(0).normal(size=(n, d))
    blocks = blocks_of(x, (n // 2, 1, n - n // 2 - 1), np.random.default_rng(1).random(n))
    start = KMeansParams(x[:k].copy())
    seen, ends = [], []
    for forget, resident, bounds in ((0, True, True), (5, True, True), (0, False, True), (0, True, False)):
        watched = Watched(KMeans(bounds=bounds), forget)
        fit = ready(watched, start, acceleration=acceleration, sample=x[:50])
        with SerialExecutor().open(blocks, resident=resident) as opened:
            climb([fit], opened)
        seen.append(watched.seen)
        ends.append((bits(watched.model, fit.fit.params), fit.trace, fit.reason))
    assert all(end == ends[0] for end in ends)
    for other in seen[1:]:
        assert [s[:2] for s in other] == [s[:2] for s in seen[0]]
    worked = sum(s[2] for s in seen[0])
    assert worked < sum(s[2] for s in seen[1])  # bounds spared something, and their loss cost it
    if structured:
        assert worked < 0.75 * n * len(ends[0][1])  # of few passes, the first two cannot be spared


def test_the_labels_are_scikit_learn_s_at_every_pass():
    x, _, _ = clusters(2000, 3, 8, spread=2.0)
    w = np.random.default_rng(3).random(2000)
    start = x[:8].copy()
    fit = ready(KMeans(), KMeansParams(start))
    found = []
    with SerialExecutor().open(blocks_of(x, (700, 1300), w), resident=True) as opened:
        while fit.reason is None:
            found.append((fit.params.centres, opened.map_reduce(Assigned(fit.params)).values))
            fit.advance(opened.map_reduce(EStep(((fit.model, fit.params),), ("fit",))).each[0])
    for passes in (1, 2, 3, 5, 8, len(found) - 1):
        peer = Peer(8, init=start, n_init=1, max_iter=passes, tol=0, algorithm="lloyd")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            peer.fit(x, sample_weight=w)
        centres, label = found[passes]
        np.testing.assert_allclose(centres, peer.cluster_centers_, rtol=0, atol=1e-12)
        np.testing.assert_array_equal(label, peer.labels_)
        assert -fit.trace[passes].log_likelihood * w.sum() == pytest.approx(peer.inertia_, rel=1e-12)
    peer = Peer(8, init=start, n_init=1, tol=0, algorithm="lloyd").fit(x, sample_weight=w)
    assert len(fit.trace) == peer.n_iter_


@dataclass(frozen=True)
class Assigned:
    """The pass that labels rows."""

    params: KMeansParams

    def __call__(self, rows, block):
        return Joined(KMeans().assign(rows, self.params, probability=False).label)


def test_memories_are_kept_by_name_go_with_their_fit_and_are_not_pickled():
    x, _, _ = clusters(500, 3, 4)
    rows, model, params = Rows(x).remembering(), KMeans(), KMeansParams(x[:4])
    EStep(((model, params), (model, params)), ("a", "b"))(rows, 0)
    assert sorted(rows.memory) == ["a", "b"]
    EStep(((model, params),), ("b",))(rows, 0)
    assert sorted(rows.memory) == ["b"]
    assert pickle.loads(pickle.dumps(rows)).memory == {}
    assert pickle.loads(pickle.dumps(Rows(x))).memory is None
    EStep(((model, params),))(rows, 0)  # nobody's: nothing is left
    assert sorted(rows.memory) == ["b"]
    for name in ("a", "b"):
        assert replace(rows, memory=None).slot(name).memory is None


@pytest.mark.parametrize("name", NAMES)
def test_executors_give_the_same_bits(name):
    x, _, _ = clusters(4000, 5, 9, spread=2.0)
    blocks = blocks_of(x, (1000, 0, 1, 1499, 1500))
    ends = []
    for make, partitions in (("serial", None), (name, 3)):
        with (
            executor(make) as place,
            place.open(blocks, resident=True, partitions=partitions) as opened,
        ):
            fit = ready(KMeans(), KMeansParams(x[:9].copy()), sample=x[:50])
            climb([fit], opened)
        ends.append((bits(fit.model, fit.fit.params), fit.trace))
    assert ends[0] == ends[1]


@pytest.mark.parametrize("acceleration", [None, "squarem", "anderson"])
def test_a_checkpoint_after_any_pass_goes_on_with_the_same_bits(acceleration):
    x, _, _ = clusters(400, 2, 5, spread=1.0)
    start = KMeansParams(np.vstack([x[:4], [[1e4, 1e4]]]))  # one is far from all rows: it is moved
    blocks, kept = blocks_of(x, (150, 0, 1, 249)), []

    def fresh():
        return [ready(KMeans(), start, passes=9, sample=x[:50], acceleration=acceleration)]

    whole = fresh()

    def keep() -> None:
        arrays, info = dump(whole)
        kept.append(({name: array.copy() for name, array in arrays.items()}, json.dumps(info)))

    with SerialExecutor().open(blocks, resident=True) as opened:
        climb(whole, opened, after_pass=keep)
        assert any(point.fresh for point in whole[0].trace)
        assert len(whole[0].fit.params.centres) == 5
        for arrays, info in kept:
            again = fresh()
            restore(again, arrays, json.loads(info))
            climb(again, opened)
            assert bits(KMeans(), again[0].fit.params) == bits(KMeans(), whole[0].fit.params)
            assert again[0].trace == whole[0].trace
            assert again[0].reason == whole[0].reason


def test_a_spherical_mixture_of_one_small_variance_is_k_means():
    x, _, centres = clusters(1500, 3, 4, spread=2.0)
    mixture = Mixture(Gaussian("spherical", 0.0))
    for sd in (0.3, 0.1, 0.02):
        even = np.full(4, 0.25)
        theta = mixture.component.theta(centres, np.full(4, sd**2))
        soft = mixture.e_step(Rows(x), MixtureParams(even, theta))
        hard = KMeans().e_step(Rows(x), KMeansParams(centres))
        gap = float(np.abs(soft.moments.mass - hard.mass).max())
        constant = 1500 * (np.log(0.25) - 1.5 * np.log(2 * np.pi * sd**2))
        objective = 2 * sd**2 * (soft.log_likelihood - constant)
    assert gap < 2.0
    assert objective == pytest.approx(-hard.inertia, rel=1e-3)
    np.testing.assert_allclose(soft.moments.first, hard.first, atol=3.0)
