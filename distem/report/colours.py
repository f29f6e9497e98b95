"""Colours of the report: names in figures, values in the page's style sheet, one set for each theme.

Figures are drawn in stand-in colours that `distem.report.svg` turns into CSS variables, so one drawing
serves the light page, the dark page and paper.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar

LEAST_CONTRAST = 3.0
"""WCAG 2 for graphics; text is drawn in `ink`, which has far more."""

INKS = ("ink", "soft", "faint", "paper", "accent", "alert")
THEMES: Mapping[str, Mapping[str, str]] = {
    "light": {
        "paper": "#ffffff",
        "ink": "#1b1f24",
        "soft": "#57606a",
        "faint": "#d0d7de",
        "accent": "#0a4f8f",
        "alert": "#9a3412",
        "panel": "#f6f8fa",
        "code": "#eef1f4",
    },
    "dark": {
        "paper": "#12161c",
        "ink": "#e8ecf1",
        "soft": "#a5afbb",
        "faint": "#38414d",
        "accent": "#7cb8f5",
        "alert": "#ffa36b",
        "panel": "#1a2029",
        "code": "#222a35",
    },
}

# Okabe and Ito (2008) without black and with yellow last, then Tol's muted and medium-contrast colours
_COMPONENTS = (
    "#0072b2",
    "#d55e00",
    "#009e73",
    "#cc79a7",
    "#e69f00",
    "#56b4e9",
    "#f0e442",
    "#882255",
    "#117733",
    "#aa4499",
    "#44aa99",
    "#cc6677",
    "#6699cc",
    "#999933",
    "#661100",
    "#332288",
    "#88ccee",
    "#ddcc77",
    "#994455",
    "#997700",
)
COLOURS = len(_COMPONENTS)
DASHES: tuple[str | tuple[int, tuple[int, ...]], ...] = ("-", (0, (5, 2)), (0, (1, 1)), (0, (6, 2, 1, 2)))
"""Line styles: component i has number (i // 7) % 4, so that colour is never the only sign."""

_STANDIN = re.compile(r"#f([de])([0-9a-f]{2})01\b")
_OUTSIDE = ContextVar("_OUTSIDE", default=False)


@contextmanager
def real() -> Iterator[None]:
    """Within it colours are those of the light page, not stand-ins: for figures outside of a page."""
    before = _OUTSIDE.set(True)
    try:
        yield
    finally:
        _OUTSIDE.reset(before)


def ink(name: str) -> str:
    """A named colour, for figures."""
    return THEMES["light"][name] if _OUTSIDE.get() else f"#fd{INKS.index(name):02x}01"


def component(i: int) -> str:
    """A component's colour, for figures."""
    if _OUTSIDE.get():
        return readable(_COMPONENTS[i % COLOURS], THEMES["light"]["paper"])
    return f"#fe{i % COLOURS:02x}01"


def shade(i: int) -> tuple[int, int, int]:
    """A component's colour as red, green and blue, for pixels of pictures."""
    red, green, blue = (round(255 * channel) for channel in _channels(_COMPONENTS[i % COLOURS]))
    return red, green, blue


def dash(i: int) -> str | tuple[int, tuple[int, ...]]:
    """The line style of a component."""
    return DASHES[i // 7 % len(DASHES)]


def variable(i: int) -> str:
    """The CSS variable of a component's colour."""
    return f"--c{i % COLOURS}"


def as_variables(style: str) -> str:
    """Turn the stand-ins in a style into CSS variables."""

    def name(match: re.Match[str]) -> str:
        number = int(match[2], 16)
        return f"var(--{INKS[number]})" if match[1] == "d" else f"var(--c{number})"

    return _STANDIN.sub(name, style)


def style_sheet(theme: str) -> str:
    """The CSS variables of a theme."""
    named = dict(THEMES[theme])
    lines = [f"--{name}: {value}" for name, value in named.items()]
    lines += [f"--c{i}: {readable(value, named['paper'])}" for i, value in enumerate(_COMPONENTS)]
    return "; ".join(lines) + ";"


def readable(colour: str, paper: str) -> str:
    """The colour, darkened or lightened until it stands out from the paper."""
    target = 0.0 if _luminance(_channels(paper)) > 0.5 else 1.0
    start = _channels(colour)
    for step in range(101):
        mixed = tuple(c + (target - c) * step / 100.0 for c in start)
        shown = "#" + "".join(f"{round(255 * c):02x}" for c in mixed)
        if contrast(shown, paper) >= LEAST_CONTRAST:
            return shown
    return colour


def contrast(one: str, other: str) -> float:
    """The contrast ratio of two colours by WCAG 2, from 1 to 21."""
    high, low = sorted((_luminance(_channels(one)), _luminance(_channels(other))), reverse=True)
    return (high + 0.05) / (low + 0.05)


def _channels(colour: str) -> tuple[float, ...]:
    return tuple(int(colour[i : i + 2], 16) / 255.0 for i in (1, 3, 5))


def _luminance(channels: tuple[float, ...]) -> float:
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
