"""Pages of HTML from the templates beside this file."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from typing import Any

from jinja2 import Environment, FunctionLoader, StrictUndefined

from distem.report.colours import style_sheet


@cache
def _templates() -> Environment:
    return Environment(
        loader=FunctionLoader(lambda name: files("distem.report").joinpath(name).read_text(encoding="utf-8")),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def page(template: str, content: Mapping[str, Any]) -> str:
    """Fill in a template; the style comes by itself."""
    styles = {theme: style_sheet(theme) for theme in ("light", "dark")}
    return _templates().get_template(template).render({**styles, **content})
