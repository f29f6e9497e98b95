"""Whether the clusters are found at all, from 5 to 500 features: distem, scikit-learn, Spark MLlib."""

from __future__ import annotations

import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.metrics import adjusted_rand_score
from sklearn.mixture import GaussianMixture as ScikitLearns

from benchmarks.harness import Goal, Section, Table
from benchmarks.peers import Floats, spark, spark_vectors, write_parquet
from distem import GaussianMixture

DIMENSIONS = (5, 10, 15, 20, 26, 50, 100, 200, 500)
ROWS, CLUSTERS, SEEDS, APART = 20_000, 4, 3, 6.0
LIMIT = 90.0
"""Seconds of Spark's fits at one dimension, after which higher ones are left out."""


def clusters(n: int, d: int) -> tuple[Floats, Floats]:
    """Return rows of standard normal clusters, the nearest pair 6 sigma apart, and whose they are."""
    rng = np.random.default_rng(d)
    means = rng.normal(size=(CLUSTERS, d))
    gaps = np.linalg.norm(means[:, None] - means, axis=2)[np.triu_indices(CLUSTERS, 1)]
    label = rng.integers(CLUSTERS, size=n)
    return (means * (APART / gaps.min()))[label] + rng.normal(size=(n, d)), label


def best(label: Floats, fit: Callable[[int], Floats]) -> tuple[float, float]:
    """Return the best adjusted Rand index of all seeds, and the seconds of a fit."""
    begin = time.perf_counter()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        scores = [float(adjusted_rand_score(label, fit(seed))) for seed in range(SEEDS)]
    return max(scores), (time.perf_counter() - begin) / SEEDS


def spark_fit(cached: Any, seed: int) -> Floats:
    """Labels of Spark's fit with its own defaults."""
    from pyspark.ml.clustering import GaussianMixture as Sparks

    found = Sparks(k=CLUSTERS, seed=seed).fit(cached).transform(cached).select("row", "prediction")
    return found.toPandas().sort_values("row")["prediction"].to_numpy()


def run(quick: bool) -> Section:
    """Fit all."""
    n = ROWS // 4 if quick else ROWS
    dimensions = (5, 20, 26) if quick else DIMENSIONS
    table = Table(
        f"Adjusted Rand index, best of {SEEDS} seeds; {n:,} rows in {CLUSTERS} clusters, "
        f"the nearest pair {APART:.0f} sigma apart; in parentheses the seconds of a fit",
        ["features", "distem", "scikit-learn", "Spark MLlib", "distem less scikit-learn"],
    )
    with tempfile.TemporaryDirectory() as folder, spark(Path(folder)) as session:
        too_long = ""
        for d in dimensions:
            x, label = clusters(n, d)

            def mine(seed: int, x: Floats = x) -> Floats:
                return GaussianMixture(CLUSTERS, random_state=seed).fit(x).predict(x)

            def theirs(seed: int, x: Floats = x) -> Floats:
                return ScikitLearns(CLUSTERS, random_state=seed).fit(x).predict(x)

            score, took = best(label, mine)
            peer, peer_took = best(label, theirs)
            spark_cell = too_long
            if not too_long:
                cached = spark_vectors(session, write_parquet(Path(folder) / f"x{d}", x)).cache()
                cached.count()
                spark_score, spark_took = best(label, lambda seed, c=cached: spark_fit(c, seed))
                cached.unpersist()
                spark_cell = f"{spark_score:.3f} ({spark_took:.1f} s)"
                if spark_took * SEEDS > LIMIT:
                    too_long = f"not run: {spark_took:.0f} s a fit at d = {d}"
            table.add(
                str(d),
                f"{score:.3f} ({took:.1f} s)",
                f"{peer:.3f} ({peer_took:.1f} s)",
                spark_cell,
                Goal(score - peer, -0.005, at_least=True, form=".4f"),
            )
    return Section("Right at every dimension", ABOUT, [table])


ABOUT = (
    "Full covariances, the same rows for all, each with its own start and its own defaults otherwise; "
    "labels are those that it predicts for the rows. Of the three seeds the best index counts, for "
    f"everyone. When three fits of Spark take more than {LIMIT:.0f} s, it is not run at higher "
    "dimensions."
)
