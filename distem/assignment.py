"""The assignment pass: what the fitted model says of each row, written where the row lies."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from distem.data.assignment import AssignmentWriter, Receipt
from distem.fitted import FittedModel
from distem.types import Rows


@dataclass(frozen=True, eq=False)
class AssignRows:
    """The pass that assigns and writes; repeating it on a block writes the same again.

    Parameters
    ----------
    model : FittedModel
        The model, in the units the rows come in.
    writer : AssignmentWriter
        Where the answers go.
    """

    model: FittedModel
    writer: AssignmentWriter
    name: ClassVar[str] = "assign"

    def __call__(self, rows: Rows, block: int) -> Receipt:
        """Assign and write one block."""
        found = self.model.assign(rows, probability="probability" in self.writer.variables)
        return self.writer.write(
            self.writer.chunks(block),
            rows.kept,
            found.label,
            found.probability,
            found.log_density,
            found.uncertainty,
            rows.weights,
            {} if found.distance is None else {"distance": found.distance},
        )
