"""Colours and words of the page."""

from __future__ import annotations

from dataclasses import dataclass

# Okabe and Ito, the light ones last, then Tol's muted ones: as the report has them
COLOURS = (
    "#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#882255", "#117733",
    "#aa4499", "#44aa99", "#cc6677", "#6699cc", "#999933", "#661100", "#332288", "#88ccee",
)  # fmt: skip
PART_COLOURS = {
    "computing": "#0072b2",
    "reading": "#e69f00",
    "reducing": "#009e73",
    "waiting": "#c3cad3",
}
MONO = "ui-monospace, SFMono-Regular, Menlo, Consolas, monospace"
SANS = "Helvetica, Arial, sans-serif"


@dataclass(frozen=True)
class Theme:
    """Colours of one theme."""

    paper: str
    card: str
    ink: str
    soft: str
    faint: str
    grid: str
    gone: str
    alert: str
    good: str
    density: tuple[str, str]


LIGHT = Theme(
    paper="#f4f6f8",
    card="#ffffff",
    ink="#1b1f24",
    soft="#57606a",
    faint="#d0d7de",
    grid="#e9edf1",
    gone="#c4cbd3",
    alert="#b93a04",
    good="#0a6b48",
    density=("#ffffff", "#5b6b7d"),
)
DARK = Theme(
    paper="#0f1318",
    card="#171c23",
    ink="#e8ecf1",
    soft="#a5afbb",
    faint="#38414d",
    grid="#262e38",
    gone="#4c5663",
    alert="#ff9a5c",
    good="#58c99a",
    density=("#171c23", "#b4c2d2"),
)


def colour(i: int) -> str:
    """Of the i-th component, or of candidates of a kind."""
    return COLOURS[i % len(COLOURS)]


def on(ground: str) -> str:
    """White or black: what can be read on a colour."""
    parts = [int(ground[i : i + 2], 16) / 255.0 for i in (1, 3, 5)]
    red, green, blue = (c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts)
    light = 0.2126 * red + 0.7152 * green + 0.0722 * blue
    return "#ffffff" if 1.05 / (light + 0.05) >= (light + 0.05) / 0.05 else "#000000"


def ramp(low: str, high: str, steps: int = 64) -> list[str]:
    """Colours between two."""
    ends = [[int(c[i : i + 2], 16) for i in (1, 3, 5)] for c in (low, high)]
    return [
        "#" + "".join(f"{round(a + (b - a) * t / (steps - 1)):02x}" for a, b in zip(*ends, strict=True))
        for t in range(steps)
    ]


def short(value: float, unit: str = "") -> str:
    """A large number in few characters: 12.3 M."""
    for prefix, size in (("T", 1e12), ("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if abs(value) >= size:
            return f"{value / size:.3g} {prefix}{unit}"
    return f"{value:.3g} {unit}".rstrip()


def counted(number: int, what: str) -> str:
    """So many of something."""
    return f"{number:,} {what}{'s' * (number != 1)}"


def span(seconds: float | None) -> str:
    """A time span as people say it."""
    if seconds is None:
        return "–"
    for unit, size in (("d", 86400.0), ("h", 3600.0), ("min", 60.0)):
        if seconds >= 1.5 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s" if seconds >= 10 else f"{seconds:.2g} s"


STYLE = """
.bk-clearfix { width: 100%; }
:host, .distem { font-family: Helvetica, Arial, sans-serif; color: INK; }
.head { display: flex; align-items: baseline; gap: 14px; flex-wrap: wrap; padding: 4px 2px 2px; }
.head .name { font-size: 22px; font-weight: 700; }
.head .what { font-size: 14px; color: SOFT; }
.badge { font-size: 12px; font-weight: 700; border-radius: 10px; padding: 3px 10px; color: CARD;
         background: SOFT; letter-spacing: .02em; }
.badge.running { background: #0072b2; color: #fff } .badge.complete { background: GOOD; }
.badge.failed, .badge.gone, .badge.interrupted { background: ALERT; }
.tiles { display: grid; grid-template-columns: repeat(auto-fit, minmax(132px, 1fr)); gap: 10px; }
.tile { background: CARD; border: 1px solid FAINT; border-radius: 8px; padding: 9px 12px 8px; min-width: 0; }
.tile .label { font-size: 12px; color: SOFT; white-space: nowrap; overflow: hidden; text-overflow: ellipsis; }
.tile .value { font-size: 21px; font-weight: 600; white-space: nowrap; font-variant-numeric: tabular-nums;
               margin-top: 2px; }
.tile .more { font-size: 11.5px; color: SOFT; white-space: nowrap; overflow: hidden;
              text-overflow: ellipsis; }
.card { overflow-x: auto; background: CARD; border: 1px solid FAINT; border-radius: 8px; padding: 10px 14px; }
.card h2 { font-size: 14px; margin: 0 0 6px; }
table { border-collapse: collapse; width: 100%; font-size: 12.5px; font-variant-numeric: tabular-nums; }
th { text-align: right; font-weight: 600; color: SOFT; padding: 2px 8px; border-bottom: 1px solid FAINT; }
td { text-align: right; padding: 3px 8px; border-bottom: 1px solid GRID; white-space: nowrap; }
th.l, td.l { text-align: left; } td.why { white-space: normal; color: SOFT; }
tr.gone td { color: SOFT; opacity: .75; } tr.best td { font-weight: 700; }
.dot { display: inline-block; width: 9px; height: 9px; border-radius: 50%; margin-right: 7px; }
.said { font-size: 12.5px; color: ALERT; margin-top: 4px; }
.empty { color: SOFT; font-size: 15px; padding: 60px 0; text-align: center; }
"""


def style(theme: Theme) -> str:
    """The style sheet in a theme's colours."""
    sheet = STYLE
    for name in ("paper", "card", "ink", "soft", "faint", "grid", "alert", "good"):
        sheet = sheet.replace(name.upper(), getattr(theme, name))
    return sheet
