"""Where fits begin: the first start as it is, and the likeliest of four after a short climb on a sample.

Starts are by kmeans, on the data sets of `benchmarks.passes`: the simulated ones with 50,000 rows and a
sample of 10,000, the photographs with a sample of 2,000; of the small ones the sample is all rows. Passes
over all rows are counted until the fit stops by its own rule, with a tolerance of 1e-6, and where it ends is
told. Time is not measured.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from benchmarks.harness import Section, Table
from benchmarks.passes import PROBLEMS, Problem
from distem.config import Config
from distem.em.loop import Climb
from distem.execution.base import one_blas_thread
from distem.models import seeding
from distem.models.gaussian import Gaussian
from distem.models.mixture import Mixture, MixtureParams
from distem.sampling import likeliest
from distem.starting import at_the_foot
from distem.types import Rows

TRIES = 4
"""As `fit.init_tries` has it."""
MOST = 400
FAR = 1e-4
"""Per row: optima that differ by more are different ones."""


def configured(k: int) -> Config:
    """The config of a run; its data is made here."""
    return Config.model_validate(
        {
            "version": 1,
            "name": "starts",
            "data": {"kind": "zarr", "path": "unused.zarr", "scale": "none"},
            "model": {"kind": "gaussian_mixture", "components": k},
            "fit": {"max_passes": MOST},
            "output": {"path": "unused"},
        }
    )


def rows_of(problem: Problem) -> tuple[np.ndarray, int]:
    """Rows in random order, and how many of them are the sample."""
    if isinstance(problem.data, str):
        x = np.random.default_rng(0).permutation(problem.rows().values)
        return x, 2_000 if len(x) > 4_000 else len(x)
    return replace(problem.data, n=50_000).rows(), 10_000


def ended(config: Config, model: Mixture, start: MixtureParams, sample: seeding.Sample, rows: Rows) -> Climb:
    """A fit to all rows from a start, at its end."""
    fit = at_the_foot(config, "fit", model, start, sample)
    while fit.reason is None:
        fit.advance(model.e_step(rows, fit.params))
    return fit


def compare(problem: Problem, seeds: int, table: Table) -> tuple[float, float]:
    """Fit from the first and from the likeliest start; return the ratio of passes and the gain."""
    x, m = rows_of(problem)
    model = Mixture(Gaussian(problem.covariance, data_variance=np.ones(x.shape[1])))
    # all rows are said to be all rows: a sample that is not full has no others
    size = m if m < len(x) else m + 1
    sample = seeding.Sample(size, np.arange(float(m)), np.ascontiguousarray(x[:m]), np.ones(m))
    config, rows = configured(problem.k), Rows(x)
    firsts, likeliests = [], []
    for seed in range(seeds):
        tries: list[Mapping[str, MixtureParams]] = [
            {"fit": seeding.start("kmeans", model, problem.k, sample, np.random.default_rng((seed, i)))}
            for i in range(TRIES)
        ]
        firsts.append(ended(config, model, tries[0]["fit"], sample, rows))
        start = likeliest(config, {"fit": model}, tries, sample)["fit"]
        likeliests.append(ended(config, model, start, sample, rows))
    passes = [statistics.mean(len(fit.trace) for fit in fits) for fits in (firsts, likeliests)]
    ends = [[fit.fit.log_likelihood for fit in fits] for fits in (firsts, likeliests)]
    means = [statistics.mean(found) for found in ends]
    best = max(max(found) for found in ends)
    shares = [sum(best - end <= FAR for end in found) for found in ends]
    table.add(
        f"{problem.name} ({problem.covariance})",
        *(f"{count:.1f}" for count in passes),
        f"{passes[1] / passes[0]:.2f}",
        f"{means[1] - means[0]:+.1e}",
        *(f"{share} of {seeds}" for share in shares),
    )
    return passes[1] / passes[0], means[1] - means[0]


def run(quick: bool) -> Section:
    """Fit all."""
    seeds = 2 if quick else 4
    table = Table(
        f"Means of {seeds} seeds",
        [
            "problem",
            "passes, first start",
            "passes, likeliest of 4",
            "ratio",
            "log-likelihood per row, difference",
            "first at the best optimum",
            "likeliest at the best",
        ],
    )
    with one_blas_thread():
        found = [compare(problem, seeds, table) for problem in (PROBLEMS[::4] if quick else PROBLEMS)]
    ratios, gains = zip(*found, strict=True)
    summary = Table(
        "All problems",
        ["problems", "median ratio of passes", "worst", "better by 1e-4 and more", "worse by 1e-4 and more"],
    )
    summary.add(
        len(found),
        f"{statistics.median(ratios):.2f}",
        f"{max(ratios):.2f}",
        sum(gain > FAR for gain in gains),
        sum(gain < -FAR for gain in gains),
    )
    return Section("Starts", " ".join(__doc__.split("\n\n", 1)[1].split()), [table, summary])
