"""One EM iteration in memory, beside oneDAL, scikit-learn, Spark MLlib and BLAS's matrix product."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from functools import reduce
from operator import add
from pathlib import Path
from typing import Any

import numpy as np
from threadpoolctl import threadpool_limits

from benchmarks.harness import Goal, Section, Table, medians, seconds
from benchmarks.peers import (
    CORES,
    Floats,
    onedal_iteration,
    scikit_learn_iteration,
    spark,
    spark_iteration,
    spark_vectors,
    write_parquet,
)
from distem.execution.base import one_blas_thread
from distem.models.gaussian import Gaussian
from distem.models.mixture import Mixture, MixtureParams
from distem.types import Rows

PASSES = 10
"""After so many the parameters of float32 tiles are compared with those of float64."""
SIDE = 1500
"""Of the square matrices that BLAS multiplies."""


@dataclass(frozen=True)
class Shape:
    """Rows, features, components, and what is asked there of full covariances in float64."""

    n: int
    d: int
    k: int
    onedal: float | None = None
    sklearn: float | None = None
    spark: float | None = None
    gemm: float | None = None

    def __str__(self) -> str:
        return f"{self.n:,} x {self.d}, k = {self.k}"


SHAPES = (
    Shape(1_000_000, 3, 8, onedal=0.35, sklearn=0.02),
    Shape(500_000, 8, 8, onedal=0.45, sklearn=0.04, spark=0.02),
    Shape(200_000, 32, 16, onedal=0.75, sklearn=0.15),
    Shape(100_000, 64, 32, onedal=0.50, sklearn=0.12, gemm=0.65),
    Shape(50_000, 128, 16, gemm=0.70),
)


class Problem:
    """Standardised rows of overlapping components, and a start for everyone."""

    def __init__(self, kind: str, n: int, d: int, k: int) -> None:
        rng = np.random.default_rng(0)
        means = rng.normal(size=(k, d)) * 2 / np.sqrt(d)
        x = means[rng.integers(k, size=n)] + rng.normal(size=(n, d))
        self.x = (x - x.mean(axis=0)) / x.std(axis=0)
        self.means = (means - x.mean(axis=0)) / x.std(axis=0)
        self.weights = np.full(k, 1 / k)
        root = np.triu(rng.normal(size=(k, d, d)), 1) * 0.3 / np.sqrt(d) + np.eye(d)
        matrices = root @ np.swapaxes(root, 1, 2)
        diagonals = rng.uniform(0.7, 1.4, (k, d))
        self.kind = kind
        self.covariances = {
            "full": matrices, "tied": matrices[0], "diag": diagonals, "spherical": diagonals[:, 0],
        }[kind]  # fmt: skip

    @property
    def precisions(self) -> Floats:
        """As scikit-learn takes them."""
        return np.linalg.inv(self.covariances) if self.kind in ("full", "tied") else 1 / self.covariances

    def model(self) -> tuple[Mixture, MixtureParams]:
        """What distem fits, and its start."""
        d = self.x.shape[1]
        component = Gaussian(self.kind, 1e-6, 1e-24, np.ones(d), "compiled")  # type: ignore[arg-type]
        return Mixture(component), MixtureParams(self.weights, component.theta(self.means, self.covariances))


class Bench:
    """Passes over rows in memory, shared out among all cores."""

    def __init__(self, problem: Problem, pool: ThreadPoolExecutor) -> None:
        self.mixture, self.start = problem.model()
        self.pool = pool
        # four parts for each core, so that none waits long for another
        self.parts = [Rows(part) for part in np.array_split(problem.x, 4 * CORES)]
        self.parts32 = [Rows(part.values.astype(np.float32)) for part in self.parts]

    def e_step(self, parts: list[Rows], params: MixtureParams) -> Any:
        """Sums over all parts."""
        return reduce(add, self.pool.map(lambda part: self.mixture.e_step(part, params), parts))

    def iteration(self, parts: list[Rows]) -> float:
        """Seconds of one of three iterations, after a first that does not count: as for the peers."""
        params = self.iterate(parts, self.start)
        begin = time.perf_counter()
        for _ in range(3):
            params = self.iterate(parts, params)
        return (time.perf_counter() - begin) / 3

    def iterate(self, parts: list[Rows], params: MixtureParams) -> MixtureParams:
        """E-step on all cores, M-step with one BLAS thread, as the engine takes it."""
        sums = self.e_step(parts, params)
        with one_blas_thread():
            return self.mixture.m_step(sums, params)

    def assign(self, probability: bool) -> float:
        """Seconds to answer for all rows: labels, densities, uncertainties, and probabilities or not."""

        def part(rows: Rows) -> Any:
            return self.mixture.assign(rows, self.start, probability=probability)

        return seconds(lambda: list(self.pool.map(part, self.parts)))

    def assign_limit(self, probability: bool) -> float:
        """Seconds of an E-step and of writing as much as the answers are to new memory."""

        def write(rows: Rows) -> Any:
            columns = 3 + (self.start.k if probability else 0)
            return np.ones((columns, rows.n))

        return seconds(lambda: (self.e_step(self.parts, self.start), list(self.pool.map(write, self.parts))))

    def drift(self) -> float:
        """How far float32 tiles lead from float64's parameters: the largest difference."""
        exact = single = self.start
        for _ in range(PASSES):
            exact, single = self.iterate(self.parts, exact), self.iterate(self.parts32, single)
        pairs = zip(self.mixture.arrays(exact).values(), self.mixture.arrays(single).values(), strict=True)
        return max(float(np.abs(a - b).max()) for a, b in pairs)


def product(dtype: type) -> Callable[[], float]:
    a = np.random.default_rng(0).random((SIDE, SIDE)).astype(dtype)

    def multiply() -> float:
        a @ a
        return seconds(lambda: [a @ a for _ in range(3)]) / 3

    return multiply


def below(ratio: float, limit: float | None) -> Goal | str:
    return f"{ratio:.3f}" if limit is None else Goal(ratio, limit, form=".3f")


def run(quick: bool) -> Section:
    """Measure all."""
    repeats = 3 if quick else 5
    full = Table(
        f"Full covariances, float64: ns per row and component of one EM iteration, {CORES} threads for all",
        [
            "rows x features", "distem", "oneDAL", "scikit-learn", "Spark MLlib", "distem / oneDAL",
            "distem / scikit-learn", "distem / Spark", "share of dgemm",
        ],
    )  # fmt: skip
    single = Table(
        f"Full covariances, float32 tiles beside float64's, parameters after {PASSES} passes",
        ["rows x features", "float64, ns", "float32, ns", "times as fast", "largest difference", "of sgemm"],
    )
    others = Table(
        "Other covariances, float64: ns per row and component of one EM iteration",
        ["covariance", "rows x features", "distem", "scikit-learn", "distem / scikit-learn"],
    )
    answers = Table(
        "Labels, densities and uncertainties of all rows, beside an E-step and the writing: "
        "ns per row and component",
        ["rows x features", "with probabilities", "goal", "without", "goal"],
    )
    with ExitStack() as stack:
        stack.enter_context(threadpool_limits(CORES))
        pool = stack.enter_context(ThreadPoolExecutor(CORES))
        for shape in SHAPES:
            n = shape.n // 10 if quick else shape.n
            full_shape(shape, n, pool, repeats, full, single)
            answer(shape, n, pool, repeats, answers)
        for kind in ("tied", "diag", "spherical"):
            for shape in SHAPES:
                n = shape.n // 10 if quick else shape.n
                other_kind(kind, shape, n, pool, repeats, others)
    return Section(
        "Kernels",
        ABOUT,
        [full, single, others, answers],
        TRIED,
    )


def full_shape(
    shape: Shape, n: int, pool: ThreadPoolExecutor, repeats: int, full: Table, single: Table
) -> None:
    problem = Problem("full", n, shape.d, shape.k)
    bench = Bench(problem, pool)
    start = (problem.x, problem.weights, problem.means)
    candidates = {
        "float64": lambda: bench.iteration(bench.parts),
        "float32": lambda: bench.iteration(bench.parts32),
        "dgemm": product(np.float64),
        "sgemm": product(np.float32),
        "onedal": lambda: onedal_iteration(*start, problem.covariances),
        "sklearn": lambda: scikit_learn_iteration("full", *start, problem.precisions),
    }
    with ExitStack() as stack:
        if shape.spark is not None:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            session = stack.enter_context(spark(folder))
            cached = spark_vectors(session, write_parquet(folder / "x", problem.x)).cache()
            cached.count()
            candidates["spark"] = lambda: spark_iteration(cached, shape.k)
        found = medians(candidates, repeats)
    ns = {name: time / n / shape.k * 1e9 for name, time in found.items()}
    rate = n * shape.k * shape.d**2 * found["dgemm"] / SIDE**3
    share = rate / found["float64"]
    mine = found["float64"]
    full.add(
        str(shape),
        f"{ns['float64']:.2f}",
        f"{ns['onedal']:.1f}",
        f"{ns['sklearn']:.0f}",
        f"{ns['spark']:.0f}" if "spark" in ns else "",
        below(mine / found["onedal"], shape.onedal),
        below(mine / found["sklearn"], shape.sklearn),
        below(mine / found["spark"], shape.spark) if "spark" in ns else "",
        f"{share:.2f}" if shape.gemm is None else Goal(share, shape.gemm, at_least=True),
    )
    faster = mine / found["float32"]
    single.add(
        str(shape),
        f"{ns['float64']:.2f}",
        f"{ns['float32']:.2f}",
        Goal(faster, 1.6, at_least=True) if shape.d >= 8 else f"{faster:.2f}",
        Goal(bench.drift(), 1e-5, form=".1e"),
        f"{rate / found['dgemm'] * found['sgemm'] / found['float32']:.2f}",
    )


def answer(shape: Shape, n: int, pool: ThreadPoolExecutor, repeats: int, answers: Table) -> None:
    bench = Bench(Problem("full", n, shape.d, shape.k), pool)
    candidates = {
        "with": lambda: bench.assign(True),
        "limit with": lambda: bench.assign_limit(True),
        "without": lambda: bench.assign(False),
        "limit without": lambda: bench.assign_limit(False),
    }
    found = medians(candidates, repeats)
    cells: list[Any] = []
    for name in ("with", "without"):
        ns = found[name] / n / shape.k * 1e9
        cells += [f"{ns:.2f}", Goal(found[name] / found[f"limit {name}"], 1.0)]
    answers.add(str(shape), *cells)


def other_kind(
    kind: str, shape: Shape, n: int, pool: ThreadPoolExecutor, repeats: int, others: Table
) -> None:
    problem = Problem(kind, n, shape.d, shape.k)
    bench = Bench(problem, pool)
    start = (problem.x, problem.weights, problem.means, problem.precisions)
    candidates = {
        "distem": lambda: bench.iteration(bench.parts),
        "sklearn": lambda: scikit_learn_iteration(kind, *start),
    }
    found = medians(candidates, repeats)
    ns = {name: time / n / shape.k * 1e9 for name, time in found.items()}
    others.add(
        kind,
        str(shape),
        f"{ns['distem']:.2f}",
        f"{ns['sklearn']:.1f}",
        Goal(ns["distem"] / ns["sklearn"], 0.1, form=".3f"),
    )


ABOUT = (
    "Rows in memory, one start for all but Spark, as many threads for all. The time is that of one EM "
    "iteration, E-step and M-step, without what comes before the first: of distem, oneDAL and Spark "
    "what four iterations take more than one, by three; of scikit-learn the time between the ends of "
    "its first and second M-step. Spark reads the rows from its own cache, in memory and as vectors; it "
    "takes no start, and an iteration from its own random one does the same work. The share of dgemm is "
    "that of d² multiply-adds for each row and component, half to whiten and half for the outer "
    f"products, beside those per second of a product of two matrices of {SIDE} x {SIDE} in the same run."
)
TRIED = (
    "(a) diag from 64 features on: a row and component takes 4d multiply-adds, two sums for the E-step "
    "and two for the M-step, which scikit-learn has matrix products do. At the rate of the dgemm beside "
    "it that alone is 5.0 ns at d = 64 and 10 ns at d = 128, 0.11 to 0.12 of scikit-learn's time: 0.1 is "
    "out of reach in float64. Tried: moments in register blocks of two components by four features (a "
    "fifth less time from 32 features on), the next tile's rows asked for ahead (1 to 4 ns), means held "
    "in registers (nothing). (b) spherical needs half of that, so it is not bound. Tried: the E-step's "
    "distances used again for the second moments; distances of four components at a time, in parts of a row "
    "that few registers hold (3.5 instead of 10.5 ns of one thread at d = 64, k = 32 where there is no "
    "AVX-512, whose registers spilled); first moments in halves of registers (9 instead of 10.5); tiles of 1 "
    "to 16 panels (4 instead of 8 would save 3 to 7 %). What is left is moments at half of the rate of the "
    "products, probably for a sum of eight registers to every 128 multiply-adds and shares that stream from "
    "the second-level cache. (c) 3 features beside oneDAL and scikit-learn: from run to run 0.33 "
    "to 0.50 of oneDAL's time, the most without AVX-512. Of some 7 ns of one thread exponentials take "
    "1.4, at the rate of the multiply-adds they consist of. Tried: rooted rows, shares and distances a "
    "register at a time (7.5 to 5.8 ns), exponentials in parts of a row (nothing). (d) Spark at 8 features: "
    "the goal was set where Spark needed 300 ns a row and component; where it needs 110 to 240, 0.02 is "
    "2.2 to 4.8 ns, and distem takes twice that. (e) scikit-learn at 64 features: 0.121 to 0.135 from run to "
    "run, as both work at the rates of products of matrices. Tiles that fit 512 KiB of second-level cache "
    "took a tenth off distem's. (f) float32 at 8 features: 1.58 to 1.75 times float64's rate, as weights and "
    "likelihoods are float64 in both. (g) probabilities at 3 features, with AVX-512: eight numbers are "
    "written for three that are read. A sweep without a matrix of logs between took them from 16 ns to "
    "what stands here."
)
