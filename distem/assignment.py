"""The assignment pass: what the fitted model says of each row, written where the row lies."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, ClassVar

from distem.data.assignment import AssignmentWriter, Receipt
from distem.em.links import Linker, Messages
from distem.execution.base import BlockSet, Span
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
    messages, paths : Messages or None
        What reaches the blocks from outside, and the likeliest path at their edges, for models of chains.
    done : frozenset of int
        Blocks that are written already.
    """

    model: FittedModel
    writer: AssignmentWriter
    messages: Messages | None = None
    paths: Messages | None = None
    done: frozenset[int] = frozenset()
    name: ClassVar[str] = "assign"

    @classmethod
    def over(cls, blocks: BlockSet, model: FittedModel, writer: AssignmentWriter) -> AssignRows:
        """The pass over some blocks: where rows are chained, they are asked for messages first."""
        asked, linker = [(model.model, model.params)], Linker(blocks)
        paths = linker.messages(asked, best=True) if "path" in writer.variables else None
        return cls(model, writer, linker.messages(asked), paths)

    def but(self, done: frozenset[int]) -> AssignRows:
        """The same, for what is left to be written."""
        return replace(self, done=done) if done else self

    def within(self, span: Span) -> AssignRows:
        """The same with the messages of a span of blocks only."""
        if self.messages is None:
            return self
        paths = None if self.paths is None else self.paths.within(span)
        return replace(self, messages=self.messages.within(span), paths=paths)

    def __call__(self, rows: Rows, block: int) -> Receipt:
        """Assign and write one block."""
        if block in self.done:
            return self.writer.nothing
        message = None if self.messages is None else self.messages.at(block)[0]
        wanted = "probability" in self.writer.variables
        found = self.model.assign(rows, probability=wanted, message=message)
        more = {} if found.distance is None else {"distance": found.distance}
        if "path" in self.writer.variables:
            chain: Any = self.model.model
            edges = (-1, -1) if self.paths is None else self.paths.at(block)[0]
            more["path"] = chain.decode(rows, self.model.params, *edges)[0]
        return self.writer.write(
            self.writer.chunks(block),
            rows.kept,
            found.label,
            found.probability,
            found.log_density,
            found.uncertainty,
            rows.weights,
            more,
        )
