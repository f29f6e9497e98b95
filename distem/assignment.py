"""The assignment pass: what the fitted model says of each row, written where the row lies."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

from distem.fitted import FittedModel
from distem.types import Addable, Assignment, Rows

Assigned = Any
"""The receipt of what was written; adds up over blocks."""


class Writer(Protocol):
    """Writes one block's part of the assignment, every chunk of it once."""

    def write(self, block: int, rows: Rows, found: Assignment) -> Addable:
        """Write, and return a receipt."""


@dataclass(frozen=True, eq=False)
class AssignRows:
    """The pass that assigns and writes; repeating it on a block writes the same again.

    Parameters
    ----------
    model : FittedModel
        The model, in the units the rows come in.
    writer : Writer
        Where the answers go.
    probability : bool
        Whether all responsibilities are wanted.
    """

    model: FittedModel
    writer: Writer
    probability: bool
    name: ClassVar[str] = "assign"

    def __call__(self, rows: Rows, block: int) -> Assigned:
        """Assign and write one block."""
        return self.writer.write(block, rows, self.model.assign(rows, probability=self.probability))
