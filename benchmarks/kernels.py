"""Time the kernels: nanoseconds per row and component of one E-step, beside scikit-learn and dgemm.

    python benchmarks/kernels.py [--quick] [--kinds full,diag] [--threads 2]

Candidates take turns and the medians of their times are printed, so that a busy machine is unfair to
none. Scikit-learn's time is that of one EM iteration: a third of four less one. The last columns are the
useful multiply-adds (d**2 for each row and component: half to whiten, half for the outer products) as
a share of what BLAS's matrix product does with as many threads.
"""

import argparse
import statistics
import time
import warnings
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.mixture import GaussianMixture
from threadpoolctl import threadpool_limits

from distem.kernels import compiled

SHAPES = [(1_000_000, 3, 8), (500_000, 8, 8), (200_000, 32, 16), (100_000, 64, 32), (50_000, 128, 16)]


def problem(kind, n, d, k):
    """Return rows, log weights, means, factors and precisions of overlapping components."""
    rng = np.random.default_rng(0)
    means = rng.normal(size=(k, d)) * 2 / np.sqrt(d)
    x = means[rng.integers(k, size=n)] + rng.normal(size=(n, d))
    upper = np.triu(rng.normal(size=(k, d, d)), 1) * 0.3 / np.sqrt(d) + np.eye(d)
    factor = {
        "full": upper,
        "tied": upper[0],
        "diag": rng.uniform(0.8, 1.2, (k, d)),
        "spherical": rng.uniform(0.8, 1.2, k),
    }[kind]
    precision = factor @ np.swapaxes(factor, -1, -2) if kind in ("full", "tied") else factor**2
    return x, np.full(k, -np.log(k)), means, factor, precision


def seconds(call):
    begin = time.perf_counter()
    call()
    return time.perf_counter() - begin


def distem(kind, x, log_weights, means, factor, threads):
    """Return the time of an E-step with the rows shared among threads."""
    e_step = getattr(compiled, f"e_step_{kind}")
    parts = np.array_split(x, threads)
    if threads == 1:
        return lambda: seconds(lambda: e_step(x, None, log_weights, means, factor))
    pool = ThreadPoolExecutor(threads)
    return lambda: seconds(
        lambda: list(pool.map(lambda part: e_step(part, None, log_weights, means, factor), parts))
    )


def scikit_learn(kind, x, means, precision):
    """Return the time of one of scikit-learn's iterations."""

    def fit(iterations):
        model = GaussianMixture(
            len(means), covariance_type=kind, tol=0, max_iter=iterations, reg_covar=1e-6,
            weights_init=np.full(len(means), 1 / len(means)), means_init=means, precisions_init=precision,
        )  # fmt: skip
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            return seconds(lambda: model.fit(x))

    return lambda: (fit(4) - fit(1)) / 3


def product(dtype):
    a = np.random.default_rng(0).random((1500, 1500)).astype(dtype)
    return lambda: seconds(lambda: a @ a)


def medians(candidates, repeats):
    """Return the median time of each candidate, all of them taking turns."""
    for run in candidates.values():
        run()
    times = {name: [] for name in candidates}
    for _ in range(repeats):
        for name, run in candidates.items():
            times[name].append(run())
    return {name: statistics.median(each) for name, each in times.items()}


def nearest(threads, repeats, quick):
    """Time the nearest of k centres beside scikit-learn's."""
    from sklearn.metrics import pairwise_distances_argmin_min

    n, d, k = (100_000 if quick else 500_000), 16, 64
    rng = np.random.default_rng(0)
    x, centres = rng.normal(size=(n, d)), rng.normal(size=(k, d))
    x32, parts = x.astype(np.float32), np.array_split(x, threads)
    parts32 = np.array_split(x32, threads)
    with ThreadPoolExecutor(threads) as pool:
        found = medians(
            {
                "float64": lambda: seconds(
                    lambda: list(pool.map(lambda p: compiled.nearest(p, centres), parts))
                ),
                "float32": lambda: seconds(
                    lambda: list(pool.map(lambda p: compiled.nearest(p, centres), parts32))
                ),
                "scikit-learn": lambda: seconds(lambda: pairwise_distances_argmin_min(x, centres)),
            },
            repeats,
        )
    print(f"\nnearest of {k} centres, n={n:,} d={d}: ns per row and centre")
    print("  ".join(f"{name} {t / n / k * 1e9:.2f}" for name, t in found.items()))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--quick", action="store_true", help="a tenth of the rows, three repeats instead of five"
    )
    parser.add_argument("--kinds", default=",".join(compiled.KINDS), help="kinds of covariance, by commas")
    parser.add_argument("--threads", type=int, default=1, help="threads for all candidates")
    options = parser.parse_args()
    repeats = 3 if options.quick else 5
    print(f"{options.threads} thread(s); ns per row and component; share of gemm's multiply-adds")
    print(
        f"{'kind':10}{'n':>10}{'d':>5}{'k':>4}{'float64':>9}{'float32':>9}{'sklearn':>9}{'ratio':>7}", end=""
    )
    print(f"{'gemm64':>8}{'gemm32':>8}")
    with threadpool_limits(options.threads):
        for kind in options.kinds.split(","):
            for n, d, k in SHAPES:
                n = n // 10 if options.quick else n
                x, log_weights, means, factor, precision = problem(kind, n, d, k)
                found = medians(
                    {
                        "float64": distem(kind, x, log_weights, means, factor, options.threads),
                        "float32": distem(
                            kind, x.astype(np.float32), log_weights, means, factor, options.threads
                        ),
                        "sklearn": scikit_learn(kind, x, means, precision),
                        "gemm64": product(np.float64),
                        "gemm32": product(np.float32),
                    },
                    repeats,
                )
                ns = {name: found[name] / n / k * 1e9 for name in ("float64", "float32", "sklearn")}
                print(f"{kind:10}{n:10}{d:5}{k:4}" + "".join(f"{v:9.2f}" for v in ns.values()), end="")
                print(f"{ns['float64'] / ns['sklearn']:7.3f}", end="")
                if kind == "full":
                    for dtype, gemm in (("float64", "gemm64"), ("float32", "gemm32")):
                        print(f"{d * d / ns[dtype] / (1500**3 / found[gemm] / 1e9):8.0%}", end="")
                print(flush=True)
        nearest(options.threads, repeats, options.quick)


if __name__ == "__main__":
    main()
