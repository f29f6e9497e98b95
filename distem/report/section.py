"""A section of the page that one kind of model has for itself: words, tables, pictures."""

from __future__ import annotations

from dataclasses import dataclass

from distem.report.svg import Picture


@dataclass(frozen=True, slots=True)
class Table:
    """A table of plain text.

    Attributes
    ----------
    caption : str
        What it shows.
    heads : tuple of str
        Of the columns; the first column names the rows.
    rows : tuple of tuple of str
        As many cells each as there are heads.
    swatches : tuple of str
        A colour (#rrggbb) of each row, shown before its name; or none.
    """

    caption: str
    heads: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    swatches: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Section:
    """A part of the page.

    Attributes
    ----------
    key : str
        Unique on the page; letters and hyphens.
    title : str
        Its heading.
    text : str
        How to read it.
    pictures : tuple of Picture
        Side by side as far as there is room; `wide` ones below each other.
    tables : tuple of Table
        Below the pictures.
    wide : bool
        Whether pictures take the page's width.
    first : bool
        Whether it stands before the table of components, and not behind it.
    """

    key: str
    title: str
    text: str = ""
    pictures: tuple[Picture, ...] = ()
    tables: tuple[Table, ...] = ()
    wide: bool = False
    first: bool = False
