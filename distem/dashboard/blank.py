"""An empty figure in the page's looks, and what several figures share."""

from __future__ import annotations

from typing import Any

from bokeh.plotting import figure

from distem.dashboard.looks import SANS, Theme


def blank(theme: Theme, title: str, x: str, y: str, height: int, **more: Any) -> Any:
    """An empty figure in the page's looks."""
    made = figure(
        title=title,
        x_axis_label=x,
        y_axis_label=y,
        height=height,
        sizing_mode="stretch_width",
        min_width=300,
        toolbar_location=None,
        tools="",
        background_fill_color=theme.card,
        border_fill_color=theme.card,
        outline_line_color=None,
        min_border_left=14,
        min_border_right=14,
        min_border_top=8,
        min_border_bottom=54,
        styles={
            "border": f"1px solid {theme.faint}",
            "border-radius": "8px",
            "overflow": "hidden",
        },
        **more,
    )
    made.title.text_font, made.title.text_font_size = SANS, "14px"
    made.title.text_color, made.title.offset = theme.ink, 2
    for axis in made.axis:
        axis.axis_label_text_font = axis.major_label_text_font = SANS
        axis.axis_label_text_font_style = "normal"
        axis.axis_label_text_font_size, axis.major_label_text_font_size = "12px", "11px"
        axis.axis_label_text_color = axis.major_label_text_color = theme.soft
        axis.axis_line_color = axis.major_tick_line_color = theme.faint
        axis.minor_tick_line_color = None
        axis.axis_label_standoff = 6
    made.grid.grid_line_color = theme.grid
    return made


def passes_from_one(made: Any) -> None:
    """Let the axis of passes have whole numbers only."""
    made.xaxis.ticker.mantissas = [1, 2, 5]
    made.xaxis.ticker.min_interval = 1
    made.xaxis.ticker.num_minor_ticks = 0


def legend_at(made: Any, theme: Theme, place: str = "right", **more: Any) -> None:
    """Put the legend beside the figure or below it."""
    legend = made.legend[0]
    made.add_layout(legend, place)
    legend.label_text_font, legend.label_text_font_size = SANS, "11px"
    legend.label_text_color, legend.border_line_color = theme.soft, None
    legend.background_fill_color, legend.background_fill_alpha = theme.card, 0.0
    legend.padding, legend.spacing, legend.glyph_width = 2, 2, 14
    legend.glyph_height = legend.label_height = 13
    legend.margin = 8
    if place == "below":
        made.min_border_bottom = 84
    legend.update(**more)
