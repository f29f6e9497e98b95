"""Where a hidden Markov model starts: k-means or the like for what the states say, states that linger."""

from __future__ import annotations

from typing import Any

import numpy as np

from distem.models import seeding
from distem.models.centres import lloyd
from distem.models.discrete import Categorical, CategoricalTheta, Poisson, PoissonTheta
from distem.models.gaussian import Gaussian
from distem.models.markov import HiddenMarkov, MarkovParams
from distem.models.mixed import MixedGaussians, MixedTheta
from distem.models.seeding import Sample
from distem.types import Float64, Ints

LINGER = 0.8
"""Probability that a state is followed by itself, at the start."""
LEAST_START = 0.1
"""Lowest rate at the start, as a share of the mean count."""


def begin_chain(k: int) -> tuple[Float64, Float64]:
    """Start and transition probabilities before anything is known: all states alike, and they linger."""
    transition = np.full((k, k), (1.0 - LINGER) / max(k - 1, 1))
    np.fill_diagonal(transition, LINGER if k > 1 else 1.0)
    return np.full(k, 1.0 / k), transition


def start(
    init: str,
    model: HiddenMarkov,
    k: int,
    sample: Sample,
    rng: np.random.Generator,
    centres: Float64 | None = None,
    matrix: Float64 | None = None,
) -> MarkovParams:
    """Starting parameters.

    Parameters
    ----------
    init : str
        One of `seeding.NAMES`.
    k : int
        States.
    sample : Sample
        Rows that are not missing.
    rng : numpy.random.Generator
        This candidate's own.
    centres, matrix : ndarray, optional
        See `seeding.start`.
    """
    first, transition = begin_chain(k)
    theta = _emission(init, model.component, k, sample, rng, centres, matrix)
    return MarkovParams(first, transition, theta)


def _emission(
    init: str,
    component: Any,
    k: int,
    sample: Sample,
    rng: np.random.Generator,
    centres: Float64 | None,
    matrix: Float64 | None,
) -> Any:
    if isinstance(component, Categorical):
        return _symbols(component, k, sample, rng)
    if init == "random":
        resp = seeding.random_responsibilities(sample, k, rng)
        means = resp.T @ sample.values / resp.sum(axis=0)[:, None]
    else:
        scaled = seeding.in_units(sample, matrix)
        found = seeding.centres_by_name(init, k, scaled, rng) if centres is None else centres
        resp = seeding.hard_responsibilities(scaled, found)
        means = seeding.out_of_units(found, matrix)
        held = resp.sum(axis=0)[:, None]
        means = np.where(held > 0, resp.T @ sample.values / np.maximum(held, 1.0), means)
    if isinstance(component, Poisson):
        overall = np.maximum(sample.values.mean(axis=0), 1e-3)
        return PoissonTheta(np.maximum(means, LEAST_START * overall))
    if isinstance(component, Gaussian):
        return component.begin(sample.rows, resp, means)
    return _mixed(component, sample, resp, means, rng)


def _symbols(component: Categorical, k: int, sample: Sample, rng: np.random.Generator) -> CategoricalTheta:
    """Shares of all symbols over the sample, each state's pulled its own way."""
    counts = np.bincount(sample.values[:, 0].astype(np.int64), minlength=component.symbols) + 1.0
    pulled = counts / counts.sum() * rng.uniform(0.5, 1.5, size=(k, len(counts)))
    return CategoricalTheta(pulled / pulled.sum(axis=1, keepdims=True))


def _mixed(
    component: MixedGaussians, sample: Sample, resp: Float64, means: Float64, rng: np.random.Generator
) -> MixedTheta:
    """Each state's rows are shared out once more among its Gaussians."""
    m = component.voices
    label: Ints = resp.argmax(axis=1)
    within, centres = np.zeros(len(label), dtype=np.int64), np.repeat(means, m, axis=0)
    for state in range(len(means)):
        mine = label == state
        if m > 1 and len(np.unique(sample.values[mine], axis=0)) >= m:
            own = sample.where(mine)
            found = lloyd(own.values, own.weights, m, rng)
            within[mine] = seeding.hard_responsibilities(own, found).argmax(axis=1)
            centres[state * m : (state + 1) * m] = found
        else:
            within[mine] = rng.integers(m, size=int(mine.sum()))
    return component.begin(sample.values, resp, within, centres)
