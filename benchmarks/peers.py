"""The peers, each as its makers mean it to be used: oneDAL (daal4py), scikit-learn, Spark MLlib."""

from __future__ import annotations

import os
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating[Any]]

CORES = len(os.sched_getaffinity(0))
"""Threads for everyone."""


def onedal_iteration(x: Floats, weights: Floats, means: Floats, covariances: Floats) -> float:
    """Return the seconds of one EM iteration of oneDAL: what four take more than one, by three."""
    import daal4py

    daal4py.daalinit(CORES)

    def fit(iterations: int) -> float:
        em = daal4py.em_gmm(
            nComponents=len(means), maxIterations=iterations, accuracyThreshold=1e-300
        )  # it never stops by itself
        begin = time.perf_counter()
        found = em.compute(x, weights[None, :], means, list(covariances))
        took = time.perf_counter() - begin
        assert int(found.nIterations[0, 0]) == iterations
        return took

    return (fit(4) - fit(1)) / 3


def scikit_learn_iteration(kind: str, x: Floats, weights: Floats, means: Floats, precisions: Floats) -> float:
    """Return the seconds of one EM iteration of scikit-learn: from the first M-step's end to the second's."""
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.mixture import GaussianMixture

    class Timed(GaussianMixture):
        def _m_step(self, *args: Any, **keywords: Any) -> Any:
            super()._m_step(*args, **keywords)
            ends.append(time.perf_counter())

    ends: list[float] = []
    model = Timed(
        len(means), covariance_type=kind, tol=0, max_iter=2,
        weights_init=weights, means_init=means, precisions_init=precisions,
    )  # fmt: skip
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        model.fit(x)
    assert model.n_iter_ == 2
    return ends[1] - ends[0]


@contextmanager
def _java_is_quiet() -> Iterator[None]:
    """Give the processes that start in here no standard error: Java would speak there all its life."""
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)


@contextmanager
def spark(folder: Path) -> Iterator[Any]:
    """A Spark session on all cores of this machine, with its files in `folder`."""
    from pyspark.sql import SparkSession

    os.environ.setdefault("SPARK_LOCAL_IP", "127.0.0.1")
    with _java_is_quiet():
        session = (
            SparkSession.builder.master(f"local[{CORES}]")
            .appName("benchmark")
            .config("spark.driver.memory", "3g")
            .config("spark.ui.enabled", "false")
            .config("spark.ui.showConsoleProgress", "false")
            .config("spark.local.dir", str(folder))
            .config("spark.sql.warehouse.dir", str(folder / "warehouse"))
            .getOrCreate()
        )
    session.sparkContext.setLogLevel("OFF")
    try:
        yield session
    finally:
        session.stop()


def write_parquet(path: Path, x: Floats, files: int = CORES) -> Path:
    """Write rows as Parquet: "row", and a column for each feature; as many files as Spark has cores."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    path.mkdir()
    for number, part in enumerate(np.array_split(np.arange(len(x)), files)):
        columns = {"row": part} | {f"x{i}": x[part, i] for i in range(x.shape[1])}
        pq.write_table(pa.table(columns), path / f"{number}.parquet")
    return path


def spark_vectors(session: Any, path: Path) -> Any:
    """Read what `write_parquet` wrote: "row", and the features as one column of vectors."""
    from pyspark.ml.feature import VectorAssembler

    table = session.read.parquet(str(path))
    names = [name for name in table.columns if name != "row"]
    return VectorAssembler(inputCols=names, outputCol="features").transform(table).select("row", "features")


def spark_iteration(cached: Any, k: int) -> float:
    """Return the seconds of one EM iteration of Spark MLlib: what four take more than one, by three.

    It takes no start; from its own random one, which is the same each time, an iteration does the same work.
    """
    from pyspark.ml.clustering import GaussianMixture

    def fit(iterations: int) -> float:
        begin = time.perf_counter()
        model = GaussianMixture(k=k, maxIter=iterations, tol=0.0, seed=0).fit(cached)
        took = time.perf_counter() - begin
        assert model.summary.numIter == iterations
        return took

    return (fit(4) - fit(1)) / 3
