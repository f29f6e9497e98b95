"""Hypothesis strategies: rows, row weights, ways to cut them into chunks, valid parameters."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from distem.models.gaussian import Gaussian
from distem.models.mixture import Mixture, MixtureParams
from distem.types import Rows

COVARIANCES = ("full", "tied", "diag", "spherical")
KERNELS = ("reference", "compiled")


def examples(count: int) -> settings:
    """Settings of a property test: the same examples every time, in any order of the tests."""
    return settings(
        max_examples=count,
        deadline=None,
        derandomize=True,
        database=None,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
    )


@dataclass(frozen=True, eq=False)
class Case:
    """Rows, their weights, and parameters of a mixture that could be theirs."""

    rows: Rows
    params: MixtureParams
    model: Mixture

    def __repr__(self) -> str:
        weighted = "" if self.rows.weights is None else ", weighted"
        return (
            f"Case(n={self.rows.n}, d={self.rows.d}, k={self.params.k}{weighted}, "
            f"{self.model.component.covariance}, {self.model.component.kernels})"
        )


@st.composite
def chunkings(draw: st.DrawFn, n: int, most: int = 12) -> tuple[int, ...]:
    """Sizes that add up to n, in order: ragged, some of one row, some empty."""
    cuts = draw(st.lists(st.integers(0, n), max_size=most - 1))
    edges = [0, *sorted(cuts), n]
    sizes = [b - a for a, b in pairwise(edges)]
    single = draw(st.integers(0, 2))
    for _ in range(single):  # split a row off the largest chunk
        largest = max(range(len(sizes)), key=sizes.__getitem__)
        if sizes[largest] > 1:
            sizes[largest : largest + 1] = [1, sizes[largest] - 1]
    return tuple(sizes)


@st.composite
def weights(draw: st.DrawFn, n: int) -> NDArray[np.float64] | None:
    """No weights, positive ones, small integers with zeros among them, or very unequal ones."""
    kind = draw(st.sampled_from(["none", "positive", "integer", "unequal"]))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    if kind == "none":
        return None
    if kind == "positive":
        return rng.uniform(0.1, 3.0, n)
    if kind == "integer":
        found = rng.integers(0, 4, n).astype(np.float64)
        found[0] = 1.0
        return found
    return 10.0 ** rng.uniform(-6, 3, n)


def random_params(
    model: Mixture, k: int, d: int, rng: np.random.Generator, centre: float = 0.0, spread: float = 1.0
) -> MixtureParams:
    """Valid parameters: means about `centre`, well-conditioned covariances of about `spread` squared."""
    means = centre + spread * 2.0 * rng.normal(size=(k, d))
    roots = rng.normal(size=(k, d, 2 * d + 2)) * spread / np.sqrt(2 * d + 2)
    matrices = roots @ np.swapaxes(roots, 1, 2) + 0.05 * spread**2 * np.eye(d)
    mixing = rng.dirichlet(np.full(k, 3.0))
    return MixtureParams(mixing, model.component.from_matrices(means, matrices, mixing))


@st.composite
def cases(
    draw: st.DrawFn,
    covariance: str,
    kernels: str,
    *,
    n: tuple[int, int] = (1, 120),
    d: tuple[int, int] = (1, 6),
    k: tuple[int, int] = (1, 5),
    reg_covar: float = 0.0,
    ties: bool = True,
    weighted: bool = True,
) -> Case:
    """Rows of a random mixture at a random place and scale, with weights, and other parameters."""
    size, features = draw(st.integers(*n)), draw(st.integers(*d))
    components = draw(st.integers(*k))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    spread = 10.0 ** draw(st.integers(-4, 4))
    centre = spread * draw(st.sampled_from([0.0, 0.0, 10.0, -1e3]))
    model = Mixture(Gaussian(covariance, reg_covar * spread**2, kernels=kernels))
    truth = random_params(model, components, features, rng, centre, spread)
    x, _ = model.sample(truth, size, rng)
    x = rng.permutation(x)
    if ties and draw(st.booleans()):
        x = np.round(x / spread, 1) * spread
    params = random_params(model, components, features, rng, centre, spread)
    row_weights = draw(weights(size)) if weighted else None
    return Case(Rows(np.ascontiguousarray(x), row_weights), params, model)
