"""A mixture and k-means on the same rows, side by side: what hard clusters cut, and what they cannot say.

K-means has as many clusters as the mixture that was chosen has components, the same units and the same rows.
Its clusters are numbered so that as many rows as can be have the same number in both.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, ClassVar, Self

import numpy as np
import xarray as xr
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from distem.data import results
from distem.data.assignment import AssignmentWriter, Receipt, create_assignment
from distem.data.source import Reader
from distem.em.loop import Climb, climb
from distem.em.repair import Repair
from distem.em.stopping import FirstOf, MaxPasses, Settled
from distem.errors import ConfigError
from distem.events import Note
from distem.families.base import family
from distem.fitted import FittedModel
from distem.models import seeding
from distem.models.kmeans import KMeans, KMeansParams
from distem.stages import Fitted, Scanned, Seeded, Session
from distem.types import Ints, Rows

SPLIT = 0.2
"""A row is split between components where its label has less than 1 minus this probability."""
MOST_TRUTHS = 256
"""Known groups, numbered from 0, of which there may be as many."""


@dataclass(frozen=True, eq=False)
class Compared:
    """Rows by what two models, and the truth where it is known, say of them; counts add.

    Attributes
    ----------
    sure, split : ndarray of int64, shape (k, h)
        By soft label and cluster: rows the mixture is sure of, and those it splits.
    truth_soft, truth_hard : ndarray of int64, shape (t, k) and (t, h)
        By known group and label; no groups where none are known.
    receipt : Receipt
        Of what was written.
    """

    sure: Ints
    split: Ints
    truth_soft: Ints
    truth_hard: Ints
    receipt: Receipt

    def __add__(self, other: Self) -> Self:
        return type(self)(
            self.sure + other.sure,
            self.split + other.split,
            self.truth_soft + other.truth_soft,
            self.truth_hard + other.truth_hard,
            self.receipt + other.receipt,
        )


@dataclass(frozen=True, eq=False)
class CompareRows:
    """The pass that asks both models about each row, writes what they say, and counts.

    Attributes
    ----------
    soft, hard : FittedModel
        The mixture and k-means, behind one transform.
    writer : AssignmentWriter
        Where the answers go.
    reader : Reader
        Of the data, for the truth.
    truth : str or None
        The coordinate that holds the known group of each row, as whole numbers from 0.
    """

    soft: FittedModel
    hard: FittedModel
    writer: AssignmentWriter
    reader: Reader
    truth: str | None = None
    name: ClassVar[str] = "assign"

    def __call__(self, rows: Rows, block: int) -> Compared:
        """Compare and write one block."""
        soft = self.soft.assign(rows, probability="probability" in self.writer.variables)
        hard = self.hard.assign(rows, probability=False).label
        split = soft.uncertainty > SPLIT
        shape = self.soft.k, self.hard.k
        receipt = self.writer.write(
            self.writer.chunks(block),
            rows.kept,
            soft.label,
            soft.probability,
            soft.log_density,
            soft.uncertainty,
            rows.weights,
            {"hard_label": hard},
        )
        groups, known, rows_known = 0, np.empty(0, np.int64), slice(0)
        if self.truth is not None:
            groups, known, rows_known = MOST_TRUTHS, self._truth(rows), slice(None)
        return Compared(
            _table(soft.label[~split], hard[~split], shape),
            _table(soft.label[split], hard[split], shape),
            _table(known, soft.label[rows_known], (groups, shape[0])),
            _table(known, hard[rows_known], (groups, shape[1])),
            receipt,
        )

    def _truth(self, rows: Rows) -> Ints:
        """The known group of each usable row."""
        if rows.places is None or self.truth is None:
            raise ConfigError("These rows do not know where they lie.", "Compare without options.truth.")
        dims = self.writer.grid.dims
        parts = [
            np.asarray(self.reader.read_coordinate(self.truth, dict(zip(dims, box, strict=True)))).ravel()
            for box in rows.places.boxes
        ]
        found = np.concatenate(parts) if parts else np.empty(0, np.int64)
        if found.dtype.kind not in "iu" or found.min(initial=0) < 0 or found.max(initial=0) >= MOST_TRUTHS:
            raise ConfigError(
                f"options.truth: {self.truth} holds {found.dtype}, from {found.min(initial=0)} to "
                f"{found.max(initial=0)}.",
                f"Known groups are whole numbers from 0 to {MOST_TRUTHS - 1}.",
            )
        return found.astype(np.int64) if rows.kept is None else found[rows.kept].astype(np.int64)


def fit_hard(session: Session, scanned: Scanned, seeded: Seeded, fitted: Fitted) -> FittedModel:
    """Fit k-means with as many clusters as the chosen mixture has components, from k-means‖ over all rows."""
    config, k = session.config, fitted.model.k
    model = KMeans(kernels=config.fit.kernels)
    keys = {(k, restart): k for restart in range(config.fit.restarts)}
    found = seeding.kmeans_parallel(scanned.blocks, keys, seeded.sample, config.seed)
    stop = FirstOf((Settled(), MaxPasses(config.fit.max_passes)))
    climbs = [
        Climb(
            f"k-means-{restart + 1}",
            model,
            KMeansParams(found[k, restart]),
            stop,
            Repair(seeded.sample.values, config.seed, 3 * k),
        )
        for _, restart in keys
    ]
    climb(climbs, scanned.blocks)
    best = max((c.fit for c in climbs), key=lambda done: done.log_likelihood)
    session.observe(Note(f"k-means beside it: {len(best.trace)} passes. {best.reason.sentence}"))
    facts = family("kmeans").facts(model, best.stats)
    return replace(fitted.model, model=model, params=best.params, kind="kmeans", facts=facts)


def numbered_alike(soft: FittedModel, hard: FittedModel, sample: seeding.Sample) -> FittedModel:
    """K-means with its clusters in the order in which most rows of a sample have one number in both."""
    rows = sample.rows
    table = _table(soft.assign(rows).label, hard.assign(rows).label, (soft.k, hard.k))
    _, order = linear_sum_assignment(-table)
    rest = [c for c in range(hard.k) if c not in order]  # the mixture may have lost a component
    order = np.array([*order, *rest])
    facts = {name: v[order] if np.ndim(v) else v for name, v in hard.facts.items()}
    return replace(hard, params=KMeansParams(hard.params.centres[order]), facts=facts)


def assign_both(
    session: Session, scanned: Scanned, fitted: Fitted, hard: FittedModel, truth: str | None = None
) -> Compared:
    """Write what both models say of each row, and count where they differ.

    Raises
    ------
    ConfigError
        There is no coordinate of the truth's name, or it holds no whole numbers.
    """
    source, path = session.source, session.folder.result
    if truth is not None and truth not in source.reader.coordinates():
        known = ", ".join(source.reader.coordinates()) or "none"
        raise ConfigError(f"options.truth: the data has no coordinate {truth!r}.", f"It has {known}.")
    results.create_result(path)
    writer = create_assignment(
        path,
        source,
        fitted.model.k,
        (*session.config.output.variables, "hard_label"),
        {"candidate": fitted.chosen},
        encoding=session.config.output.encoding.build(),
    )
    return scanned.blocks.map_reduce(CompareRows(fitted.model, hard, writer, source.reader, truth))


def comparison_dataset(found: Compared, hard: FittedModel) -> xr.Dataset:
    """The counts, what follows from them, and the clusters in the data's own units."""
    both = found.sure + found.split
    measures = {"ari_hard_soft": (adjusted_rand_index(both), "k-means against the mixture")}
    tables: dict[str, Any] = {
        "sure": (("component", "cluster"), found.sure, {"long_name": "rows the mixture is sure of"}),
        "split": (("component", "cluster"), found.split, {"long_name": "rows the mixture splits"}),
    }
    for name, table in (("soft", found.truth_soft), ("hard", found.truth_hard)):
        table = table[table.any(axis=1)] if table.size else table
        if table.size:
            tables[f"truth_{name}"] = ("group", "component" if name == "soft" else "cluster"), table
            who = "the mixture" if name == "soft" else "k-means"
            measures[f"ari_{name}"] = adjusted_rand_index(table), f"{who} against the known groups"
    for name in ("weights", "means", "covariances"):
        dims, values, about = hard.variables[name]
        tables[f"hard_{name}"] = ("cluster", *dims[1:]), values, about
    for name, (value, words) in measures.items():
        tables[name] = (), value, {"long_name": f"adjusted Rand index: {words}"}
    names = np.array(hard.features, dtype=str)
    return xr.Dataset(tables, coords={"feature": names, "feature_other": names}, attrs={"split_above": SPLIT})


def adjusted_rand_index(table: NDArray[np.integer[Any]]) -> float:
    """How far two labellings agree, 1 entirely and 0 as by chance [1]_.

    Parameters
    ----------
    table : ndarray of int, shape (a, b)
        Rows by both labels.

    References
    ----------
    .. [1] Hubert and Arabie, Comparing partitions, Journal of Classification 2 (1985).
    """
    exact = table.astype(object)  # numbers of pairs outgrow 64 bits

    def pairs(counts: Any) -> int:
        return sum(int(c) * (int(c) - 1) // 2 for c in np.ravel(counts))

    both, rows, columns = pairs(exact), pairs(exact.sum(axis=1)), pairs(exact.sum(axis=0))
    total = pairs(exact.sum())
    if total == 0:
        return 1.0
    expected, most = rows * columns / total, (rows + columns) / 2
    return 1.0 if most == expected else float((both - expected) / (most - expected))


def _table(rows: Ints, columns: Ints, shape: tuple[int, int]) -> Ints:
    flat = np.bincount(rows * max(shape[1], 1) + columns, minlength=shape[0] * shape[1])
    return flat.reshape(shape).astype(np.int64)
