"""How numbers are written, and which colours can be told from the page."""

from __future__ import annotations

import math

import pytest

from distem.report.colours import THEMES, as_variables, component, contrast, ink, readable, style_sheet
from distem.report.words import count, criterion, listed, number, plain, plus_minus, seconds, share, short


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0, "0"),
        (1.0, "1"),
        (-2.5, "−2.5"),
        (1234.5678, "1,235"),
        (0.00123456, "0.001235"),
        (999999.0, "10⁶"),
        (1e6, "10⁶"),
        (-1e6, "−10⁶"),
        (1.5e-9, "1.5 × 10⁻⁹"),
        (1e300, "10³⁰⁰"),
        (math.inf, "∞"),
        (math.nan, "not known"),
    ],
)
def test_number(value: float, text: str) -> None:
    assert number(value) in (text, text.replace("10⁶", "1,000,000"))


@pytest.mark.parametrize(
    ("mean", "sd", "text"),
    [
        (12.3456, 4.5678, "12.3 ± 4.6"),
        (-1234.5, 67.8, "−1,234 ± 68"),
        (-0.001, 1.0, "0.0 ± 1.0"),
        (3.0, 0.0, "3 ± 0"),
        (2.5e12, 3e11, "(2.50 ± 0.30) × 10¹²"),
        (9_999_999.9975, 0.0021, "9,999,999.9975 ± 0.0021"),
        (1.0, 1e-20, "1 ± 10⁻²⁰"),
        (1e-150, 1e-151, "(1.00 ± 0.10) × 10⁻¹⁵⁰"),
    ],
)
def test_mean_and_deviation(mean: float, sd: float, text: str) -> None:
    assert plus_minus(mean, sd) == text


def test_small_words() -> None:
    assert count(1, "row") == "1 row"
    assert count(2000, "pass", "passes") == "2,000 passes"
    assert [share(v) for v in (0.0, 1e-5, 0.1234, 0.99999, 1.0)] == [
        "0.0%",
        "<0.1%",
        "12.3%",
        ">99.9%",
        "100.0%",
    ]
    assert [seconds(v) for v in (0.0123, 5.0, 125.0, 7300.0)] == ["12 ms", "5.0 s", "2 min 5 s", "2 h 1 min"]
    assert listed([]) == "none"
    assert listed(["a"]) == "a"
    assert listed(["a", "b", "c"]) == "a, b and c"
    assert listed(list("abcd"), 2) == "a, b and 2 more"
    assert plain("a\nb\x00") == "a b "
    assert short("x" * 50, 10) == "x" * 9 + "…"
    assert criterion(12833363.4) == "12,833,363"
    assert criterion(-17.25) == "−17.2"


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_text_and_colours_stand_out_in_both_themes(theme: str) -> None:
    named = THEMES[theme]
    for text in ("ink", "soft", "accent", "alert"):
        for ground in ("paper", "panel", "code"):
            assert contrast(named[text], named[ground]) >= 4.5
    colours = [
        line.split(": ")[1] for line in style_sheet(theme).rstrip(";").split("; ") if line.startswith("--c")
    ]
    components = [c for c in colours if c not in named.values()]
    assert len(set(components)) >= 20
    assert all(contrast(c, named["paper"]) >= 3.0 for c in components)


def test_standins_become_variables() -> None:
    assert as_variables(f"stroke: {component(21)}; fill: {ink('paper')}; color: #123456") == (
        "stroke: var(--c1); fill: var(--paper); color: #123456"
    )
    assert contrast("#000000", "#ffffff") == pytest.approx(21.0)
    assert readable("#0072b2", "#ffffff") == "#0072b2"
