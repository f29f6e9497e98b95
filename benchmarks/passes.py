"""Passes to the optimum: plain EM, SQUAREM and Anderson from the same starts on a published set of problems.

The set is defined by seeds and by data that scikit-learn ships, so that everybody can make it. Plain EM
climbs until the gain left is below 1e-11 per row or its steps are rounding: that is the optimum. What
counts is the number of passes over the data until the log-likelihood is within 1e-7 per row of it,
rejected proposals included. Time is not measured.
"""

from __future__ import annotations

import math
import statistics
from dataclasses import dataclass
from functools import cache

import numpy as np
from sklearn import datasets
from sklearn.decomposition import PCA

from benchmarks.harness import Goal, Section, Table
from distem._random import generator
from distem.em.acceleration import accelerator
from distem.em.loop import Climb
from distem.em.repair import Repair
from distem.em.stopping import GainLeft
from distem.execution.base import one_blas_thread
from distem.models import seeding
from distem.models.gaussian import Gaussian
from distem.models.mixture import Mixture
from distem.types import Float64, Rows

NEAR = 1e-7
"""Per row: within this of the optimum, a climb has arrived."""
SETTLED = 1e-11
"""Per row: what a climb may still expect where its optimum is said to be."""
WORSE = 1e-8
"""Per row: an end below plain EM's by more than this is a worse optimum."""
MOST = 60_000
"""Passes after which a climb is stopped in any case."""
METHODS = ("squarem", "anderson")


def standardised(values: Float64) -> Float64:
    """Each feature with mean 0 and variance 1."""
    return np.asarray((values - values.mean(axis=0)) / values.std(axis=0))


@cache
def shipped(name: str) -> Float64:
    """Data that scikit-learn ships, standardised; digits as their first principal components."""
    if name.endswith(".jpg"):
        pixels = datasets.load_sample_image(name)[::8, ::8].reshape(-1, 3)
        # levels of 8 bits are lifted off their grid, or components would shrink onto it
        jitter = np.random.default_rng(0).uniform(-0.5, 0.5, size=pixels.shape)
        return standardised(pixels + jitter)
    if name.startswith("digits"):
        scores = PCA(int(name.split()[1]), svd_solver="full").fit_transform(datasets.load_digits().data)
        return standardised(scores)
    data = getattr(datasets, f"load_{name.split()[0]}")().data
    return standardised(data[:, :10] if name == "breast_cancer 10" else data)


@dataclass(frozen=True)
class Simulated:
    """Rows of a Gaussian mixture.

    Parameters
    ----------
    n, d, k : int
        Rows, features, components.
    apart : float
        Standard deviation of the components' means; their own is about 1.
    seed : int
        Of means, shapes and rows.
    weights : tuple of float, optional
        Default: equal.
    tails : float, optional
        Degrees of freedom of Student's t; default: normal.
    """

    n: int
    d: int
    k: int
    apart: float
    seed: int
    weights: tuple[float, ...] | None = None
    tails: float | None = None

    def rows(self) -> Float64:
        """Draw them, shape (n, d), standardised."""
        rng = np.random.default_rng(self.seed)
        means = rng.normal(size=(self.k, self.d)) * self.apart
        mixes = np.eye(self.d) + 0.4 * rng.normal(size=(self.k, self.d, self.d)) / np.sqrt(self.d)
        label = rng.choice(self.k, self.n, p=self.weights)
        noise = rng.normal(size=(self.n, self.d))
        if self.tails is not None:
            noise /= np.sqrt(rng.chisquare(self.tails, size=(self.n, 1)) / self.tails)
        return standardised(means[label] + np.einsum("nij,nj->ni", mixes[label], noise))


@dataclass(frozen=True)
class Problem:
    """Data, a model and a start: `init` with `seed`, on all rows."""

    name: str
    data: str | Simulated
    covariance: str
    k: int
    init: str = "random_from_data"
    seed: int = 0

    def rows(self) -> Rows:
        """The data."""
        return Rows(shipped(self.data) if isinstance(self.data, str) else self.data.rows())

    def climb(self, rows: Rows, method: str) -> Climb:
        """A fit that has come to its end."""
        model = Mixture(Gaussian(self.covariance, data_variance=np.ones(rows.d)))
        everything = seeding.Sample(rows.n, np.arange(rows.n, dtype=float), rows.values, np.ones(rows.n))
        start = seeding.start(self.init, model, self.k, everything, generator(self.seed, "start"))
        repair = Repair(rows.values, self.seed, 3 * self.k)
        fit = Climb(self.name, model, start, GainLeft(SETTLED), repair, accelerator(method))
        while fit.reason is None and len(fit.trace) < MOST:
            fit.advance(fit.model.e_step(rows, fit.params))
        return fit


PROBLEMS = (
    Problem("iris", "iris", "full", 3, "kmeans"),
    Problem("iris, tied", "iris", "tied", 5),
    Problem("wine", "wine", "diag", 3),
    Problem("wine, spherical", "wine", "spherical", 4),
    Problem("breast cancer, 10 features", "breast_cancer 10", "full", 3),
    Problem("breast cancer", "breast_cancer", "diag", 4),
    Problem("breast cancer, tied", "breast_cancer", "tied", 3),
    Problem("digits, 10 features", "digits 10", "full", 8, "kmeans"),
    Problem("digits, 20 features", "digits 20", "diag", 10),
    Problem("digits, tied", "digits 10", "tied", 10),
    Problem("diabetes", "diabetes", "diag", 3),
    Problem("diabetes, spherical", "diabetes", "spherical", 4),
    Problem("china.jpg", "china.jpg", "full", 5, "kmeans"),
    Problem("china.jpg, spherical", "china.jpg", "spherical", 8, "kmeans"),
    Problem("flower.jpg", "flower.jpg", "diag", 6, "kmeans"),
    Problem("well apart", Simulated(10_000, 3, 4, 8.0, 1), "full", 4, "kmeans"),
    Problem("well apart, random start", Simulated(5_000, 8, 5, 4.0, 2), "diag", 5, "random"),
    Problem("overlapping", Simulated(10_000, 2, 3, 2.0, 3), "full", 3),
    Problem("overlapping more", Simulated(10_000, 3, 4, 1.2, 4), "full", 4),
    Problem("overlapping heavily", Simulated(5_000, 4, 4, 0.8, 5), "full", 4),
    Problem("two in one dimension", Simulated(2_000, 1, 2, 1.0, 6), "full", 2),
    Problem("unequal weights", Simulated(20_000, 2, 3, 2.0, 7, (0.90, 0.08, 0.02)), "full", 3),
    Problem("a component too many", Simulated(5_000, 2, 3, 3.0, 8), "full", 4),
    Problem("two components too many", Simulated(5_000, 3, 3, 3.0, 9), "diag", 5),
    Problem("overlapping, diag", Simulated(5_000, 5, 6, 1.0, 10), "diag", 6),
    Problem("overlapping, spherical", Simulated(5_000, 3, 8, 1.5, 11), "spherical", 8),
    Problem("overlapping, tied", Simulated(5_000, 4, 4, 1.2, 12), "tied", 4),
    Problem("heavy tails", Simulated(10_000, 2, 3, 3.0, 13, None, 4.0), "full", 4),
    Problem("many features", Simulated(3_000, 30, 3, 0.6, 14), "full", 3),
    Problem("many components", Simulated(20_000, 2, 12, 4.0, 15), "full", 12),
)
"""The published set."""


@dataclass(frozen=True)
class Climbed:
    """Where a climb came from the start of a problem.

    Attributes
    ----------
    passes : float
        To within `NEAR` of plain EM's optimum; infinite if it never came there.
    end : float
        Log-likelihood per row in the end.
    stopped : float
        The same where a tolerance of `NEAR` on the gain still expected stopped it.
    """

    passes: float
    end: float
    stopped: float


def measure(problem: Problem, rows: Rows, method: str, optimum: float | None = None) -> Climbed:
    """Climb to the end; where a tolerance would have stopped the climb follows from its trace."""
    trace = problem.climb(rows, method).trace
    values = [p.log_likelihood for p in trace]
    end = max(values)
    if optimum is None:
        return Climbed(_first(values, end - NEAR), end, end)
    stops = (i for i in range(1, len(trace)) if GainLeft(NEAR)(trace[:i]) is not None)
    return Climbed(_first(values, optimum - NEAR), end, max(values[: next(stops, len(values))]))


def _first(values: list[float], level: float) -> float:
    return next((i for i, value in enumerate(values, 1) if value >= level), math.inf)


def run(quick: bool) -> Section:
    """Count passes."""
    headers = ["problem", "n, d, k", "plain", *METHODS, "ratio", "end against plain's", "short at 1e-7"]
    table = Table("Passes to within 1e-7 per row of plain EM's optimum; the last three of Anderson", headers)
    plain: list[float] = []
    found: dict[str, list[Climbed]] = {method: [] for method in METHODS}
    worse: dict[str, int] = dict.fromkeys(METHODS, 0)
    with one_blas_thread():
        for problem in PROBLEMS[::4] if quick else PROBLEMS:
            rows = problem.rows()
            slow = measure(problem, rows, "none")
            plain.append(slow.passes)
            for method in METHODS:
                found[method].append(measure(problem, rows, method, slow.end))
                worse[method] += found[method][-1].end < slow.end - WORSE
            last = found["anderson"][-1]
            table.add(
                f"{problem.name} ({problem.covariance})",
                f"{rows.n:,}, {rows.d}, {problem.k}",
                slow.passes,
                *(found[method][-1].passes for method in METHODS),
                f"{last.passes / slow.passes:.2f}",
                f"{last.end - slow.end:+.0e}",
                f"{max(last.end - last.stopped, 0.0):.0e}",
            )
    slowest = sorted(range(len(plain)), key=plain.__getitem__)[-max(1, len(plain) // 4) :]
    summary = Table(
        "Ratios to plain EM's passes",
        ["method", "median", "median of the slowest quarter", "worst", "worse optima"],
    )
    for method in METHODS:
        ratios = [c.passes / p for c, p in zip(found[method], plain, strict=True)]
        summary.add(
            method,
            Goal(statistics.median(ratios), 0.5),
            Goal(statistics.median(ratios[i] for i in slowest), 0.15),
            Goal(max(ratios), 1.2),
            Goal(worse[method], 0, form=".0f"),
        )
    about = (
        f"{len(plain)} problems, {sum(plain):,} passes of plain EM. Data is standardised; a problem is its "
        "data, covariance, number of components, start and seed in `benchmarks/passes.py`. The optimum is "
        "where plain EM ends with less than 1e-11 per row to gain. Rejected proposals are counted."
    )
    return Section("Fewer passes", about, [table, summary], TRIED)


TRIED = (
    "SQUAREM (S3) is a method without memory, kept as its authors describe it; its leaps are neither damped "
    "nor delayed, so that a few land in other optima. Anderson, the default, had six predecessors: they are "
    "in the table of the decision on Anderson of type one."
)
