"""Models whose blocks must hear of each other: a pass that asks every block what it does to messages.

A model that has `links` is *linked*: its E-step takes what reaches the block from outside. The engine asks
all blocks for their links in one pass, scans over them in the driver, and hands each block its own message.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol, Self, runtime_checkable

from distem.execution.base import BlockSet, Span
from distem.types import Rows

Asked = tuple[Any, Any]
"""A model and its parameters."""


@runtime_checkable
class Linked(Protocol):
    """A model of chains of rows, which may reach over blocks."""

    def links(self, rows: Rows, params: Any) -> Any:
        """What a block does to messages; adds up, has `closed`: no message passes any edge."""

    def best_links(self, rows: Rows, params: Any) -> Any:
        """The same of the likeliest paths."""

    def reaching(self, links: Any) -> Sequence[Any]:
        """What reaches each block."""

    def best_reaching(self, links: Any) -> Sequence[Any]:
        """Where the likeliest path enters and leaves each block."""

    def alone(self, params: Any) -> Any:
        """The parameters for rows of which each is looked at by itself."""


@dataclass(frozen=True, slots=True)
class SweepLinks:
    """Links of several fits over the same blocks."""

    each: tuple[Any, ...]

    def __add__(self, other: Self) -> Self:
        return type(self)(tuple(a + b for a, b in zip(self.each, other.each, strict=True)))


@dataclass(frozen=True)
class LinkPass:
    """The pass that asks each block for the links of several fits.

    Attributes
    ----------
    fits : tuple of (Linked, parameters)
        What shares the pass.
    best : bool
        Of the likeliest paths in place of all.
    """

    fits: tuple[Asked, ...]
    best: bool = False
    name: ClassVar[str] = "links"

    def __call__(self, rows: Rows, block: int) -> SweepLinks:  # noqa: ARG002
        """Links of each fit through this block."""
        verb = "best_links" if self.best else "links"
        return SweepLinks(tuple(getattr(model, verb)(rows, params) for model, params in self.fits))


@dataclass(frozen=True, slots=True)
class Messages:
    """What reaches some blocks, for several fits.

    Attributes
    ----------
    first : int
        Number of the first of these blocks.
    each : tuple of (sequence or None)
        For each fit one message a block; None where it needs none.
    """

    first: int
    each: tuple[Sequence[Any] | None, ...]

    def within(self, span: Span) -> Messages:
        """Those of a span of blocks: all that its task is sent."""
        own = slice(span[0] - self.first, span[1] - self.first)
        return Messages(span[0], tuple(None if said is None else said[own] for said in self.each))

    def at(self, block: int) -> tuple[Any, ...]:
        """For each fit what reaches a block, or None."""
        return tuple(None if said is None else said[block - self.first] for said in self.each)


@dataclass
class Linker:
    """Finds out before a pass what reaches each block.

    A single block needs nothing, nor do blocks that all begin a sequence: after the first look at them
    none is asked again.

    Parameters
    ----------
    blocks : BlockSet
        The data.
    """

    blocks: BlockSet
    closed: bool = False

    def messages(self, fits: Sequence[Asked], *, best: bool = False) -> Messages | None:
        """What reaches each block, for the linked among some fits; None if no fit needs to be told.

        With `best`, where the likeliest paths enter and leave the blocks.
        """
        asked = [i for i, (model, _) in enumerate(fits) if isinstance(model, Linked)]
        if not asked or self.closed or self.blocks.partitions[-1][1] <= 1:
            return None
        links = self.blocks.map_reduce(LinkPass(tuple(fits[i] for i in asked), best)).each
        if all(found.closed for found in links):
            self.closed = True
            return None
        each: list[Sequence[Any] | None] = [None] * len(fits)
        for i, found in zip(asked, links, strict=True):
            model = fits[i][0]
            each[i] = model.best_reaching(found) if best else model.reaching(found)
        return Messages(0, tuple(each))
