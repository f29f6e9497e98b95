"""What a run of a chain writes beside the assignment: scores of sequences, a decoded stretch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy as np
import xarray as xr

from distem.data.grid import Box
from distem.data.source import Source
from distem.data.variables import VariablesReader
from distem.em.links import Linker, Messages
from distem.execution.base import BlockSet, Span
from distem.fitted import FittedModel
from distem.types import Float64, Ints, Rows

STRETCHES = 3
"""Sequences of which a stretch is kept for the report."""
STRETCH_ROWS = 24 * 30
"""Rows of each."""


@dataclass(frozen=True, eq=False)
class SequenceSums:
    """Sums over the sequences of some blocks. Adds, in the order of the blocks.

    Attributes
    ----------
    opened : bool
        Whether the first of the sums belongs to a sequence that began before.
    first : ndarray of int64
        Number of the row each sequence begins at; of the first, if it is open, that of the block.
    rows, log_likelihood : ndarray
        Of each sequence.
    """

    opened: bool
    first: Ints
    rows: Ints
    log_likelihood: Float64

    def __add__(self, other: Self) -> Self:
        if not len(other.first):
            return self
        if not len(self.first):
            return other
        if not other.opened:
            return type(self)(
                self.opened,
                np.concatenate([self.first, other.first]),
                np.concatenate([self.rows, other.rows]),
                np.concatenate([self.log_likelihood, other.log_likelihood]),
            )
        rows, sums = self.rows.copy(), self.log_likelihood.copy()
        rows[-1] += other.rows[0]
        sums[-1] += other.log_likelihood[0]
        return type(self)(
            self.opened,
            np.concatenate([self.first, other.first[1:]]),
            np.concatenate([rows, other.rows[1:]]),
            np.concatenate([sums, other.log_likelihood[1:]]),
        )


@dataclass(frozen=True, eq=False)
class ScoreSequences:
    """The pass that adds up each sequence's log-likelihood."""

    model: FittedModel
    messages: Messages | None
    name: ClassVar[str] = "score"

    def within(self, span: Span) -> ScoreSequences:
        """The same with the messages of a span of blocks only."""
        if self.messages is None:
            return self
        return ScoreSequences(self.model, self.messages.within(span))

    def __call__(self, rows: Rows, block: int) -> SequenceSums:
        """Score the rows of one block."""
        if rows.begins is None or not rows.n:
            return SequenceSums(False, np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0))
        message = None if self.messages is None else self.messages.at(block)[0]
        density = self.model.assign(rows, probability=False, message=message).log_density
        at = np.flatnonzero(rows.begins)
        opened = not rows.begins[0]
        edges = np.concatenate([[0], at]) if opened else at
        counts = np.diff(np.append(edges, rows.n))
        return SequenceSums(
            bool(opened), rows.addresses[edges], counts.astype(np.int64), np.add.reduceat(density, edges)
        )


def sequence_scores(model: FittedModel, blocks: BlockSet) -> xr.Dataset:
    """Log-likelihood of every sequence, on the dimension "sequence"."""
    messages = Linker(blocks).messages([(model.model, model.params)])
    found = blocks.map_reduce(ScoreSequences(model, messages))
    return xr.Dataset(
        {
            "log_likelihood": (
                "sequence",
                found.log_likelihood,
                {"long_name": "log-likelihood of the sequence"},
            ),
            "rows": ("sequence", found.rows, {"long_name": "rows of the sequence"}),
            "first_row": ("sequence", found.first, {"long_name": "number of its first row"}),
        }
    )


def stretches(source: Source, labels: Any) -> xr.Dataset | None:
    """The first rows of a few sequences with their states, for pictures.

    Parameters
    ----------
    source : Source
        The data.
    labels : array
        States of all rows, on the sample dimensions.

    Returns
    -------
    Dataset or None
        Values (sequence, step, feature), state (sequence, step), place (step); None without rows.
    """
    boxes = list(_boxes(source))
    if not boxes:
        return None
    steps = max(box[-1].stop - box[-1].start for box in boxes)
    values = np.full((len(boxes), steps, source.d), np.nan)
    states = np.full((len(boxes), steps), -1, np.int32)
    for i, box in enumerate(boxes):
        raw, _ = source.reader.read(box)
        values[i, : len(raw)] = raw
        states[i, : len(raw)] = np.asarray(labels[box]).ravel()
    place = np.arange(steps, dtype=np.float64)
    attrs: dict[str, Any] = {"long_name": source.dims[-1]}
    if len(source.dims) > 1:
        names = [_named(source, box) for box in boxes]
    else:
        names = [""]
    time = _time(source, boxes[0], steps)
    return xr.Dataset(
        {
            "values": (("sequence", "step", "feature"), values),
            "state": (("sequence", "step"), states),
        },
        coords={
            "feature": np.array(source.features, dtype=str),
            "sequence_name": ("sequence", np.array(names, dtype=str)),
            "place": ("step", place if time is None else time, attrs if time is None else {}),
        },
        attrs={"dimension": source.dims[-1]},
    )


def _boxes(source: Source) -> Sequence[Box]:
    length = min(source.shape[-1], STRETCH_ROWS)
    if not source.n:
        return []
    lead = source.shape[:-1]
    places = [np.unravel_index(i, lead) for i in range(min(STRETCHES, int(np.prod(lead))))] if lead else [()]
    return [(*(slice(int(i), int(i) + 1) for i in at), slice(0, length)) for at in places]


def _named(source: Source, box: Box) -> str:
    """What the index of a sequence is called."""
    parts = []
    for dim, at in zip(source.dims[:-1], box[:-1], strict=True):
        value: Any = at.start
        if dim in source.reader.coordinates():
            value = source.reader.read_coordinate(dim, {dim: at})[0]
        parts.append(str(value))
    return ", ".join(parts)


def _time(source: Source, box: Box, steps: int) -> Any:
    """The coordinate that rows follow each other along, where it is a date."""
    dim = source.dims[-1]
    stored = source.reader.coordinates().get(dim)
    if stored is None or not isinstance(source.reader, VariablesReader) or stored.dims != (dim,):
        return None
    raw = source.reader.read_coordinate(dim, {dim: box[-1]})
    variable = xr.decode_cf(xr.Dataset({"t": xr.Variable(("t",), raw, dict(stored.attrs))}))["t"]
    return variable.values if len(raw) == steps and variable.dtype.kind in "Mfiu" else None
