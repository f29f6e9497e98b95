"""Short climbs on samples before the first pass over all rows.

Of several starts the likeliest after a short climb on a sample is taken: one that leads over a plateau
shows it there, where a pass costs next to nothing [1]_. Then, on request, the fits climb on growing samples.
The optimum of a sample of m rows is about p / (2 m) per row below that of all rows, for p parameters: there
the climb on all rows begins. The curvature of the likelihood, measured on a sample too, tells it how
to go on.

References
----------
.. [1] Biernacki, Celeux and Govaert, Choosing starting values for the EM algorithm for getting the highest
   likelihood in multivariate Gaussian mixture models, Computational Statistics and Data Analysis 41 (2003).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from distem.config import Config
from distem.em.loop import EStep, climb
from distem.em.stopping import FirstOf, GainLeft, MaxPasses
from distem.execution.base import BlockSet, one_blas_thread
from distem.execution.threads import ThreadsExecutor
from distem.models.base import Model
from distem.models.seeding import Sample
from distem.starting import at_the_foot
from distem.types import Float64, Rows

SAMPLE_BLOCK = 16_384
"""Rows of a block of a sample."""
TRY_BLOCK = 4096
"""Likewise where starts are tried: on few rows, which all threads should have a share of."""
FIRST_TRY, LAST_TRY = 10, 20
"""Passes over the sample: of every start that is tried, then of the likeliest alone."""
TRY_TOLERANCE = 1e-4
"""Log-likelihood per row still to be gained at which such a climb may stop before."""
ROWS_A_PARAMETER = 10
"""The fewest rows of a sample that may choose among starts, for each parameter: the likeliest of fewer would
be the one that fits best what is the sample's own."""
MOST_DIRECTIONS = 400
"""Of more parameters the curvature is not measured: it would cost more than it saves."""
ROWS_A_DIRECTION = 200
"""The fewest rows of the sample it is measured on, for each parameter."""
PROBE = 1e-4
"""How far the curvature is probed, in natural units."""
PROBES_AT_ONCE = 32
"""Points whose E-steps share a pass over the sample."""

Learnt = dict[str, dict[str, Float64]]
"""By fit: what its accelerator learnt on samples."""


@dataclass(frozen=True, eq=False)
class _Held:
    """A block of a sample."""

    index: int
    rows: Rows

    @property
    def n(self) -> int:
        return self.rows.n

    @property
    def nbytes(self) -> int:
        return self.rows.nbytes

    def load(self) -> Rows:
        return self.rows


def _blocks(sample: Sample, most: int = SAMPLE_BLOCK) -> list[_Held]:
    """A sample, cut as no cluster or partition has a say in."""
    rows = sample.rows
    cuts = [slice(i, i + most) for i in range(0, rows.n, most)]
    weights = rows.weights
    return [
        _Held(index, Rows(rows.values[cut], None if weights is None else weights[cut]))
        for index, cut in enumerate(cuts)
    ]


def likeliest(
    config: Config,
    models: Mapping[str, Model],
    tries: Sequence[Mapping[str, Any]],
    sample: Sample,
    watched: Callable[[BlockSet], BlockSet] = lambda blocks: blocks,
) -> dict[str, Any]:
    """Of several starts of each fit the likeliest, after a short climb on a sample in this process.

    Parameters
    ----------
    models : mapping of Model
        By the fits' names.
    tries : sequence of mapping
        Starts by the fits' names, one mapping a try.
    sample : Sample
        Rows to climb on.
    watched : callable
        Wraps the blocks of the sample, so that a signal may drop passes over them.

    Returns
    -------
    dict
        By the fits' names: where the likeliest came to. The first start, as it was, where there is only one,
        where the sample is too small to choose, and where every try loses a component.
    """
    found = dict(tries[0])
    rows = len(sample.values)
    whole = rows < sample.size  # there are no other rows
    judged = [
        name
        for name, start in tries[0].items()
        if len(tries) > 1 and (whole or rows >= ROWS_A_PARAMETER * models[name].n_parameters(start))
    ]
    with ThreadsExecutor() as threads, threads.open(_blocks(sample, TRY_BLOCK), resident=True) as opened:
        blocks = watched(opened)
        best: dict[str, tuple[float, Any]] = {}
        starts = {(name, number): each[name] for number, each in enumerate(tries) for name in judged}
        for (name, _), end in _tried(config, models, starts, FIRST_TRY, sample, blocks).items():
            if name not in best or end[0] > best[name][0]:
                best[name] = end
        leading = {(name, 0): params for name, (_, params) in best.items()}
        found |= {name: params for (name, _), params in leading.items()}
        further = _tried(config, models, leading, LAST_TRY, sample, blocks)
        found |= {name: params for (name, _), (_, params) in further.items()}
    return found


def _tried(
    config: Config,
    models: Mapping[str, Model],
    starts: Mapping[tuple[str, int], Any],
    passes: int,
    sample: Sample,
    blocks: BlockSet,
) -> dict[tuple[str, int], tuple[float, Any]]:
    """Log-likelihoods and parameters after some passes; without the fits that lost a component."""
    rules = FirstOf((GainLeft(TRY_TOLERANCE), MaxPasses(passes)))
    climbs = {
        (name, number): replace(
            at_the_foot(config, f"{name}, try {number + 1}", models[name], start, sample), stop=rules
        )
        for (name, number), start in starts.items()
    }
    climb(list(climbs.values()), blocks)
    return {key: (fit.fit.log_likelihood, fit.fit.params) for key, fit in climbs.items() if fit.repairs == 0}


@dataclass(frozen=True)
class Sampled:
    """Where fits come to on samples.

    Attributes
    ----------
    starts : dict
        By the fits' names.
    learnt : dict of dict
        What their accelerators may begin with.
    passes : tuple of (int, int)
        Rows of each sample, and passes over it.
    """

    starts: dict[str, Any]
    learnt: Learnt
    passes: tuple[tuple[int, int], ...] = ()


def climb_on_samples(
    config: Config,
    models: Mapping[str, Model],
    starts: Mapping[str, Any],
    sample: Sample,
    sizes: tuple[int, ...],
    watched: Callable[[BlockSet], BlockSet] = lambda blocks: blocks,
) -> Sampled:
    """Climb on growing samples in this process: they are small, whatever the data is.

    Parameters
    ----------
    models : mapping of Model
        By the fits' names.
    starts : mapping
        Likewise. A fit that loses a component on a sample stays at its start.
    sample : Sample
        The largest; the smaller ones are its beginning.
    sizes : tuple of int
        Rows of each, growing.
    watched : callable
        Wraps the blocks of a sample, so that a signal may drop passes over them.
    """
    found = Sampled(dict(starts), {})
    if not sizes:
        return found
    with ThreadsExecutor() as threads:
        for size in sizes:
            part = sample.first(size)
            with threads.open(_blocks(part), resident=True) as blocks:
                found = _climbed(config, models, found, part, watched(blocks))
        learnt = {}
        for name in found.learnt:  # those that lost no component: the others are still at their start
            model = models[name]
            p = len(model.pack(found.starts[name]))
            enough = [size for size in sizes if size >= ROWS_A_DIRECTION * p]
            if config.fit.acceleration != "anderson" or p > MOST_DIRECTIONS or not enough:
                continue
            # the smallest sample that says enough costs least
            with threads.open(_blocks(sample.first(enough[0])), resident=True) as blocks:
                learnt[name] = curvature(model, found.starts[name], watched(blocks))
    return replace(found, learnt=found.learnt | learnt)


def _climbed(
    config: Config, models: Mapping[str, Model], before: Sampled, sample: Sample, blocks: BlockSet
) -> Sampled:
    climbs = []
    for name, start in before.starts.items():
        fit = at_the_foot(config, name, models[name], start, sample)
        # the flattest direction's share of the gap to the optimum of all rows is 1 / (2 m): a tenth of it
        rules = GainLeft(1.0 / (20.0 * len(sample.values))), MaxPasses(config.fit.max_passes)
        climbs.append(replace(fit, stop=FirstOf(rules)))
        climbs[-1].accelerator.restore(before.learnt.get(name, {}))
    climb(climbs, blocks)
    whole = [fit for fit in climbs if fit.fit.params.k == before.starts[fit.name].k]
    return Sampled(
        before.starts | {fit.name: fit.fit.params for fit in whole},
        {fit.name: fit.accelerator.carried() for fit in whole},
        (*before.passes, (len(sample.values), max(len(fit.trace) for fit in climbs))),
    )


def curvature(model: Model, params: Any, blocks: BlockSet) -> dict[str, Float64]:
    """How the EM step changes along every direction, by differences: what `Anderson.restore` takes.

    Parameters
    ----------
    params : object
        Where, p packed numbers with q free ones among them.
    blocks : BlockSet
        Rows, passed over once for every `PROBES_AT_ONCE` directions.

    Returns
    -------
    dict
        `known_steps` and `known_changes`, shape (q, p); empty where no step is to be had.
    """
    here = model.pack(params)
    with one_blas_thread():
        units = model.natural(np.eye(len(here)), params)
        size, axes = np.linalg.eigh(units @ units.T)
        free = size > 1e-9 * size[-1]  # adding a number to all log weights changes nothing
        steps = PROBE * (axes[:, free] / np.sqrt(size[free])).T
        points = [params, *(model.unpack(here + step, params) for step in steps)]
    moves: list[Float64] = []
    for i in range(0, len(points), PROBES_AT_ONCE):
        probes = points[i : i + PROBES_AT_ONCE]
        stats = blocks.map_reduce(EStep(tuple((model, point) for point in probes)))
        with one_blas_thread():
            moves += [
                model.pack(model.m_step(part, point)) - model.pack(point)
                for part, point in zip(stats.each, probes, strict=True)
            ]
    changes = moves[0] - np.stack(moves[1:])
    if not (np.isfinite(steps).all() and np.isfinite(changes).all()):
        return {}
    return {"known_steps": np.ascontiguousarray(steps), "known_changes": changes}
