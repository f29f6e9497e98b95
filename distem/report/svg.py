"""Matplotlib figures as SVG that lives in a page: themed, labelled, with text as text."""

from __future__ import annotations

import io
import re
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, cast
from xml.etree import ElementTree

import matplotlib as mpl
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke
from matplotlib.ticker import Formatter, FuncFormatter, MaxNLocator

from distem.report.colours import as_variables, ink, real
from distem.report.words import number, plain

PIXELS = 72
"""Per inch: one point of matplotlib is one unit of the SVG."""
_LOCK = threading.RLock()  # matplotlib's settings are global
_NAMESPACE = re.compile(r"^\{[^}]*\}")
_LONG_FRACTION = re.compile(r"(\.\d\d)\d+")


def settings() -> dict[Any, Any]:
    """Matplotlib's settings for the report's figures, in the colours of the moment."""
    return {
        "svg.fonttype": "none",  # text stays text: small, searchable, in the page's own font
        "svg.image_inline": True,
        "font.family": ["DejaVu Sans"],  # comes with matplotlib, so layout is the same everywhere
        "font.size": 10.5,
        "axes.labelsize": 10.5,
        "xtick.labelsize": 9.5,
        "ytick.labelsize": 9.5,
        "axes.edgecolor": ink("soft"),
        "axes.labelcolor": ink("ink"),
        "axes.linewidth": 0.8,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.grid": True,
        "axes.axisbelow": True,
        "axes.xmargin": 0.02,
        "axes.unicode_minus": True,
        "grid.color": ink("faint"),
        "grid.linewidth": 0.6,
        "text.color": ink("ink"),
        "text.parse_math": False,  # a dollar in a feature's name is a dollar
        "xtick.color": ink("soft"),
        "ytick.color": ink("soft"),
        "xtick.labelcolor": ink("ink"),
        "ytick.labelcolor": ink("ink"),
        "lines.linewidth": 1.6,
        "lines.solid_capstyle": "round",
        "path.simplify": True,
        "path.simplify_threshold": 0.05,
    }


@dataclass(frozen=True, slots=True)
class Picture:
    """A figure of the report.

    Attributes
    ----------
    title : str
        Says what is shown.
    note : str
        How to read it.
    svg : Markup
        Inline SVG, with the title and a text alternative.
    """

    title: str
    note: str
    svg: Markup


PANEL, LARGE_PANEL = (252.0, 228.0), (330.0, 290.0)
"""Size of one of many panels, and of one of few."""


@contextmanager
def canvas(width: float, height: float) -> Iterator[tuple[Figure, Axes]]:
    """A figure with one pair of axes, in pixels, in the report's style; within `onto`, the axes there."""
    given = _ONTO.get()
    if given is not None:
        dress(given, width)
        yield cast(Figure, given.figure), given
        return
    with _LOCK, mpl.rc_context(settings()):
        figure = Figure(figsize=(width / PIXELS, height / PIXELS), dpi=PIXELS, layout="constrained")
        figure.get_layout_engine().set(w_pad=0.06, h_pad=0.05)  # type: ignore[union-attr,call-arg]
        FigureCanvasSVG(figure)
        axes = figure.add_subplot()
        dress(axes, width)
        yield figure, axes


_ONTO: ContextVar[Axes | None] = ContextVar("_ONTO", default=None)


@contextmanager
def onto(axes: Axes) -> Iterator[None]:
    """Within it, what draws a picture of the report draws into these axes instead, in real colours."""
    before = _ONTO.set(axes)
    try:
        with real():
            yield
            for text in axes.texts:
                if str(text.get_gid() or "").startswith("halo"):
                    text.set_path_effects([withStroke(linewidth=3.0, foreground=ink("paper"))])
    finally:
        _ONTO.reset(before)


def dress(axes: Axes, width: float) -> None:
    """Give axes the report's ticks."""
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(MaxNLocator(5 if width > 300 else 4, steps=[1, 2, 2.5, 5, 10]))
        axis.set_major_formatter(tick_labels())
    axes.tick_params(length=3)


def tick_labels() -> Formatter:
    """Numbers in the report's own spelling, without mathematical markup."""
    return FuncFormatter(lambda value, _: number(float(f"{value:.12g}"), 6))


def label(axes: Axes, x: str, y: str) -> None:
    """Name both axes."""
    axes.set_xlabel(plain(x))
    axes.set_ylabel(plain(y))


def picture(figure: Figure, key: str, title: str, note: str, alternative: str) -> Picture:
    """Render a figure.

    Parameters
    ----------
    key : str
        Unique on the page; makes the ids inside the SVG unique.
    title, note : str
        Shown with the figure.
    alternative : str
        What the figure shows, for who cannot see it.
    """
    if _ONTO.get() is not None:
        return Picture(title, note, Markup(""))
    return Picture(title, note, Markup(_inline(_render(figure, key), key, plain(title), plain(alternative))))


def _render(figure: Figure, key: str) -> str:
    out = io.StringIO()
    with _LOCK, mpl.rc_context({**settings(), "svg.hashsalt": key}), warnings.catch_warnings():
        # the browser has fonts for what ours lacks
        warnings.filterwarnings("ignore", message="Glyph .* missing from", category=UserWarning)
        figure.savefig(out, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    return out.getvalue()


def _inline(text: str, key: str, title: str, alternative: str) -> str:
    # the text is matplotlib's own, written a moment ago: there is nothing to defend the parser from
    root = ElementTree.fromstring(text)
    used = set(
        re.findall(
            r"#([\w-]+)", " ".join(v for e in root.iter() for k, v in e.attrib.items() if k != "style")
        )
    )
    for parent in list(root.iter()):
        for child in list(parent):
            if child.tag.endswith("}metadata"):
                parent.remove(child)
    for element in root.iter():
        element.tag = _NAMESPACE.sub("", element.tag)
        element.attrib = _attributes(element.attrib, key, used)
    width, height = (root.attrib.pop(side).removesuffix("pt") for side in ("width", "height"))
    root.attrib = {
        "viewBox": root.attrib["viewBox"],
        "width": width,
        "height": height,
        "role": "img",
        "aria-label": alternative,
        "class": "plot",
    }
    heading = ElementTree.Element("title")
    heading.text = title
    root.insert(0, heading)
    return ElementTree.tostring(root, encoding="unicode", short_empty_elements=True)


def _attributes(given: dict[str, str], key: str, used: set[str]) -> dict[str, str]:
    kept: dict[str, str] = {}
    for qualified, value in given.items():
        name = _NAMESPACE.sub("", qualified)
        if name == "id":
            if value.startswith("halo"):
                kept["class"] = "halo"
            if value not in used:
                continue
            value = f"{key}-{value}"
        elif name == "style":
            value = as_variables(value)
        elif name == "d":
            value = " ".join(_LONG_FRACTION.sub(r"\1", value).split())
        elif name == "href" and value.startswith("#"):
            value = f"#{key}-{value[1:]}"
        elif name == "clip-path":
            value = value.replace("url(#", f"url(#{key}-")
        kept[name] = value
    return kept
