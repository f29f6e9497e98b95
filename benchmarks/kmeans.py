"""K-means: a Lloyd pass beside scikit-learn's, and whole fits with bounds kept beside the rows."""

from __future__ import annotations

import itertools
import os
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sklearn.cluster import KMeans as Peer
from sklearn.cluster import kmeans_plusplus
from sklearn.exceptions import ConvergenceWarning
from threadpoolctl import threadpool_limits

from benchmarks.harness import Goal, Section, Table, medians, seconds
from distem.em.loop import Climb, EStep, climb
from distem.em.repair import Repair
from distem.em.stopping import FirstOf, MaxPasses, Settled
from distem.execution.base import BlockSet
from distem.execution.threads import ThreadsExecutor
from distem.kernels.compiled_centres import warm
from distem.models.kmeans import KMeans, KMeansParams
from distem.types import Rows

SHAPES = [(1_000_000, 3, 16), (500_000, 16, 64), (200_000, 64, 128), (100_000, 128, 512)]
NUMBERS = itertools.count()
PASSES = 25
"""Of a whole fit on clusters, unless it has converged before."""

ABOUT = (
    "scikit-learn's `KMeans(algorithm='lloyd', n_init=1, tol=0)` from the same centres on as many threads; "
    "whole fits begin from k-means++ on some of the rows, so that no cluster becomes empty, which the two "
    "mend in different ways. A pass is timed on unstructured rows (one normal cloud), scikit-learn's as a "
    f"third of four passes less one. Whole fits run {PASSES} passes or until nothing moves, on k normal "
    "clusters whose centres are drawn with 3 standard deviations, and on one cloud (12 passes), where bounds "
    "spare little and must cost little. Bounds are chosen by shape: where all distances of a row "
    "take fewer steps than looking after its bounds, there are none. The labels of every "
    "pass with bounds are asserted to be those of Lloyd's full passes, row by row."
)

TRIED = (
    "at (1M, 3, 16) bounds cost more than they spare. Hamerly's took 1.3 to 2 times a fit without, though "
    "they left a fifth of the rows to do; carried over in one sweep without branches they still took as long "
    "as all 16 distances of a row (12 ns a row on one core). So there are none at that shape, and the figure "
    "is that of full passes. Of those 12 ns finding the least of the scores takes 3.5, deciding labels 3.5. "
    "From 16 features on a pass is a matrix product for both: from run to run and with or without AVX-512 "
    "0.83 to 1.03; without it, scores in parts of a row brought 64 and 128 features from 1.90 and 2.05. "
    "Centred rows, register blocks and a panel at a time were the steps to there."
)


@dataclass(frozen=True, eq=False)
class Part:
    """A block of rows at hand."""

    index: int
    rows: Rows

    @property
    def n(self) -> int:
        """Rows."""
        return self.rows.n

    @property
    def nbytes(self) -> int:
        """Bytes."""
        return self.rows.nbytes

    def load(self) -> Rows:
        """The rows."""
        return self.rows


@contextmanager
def opened(x: NDArray[np.float64], threads: int) -> Iterator[BlockSet]:
    """The rows in resident blocks of 2 MiB."""
    parts = np.array_split(x, max(threads, x.nbytes // 2**21))
    blocks = [Part(i, Rows(part)) for i, part in enumerate(parts)]
    with ThreadsExecutor(threads) as place, place.open(blocks, resident=True) as blockset:
        yield blockset


def clusters(n: int, d: int, k: int) -> NDArray[np.float64]:
    """Rows of k normal clusters."""
    rng = np.random.default_rng(0)
    means = 3.0 * rng.normal(size=(k, d))
    return means[rng.integers(k, size=n)] + rng.normal(size=(n, d))


def begin(x: NDArray[np.float64], k: int) -> NDArray[np.float64]:
    """A start by k-means++ on some of the rows, in which no cluster becomes empty."""
    return kmeans_plusplus(x[: 20 * k], k, random_state=0)[0]


def fit(blocks: BlockSet, start: NDArray[np.float64], passes: int, bounds: bool) -> Climb:
    """A fit from its start to its end."""
    stop = FirstOf((Settled(), MaxPasses(passes)))
    repair = Repair(np.empty((0, start.shape[1])), 0, 0)
    # a name of its own: it must not find what an earlier fit left beside the rows
    found = Climb(f"fit {next(NUMBERS)}", KMeans(bounds=bounds), KMeansParams(start), stop, repair)
    climb([found], blocks)
    return found


def peer(x: NDArray[np.float64], start: NDArray[np.float64], passes: int) -> Peer:
    """scikit-learn's fit, on all cores: an executor that is open keeps OpenMP and BLAS to one thread."""
    with threadpool_limits(len(os.sched_getaffinity(0))), warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        model = Peer(len(start), init=start, n_init=1, tol=0, max_iter=passes, algorithm="lloyd")
        return model.fit(x)


def assert_identical(parts: Sequence[NDArray[np.float64]], start: NDArray[np.float64], passes: int) -> None:
    """Compare the labels and sums of every pass with bounds to those of a full one."""
    model, params = KMeans(), KMeansParams(start)
    rows = [Rows(part).remembering() for part in parts]
    for number in range(passes):
        found = [model.e_step(part, params) for part in rows]
        for part, stats in zip(rows, found, strict=True):
            label = model.assign(Rows(part.values), params, probability=False).label
            full = model.e_step(Rows(part.values), params)
            bounds = (part.memory or {}).get("bounds")
            same = bounds is None or np.array_equal(bounds.label, label)
            same &= stats.first.tobytes() == full.first.tobytes() and stats.inertia == full.inertia
            if not same:
                raise AssertionError(f"pass {number + 1} with bounds is not Lloyd's")
        params = model.m_step(sum(found[1:], start=found[0]), params)


def one_pass(threads: int, repeats: int, share: int) -> Table:
    """Lloyd passes without bounds."""
    table = Table(
        "A Lloyd pass, no bounds",
        ["n", "d", "k", "distem, ms", "scikit-learn, ms", "ns per row and centre", "ratio"],
    )
    for n, d, k in SHAPES:
        x = np.random.default_rng(0).normal(size=(n // share, d))
        start = x[:k].copy()
        with opened(x, threads) as blocks:
            step = EStep(((KMeans(), KMeansParams(start)),))
            took = medians(
                {
                    "distem": lambda step=step, blocks=blocks: seconds(lambda: blocks.map_reduce(step)),
                    "scikit-learn": lambda x=x, start=start: (
                        (seconds(lambda: peer(x, start, 4)) - seconds(lambda: peer(x, start, 1))) / 3
                    ),
                },
                repeats,
            )
        ours, theirs = took["distem"], took["scikit-learn"]
        table.add(
            f"{len(x):,}", str(d), str(k), f"{1e3 * ours:.1f}", f"{1e3 * theirs:.1f}",
            f"{1e9 * ours / len(x) / k:.2f}", Goal(ours / theirs, 1.0),
        )  # fmt: skip
    return table


def whole_fits(threads: int, repeats: int, share: int, structured: bool) -> Table:
    """Whole fits with and without bounds."""
    table = Table(
        "Whole fits on clusters" if structured else "Whole fits on one cloud: no goal, bounds must not hurt",
        [
            "n",
            "d",
            "k",
            "passes",
            "with bounds, s",
            "without, s",
            "scikit-learn, s",
            "ratio",
            "inertia's gap",
        ],
    )
    for n, d, k in SHAPES:
        size = n // share
        x = clusters(size, d, k) if structured else np.random.default_rng(0).normal(size=(size, d))
        start, passes = begin(x, k), PASSES if structured else 12
        with opened(x, threads) as blocks:
            took = medians(
                {
                    "bounds": lambda b=blocks, s=start, p=passes: seconds(lambda: fit(b, s, p, True)),
                    "plain": lambda b=blocks, s=start, p=passes: seconds(lambda: fit(b, s, p, False)),
                    "peer": lambda x=x, s=start, p=passes: seconds(lambda: peer(x, s, p)),
                },
                repeats,
                warm=False,
            )
            found, theirs = fit(blocks, start, passes, True), peer(x, start, passes)
        if found.params.k != k:  # then the two would not have done the same work
            raise AssertionError("a cluster lost all its rows: choose another start")
        assert_identical(np.array_split(x, max(threads, x.nbytes // 2**21)), start, len(found.trace))
        # scikit-learn's inertia is that of the centres after its last pass
        inertia = -found.trace[-1].log_likelihood * len(x)
        ratio = took["bounds"] / took["peer"]
        table.add(
            f"{size:,}", str(d), str(k), f"{len(found.trace)} / {theirs.n_iter_}", f"{took['bounds']:.2f}",
            f"{took['plain']:.2f}", f"{took['peer']:.2f}", Goal(ratio, 0.5) if structured else f"{ratio:.2f}",
            f"{inertia / theirs.inertia_ - 1.0:.0e}",
        )  # fmt: skip
    return table


def run(quick: bool) -> Section:
    """Measure."""
    warm(np.float64)
    threads, share = len(os.sched_getaffinity(0)), 5 if quick else 1
    return Section(
        "K-means",
        ABOUT,
        [
            one_pass(threads, 3 if quick else 5, share),
            whole_fits(threads, 1 if quick else 5, share, structured=True),
            whole_fits(threads, 1 if quick else 3, share, structured=False),
        ],
        tried=TRIED,
    )
